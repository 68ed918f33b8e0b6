//! Files of token ids.

use std::{path::Path, str::FromStr};

use kvcap::{Code, Error, Result};
use serde::Deserialize;

/// Token ids are below this in every vocabulary. So ids of four bytes hold zeros where text holds none, and
/// no file has both forms.
const IDS: u32 = 1 << 21;

/// What stands where there is no token: images and sounds in a state of llama-server.
const NO_TOKEN: u32 = u32::MAX;

/// Form of token ids in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokensFormat {
    /// JSON: an array of numbers, or what a tokenizer gives, `{"input_ids": […]}`; of several sequences
    /// the only one.
    Json,
    /// Four bytes each, little-endian: `u32`, or a file `*.u32`.
    U32,
}

impl TokensFormat {
    /// Returns the format of a file: the one that its name states, or JSON where it begins as JSON does.
    ///
    /// # Errors
    /// KVC-944 where neither says one.
    pub fn of_file(path: &Path, bytes: &[u8]) -> Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if let Ok(stated) = extension.unwrap_or_default().parse() {
            return Ok(stated);
        }
        match bytes.trim_ascii_start() {
            [b'[' | b'{', ..] => Ok(Self::Json),
            _ => {
                let what = "neither the name of the file of token ids nor its content says a format: json or u32";
                Err(Error::new(Code::LocalUsage, what).at(path.display()))
            }
        }
    }

    /// Reads token ids.
    ///
    /// # Errors
    /// KVC-944 for other bytes, for no ids, and for ids that no vocabulary has.
    pub fn parse(self, bytes: &[u8]) -> Result<Vec<u32>> {
        let ids = match self {
            Self::Json => json(bytes)?,
            Self::U32 => {
                let (ids, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(bad("token ids are four bytes each"));
                }
                ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
            }
        };
        if ids.is_empty() {
            return Err(bad("the file holds no token ids"));
        }
        match ids.iter().find(|id| **id >= IDS && **id != NO_TOKEN) {
            Some(id) => Err(bad("a number is no token id").sides(format_args!("below {IDS}"), id)),
            None => Ok(ids),
        }
    }
}

/// What a tokenizer gives; further members say nothing about the ids.
#[derive(Deserialize)]
struct Encoding {
    input_ids: Ids,
    attention_mask: Option<Ids>,
}

/// A sequence, or a batch.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(Vec<u32>),
    Batch(Vec<Vec<u32>>),
}

impl Ids {
    fn only(self) -> Result<Vec<u32>> {
        match self {
            Self::One(ids) => Ok(ids),
            Self::Batch(batch) => <[Vec<u32>; 1]>::try_from(batch)
                .map(|[ids]| ids)
                .map_err(|batch| bad("token ids of several sequences").sides(1, batch.len())),
        }
    }
}

fn json(bytes: &[u8]) -> Result<Vec<u32>> {
    let what = "this is neither an array of token ids nor an object with input_ids";
    let wrong = |error: serde_json::Error| Error::new(Code::LocalUsage, format!("{what}: {error}"));
    if !bytes.trim_ascii_start().starts_with(b"{") {
        let one = serde_json::from_slice(bytes).map(Ids::One);
        let batch = |_| serde_json::from_slice(bytes).map(Ids::Batch);
        return one.or_else(|error| batch(error).map_err(wrong))?.only();
    }
    let encoding: Encoding = serde_json::from_slice(bytes).map_err(wrong)?;
    let ids = encoding.input_ids.only()?;
    if let Some(mask) = encoding.attention_mask {
        let mask = mask.only()?;
        if mask.len() != ids.len() || mask.contains(&0) {
            return Err(bad(
                "the token ids are padded: attention_mask is not all ones",
            ));
        }
    }
    Ok(ids)
}

fn bad(what: &'static str) -> Error {
    Error::new(Code::LocalUsage, what)
}

impl FromStr for TokensFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "json" => Ok(Self::Json),
            "u32" => Ok(Self::U32),
            _ => {
                let what = "token ids are written as json or u32";
                Err(Error::new(Code::LocalUsage, what).at(format_args!("{name:?}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_content_says_the_form_and_no_content_has_both() {
        let (json, raw) = (Some(TokensFormat::Json), Some(TokensFormat::U32));
        let ids: &[u8] = &[91, 0, 0, 0];
        for (name, bytes, format) in [
            ("a.json", ids, json),
            ("a.b.u32", b"[1]", raw),
            ("json", b" \n[1]", json),
            ("a.txt", b"{\"input_ids\": [1]}", json),
            ("a.txt", b"1, 2, 3", None),
            ("a.bin", &[1, 0, 0, 0], None),
            ("", b"", None),
        ] {
            let found = TokensFormat::of_file(Path::new(name), bytes).ok();
            assert_eq!(found, format, "{name}");
        }
        // eight bytes of text, in every order of its characters, are never two ids
        for text in [
            &b"[123456]"[..],
            b"[1, 2]  ",
            b"12345678",
            b"\n\n\n\n\t\t\t\t",
        ] {
            assert!(TokensFormat::U32.parse(text).is_err());
        }
        assert!(TokensFormat::Json.parse(ids).is_err());
        let ids: Vec<u8> = [0, 5, IDS - 1, NO_TOKEN]
            .iter()
            .flat_map(|id: &u32| id.to_le_bytes())
            .collect();
        assert_eq!(
            TokensFormat::U32.parse(&ids),
            Ok(vec![0, 5, IDS - 1, NO_TOKEN])
        );
    }

    #[test]
    fn what_tokenizers_write_is_read_as_what_it_is() {
        for text in [
            "[1, 2]",
            "[[1, 2]]",
            r#"{"input_ids": [1, 2]}"#,
            r#"{"input_ids": [[1, 2]], "attention_mask": [[1, 1]], "token_type_ids": [[0, 0]]}"#,
        ] {
            assert_eq!(
                TokensFormat::Json.parse(text.as_bytes()),
                Ok(vec![1, 2]),
                "{text}"
            );
        }
        for text in [
            "[[1, 2], [3, 4]]",
            "[[]]",
            "[1, [2]]",
            "[1.0]",
            "[true]",
            "[\"1\"]",
            "[2097152]",
            "[1] [2]",
            "{}",
            r#"{"ids": [1]}"#,
            r#"{"input_ids": [1], "input_ids": [2]}"#,
            r#"{"input_ids": [0, 1], "attention_mask": [0, 1]}"#,
            r#"{"input_ids": [0, 1], "attention_mask": [1]}"#,
            r#"{"input_ids": {"data": [1]}}"#,
        ] {
            let refused = TokensFormat::Json.parse(text.as_bytes());
            assert_eq!(
                refused.map_err(|error| error.code()),
                Err(Code::LocalUsage),
                "{text}"
            );
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for (format, bytes) in [
            (TokensFormat::Json, &b"[]"[..]),
            (TokensFormat::Json, b"[-1]"),
            (TokensFormat::Json, b"[4294967296]"),
            (TokensFormat::Json, b"[1, 2"),
            (TokensFormat::U32, b""),
            (TokensFormat::U32, b"12345"),
        ] {
            let refused = format.parse(bytes).map_err(|error| error.code());
            assert_eq!(refused, Err(Code::LocalUsage), "{bytes:?}");
        }
    }
}
