//! Any history of a ledger: no capsule is used twice, no session goes back, and what is checked is what is recorded.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use kvcap::{InMemory, Ledger, MAX_SKEW, Terms, Usage, binding::Digest};
use libfuzzer_sys::fuzz_target;

/// A time at which clocks begin, in seconds since 1970.
const BEGINNING: u64 = 1_800_000_000;

fuzz_target!(|data: &[u8]| {
    let ledger = Ledger::new(InMemory::default());
    let (mut used, mut highest) = (BTreeSet::new(), BTreeMap::new());
    let mut latest = 0;
    // the memory is copied for each step
    for [step, choice, low, high] in data.as_chunks().0.iter().take(128) {
        // mostly seconds, at times months
        let ahead = u64::from(u16::from_le_bytes([*low, *high]));
        let now = BEGINNING + ahead * if choice & 0x80 == 0 { 1 } else { 600 };
        match step % 4 {
            0 => match ledger.observe(now) {
                Ok(time) => {
                    assert!(time == now || (time == latest && time - now <= MAX_SKEW));
                    latest = ledger.latest().expect("memory does not fail");
                }
                Err(_) => assert!(latest - now > MAX_SKEW),
            },
            1 => {
                ledger.confirm(now).expect("memory does not fail");
                assert_eq!(ledger.latest().ok(), Some(latest.max(now)));
                latest = latest.max(now);
            }
            2 => {
                // a clock that is set back by hand forgets nothing else
                ledger.danger_set_clock(now).expect("memory does not fail");
                latest = now;
            }
            _ => {
                let capsule = choice & 7;
                let usage = Usage::of(&Digest([capsule; 32]), &terms(capsule), now);
                let checked = ledger.check(&usage);
                let recorded = ledger.record(&usage);
                assert_eq!(
                    checked.as_ref().map_err(kvcap::Error::code),
                    recorded.as_ref().map_err(kvcap::Error::code)
                );
                if recorded.is_err() {
                    continue;
                }
                if usage.once.is_some() {
                    assert!(used.insert(capsule), "a second use");
                }
                if let Some((session, number)) = usage.sequence {
                    let before = highest.insert(session.0, number);
                    assert!(
                        before.is_none_or(|before| before <= number),
                        "a session went back"
                    );
                }
            }
        }
    }
});

/// Terms of a few capsules: half of them for one use, of two sessions.
fn terms(capsule: u8) -> Terms {
    let expires = BEGINNING + 50_000 * u64::from(capsule);
    let mut terms = Terms::new("issuer", "here", BEGINNING, expires);
    terms.renew_until = expires;
    terms.single_use = capsule & 1 == 1;
    terms.subject = Some(if capsule & 2 == 0 { "ana" } else { "bob" }.to_owned());
    terms.sequence = (capsule & 4 == 0).then_some(u64::from(capsule));
    terms
}
