//! Files of token ids.

use std::path::Path;

use kvcap::{Code, Error, Result};
use kvcap_store::input::small;

/// Token ids: a JSON array of numbers, or u32 little-endian.
///
/// # Errors
/// KVC-940; 944 where the file is neither.
pub(crate) fn tokens(path: &Path) -> Result<Vec<u32>> {
    // sixteen million tokens as JSON
    let content = small(path, 256 << 20)?;
    let bad = |what: String| Error::new(Code::LocalUsage, what).at(path.display());
    // no vocabulary is so large that four bytes of its ids are all digits and brackets
    let json = content.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
        && content
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"[], \t\r\n".contains(byte));
    let tokens: Vec<u32> = if json {
        serde_json::from_slice(&content)
            .map_err(|error| bad(format!("this is not an array of token ids: {error}")))?
    } else {
        let (ids, rest) = content.as_chunks::<4>();
        if !rest.is_empty() {
            let what = "token ids are a json array, or four bytes each";
            return Err(bad(what.to_owned()));
        }
        ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
    };
    match tokens.is_empty() {
        true => Err(bad("the file holds no token ids".to_owned())),
        false => Ok(tokens),
    }
}
