//! Recipients of every kind: who opens, who does not, and entries that were tampered with and signed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    io::Cursor,
    sync::{Arc, Mutex},
};

use ciborium::Value;
use kvcap::{
    Code, Draft, Limits, Policy, Recipient, RecipientKind, RecipientPublicKey, Reissuer, Result,
    Rewrap, Sealer, SigningKey, Trust, TrustedKey, Untrusted, Verified, WrappingKey,
};
use kvcap_testvectors::{
    fixture::{self, Capsule, NOW},
    parts::Parts,
    raw::{Step, edit_list},
};

/// Where a manifest lists its recipients.
const RECIPIENTS: [Step; 2] = [Step::Key(4), Step::Key(3)];

const PUBLIC: [RecipientKind; 2] = [RecipientKind::X25519, RecipientKind::XWing];

fn signer() -> SigningKey {
    SigningKey::from_seed(&fixture::SIGN_SEED)
}

fn verify(file: &[u8]) -> Result<Verified> {
    let trust = Trust::from(TrustedKey::new(signer().public(), fixture::ISSUER));
    let untrusted = Untrusted::read_at(file, &Limits::default())?;
    let terms = untrusted.claims().terms.clone();
    untrusted.verify(&Policy::danger_as_stated(&trust, NOW, &terms))
}

fn code<T>(result: Result<T>) -> u16 {
    result.map_or_else(|error| error.code().number(), |_| 0)
}

fn open(file: &[u8], key: &WrappingKey) -> Result<Vec<u8>> {
    verify(file)?.open(file, key)?.release()?.stream_bytes(0)
}

fn wrapping() -> WrappingKey {
    WrappingKey::from_bytes(fixture::WRAP_KEY)
}

/// The base capsule sealed by the library, its recipients as given.
fn seal(to: &[Recipient<'_>]) -> Result<Vec<u8>> {
    let (context, signer) = (fixture::context(), signer());
    let plain = fixture::contents(&context);
    let draft = Draft::new(fixture::terms(), context);
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, to)?;
    for bytes in plain {
        sealer.write(&bytes)?;
        // nothing more is no chunk
        assert!(sealer.cut(&mut Vec::new())?.is_empty());
        sealer.end_stream()?;
    }
    Ok(sealer.finish()?.0.into_inner().unwrap())
}

fn rewrap(file: &[u8], to: &[Recipient<'_>], keep: bool) -> Result<Vec<u8>> {
    let (trust, signer) = (
        Trust::from(TrustedKey::new(signer().public(), fixture::ISSUER)),
        signer(),
    );
    let by = Reissuer::new(&signer, &trust, NOW);
    let mut rewrap = Rewrap::to(to);
    rewrap.keep = keep;
    let header = verify(file)?.rewrap(&wrapping(), &rewrap, &by)?;
    let mut out = Cursor::new(Vec::new());
    header.write(&mut Cursor::new(file), &mut out)?;
    Ok(out.into_inner())
}

/// `file` with its last recipient changed, signed again by its issuer.
fn forged(file: &[u8], change: impl Fn(&mut Vec<Value>)) -> Vec<u8> {
    let plain = fixture::contents(&fixture::context());
    let mut parts = Parts::of(&Capsule {
        file: file.to_vec(),
        plain,
    });
    edit_list(&mut parts.payload, &RECIPIENTS, |all| {
        change(all.last_mut().unwrap().as_array_mut().unwrap());
    });
    parts.sign();
    parts.file()
}

fn flip(value: &mut Value, at: usize) {
    value.as_bytes_mut().unwrap()[at] ^= 1;
}

#[test]
fn a_public_key_seals_and_its_secret_half_opens() {
    let plain = fixture::contents(&fixture::context()).remove(0);
    for kind in PUBLIC {
        let (mine, other) = (
            WrappingKey::generate_of(kind).unwrap(),
            WrappingKey::generate_of(kind).unwrap(),
        );
        let public = mine.public().unwrap();
        assert_eq!((public.id(), public.kind()), (mine.id(), kind));
        let handed = seal(&[(&public).into()]).unwrap();
        assert_eq!(open(&handed, &mine).unwrap(), plain);
        assert_eq!(code(open(&handed, &other)), 809);
        assert_eq!(code(open(&handed, &wrapping())), 809);
        // two capsules for one key share no encapsulated secret
        assert_ne!(handed, seal(&[(&public).into()]).unwrap());

        let both = rewrap(
            &seal(&[(&wrapping()).into()]).unwrap(),
            &[(&mine).into()],
            true,
        );
        let both = both.unwrap();
        assert_eq!(open(&both, &mine).unwrap(), plain);
        assert_eq!(open(&both, &wrapping()).unwrap(), plain);
        let listed: Vec<_> = verify(&both).unwrap().recipients().collect();
        let want = [
            (wrapping().id(), RecipientKind::Symmetric),
            (mine.id(), kind),
        ];
        assert_eq!(listed, want);
    }
}

/// Who holds a key for others may hold it elsewhere himself: a helper before a device, say.
#[test]
fn a_key_is_held_by_whoever_holds_it_for_its_holder() {
    for kind in PUBLIC {
        let [secret, other] = [(); 2].map(|()| WrappingKey::generate_of(kind).unwrap());
        let public = secret.public().unwrap();
        let file = seal(&[(&public).into()]).unwrap();
        let held_by = |holder| WrappingKey::external(public.clone(), Arc::new(holder));
        assert_eq!(code(open(&file, &held_by(held_by(secret)))), 0);
        assert_eq!(code(open(&file, &held_by(held_by(other)))), 803);
    }
}

#[test]
fn classical_and_post_quantum_recipients_never_meet() {
    let [classical, hybrid] = PUBLIC.map(|kind| WrappingKey::generate_of(kind).unwrap());
    let [a, b] = [&classical, &hybrid].map(Recipient::from);
    let key = wrapping();
    let secret = Recipient::from(&key);
    for to in [vec![a, b], vec![b, secret, a]] {
        assert_eq!(code(seal(&to)), 808);
        let file = seal(&[secret]).unwrap();
        let new: Vec<_> = to
            .into_iter()
            .filter(|to| !matches!(to, Recipient::Key(k) if k.id() == key.id()))
            .collect();
        assert_eq!(code(rewrap(&file, &new, true)), 808);
    }
    let classical = seal(&[secret, a]).unwrap();
    assert_eq!(code(rewrap(&classical, &[b], true)), 808);
    assert_eq!(code(rewrap(&classical, &[b], false)), 0);
}

#[test]
fn tampered_entries_fail_alike() {
    let base = seal(&[(&wrapping()).into()]).unwrap();
    for kind in PUBLIC {
        let key = WrappingKey::of(kind, [3; 32]);
        let file = rewrap(&base, &[(&key).into()], true).unwrap();
        let tampered = |change: &dyn Fn(&mut Vec<Value>)| code(open(&forged(&file, change), &key));
        assert_eq!(tampered(&|_| {}), 0);
        // the encapsulated secret, the wrapped key, its tag
        for (field, at) in [(2, 0), (2, 31), (3, 0), (3, 47)] {
            assert_eq!(
                tampered(&|entry| flip(&mut entry[field], at)),
                803,
                "{kind:?} {field}"
            );
        }
        // the entry of another capsule for the same key
        let other = rewrap(
            &seal(&[(&wrapping()).into()]).unwrap(),
            &[(&key).into()],
            true,
        );
        let mut foreign = Vec::new();
        let payload = |file: &[u8]| {
            Parts::of(&Capsule {
                file: file.to_vec(),
                plain: Vec::new(),
            })
            .payload
        };
        edit_list(&mut payload(&other.unwrap()), &RECIPIENTS, |all| {
            foreign = all[1].as_array().unwrap().clone();
        });
        assert_eq!(tampered(&|entry| *entry = foreign.clone()), 803);
        // lengths, before any decryption
        for (field, by) in [(1, 1), (2, 1), (3, 1)] {
            assert_eq!(
                tampered(&|entry| drop(entry[field].as_bytes_mut().unwrap().split_off(by))),
                808
            );
        }
        assert_eq!(tampered(&|entry| entry[0] = Value::Integer(4.into())), 808);
        // a key id that is somebody else's
        assert_eq!(tampered(&|entry| flip(&mut entry[1], 0)), 809);
    }
    // a point of small order agrees on nothing
    let key = WrappingKey::of(RecipientKind::X25519, [3; 32]);
    let file = rewrap(&base, &[(&key).into()], true).unwrap();
    let low = forged(&file, |entry| entry[2] = Value::Bytes(vec![0; 32]));
    assert_eq!(code(open(&low, &key)), 803);
}

#[test]
fn keys_have_texts_of_their_own() {
    let secret = WrappingKey::of(RecipientKind::Symmetric, [5; 32]);
    assert!(secret.public().is_none());
    for kind in PUBLIC {
        let key = WrappingKey::of(kind, [5; 32]);
        let again = WrappingKey::from_text(&key.to_secret_text().unwrap()).unwrap();
        assert_eq!((again.id(), again.kind()), (key.id(), kind));
        assert_ne!(key.id(), secret.id());
        let public = key.public().unwrap();
        let text = public.to_text();
        assert_eq!(RecipientPublicKey::from_text(&text).unwrap(), public);
        let from = |text: &str| code(RecipientPublicKey::from_text(text));
        assert_eq!(from(&text.to_ascii_uppercase()), 942);
        assert_eq!(from(&text[..text.len() - 1]), 942);
        assert_eq!(from(&key.to_secret_text().unwrap()), 942);
        assert_eq!(code(WrappingKey::from_text(&text)), 942);
        let mut typo = text.into_bytes();
        let last = typo.last_mut().unwrap();
        *last = if *last == b'0' { b'1' } else { b'0' };
        assert_eq!(from(std::str::from_utf8(&typo).unwrap()), 942);
        let shown = format!("{key:?} {public:?}");
        assert!(!shown.contains("0505"), "{shown}");
    }
    let weak = |kind, bytes: &[u8]| {
        RecipientPublicKey::from_bytes(kind, bytes)
            .err()
            .map(|e| e.code())
    };
    assert_eq!(weak(RecipientKind::X25519, &[0; 32]), Some(Code::KeyWeak));
    assert_eq!(
        weak(RecipientKind::XWing, &[0xFF; 1216]),
        Some(Code::KeyWeak)
    );
    assert_eq!(
        weak(RecipientKind::Symmetric, &[7; 32]),
        Some(Code::LocalUsage)
    );
}

#[test]
fn as_many_as_the_limit_allows() {
    let keys: Vec<WrappingKey> = (0..17)
        .map(|i| WrappingKey::of(RecipientKind::XWing, [i; 32]))
        .collect();
    let to: Vec<Recipient<'_>> = keys.iter().map(Recipient::from).collect();
    let file = seal(&to[..16]).unwrap();
    open(&file, &keys[0]).unwrap();
    open(&file, &keys[15]).unwrap();
    assert_eq!(code(seal(&to)), 503);
}
