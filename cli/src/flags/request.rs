//! The request that a session is resumed for, and what a runtime made of it.

use std::path::PathBuf;

use kvcap::Result;
use kvcap_session::{Request, Reuse};
use kvcap_states::TokensFormat;

use super::{ModelArgs, tokens};

/// The request that a session is resumed for.
#[derive(Debug, clap::Args)]
pub(crate) struct RequestArgs {
    /// The request's token ids, from the conversation's first on: a JSON array (FILE.json), or u32
    /// little-endian (FILE.u32). Only what a state has in common with them is restored; without them it is
    /// left to the runtime to compare
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// How token ids are written, where the file's name does not say it: json or u32
    #[arg(long, value_name = "FORMAT", requires = "tokens", value_parser = tokens::format)]
    tokens_format: Option<TokensFormat>,
    /// Positions that the answer needs of --context-size, beside what is restored
    #[arg(long, value_name = "N", default_value_t = 0)]
    reserve: u64,
    /// A base image to begin with where no state of the session fits. Several may be given
    #[arg(long, value_name = "FILE")]
    base: Vec<PathBuf>,
}

/// The runtime's own count after the last resume.
#[derive(Debug, clap::Args)]
pub(crate) struct ReuseArgs {
    /// Tell the session what came of its last resume: tokens of the request that the runtime did not
    /// evaluate, by its own count (llama-server's timings.cache_n). As many as were restored, and it is
    /// kept for status --metrics; fewer, and the next best is resumed (KVC-926)
    #[arg(long, value_name = "N", requires = "evaluated")]
    reused: Option<u64>,
    /// Tokens of the request that the runtime evaluated (llama-server's timings.prompt_n)
    #[arg(long, value_name = "N", requires = "reused")]
    evaluated: Option<u64>,
    /// Time from the request to its first token [default: from the last resume until now]
    #[arg(long, value_name = "N", requires = "reused")]
    milliseconds: Option<u64>,
    /// A name for the device that resumed, which status --metrics counts
    #[arg(long, value_name = "NAME", requires = "reused")]
    device: Option<String>,
}

impl RequestArgs {
    /// The request.
    ///
    /// # Errors
    /// As [`tokens::read`]; KVC-944.
    pub(crate) fn read(&self, model: &ModelArgs) -> Result<Request> {
        let read = |path: &PathBuf| tokens::read(path, self.tokens_format);
        Ok(Request {
            tokens: self.tokens.as_ref().map(read).transpose()?,
            context: model.options()?.ctx_size.unwrap_or(0),
            reserve: self.reserve,
            bases: self.base.clone(),
            ineffective: Vec::new(),
        })
    }
}

impl ReuseArgs {
    /// The count, where one is told.
    pub(crate) fn read(&self) -> Option<Reuse> {
        Some(Reuse {
            restored: self.reused?,
            evaluated: self.evaluated?,
            milliseconds: self.milliseconds,
            device: self.device.clone(),
        })
    }
}
