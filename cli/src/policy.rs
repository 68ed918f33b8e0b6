//! What `verify`, `open` and `receipt` share: whom to trust, and what is expected.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use kvcap::{
    ByRuntime, Claims, Expected, Manifest, Needs, Policy, Result, Step, Trust, Untrusted, Usage,
    Verified, binding::Model,
};
use kvcap_runtimes::{HashCache, ModelProfile, RuntimeKind, RuntimeOptions};

use crate::{
    args::{Common, duration, instant},
    progress,
    report::Report,
    time,
    trust::TrustArgs,
};

/// Which model a state is of.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// An adapter (LoRA) on the model's weights, with its factor; in the order of application
    #[arg(long, value_name = "PATH[=SCALE]")]
    pub(crate) adapter: Vec<Adapter>,
    /// What the runtime was told when it ran: rope-freq-base, rope-freq-scale, rope-scaling,
    /// ctx-size, longrope, hadamard
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) runtime_opt: Vec<String>,
}

/// An adapter's path and factor.
#[derive(Clone, Debug)]
pub(crate) struct Adapter(PathBuf, f64);

impl FromStr for Adapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((path, scale)) = text.rsplit_once('=') else {
            return Ok(Self(text.into(), 1.0));
        };
        match scale.parse() {
            Ok(scale) if f64::is_finite(scale) => Ok(Self(path.into(), scale)),
            _ => Err(format!("the adapter's factor {scale:?} is not a number")),
        }
    }
}

impl ModelArgs {
    /// The run-time options.
    ///
    /// # Errors
    /// KVC-944.
    pub(crate) fn options(&self) -> Result<RuntimeOptions> {
        RuntimeOptions::parse(&self.runtime_opt)
    }

    /// The profile of the model at `path`; its weights are hashed once and then cached.
    ///
    /// # Errors
    /// As [`ModelProfile::read`] and [`RuntimeOptions::parse`].
    pub(crate) fn read(&self, path: &Path, common: &Common) -> Result<ModelProfile> {
        let options = self.options()?;
        let adapters: Vec<(PathBuf, f64)> = self
            .adapter
            .iter()
            .map(|adapter| (adapter.0.clone(), adapter.1))
            .collect();
        let bar = progress::bar(common, "model", 0);
        let told = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let profile = ModelProfile::read(path, &adapters, &options, &HashCache::user(), &told);
        bar.finish_and_clear();
        profile
    }
}

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
    #[arg(long, value_name = "NAME")]
    pub(crate) org: Option<String>,
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

/// A verdict's facts, for the report.
pub(crate) struct Judged {
    pub(crate) verified: Verified,
    pub(crate) now: u64,
    /// Whether a model was given to compare with.
    pub(crate) model_compared: bool,
}

/// What [`PolicyArgs`] say, with trust and model read: capsules of one chain are judged alike.
pub(crate) struct Judge<'a> {
    args: &'a PolicyArgs,
    trust: Trust,
    profile: Option<ModelProfile>,
    now: u64,
}

impl PolicyArgs {
    /// Whom to trust, and as of when.
    ///
    /// # Errors
    /// Those of key files and registries.
    pub(crate) fn trusted(&self) -> Result<(Trust, u64)> {
        self.trust.load(self.at)
    }

    /// Verifies a header.
    ///
    /// # Errors
    /// As [`Untrusted::verify`]; those of key files and models.
    pub(crate) fn verify(&self, untrusted: Untrusted, common: &Common) -> Result<Judged> {
        self.judge(common)?.verify(untrusted)
    }

    /// Who judges a capsule and its ancestors.
    ///
    /// # Errors
    /// Those of key files and models.
    pub(crate) fn judge(&self, common: &Common) -> Result<Judge<'_>> {
        let (trust, now) = self.trusted()?;
        let profile = self
            .model
            .as_deref()
            .map(|path| self.model_args.read(path, common))
            .transpose()?;
        Ok(Judge {
            args: self,
            trust,
            profile,
            now,
        })
    }
}

impl ByRuntime for Judge<'_> {
    fn needs(&self, runtime: &str) -> Needs {
        let Some(profile) = &self.profile else {
            return Needs::default();
        };
        let rope = profile.rope_in(runtime);
        // raw capsules hold whatever tensors a file had: their roles and layers mean nothing
        let (banks, layers) = match runtime {
            "raw" => (Vec::new(), Vec::new()),
            _ => (profile.needed_banks(), profile.needed_layers()),
        };
        Needs {
            rope,
            banks,
            layers,
        }
    }
}

impl Judge<'_> {
    /// The policy that the arguments make.
    pub(crate) fn policy(&self) -> Policy<'_> {
        let args = self.args;
        let mut expected = match &self.profile {
            Some(profile) => Expected::by_runtime(&profile.model, &profile.tokenizer, self),
            None => Expected::danger_any_model(),
        };
        expected.runtime.clone_from(&args.runtime);
        Policy {
            audiences: args.audience.clone(),
            subject: args.subject.clone(),
            organisation: args.org.clone(),
            scope: args.scope.clone(),
            max_lifetime: args.max_lifetime,
            ..Policy::new(&self.trust, self.now, "", expected)
        }
    }

    /// Verifies a header.
    ///
    /// # Errors
    /// As [`Untrusted::verify`]; 410 and 411 for what is remembered.
    pub(crate) fn verify(&self, untrusted: Untrusted) -> Result<Judged> {
        self.verify_in_steps(untrusted, &mut |_| {})
    }

    /// The same; `passed` hears of each step.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub(crate) fn verify_in_steps(
        &self,
        untrusted: Untrusted,
        passed: &mut dyn FnMut(Step),
    ) -> Result<Judged> {
        let verified = untrusted.verify_in_steps(&self.policy(), passed)?;
        if let Some(memory) = self.args.trust.memory()? {
            let usage = Usage::of(&verified.manifest().claims, memory.now);
            memory.store.check(&usage)?;
        }
        Ok(Judged {
            verified,
            now: self.now,
            model_compared: self.profile.is_some(),
        })
    }
}

impl Judged {
    /// Rows that say who vouched for what.
    pub(crate) fn describe(&self, report: &mut Report) {
        let Manifest {
            claims, context, ..
        } = self.verified.manifest();
        let Claims { id, key, terms } = claims;
        report.row("capsule", id);
        report.row(
            "signed by",
            format_args!("key {key}, issuer {:?}", terms.issuer),
        );
        report.row(
            "valid",
            format_args!(
                "until {} ({})",
                time::show_instant(terms.expires),
                time::show_distance(self.now, terms.expires)
            ),
        );
        report.row("model", self.model(&context.model));
        report.fact("capsule", id.to_string());
        report.fact("key", key.to_string());
        report.fact("issuer", terms.issuer.as_str());
        report.fact("expires", terms.expires);
        report.fact("judged_at", self.now);
        report.fact("model", context.model.id.to_string());
        report.fact("model_compared", self.model_compared);
    }

    fn model(&self, model: &Model) -> String {
        let id: String = model.id.to_string().chars().take(16).collect();
        match self.model_compared {
            true => format!("{id} ({}): the expected one", model.name),
            false => format!(
                "not compared (no --model); the capsule says {id} ({})",
                model.name
            ),
        }
    }
}
