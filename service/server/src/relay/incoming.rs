//! An upload while it comes: header, verdict, claim, chunks, end (http-v1 §5, steps 2 to 7). It does no network, and
//! is fed in pieces of any length.

use std::sync::Arc;

use axum::{body::Bytes, http::StatusCode};
use kvcap::{CapsuleId, Code, Error, Fed, IoSide, PausedBody, PushHeader, Untrusted};
use kvcap_store::{Arriving, Claimed, Coming, Entry, Space, Tag, Verdict};

use super::{
    Relay,
    answer::{Kind, Outcome},
    space,
};
use crate::{
    gates::Place,
    refusal::{Answer, Refusal},
    tokens::Token,
};

/// An upload that is on its way. Dropped, it leaves nothing.
pub(super) struct Incoming {
    relay: Arc<Relay>,
    caller: Arc<Token>,
    /// The id under which it is put, where the caller says one.
    wanted: Option<CapsuleId>,
    /// Its header alone is judged.
    check: bool,
    stage: Stage,
    received: u64,
    _place: Place,
}

enum Stage {
    /// The header, and its bytes so far.
    Header(PushHeader, Vec<u8>),
    Body(Box<Body>),
    /// No more bytes are needed.
    Decided(Outcome),
}

struct Body {
    verdict: Verdict,
    paused: PausedBody,
    arriving: Box<dyn Arriving>,
    tag: Tag,
}

impl Incoming {
    pub(super) fn new(
        relay: Arc<Relay>,
        caller: Arc<Token>,
        wanted: Option<CapsuleId>,
        check: bool,
        place: Place,
    ) -> Self {
        let header = PushHeader::new(&relay.policy().limits.reader());
        Self {
            relay,
            caller,
            wanted,
            check,
            stage: Stage::Header(header, Vec::new()),
            received: 0,
            _place: place,
        }
    }

    /// The space that it is for.
    pub(super) fn space(&self) -> Space {
        space(&self.caller)
    }

    /// Bytes that were taken so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Length of the file, once its header has been judged.
    pub(super) fn len(&self) -> Option<u64> {
        match &self.stage {
            Stage::Header(..) => None,
            Stage::Body(body) => Some(body.verdict.tip().file_len()),
            Stage::Decided(outcome) => Some(outcome.bytes),
        }
    }

    /// Whether the outcome is known without another byte.
    pub(super) fn is_decided(&self) -> bool {
        matches!(self.stage, Stage::Decided(_))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As the specification's table says; nothing is left then.
    pub(super) fn feed(mut self, pieces: &[Bytes]) -> Answer<Self> {
        for piece in pieces {
            self.relay.metrics.received(piece.len());
            self = self.feed_one(piece)?;
        }
        Ok(self)
    }

    fn feed_one(mut self, mut piece: &[u8]) -> Answer<Self> {
        if let Stage::Header(header, mut bytes) = self.stage {
            let before = piece;
            let fed = header.feed(&mut piece)?;
            let taken = before.len() - piece.len();
            bytes.extend_from_slice(before.get(..taken).unwrap_or_default());
            self.received += length(taken);
            self.stage = match fed {
                Fed::More(header) => Stage::Header(header, bytes),
                Fed::Header(untrusted) => Self::judged(
                    &self.relay,
                    &self.caller,
                    (self.wanted, self.check),
                    *untrusted,
                    &bytes,
                )?,
            };
        }
        if let Stage::Body(body) = self.stage {
            let body = body.feed(piece)?;
            self.stage = Stage::Body(Box::new(body));
        }
        // what comes after a decision is not looked at
        self.received += length(piece.len());
        Ok(self)
    }

    /// The header is there.
    fn judged(
        relay: &Arc<Relay>,
        caller: &Token,
        (wanted, check): (Option<CapsuleId>, bool),
        untrusted: Untrusted,
        header: &[u8],
    ) -> Answer<Stage> {
        let verdict = relay.judge_header(caller, untrusted, wanted)?;
        let (len, tag) = (verdict.tip().file_len(), Tag::of(header));
        let policy = relay.policy();
        if len > policy.limits.capsule {
            let what = "the capsule is longer than the relay keeps";
            return Err(Error::new(Code::ResourceBudget, what).into());
        }
        if check {
            return Ok(Stage::Decided(outcome(&verdict, tag, Kind::Checked)));
        }
        let (space, id) = (space(caller), verdict.tip().manifest().claims.id);
        let coming = Coming {
            tag,
            lineage: verdict.tip().lineage(),
            expires: verdict.tip().manifest().claims.terms.expires,
            tenant: caller.tenant.as_deref(),
            bytes: len,
        };
        let claimed = relay
            .store
            .claim((space, id), coming, policy.limits.tenant)?;
        let mut arriving = match claimed {
            Claimed::New(arriving) => arriving,
            Claimed::Kept => return Ok(Stage::Decided(outcome(&verdict, tag, Kind::There))),
            Claimed::Full => return Err(Refusal::Status(StatusCode::INSUFFICIENT_STORAGE)),
        };
        arriving.append(header).map_err(full)?;
        Ok(Stage::Body(Box::new(Body {
            paused: verdict.tip().push_body().pause(),
            verdict,
            arriving,
            tag,
        })))
    }

    /// No more bytes come: judges again, and makes the capsule durable.
    pub(super) fn finish(self) -> Answer<Outcome> {
        match self.stage {
            Stage::Header(header, _) => Err(header.end().into()),
            Stage::Decided(outcome) => Ok(outcome),
            Stage::Body(body) => body.finish(&self.relay, &self.caller, self.wanted),
        }
    }
}

impl Body {
    fn feed(mut self, piece: &[u8]) -> Answer<Self> {
        let push = self.verdict.tip().resume_body(self.paused)?;
        self.paused = push.feed(piece)?.pause();
        self.arriving.append(piece).map_err(full)?;
        Ok(self)
    }

    fn finish(self, relay: &Relay, caller: &Token, wanted: Option<CapsuleId>) -> Answer<Outcome> {
        let mut verdict = self.verdict;
        let arrived = verdict.tip().resume_body(self.paused)?.finish()?;
        let checked = arrived.checked();
        verdict.body_checked(&checked);
        let verdict = relay.conclude(caller, wanted, verdict)?;
        let outcome = outcome(&verdict, self.tag, Kind::Kept);
        let tip = verdict.tip();
        let entry = Entry {
            tag: self.tag,
            bytes: tip.file_len(),
            expires: outcome.expires,
            tenant: caller.tenant.clone(),
            lineage: tip.lineage(),
            parent: tip
                .manifest()
                .context
                .parent
                .as_ref()
                .map(|parent| parent.digest),
            sha256: None,
        };
        self.arriving.keep(entry)?;
        Ok(outcome)
    }
}

fn outcome(verdict: &Verdict, tag: Tag, kind: Kind) -> Outcome {
    let claims = &verdict.tip().manifest().claims;
    Outcome {
        id: claims.id,
        tag,
        bytes: verdict.tip().file_len(),
        expires: claims.terms.expires,
        unchecked: verdict
            .unchecked()
            .iter()
            .map(|check| check.name())
            .collect(),
        kind,
    }
}

/// A disk that is full is no fault of the request's.
fn full(error: Error) -> Refusal {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match (error.io_side(), error.io_kind()) {
        (Some(IoSide::Sink), Some(StorageFull | QuotaExceeded | FileTooLarge)) => {
            Refusal::Status(StatusCode::INSUFFICIENT_STORAGE)
        }
        _ => error.into(),
    }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
