//! Values as model files hold them (JSON, GGUF metadata), and their canonical bytes.

use std::collections::BTreeMap;

use kvcap::{Code, Error, Result};

use super::{
    canonical::{Sink, array, head, number, text},
    list::{Item, Packed},
};

/// A value of a JSON file or of a GGUF header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Array(Vec<Value>),
    /// A list of a GGUF header.
    List(Packed),
    Map(Map),
}

/// An object's members; a name stands once.
pub(crate) type Map = BTreeMap<String, Value>;

impl From<Item<'_>> for Value {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Bool(value) => Self::Bool(value),
            Item::Int(value) => Self::Int(value),
            Item::Float(value) => Self::Float(value),
            Item::Text(text) => Self::Text(text.to_owned()),
        }
    }
}

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

    pub(crate) fn as_list(&self) -> Option<&Packed> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// Appends the canonical bytes (model-id-v1 §2).
    pub(crate) fn canonical(&self, out: &mut impl Sink) {
        match self {
            Self::Null => out.put(&[0xf6]),
            Self::Bool(false) => out.put(&[0xf4]),
            Self::Bool(true) => out.put(&[0xf5]),
            Self::Int(value) => number(out, *value as f64),
            Self::Float(value) => number(out, *value),
            Self::Text(value) => text(out, value),
            Self::List(list) => {
                array(out, list.len());
                for item in list.items() {
                    Self::from(item).canonical(out);
                }
            }
            Self::Array(items) => {
                array(out, items.len());
                for item in items {
                    item.canonical(out);
                }
            }
            Self::Map(members) => canonical_map(members.iter(), out),
        }
    }
}

/// Appends the canonical bytes of an object with these members.
pub(crate) fn canonical_map<'a>(
    members: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut impl Sink,
) {
    // RFC 8949 §4.2.1 orders by encoded key: for texts, length first.
    let mut sorted: Vec<_> = members.collect();
    sorted.sort_by_key(|(name, _)| (name.len(), *name));
    head(out, 0xa0, sorted.len());
    for (name, value) in sorted {
        text(out, name);
        value.canonical(out);
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

    /// A finite number: no fact of a model is another (model-id-v1 §7.1, MOD-R-5).
    pub(crate) fn f64(self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a finite number", finite)
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

    /// A list of a GGUF header.
    pub(crate) fn list(self, name: &str) -> Result<Option<&'a Packed>> {
        self.typed(name, "a list", Value::as_list)
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

    /// A list of finite numbers, `None` where it is absent.
    pub(crate) fn numbers(self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(items) = self.array(name)? else {
            return Ok(None);
        };
        let numbers: Option<Vec<_>> = items.iter().map(finite).collect();
        numbers
            .map(Some)
            .ok_or_else(|| self.error(name, "is not a list of finite numbers"))
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

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}
