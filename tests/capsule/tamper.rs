//! A small capsule cut at every byte, with every bit flipped, and with a byte more: all refused.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    io::{self, Read},
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use kvcap::{
    Expected, Limits, Policy, ReadAt, Role, Stream, Trust, Untrusted, Workers, WrappingKey,
};
use kvcap_codecs::Dtype;
use kvcap_testvectors::{
    fixture::{self, Capsule},
    parts::{lengths, public, regions},
};

/// One opaque bank of 40 bytes and the prefix: one page of header, one of tables.
fn capsule() -> Capsule {
    let mut context = fixture::context();
    context.rope.clear();
    context.streams = vec![
        Stream::Bank(fixture::whole(Role::Opaque, 0, 0, Dtype::U8, &[40])),
        fixture::section(kvcap::SectionKind::Prefix, 32),
    ];
    fixture::seal_context("tamper", context)
}

fn trust() -> Trust {
    Trust::from(kvcap::TrustedKey::new(
        kvcap::PublicKey::from_bytes(&public(&fixture::SIGN_SEED)).unwrap(),
        fixture::ISSUER,
    ))
}

fn policy(trust: &Trust) -> Policy<'_> {
    let mut policy = Policy::new(
        trust,
        fixture::NOW,
        fixture::AUDIENCE,
        Expected::danger_any_model(),
    );
    policy.subject = Some(fixture::SUBJECT.to_owned());
    policy.tenant = Some(fixture::TENANT.to_owned());
    policy
}

/// Header and body, without any secret: the code, 0 for acceptance.
fn verify(trust: &Trust, file: &[u8]) -> u16 {
    verify_from(trust, file)
}

fn verify_from(trust: &Trust, mut reader: impl Read + Send) -> u16 {
    let result = Untrusted::read(&mut reader, &Limits::default())
        .and_then(|capsule| capsule.verify(&policy(trust)))
        .and_then(|verified| verified.check_body(&mut reader, Workers::new(2), &mut |_| {}));
    result.map_or_else(|error| error.code().number(), |_| 0)
}

/// The same for a file of known length, whose chunks are read wherever they lie.
fn verify_at(trust: &Trust, file: &[u8]) -> u16 {
    let result = Untrusted::read_at(file, &Limits::default())
        .and_then(|capsule| capsule.verify(&policy(trust)))
        .and_then(|verified| verified.check_body_at(file, Workers::new(2), &mut |_| {}));
    result.map_or_else(|error| error.code().number(), |_| 0)
}

/// Header, key, every stream, and no check of the body before.
fn open(trust: &Trust, file: &[u8]) -> u16 {
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let result = Untrusted::read_at(file, &Limits::default())
        .and_then(|capsule| capsule.verify(&policy(trust)))
        .and_then(|verified| verified.open(file, &key)?.release())
        .and_then(|opened| {
            (0..opened.manifest().context.streams.len())
                .try_for_each(|stream| opened.stream_bytes(stream).map(drop))
        });
    result.map_or_else(|error| error.code().number(), |()| 0)
}

/// Calls `check` with every index of `range`, half of them in another thread.
fn everywhere(range: Range<usize>, check: impl Fn(usize) + Sync) {
    let middle = range.start.midpoint(range.end);
    let check = &check;
    thread::scope(|scope| {
        scope.spawn(move || (range.start..middle).for_each(check));
        (middle..range.end).for_each(check);
    });
}

#[test]
fn the_whole_file_is_accepted() {
    let file = capsule().file;
    assert_eq!((verify(&trust(), &file), open(&trust(), &file)), (0, 0));
    assert_eq!(verify_at(&trust(), &file), 0);
    assert_eq!(file.len(), 8192 + 72);
}

/// CAP-O-2: opening checks what it reads, verifying everything.
#[test]
fn what_is_not_read_is_not_checked_by_opening() {
    let (mut file, trust) = (capsule().file, trust());
    // the bank's one chunk, before that of the prefix
    file[regions(&capsule().file).1] ^= 1;
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let opened = Untrusted::read_at(&file[..], &Limits::default())
        .and_then(|capsule| capsule.verify(&policy(&trust)))
        .and_then(|verified| verified.open(&file[..], &key)?.release())
        .unwrap();
    assert_eq!(opened.stream_bytes(1).unwrap().len(), 32);
    let refused = opened.stream_bytes(0).unwrap_err();
    assert_eq!(
        (refused.code().number(), refused.place()),
        (805, Some("stream 0, chunk 0"))
    );
    assert_eq!(verify(&trust, &file), 805);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let (file, trust) = (capsule().file, trust());
    let body = regions(&file).1;
    everywhere(0..file.len(), |len| {
        let want = match len {
            0..64 => 101,
            _ if len < body => 106,
            _ => 807,
        };
        let cut = &file[..len];
        assert_eq!(verify(&trust, cut), want, "verify, {len} bytes");
        assert_eq!(verify_at(&trust, cut), want, "verify a file, {len} bytes");
        assert_eq!(open(&trust, cut), want, "open, {len} bytes");
    });
}

/// A connection that breaks, and no end.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn a_read_that_fails_is_not_an_end() {
    let (file, trust) = (capsule().file, trust());
    let (tables, body) = regions(&file);
    for len in [0, 63, 64, tables, body, file.len() - 1, file.len()] {
        let code = verify_from(&trust, file[..len].chain(Broken));
        assert_eq!(code, 940, "after {len} bytes");
    }
}

/// A file that can no longer be read, or has become shorter, once it is open.
struct Fading {
    file: Vec<u8>,
    broken: AtomicBool,
    len: AtomicU64,
}

impl ReadAt for Fading {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.broken.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => self.file.as_slice().read_exact_at(offset, buf),
        }
    }
}

#[test]
fn a_file_that_fades_away_is_not_taken_for_another() {
    let (file, trust) = (capsule().file, trust());
    let len = u64::try_from(file.len()).unwrap();
    let source = Fading {
        file,
        broken: AtomicBool::new(false),
        len: AtomicU64::new(len),
    };
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let verified = Untrusted::read_at(&source, &Limits::default())
        .and_then(|capsule| capsule.verify(&policy(&trust)));
    let opened = verified
        .unwrap()
        .open(&source, &key)
        .unwrap()
        .release()
        .unwrap();
    let code = |stream| opened.stream_bytes(stream).unwrap_err().code().number();
    // so that the tables are read
    assert_eq!(opened.stream_bytes(0).unwrap().len(), 40);
    source.broken.store(true, Ordering::Relaxed);
    assert_eq!((code(0), code(1)), (940, 940));
    source.len.store(len - 1, Ordering::Relaxed);
    assert_eq!((code(0), code(1)), (940, 807));
}

/// What a changed bit may be called, by the region that it lies in.
fn codes(file: &[u8], bit: usize) -> &'static [u16] {
    let byte = bit / 8;
    let (envelope, tables, _) = lengths(file);
    let (tables_at, body_at) = regions(file);
    let signature = 64 + envelope - 64;
    match byte {
        0..8 => &[102],
        8..10 => &[103],
        10..12 | 32..64 => &[104],
        // another length: over a limit, past the file, or over bytes that are then out of place
        12..16 => &[105, 106, 107, 201, 206],
        16..24 => &[105, 507],
        24..32 => &[105, 507],
        _ if byte < signature => HEADER,
        _ if byte < 64 + envelope => &[306, 307],
        _ if byte < tables_at => &[107],
        _ if byte < tables_at + tables => &[801],
        _ if byte < body_at => &[107],
        _ => &[805],
    }
}

/// A header with one bit changed is malformed, names no trusted key, or is not what was signed.
const HEADER: &[u16] = &[
    201, 202, 203, 204, 205, 206, 210, 211, 212, 213, 214, 215, 216, 217, 301, 306, 307, 401,
];

#[test]
fn a_file_with_any_bit_flipped_is_refused() {
    let (file, trust) = (capsule().file, trust());
    let header = regions(&file).0;
    // past the header, the same header bytes need not be verified for each bit
    let verified = Untrusted::read_at(&file[..], &Limits::default())
        .and_then(|capsule| capsule.verify(&policy(&trust)))
        .unwrap();
    everywhere(0..file.len() * 8, |bit| {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = if bit / 8 < header {
            verify(&trust, &flipped)
        } else {
            let checked =
                verified.check_body(&mut &flipped[header..], Workers::new(2), &mut |_| {});
            checked.map_or_else(|error| error.code().number(), |_| 0)
        };
        let place = format!("byte {}, bit {}: KVC-{found}", bit / 8, bit % 8);
        assert!(codes(&file, bit).contains(&found), "{place}");
        assert_eq!(open(&trust, &flipped), found, "{place} by verify");
    });
}

#[test]
fn a_file_with_a_byte_more_is_refused() {
    let (mut file, trust) = (capsule().file, trust());
    for byte in [0, 1, 0xFF] {
        file.push(byte);
        assert_eq!((verify(&trust, &file), open(&trust, &file)), (108, 108));
        assert_eq!(verify_at(&trust, &file), 108);
        file.pop();
    }
    let twice = file.repeat(2);
    assert_eq!((verify(&trust, &twice), open(&trust, &twice)), (108, 108));
}
