//! The one verifier: verdicts that say what was not checked, uses that are recorded once.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

mod ancestors;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use kvcap::{
    CaptureFlags, Change, Context, Draft, Expected, ExpectedSession, Limits, Members, Result,
    RootKey, Sealer, SectionKind, Session, SigningKey, Stream, Terms, TrustedKey, Untrusted,
    Workers, WrappingKey,
};
use kvcap_store::{
    Ancestors, Judge, LedgerFile, LedgerSource, Passphrases, RegistryFile, TrustSources, Unchecked,
    Verifier, WrapKeys, time,
};
use kvcap_testvectors::fixture;
use tempfile::TempDir;

fn signer() -> SigningKey {
    SigningKey::from_seed(&fixture::SIGN_SEED)
}

fn folder() -> TempDir {
    TempDir::new().unwrap()
}

/// A capsule of the vectors' state that is valid now.
fn sealed(change: impl Fn(&mut Terms)) -> Vec<u8> {
    sealed_with(change, |_| {})
}

fn sealed_with(change: impl Fn(&mut Terms), of: impl Fn(&mut Context)) -> Vec<u8> {
    let now = time::now();
    let mut terms = fixture::terms();
    (terms.issued_at, terms.not_before, terms.expires) = (now, now, now + 3600);
    terms.renew_until = terms.expires;
    terms.issuer = signer().issuer();
    change(&mut terms);
    let mut context = fixture::context();
    of(&mut context);
    let plain = fixture::contents(&context);
    let draft = Draft::new(terms, context);
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let signer = signer();
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, &[&key]).unwrap();
    for bytes in plain {
        sealer.write(&bytes).unwrap();
        sealer.end_stream().unwrap();
    }
    sealer.finish().unwrap().0.into_inner().unwrap()
}

/// A verifier that trusts the vectors' signer and names everybody whom the capsule names.
fn verifier() -> Verifier {
    let sources = TrustSources::keys(vec![signer().public().to_text()]);
    Verifier {
        audiences: vec![fixture::AUDIENCE.to_owned()],
        subject: Some(fixture::SUBJECT.to_owned()),
        tenant: Some(fixture::TENANT.to_owned()),
        ..Verifier::new(sources)
    }
}

/// The vectors' signer as a registry lists it.
fn listed() -> TrustedKey {
    TrustedKey::from(&signer())
}

fn untrusted(file: &[u8]) -> Untrusted {
    Untrusted::read_at(file, &Limits::default()).unwrap()
}

fn key_file(folder: &Path) -> PathBuf {
    let path = folder.join("reader.key");
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    fs::write(&path, key.to_secret_text().unwrap().as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Opens `file`; gives what was left out, or the code.
fn open(
    judge: &mut Judge<'_>,
    file: &[u8],
    key: &Path,
    prompt: Option<&[u32]>,
) -> Result<Left, u16> {
    let mut open = || {
        let verdict = judge.verify(untrusted(file))?.with_source(file);
        let keys = [key.to_owned()];
        let keys = WrapKeys::read(&keys, &Passphrases::none())?;
        let accepted = judge.conclude(verdict)?;
        let admitted = judge.open(accepted, keys, prompt, Workers::new(1))?;
        assert!(!admitted.opened.tip().stream_bytes(0)?.is_empty());
        Ok(admitted.unchecked)
    };
    open().map_err(|error: kvcap::Error| error.code().number())
}

type Left = BTreeSet<Unchecked>;

#[test]
fn a_verdict_names_what_was_not_checked() {
    use Unchecked::{Body, Freshness, Model, Prompt, RuntimeVersion, Subject, Tenant};
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
    assert!(verdict.has_checked(Unchecked::Ancestors));
    let checked = verdict
        .tip()
        .check_body_at(file.as_slice(), Workers::new(1), &mut |_| {})
        .unwrap();
    verdict.body_checked(&checked);
    assert!(verdict.has_checked(Body));

    let home = folder();
    let folder = home.path();
    let full = Verifier {
        ledger: Some(Arc::new(LedgerFile::at(folder.join("ledger")))),
        ..verifier()
    };
    let (model, tokenizer, rope) = (fixture::model(), fixture::tokenizer(), fixture::rope());
    let mut expected = Expected::of(&model, &tokenizer, &rope);
    let runtime = fixture::context().runtime;
    expected.runtime = Some((runtime.name, Some(runtime.version)));
    let mut judge = full.judge().unwrap().expecting(expected);
    let (key, prompt) = (key_file(folder), fixture::prompt());
    let left = open(&mut judge, &sealed(|_| {}), &key, Some(&prompt));
    assert_eq!(left, Ok(Left::new()));
}

#[test]
fn a_use_is_recorded_before_anything_is_given_out_and_a_damaged_copy_uses_nothing_up() {
    let home = folder();
    let folder = home.path();
    let key = key_file(folder);
    let file = sealed(|terms| terms.single_use = true);
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let remembering = Verifier {
        ledger: Some(Arc::new(LedgerFile::at(folder.join("ledger")))),
        ..verifier()
    };
    let judge = remembering.judge().unwrap();
    let mut judge = judge.danger_without(&[Unchecked::Model]);
    assert_eq!(open(&mut judge, &damaged, &key, None), Err(805));
    let other = [1, 2, 3];
    assert_eq!(open(&mut judge, &file, &key, Some(&other)), Err(605));
    assert!(open(&mut judge, &file, &key, None).is_ok());
    assert_eq!(open(&mut judge, &file, &key, None), Err(410));
    // and by its header alone
    let used = judge.verify(untrusted(&file)).unwrap_err();
    assert_eq!(used.code().number(), 410);
    // its issuer, who seals it again, uses nothing
    let terms = untrusted(&file).claims().terms.clone();
    let mut judge = remembering.judge().unwrap().danger_as_stated(&terms);
    assert!(open(&mut judge, &file, &key, None).is_ok());
    // without a ledger nobody could say that it is the first use
    let forgetful = verifier();
    let judge = forgetful.judge().unwrap();
    let mut judge = judge.danger_without(&[Unchecked::Model]);
    assert_eq!(open(&mut judge, &file, &key, None), Err(410));
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
fn opening_takes_no_more_memory_than_the_budget() {
    let home = folder();
    let folder = home.path();
    let (key, file) = (key_file(folder), sealed(|_| {}));
    let of = |budget| Verifier {
        budget,
        ..verifier()
    };
    let needed: u64 = 16 * sections(&file);
    assert!(needed > 0);
    let (enough, less) = (of(needed), of(needed - 1));
    let mut judge = enough.judge().unwrap().danger_without(&[Unchecked::Model]);
    assert!(open(&mut judge, &file, &key, None).is_ok());
    let mut judge = less.judge().unwrap().danger_without(&[Unchecked::Model]);
    assert_eq!(open(&mut judge, &file, &key, None), Err(910));
    // what is verified alone is not held
    assert!(judge.verify(untrusted(&file)).is_ok());
}

/// Bytes of what the vectors' state has beside its banks and its history.
fn sections(file: &[u8]) -> u64 {
    let any = verifier();
    let verdict = any.judge().unwrap().verify(untrusted(file)).unwrap();
    let streams = &verdict.tip().manifest().context.streams;
    let held = streams.iter().filter_map(|stream| match stream {
        Stream::Section(section) if section.kind != SectionKind::History => Some(section.len),
        _ => None,
    });
    held.sum()
}

#[test]
fn what_may_not_be_left_out_is_refused_until_it_is_accepted_by_name() {
    let home = folder();
    let folder = home.path();
    let key = key_file(folder);
    let file = sealed(|_| {});
    let verifier = verifier();
    // no model: verified, and not opened
    let mut judge = verifier.judge().unwrap();
    let verdict = judge.verify(untrusted(&file)).unwrap();
    assert!(judge.conclude(verdict).is_ok());
    assert_eq!(open(&mut judge, &file, &key, None), Err(612));
    let mut judge = judge.danger_without(&[Unchecked::Model]);
    let left = open(&mut judge, &file, &key, None).unwrap();
    assert!(left.contains(&Unchecked::Model));
    assert!(!judge.unaccepted(&left).contains(&Unchecked::Model));
    assert!(judge.unaccepted(&left).contains(&Unchecked::Prompt));

    // each flag of the capture, by its own name
    let flags = |set: u8| CaptureFlags {
        speculative_prefill: set == 0,
        multi_token_prediction: set == 1,
        quantized_attention: set == 2,
    };
    let names = [
        Unchecked::SpeculativePrefill,
        Unchecked::MultiTokenPrediction,
        Unchecked::QuantizedAttention,
    ];
    for (set, name) in (0..).zip(names) {
        let file = sealed_with(|_| {}, |context| context.flags = flags(set));
        let others: Vec<Unchecked> = names.into_iter().filter(|other| *other != name).collect();
        let judge = verifier.judge().unwrap();
        let mut judge = judge.danger_without(&[&others[..], &[Unchecked::Model]].concat());
        let verdict = judge.verify(untrusted(&file)).unwrap();
        assert!(!verdict.has_checked(name));
        let refused = judge.conclude(verdict).unwrap_err();
        assert_eq!(
            (refused.code().number(), refused.place()),
            (613, Some(name.name()))
        );
        assert_eq!(open(&mut judge, &file, &key, None), Err(613));
        let mut judge = judge.danger_without(&[name]);
        assert!(open(&mut judge, &file, &key, None).is_ok());
    }

    // what a capsule does not say cannot have been compared
    let bare = sealed_with(
        |terms| (terms.subject, terms.tenant) = (None, None),
        |context| {
            context.runtime.version.clear();
            context.context_length = 0;
        },
    );
    let judge = verifier.judge().unwrap();
    let verdict = judge.verify(untrusted(&bare)).unwrap();
    for name in ["subject", "tenant", "runtime-version", "context-size"] {
        let check: Unchecked = name.parse().unwrap();
        assert!(!verdict.has_checked(check), "{name}");
    }
    // it names no session that somebody would have to state
    assert!(verdict.has_checked(Unchecked::Session));
    let of_session = sealed(|terms| {
        terms.session = Some(Session {
            id: "s-1".to_owned(),
            version: 7,
            replay_cursor: 42,
        });
    });
    let verdict = judge.verify(untrusted(&of_session)).unwrap();
    assert!(!verdict.has_checked(Unchecked::Session));
    let expecting = |id: &str, replay_cursor| {
        let mut expected = Expected::danger_any_model();
        expected.session = Some(ExpectedSession {
            id: id.to_owned(),
            version: Some(7),
            replay_cursor,
        });
        let judge = verifier.judge().unwrap().expecting(expected);
        judge.verify(untrusted(&of_session))
    };
    let whole = expecting("s-1", Some(42)).unwrap();
    assert!(whole.has_checked(Unchecked::Session));
    let half = expecting("s-1", None).unwrap();
    assert!(!half.has_checked(Unchecked::Session), "one number short");
    assert_eq!(expecting("s-2", None).unwrap_err().code().number(), 413);
}

#[test]
fn a_capsule_that_expires_before_its_body_is_there_is_refused() {
    let verifier = verifier();
    let mut judge = verifier.judge().unwrap();
    let lasting = judge.verify(untrusted(&sealed(|_| {}))).unwrap();
    // on a machine that stands still for as long as the capsule lives, another one
    let verdict = loop {
        let now = time::now();
        let file = sealed(|terms| {
            (terms.issued_at, terms.not_before, terms.expires) = (now - 60, now - 60, now + 2);
        });
        match judge.verify(untrusted(&file)) {
            Ok(verdict) => break verdict,
            Err(refused) => assert_eq!(refused.code().number(), 402),
        }
    };
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(judge.conclude(verdict).unwrap_err().code().number(), 402);
    // what is still good is said to be so as of now
    let before = lasting.judged_at();
    let after = judge.conclude(lasting).unwrap().into_verdict().judged_at();
    assert!(
        after >= before + 2 && after <= time::now(),
        "{before} {after}"
    );
}

/// One that a registry lists is what the registry says that it is.
#[test]
fn the_callers_own_key_is_trusted_beside_the_sources() {
    let file = sealed(|_| {});
    let of = |trust| Verifier {
        trust,
        ..verifier()
    };
    let nobody = of(TrustSources::default());
    let mut judge = nobody.judge().unwrap().trusting(listed()).unwrap();
    let verdict = judge.verify(untrusted(&file)).unwrap();
    // also when the sources are loaded again
    assert!(judge.conclude(verdict).is_ok());

    let home = folder();
    let path = home.path().join("registry");
    let (root, now) = (RootKey::generate().unwrap(), time::now());
    let registry = RegistryFile::at(&path);
    registry.create(&root, now, 3600).unwrap();
    let add = Change::Add(Box::new(listed()));
    registry.change(&[add], &root, now, None).unwrap();
    let by_registry = of(TrustSources {
        registries: vec![path.clone()],
        roots: vec![root.public().to_text()],
        ..TrustSources::default()
    });
    let verify = || {
        let judge = by_registry.judge()?.trusting(listed())?;
        judge.verify(untrusted(&file)).map(|_| ())
    };
    assert_eq!(verify(), Ok(()));
    let compromised = Change::Compromise(signer().public().id());
    registry.change(&[compromised], &root, now, None).unwrap();
    assert_eq!(verify().unwrap_err().code().number(), 304);
}

#[test]
fn who_keeps_capsules_for_others_refuses_what_is_nobodys() {
    let verifier = verifier();
    let keeping = || verifier.judge().unwrap().for_keeping();
    let whose = |subject: bool, tenant: bool| {
        sealed(|terms| {
            terms.subject = terms.subject.take().filter(|_| subject);
            terms.tenant = terms.tenant.take().filter(|_| tenant);
        })
    };
    assert!(keeping().verify(untrusted(&whose(true, true))).is_ok());
    for (subject, tenant, place) in [(true, false, "tenant"), (false, true, "subject")] {
        let file = whose(subject, tenant);
        let refused = keeping().verify(untrusted(&file)).unwrap_err();
        assert_eq!(
            (refused.code().number(), refused.place()),
            (612, Some(place))
        );
        // who restores it may name more than it does
        let restoring = verifier.judge().unwrap();
        assert!(restoring.verify(untrusted(&file)).is_ok());
    }
    // how a state was captured is the concern of who restores it
    let unusual = sealed_with(|_| {}, |context| context.flags.quantized_attention = true);
    let mut keeping = keeping();
    let verdict = keeping.verify(untrusted(&unusual)).unwrap();
    assert!(keeping.conclude(verdict).is_ok());
}

#[test]
fn a_state_that_is_opened_into_memory_is_within_the_budget() {
    let of = Verifier {
        budget: 1000,
        ..verifier()
    };
    let judge = of.judge().unwrap();
    assert_eq!(judge.check_state(1000), Ok(()));
    let refused = judge.check_state(1001).unwrap_err();
    assert_eq!(refused.code().number(), 910);
}

#[test]
fn a_capsule_that_is_revoked_before_its_body_is_there_is_refused() {
    let home = folder();
    let folder = home.path();
    let path = folder.join("registry");
    let (root, now) = (RootKey::generate().unwrap(), time::now());
    let registry = RegistryFile::at(&path);
    registry.create(&root, now, 3600).unwrap();
    let change = |change| registry.change(&[change], &root, now, None).unwrap();
    change(Change::Add(Box::new(listed())));
    let by_registry = Verifier {
        trust: TrustSources {
            registries: vec![path.clone()],
            roots: vec![root.public().to_text()],
            ..TrustSources::default()
        },
        ..verifier()
    };
    let file = sealed(|_| {});
    let mut judge = by_registry.judge().unwrap();
    let verdict = || judge.verify(untrusted(&file)).unwrap();
    let (first, second, third) = (verdict(), verdict(), verdict());
    let id = first.tip().manifest().claims.id;
    assert!(judge.conclude(first).is_ok());
    change(Change::Revoke(id));
    assert_eq!(judge.conclude(second).unwrap_err().code().number(), 409);
    change(Change::Compromise(signer().public().id()));
    assert_eq!(judge.conclude(third).unwrap_err().code().number(), 304);
}

#[test]
fn the_bytes_of_a_file_do_not_choose_how_far_it_is_trusted() {
    let home = folder();
    let folder = home.path();
    let ledger = folder.join("ledger");
    let now = time::now();
    let made = |name: &str| {
        let (path, root) = (folder.join(name), RootKey::generate().unwrap());
        let registry = RegistryFile::at(&path);
        registry.create(&root, now, 3600).unwrap();
        let mut key = listed();
        // no key is in two registries
        key.key = SigningKey::generate().unwrap().public();
        let key = Change::Add(Box::new(key));
        registry.change(&[key], &root, now, None).unwrap();
        (path, root.public().to_text())
    };
    let ((one, one_root), (other, other_root)) = (made("one"), made("other"));
    let (text, key) = (signer().public().to_text(), folder.join("key.pub"));
    fs::write(&key, &text).unwrap();
    let load = |keys: &[&str], registries: &[&Path], roots: &[&str], remembering: bool| {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let trust = TrustSources {
            keys: own(keys),
            registries: registries.iter().map(|path| (*path).to_owned()).collect(),
            roots: own(roots),
        };
        let file = Arc::new(LedgerFile::at(ledger.clone()));
        let ledger = remembering.then_some(file as Arc<dyn LedgerSource>);
        let verifier = Verifier {
            ledger,
            trust,
            ..verifier()
        };
        verifier
            .judge()
            .map_or_else(|error| error.code().number(), |_| 0)
    };
    let (key, one_text) = (key.to_str().unwrap(), one.to_str().unwrap());
    assert_eq!(load(&[key], &[], &[], false), 0);
    assert_eq!(load(&[], &[&one], &[&one_root], false), 0);
    // a registry is no key, and a key no registry, whoever serves them
    assert_eq!(load(&[one_text], &[], &[], false), 942);
    assert_eq!(load(&[], &[Path::new(key)], &[&one_root], false), 308);
    // a root and a registry go together, and without keys
    assert_eq!(load(&[], &[&one], &[], false), 944);
    assert_eq!(load(&[], &[], &[&one_root], false), 944);
    assert_eq!(load(&[key], &[], &[&one_root], false), 944);
    assert_eq!(load(&[key], &[&one], &[&one_root], false), 944);

    // a memory is not satisfied with less than it has seen
    assert_eq!(load(&[key], &[], &[], true), 0);
    assert_eq!(load(&[], &[&one], &[&one_root], true), 0);
    assert_eq!(load(&[key], &[], &[], true), 309);
    assert_eq!(load(&[], &[&other], &[&other_root], true), 309);
    assert_eq!(
        load(&[], &[&one, &other], &[&one_root, &other_root], true),
        0
    );
    assert_eq!(load(&[], &[&one], &[&one_root], true), 309);
    assert_eq!(load(&[], &[&other], &[&other_root], true), 309);
}
