//! A CBOR item as a tree, and its one encoding.

/// An item of the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Unsigned(u64),
    /// −1 − n.
    Negative(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Self>),
    /// Entries in the order in which they are written.
    Map(Vec<(Self, Self)>),
    Bool(bool),
}

/// The bytes of an item, every head in its shortest form.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Unsigned(number) => head(0, *number, out),
        Value::Negative(number) => head(1, *number, out),
        Value::Bytes(bytes) => {
            head(2, count(bytes.len()), out);
            out.extend_from_slice(bytes);
        }
        Value::Text(text) => {
            head(3, count(text.len()), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            head(4, count(items.len()), out);
            items.iter().for_each(|item| write(item, out));
        }
        Value::Map(entries) => {
            head(5, count(entries.len()), out);
            for (key, value) in entries {
                write(key, out);
                write(value, out);
            }
        }
        Value::Bool(truth) => head(7, 20 + u64::from(*truth), out),
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    if let Ok(byte) = u8::try_from(argument) {
        match byte {
            0..24 => out.push(major | byte),
            _ => out.extend([major | 24, byte]),
        }
    } else if let Ok(short) = u16::try_from(argument) {
        out.push(major | 25);
        out.extend(short.to_be_bytes());
    } else if let Ok(word) = u32::try_from(argument) {
        out.push(major | 26);
        out.extend(word.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend(argument.to_be_bytes());
    }
}

/// A map of values that are encoded already, by ascending unsigned keys.
pub(crate) fn encode_map(entries: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    head(5, count(entries.len()), &mut out);
    for (key, value) in entries {
        head(0, *key, &mut out);
        out.extend_from_slice(value);
    }
    out
}

pub(crate) fn uint(value: u64) -> Value {
    Value::Unsigned(value)
}

pub(crate) fn int(value: i64) -> Value {
    match u64::try_from(value) {
        Ok(value) => Value::Unsigned(value),
        // −1 − value
        Err(_) => Value::Negative((!value).unsigned_abs()),
    }
}

pub(crate) fn bytes(value: impl Into<Vec<u8>>) -> Value {
    Value::Bytes(value.into())
}

pub(crate) fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

pub(crate) fn array(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(items.into_iter().collect())
}

/// A map from ascending unsigned keys; `None` leaves a key out.
pub(crate) fn map<const N: usize>(entries: [(u64, Option<Value>); N]) -> Value {
    let some = entries
        .into_iter()
        .filter_map(|(key, value)| Some((uint(key), value?)));
    let mut all = Vec::with_capacity(N);
    all.extend(some);
    Value::Map(all)
}
