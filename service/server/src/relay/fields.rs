//! Fields of requests and answers: uploads in parts, ranges, entity tags, digests.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::{
    base64::encode,
    refusal::{Answer, Refusal},
};
use kvcap_store::Tag;

pub(crate) const CAPSULE: &str = "application/vnd.kvcap";
pub(super) const PARTIAL: &str = "application/partial-upload";

pub(super) const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(super) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(super) const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");
pub(super) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
pub(super) const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");

/// The text of a field that stands at most once.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Answer<Option<&str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(Refusal::Status(StatusCode::BAD_REQUEST)),
        },
        _ => Err(Refusal::Status(StatusCode::BAD_REQUEST)),
    }
}

/// Refuses a body that is of another type, or coded.
pub(super) fn check_type(headers: &HeaderMap, typ: &str, required: bool) -> Answer<()> {
    let unsupported = Err(Refusal::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    if headers.contains_key(header::CONTENT_ENCODING) {
        return unsupported;
    }
    match text(headers, header::CONTENT_TYPE)? {
        Some(named) if named.eq_ignore_ascii_case(typ) => Ok(()),
        None if !required => Ok(()),
        _ => unsupported,
    }
}

/// A Boolean of structured fields (RFC 9651).
pub(super) fn complete(headers: &HeaderMap) -> Answer<Option<bool>> {
    match text(headers, UPLOAD_COMPLETE)? {
        None => Ok(None),
        Some("?1") => Ok(Some(true)),
        Some("?0") => Ok(Some(false)),
        Some(_) => Err(Refusal::Status(StatusCode::BAD_REQUEST)),
    }
}

/// A whole number of structured fields.
pub(super) fn number(headers: &HeaderMap, name: HeaderName) -> Answer<Option<u64>> {
    let Some(text) = text(headers, name)? else {
        return Ok(None);
    };
    let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Some(number)),
        _ => Err(Refusal::Status(StatusCode::BAD_REQUEST)),
    }
}

/// The length of the body, as it is stated.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Whether a list of entity tags names this one; weak ones are compared weakly (RFC 9110 §13.1.2).
pub(super) fn names_tag(list: &str, tag: Tag) -> bool {
    let quoted = tag.quoted();
    let mut tags = list.split(',').map(str::trim);
    tags.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == quoted)
}

/// Bytes that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    /// From the first to the last, both included.
    Range(u64, u64),
    Nothing,
}

/// Reads `Range`; one that is malformed, or of several ranges, asks for all (RFC 9110 §14.2).
pub(super) fn range(headers: &HeaderMap, tag: Tag, len: u64) -> Answer<Wanted> {
    let Some(range) = text(headers, header::RANGE)? else {
        return Ok(Wanted::All);
    };
    if text(headers, header::IF_RANGE)?.is_some_and(|named| named != tag.quoted()) {
        return Ok(Wanted::All);
    }
    Ok(parse_range(range, len).unwrap_or(Wanted::All))
}

fn parse_range(range: &str, len: u64) -> Option<Wanted> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits)
    };
    let end = len.checked_sub(1)?;
    Some(match (first, last) {
        ("", last) => match number(last)? {
            0 => Wanted::Nothing,
            suffix => Wanted::Range(len.saturating_sub(suffix), end),
        },
        (first, last) => {
            let first = number(first)?;
            let last = match last {
                "" => None,
                last => Some(number(last)?),
            };
            match first {
                _ if last.is_some_and(|last| last < first) => return None,
                _ if first > end => Wanted::Nothing,
                _ => Wanted::Range(first, last.map_or(end, |last| last.min(end))),
            }
        }
    })
}

/// Whether `Want-Repr-Digest` asks for SHA-256 (RFC 9530 §4).
pub(super) fn wants_sha256(headers: &HeaderMap) -> bool {
    let values = headers.get_all(WANT_REPR_DIGEST).iter();
    let lists = values.filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|member| {
        let (name, weight) = member.split_once('=').unwrap_or((member, "0"));
        name.trim() == "sha-256" && weight.trim() != "0"
    })
}

/// `Repr-Digest` of a file.
pub(super) fn repr_digest(sha256: &[u8; 32]) -> String {
    format!("sha-256=:{}:", encode(sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_rfc() {
        for (text, wanted) in [
            ("bytes=0-0", Some(Wanted::Range(0, 0))),
            ("bytes=0-", Some(Wanted::Range(0, 9))),
            ("bytes=3-99", Some(Wanted::Range(3, 9))),
            ("bytes=-4", Some(Wanted::Range(6, 9))),
            ("bytes=-99", Some(Wanted::Range(0, 9))),
            ("bytes=10-", Some(Wanted::Nothing)),
            ("bytes=-0", Some(Wanted::Nothing)),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-", None),
            ("bytes=+1-", None),
            ("items=0-1", None),
        ] {
            assert_eq!(parse_range(text, 10), wanted, "{text}");
        }
    }
}
