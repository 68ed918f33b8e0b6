//! How text became token ids, as tokenizer files and GGUF metadata say it (model-id-v1 §6).

mod bytes;
pub(crate) mod tekken;
pub(crate) mod tiktoken;

use std::borrow::Cow;

use kvcap::{
    Code, Error, Result,
    binding::{Digest, Tokenizer, labelled_hasher},
};

use crate::json::{
    canonical::array,
    document::Json,
    list::Item,
    value::{Fields, Map, Value},
};

/// Most token ids.
const IDS: u32 = 1 << 21;

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

/// Tokens in the order of their ids; an id without a token is a hole.
#[derive(Default)]
struct Vocabulary<'a>(Vec<(u32, Cow<'a, [u8]>)>);

impl<'a> Vocabulary<'a> {
    fn push(&mut self, id: u64, token: Cow<'a, [u8]>) -> Result<()> {
        let id = u32::try_from(id)
            .ok()
            .filter(|id| *id < IDS)
            .ok_or_else(|| {
                malformed("a token id is over its limit").sides(format!("below {IDS}"), id)
            })?;
        self.0.push((id, token));
        Ok(())
    }

    /// Sorts the tokens by id.
    ///
    /// # Errors
    ///
    /// 930 with `what` where two have one id.
    fn sorted(mut self, what: &str) -> Result<Self> {
        self.0.sort_unstable_by_key(|(id, _)| *id);
        match self.0.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            None => Ok(self),
            Some(pair) => Err(malformed(format!("{what} (id {})", pair[0].0))),
        }
    }

    /// Puts the tokens of `other` in the place of those with their ids.
    fn replaced(mut self, other: Self) -> Self {
        let added = |id: u32| other.0.binary_search_by_key(&id, |(id, _)| *id).is_ok();
        self.0.retain(|(id, _)| !added(*id));
        self.0.extend(other.0);
        self.0.sort_unstable_by_key(|(id, _)| *id);
        self
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        let (id, _) = self
            .0
            .iter()
            .find(|(_, known)| **known == *token.as_bytes())?;
        Some(*id)
    }

    /// Digest and number of ids, without the holes at the end: models pad their vocabularies.
    fn finish(&self) -> (Digest, u32) {
        let mut hasher = labelled_hasher("kvcap v1 vocabulary");
        let mut used = 0;
        for (id, token) in &self.0 {
            for _hole in used..*id {
                hasher.update(&0_u32.to_le_bytes());
            }
            let len = u32::try_from(token.len()).unwrap_or(u32::MAX);
            hasher.update(&len.to_le_bytes());
            hasher.update(token);
            used = *id + 1;
        }
        (Digest(*hasher.finalize().as_bytes()), used)
    }
}

/// The bytes of a text.
fn bytes_of(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// What a tokenizer's own file says; the rest stands beside it.
struct Parts<'a> {
    vocabulary: Vocabulary<'a>,
    version: String,
    pre_tokenizer: Digest,
    /// Special tokens that the file names itself.
    named: Vec<(String, u32)>,
}

impl Parts<'_> {
    /// Adds the special tokens and the template of `tokenizer_config.json` and `chat_template.jinja`.
    fn tokenizer(self, config: &Map, template: Option<String>) -> Result<Tokenizer> {
        let config = Fields::new(config, "tokenizer_config.json");
        let mut specials = self.named;
        for (name, _) in SPECIALS {
            let text = match config.find(&format!("{name}_token")) {
                Some(Value::Map(token)) => token.get("content").and_then(Value::as_text),
                Some(value) => value.as_text(),
                None => None,
            };
            if let Some(id) = text.and_then(|text| self.vocabulary.id_of(text))
                && !specials.iter().any(|(known, _)| known == name)
            {
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
        let (vocab, vocab_size) = self.vocabulary.finish();
        Ok(Tokenizer {
            vocab,
            vocab_size,
            version: self.version,
            pre_tokenizer: self.pre_tokenizer.to_string(),
            specials,
            chat_template: template.map(|text| template_digest(&text)),
        })
    }
}

fn malformed(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::ModelMalformed, what).at("tokenizer")
}

/// The tokenizer of a model folder: `tokenizer.json`, `tokenizer_config.json` (empty where there is
/// none) and the text of `chat_template.jinja`.
pub(crate) fn from_folder(
    tokenizer: Json<'_>,
    config: &Map,
    template: Option<String>,
) -> Result<Tokenizer> {
    if tokenizer.as_map().is_none() {
        return Err(malformed("tokenizer.json is not an object"));
    }
    let model = member(tokenizer, "model").filter(|model| model.as_map().is_some());
    let model = model.ok_or_else(|| malformed("tokenizer.json holds no object model"))?;
    let version = member(tokenizer, "version").map_or(Some(Cow::Borrowed("")), Json::as_text);
    let version = version.ok_or_else(|| malformed("version is not a text"))?;
    let fields = Fields::new(config, "tokenizer_config.json");
    let class = fields.text("tokenizer_class")?.unwrap_or("");
    Parts {
        vocabulary: vocabulary(tokenizer, model)?,
        version: format!("{class}/{version}"),
        pre_tokenizer: description(tokenizer, model),
        named: Vec::new(),
    }
    .tokenizer(config, template)
}

/// A member that is there and not null.
fn member<'a>(object: Json<'a>, name: &str) -> Option<Json<'a>> {
    object.get(name).filter(|value| !value.is_null())
}

/// The tokens of `model.vocab`, then the added tokens, which win.
fn vocabulary<'a>(root: Json<'a>, model: Json<'a>) -> Result<Vocabulary<'a>> {
    let wrong = || malformed("model.vocab is not a vocabulary");
    let vocab = model.get("vocab").ok_or_else(wrong)?;
    let mut vocabulary = Vocabulary::default();
    if let Some(tokens) = vocab.as_map() {
        for (token, id) in tokens {
            let token = token.as_text().ok_or_else(wrong)?;
            vocabulary.push(id.as_u64().ok_or_else(wrong)?, bytes_of(token))?;
        }
    } else {
        // Unigram: [[token, score], …], the id is the place.
        for (id, pair) in (0..).zip(vocab.as_array().ok_or_else(wrong)?) {
            let token = pair.as_array().and_then(|mut pair| pair.next()?.as_text());
            vocabulary.push(id, bytes_of(token.ok_or_else(wrong)?))?;
        }
    }
    let vocabulary = vocabulary.sorted("one id stands for two tokens")?;
    let mut added = Vocabulary::default();
    if let Some(tokens) = member(root, "added_tokens") {
        let wrong = || malformed("added_tokens is not a list of tokens");
        for token in tokens.as_array().ok_or_else(wrong)? {
            let id = member(token, "id").and_then(Json::as_u64);
            let content = member(token, "content").and_then(Json::as_text);
            added.push(id.ok_or_else(wrong)?, bytes_of(content.ok_or_else(wrong)?))?;
        }
    }
    Ok(vocabulary.replaced(added.sorted("two added tokens have one id")?))
}

/// Digest of what decides how text is cut: normalizer, pre-tokenizer, and the model without its
/// vocabulary (its merges and switches).
fn description(root: Json<'_>, model: Json<'_>) -> Digest {
    let mut hasher = labelled_hasher("kvcap v1 pre-tokenizer");
    array(&mut hasher, 3);
    for name in ["normalizer", "pre_tokenizer"] {
        match root.get(name) {
            Some(value) => value.canonical(&mut hasher),
            None => Value::Null.canonical(&mut hasher),
        }
    }
    model.canonical_without("vocab", &mut hasher);
    Digest(*hasher.finalize().as_bytes())
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
        .list(tokens_key)?
        .ok_or_else(|| metadata.missing(tokens_key))?;
    let kinds = metadata.list(kinds_key)?;
    let mut vocabulary = Vocabulary::default();
    for (id, token) in tokens.items().enumerate() {
        let token = token
            .as_text()
            .ok_or_else(|| metadata.error(tokens_key, "is not a list of texts"))?;
        let kind = kinds.and_then(|kinds| kinds.get(id)).and_then(Item::as_u64);
        if !is_padding(id, token, kind) {
            let id = u64::try_from(id).unwrap_or(u64::MAX);
            vocabulary.push(id, Cow::Borrowed(token.as_bytes()))?;
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
fn is_padding(id: usize, token: &str, kind: Option<u64>) -> bool {
    const UNUSED: u64 = 5;
    kind == Some(UNUSED) && token == format!("[PAD{id}]")
}
