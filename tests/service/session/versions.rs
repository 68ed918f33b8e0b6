//! Versions as a relay keeps them (session-v1 §11.1).

use std::sync::Mutex;

use kvcap::{
    Context, Draft, Expected, Limits, Opened, Policy, Sealer, Section, SectionKind, SigningKey,
    Suite, Terms, Trust, Untrusted, WrappingKey,
    binding::{Digest, Model, Runtime, Tokenizer},
};
use kvcap_session::{
    Body, Event, Kind, LOG, Names, Record, SealedVersion, is_history_only, opened_history,
    replay_plainly,
};

use crate::replaying::turns;

/// A version whose events are those of a log after a number.
fn version(after: u64) -> SealedVersion {
    let (origin, mut events) = turns(8);
    let mut record = replay_plainly(&origin, events.clone()).unwrap();
    record.version = 3;
    let names = origin.names();
    events.retain(|event| event.seq > after);
    SealedVersion {
        record,
        origin: names.session,
        created: 7,
        after,
        events,
    }
}

struct Owner {
    signer: SigningKey,
    key: WrappingKey,
}

impl Owner {
    fn new() -> Self {
        let signer = SigningKey::generate().unwrap();
        Self {
            signer: signer.speaking_for("issuer").unwrap(),
            key: WrappingKey::generate().unwrap(),
        }
    }

    fn open(&self, file: Vec<u8>) -> Opened<Vec<u8>> {
        let trust = Trust::from(&self.signer);
        let policy = Policy::new(&trust, 1500, "local", Expected::danger_any_model());
        let untrusted = Untrusted::read_at(&file, &Limits::default()).unwrap();
        let verified = untrusted.verify(&policy).unwrap();
        verified.open(file, &self.key).unwrap().release().unwrap()
    }

    fn seal(&self, version: &SealedVersion) -> Vec<u8> {
        let out = Mutex::new(Vec::new());
        let terms = Terms::new("issuer", "local", 1000, 2000);
        let suite = Suite::ChaCha20Poly1305;
        let (out, _) = version
            .seal(out, suite, terms, &self.signer, &[&self.key])
            .unwrap();
        out.into_inner().unwrap()
    }

    /// A capsule of a record and whatever stands for its events.
    fn seal_raw(&self, record: &Record, log: &[u8]) -> Vec<u8> {
        let mut sections = record.sections().unwrap();
        sections.push((SectionKind::Other(LOG.to_owned()), log.to_vec()));
        let streams = sections
            .iter()
            .map(|(kind, bytes)| Section::new(kind.clone(), bytes.len() as u64).into());
        let none = Digest::labelled("kvcap v1 no model", &[]);
        let context = Context::new(
            Model::new(none, none, none),
            Tokenizer::new(none, 1),
            Runtime::new("kvcap", "history"),
            0..1,
            1,
            streams.collect(),
        );
        let draft = Draft::new(Terms::new("issuer", "local", 1000, 2000), context);
        let out = Mutex::new(Vec::new());
        let sealer = Sealer::new(out, draft, &self.signer, &[&self.key]).unwrap();
        for (_, bytes) in &sections {
            sealer.write(bytes).unwrap();
            sealer.end_stream().unwrap();
        }
        sealer.finish().unwrap().0.into_inner().unwrap()
    }

    fn refuses(&self, record: &Record, log: &[u8]) -> u16 {
        let opened = self.open(self.seal_raw(record, log));
        let refused = SealedVersion::opened(&opened, &record.names());
        refused.unwrap_err().code().number()
    }
}

fn item(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    [&len.to_le_bytes(), bytes].concat()
}

/// The first item of a version without a state, as CBOR.
fn piece(after: u8, origin: &str) -> Vec<u8> {
    let mut bytes = vec![0xa4];
    // keys in the order of their encoded bytes: form, after, origin, created
    bytes.extend([0x64]);
    bytes.extend(b"form");
    bytes.push(1);
    bytes.push(0x65);
    bytes.extend(b"after");
    match after {
        0..24 => bytes.push(after),
        _ => bytes.extend([0x18, after]),
    }
    bytes.push(0x66);
    bytes.extend(b"origin");
    bytes.push(0x60 + u8::try_from(origin.len()).unwrap());
    bytes.extend(origin.as_bytes());
    bytes.push(0x67);
    bytes.extend(b"created");
    bytes.push(7);
    bytes
}

fn items(events: &[Event]) -> Vec<u8> {
    let cbor = events.iter().map(|event| item(&event.to_cbor().unwrap()));
    cbor.collect::<Vec<_>>().concat()
}

#[test]
fn a_version_comes_back_as_it_was_sealed() {
    let owner = Owner::new();
    for after in [0, 5, 24] {
        let sealed = version(after);
        let opened = owner.open(owner.seal(&sealed));
        assert!(is_history_only(opened.manifest()));
        let claims = opened.manifest().claims.terms.session.clone().unwrap();
        assert_eq!((claims.version, claims.replay_cursor), (3, 24));
        let names = sealed.record.names();
        assert_eq!(SealedVersion::opened(&opened, &names).unwrap(), sealed);
        // it is a history too
        assert_eq!(opened_history(&opened).unwrap(), sealed.record);
        let other = Names::of("another");
        let refused = SealedVersion::opened(&opened, &other).unwrap_err();
        assert_eq!(refused.code().number(), 950);
        // as another implementation has it
        let raw = [
            item(&piece(u8::try_from(after).unwrap(), &sealed.origin)),
            items(&sealed.events),
        ]
        .concat();
        let opened = owner.open(owner.seal_raw(&sealed.record, &raw));
        assert_eq!(SealedVersion::opened(&opened, &names).unwrap(), sealed);
    }
}

#[test]
fn a_sealed_version_may_be_renewed_for_a_year() {
    let owner = Owner::new();
    let opened = owner.open(owner.seal(&version(0)));
    let terms = &opened.manifest().claims.terms;
    assert_eq!(terms.renew_until, 1000 + 365 * 24 * 3600);
}

#[test]
fn a_version_whose_events_are_others_is_refused() {
    let owner = Owner::new();
    let SealedVersion {
        record,
        origin,
        events,
        ..
    } = version(0);
    let log = |after: u8, events: &[Event]| [item(&piece(after, &origin)), items(events)].concat();
    let mut changed = events.clone();
    changed[3].body = Body::from("other words");
    let mut last = events.clone();
    last.last_mut().unwrap().body = Body::from("other words");
    let mut swapped = events.clone();
    swapped.swap(3, 4);
    let next = Event {
        seq: 25,
        at: 1,
        kind: Kind::User,
        body: Body::from("more"),
        previous: record.head,
    };
    let more = [events.clone(), vec![next]].concat();
    for (what, log, code) in [
        (
            "an event is missing",
            log(0, &[&events[..3], &events[4..]].concat()),
            952,
        ),
        ("the last is missing", log(0, &events[..23]), 952),
        ("the first is missing", log(0, &events[1..]), 952),
        ("one more than it has seen", log(0, &more), 952),
        ("two change places", log(0, &swapped), 952),
        ("an event is another", log(0, &changed), 953),
        ("the last is another", log(0, &last), 953),
        (
            "of another log",
            [item(&piece(0, "other")), items(&events)].concat(),
            953,
        ),
        ("after more than there is", log(30, &[]), 952),
        ("no items", Vec::new(), 950),
        (
            "a length that is cut",
            [&log(0, &events)[..], &[1, 0]].concat(),
            950,
        ),
        (
            "an item that is cut",
            [&log(0, &events)[..], &[9, 0, 0, 0, 1]].concat(),
            950,
        ),
        (
            "an item that is too long",
            [&log(0, &events)[..], &[0, 0, 17, 0]].concat(),
            951,
        ),
        (
            "bytes after the CBOR",
            item(&[piece(0, &origin), vec![0]].concat()),
            206,
        ),
        ("a first item that is none", item(&[0xa0]), 950),
        ("events alone", items(&events), 950),
    ] {
        assert_eq!(owner.refuses(&record, &log), code, "{what}");
    }
    // what its sealer would not seal either
    let mut wrong = version(0);
    wrong.events.remove(3);
    assert_eq!(wrong.check().unwrap_err().code().number(), 952);
}
