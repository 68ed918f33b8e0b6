//! A tree of values as model files hold them (JSON, GGUF metadata), and its canonical bytes.

use std::collections::BTreeMap;

use kvcap::{Code, Error, Result};

/// A value of a JSON file or of a GGUF header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Array(Vec<Value>),
    Map(Map),
}

/// An object's members; a name stands once.
pub(crate) type Map = BTreeMap<String, Value>;

impl Value {
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A number as a binary64, rounded to nearest where it is a long integer.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(members) => Some(members),
            _ => None,
        }
    }

    /// Appends the canonical bytes (model-id-v1 §2): deterministic CBOR in which every number is
    /// the 8 bytes of its binary64.
    pub(crate) fn canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0xf6),
            Self::Bool(false) => out.push(0xf4),
            Self::Bool(true) => out.push(0xf5),
            Self::Int(value) => bytes(out, &(*value as f64).to_bits().to_be_bytes()),
            Self::Float(value) => bytes(out, &value.to_bits().to_be_bytes()),
            Self::Text(value) => text(out, value),
            Self::Array(items) => {
                array(out, items.len());
                for item in items {
                    item.canonical(out);
                }
            }
            Self::Map(members) => {
                // RFC 8949 §4.2.1 orders by encoded key: for texts, length first.
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_by_key(|(name, _)| (name.len(), *name));
                head(out, 0xa0, sorted.len());
                for (name, value) in sorted {
                    text(out, name);
                    value.canonical(out);
                }
            }
        }
    }
}

/// Appends the head of a CBOR array.
pub(crate) fn array(out: &mut Vec<u8>, len: usize) {
    head(out, 0x80, len);
}

/// Appends a CBOR text string.
pub(crate) fn text(out: &mut Vec<u8>, value: &str) {
    head(out, 0x60, value.len());
    out.extend_from_slice(value.as_bytes());
}

/// Appends a CBOR byte string.
pub(crate) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, 0x40, value.len());
    out.extend_from_slice(value);
}

/// Appends a CBOR unsigned integer.
pub(crate) fn uint(out: &mut Vec<u8>, value: u64) {
    shortest(out, 0x00, value);
}

fn head(out: &mut Vec<u8>, major: u8, len: usize) {
    // A length in memory always fits in 64 bits.
    shortest(out, major, u64::try_from(len).unwrap_or(u64::MAX));
}

fn shortest(out: &mut Vec<u8>, major: u8, value: u64) {
    if let Ok(small) = u8::try_from(value) {
        if small < 24 {
            out.push(major | small);
        } else {
            out.extend_from_slice(&[major | 24, small]);
        }
    } else if let Ok(value) = u16::try_from(value) {
        out.push(major | 25);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        out.push(major | 26);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The members of an object in one file, read by name with errors that say where.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) members: &'a Map,
    /// The file or object, for errors.
    pub(crate) place: &'a str,
    /// Put before every name (`llama.` in GGUF).
    pub(crate) prefix: &'a str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(members: &'a Map, place: &'a str) -> Self {
        Self {
            members,
            place,
            prefix: "",
        }
    }

    /// The member, unless it is absent or null.
    pub(crate) fn find(self, name: &str) -> Option<&'a Value> {
        let found = if self.prefix.is_empty() {
            self.members.get(name)
        } else {
            self.members.get(&format!("{}{name}", self.prefix))
        };
        found.filter(|value| **value != Value::Null)
    }

    /// The member as `read` reads it, `None` where it is absent.
    fn typed<T>(
        self,
        name: &str,
        what: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.find(name) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.error(name, format!("is not {what}"))),
        }
    }

    pub(crate) fn error(self, name: &str, what: impl std::fmt::Display) -> Error {
        Error::new(
            Code::ModelMalformed,
            format!("{}{} {what}", self.prefix, printable(name)),
        )
        .at(self.place)
    }

    pub(crate) fn u64(self, name: &str) -> Result<Option<u64>> {
        self.typed(name, "a whole number", Value::as_u64)
    }

    pub(crate) fn f64(self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(crate) fn bool(self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>> {
        self.typed(name, "a text", Value::as_text)
    }

    pub(crate) fn array(self, name: &str) -> Result<Option<&'a [Value]>> {
        self.typed(name, "a list", Value::as_array)
    }

    pub(crate) fn map(self, name: &str) -> Result<Option<&'a Map>> {
        self.typed(name, "an object", Value::as_map)
    }

    /// The first of several names that is there, as a whole number.
    pub(crate) fn first_u64(self, names: &[&str]) -> Result<Option<u64>> {
        for name in names {
            if let Some(value) = self.u64(name)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// A list of numbers, `None` where it is absent.
    pub(crate) fn numbers(self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(items) = self.array(name)? else {
            return Ok(None);
        };
        let numbers: Option<Vec<_>> = items.iter().map(Value::as_f64).collect();
        numbers
            .map(Some)
            .ok_or_else(|| self.error(name, "is not a list of numbers"))
    }

    /// The error for a member that must be there.
    pub(crate) fn missing(self, name: &str) -> Error {
        self.error(name, "is missing")
    }
}

/// A name out of a file, shortened and without control characters, for a message of one line.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .take(80)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
