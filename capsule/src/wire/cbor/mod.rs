//! The CBOR profile of headers and manifests (capsule-v1 §5.1).
//!
//! A strict scan runs over the raw bytes; only what passes is read into a tree, whose encoding must
//! then give the same bytes again. General decoders accept far more than one form, and take several
//! times as long.

mod field;
mod value;

use std::ops::Range;

use crate::{
    error::{Code, Error, Result},
    limits::{CBOR_DEPTH, CBOR_ITEMS},
};

pub(crate) use field::Field;
pub(crate) use value::{Value, array, bytes, encode, encode_map, int, map, text, uint};

/// A bounded cursor over raw CBOR.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    items: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Major {
    Unsigned,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Simple,
}

fn fail(code: Code, what: &'static str, at: usize) -> Error {
    Error::new(code, what).at(format_args!("byte {at}"))
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            items: 0,
        }
    }

    /// The next byte, not taken.
    pub(crate) fn peek(&self) -> Result<u8> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or_else(|| fail(Code::CborMalformed, "an item is missing", self.at))
    }

    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.at.checked_add(len));
        let part = end.and_then(|end| self.bytes.get(self.at..end));
        let part =
            part.ok_or_else(|| fail(Code::CborMalformed, "an item runs past the end", self.at))?;
        self.at += part.len();
        Ok(part)
    }

    /// One head in its shortest form: the major type and its argument.
    pub(crate) fn head(&mut self) -> Result<(Major, u64)> {
        let start = self.at;
        let first = self.peek()?;
        self.at += 1;
        let (major, info) = (first >> 5, first & 31);
        if (28..=30).contains(&info) || (info == 31 && matches!(major, 0 | 1 | 6 | 7)) {
            return Err(fail(Code::CborMalformed, "a reserved head", start));
        }
        let major = match major {
            0 => Major::Unsigned,
            1 => Major::Negative,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            7 if matches!(info, 20 | 21) => Major::Simple,
            6 => return Err(fail(Code::CborForbidden, "a tag", start)),
            _ => {
                return Err(fail(
                    Code::CborForbidden,
                    "a float or a simple value other than true and false",
                    start,
                ));
            }
        };
        if info == 31 {
            return Err(fail(Code::CborNotCanonical, "an indefinite length", start));
        }
        let (argument, least) = match info {
            24 => (u64::from(self.argument::<1>()?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(self.argument()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.argument()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.argument()?), 1 << 32),
            small => (u64::from(small), 0),
        };
        if argument < least {
            return Err(fail(
                Code::CborNotCanonical,
                "a head that is not in its shortest form",
                start,
            ));
        }
        self.items += 1;
        if self.items > CBOR_ITEMS {
            return Err(fail(Code::CborLimit, "too many items", start));
        }
        Ok((major, argument))
    }

    fn argument<const N: usize>(&mut self) -> Result<[u8; N]> {
        let len = u64::try_from(N).unwrap_or(u64::MAX);
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(len)?);
        Ok(bytes)
    }

    fn count(&self, count: u64, start: usize) -> Result<()> {
        if count > CBOR_ITEMS.saturating_sub(self.items) {
            return Err(fail(Code::CborLimit, "too many items", start));
        }
        Ok(())
    }

    /// One whole item, nested at `depth` containers.
    pub(crate) fn item(&mut self, depth: u32) -> Result<Range<usize>> {
        let start = self.at;
        let (major, argument) = self.head()?;
        match major {
            Major::Unsigned | Major::Negative | Major::Simple => {}
            Major::Bytes => {
                self.take(argument)?;
            }
            Major::Text => {
                self.text(argument, start)?;
            }
            Major::Array => {
                self.nest(depth, argument, start)?;
                for _ in 0..argument {
                    self.item(depth + 1)?;
                }
            }
            Major::Map => {
                self.nest(depth, argument.saturating_mul(2), start)?;
                let mut keys = Keys::default();
                for _ in 0..argument {
                    self.key(&mut keys, depth + 1)?;
                    self.item(depth + 1)?;
                }
            }
        }
        Ok(start..self.at)
    }

    /// Reads one whole item that [`Self::item`] has passed, whose counts and depth are within limits.
    /// Into its place: moving values about takes as long as reading them.
    fn value(&mut self, into: &mut Value) -> Result<()> {
        let start = self.at;
        let (major, argument) = self.head()?;
        let count = usize::try_from(argument).unwrap_or(usize::MAX);
        *into = match major {
            Major::Unsigned => Value::Unsigned(argument),
            Major::Negative => Value::Negative(argument),
            Major::Bytes => Value::Bytes(self.take(argument)?.to_vec()),
            Major::Text => Value::Text(self.text(argument, start)?.to_owned()),
            Major::Array => {
                let mut items = Vec::with_capacity(count);
                items.resize_with(count, || Value::Bool(false));
                items.iter_mut().try_for_each(|item| self.value(item))?;
                Value::Array(items)
            }
            Major::Map => {
                let mut entries = Vec::with_capacity(count);
                entries.resize_with(count, || (Value::Bool(false), Value::Bool(false)));
                for (key, value) in &mut entries {
                    self.value(key)?;
                    self.value(value)?;
                }
                Value::Map(entries)
            }
            Major::Simple => Value::Bool(argument == 21),
        };
        Ok(())
    }

    fn text(&mut self, len: u64, start: usize) -> Result<&'a str> {
        let text = str::from_utf8(self.take(len)?);
        text.map_err(|_| fail(Code::CborMalformed, "a text that is not UTF-8", start))
    }

    /// The head of the outermost map, whose first byte is one: how many pairs follow.
    pub(crate) fn pairs(&mut self) -> Result<u64> {
        let start = self.at;
        let (_, count) = self.head()?;
        self.nest(0, count.saturating_mul(2), start)?;
        Ok(count)
    }

    fn nest(&self, depth: u32, count: u64, start: usize) -> Result<()> {
        if depth >= CBOR_DEPTH {
            return Err(fail(Code::CborLimit, "nested too deeply", start));
        }
        self.count(count, start)
    }

    /// One key of a map, greater than the one before.
    pub(crate) fn key(&mut self, keys: &mut Keys<'a>, depth: u32) -> Result<&'a [u8]> {
        let first = self.peek()?;
        if !matches!(first >> 5, 0 | 1 | 3) {
            // let the head's own rules speak first
            self.item(depth)?;
            return Err(fail(
                Code::CborForbidden,
                "a map key that is neither integer nor text",
                self.at,
            ));
        }
        let range = self.item(depth)?;
        let start = range.start;
        let key = self.bytes.get(range).unwrap_or_default();
        keys.next(key, start)?;
        Ok(key)
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(fail(Code::CborTrailing, "bytes follow the item", self.at))
    }
}

/// The order of a map's keys.
#[derive(Default)]
pub(crate) struct Keys<'a> {
    last: Option<&'a [u8]>,
}

impl<'a> Keys<'a> {
    fn next(&mut self, key: &'a [u8], at: usize) -> Result<()> {
        match self.last.map(|last| last.cmp(key)) {
            Some(std::cmp::Ordering::Equal) => {
                return Err(fail(Code::CborDuplicateKey, "a key stands twice", at));
            }
            Some(std::cmp::Ordering::Greater) => {
                return Err(fail(Code::CborNotCanonical, "keys are not in order", at));
            }
            _ => self.last = Some(key),
        }
        Ok(())
    }
}

/// Checks that `bytes` are exactly one item of the CBOR profile (capsule-v1 §5.1), before any general decoder
/// sees them.
///
/// # Errors
/// KVC-201 to 206, of the first rule that is broken.
pub fn check_cbor(bytes: &[u8]) -> Result<()> {
    let mut scanner = Scanner::new(bytes);
    scanner.item(0)?;
    scanner.end()
}

/// Scans `bytes` as exactly one item and decodes it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value> {
    check_cbor(bytes)?;
    decode_scanned(bytes)
}

/// Decodes bytes that a [`Scanner`] has passed.
pub(crate) fn decode_scanned(bytes: &[u8]) -> Result<Value> {
    let mut value = Value::Bool(false);
    Scanner::new(bytes).value(&mut value)?;
    if encode(&value) != bytes {
        return Err(Error::new(
            Code::CborNotCanonical,
            "encoding the item again gives other bytes",
        ));
    }
    Ok(value)
}

/// Where the values of unsigned keys, which ascend, stand in a map that has passed the scan.
pub(crate) fn raw_ranges<const N: usize>(
    bytes: &[u8],
    keys: [u64; N],
) -> Option<[Range<usize>; N]> {
    let mut scanner = Scanner::new(bytes);
    let (Major::Map, _) = scanner.head().ok()? else {
        return None;
    };
    let mut ranges = [const { 0..0 }; N];
    for (range, wanted) in ranges.iter_mut().zip(keys) {
        loop {
            let mut key = Scanner::new(bytes.get(scanner.item(1).ok()?)?);
            let found = key.head().ok()? == (Major::Unsigned, wanted);
            *range = scanner.item(1).ok()?;
            if found {
                break;
            }
        }
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the scan alone says, which decoding says too.
    fn code(bytes: &[u8]) -> Option<u16> {
        let number = |error: Error| error.code().number();
        let mut scanner = Scanner::new(bytes);
        let scanned = scanner.item(0).and_then(|_| scanner.end());
        let scanned = scanned.err().map(number);
        assert_eq!(decode(bytes).err().map(number), scanned, "{bytes:02x?}");
        scanned
    }

    #[test]
    fn accepts_the_deterministic_form() {
        for good in [
            &[0x00][..],
            &[0x18, 24],
            &[0x20],
            &[0x43, 1, 2, 3],
            &[0x61, b'a'],
            &[0x82, 1, 2],
            &[0xA2, 1, 2, 3, 4],
            &[0xF4],
            &[0xF5],
            &[0xA2, 0x18, 0x64, 1, 0x20, 2],
        ] {
            assert_eq!(code(good), None, "{good:02x?}");
        }
    }

    /// The scan takes the shortest head alone, so that what it passes has one.
    #[test]
    fn every_head_is_written_in_its_shortest_form() {
        let edges = [0, 1 << 8, 1 << 16, 1 << 32, 24, u64::MAX, 1 << 63];
        for edge in edges.iter().flat_map(|edge| [edge.wrapping_sub(1), *edge]) {
            for value in [uint(edge), Value::Negative(edge)] {
                assert_eq!(decode(&encode(&value)).unwrap(), value);
            }
        }
        for len in [0, 23, 24, 255, 256, 65_535, 65_536] {
            let items = array((0..len).map(uint));
            let bytes = bytes(vec![7; usize::try_from(len).unwrap()]);
            for value in [items, bytes] {
                assert_eq!(decode(&encode(&value)).unwrap(), value);
            }
        }
        for number in [i64::MIN, -256, -25, -24, -1, 0, i64::MAX] {
            let value = decode(&encode(&int(number))).unwrap();
            let field = Field::new(&value, "", Code::CborMalformed);
            assert_eq!(field.int().unwrap(), number);
        }
        for wide in [Value::Negative(1 << 63), uint(1 << 63)] {
            let field = Field::new(&wide, "", Code::CborMalformed);
            assert!(field.int().is_err());
        }
    }

    #[test]
    fn items_are_counted_over_all_containers() {
        // one array of arrays: 1 + 512 + 512 · (items of each)
        let nested = |inner: u64| encode(&array((0..512).map(|_| array((0..inner).map(uint)))));
        assert_eq!(code(&nested(510)), None);
        assert_eq!(code(&nested(511)), Some(204));
    }

    #[test]
    fn refuses_everything_else() {
        let mut deep = vec![0x81; 8];
        deep.push(0x81);
        deep.push(0);
        let deep_ok = [&[0x81; 8][..], &[0]].concat();
        assert_eq!(code(&deep_ok), None);
        for (bytes, want) in [
            (&[][..], 201),
            (&[0x18, 23], 202),
            (&[0x19, 0, 255], 202),
            (&[0x1A, 0, 0, 255, 255], 202),
            (&[0x1B, 0, 0, 0, 0, 255, 255, 255, 255], 202),
            (&[0x1C], 201),
            (&[0x1F], 201),
            (&[0x58, 1, 0], 202),
            (&[0x42, 0], 201),
            (&[0x62, 0xC3, 0x28], 201),
            (&[0x5F, 0xFF], 202),
            (&[0x7F, 0xFF], 202),
            (&[0x9F, 0xFF], 202),
            (&[0xBF, 0xFF], 202),
            (&[0xFF], 201),
            (&[0xF6], 205),
            (&[0xF7], 205),
            (&[0xF8, 32], 205),
            (&[0xF9, 0x3C, 0], 205),
            (&[0xF9, 0x7E, 0], 205),
            (&[0xC2, 0x41, 1], 205),
            (&[0xD8, 0x64, 1], 205),
            (&[0xA1, 0x41, 0, 1], 205),
            (&[0xA2, 1, 0, 1, 0], 203),
            (&[0xA2, 2, 0, 1, 0], 202),
            (&[0xA2, 0x20, 0, 0x18, 0x64, 0], 202),
            (&[0x00, 0x00], 206),
            (&[0x9B, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], 204),
            (&[0xBB, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], 204),
            (&[0x5B, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], 201),
            (&deep, 204),
        ] {
            assert_eq!(code(bytes), Some(want), "{bytes:02x?}");
        }
    }
}
