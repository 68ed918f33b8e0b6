//! Whom to trust, and what is expected of a capsule.

use std::{path::PathBuf, str::FromStr};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use kvcap::{Expected, ExpectedSession, Manifest, Result};
use kvcap_models::ModelProfile;
use kvcap_states::{RuntimeKind, check_rotation};
use kvcap_store::{Judge, Unchecked, Verifier};

use super::{Common, ModelArgs, TrustArgs, duration, instant};

/// Whom to trust, and on whose behalf a capsule is read.
#[derive(Debug, Args)]
pub(crate) struct ReaderArgs {
    #[command(flatten)]
    trust: TrustArgs,
    /// A name under which this verifier is known; the capsule must be meant for one of them
    #[arg(long, value_name = "NAME", default_value = "local")]
    audience: Vec<String>,
    /// On whose behalf; needed where the capsule names a subject
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// The tenant; needed where the capsule names one
    #[arg(long, alias = "org", value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// The use that the capsule's scope must grant
    #[arg(long, value_name = "WORD", default_value = kvcap::RESTORE)]
    scope: String,
    /// Longest lifetime to accept
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    max_lifetime: u64,
    /// Judge as of this time instead of now: for audits and tests
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<u64>,
}

/// Whom to trust, and what is expected of a capsule.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    /// The model that it must be of: a model folder, GGUF file or .kvid file
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
    /// The runtime that it must be of, and where the capsule states one, its version
    #[arg(long, value_name = "NAME[=VERSION]", value_parser = runtime)]
    pub(crate) runtime: Option<(String, Option<String>)>,
    /// Accept that these were not checked, by name: model to open without --model, ancestors to verify an
    /// increment without those that it continues, speculative-prefill, multi-token-prediction or
    /// quantized-attention for a state that was captured so; any other is then not named on stderr
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = unchecked())]
    accept_unchecked: Vec<Unchecked>,
}

/// Which checkpoint a capsule must be.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// The session that it must be a checkpoint of
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// The version that the checkpoint must have
    #[arg(long, value_name = "N", requires = "session")]
    pub(crate) session_version: Option<u64>,
    /// The number of the last event that the state must have seen
    #[arg(long, value_name = "N", requires = "session")]
    pub(crate) replay_cursor: Option<u64>,
}

impl CheckpointArgs {
    /// What is expected of the capsule's session.
    pub(crate) fn expected(&self) -> Option<ExpectedSession> {
        self.session.clone().map(|id| ExpectedSession {
            id,
            version: self.session_version,
            replay_cursor: self.replay_cursor,
        })
    }
}

/// A check by its name.
fn unchecked() -> impl TypedValueParser<Value = Unchecked> {
    PossibleValuesParser::new(Unchecked::ALL.iter().map(|check| check.name()))
        .try_map(|name| name.parse::<Unchecked>())
}

/// A runtime's name, and its version after `=`.
fn runtime(text: &str) -> Result<(String, Option<String>), String> {
    let (name, version) = match text.split_once('=') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (text, None),
    };
    match RuntimeKind::from_str(name) {
        Ok(kind) => Ok((kind.runtime().to_owned(), version)),
        Err(_) => Err("the runtimes are mlx-lm, llama-cpp, hf and raw".to_owned()),
    }
}

impl ReaderArgs {
    /// The verifier that these set up.
    ///
    /// # Errors
    /// KVC-944.
    pub(crate) fn verifier(&self) -> Result<Verifier> {
        Ok(Verifier {
            audiences: self.audience.clone(),
            subject: self.subject.clone(),
            tenant: self.tenant.clone(),
            scope: self.scope.clone(),
            max_lifetime: self.max_lifetime,
            ..self.trust.verifier(self.at)?
        })
    }
}

impl PolicyArgs {
    /// The verifier that these set up.
    ///
    /// # Errors
    /// KVC-944.
    pub(crate) fn verifier(&self) -> Result<Verifier> {
        self.reader.verifier()
    }

    /// A judge of that verifier, for what is expected of `model` and `session`, if they are given.
    ///
    /// # Errors
    /// As [`Verifier::judge`].
    pub(crate) fn judge<'a>(
        &self,
        verifier: &'a Verifier,
        model: Option<&'a ModelProfile>,
        session: Option<ExpectedSession>,
    ) -> Result<Judge<'a>> {
        let judge = verifier.judge()?.expecting(self.expected(model, session));
        Ok(judge.danger_without(&self.accept_unchecked))
    }

    /// The model that is expected, if one is given.
    ///
    /// # Errors
    /// As [`ModelArgs::read`].
    pub(crate) fn model(&self, common: &Common) -> Result<Option<ModelProfile>> {
        self.model_args.find_profiles(None)?;
        let read = |path| self.model_args.read(path, common);
        self.model.as_deref().map(read).transpose()
    }

    /// Compares what the runtime is told of its quantized cache with the capsule.
    ///
    /// # Errors
    /// KVC-944; as [`check_rotation`].
    pub(crate) fn check_rotation(&self, manifest: &Manifest) -> Result<()> {
        check_rotation(&manifest.context, self.model_args.options()?.hadamard)
    }

    /// What is expected, of `model` if one is given.
    fn expected<'a>(
        &self,
        model: Option<&'a ModelProfile>,
        session: Option<ExpectedSession>,
    ) -> Expected<'a> {
        let mut expected = model.map_or_else(Expected::danger_any_model, ModelProfile::expected);
        expected.runtime.clone_from(&self.runtime);
        expected.session = session;
        expected
    }
}
