//! A capsule that a relay keeps, read in ranges (http-v1 §7): who wants a part of it fetches no more than that part.

use std::{fmt, io, ops::Range, thread::sleep};

use kvcap::{CapsuleId, ReadAt, Result, Untrusted};
use kvcap_store::{Ahead, Piece};

use super::relay::{Content, PAUSE, Relay, Reply, TRIES, another, broken, odd};

/// Bytes that are fetched first: most headers, and the tables of a short capsule.
const HEAD: u64 = 64 << 10;

/// A capsule that a relay keeps, to be read in any order. Nothing of it is verified.
pub struct KeptCapsule<'a> {
    relay: &'a Relay,
    id: CapsuleId,
    len: u64,
    /// The file's tag: while it is read, no other takes its place unnoticed.
    tag: String,
    head: Vec<u8>,
    ahead: Ahead<Vec<u8>>,
}

impl fmt::Debug for KeptCapsule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptCapsule")
            .field("relay", self.relay)
            .field("id", &self.id)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Opens a capsule that is kept, and reads its header; `None` where it is not there.
    ///
    /// # Errors
    /// The codes of a refusal; as [`Untrusted::read_at`]; KVC-413 where the relay gives another capsule; 940.
    pub fn open(&self, id: CapsuleId) -> Result<Option<(Untrusted, KeptCapsule<'_>)>> {
        let Some(found) = self.range(id, 0..HEAD, None)? else {
            return Ok(None);
        };
        let capsule = KeptCapsule {
            relay: self,
            id,
            len: found.len,
            tag: found.tag,
            head: found.bytes,
            ahead: Ahead::default(),
        };
        let untrusted = Untrusted::read_at(&capsule, &kvcap::Limits::default())?;
        match untrusted.claims().id == id {
            true => Ok(Some((untrusted, capsule))),
            false => Err(another(id)),
        }
    }

    /// Reads a range of a capsule, or what the file has of it, and goes on asking where a connection breaks.
    fn range(&self, id: CapsuleId, wanted: Range<u64>, tag: Option<&str>) -> Result<Option<Found>> {
        let last = wanted.end.saturating_sub(1);
        let mut fields = vec![("range", format!("bytes={}-{last}", wanted.start))];
        if let Some(tag) = tag {
            fields.push(("if-range", tag.to_owned()));
        }
        let mut tried = 0;
        loop {
            let asked = self.ask("GET", &format!("/v1/capsules/{id}"), &fields, Content::None);
            let failed = match asked {
                Ok(reply) if reply.status == 404 => return Ok(None),
                Ok(reply) if reply.status == 206 => match Found::read(reply, &wanted)? {
                    Ok(found) => return Ok(Some(found)),
                    Err(error) => broken(&self.address, error),
                },
                Ok(reply) if reply.status == 200 => {
                    return Err(odd(match tag {
                        Some(_) => "another file has taken the capsule's place while it was read",
                        None => "it gives no ranges",
                    }));
                }
                Ok(reply) => {
                    return Err(reply
                        .json()
                        .err()
                        .unwrap_or_else(|| odd("it gives no capsule")));
                }
                Err(error) => error,
            };
            tried += 1;
            if tried > TRIES {
                return Err(failed);
            }
            sleep(PAUSE * 2_u32.pow(tried));
        }
    }
}

/// A range that a relay has given.
struct Found {
    bytes: Vec<u8>,
    /// Length of the whole file.
    len: u64,
    tag: String,
}

impl Found {
    /// Reads an answer to a question for `wanted`. The inner error is that of the connection.
    fn read(mut reply: Reply, wanted: &Range<u64>) -> Result<io::Result<Self>> {
        let other = || odd("it gives another range than it was asked for");
        let (range, len) = reply
            .field("content-range")
            .and_then(content_range)
            .ok_or_else(other)?;
        if range.start != wanted.start || range.end != wanted.end.min(len) {
            return Err(other());
        }
        let tag = reply
            .field("etag")
            .ok_or_else(|| odd("its capsule has no tag"))?
            .to_owned();
        let expected = range.end - range.start;
        let body = reply.response.body_mut().with_config().limit(expected);
        let bytes = match body.read_to_vec() {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error.into_io())),
        };
        Ok(match u64::try_from(bytes.len()) == Ok(expected) {
            true => Ok(Self { bytes, len, tag }),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }
}

/// A range of bytes and the length of the whole (RFC 9110 §14.4).
fn content_range(field: &str) -> Option<(Range<u64>, u64)> {
    let (range, len) = field.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let len = len.parse().ok()?;
    (first <= last && last < len).then_some((first..last + 1, len))
}

impl ReadAt for KeptCapsule<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let ends = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let len = u64::try_from(buf.len()).map_err(|_| ends())?;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(ends());
        }
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        if let Some(part) = self.head.get(from..from.saturating_add(buf.len())) {
            buf.copy_from_slice(part);
            return Ok(());
        }
        self.ahead.read(offset, buf, |wanted, until| {
            let found = self
                .relay
                .range(self.id, wanted.start..until, Some(&self.tag));
            let gone = || io::Error::from(io::ErrorKind::NotFound);
            Ok(Piece {
                start: wanted.start,
                bytes: found.map_err(io::Error::other)?.ok_or_else(gone)?.bytes,
            })
        })
    }

    fn will_read(&self, range: Range<u64>) {
        let head = u64::try_from(self.head.len()).unwrap_or(u64::MAX);
        let rest = range.start.max(head.min(range.end))..range.end.min(self.len);
        if !rest.is_empty() {
            self.ahead.will_read(rest);
        }
    }
}
