//! `kvcap open --to`: as which state a capsule is written, where not as the one that was sealed.

use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};
use kvcap::{
    Code, Equivalence, Error, Opened, OpenedChain, Purpose, ReadAt, Result, Trust, TrustedKey,
    Workers, WriteAt,
};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions};
use kvcap_states::{
    Elements, OpenReport, RuntimeKind, Target, TargetRuntime, look_for_profiles_beside, open_as,
};
use kvcap_store::{Judge, input, key_file};

use crate::{
    flags::Common,
    ui::{Report, progress},
};

/// As which state.
#[derive(Debug, Args)]
#[command(next_help_heading = "As another state")]
pub(crate) struct TargetArgs {
    /// Element type of keys and values: f16, bf16, f32; q8_g64 for mlx-lm's own quantized cache (bits 3
    /// to 8, groups of 32, 64 or 128); q8_0 or q4_0 for llama.cpp's. What is sealed so already is not
    /// encoded again
    #[arg(long, value_name = "TYPE", value_parser = parsed::<Elements>)]
    kv_type: Option<Elements>,
    /// The runtime whose state is written: mlx-lm, llama-cpp or hf
    #[arg(long, value_name = "RUNTIME", requires = "target_model", value_parser = parsed::<RuntimeKind>)]
    to: Option<RuntimeKind>,
    /// Its model, of the same weights: a model folder, GGUF file or .kvid file
    #[arg(long, value_name = "PATH", requires = "to")]
    target_model: Option<PathBuf>,
    /// What that runtime is told when it runs, as --runtime-opt
    #[arg(long, value_name = "KEY=VALUE", requires = "to")]
    target_opt: Vec<String>,
    /// The state's format: mlx-lm-0.32, mlx-lm-0.31, ggsq-4, ggsq-3, ggsq-2, dynamic-cache
    #[arg(long, value_name = "FORMAT")]
    target_format: Option<String>,
    /// Whether llama.cpp runs with flash attention; without, it keeps values by channel
    #[arg(long, value_name = "on|off", value_parser = BoolishValueParser::new())]
    flash_attn: Option<bool>,
    /// A statement that the target's model and the capsule's are one: kvcap model-id --equate makes it
    #[arg(long, value_name = "FILE", requires = "to")]
    equivalence: Option<PathBuf>,
    /// A public key that is trusted to vouch for models: a KEY.pub file, or the key's text. A registry
    /// given to --registry names such keys as well
    #[arg(long, value_name = "PUB", requires = "equivalence")]
    vouched_by: Vec<String>,
    /// Write it for another model than the capsule's though nobody vouches that they are one
    #[arg(long, requires = "to", conflicts_with = "equivalence")]
    danger_unequal_models: bool,
}

impl TargetArgs {
    /// Whether anything is asked for.
    pub(crate) fn any(&self) -> bool {
        self.to.is_some()
            || self.kv_type.is_some()
            || self.target_format.is_some()
            || self.flash_attn.is_some()
    }

    /// The target's model with what its runtime is told, once it is known to be the capsule's; `judge`
    /// are asked for where a statement says so, with the time of judgement.
    ///
    /// # Errors
    /// As [`ModelProfile::read`] and [`Equivalence::verify`]; 601 for another model, 609 for a statement
    /// about others.
    pub(crate) fn model<S: ReadAt>(
        &self,
        tip: &Opened<S>,
        judge: &Judge<'_>,
        cache: &HashCache,
        common: &Common,
        report: &mut Report,
    ) -> Result<Option<(ModelProfile, RuntimeOptions)>> {
        let options = RuntimeOptions::parse(&self.target_opt)?;
        let profile = self.profile(&options, cache, common)?;
        if let Some(profile) = &profile {
            self.check_model(tip, profile, judge, report)?;
        }
        Ok(profile.map(|profile| (profile, options)))
    }

    /// Writes the state for that model.
    ///
    /// # Errors
    /// As [`open_as`].
    pub(crate) fn write<S: ReadAt>(
        &self,
        opened: &OpenedChain<S>,
        out: &dyn WriteAt,
        model: Option<&(ModelProfile, RuntimeOptions)>,
        workers: Workers,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<OpenReport> {
        let runtime = self
            .to
            .zip(model)
            .map(|(kind, (profile, options))| TargetRuntime {
                kind,
                profile,
                hadamard: options.hadamard,
                context_length: options.ctx_size.unwrap_or(profile.geometry.context_length),
            });
        let target = Target {
            elements: self.kv_type,
            runtime,
            format: self.target_format.as_deref(),
            v_trans: self.flash_attn.map(|flash| !flash),
        };
        open_as(opened, &target, out, workers, progress)
    }

    fn profile(
        &self,
        options: &RuntimeOptions,
        cache: &HashCache,
        common: &Common,
    ) -> Result<Option<ModelProfile>> {
        let Some(path) = &self.target_model else {
            return Ok(None);
        };
        let bar = progress::bar(common.shows_progress(), "model", 0);
        let told = |done, total| {
            bar.set(done, total);
        };
        let profile = ModelProfile::read(path, &[], options, cache, &told);
        bar.finish();
        look_for_profiles_beside(path);
        profile.map(Some)
    }

    fn check_model<S: ReadAt>(
        &self,
        opened: &Opened<S>,
        profile: &ModelProfile,
        judge: &Judge<'_>,
        report: &mut Report,
    ) -> Result<()> {
        let (sealed, target) = (opened.manifest().context.model.id, profile.model.id);
        let vouched = match &self.equivalence {
            _ if sealed == target => "the capsule's own".to_owned(),
            Some(path) => {
                let bytes = input::small(path, 1 << 16)?;
                let trust = self.named(judge.trust())?;
                let vouched = Equivalence::verify(&bytes, &trust, judge.now())
                    .and_then(|statement| statement.check(sealed, target).map(|()| statement))
                    .map_err(|error| error.at(path.display()))?;
                format!(
                    "the capsule's in another format: issuer {:?}, key {}",
                    vouched.issuer(),
                    vouched.key()
                )
            }
            None if self.danger_unequal_models => {
                "not the capsule's, and nobody vouches for it".to_owned()
            }
            None => {
                let what =
                    "the target's model has another id, and nobody vouches that it is the same";
                return Err(Error::new(Code::BindingModel, what).sides(sealed, target));
            }
        };
        report.row("target model", &vouched);
        report.fact("target_model_id", target.to_string());
        report.fact("target_vouched", vouched);
        Ok(())
    }

    /// Whom the command line names for statements about models, else `trust`, where a registry may. A key
    /// that is trusted with capsules vouches for nothing else.
    fn named(&self, trust: &Trust) -> Result<Trust> {
        let mut named = Trust::none();
        for key in &self.vouched_by {
            named.add(TrustedKey {
                purpose: Purpose::Statements,
                ..key_file::trusted(key)?
            })?;
        }
        match self.vouched_by.is_empty() {
            true => Ok(trust.clone()),
            false => Ok(named),
        }
    }
}

/// A value as its type parses it.
pub(super) fn parsed<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| error.to_string())
}
