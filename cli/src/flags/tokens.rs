//! Files of token ids.

use std::path::PathBuf;

use clap::Args;
use kvcap::Result;
use kvcap_states::TokensFormat;
use kvcap_store::input::{at, small};

/// Sixteen million tokens as JSON.
const LONGEST: u64 = 256 << 20;

/// The prompt's token ids.
#[derive(Debug, Args)]
pub(crate) struct TokensArgs {
    /// The prompt's token ids: a JSON array (FILE.json), or u32 little-endian (FILE.u32). seal needs them
    /// where the state does not carry them, and seals them too; open refuses a capsule of another prompt
    #[arg(long, value_name = "FILE", group = "prompt")]
    tokens: Option<PathBuf>,
    /// How token ids are written, where the file's name does not say it: json or u32
    #[arg(long, value_name = "FORMAT", requires = "tokens", value_parser = format)]
    tokens_format: Option<TokensFormat>,
}

fn format(text: &str) -> Result<TokensFormat, String> {
    text.parse()
        .map_err(|error: kvcap::Error| error.to_string())
}

impl TokensArgs {
    /// The ids, where a file of them is given.
    ///
    /// # Errors
    /// KVC-940; as [`TokensFormat::of_file`] and [`TokensFormat::parse`].
    pub(crate) fn read(&self) -> Result<Option<Vec<u32>>> {
        let Some(path) = &self.tokens else {
            return Ok(None);
        };
        let bytes = small(path, LONGEST)?;
        let format = match self.tokens_format {
            Some(format) => format,
            None => TokensFormat::of_file(path, &bytes)?,
        };
        let ids = format.parse(&bytes);
        ids.map(Some).map_err(|error| at(error, path))
    }
}
