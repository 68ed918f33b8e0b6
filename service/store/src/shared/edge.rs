//! Pieces of objects, and tenants' requests, in a Valkey or Redis (http-v1 HTTP-K-10 … HTTP-K-13).
//!
//! A piece is kept under its object's key, which no other bytes ever have, and is looked for after the database has
//! named the object: what was removed or replaced is not found, whatever is left of it here.

use std::{
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use kvcap::binding::Digest;
use redis::{Cmd, FromRedisValue, cmd};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    blocking::Blocking,
    valkey::{Answer, Valkey},
};
use crate::{
    Space,
    edge::{Edge, EdgeOutcomes, EdgeSettings, Measure, Told},
};

/// Bytes of a piece, but for the last of its object.
const PIECE: u64 = 256 << 10;

/// Pieces of one question.
const PIECES: usize = 4;

/// Capsules that are brought to the edge at once; more are not.
const BRINGING: usize = 8;

/// Seconds that a piece stays: what was removed while the edge was away is gone by then.
const STAYS: u32 = 3600;

/// Bytes after each piece, by which a relay knows that it was one who brought it.
const PROOF: usize = 32;

/// Keeps pieces of an object, and of a space its newest objects.
///
/// KEYS: the list of the space, the object. ARGV: objects, seconds, then numbers of pieces and their bytes.
const KEEP: &str = "
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
if redis.call('TTL', KEYS[2]) < 0 then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
local old = redis.call('ZRANGE', KEYS[1], 0, -1 - ARGV[1])
for _, object in ipairs(old) do
    redis.call('UNLINK', object)
    redis.call('ZREM', KEYS[1], object)
end
return 0
";

/// Counts requests of a tenant, and returns what is left of its measure.
///
/// KEYS: the tenant. ARGV: requests of a second, requests at once, requests that were let through.
const COUNT: &str = "
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rate, full = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'left', 'since')
local left = full
if kept[1] and kept[2] then
    left = math.min(full, tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * rate)
end
left = math.max(-full, left - tonumber(ARGV[3]))
local stays = 86400
if rate > 0 then stays = math.min(stays, math.ceil((full - left) / rate) + 1) end
redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'since', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], stays)
return string.format('%.6f', left)
";

/// An edge.
pub(super) struct ValkeyEdge {
    asked: Asked,
    key: [u8; 32],
    bytes: u64,
    capsules: u32,
    bringing: Arc<Semaphore>,
}

/// A server, and what came of asking it.
#[derive(Clone)]
struct Asked {
    valkey: Valkey,
    outcomes: Arc<Outcomes>,
}

#[derive(Default)]
struct Outcomes {
    hits: AtomicU64,
    misses: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
    passed: AtomicU64,
}

impl fmt::Debug for ValkeyEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValkeyEdge")
    }
}

/// An object as the edge knows it.
#[derive(Clone)]
pub(super) struct AtEdge {
    edge: Arc<ValkeyEdge>,
    space: Space,
    object: String,
    len: u64,
}

impl ValkeyEdge {
    pub(super) fn new(valkey: Valkey, key: [u8; 32], settings: &EdgeSettings) -> Self {
        Self {
            asked: Asked {
                valkey,
                outcomes: Arc::default(),
            },
            key,
            bytes: settings.bytes,
            capsules: settings.capsules.max(1),
            bringing: Arc::new(Semaphore::new(BRINGING)),
        }
    }

    pub(super) fn object(self: &Arc<Self>, space: Space, object: &str, len: u64) -> AtEdge {
        AtEdge {
            edge: Arc::clone(self),
            space,
            object: object.to_owned(),
            len,
        }
    }

    fn blocking(&self) -> &Blocking {
        self.asked.valkey.blocking()
    }
}

impl Asked {
    async fn ask<T: FromRedisValue>(&self, question: &Cmd) -> Option<T> {
        let count = match self.valkey.ask(question).await {
            Answer::Told(told) => return Some(told),
            Answer::Failed => &self.outcomes.failed,
            Answer::Passed => &self.outcomes.passed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Edge for ValkeyEdge {
    fn count(&self, tenant: Option<&str>, requests: u32, measure: Measure, told: Told) {
        let key = format!("kvcap:{{{}}}:requests", Space::of(tenant, None).name());
        let mut question = cmd("EVAL");
        question.arg(COUNT).arg(1).arg(key);
        question.arg(measure.rate).arg(measure.burst).arg(requests);
        let (asked, full) = (self.asked.clone(), f64::from(measure.burst));
        self.blocking().spawn(async move {
            let left = asked.ask::<String>(&question).await;
            let left = left.and_then(|left| left.parse().ok());
            let left = left.filter(|left: &f64| left.is_finite());
            told(left.map(|left| left.clamp(-full, full)));
        });
    }

    fn outcomes(&self) -> EdgeOutcomes {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let outcomes = &self.asked.outcomes;
        EdgeOutcomes {
            hits: of(&outcomes.hits),
            misses: of(&outcomes.misses),
            wrong: of(&outcomes.wrong),
            failed: of(&outcomes.failed),
            passed: of(&outcomes.passed),
        }
    }
}

/// What the edge had of a range.
pub(super) enum Found {
    /// All of it: whole pieces around it.
    Whole(Range<u64>, Bytes),
    /// Not all: pieces around it that are to be read elsewhere, and then to be brought.
    Missing(Range<u64>),
    /// It does not keep this, or does not answer.
    Nothing,
}

impl AtEdge {
    /// The bytes of the object that an edge keeps: all, or the beginning of one that is too long.
    fn kept(&self) -> u64 {
        match self.len <= self.edge.bytes {
            true => self.len,
            false => PIECE.min(self.len),
        }
    }

    /// Looks for `wanted`, and for what is ahead of it up to `until`.
    pub(super) async fn find(&self, wanted: Range<u64>, until: u64) -> Found {
        let kept = self.kept();
        if wanted.end > kept || wanted.is_empty() {
            return Found::Nothing;
        }
        let first = wanted.start / PIECE;
        let end = until.min(kept).div_ceil(PIECE);
        let around = first * PIECE..(end * PIECE).min(kept);
        let mut bytes = BytesMut::new();
        let numbers: Vec<u64> = (first..end).collect();
        for numbers in numbers.chunks(PIECES) {
            let mut question = cmd("HMGET");
            question.arg(self.name()).arg(numbers);
            let pieces = self.edge.asked.ask::<Vec<Option<Vec<u8>>>>(&question);
            let Some(pieces) = pieces.await else {
                return Found::Nothing;
            };
            for (number, piece) in numbers.iter().zip(&pieces) {
                let outcomes = &self.edge.asked.outcomes;
                let proven = piece.as_ref().map(|piece| self.proven(*number, piece));
                let (count, piece) = match proven {
                    Some(Some(piece)) => (&outcomes.hits, Some(piece)),
                    Some(None) => (&outcomes.wrong, None),
                    None => (&outcomes.misses, None),
                };
                count.fetch_add(1, Ordering::Relaxed);
                match piece {
                    Some(piece) => bytes.extend_from_slice(piece),
                    None => return Found::Missing(around),
                }
            }
        }
        match u64::try_from(bytes.len()) == Ok(around.end - around.start) {
            true => Found::Whole(around, bytes.freeze()),
            false => Found::Missing(around),
        }
    }

    /// Brings whole pieces that were read elsewhere, beside its caller; or not, if much is being brought.
    pub(super) fn bring(&self, from: u64, bytes: Bytes) {
        let Some(room) = self.room() else {
            return;
        };
        let own = self.clone();
        self.edge.blocking().spawn(async move {
            let _room = room;
            let piece = usize::try_from(PIECE).unwrap_or(usize::MAX);
            for (number, piece) in (from / PIECE..).zip(bytes.chunks(piece)) {
                if !own.keep(number, piece).await {
                    return;
                }
            }
        });
    }

    /// Brings a new object from the file that it was put together in.
    pub(super) fn bring_file(self, mut file: File) {
        let Some(room) = self.room() else {
            return;
        };
        let blocking = self.edge.blocking().clone();
        blocking.clone().spawn(async move {
            let (_room, kept) = (room, self.kept());
            for number in 0..kept.div_ceil(PIECE) {
                let reading = blocking.aside(move || {
                    let mut piece = Vec::new();
                    let from = number * PIECE;
                    file.seek(SeekFrom::Start(from))?;
                    Read::by_ref(&mut file)
                        .take(PIECE.min(kept - from))
                        .read_to_end(&mut piece)
                        .map(|_| (file, piece))
                });
                let Ok(Ok((back, piece))) = reading.await else {
                    return;
                };
                file = back;
                if !self.keep(number, &piece).await {
                    return;
                }
            }
        });
    }

    /// Takes an object away that was removed, beside its caller. Where that fails, it goes by itself.
    pub(super) fn forget(self) {
        let blocking = self.edge.blocking().clone();
        blocking.spawn(async move {
            let (mut one, mut list) = (cmd("UNLINK"), cmd("ZREM"));
            one.arg(self.name());
            list.arg(self.list()).arg(self.name());
            if self.edge.asked.ask::<u64>(&one).await.is_some() {
                let _later = self.edge.asked.ask::<u64>(&list).await;
            }
        });
    }

    async fn keep(&self, number: u64, piece: &[u8]) -> bool {
        let mut proven = piece.to_vec();
        proven.extend_from_slice(&self.proof(number, piece));
        let mut question = cmd("EVAL");
        question.arg(KEEP).arg(2).arg(self.list()).arg(self.name());
        question.arg(self.edge.capsules).arg(STAYS);
        question.arg(number).arg(proven);
        self.edge.asked.ask::<u64>(&question).await.is_some()
    }

    fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.edge.bringing).try_acquire_owned().ok()
    }

    /// The piece, if a relay has brought it as it is.
    fn proven<'a>(&self, number: u64, piece: &'a [u8]) -> Option<&'a [u8]> {
        let (piece, proof) = piece.split_at_checked(piece.len().checked_sub(PROOF)?)?;
        // by digests of both, so that the time tells nothing of where they differ
        let masked = |proof: &[u8]| Digest::labelled("kvcap edge proof", &[&self.edge.key, proof]);
        (masked(&self.proof(number, piece)) == masked(proof)).then_some(piece)
    }

    fn proof(&self, number: u64, piece: &[u8]) -> [u8; PROOF] {
        let len = u64::try_from(self.object.len()).unwrap_or(u64::MAX);
        let parts: [&[u8]; 5] = [
            &self.edge.key,
            &len.to_le_bytes(),
            self.object.as_bytes(),
            &number.to_le_bytes(),
            piece,
        ];
        Digest::labelled("kvcap v1 edge piece", &parts).0
    }

    // names in braces are of one slot, where there are several

    fn name(&self) -> String {
        format!("kvcap:{{{}}}:{}", self.space.name(), self.object)
    }

    fn list(&self) -> String {
        format!("kvcap:{{{}}}:newest", self.space.name())
    }
}
