//! A capsule and the ancestors that it continues, each from its first byte to its last.

use kvcap::{
    Chain, Error, Expected, Fed, Limits, PausedBody, PushHeader, Result, Stated, Trust, Unchecked,
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
    /// All members so far are checked, and the oldest of them may continue another.
    Between(Box<Chain<()>>),
    /// A file that may be the ancestor that is wanted.
    AncestorHeader(Box<Chain<()>>, PushHeader),
    AncestorBody(Box<Chain<()>>, PausedBody),
    /// Refused: nothing more is looked at.
    Ended,
}

/// Verifies one capsule in pieces of any length, then ancestors of it, and tells what it found.
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
            report: json!({ "stage": "trust", "refusal": null, "signed": false, "chain": [] }),
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

    /// Begins with another file, which may be the ancestor that is wanted; returns whether one is.
    pub fn ancestor(&mut self) -> bool {
        let state = std::mem::replace(&mut self.state, State::Ended);
        self.state = match state {
            State::Between(chain) if chain.wanted().is_some() => {
                State::AncestorHeader(chain, PushHeader::new(&Limits::default()))
            }
            other => other,
        };
        matches!(self.state, State::AncestorHeader(..))
    }

    /// Takes the next bytes, and returns whether more of this file are wanted.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match self.step(state, bytes) {
            Ok(state) => self.state = state,
            Err(error) => self.refuse(&error),
        }
        !matches!(self.state, State::Between(_) | State::Ended)
    }

    /// Says that no more bytes of this file come.
    pub fn finish(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match self.end(state) {
            Ok(state) => self.state = state,
            Err(error) => self.refuse(&error),
        }
    }

    /// Returns what is known so far, as JSON.
    #[must_use]
    pub fn report(&self) -> String {
        self.report.to_string()
    }

    fn step(&mut self, state: State, mut bytes: &[u8]) -> Result<State> {
        let state = match state {
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
                    State::Body(capsule, body)
                }
            },
            State::AncestorHeader(chain, header) => match header.feed(&mut bytes)? {
                Fed::More(header) => return Ok(State::AncestorHeader(chain, header)),
                Fed::Header(untrusted) => {
                    let wanted = chain.wanted().map(|parent| parent.digest);
                    if untrusted.lineage().ok() != wanted {
                        return Ok(State::Between(chain)); // another capsule
                    }
                    self.at("ancestor");
                    let policy = self.policy_of(&chain);
                    let chain = Box::new(chain.extend(*untrusted, (), &policy)?);
                    let body = oldest(&chain).push_body().pause();
                    State::AncestorBody(chain, body)
                }
            },
            other => other,
        };
        match state {
            State::Body(capsule, body) => {
                let body = capsule.resume_body(body)?.feed(bytes)?;
                self.tell_checked(body.checked());
                let body = body.pause();
                Ok(State::Body(capsule, body))
            }
            State::AncestorBody(chain, body) => {
                let body = oldest(&chain).resume_body(body)?.feed(bytes)?.pause();
                Ok(State::AncestorBody(chain, body))
            }
            other => Ok(other),
        }
    }

    fn end(&mut self, state: State) -> Result<State> {
        match state {
            State::Header(header) => Err(header.end()),
            State::Body(capsule, body) => {
                let terms = &capsule.manifest().claims.terms;
                let arrived = capsule.resume_body(body)?.finish()?;
                let checked = arrived.accept(&self.request.policy(&self.trust, terms))?;
                self.tell_checked(checked);
                Ok(self.between(Box::new(Chain::new(*capsule, ()))))
            }
            // too short to be the one that is wanted
            State::AncestorHeader(chain, _) => Ok(State::Between(chain)),
            State::AncestorBody(chain, body) => {
                // every byte; what time has changed meanwhile is judged of all members
                let _arrived = oldest(&chain).resume_body(body)?.finish()?;
                chain.verify_again(&self.policy_of(&chain))?;
                Ok(self.between(chain))
            }
            other => Ok(other),
        }
    }

    /// Tells what is verified: the capsule, and the ancestors so far.
    fn between(&mut self, chain: Box<Chain<()>>) -> State {
        let wanted = chain.wanted().map(|parent| parent.digest.to_string());
        let mut unchecked: Vec<&str> = Vec::new();
        for (member, ()) in chain.members() {
            let left = Self::unchecked(&self.request, member).filter(|check| match check {
                Unchecked::Body => false,
                Unchecked::Ancestors => wanted.is_some(),
                _ => true,
            });
            for name in left.map(Unchecked::name) {
                if !unchecked.contains(&name) {
                    unchecked.push(name);
                }
            }
        }
        let members = chain.members().map(|(member, ())| view::member(member));
        self.report["chain"] = members.collect();
        self.report["unchecked"] = unchecked.into();
        self.tell("wanted", wanted.into());
        self.at("accepted");
        State::Between(chain)
    }

    fn policy_of(&self, chain: &Chain<()>) -> kvcap::Policy<'_> {
        let terms = &chain.tip().manifest().claims.terms;
        self.request.policy(&self.trust, terms)
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

/// The member of a chain that was added last.
fn oldest(chain: &Chain<()>) -> &Verified {
    chain
        .members()
        .last()
        .map_or(chain.tip(), |(member, ())| member)
}
