//! Versions as a relay keeps them: a record, and the events that it has seen since the version before, in a capsule of the
//! history-only form (session-v1 §11.1).

use kvcap::{
    Code, Error, Opened, ReadAt, Recipient, Result, Sealed, SectionKind, SigningKey, Suite, Terms,
    WriteAt,
};
use serde::{Deserialize, Serialize};

use crate::{
    event::{Event, MAX_EVENT},
    log::Head,
    names::Names,
    record::{CapsuleEntry, Form, Record},
    sealed::{opened_history, seal_sections},
    value,
};

/// Name of the section that holds events.
pub const LOG: &str = "log";
/// Longest such section, in bytes.
pub const MAX_LOG: u64 = 256 << 20;
/// Longest first item, in bytes.
const MAX_PIECE: usize = 1 << 20;
/// Least time for which a sealed version may be renewed, in seconds.
const RENEWABLE: u64 = 365 * 24 * 3600;

/// A version of a session as it leaves the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedVersion {
    /// The record.
    pub record: Record,
    /// Id of the session that began the log.
    pub origin: String,
    /// Time at which the session was made, in seconds since 1970.
    pub created: u64,
    /// Cursor of the version before, 0 where there is none.
    pub after: u64,
    /// The events after it, up to the record's cursor.
    pub events: Vec<Event>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    form: Form,
    origin: String,
    created: u64,
    after: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capsule: Option<CapsuleEntry>,
}

impl SealedVersion {
    /// Returns the names of the session that began the log.
    #[must_use]
    pub fn origin(&self) -> Names {
        Names {
            session: self.origin.clone(),
            ..self.record.names()
        }
    }

    /// Returns the head that the first of the events goes on from.
    ///
    /// # Errors
    /// KVC-951 for names that are no claims.
    pub fn before(&self) -> Result<Head> {
        match (self.after, self.events.first()) {
            (0, _) => Head::origin(&self.origin()),
            (seq, Some(first)) => Ok(Head {
                seq,
                digest: first.previous,
            }),
            (_, None) => Ok(self.record.log_head()),
        }
    }

    /// Checks that the events follow one another from the version before to the record's head.
    ///
    /// # Errors
    /// KVC-952 where one is missing; 953 where they are of another log; 950, 951.
    pub fn check(&self) -> Result<()> {
        let mut head = self.before()?;
        if head.seq != self.after {
            let what = "the version holds no events, and has seen some";
            return Err(Error::new(Code::SessionGap, what).sides(self.after, head.seq));
        }
        for event in &self.events {
            head = head.follow(event)?;
        }
        let cursor = self.record.replay_cursor;
        if head.seq != cursor {
            let what = "the version's events do not end at its cursor";
            return Err(Error::new(Code::SessionGap, what).sides(cursor, head.seq));
        }
        self.record.log_head().is_reached(head)
    }

    /// Seals it, for who may read the session.
    ///
    /// # Errors
    /// As [`Self::check`] and [`crate::seal_history`]; KVC-951 for more than [`MAX_LOG`] bytes of events.
    pub fn seal<'a, W: WriteAt>(
        &self,
        out: W,
        suite: Suite,
        terms: Terms,
        signer: &'a SigningKey,
        recipients: &[impl Into<Recipient<'a>> + Copy],
    ) -> Result<(W, Sealed)> {
        self.check()?;
        let mut sections = self.record.sections()?;
        sections.push((SectionKind::Other(LOG.to_owned()), self.log()?));
        let mut terms = terms;
        terms.session = Some(kvcap::Session {
            id: self.record.session.clone(),
            version: self.record.version,
            replay_cursor: self.record.replay_cursor,
        });
        terms.renew_until = terms
            .renew_until
            .max(terms.issued_at.saturating_add(RENEWABLE));
        seal_sections(out, &sections, suite, terms, signer, recipients)
    }

    fn log(&self) -> Result<Vec<u8>> {
        let piece = Piece {
            form: Form,
            origin: self.origin.clone(),
            created: self.created,
            after: self.after,
            capsule: self.record.capsule.clone(),
        };
        let mut log = Vec::new();
        push(&mut log, &value::to_cbor(&piece, MAX_PIECE)?)?;
        for event in &self.events {
            push(&mut log, &event.to_cbor()?)?;
        }
        Ok(log)
    }

    /// Returns the version that a capsule holds, of a session of these names.
    ///
    /// # Errors
    /// KVC-956 where it holds none; 950 for another session's; 951, 201 to 206; as [`Self::check`]; those of opening.
    pub fn opened<S: ReadAt>(opened: &Opened<S>, names: &Names) -> Result<Self> {
        let record = opened_history(opened)?;
        let kind = SectionKind::Other(LOG.to_owned());
        let mut sections = opened.manifest().context.streams.iter();
        let long = sections.any(|stream| {
            matches!(stream, kvcap::Stream::Section(section) if section.kind == kind && section.len > MAX_LOG)
        });
        if long {
            return Err(too_long());
        }
        let Some(log) = opened.section(&kind)? else {
            let what = "the capsule is no version of a session";
            return Err(Error::new(Code::SessionEmpty, what));
        };
        Self::of(record, &log, names)
    }

    /// Returns the version that two sections hold, of a session of these names.
    ///
    /// # Errors
    /// As [`Self::opened`], but those of opening.
    pub fn from_sections(history: &[u8], log: &[u8], names: &Names) -> Result<Self> {
        Self::of(Record::from_cbor(history)?, log, names)
    }

    fn of(mut record: Record, log: &[u8], names: &Names) -> Result<Self> {
        if record.names() != *names {
            let what = "the version is of another session";
            return Err(Error::new(Code::SessionMalformed, what).at("history"));
        }
        let mut rest = log;
        let Some(first) = item(&mut rest)? else {
            return Err(malformed());
        };
        let piece: Piece = value::from_cbor(first, MAX_PIECE)?;
        record.capsule = piece.capsule;
        let mut events = Vec::new();
        while let Some(bytes) = item(&mut rest)? {
            events.push(Event::from_cbor(bytes)?);
        }
        let version = Self {
            record,
            origin: piece.origin,
            created: piece.created,
            after: piece.after,
            events,
        };
        version.origin().check()?;
        // with its capsule it is still a record
        version.record.to_cbor()?;
        version.check()?;
        Ok(version)
    }
}

fn push(log: &mut Vec<u8>, item: &[u8]) -> Result<()> {
    let len = u32::try_from(item.len()).map_err(|_| too_long())?;
    log.extend_from_slice(&len.to_le_bytes());
    log.extend_from_slice(item);
    let whole = u64::try_from(log.len()).unwrap_or(u64::MAX);
    if whole > MAX_LOG {
        return Err(too_long());
    }
    Ok(())
}

/// The next item; `None` at the end.
fn item<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (len, after) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| malformed())?;
    if len > MAX_EVENT.max(MAX_PIECE) {
        return Err(too_long());
    }
    let (item, after) = after.split_at_checked(len).ok_or_else(malformed)?;
    *rest = after;
    Ok(Some(item))
}

fn malformed() -> Error {
    let what = "the items of a version's events are malformed";
    Error::new(Code::SessionMalformed, what).at(LOG)
}

fn too_long() -> Error {
    let what = "a version has more events than it may: save the session more often";
    Error::new(Code::SessionLimit, what).sides(format_args!("at most {MAX_LOG} bytes"), "more")
}
