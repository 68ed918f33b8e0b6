//! The model's readers against the library: forgeries of the model as files, before both.

use std::{collections::BTreeSet, sync::Arc};

use kvcap::{
    Code, Draft, Error, Expected, ExpectedSession, ExternalSigner, ExternalUnwrapper, Limits,
    Policy, Recipient, RecipientKind, Session, SigningKey, Trust, TrustedKey, Untrusted, Verified,
    WrappedContent, WrappingKey,
    binding::{Model, Rope, Tokenizer},
};
use kvcap_testvectors::{
    fixture::{self, CHUNK, Capsule, NOW, WRAP_KEY},
    parts::{self, Parts, ROW},
    raw::{Step, byte_string, edit_map, encode, int, put, text},
    schedule::sign_key_id,
};
use zeroize::Zeroizing;

use crate::{
    forgeries::{CAP, EXPIRES, OURS, ours, stated, verifiers},
    helpers::{self, ANSWERS, ASKED, Answer},
    reader::{Delivered, MODEL, Verifier, open, verify},
    rules::Rules,
    terms::{Body, Content, Header, Name, Signer, Time, Wrapping, commitment, sealed, tables},
};

/// More than clocks may differ by.
const STEP: u64 = 100;
const SEEDS: [[u8; 32]; 3] = [[0x71; 32], [0x72; 32], [0x73; 32]];

fn at(time: Time) -> u64 {
    NOW + STEP * u64::from(time)
}

fn name(name: Name) -> &'static str {
    match name {
        Name::Ours => "ours",
        Name::Theirs => "theirs",
    }
}

fn audience(audience: u8) -> String {
    format!("v{audience}.example.com")
}

fn model(which: u8) -> Model {
    Model {
        id: fixture::digest(&format!("model {which}")),
        ..fixture::model()
    }
}

fn trust() -> Trust {
    let mut trust = Trust::none();
    let keys = [
        (fixture::SIGN_SEED, Name::Ours),
        (SEEDS[0], Name::Ours),
        (SEEDS[1], Name::Theirs),
    ];
    for (seed, issuer) in keys {
        let key = SigningKey::from_seed(&seed).public();
        trust.add(TrustedKey::new(key, name(issuer))).unwrap();
    }
    trust
}

/// The honest capsule, sealed by the library for a key.
fn honest(key: &WrappingKey) -> Capsule {
    let mut terms = fixture::terms();
    terms.issuer = name(Name::Ours).to_owned();
    terms.audience = audience(0);
    (terms.subject, terms.sequence) = (None, None);
    terms.tenant = Some(name(Name::Ours).to_owned());
    (terms.issued_at, terms.not_before) = (at(0), at(0));
    (terms.expires, terms.renew_until) = (at(EXPIRES), at(CAP));
    terms.single_use = true;
    terms.session = Some(Session {
        id: "session 1".to_owned(),
        version: 1,
        replay_cursor: 1,
    });
    let mut context = fixture::context();
    context.model = model(MODEL);
    let plain = fixture::contents(&context);
    let draft = Draft::new(terms, context);
    fixture::seal_for("protocol", draft, plain, &[], &[Recipient::from(key)])
}

fn claim(label: i64) -> [Step; 2] {
    [Step::Key(15), Step::Key(label)]
}

/// The honest capsule under a header of the model.
fn under(honest: &Parts, header: &Header) -> Parts {
    let mut parts = honest.clone();
    let (told, claims) = (&header.bound, &mut parts.header);
    let put_text = |claims: &mut Vec<u8>, label, value: &str| {
        put(claims, &claim(label), &encode(&text(value)));
    };
    put_text(claims, 1, name(told.issuer));
    put_text(claims, 3, &audience(header.audience));
    put_text(claims, -70_001, name(told.tenant));
    put_text(claims, -70_005, &format!("session {}", told.session));
    put(claims, &claim(4), &encode(&int(at(header.expires))));
    put(claims, &claim(-70_004), &encode(&int(at(told.cap))));
    if told.id != OURS {
        put(claims, &claim(7), &byte_string(&[told.id; 16]));
    }
    if !told.once {
        edit_map(claims, &[Step::Key(15)], |map| {
            map.retain(|(key, _)| *key != int(-70_003));
        });
    }
    let (own, other) = (model(MODEL).id.0, model(told.model).id.0);
    let at = parts.payload.windows(32).position(|bytes| bytes == own);
    let at = at.unwrap();
    parts.payload[at..at + 32].copy_from_slice(&other);
    let (signs, named) = match header.signer {
        // another's signature in the first one's name
        Signer::First if header.forged => (SEEDS[2], fixture::SIGN_SEED),
        Signer::First => (fixture::SIGN_SEED, fixture::SIGN_SEED),
        Signer::Second => (SEEDS[0], SEEDS[0]),
        Signer::Theirs => (SEEDS[1], SEEDS[1]),
        Signer::Unknown => (SEEDS[2], SEEDS[2]),
    };
    parts.signer = signs;
    let kid = sign_key_id(&parts::public(&named));
    put(&mut parts.header, &[Step::Key(4)], &byte_string(&kid));
    parts
}

/// The library's verdict of a file.
fn judged(
    file: &[u8],
    by: &Verifier,
    trust: &Trust,
    known: &(Model, Tokenizer, Vec<Rope>),
) -> Result<Verified, u16> {
    let mut expected = Expected::of(&known.0, &known.1, &known.2);
    expected.session = Some(ExpectedSession {
        id: format!("session {}", by.session),
        version: None,
        replay_cursor: None,
    });
    let mut policy = Policy::new(trust, at(by.now), &audience(by.audience), expected);
    policy.tenant = Some(name(by.tenant).to_owned());
    Untrusted::read_at(&file, &Limits::default())
        .and_then(|header| header.verify(&policy))
        .map_err(|error| error.code().number())
}

/// What the library gives out of a verified file.
fn opened(verified: Verified, file: &[u8], key: &WrappingKey) -> Result<(), u16> {
    let read = || {
        let opened = verified.open(file, key)?.danger_unrecorded();
        opened.stream_bytes(0)
    };
    read()
        .map(|_| ())
        .map_err(|error: Error| error.code().number())
}

/// Every header of the model before four of its verifiers in turn, and what passes, opened: the library gives the
/// model's codes.
pub(crate) fn compare() {
    let rules = Rules::default();
    let key = WrappingKey::from_bytes(WRAP_KEY);
    let capsule = honest(&key);
    let honest = Parts::of(&capsule);
    let (trust, (header, body)) = (trust(), ours(rules));
    let known = |model_of: u8| (model(model_of), fixture::tokenizer(), fixture::rope());
    let known = [known(MODEL), known(MODEL + 1)];
    let verifiers = verifiers();
    let (mut turn, mut headers, mut codes) = (0, 0, BTreeSet::new());
    let mut heads = stated(&header);
    heads.push(header);
    for head in heads {
        let mut parts = under(&honest, &head);
        parts.sign();
        let file = parts.file();
        headers += 1;
        // those that pass, and some of those that do not
        let passing: Vec<&Verifier> = verifiers
            .iter()
            .filter(|by| verify(&head, by, rules).is_ok())
            .collect();
        turn += 7;
        let others = (0..4).map(|n| &verifiers[(turn + 13 * n) % verifiers.len()]);
        for by in passing.iter().copied().take(1).chain(others) {
            let known = &known[usize::from(by.model - MODEL)];
            let said = judged(&file, by, &trust, known);
            let code = said.as_ref().err().copied();
            assert_eq!(code, verify(&head, by, rules).err(), "{head:?} {by:?}");
            codes.extend(code);
        }
        let Some(by) = passing.first() else { continue };
        let known = &known[usize::from(by.model - MODEL)];
        for (header, parts) in bodies(&head, &body, &parts) {
            let file = parts.file();
            let said = judged(&file, by, &trust, known).unwrap();
            let code = opened(said, &file, &key).err();
            let delivered = Delivered::new(body_of(&header, &body));
            let ctx = header.bound.ctx(rules);
            let of_model = open(&header, ctx, &delivered, Wrapping::Holder, rules);
            assert_eq!(code, of_model.err(), "{header:?}");
            codes.extend(code);
        }
    }
    println!("{headers} headers, codes {codes:?}");
    let all = [301, 307, 312, 402, 404, 405, 407, 413, 601, 803, 804, 806];
    assert_eq!(codes, BTreeSet::from(all));
}

fn swapped(body: &Body) -> Body {
    [body[1], body[0]]
}

/// The body that a header of [`bodies`] signs.
fn body_of(header: &Header, honest: &Body) -> Body {
    let ctx = header.bound.ctx(Rules::default());
    let of_ours = sealed(Content::Ours, ctx, crate::terms::Text::Ours);
    let all = [*honest, swapped(honest), of_ours];
    let found = all.into_iter().find(|body| tables(body) == header.tables);
    found.unwrap()
}

/// A header with the honest body; with its chunks in another order; and with a commitment and a body that fit it,
/// which only who has the content key can make.
fn bodies(head: &Header, body: &Body, parts: &Parts) -> Vec<(Header, Parts)> {
    let mut all = vec![(*head, parts.clone())];
    if head.signer == Signer::First {
        return all;
    }
    let chunk = usize::try_from(CHUNK).unwrap();
    let mut other = parts.clone();
    other.body[0][..2 * chunk].rotate_left(chunk);
    other.tables[0][..2 * ROW].rotate_left(ROW);
    other.retable();
    other.sign();
    let tables_of = |body: &Body| Header {
        tables: tables(body),
        ..*head
    };
    all.push((tables_of(&swapped(body)), other));
    if head.bound.id == OURS {
        let ctx = head.bound.ctx(Rules::default());
        let mut own = parts.clone();
        own.reseal();
        own.sign();
        let fits = sealed(Content::Ours, ctx, crate::terms::Text::Ours);
        let header = Header {
            commitment: commitment(Content::Ours, ctx),
            ..tables_of(&fits)
        };
        all.push((header, own));
    }
    all
}

/// A helper that gives the model's answers.
struct Helper(Answer);

fn refused() -> Error {
    Error::new(Code::LocalHelper, "refused")
}

impl ExternalSigner for Helper {
    fn sign(&self, message: &[u8]) -> kvcap::Result<[u8; 64]> {
        let Answer::Signature(by, of) = self.0 else {
            return Err(refused());
        };
        let seed = match by {
            Signer::First => fixture::SIGN_SEED,
            Signer::Theirs => SEEDS[1],
            Signer::Second | Signer::Unknown => return Ok([7; 64]),
        };
        let message = if of == ASKED { message } else { b"before" };
        SigningKey::from_seed(&seed).sign(message)
    }
}

impl ExternalUnwrapper for Helper {
    fn unwrap(&self, wrapped: &WrappedContent<'_>) -> kvcap::Result<Zeroizing<[u8; 32]>> {
        match self.0 {
            Answer::Content(Content::Ours) => reader().unwrap(wrapped),
            Answer::Content(Content::Sold) => Ok(Zeroizing::new([1; 32])),
            Answer::Content(Content::Made) => Ok(Zeroizing::new([2; 32])),
            Answer::Content(Content::MadeToo) => Ok(Zeroizing::new([3; 32])),
            Answer::Signature(..) | Answer::Refused => Err(refused()),
        }
    }

    fn prefix_key(&self) -> kvcap::Result<Option<Zeroizing<[u8; 32]>>> {
        Ok(None)
    }
}

fn reader() -> WrappingKey {
    WrappingKey::of(RecipientKind::X25519, fixture::HPKE_KEY)
}

/// Every answer of a helper, of which the library makes what the model makes.
pub(crate) fn compare_helpers() {
    let (rules, trust) = (Rules::default(), trust());
    let file = honest(&reader()).file;
    let (header, _) = ours(rules);
    let verifiers = verifiers();
    let by = verifiers
        .iter()
        .find(|by| verify(&header, by, rules).is_ok());
    let known = (model(MODEL), fixture::tokenizer(), fixture::rope());
    let mut codes = BTreeSet::new();
    for answer in ANSWERS {
        let public = SigningKey::from_seed(&fixture::SIGN_SEED).public();
        let key = SigningKey::external(public, Arc::new(Helper(answer)));
        let signed = ExternalSigner::sign(&key, b"asked");
        let code = signed.err().map(|error| error.code().number());
        assert_eq!(code, helpers::sign(answer, rules).err(), "{answer:?}");
        codes.extend(code);
        let public = reader().public().unwrap();
        let key = WrappingKey::external(public, Arc::new(Helper(answer)));
        let verified = judged(&file, by.unwrap(), &trust, &known).unwrap();
        let code = opened(verified, &file, &key).err();
        let ctx = header.bound.ctx(rules);
        let of_model = helpers::unwrap(&header, ctx, answer, rules).err();
        assert_eq!(code, of_model, "{answer:?}");
        codes.extend(code);
    }
    assert_eq!(codes, BTreeSet::from([804, 948]));
}
