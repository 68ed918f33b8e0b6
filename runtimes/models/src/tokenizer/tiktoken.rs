//! `tiktoken.model`: a token in Base64 and its id, a line each; special tokens stand in
//! `tokenizer_config.json` (model-id-v1 MOD-T-9).

use kvcap::{
    Result,
    binding::{Digest, Tokenizer, labelled_hasher},
};

use super::{Parts, Vocabulary, bytes::Tokens, malformed};
use crate::json::{
    canonical::{array, text},
    value::{Fields, Map, Value},
};

/// Reads the file; `code` is the Python module that cuts text for it, where the folder has one.
pub(crate) fn read(
    file: &[u8],
    config: &Map,
    code: Option<&[u8]>,
    template: Option<String>,
) -> Result<Tokenizer> {
    let wrong = || malformed("tiktoken.model is not lines of a token in base64 and its id");
    let mut tokens = Tokens::for_bytes(file.len());
    let lines = file.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for line in lines.filter(|line| !line.is_empty()) {
        let space = line
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(wrong)?;
        let (token, id) = line.split_at(space);
        let id = std::str::from_utf8(id.get(1..).unwrap_or_default()).ok();
        tokens.push(id.and_then(digits).ok_or_else(wrong)?, token)?;
    }
    let fields = Fields::new(config, "tokenizer_config.json");
    let vocabulary = tokens.vocabulary()?.replaced(added(fields)?);
    let class = fields.text("tokenizer_class")?.unwrap_or("");
    let mut hasher = labelled_hasher("kvcap v1 pre-tokenizer");
    array(&mut hasher, 3);
    text(&mut hasher, "tiktoken");
    text(&mut hasher, class);
    // the pattern stands in code alone
    match code {
        Some(code) => text(
            &mut hasher,
            &Digest(*blake3::hash(code).as_bytes()).to_string(),
        ),
        None => Value::Null.canonical(&mut hasher),
    }
    Parts {
        vocabulary,
        version: format!("{class}/tiktoken"),
        pre_tokenizer: Digest(*hasher.finalize().as_bytes()),
        named: Vec::new(),
    }
    .tokenizer(config, template)
}

/// `added_tokens_decoder`: tokens by the text of their ids.
fn added(config: Fields<'_>) -> Result<Vocabulary<'_>> {
    let name = "added_tokens_decoder";
    let wrong = || config.error(name, "is not an object of tokens by their ids");
    let mut added = Vocabulary::default();
    for (id, token) in config.map(name)?.into_iter().flatten() {
        let content = token
            .as_map()
            .and_then(|token| token.get("content")?.as_text());
        let content = content.ok_or_else(wrong)?;
        added.push(digits(id).ok_or_else(wrong)?, content.as_bytes().into())?;
    }
    added.sorted("two added tokens have one id")
}

/// The number that a text of digits alone is.
fn digits(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The Python module that `auto_map` names for the tokenizer, as a file name without its ending.
pub(crate) fn module(config: &Map) -> Option<&str> {
    let named = config.get("auto_map")?.as_map()?.get("AutoTokenizer")?;
    let named = match named {
        Value::Array(items) => items.first()?.as_text()?,
        other => other.as_text()?,
    };
    // of another repository: not a file of this folder
    let (module, _) = named.split_once('.').filter(|_| !named.contains("--"))?;
    Some(module)
}
