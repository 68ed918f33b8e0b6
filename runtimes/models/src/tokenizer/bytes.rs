//! Tokens that a tokenizer's file holds in Base64: Tekken's and tiktoken's (model-id-v1 §6).

use kvcap::Result;

use super::{IDS, Vocabulary, malformed};

/// Tokens beside each other in one buffer: a token takes no memory of its own.
#[derive(Default)]
pub(super) struct Tokens {
    bytes: Vec<u8>,
    /// Id, and where its bytes end.
    ends: Vec<(u64, usize)>,
}

impl Tokens {
    /// As many tokens as a vocabulary may have, of which `bytes` bytes of Base64 are known to be there.
    pub(super) fn for_bytes(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes / 4 * 3),
            ends: Vec::new(),
        }
    }

    /// Appends the token that `text` is in Base64, with its padding.
    ///
    /// # Errors
    ///
    /// 930 where it is not, or there are more tokens than ids.
    pub(super) fn push(&mut self, id: u64, text: &[u8]) -> Result<()> {
        if u32::try_from(self.ends.len()).is_ok_and(|count| count < IDS)
            && decode(text, &mut self.bytes).is_some()
        {
            self.ends.push((id, self.bytes.len()));
            return Ok(());
        }
        Err(malformed("a token is not base64, or there are too many"))
    }

    /// The tokens as a vocabulary, sorted by id.
    pub(super) fn vocabulary(&self) -> Result<Vocabulary<'_>> {
        let mut vocabulary = Vocabulary(Vec::with_capacity(self.ends.len()));
        let mut start = 0;
        for (id, end) in &self.ends {
            let token = self.bytes.get(start..*end).unwrap_or_default();
            vocabulary.push(*id, token.into())?;
            start = *end;
        }
        vocabulary.sorted("one id stands for two tokens")
    }
}

/// RFC 4648 §4, the canonical form alone: whole groups, padding, no bits left over.
fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (groups, []) = text.as_chunks::<4>() else {
        return None;
    };
    for (at, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 != groups.len()) {
            return None;
        }
        let mut bits = 0_u32;
        for byte in group.iter().take(4 - padding) {
            bits = bits << 6 | value(*byte)?;
        }
        bits <<= 6 * u32::try_from(padding).ok()?;
        let [_, bytes @ ..] = bits.to_be_bytes();
        let (kept, rest) = bytes.split_at(3 - padding);
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend(kept);
    }
    Some(())
}

fn value(byte: u8) -> Option<u32> {
    Some(match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_canonical() {
        let read = |text: &str| {
            let mut out = Vec::new();
            decode(text.as_bytes(), &mut out).map(|()| out)
        };
        assert_eq!(read("").as_deref(), Some(&b""[..]));
        assert_eq!(read("Zg==").as_deref(), Some(&b"f"[..]));
        assert_eq!(read("Zm8=").as_deref(), Some(&b"fo"[..]));
        assert_eq!(read("Zm9v").as_deref(), Some(&b"foo"[..]));
        assert_eq!(read("/+9v").as_deref(), Some(&[0xff, 0xef, 0x6f][..]));
        for bad in [
            "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm 9", "Zm9v\n",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
