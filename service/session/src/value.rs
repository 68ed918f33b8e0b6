//! Values: JSON in files that people read, deterministic CBOR where they are digested or sealed
//! (session-v1 §2).

use std::fmt;

use ciborium::Value as Cbor;
use kvcap::{Code, Error, Result, check_cbor};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Largest integer of a value, either way: those that JSON's readers keep.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

fn malformed(what: impl fmt::Display) -> Error {
    Error::new(Code::SessionMalformed, what.to_string())
}

/// A value as it was read: no `null`, no float, nothing twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reading).map(Self)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, array, text, boolean or integer")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        match value <= MAX_INTEGER {
            true => Ok(value.into()),
            false => Err(E::custom("an integer beyond 2^53 - 1")),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        match value.unsigned_abs() <= MAX_INTEGER {
            true => Ok(value.into()),
            false => Err(E::custom("an integer beyond 2^53 - 1")),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = pairs.next_key::<String>()? {
            let Strict(value) = pairs.next_value()?;
            if map.insert(key.clone(), value).is_some() {
                let what = format!("the member {key:?} stands twice");
                return Err(serde::de::Error::custom(what));
            }
        }
        Ok(map.into())
    }
}

/// Reads a value from JSON text of at most `most` bytes.
///
/// # Errors
/// KVC-950; 951 for a longer text; 204 for one that nests too deep.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8], most: usize) -> Result<T> {
    // escapes take up to six times the room of what they stand for
    limit(text.len(), most.saturating_mul(6))?;
    let Strict(value) = serde_json::from_slice(text).map_err(malformed)?;
    typed(value, most)
}

/// Reads a value from deterministic CBOR of at most `most` bytes.
///
/// # Errors
/// KVC-201 to 206 for what is not of the profile; 950; 951.
pub(crate) fn from_cbor<T: DeserializeOwned>(bytes: &[u8], most: usize) -> Result<T> {
    limit(bytes.len(), most)?;
    check_cbor(bytes)?;
    let value = ciborium::from_reader(bytes).map_err(malformed)?;
    typed(as_json(value)?, most)
}

/// Returns the deterministic CBOR of a value, of at most `most` bytes.
///
/// # Errors
/// KVC-950 for what no value is; 204; 951.
pub(crate) fn to_cbor<T: Serialize + ?Sized>(value: &T, most: usize) -> Result<Vec<u8>> {
    let value = serde_json::to_value(value).map_err(malformed)?;
    let bytes = encode(&value)?;
    limit(bytes.len(), most)?;
    Ok(bytes)
}

/// Returns a value as JSON text in one line: without spaces, keys in order.
///
/// # Errors
/// KVC-950 for what no value is.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let value = serde_json::to_value(value).map_err(malformed)?;
    serde_json::to_string(&value).map_err(malformed)
}

fn typed<T: DeserializeOwned>(value: Value, most: usize) -> Result<T> {
    limit(encode(&value)?.len(), most)?;
    serde_json::from_value(value).map_err(malformed)
}

/// Refuses more than `levels` of arrays and objects, which would be too many where the value is nested.
///
/// # Errors
/// KVC-204.
pub(crate) fn check_depth(value: &Value, levels: u32, place: &'static str) -> Result<()> {
    let mut items: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => return Ok(()),
    };
    let Some(left) = levels.checked_sub(1) else {
        return Err(Error::new(Code::CborLimit, "nested too deep").at(place));
    };
    items.try_for_each(|item| check_depth(item, left, place))
}

fn limit(len: usize, most: usize) -> Result<()> {
    if len <= most {
        return Ok(());
    }
    let what = "the value is larger than is allowed";
    Err(Error::new(Code::SessionLimit, what).sides(format_args!("at most {most} bytes"), len))
}

fn encode(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(&as_cbor(value)?, &mut bytes).map_err(malformed)?;
    check_cbor(&bytes)?;
    Ok(bytes)
}

fn as_cbor(value: &Value) -> Result<Cbor> {
    Ok(match value {
        Value::Bool(value) => Cbor::Bool(*value),
        Value::String(text) => Cbor::Text(text.clone()),
        Value::Array(items) => Cbor::Array(items.iter().map(as_cbor).collect::<Result<_>>()?),
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            // shorter texts have lesser heads
            pairs.sort_by_key(|(key, _)| (key.len(), key.as_bytes()));
            let pair =
                |(key, value): (&String, &Value)| Ok((Cbor::Text(key.clone()), as_cbor(value)?));
            Cbor::Map(pairs.into_iter().map(pair).collect::<Result<_>>()?)
        }
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) if value <= MAX_INTEGER => value.into(),
            (_, Some(value)) if value.unsigned_abs() <= MAX_INTEGER => value.into(),
            _ => return Err(malformed("a number that is no integer of 53 bits")),
        },
        Value::Null => return Err(malformed("a null: a member without a value is left out")),
    })
}

fn as_json(value: Cbor) -> Result<Value> {
    Ok(match value {
        Cbor::Bool(value) => value.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Integer(value) => match i64::try_from(value) {
            Ok(value) if value.unsigned_abs() <= MAX_INTEGER => value.into(),
            _ => return Err(malformed("an integer beyond 2^53 - 1")),
        },
        Cbor::Array(items) => items.into_iter().map(as_json).collect::<Result<_>>()?,
        Cbor::Map(pairs) => {
            let mut map = Map::new();
            for (key, value) in pairs {
                let Cbor::Text(key) = key else {
                    return Err(malformed("a key that is no text"));
                };
                map.insert(key, as_json(value)?);
            }
            map.into()
        }
        _ => return Err(malformed("a byte string")),
    })
}

/// A digest or an id, written as lower-case hexadecimal digits.
pub(crate) mod hex {
    use kvcap::binding::Digest;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let digest = lower.then(|| Digest::from_hex(&text)).flatten();
        digest.ok_or_else(|| D::Error::custom("a digest is 64 lower-case hexadecimal digits"))
    }

    /// Whether `text` is a capsule's id.
    pub(crate) fn is_id(text: &str) -> bool {
        let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == 32 && text.bytes().all(digit)
    }
}
