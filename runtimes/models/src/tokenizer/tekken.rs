//! Mistral's `tekken.json`: bytes by rank, behind special tokens (model-id-v1 MOD-T-8).

use kvcap::{
    Code, Error, Result,
    binding::{Digest, Tokenizer, labelled_hasher},
};

use super::{Parts, Vocabulary, bytes::Tokens, malformed, member};
use crate::json::{
    canonical::{array, text},
    document::Json,
    value::Map,
};

/// Special tokens by what they are bound as.
const NAMES: [(&str, &str); 4] = [
    ("bos", "<s>"),
    ("eos", "</s>"),
    ("pad", "<pad>"),
    ("unk", "<unk>"),
];

pub(crate) fn read(
    file: Json<'_>,
    len: usize,
    config: &Map,
    template: Option<String>,
) -> Result<Tokenizer> {
    let settings = member(file, "config").ok_or_else(|| malformed("tekken.json has no config"))?;
    let count = |name: &'static str| {
        let value = member(settings, name).and_then(Json::as_u64);
        value.ok_or_else(|| malformed(format!("{name} is not a count")))
    };
    let word = |name: &'static str| {
        let value = member(settings, name).and_then(Json::as_text);
        value.ok_or_else(|| malformed(format!("{name} is not a text")))
    };
    let (ids, specials) = (
        count("default_vocab_size")?,
        count("default_num_special_tokens")?,
    );
    let own = ids
        .checked_sub(specials)
        .ok_or_else(|| malformed("there are more special tokens than ids"))?;
    let wrong = || malformed("vocab is not a list of tokens");
    let mut tokens = Tokens::for_bytes(len);
    for token in member(file, "vocab")
        .and_then(Json::as_array)
        .ok_or_else(wrong)?
    {
        let rank = member(token, "rank")
            .and_then(Json::as_u64)
            .ok_or_else(wrong)?;
        let bytes = member(token, "token_bytes").and_then(Json::as_text);
        let bytes = bytes.ok_or_else(wrong)?;
        // ranks beyond the size are in the file and not in the tokenizer
        if rank < own {
            tokens.push(rank.saturating_add(specials), bytes.as_bytes())?;
        }
    }
    let special = special(file, specials)?;
    let named = NAMES.iter().filter_map(|(name, text)| {
        let id = special.id_of(text)?;
        Some(((*name).to_owned(), id))
    });
    let named = named.collect();
    let pattern = word("pattern")?;
    let mut hasher = labelled_hasher("kvcap v1 pre-tokenizer");
    array(&mut hasher, 2);
    text(&mut hasher, "tekken");
    text(&mut hasher, &pattern);
    let vocabulary = tokens.vocabulary()?.replaced(special);
    Parts {
        vocabulary,
        version: format!("tekken/{}", word("version")?),
        pre_tokenizer: Digest(*hasher.finalize().as_bytes()),
        named,
    }
    .tokenizer(config, template)
}

/// The special tokens, and those that are made up for the ids without one.
fn special(file: Json<'_>, count: u64) -> Result<Vocabulary<'_>> {
    let wrong = || malformed("special_tokens is not a list of tokens");
    let Some(list) = member(file, "special_tokens") else {
        let what = "tekken.json does not list its special tokens, and the old list is in no file";
        return Err(Error::new(Code::ModelUnsupported, what).at("tekken.json"));
    };
    let mut found = Vocabulary::default();
    let mut known = 0;
    for token in list.as_array().ok_or_else(wrong)? {
        let rank = member(token, "rank").and_then(Json::as_u64);
        let rank = rank.filter(|rank| *rank < count).ok_or_else(wrong)?;
        let word = member(token, "token_str").and_then(Json::as_text);
        found.push(rank, super::bytes_of(word.ok_or_else(wrong)?))?;
        known += 1;
    }
    for rank in known..count.min(super::IDS.into()) {
        found.push(rank, format!("<SPECIAL_{rank}>").into_bytes().into())?;
    }
    found.sorted("two special tokens have one rank")
}
