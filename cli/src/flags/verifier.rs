//! Whom to trust, and what is expected of a capsule.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use kvcap::{Expected, Result};
use kvcap_models::ModelProfile;
use kvcap_states::RuntimeKind;
use kvcap_store::Verifier;

use super::{Common, ModelArgs, TrustArgs, duration, instant};

/// Whom to trust, and what is expected of a capsule.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// The model that it must be of: a model folder, GGUF file or .kvid file
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
    /// The runtime that it must be of, and where the capsule states one, its version
    #[arg(long, value_name = "NAME[=VERSION]", value_parser = runtime)]
    pub(crate) runtime: Option<(String, Option<String>)>,
    /// A name under which this verifier is known; the capsule must be meant for one of them
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub(crate) audience: Vec<String>,
    /// On whose behalf; needed where the capsule names a subject
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// The tenant; needed where the capsule names one
    #[arg(long, alias = "org", value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// The use that the capsule's scope must grant
    #[arg(long, value_name = "WORD", default_value = kvcap::RESTORE)]
    pub(crate) scope: String,
    /// Longest lifetime to accept
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    pub(crate) max_lifetime: u64,
    /// Judge as of this time instead of now: for audits and tests
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) at: Option<u64>,
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

impl PolicyArgs {
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

    /// The model that is expected, if one is given.
    ///
    /// # Errors
    /// As [`ModelArgs::read`].
    pub(crate) fn model(&self, common: &Common) -> Result<Option<ModelProfile>> {
        let read = |path| self.model_args.read(path, common);
        self.model.as_deref().map(read).transpose()
    }

    /// What is expected, of `model` if one is given.
    pub(crate) fn expected<'a>(&self, model: Option<&'a ModelProfile>) -> Expected<'a> {
        let mut expected = model.map_or_else(Expected::danger_any_model, ModelProfile::expected);
        expected.runtime.clone_from(&self.runtime);
        expected
    }
}
