//! CBOR as raw bytes: where an item lies, however it is encoded.
//!
//! It follows heads and asks nothing of them, so that a case can find its way in bytes that a
//! reader refuses.

use std::ops::Range;

use ciborium::Value;

/// A head: major type, argument, bytes of the head. No indefinite lengths.
pub(crate) fn head(bytes: &[u8], at: usize) -> (u8, usize, usize) {
    let (major, info) = (bytes[at] >> 5, bytes[at] & 31);
    let len = match info {
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return (major, info.into(), 1),
    };
    let argument = bytes[at + 1..at + 1 + len]
        .iter()
        .fold(0, |n, byte| n << 8 | usize::from(*byte));
    (major, argument, 1 + len)
}

/// The end of the item at `at`.
pub(crate) fn skip(bytes: &[u8], at: usize) -> usize {
    let (major, argument, len) = head(bytes, at);
    let start = at + len;
    match major {
        2 | 3 => start + argument,
        4 => (0..argument).fold(start, |at, _| skip(bytes, at)),
        5 => (0..2 * argument).fold(start, |at, _| skip(bytes, at)),
        6 => skip(bytes, start),
        _ => start,
    }
}

/// One step into an item: an index of an array, or a map's entry.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Index of an array.
    At(usize),
    /// The value of an integer key.
    Key(i64),
}

/// Finds the value at `path`.
#[must_use]
pub fn find(bytes: &[u8], path: &[Step]) -> Range<usize> {
    let mut at = 0;
    for step in path {
        let (major, count, len) = head(bytes, at);
        at += len;
        match step {
            Step::At(index) => {
                assert!(major == 4 && *index < count, "no element {index}");
                at = (0..*index).fold(at, |at, _| skip(bytes, at));
            }
            Step::Key(key) => {
                assert_eq!(major, 5, "not a map");
                let wanted = encode(&Value::Integer((*key).into()));
                let mut left = count;
                loop {
                    assert_ne!(left, 0, "no key {key}");
                    let end = skip(bytes, at);
                    let found = bytes[at..end] == wanted;
                    at = end;
                    if found {
                        break;
                    }
                    at = skip(bytes, at);
                    left -= 1;
                }
            }
        }
    }
    at..skip(bytes, at)
}

/// Puts `item` in place of the value at `path`.
pub fn put(bytes: &mut Vec<u8>, path: &[Step], item: &[u8]) {
    let range = find(bytes, path);
    bytes.splice(range, item.iter().copied());
}

/// The value at `path`, decoded, changed and encoded again as it then is.
pub fn edit(bytes: &mut Vec<u8>, path: &[Step], change: impl FnOnce(&mut Value)) {
    let range = find(bytes, path);
    let mut value: Value = ciborium::from_reader(&bytes[range]).unwrap();
    change(&mut value);
    put(bytes, path, &encode(&value));
}

/// Changes the entries of the map at `path`.
pub fn edit_map(bytes: &mut Vec<u8>, path: &[Step], change: impl FnOnce(&mut Vec<(Value, Value)>)) {
    edit(bytes, path, |value| change(value.as_map_mut().unwrap()));
}

/// Changes the elements of the array at `path`.
pub fn edit_list(bytes: &mut Vec<u8>, path: &[Step], change: impl FnOnce(&mut Vec<Value>)) {
    edit(bytes, path, |value| change(value.as_array_mut().unwrap()));
}

/// Encoded exactly as the value stands: order and repetition of keys are kept.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// A byte string in its shortest form.
#[must_use]
pub fn byte_string(bytes: &[u8]) -> Vec<u8> {
    encode(&Value::Bytes(bytes.to_vec()))
}

/// An integer value.
#[must_use]
pub fn int(value: impl Into<i128>) -> Value {
    Value::Integer(value.into().try_into().unwrap())
}

/// A text value.
#[must_use]
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
