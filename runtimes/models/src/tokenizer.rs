//! How text became token ids, as tokenizer files and GGUF metadata say it (model-id-v1 §6).

use kvcap::{
    Code, Error, Result,
    binding::{Digest, Tokenizer, labelled_hasher},
};

use crate::json::value::{Fields, Map, Value, array};

/// Most token ids.
const IDS: u64 = 1 << 21;

/// Special tokens by the names that are bound, and GGUF's keys for them.
const SPECIALS: [(&str, &str); 7] = [
    ("bos", "tokenizer.ggml.bos_token_id"),
    ("cls", "tokenizer.ggml.cls_token_id"),
    ("eos", "tokenizer.ggml.eos_token_id"),
    ("mask", "tokenizer.ggml.mask_token_id"),
    ("pad", "tokenizer.ggml.padding_token_id"),
    ("sep", "tokenizer.ggml.seperator_token_id"), // llama.cpp's spelling
    ("unk", "tokenizer.ggml.unknown_token_id"),
];

/// Switches that are bound beside the special tokens, as 0 or 1.
const SWITCHES: [(&str, &str); 2] = [
    ("add_bos", "tokenizer.ggml.add_bos_token"),
    ("add_eos", "tokenizer.ggml.add_eos_token"),
];

/// Tokens by id; an id without a token is a hole.
struct Vocabulary<'a>(Vec<Option<&'a str>>);

impl<'a> Vocabulary<'a> {
    fn insert(&mut self, id: u64, token: &'a str) -> Result<Option<&'a str>> {
        let index = usize::try_from(id)
            .ok()
            .filter(|_| id < IDS)
            .ok_or_else(|| {
                malformed("a token id is over its limit").sides(format!("below {IDS}"), id)
            })?;
        if index >= self.0.len() {
            self.0.resize(index + 1, None);
        }
        Ok(self.0.get_mut(index).and_then(|slot| slot.replace(token)))
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        let index = self.0.iter().position(|slot| *slot == Some(token))?;
        u32::try_from(index).ok()
    }

    /// Digest and number of ids, without the holes at the end: models pad their vocabularies.
    fn finish(&self) -> (Digest, u32) {
        let used = self
            .0
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |last| last + 1);
        let mut hasher = labelled_hasher("kvcap v1 vocabulary");
        for token in self.0.iter().take(used) {
            let token = token.unwrap_or("");
            let len = u32::try_from(token.len()).unwrap_or(u32::MAX);
            hasher.update(&len.to_le_bytes());
            hasher.update(token.as_bytes());
        }
        (
            Digest(*hasher.finalize().as_bytes()),
            u32::try_from(used).unwrap_or(u32::MAX),
        )
    }
}

fn malformed(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::ModelMalformed, what).at("tokenizer")
}

/// The tokenizer of a model folder: `tokenizer.json`, `tokenizer_config.json` (empty where there is
/// none) and the text of `chat_template.jinja`.
pub(crate) fn from_folder(
    tokenizer: &Value,
    config: &Map,
    template: Option<String>,
) -> Result<Tokenizer> {
    let root = tokenizer
        .as_map()
        .ok_or_else(|| malformed("tokenizer.json is not an object"))?;
    let root = Fields::new(root, "tokenizer.json");
    let config = Fields::new(config, "tokenizer_config.json");
    let model = root.map("model")?.ok_or_else(|| root.missing("model"))?;
    let vocabulary = vocabulary(root, model)?;
    let (vocab, vocab_size) = vocabulary.finish();
    let mut specials = Vec::new();
    for (name, _) in SPECIALS {
        let text = match config.find(&format!("{name}_token")) {
            Some(Value::Map(token)) => token.get("content").and_then(Value::as_text),
            Some(value) => value.as_text(),
            None => None,
        };
        if let Some(id) = text.and_then(|text| vocabulary.id_of(text)) {
            specials.push((name.to_owned(), id));
        }
    }
    for (name, _) in SWITCHES {
        if let Some(on) = config.bool(&format!("{name}_token"))? {
            specials.push((name.to_owned(), on.into()));
        }
    }
    specials.sort();
    let template = match template {
        Some(text) => Some(text),
        None => stated_template(config)?,
    };
    Ok(Tokenizer {
        vocab,
        vocab_size,
        version: format!(
            "{}/{}",
            config.text("tokenizer_class")?.unwrap_or(""),
            root.text("version")?.unwrap_or("")
        ),
        pre_tokenizer: description(root, model).to_string(),
        specials,
        chat_template: template.map(|text| template_digest(&text)),
    })
}

/// The tokens of `model.vocab`, then the added tokens, which win.
fn vocabulary<'a>(root: Fields<'a>, model: &'a Map) -> Result<Vocabulary<'a>> {
    let mut vocabulary = Vocabulary(Vec::new());
    let wrong = || malformed("model.vocab is not a vocabulary");
    match model.get("vocab") {
        Some(Value::Map(tokens)) => {
            for (token, id) in tokens {
                let id = id.as_u64().ok_or_else(wrong)?;
                if vocabulary.insert(id, token)?.is_some() {
                    return Err(malformed(format!("id {id} stands for two tokens")));
                }
            }
        }
        // Unigram: [[token, score], …], the id is the place.
        Some(Value::Array(tokens)) => {
            for (id, token) in (0..).zip(tokens) {
                let token = token
                    .as_array()
                    .and_then(|pair| pair.first()?.as_text())
                    .ok_or_else(wrong)?;
                vocabulary.insert(id, token)?;
            }
        }
        _ => return Err(wrong()),
    }
    let mut added = std::collections::BTreeSet::new();
    for token in root.array("added_tokens")?.unwrap_or_default() {
        let wrong = || malformed("added_tokens is not a list of tokens");
        let token = Fields::new(token.as_map().ok_or_else(wrong)?, "added_tokens");
        let id = token.u64("id")?.ok_or_else(wrong)?;
        if !added.insert(id) {
            return Err(malformed(format!("two added tokens have the id {id}")));
        }
        vocabulary.insert(id, token.text("content")?.ok_or_else(wrong)?)?;
    }
    Ok(vocabulary)
}

/// Digest of what decides how text is cut: normalizer, pre-tokenizer, and the model without its
/// vocabulary (its merges and switches).
fn description(root: Fields<'_>, model: &Map) -> Digest {
    let mut out = Vec::new();
    array(&mut out, 3);
    for name in ["normalizer", "pre_tokenizer"] {
        root.find(name).unwrap_or(&Value::Null).canonical(&mut out);
    }
    let mut model = model.clone();
    model.remove("vocab");
    Value::Map(model).canonical(&mut out);
    Digest::labelled("kvcap v1 pre-tokenizer", &[&out])
}

/// The template in `tokenizer_config.json`: a text, or the one named `default` of several.
fn stated_template(config: Fields<'_>) -> Result<Option<String>> {
    match config.find("chat_template") {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(Value::Array(named)) => Ok(named
            .iter()
            .filter_map(Value::as_map)
            .find(|entry| entry.get("name").and_then(Value::as_text) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_text())
            .map(str::to_owned)),
        Some(_) => Err(config.error("chat_template", "is neither a text nor a list")),
    }
}

fn template_digest(text: &str) -> Digest {
    Digest::labelled("kvcap v1 chat template", &[text.as_bytes()])
}

/// The tokenizer of a GGUF header.
pub(crate) fn from_gguf(metadata: Fields<'_>) -> Result<Tokenizer> {
    let (tokens_key, kinds_key) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type");
    let tokens = metadata
        .array(tokens_key)?
        .ok_or_else(|| metadata.missing(tokens_key))?;
    let kinds = metadata.array(kinds_key)?;
    let mut vocabulary = Vocabulary(Vec::new());
    for (id, token) in (0_u64..).zip(tokens) {
        let token = token
            .as_text()
            .ok_or_else(|| metadata.error(tokens_key, "is not a list of texts"))?;
        let kind = usize::try_from(id)
            .ok()
            .and_then(|id| kinds?.get(id)?.as_u64());
        if !is_padding(id, token, kind) {
            vocabulary.insert(id, token)?;
        }
    }
    let (vocab, vocab_size) = vocabulary.finish();
    let mut specials = Vec::new();
    for (name, key) in SPECIALS {
        if let Some(id) = metadata.u64(key)? {
            let id = u32::try_from(id).map_err(|_| metadata.error(key, "is out of range"))?;
            specials.push((name.to_owned(), id));
        }
    }
    for (name, key) in SWITCHES {
        if let Some(on) = metadata.bool(key)? {
            specials.push((name.to_owned(), on.into()));
        }
    }
    specials.sort();
    let text = |key| Ok::<_, Error>(metadata.text(key)?.unwrap_or("").to_owned());
    Ok(Tokenizer {
        vocab,
        vocab_size,
        version: text("tokenizer.ggml.model")?,
        pre_tokenizer: text("tokenizer.ggml.pre")?,
        specials,
        chat_template: metadata
            .text("tokenizer.chat_template")?
            .map(template_digest),
    })
}

/// Whether the converter made this token up for an id that the tokenizer does not know.
fn is_padding(id: u64, token: &str, kind: Option<u64>) -> bool {
    const UNUSED: u64 = 5;
    kind == Some(UNUSED) && token == format!("[PAD{id}]")
}
