//! New headers over a body that stays: renewal, other recipients, and what both refuse.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
    sync::Mutex,
};

use kvcap::{
    Draft, Limits, MAX_LIFETIME, Opened, Policy, Purpose, Recipient, Reissued, Reissuer, Renewal,
    Result, Rewrap, Sealer, SigningKey, Status, Terms, Trust, TrustedKey, Untrusted, Verified,
    WrappingKey, WriteAt,
};
use kvcap_testvectors::fixture::{self, EXPIRES, ISSUED, NOW};

const DAY: u64 = 24 * 3600;

type Change<'a> = &'a dyn Fn(&mut Terms);

fn signer() -> SigningKey {
    SigningKey::from_seed(&fixture::SIGN_SEED)
}

fn capsule(change: impl Fn(&mut Terms)) -> Vec<u8> {
    let mut terms = fixture::terms();
    change(&mut terms);
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let keys = [fixture::WRAP_KEY];
    fixture::seal("reissue", terms, context, plain, &[], &keys, Vec::new()).file
}

fn verify(file: &[u8], trust: &Trust, now: u64) -> Result<Verified> {
    let untrusted = Untrusted::read_at(file, &Limits::default())?;
    let terms = untrusted.claims().terms.clone();
    untrusted.verify(&Policy::danger_as_stated(trust, now, &terms))
}

fn open<'f>(file: &'f [u8], trust: &Trust, key: &WrappingKey) -> Result<Opened<&'f [u8]>> {
    verify(file, trust, NOW)?.open(file, key)?.release()
}

fn renewal(expires: u64) -> Renewal {
    Renewal::until(expires)
}

fn written(header: &Reissued, old: &[u8]) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    header.write(&mut Cursor::new(old), &mut out).unwrap();
    let file = out.into_inner();
    assert_eq!(file.len() as u64, header.verified().file_len());
    file
}

fn code<T>(result: Result<T>) -> u16 {
    result.map_or_else(|error| error.code().number(), |_| 0)
}

/// Tables and body: all but the header's pages.
fn rest(file: &[u8]) -> &[u8] {
    let len = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    &file[(64 + len).next_multiple_of(4096)..]
}

struct Fixed {
    signer: SigningKey,
    trust: Trust,
}

impl Fixed {
    fn new() -> Self {
        let signer = signer();
        let trust = Trust::from(TrustedKey::new(signer.public(), fixture::ISSUER));
        Self { signer, trust }
    }

    fn by(&self, now: u64) -> Reissuer<'_> {
        Reissuer::new(&self.signer, &self.trust, now)
    }

    fn renew(&self, file: &[u8], now: u64, renewal: &Renewal) -> Result<Vec<u8>> {
        let verified = verify(file, &self.trust, now)?;
        let header = verified.renew(renewal, &self.by(now))?;
        assert_eq!(header.verified().lineage(), verified.lineage());
        Ok(written(&header, file))
    }
}

#[test]
fn a_renewal_changes_times_and_nothing_else() {
    let fixed = Fixed::new();
    let old = capsule(|_| {});
    let new = fixed.renew(&old, NOW, &renewal(EXPIRES + DAY)).unwrap();
    assert!(rest(&new) == rest(&old));
    let (was, is) = (
        verify(&old, &fixed.trust, NOW).unwrap(),
        verify(&new, &fixed.trust, EXPIRES).unwrap(),
    );
    assert_eq!(code(verify(&old, &fixed.trust, EXPIRES)), 402);
    let mut claims = was.manifest().claims.clone();
    claims.terms.expires = EXPIRES + DAY;
    claims.terms.issued_at = NOW;
    claims.terms.renew_until = ISSUED + MAX_LIFETIME;
    assert_eq!(is.manifest().claims, claims);
    assert_eq!(is.manifest().context, was.manifest().context);
    assert_eq!(is.manifest().measured, was.manifest().measured);
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let opened = open(&new, &fixed.trust, &key).unwrap();
    for (index, plain) in fixture::contents(&fixture::context()).iter().enumerate() {
        assert_eq!(
            &opened.stream_bytes(index).unwrap(),
            plain,
            "stream {index}"
        );
    }
}

#[test]
fn no_chain_of_renewals_passes_the_cap() {
    let fixed = Fixed::new();
    // what the issuer said, for one use or not, or the lifetime limit from the first sealing
    let cases: [(Change<'_>, u64); 4] = [
        (&|_| {}, ISSUED + MAX_LIFETIME),
        (
            &|terms| terms.renew_until = EXPIRES + 90 * DAY,
            EXPIRES + 90 * DAY,
        ),
        (&|terms| terms.renew_until = EXPIRES, EXPIRES),
        (
            &|terms| {
                terms.single_use = true;
                terms.renew_until = EXPIRES + DAY;
            },
            EXPIRES + DAY,
        ),
    ];
    for (change, cap) in cases {
        let mut file = capsule(change);
        let (mut now, mut exp) = (NOW, EXPIRES);
        while exp < cap {
            exp = cap.min(exp + 20 * DAY);
            file = fixed.renew(&file, now, &renewal(exp)).unwrap();
            now = exp - 1;
        }
        assert_eq!(
            code(fixed.renew(&file, now, &renewal(cap + 1))),
            404,
            "{cap}"
        );
        assert_eq!(code(fixed.renew(&file, cap, &renewal(cap))), 402, "{cap}");
        // shorter is always allowed
        fixed.renew(&file, cap - 10, &renewal(cap - 5)).unwrap();
    }
    // and none of the steps lives longer than a verifier accepts
    let file = capsule(|terms| terms.renew_until = EXPIRES + 90 * DAY);
    let long = renewal(NOW + MAX_LIFETIME + 1);
    assert_eq!(code(fixed.renew(&file, NOW, &long)), 404);
    // a header that was signed past its own cap is refused by every verifier
    let signed = capsule(|terms| terms.renew_until = terms.expires - 1);
    assert_eq!(code(verify(&signed, &fixed.trust, NOW)), 404);
}

#[test]
fn a_scope_is_widened_by_name_only() {
    let fixed = Fixed::new();
    let file = capsule(|_| {});
    let scoped = |scope: &str, widen_scope| {
        let mut renewal = Renewal::until(EXPIRES);
        renewal.scope = Some(scope.to_owned());
        renewal.widen_scope = widen_scope;
        renewal
    };
    let narrow = fixed
        .renew(&file, NOW, &scoped("kv:inspect", false))
        .unwrap();
    let mut restore = Policy::danger_as_stated(&fixed.trust, NOW, &fixture::terms());
    restore.scope = kvcap::RESTORE.to_owned();
    let read = |file: &[u8]| Untrusted::read_at(file, &Limits::default()).unwrap();
    assert_eq!(code(read(&narrow).verify(&restore)), 408);
    for wider in [
        "kv:restore",
        "kv:inspect kv:restore",
        "kv:inspec",
        "kv:inspect kv",
    ] {
        assert_eq!(
            code(fixed.renew(&narrow, NOW, &scoped(wider, false))),
            408,
            "{wider}"
        );
    }
    let wide = fixed
        .renew(&narrow, NOW, &scoped("kv:restore", true))
        .unwrap();
    read(&wide).verify(&restore).unwrap();
    assert_eq!(code(fixed.renew(&file, NOW, &scoped("", false))), 408);
    assert_eq!(code(fixed.renew(&file, NOW, &scoped("", true))), 401);
}

#[test]
fn only_a_trusted_key_of_the_issuer_renews() {
    let fixed = Fixed::new();
    let verified = verify(&capsule(|_| {}), &fixed.trust, NOW).unwrap();
    let other = SigningKey::from_seed(&[9; 32]);
    let trusting = |change: &dyn Fn(&mut TrustedKey)| {
        let mut key = TrustedKey::new(other.public(), fixture::ISSUER);
        change(&mut key);
        let mut trust = fixed.trust.clone();
        trust.add(key).unwrap();
        trust
    };
    let by = |trust: &Trust| {
        let by = Reissuer::new(&other, trust, NOW);
        code(verified.renew(&renewal(EXPIRES), &by))
    };
    assert_eq!(by(&fixed.trust), 301);
    let issuer = |name: &'static str| move |key: &mut TrustedKey| key.issuer = name.to_owned();
    assert_eq!(by(&trusting(&issuer("somebody else"))), 312);
    assert_eq!(by(&trusting(&|key| key.status = Status::Compromised)), 304);
    assert_eq!(by(&trusting(&|key| key.sign_until = NOW)), 303);
    assert_eq!(by(&trusting(&|key| key.not_before = NOW + 1)), 303);
    assert_eq!(by(&trusting(&|key| key.purpose = Purpose::Statements)), 302);
    // a key that came after the sealing: `iat` is when the new header was signed
    let trust = trusting(&|key| {
        key.not_before = NOW;
        key.issuer = fixture::ISSUER.to_owned();
    });
    assert_eq!(by(&trust), 0);
}

#[test]
fn another_key_opens_after_rewrapping() {
    let fixed = Fixed::new();
    let file = capsule(|_| {});
    let verified = verify(&file, &fixed.trust, NOW).unwrap();
    let old = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let new = WrappingKey::generate().unwrap();
    let only = [(&new).into()];
    let keeping = |to, keep| {
        let mut rewrap = Rewrap::to(to);
        rewrap.keep = keep;
        rewrap
    };
    let to = |keep| keeping(&only, keep);
    for keep in [false, true] {
        let header = verified.rewrap(&old, &to(keep), &fixed.by(NOW)).unwrap();
        assert_eq!(header.verified().lineage(), verified.lineage());
        let out = written(&header, &file);
        assert!(rest(&out) == rest(&file));
        let read = |key| open(&out, &fixed.trust, key).and_then(|opened| opened.stream_bytes(0));
        assert_eq!(
            read(&new).unwrap(),
            fixture::contents(&fixture::context())[0]
        );
        assert_eq!(code(read(&old)), if keep { 0 } else { 809 });
        let terms = &header.verified().manifest().claims.terms;
        assert_eq!((terms.expires, terms.issued_at), (EXPIRES, NOW));
        assert_eq!(terms.renew_until, ISSUED + MAX_LIFETIME);
    }
    let again = [(&old).into()];
    let again = keeping(&again, true);
    assert_eq!(code(verified.rewrap(&old, &again, &fixed.by(NOW))), 808);
    assert_eq!(code(verified.rewrap(&new, &to(true), &fixed.by(NOW))), 809);
    let many: Vec<WrappingKey> = (0..16).map(|_| WrappingKey::generate().unwrap()).collect();
    let many: Vec<Recipient<'_>> = many.iter().map(Recipient::from).collect();
    for (keep, want) in [(false, 0), (true, 503)] {
        let crowd = keeping(&many, keep);
        assert_eq!(code(verified.rewrap(&old, &crowd, &fixed.by(NOW))), want);
    }
    let nobody = Rewrap::to(&[]);
    assert_eq!(code(verified.rewrap(&old, &nobody, &fixed.by(NOW))), 501);
}

#[test]
fn a_header_that_grows_moves_the_body_by_pages() {
    let fixed = Fixed::new();
    let file = capsule(|terms| terms.scope += &format!(" {}", "w".repeat(900)));
    let verified = verify(&file, &fixed.trust, NOW).unwrap();
    let old = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let many: Vec<WrappingKey> = (0..15).map(|_| WrappingKey::generate().unwrap()).collect();
    let to: Vec<_> = many.iter().map(Recipient::from).collect();
    let mut crowd = Rewrap::to(&to);
    crowd.keep = true;
    crowd.audience = Some("a".repeat(1024));
    let header = verified.rewrap(&old, &crowd, &fixed.by(NOW)).unwrap();
    let out = written(&header, &file);
    assert_eq!(out.len() - file.len(), 4096);
    assert!(rest(&out) == rest(&file));
    for key in &many {
        open(&out, &fixed.trust, key).unwrap();
    }
}

/// Counts what is read, and from where on.
struct Counted<'a>(Cursor<&'a [u8]>, u64, u64);

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.2 = self.2.min(self.0.position());
        let len = self.0.read(buf)?;
        self.1 += len as u64;
        Ok(len)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn the_body_is_copied_once_and_its_length_is_exact() {
    let fixed = Fixed::new();
    let file = capsule(|_| {});
    let verified = verify(&file, &fixed.trust, NOW).unwrap();
    let header = verified
        .renew(&renewal(EXPIRES + 1), &fixed.by(NOW))
        .unwrap();
    let mut counted = Counted(Cursor::new(&file), 0, u64::MAX);
    header
        .write(&mut counted, &mut Cursor::new(Vec::new()))
        .unwrap();
    let tail = rest(&file).len() as u64;
    assert_eq!((counted.1, counted.2), (tail, file.len() as u64 - tail));

    let write = |file: &[u8]| {
        let mut out = Cursor::new(Vec::new());
        let result = code(header.write(&mut Cursor::new(file), &mut out));
        (result, out.into_inner())
    };
    let longer = [&file[..], &[0]].concat();
    for (cut, want) in [
        (&longer[..], 108),
        (&file[..file.len() - 1], 807),
        (&file[..5000], 106),
    ] {
        assert_eq!(write(cut), (want, Vec::new()));
    }
    assert_eq!(header.old_len(), file.len() as u64);
}

/// Where something was written, in that order, and how much.
#[derive(Default)]
struct Places(Mutex<Vec<(u64, usize)>>);

impl WriteAt for Places {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().push((offset, buf.len()));
        Ok(())
    }
}

/// An output that fails when the first byte is to be written.
struct Stopped(Cursor<Vec<u8>>);

impl Write for Stopped {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Stopped {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(0) => Err(io::ErrorKind::StorageFull.into()),
            _ => self.0.seek(to),
        }
    }
}

/// What a writer leaves that is stopped before its end is no capsule (capsule-v1 CAP-F-7).
#[test]
fn the_prologue_is_written_last() {
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let (signer, wrap) = (signer(), WrappingKey::from_bytes(fixture::WRAP_KEY));
    let draft = Draft::new(fixture::terms(), context);
    let sealer = Sealer::new(Places::default(), draft, &signer, &[&wrap]).unwrap();
    for bytes in &plain {
        sealer.write(bytes).unwrap();
        sealer.end_stream().unwrap();
    }
    let (places, _) = sealer.finish().unwrap();
    let places = places.0.into_inner().unwrap();
    let (last, before) = places.split_last().unwrap();
    assert_eq!(*last, (0, 64));
    assert!(before.iter().all(|(offset, _)| *offset >= 64));

    let fixed = Fixed::new();
    let old = capsule(|_| {});
    let verified = verify(&old, &fixed.trust, NOW).unwrap();
    let header = verified.renew(&renewal(EXPIRES + 1), &fixed.by(NOW));
    let header = header.unwrap();
    let mut out = Stopped(Cursor::new(Vec::new()));
    assert_eq!(code(header.write(&mut Cursor::new(&old), &mut out)), 940);
    let left = out.0.into_inner();
    assert_eq!(left.len() as u64, header.verified().file_len());
    assert_eq!(code(verify(&left, &fixed.trust, NOW)), 102);
}

#[test]
fn a_body_that_is_put_aside_goes_on_as_its_capsules_own() {
    let fixed = Fixed::new();
    let (file, other) = (capsule(|_| {}), fixture::other().file);
    let verified = verify(&file, &fixed.trust, NOW).unwrap();
    let another = verify(&other, &fixed.trust, NOW).unwrap();
    let tables = file.len() - rest(&file).len();
    let (first, second) = file[tables..].split_at(5000);
    let paused = || verified.push_body().feed(first).unwrap().pause();
    assert_eq!(
        another.resume_body(paused()).unwrap_err().code().number(),
        507
    );
    let resumed = verified.resume_body(paused()).unwrap();
    let arrived = resumed.feed(second).unwrap().finish().unwrap();
    assert_eq!(arrived.checked().bytes, (file.len() - tables) as u64);
}

/// A body takes its time: what has happened since its header was verified counts.
#[test]
fn a_body_that_arrives_late_is_judged_by_the_time_of_then() {
    let fixed = Fixed::new();
    let file = capsule(|_| {});
    let body = |trust: &Trust, now: u64| {
        let verified = verify(&file, &fixed.trust, NOW)?;
        let terms = &verified.manifest().claims.terms;
        let policy = Policy::danger_as_stated(trust, now, terms);
        let tables = file.len() - rest(&file).len();
        let arrived = verified.push_body().feed(&file[tables..])?.finish()?;
        let checked = arrived.accept(&policy)?;
        assert_eq!(checked.bytes, (file.len() - tables) as u64);
        verified.verify_again(&policy)
    };
    let marked = |change: &dyn Fn(&mut TrustedKey)| {
        let mut trust = Trust::none();
        let mut key = TrustedKey::new(fixed.signer.public(), fixture::ISSUER);
        change(&mut key);
        trust.add(key).unwrap();
        trust
    };
    assert_eq!(code(body(&fixed.trust, NOW)), 0);
    assert_eq!(code(body(&fixed.trust, EXPIRES - 1)), 0);
    assert_eq!(code(body(&fixed.trust, EXPIRES)), 402);
    assert_eq!(code(body(&Trust::none(), NOW)), 301);
    assert_eq!(
        code(body(&marked(&|key| key.status = Status::Compromised), NOW)),
        304
    );
    assert_eq!(code(body(&marked(&|key| key.verify_until = NOW), NOW)), 303);
    assert_eq!(
        code(body(&marked(&|key| key.purpose = Purpose::Statements), NOW)),
        302
    );
}
