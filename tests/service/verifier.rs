//! The one verifier: verdicts that say what was not checked, uses that are recorded once.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use kvcap::{
    Draft, Expected, Limits, Members, Result, Sealer, SigningKey, Terms, Untrusted, Workers,
    WrappingKey,
};
use kvcap_store::{
    Ancestors, Judge, LedgerFile, TrustSources, Unchecked, Verifier, WrapKeys, time,
};
use kvcap_testvectors::fixture;

fn signer() -> SigningKey {
    SigningKey::from_seed(&fixture::SIGN_SEED)
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A capsule of the vectors' state that is valid now.
fn sealed(change: impl Fn(&mut Terms)) -> Vec<u8> {
    let now = time::now();
    let mut terms = fixture::terms();
    (terms.issued_at, terms.not_before, terms.expires) = (now, now, now + 3600);
    change(&mut terms);
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let draft = Draft::new(terms, context);
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let signer = signer();
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, &[&key]).unwrap();
    for bytes in plain {
        sealer.write(&bytes).unwrap();
        sealer.end_stream(None).unwrap();
    }
    sealer.finish().unwrap().0.into_inner().unwrap()
}

/// A verifier that trusts the vectors' signer and names everybody whom the capsule names.
fn verifier() -> Verifier {
    let sources = TrustSources {
        items: vec![signer().public().to_text()],
        roots: Vec::new(),
    };
    Verifier {
        audiences: vec![fixture::AUDIENCE.to_owned()],
        subject: Some(fixture::SUBJECT.to_owned()),
        tenant: Some(fixture::TENANT.to_owned()),
        ..Verifier::new(sources)
    }
}

fn untrusted(file: &[u8]) -> Untrusted {
    Untrusted::read_at(file, &Limits::default()).unwrap()
}

fn key_file(folder: &Path) -> PathBuf {
    let path = folder.join("reader.key");
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    fs::write(&path, key.to_secret_text().as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Opens `file`; gives what was left out, or the code.
fn open(judge: &Judge<'_>, file: &[u8], key: &Path, prompt: Option<&[u32]>) -> Result<Left, u16> {
    let open = || {
        let verdict = judge.verify(untrusted(file))?.with_source(file);
        let keys = [key.to_owned()];
        let keys = WrapKeys::read(&keys)?;
        let admitted = judge.open(verdict, keys, prompt, Workers::new(1))?;
        assert!(!admitted.opened.tip().stream_bytes(0)?.is_empty());
        Ok(admitted.unchecked)
    };
    open().map_err(|error: kvcap::Error| error.code().number())
}

type Left = BTreeSet<Unchecked>;

#[test]
fn a_verdict_names_what_was_not_checked() {
    use Unchecked::{
        Body, CaptureFlags, Freshness, Model, Prompt, RuntimeVersion, Subject, Tenant,
    };
    let file = sealed(|terms| (terms.subject, terms.tenant) = (None, None));
    let bare = Verifier {
        subject: None,
        tenant: None,
        ..verifier()
    };
    let judge = bare.judge().unwrap();
    let mut verdict = judge.verify(untrusted(&file)).unwrap();
    let all = [
        Model,
        Prompt,
        Tenant,
        Subject,
        Freshness,
        RuntimeVersion,
        Body,
    ];
    assert_eq!(*verdict.unchecked(), BTreeSet::from(all));
    assert!(verdict.has_checked(CaptureFlags) && verdict.has_checked(Unchecked::Ancestors));
    let checked = verdict
        .tip()
        .check_body_at(file.as_slice(), Workers::new(1), &mut |_| {})
        .unwrap();
    verdict.body_checked(&checked);
    assert!(verdict.has_checked(Body));

    let folder = folder("verdict");
    let full = Verifier {
        ledger: Some(LedgerFile::at(folder.join("ledger"))),
        ..verifier()
    };
    let (model, tokenizer, rope) = (fixture::model(), fixture::tokenizer(), fixture::rope());
    let mut expected = Expected::of(&model, &tokenizer, &rope);
    let runtime = fixture::context().runtime;
    expected.runtime = Some((runtime.name, Some(runtime.version)));
    let judge = full.judge().unwrap().expecting(expected);
    let (key, prompt) = (key_file(&folder), fixture::prompt());
    let left = open(&judge, &sealed(|_| {}), &key, Some(&prompt));
    assert_eq!(left, Ok(Left::new()));
}

#[test]
fn a_use_is_recorded_before_anything_is_given_out_and_a_damaged_copy_uses_nothing_up() {
    let folder = folder("single-use");
    let key = key_file(&folder);
    let file = sealed(|terms| terms.single_use = true);
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let remembering = Verifier {
        ledger: Some(LedgerFile::at(folder.join("ledger"))),
        ..verifier()
    };
    let judge = remembering.judge().unwrap();
    assert_eq!(open(&judge, &damaged, &key, None), Err(805));
    let other = [1, 2, 3];
    assert_eq!(open(&judge, &file, &key, Some(&other)), Err(605));
    assert!(open(&judge, &file, &key, None).is_ok());
    assert_eq!(open(&judge, &file, &key, None), Err(410));
    // without a ledger nobody could say that it is the first use
    let forgetful = verifier();
    assert_eq!(
        open(&forgetful.judge().unwrap(), &file, &key, None),
        Err(410)
    );
}

#[test]
fn names_that_are_not_stated_are_refused_but_to_the_issuer() {
    let file = sealed(|_| {});
    for (other, code) in [
        (
            Verifier {
                tenant: None,
                ..verifier()
            },
            407,
        ),
        (
            Verifier {
                subject: None,
                ..verifier()
            },
            406,
        ),
        (
            Verifier {
                audiences: vec!["local".to_owned()],
                ..verifier()
            },
            405,
        ),
        (
            Verifier {
                scope: "kv:other".to_owned(),
                ..verifier()
            },
            408,
        ),
        (
            Verifier {
                max_lifetime: 60,
                ..verifier()
            },
            404,
        ),
        (
            Verifier {
                at: Some(time::now() + 7200),
                ..verifier()
            },
            402,
        ),
        (Verifier::new(TrustSources::default()), 301),
    ] {
        let judge = other.judge().unwrap();
        let refused = judge.verify(untrusted(&file)).unwrap_err();
        assert_eq!(refused.code().number(), code);
    }
    let own = Verifier {
        audiences: Vec::new(),
        tenant: None,
        ..verifier()
    };
    let terms = untrusted(&file).claims().terms.clone();
    let judge = own.judge().unwrap().danger_as_stated(&terms);
    assert!(judge.verify(untrusted(&file)).is_ok());
}

#[test]
fn a_capsule_that_is_given_as_an_ancestor_has_to_be_one() {
    let folder = folder("ancestors");
    let file = sealed(|_| {});
    let beside = folder.join("other.kvcap");
    fs::write(&beside, &file).unwrap();
    let verifier = verifier();
    let judge = verifier.judge().unwrap();
    let tip = folder.join("tip.kvcap");
    let complete = |given: &[PathBuf]| {
        let verdict = judge.verify(untrusted(&file)).unwrap().with_source(None);
        let ancestors = Ancestors { tip: &tip, given };
        judge.with_ancestors(verdict, &ancestors, Some).map(|_| ())
    };
    assert!(complete(&[]).is_ok());
    assert!(complete(std::slice::from_ref(&folder)).is_ok());
    assert_eq!(complete(&[beside]).unwrap_err().code().number(), 702);
    assert_eq!(
        complete(&[folder.join("absent")])
            .unwrap_err()
            .code()
            .number(),
        940
    );
}
