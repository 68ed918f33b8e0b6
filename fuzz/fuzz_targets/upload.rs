//! An upload as a relay takes it: a file, true or changed, in pieces of any length, put aside and taken up between
//! them. What is refused does not depend on how it comes, and nothing passes that is not the signed file.

#![no_main]

use std::sync::LazyLock;

use kvcap::{
    Code, Expected, Fed, Limits, Policy, PushHeader, Result, SigningKey, Trust, TrustedKey,
    Untrusted, Workers,
};
use kvcap_fuzz::{Input, edit_bytes};
use kvcap_testvectors::fixture;
use libfuzzer_sys::fuzz_target;

static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| fixture::base().file);
static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let key = SigningKey::from_seed(&fixture::SIGN_SEED).public();
    TrustedKey::new(key, fixture::ISSUER).into()
});

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let mut file = SIGNED.clone();
    for _ in 0..script.byte() % 4 {
        edit_bytes(&mut file, &mut script);
    }
    let whole = whole(&file);
    let pieces = pieces(&file, &mut script);
    assert_eq!(whole, pieces);
    assert_eq!(whole.is_ok(), file == *SIGNED);
});

fn policy() -> Policy<'static> {
    let expected = Expected::danger_any_model();
    let mut policy = Policy::new(&TRUST, fixture::NOW, fixture::AUDIENCE, expected);
    policy.subject = Some(fixture::SUBJECT.to_owned());
    policy.tenant = Some(fixture::TENANT.to_owned());
    policy
}

/// The verdict of a file that is there.
fn whole(file: &[u8]) -> std::result::Result<u64, Code> {
    let checked = || -> Result<u64> {
        let verified = Untrusted::read_at(file, &Limits::default())?.verify(&policy())?;
        Ok(verified
            .check_body_at(file, Workers::ONE, &mut |_| {})?
            .bytes)
    };
    checked().map_err(|error| error.code())
}

/// The verdict of one that comes in pieces.
fn pieces(file: &[u8], script: &mut Input<'_>) -> std::result::Result<u64, Code> {
    let mut left = file;
    let mut checked = || -> Result<u64> {
        let mut header = PushHeader::new(&Limits::default());
        let untrusted = loop {
            let (mut now, later) = left.split_at(piece(script, left.len()));
            let ended = left.is_empty();
            match header.feed(&mut now)? {
                Fed::Header(untrusted) => {
                    left = &file[file.len() - later.len() - now.len()..];
                    break *untrusted;
                }
                Fed::More(more) if ended => return Err(more.end()),
                Fed::More(more) => (header, left) = (more, later),
            }
        };
        let verified = untrusted.verify(&policy())?;
        let mut body = verified.push_body();
        while !left.is_empty() {
            let (now, later) = left.split_at(piece(script, left.len()));
            body = body.feed(now)?;
            left = later;
            if script.byte() & 1 == 1 {
                body = verified.resume_body(body.pause())?;
            }
        }
        Ok(body.finish()?.accept(&policy())?.bytes)
    };
    checked().map_err(|error| error.code())
}

/// Length of the next piece: at least a byte, where one is left.
fn piece(script: &mut Input<'_>, left: usize) -> usize {
    let long = if script.is_empty() {
        left
    } else {
        usize::from(script.byte()).pow(2) + 1
    };
    long.min(left)
}
