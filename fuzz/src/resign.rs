//! The way past the signature: a capsule of the vectors in parts, to be changed and signed again
//! with the key that the verifier trusts.

use std::sync::LazyLock;

use ciborium::Value;
use kvcap::{Code, Error, Result, Untrusted, Workers, WrappingKey};
use kvcap_states::{Selection, extract};
use kvcap_testvectors::{
    context::Context,
    fixture::{self, WRAP_KEY},
    parts::{Parts, align},
    raw,
};

use crate::{Ragged, scratch_file};

/// The vectors' base capsule in parts. That it is accepted as it stands is checked at first use: a
/// target whose seed no longer passes the gate stops at once instead of testing nothing.
pub fn base() -> Parts {
    static BASE: LazyLock<Parts> = LazyLock::new(|| {
        let parts = Parts::of(&fixture::base());
        check_all(&parts.file()).expect("the unchanged capsule is accepted");
        parts
    });
    BASE.clone()
}

/// One item and nothing else, in the form that encoding it gives.
pub fn parse_value(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value: Value = ciborium::from_reader(&mut rest).ok()?;
    (rest.is_empty() && raw::encode(&value) == bytes).then_some(value)
}

/// Returns true if these bytes are in the narrowed deterministic form of capsule-v1 §5.1, by a general
/// decoder and an independent walk.
pub fn is_canonical(bytes: &[u8]) -> bool {
    let mut items = 0;
    parse_value(bytes).is_some_and(|value| allowed(&value, 0, &mut items))
}

fn allowed(value: &Value, depth: u32, items: &mut u64) -> bool {
    *items += 1;
    let fits = *items <= 262_144;
    fits && match value {
        Value::Integer(_) | Value::Bytes(_) | Value::Text(_) | Value::Bool(_) => true,
        Value::Array(list) => depth < 8 && list.iter().all(|item| allowed(item, depth + 1, items)),
        Value::Map(entries) => {
            let keys: Vec<Vec<u8>> = entries.iter().map(|(key, _)| raw::encode(key)).collect();
            depth < 8
                && keys.windows(2).all(|pair| pair[0] < pair[1])
                && entries.iter().all(|(key, value)| {
                    matches!(key, Value::Integer(_) | Value::Text(_))
                        && allowed(key, depth + 1, items)
                        && allowed(value, depth + 1, items)
                })
        }
        _ => false,
    }
}

fn entry(value: &Value, key: i64) -> Option<&Value> {
    let mut entries = value.as_map()?.iter();
    entries.find(|(k, _)| *k == raw::int(key)).map(|(_, v)| v)
}

/// Whether the builder, which asks nothing of what it walks through, finds what it needs.
fn is_whole(parts: &Parts) -> Option<()> {
    let (header, payload) = (parse_value(&parts.header)?, parse_value(&parts.payload)?);
    let claims = entry(&header, 15)?;
    for key in [1, 7] {
        entry(claims, key)?
            .as_bytes()
            .map(Vec::len)
            .or(entry(claims, key)?.as_text().map(str::len))?;
    }
    for key in [2, -70_001] {
        if let Some(claim) = entry(claims, key) {
            claim.as_text()?;
        }
    }
    entry(entry(&payload, 2)?, 1)?;
    let keys = entry(&payload, 4)?;
    entry(keys, 1)?.as_bytes().filter(|salt| salt.len() >= 24)?;
    entry(keys, 2)?;
    let measured = entry(&payload, 3)?.as_array()?;
    let two = |item: &Value| item.as_array().is_some_and(|fields| fields.len() >= 2);
    if measured.len() < parts.plain.len() || !measured.iter().all(two) {
        return None;
    }
    entry(&payload, 5)?;
    Some(())
}

/// The file of `parts`, signed. Where `reseal` is asked for and header and manifest still say enough,
/// the body is encrypted and measured again to match them.
pub fn resign(parts: &mut Parts, reseal: bool) -> Vec<u8> {
    if reseal && is_whole(parts).is_some() {
        parts.reseal();
    }
    parts.sign();
    parts.file()
}

/// The header of a file with this payload, signed, and a prologue that says what the payload says.
pub fn header_for(payload: Vec<u8>) -> Vec<u8> {
    let mut parts = base();
    let value: Value = ciborium::from_reader(&*payload).unwrap_or(Value::Null);
    let tables = entry(&value, 5)
        .and_then(|len| u64::try_from(len.as_integer()?).ok())
        .unwrap_or(0);
    let lengths = entry(&value, 3).and_then(Value::as_array);
    let length = |item: &Value| {
        let bytes = item.as_array()?.first()?.as_bytes()?;
        Some(u64::from_le_bytes(bytes.as_slice().try_into().ok()?))
    };
    let body = lengths
        .into_iter()
        .flatten()
        .filter_map(length)
        .fold(0, u64::wrapping_add);
    parts.payload = payload;
    parts.sign();
    let envelope = parts.envelope();
    let mut file = b"\x89KVC\r\n\x1a\n\x01\0\0\0".to_vec();
    file.extend_from_slice(
        &u32::try_from(envelope.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    file.extend_from_slice(&tables.to_le_bytes());
    file.extend_from_slice(&body.to_le_bytes());
    file.resize(64, 0);
    file.extend_from_slice(&envelope);
    file.resize(align(file.len()), 0);
    file
}

/// Verifies `file` against the base capsule's context, checks its body by a reader in pieces, opens
/// it, reads every stream and decodes every bank.
///
/// # Panics
/// Where two ways through the library disagree.
pub fn check_all(file: &[u8]) -> Result<()> {
    let context = Context::default();
    let trust = context.trust()?;
    let limits = context.limits();
    let verify = |untrusted: Untrusted| {
        context.with_policy(&trust, context.now, |policy| untrusted.verify(policy))
    };
    let mut reader = Ragged::new(file);
    let by_reader = Untrusted::read(&mut reader, &limits).and_then(verify);
    let by_slice = Untrusted::read_at(file, &limits).and_then(verify);
    assert_eq!(
        by_reader.as_ref().map(|v| v.lineage()).map_err(Error::code),
        by_slice.as_ref().map(|v| v.lineage()).map_err(Error::code),
        "a reader in pieces and a slice disagree on the header"
    );
    let body = by_reader?.check_body(&mut reader, Workers::new(2), &mut |_| {});
    let opened = by_slice?.open(file, &WrappingKey::from_bytes(WRAP_KEY));
    let opened = opened.map(kvcap::Unlocked::danger_unrecorded);
    let read = opened.as_ref().map_err(Error::code).and_then(|opened| {
        (0..opened.manifest().context.streams.len())
            .try_for_each(|index| opened.stream_bytes(index).map(drop))
            .map_err(|error| error.code())
    });
    match (read, body.as_ref().map_err(Error::code)) {
        (Ok(()), Err(code)) => panic!("every stream opens, and the body check says {code:?}"),
        (Err(code), Ok(_)) if is_bodily(code) => {
            panic!("the body check passes, and reading says {code:?}")
        }
        _ => {}
    }
    body?;
    extract(
        &opened?,
        &Selection::default(),
        &scratch_file(),
        Workers::ONE,
        &mut |_| {},
    )
    .map(drop)
}

/// What whoever holds no key could have found as well.
fn is_bodily(code: Code) -> bool {
    matches!(code.number(), 106 | 107 | 108 | 801 | 805 | 807)
}
