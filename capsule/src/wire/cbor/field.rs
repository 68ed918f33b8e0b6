//! Typed access to decoded values.

use super::{Value, int};
use crate::{
    error::{Code, Error, Result},
    limits::TEXT,
};

/// Whether a text may stand in a claim or a manifest.
fn is_plain(text: &str) -> bool {
    text.len() <= TEXT && !text.chars().any(char::is_control)
}

/// Typed access to decoded values; every mistake is one code.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    name: &'static str,
    code: Code,
}

impl<'a> Field<'a> {
    pub(crate) fn new(value: &'a Value, name: &'static str, code: Code) -> Self {
        Self { value, name, code }
    }

    /// The same value, its mistakes under another code.
    pub(crate) fn with(self, code: Code) -> Self {
        Self { code, ..self }
    }

    pub(crate) fn value(self) -> &'a Value {
        self.value
    }

    pub(crate) fn wrong(self, what: &'static str) -> Error {
        Error::new(self.code, what).at(self.name)
    }

    pub(crate) fn uint(self) -> Result<u64> {
        match self.value {
            Value::Unsigned(number) => Ok(*number),
            _ => Err(self.wrong("is not an unsigned integer")),
        }
    }

    /// An unsigned integer of a narrower type.
    pub(crate) fn small<T: TryFrom<u64>>(self) -> Result<T> {
        T::try_from(self.uint()?).map_err(|_| self.wrong("is out of range"))
    }

    pub(crate) fn int(self) -> Result<i64> {
        let number = match self.value {
            Value::Unsigned(number) => i64::try_from(*number).ok(),
            Value::Negative(number) => i64::try_from(*number).ok().map(|number| -1 - number),
            _ => None,
        };
        number.ok_or_else(|| self.wrong("is not a 64-bit integer"))
    }

    pub(crate) fn bool(self) -> Result<bool> {
        match self.value {
            Value::Bool(truth) => Ok(*truth),
            _ => Err(self.wrong("is neither true nor false")),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong("is not a byte string")),
        }
    }

    pub(crate) fn array_of<const N: usize>(self) -> Result<[u8; N]> {
        self.bytes()?
            .try_into()
            .map_err(|_| self.wrong("is a byte string of another length"))
    }

    pub(crate) fn text(self) -> Result<&'a str> {
        match self.value {
            Value::Text(text) if is_plain(text) => Ok(text),
            Value::Text(_) => Err(self.wrong("is too long or holds control characters")),
            _ => Err(self.wrong("is not a text")),
        }
    }

    pub(crate) fn list(self) -> Result<impl ExactSizeIterator<Item = Self> + use<'a>> {
        match self.value {
            Value::Array(items) => Ok(items.iter().map(move |value| Self { value, ..self })),
            _ => Err(self.wrong("is not an array")),
        }
    }

    /// An array of exactly `N` elements.
    pub(crate) fn tuple<const N: usize>(self) -> Result<[Self; N]> {
        let items: Vec<Self> = self.list()?.collect();
        items
            .try_into()
            .map_err(|_| self.wrong("is an array of another length"))
    }

    /// The entries of a map.
    pub(crate) fn entries(self) -> Result<&'a [(Value, Value)]> {
        match self.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.wrong("is not a map")),
        }
    }

    /// A map with integer keys, to be taken one by one and [`Fields::end`]ed.
    pub(crate) fn fields(self) -> Result<Fields<'a>> {
        Ok(Fields {
            entries: self.entries()?,
            map: self,
        })
    }
}

/// The entries of a map that are not taken yet; keys are taken in ascending order.
pub(crate) struct Fields<'a> {
    entries: &'a [(Value, Value)],
    map: Field<'a>,
}

impl<'a> Fields<'a> {
    /// The value of `key`, if it is next.
    pub(crate) fn optional(&mut self, key: i64, name: &'static str) -> Option<Field<'a>> {
        let ((first, value), rest) = self.entries.split_first()?;
        if *first != int(key) {
            return None;
        }
        self.entries = rest;
        Some(Field {
            value,
            name,
            ..self.map
        })
    }

    pub(crate) fn required(&mut self, key: i64, name: &'static str) -> Result<Field<'a>> {
        let map = self.map;
        self.optional(key, name)
            .ok_or_else(|| Error::new(map.code, "is missing").at(name).at(map.name))
    }

    pub(crate) fn end(self) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        Err(self.map.wrong("holds a key that is not known"))
    }
}
