//! Building JSON values, and reading objects whose members are exactly those named.

use kvcap::{
    Code, Error, Result,
    binding::{Digest, F64Bits},
};

use crate::json::value::{Value, printable};

pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Map(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

pub(crate) fn text(value: impl std::fmt::Display) -> Value {
    Value::Text(value.to_string())
}

pub(crate) fn int(value: u64) -> Value {
    Value::Int(value.into())
}

pub(crate) fn ints(values: &[u32]) -> Value {
    list(values, |value| int(u64::from(*value)))
}

pub(crate) fn list<T>(items: &[T], write: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(write).collect())
}

/// An object that holds exactly the members that it must.
pub(crate) struct Object<'a> {
    members: &'a crate::json::value::Map,
    place: &'a str,
}

impl<'a> Object<'a> {
    pub(crate) fn new(value: &'a Value, place: &'a str, names: &[&str]) -> Result<Self> {
        let members = value
            .as_map()
            .ok_or_else(|| malformed("this is not an object").at(place))?;
        if let Some(name) = members.keys().find(|name| !names.contains(&name.as_str())) {
            return Err(malformed(format!("the field {} is not known", printable(name))).at(place));
        }
        if let Some(name) = names.iter().find(|name| !members.contains_key(**name)) {
            return Err(malformed(format!("the field {name} is missing")).at(place));
        }
        Ok(Self { members, place })
    }

    pub(crate) fn member(&self, name: &str) -> Result<&'a Value> {
        self.members.get(name).ok_or_else(|| self.wrong(name))
    }

    fn wrong(&self, name: &str) -> Error {
        malformed(format!("the field {name} is not of its type")).at(self.place)
    }

    pub(crate) fn of<T>(&self, name: &str, read: impl Fn(&'a Value) -> Result<T>) -> Result<T> {
        read(self.member(name)?)
    }

    pub(crate) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&'a Value) -> Result<T>,
    ) -> Result<Vec<T>> {
        let items = self
            .member(name)?
            .as_array()
            .ok_or_else(|| self.wrong(name))?;
        items.iter().map(read).collect()
    }

    pub(crate) fn int<T: TryFrom<u64>>(&self, name: &str) -> Result<T> {
        self.member(name)?
            .as_u64()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| self.wrong(name))
    }

    pub(crate) fn ints(&self, name: &str) -> Result<Vec<u32>> {
        self.list(name, |value| {
            value
                .as_u64()
                .and_then(|value| u32::try_from(value).ok())
                .ok_or_else(|| self.wrong(name))
        })
    }

    pub(crate) fn bool(&self, name: &str) -> Result<bool> {
        match self.member(name)? {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.wrong(name)),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str> {
        self.member(name)?.as_text().ok_or_else(|| self.wrong(name))
    }

    pub(crate) fn digest(&self, name: &str) -> Result<Digest> {
        digest(self.text(name)?).ok_or_else(|| self.wrong(name))
    }

    pub(crate) fn bits(&self, name: &str) -> Result<F64Bits> {
        parsed_bits(self.member(name)?).ok_or_else(|| self.wrong(name))
    }

    pub(crate) fn all_bits(&self, name: &str) -> Result<Vec<F64Bits>> {
        self.list(name, |value| {
            parsed_bits(value).ok_or_else(|| self.wrong(name))
        })
    }
}

fn parsed_bits(value: &Value) -> Option<F64Bits> {
    let text = value.as_text()?;
    let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
        .filter(|bits| f64::from_bits(*bits).is_finite())
        .map(F64Bits)
}

fn malformed(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::ModelMalformed, what)
}

/// A binary64 as 16 hexadecimal digits of its bits.
pub(crate) fn bits(value: F64Bits) -> Value {
    text(format_args!("{:016x}", value.0))
}

/// Digests are written as 64 lower-case digits and read the same way only.
fn digest(hex: &str) -> Option<Digest> {
    Digest::from_hex(hex).filter(|_| !hex.bytes().any(|b| b.is_ascii_uppercase()))
}
