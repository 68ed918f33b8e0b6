//! The token array, and llama-server's own record inside it.

use kvcap::{Code, Error, Result};

use super::cursor::Cursor;

/// Token of llama-server's arrays where there is no token (`LLAMA_TOKEN_NULL`): the marker of its
/// record, and in the record the place of media.
const NO_TOKEN: u32 = u32::MAX;

/// The only version of the server's record (`SERVER_TOKENS_STATE_VERSION`).
const SLOT_VERSION: u32 = 1;

/// Tokens that one file may name, above every context length there is.
const MAX_TOKENS: u32 = 1 << 26;

const MAX_MEDIA: u32 = 1 << 16;

/// What a token array says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Token ids; [`u32::MAX`] stands where media is.
    pub(super) ids: Vec<u32>,
    /// Images and sounds among them.
    pub(super) media: usize,
    /// The array is llama-server's record.
    pub(super) slot: bool,
}

impl Tokens {
    /// Reads `u32 n, i32 tokens[n]`; in a sequence file the array may be a server's record.
    pub(super) fn read(cursor: &mut Cursor<'_>, sequence_file: bool) -> Result<Self> {
        let count = cursor.count("the token array", 4, MAX_TOKENS)?;
        let end = cursor.at().saturating_add(u64::from(count) * 4);
        if sequence_file && count > 0 && cursor.clone().u32("the token array")? == NO_TOKEN {
            return Self::read_slot(cursor, end).map_err(|error| error.at("llama-server's tokens"));
        }
        let ids = read_ids(cursor, count)?;
        if let Some(id) = ids.iter().find(|&&id| i32::try_from(id).is_err()) {
            return Err(Error::new(
                Code::StateContradiction,
                format!("token id {} is negative", id.cast_signed()),
            ));
        }
        Ok(Self {
            ids,
            ..Self::default()
        })
    }

    /// `i32 -1, u32 version, u32 n, i32 tokens[n], u32 m, u32 starts[m], {u32 len, bytes}[m]`,
    /// then zeros to the array's end, fewer than a token.
    fn read_slot(cursor: &mut Cursor<'_>, end: u64) -> Result<Self> {
        cursor.u32("marker")?;
        let version = cursor.u32("version")?;
        if version != SLOT_VERSION {
            return Err(Error::new(
                Code::StateUnsupported,
                "the version of llama-server's token record is unknown",
            )
            .sides(SLOT_VERSION, version));
        }
        let count = cursor.count("token count", 4, MAX_TOKENS)?;
        let ids = read_ids(cursor, count)?;
        let media = cursor.count("media count", 4, MAX_MEDIA)?;
        let starts = read_ids(cursor, media)?;
        for _ in 0..media {
            let len = cursor.u32("a media chunk")?;
            if len == 0 {
                return Err(malformed("a media chunk is empty"));
            }
            cursor.skip(u64::from(len), "a media chunk")?;
        }
        let padding = end.checked_sub(cursor.at()).filter(|&left| left < 4);
        for _ in 0..padding.ok_or_else(|| malformed("the record does not fill the token array"))? {
            if cursor.bytes::<1>("padding")? != [0] {
                return Err(malformed("padding is not zero"));
            }
        }
        check_media(&ids, &starts)?;
        Ok(Self {
            ids,
            media: starts.len(),
            slot: true,
        })
    }
}

/// Media must start where the tokens have none, and nothing else may be without a token.
fn check_media(ids: &[u32], starts: &[u32]) -> Result<()> {
    if starts.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(malformed("media starts are not ascending"));
    }
    let mut left = starts.iter().map(|&start| usize::try_from(start).ok());
    let mut next = left.next();
    let mut in_media = false;
    for (index, &id) in ids.iter().enumerate() {
        let starts_here = next == Some(Some(index));
        if starts_here {
            next = left.next();
        }
        in_media = id == NO_TOKEN && (in_media || starts_here);
        if in_media != (starts_here || id == NO_TOKEN) || (!in_media && i32::try_from(id).is_err())
        {
            return Err(Error::new(
                Code::StateContradiction,
                "media starts and token ids do not agree",
            )
            .at(format_args!("token {index}")));
        }
    }
    match next {
        None => Ok(()),
        Some(_) => Err(malformed("media starts past the last token")),
    }
}

fn read_ids(cursor: &mut Cursor<'_>, count: u32) -> Result<Vec<u32>> {
    (0..count).map(|_| cursor.u32("token ids")).collect()
}

fn malformed(what: &'static str) -> Error {
    Error::new(Code::StateMalformed, what)
}
