//! Files of token ids.

use std::path::{Path, PathBuf};

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

/// Reads a format by its name.
pub(super) fn format(text: &str) -> Result<TokensFormat, String> {
    text.parse()
        .map_err(|error: kvcap::Error| error.to_string())
}

/// The ids in a file.
///
/// # Errors
/// KVC-940; as [`TokensFormat::of_file`] and [`TokensFormat::parse`].
pub(super) fn read(path: &Path, format: Option<TokensFormat>) -> Result<Vec<u32>> {
    let bytes = small(path, LONGEST)?;
    let format = match format {
        Some(format) => format,
        None => TokensFormat::of_file(path, &bytes)?,
    };
    format.parse(&bytes).map_err(|error| at(error, path))
}

impl TokensArgs {
    /// The ids, where a file of them is given.
    ///
    /// # Errors
    /// As [`read`].
    pub(crate) fn read(&self) -> Result<Option<Vec<u32>>> {
        let read = |path: &PathBuf| read(path, self.tokens_format);
        self.tokens.as_ref().map(read).transpose()
    }
}
