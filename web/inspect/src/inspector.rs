//! One capsule, from its first byte to its last.

use kvcap::{
    Error, Expected, Fed, Limits, PausedBody, PushHeader, Result, Stated, Trust, Unchecked,
    Verified,
};
use serde_json::{Value, json};

use crate::{
    request::{Request, refusal},
    view,
};

/// How far it has come.
enum State {
    Header(PushHeader),
    Body(Box<Verified>, PausedBody),
    /// Refused, or accepted: nothing more is looked at.
    Ended,
}

/// Verifies one capsule in pieces of any length, and tells what it found.
pub struct Inspector {
    request: Request,
    trust: Trust,
    state: State,
    report: Value,
}

impl Inspector {
    /// Begins. A trust that cannot be loaded is a refusal before the first byte.
    #[must_use]
    pub fn new(request: Request) -> Self {
        let header = State::Header(PushHeader::new(&Limits::default()));
        let loaded = request.trust();
        let mut inspector = Self {
            request,
            trust: Trust::none(),
            state: header,
            report: json!({ "stage": "trust", "refusal": null, "signed": false }),
        };
        match loaded {
            Ok(trust) => {
                inspector.trust = trust;
                inspector.at("header");
            }
            Err(error) => inspector.refuse(&error),
        }
        inspector
    }

    /// Takes the next bytes, and returns whether more are wanted.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match self.step(state, bytes) {
            Ok(state) => self.state = state,
            Err(error) => self.refuse(&error),
        }
        !matches!(self.state, State::Ended)
    }

    /// Says that no more bytes come.
    pub fn finish(&mut self) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Header(header) => self.refuse(&header.end()),
            State::Body(capsule, body) => {
                if let Err(error) = self.conclude(&capsule, body) {
                    self.refuse(&error);
                }
            }
            State::Ended => {}
        }
    }

    /// Returns what is known so far, as JSON.
    #[must_use]
    pub fn report(&self) -> String {
        self.report.to_string()
    }

    fn step(&mut self, state: State, mut bytes: &[u8]) -> Result<State> {
        let (capsule, body) = match state {
            State::Ended => return Ok(State::Ended),
            State::Body(capsule, body) => (capsule, body),
            State::Header(header) => match header.feed(&mut bytes)? {
                Fed::More(header) => return Ok(State::Header(header)),
                Fed::Header(untrusted) => {
                    self.tell("claims", view::claims(untrusted.claims()));
                    self.tell("length", untrusted.file_len().into());
                    if let Ok(outline) = untrusted.outline() {
                        self.tell("outline", view::outline(&outline));
                    }
                    if let Ok(lineage) = untrusted.lineage() {
                        self.tell("lineage", lineage.to_string().into());
                    }
                    self.at("verify");
                    let policy = self.request.policy(&self.trust, &untrusted.claims().terms);
                    let capsule = Box::new(untrusted.verify(&policy)?);
                    self.tell("signed", true.into());
                    self.tell_unchecked(&capsule);
                    self.at("body");
                    let body = capsule.push_body().pause();
                    (capsule, body)
                }
            },
        };
        let body = capsule.resume_body(body)?.feed(bytes)?;
        self.tell_checked(body.checked());
        let body = body.pause();
        Ok(State::Body(capsule, body))
    }

    fn conclude(&mut self, capsule: &Verified, body: PausedBody) -> Result<()> {
        let terms = &capsule.manifest().claims.terms;
        let arrived = capsule.resume_body(body)?.finish()?;
        let checked = arrived.accept(&self.request.policy(&self.trust, terms))?;
        self.tell_checked(checked);
        let left = Self::unchecked(&self.request, capsule)
            .filter(|check| *check != Unchecked::Body)
            .map(Unchecked::name);
        self.report["unchecked"] = left.collect();
        self.at("accepted");
        Ok(())
    }

    fn unchecked(request: &Request, capsule: &Verified) -> impl Iterator<Item = Unchecked> {
        let stated = Stated {
            expected: &Expected::danger_any_model(),
            tenant: request.tenant.is_some(),
            subject: request.subject.is_some(),
            memory: false,
        };
        Unchecked::of_header(capsule.manifest(), stated).into_iter()
    }

    fn tell_unchecked(&mut self, capsule: &Verified) {
        let names = Self::unchecked(&self.request, capsule).map(|check| check.name());
        self.report["unchecked"] = names.collect();
    }

    fn tell_checked(&mut self, checked: kvcap::BodyChecked) {
        self.tell(
            "checked",
            json!({ "chunks": checked.chunks, "bytes": checked.bytes }),
        );
    }

    fn tell(&mut self, name: &str, value: Value) {
        self.report[name] = value;
    }

    fn at(&mut self, stage: &str) {
        self.tell("stage", stage.into());
    }

    fn refuse(&mut self, error: &Error) {
        self.state = State::Ended;
        self.tell("refusal", refusal(error));
    }
}
