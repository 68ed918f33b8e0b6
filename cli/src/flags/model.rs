//! Which model a state is of.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use kvcap::{Result, binding::Digest};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions, parse_adapter};
use kvcap_states::{look_for_profiles_beside, read_profile};

use super::Common;
use crate::ui::progress;

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
    /// Tokens of context that the runtime is set to, as --runtime-opt ctx-size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    context_size: Option<u64>,
    /// The profile (.kvtc) that tc encodes with, or that a capsule's codecs decode with [default: the model's, beside it
    /// or added by codec-profile]
    #[arg(long, value_name = "FILE")]
    codec_profile: Option<PathBuf>,
    /// Hash the weights anew, and keep no digest of them; as with KVCAP_NO_CACHE=1
    #[arg(long)]
    no_cache: bool,
}

/// An adapter's path and factor.
#[derive(Clone, Debug)]
pub(crate) struct Adapter(PathBuf, f64);

impl FromStr for Adapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let adapter = parse_adapter(text).map_err(|error| error.to_string())?;
        Ok(Self(adapter.0, adapter.1))
    }
}

impl ModelArgs {
    /// The run-time options.
    ///
    /// # Errors
    /// KVC-944.
    pub(crate) fn options(&self) -> Result<RuntimeOptions> {
        let mut options = RuntimeOptions::parse(&self.runtime_opt)?;
        options.ctx_size = options.ctx_size.or(self.context_size);
        Ok(options)
    }

    /// Where digests of weights are kept.
    pub(crate) fn cache(&self) -> HashCache {
        match self.no_cache {
            true => HashCache::off(),
            false => HashCache::user(),
        }
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
        let bar = progress::bar(common.shows_progress(), "model", 0);
        let told = |done, total| {
            bar.set(done, total);
        };
        let profile = ModelProfile::read(path, &adapters, &options, &self.cache(), &told);
        bar.finish();
        self.find_profiles(Some(path))?;
        profile
    }

    /// Has codecs find the profile that is given, and those beside the model at `path`. Returns the digest of the one that is
    /// given.
    ///
    /// # Errors
    /// As [`read_profile`].
    pub(crate) fn find_profiles(&self, path: Option<&Path>) -> Result<Option<Digest>> {
        if let Some(path) = path {
            look_for_profiles_beside(path);
        }
        let named = self.codec_profile.as_deref().map(read_profile);
        Ok(named.transpose()?.map(|profile| profile.digest()))
    }
}
