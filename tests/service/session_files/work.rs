//! A session's work, the same bytes each time: it is begun again after a crash, and ends as if there had been none.

use kvcap::{CapsuleId, Result, WriteAt};
use kvcap_session::{
    Names,
    files::{Artefact, DeviceTier, Tier, Write, get_small},
};

pub(crate) fn name() -> Names {
    Names {
        tenant: Some("acme".to_owned()),
        subject: Some("agent".to_owned()),
        session: "Fix login".to_owned(),
    }
}

pub(crate) fn event(seq: u64) -> Vec<u8> {
    // longer than a block, so that a crash can lose one within
    let body = "x".repeat(usize::try_from(seq % 3).unwrap() * 5000);
    format!("{{\"seq\":{seq},\"kind\":\"user\",\"body\":\"{body}\"}}").into_bytes()
}

pub(crate) fn id(version: u64) -> CapsuleId {
    CapsuleId([u8::try_from(version % 251).unwrap(); 16])
}

pub(crate) fn capsule(version: u64) -> Vec<u8> {
    let seed = u8::try_from(version % 251).unwrap();
    (0..20_000_u32)
        .map(|at| (at % 253) as u8 ^ seed | 1)
        .collect()
}

pub(crate) fn record(version: u64) -> Vec<u8> {
    format!(
        "{{\"version\":{version},\"replay_cursor\":{}}}",
        3 * version
    )
    .into_bytes()
}

/// What a caller has been told is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Promised {
    pub(crate) events: u64,
    pub(crate) checkpoints: Vec<u64>,
    /// The version that is being removed: it may be there or not.
    pub(crate) leaving: Option<u64>,
}

/// Three events and a checkpoint, twice; then the first checkpoint is removed. `told` hears of each promise.
pub(crate) fn work(tier: &DeviceTier, told: &mut dyn FnMut(&Promised)) -> Result<()> {
    let mut promised = Promised::default();
    let mut writer = tier.writer(&name())?;
    writer.put(Artefact::Session, &&b"{\"session\":\"Fix login\"}"[..])?;
    for version in 1..=2 {
        for seq in 3 * version - 2..=3 * version {
            writer.put(Artefact::Event(seq), &event(seq))?;
            promised.events = seq;
            told(&promised);
        }
        let artefact = Artefact::Capsule(version, id(version));
        if writer.path(artefact).exists() {
            writer.put(artefact, &capsule(version))?;
        } else {
            let output = writer.begin(version)?;
            for (at, piece) in (0..).step_by(8000).zip(capsule(version).chunks(8000)) {
                output
                    .write_all_at(at, piece)
                    .map_err(|error| kvcap::Error::sink(&error, "capsule"))?;
            }
            writer.finish(output, version, id(version))?;
        }
        writer.put(Artefact::Checkpoint(version), &record(version))?;
        promised.checkpoints.push(version);
        told(&promised);
    }
    promised.checkpoints.retain(|version| *version != 1);
    promised.leaving = Some(1);
    told(&promised);
    writer.remove(Artefact::Checkpoint(1))?;
    writer.remove(Artefact::Capsule(1, id(1)))?;
    Ok(())
}

/// Compares a session with what was promised of it: all that is there, and of the rest nothing, or the whole.
pub(crate) fn check(tier: &DeviceTier, promised: &Promised) -> std::result::Result<(), String> {
    let told = |error: kvcap::Error| error.to_string();
    let held = tier.list(&name()).map_err(told)?;
    let content = |artefact| get_small(tier, &name(), artefact, 1 << 20).map_err(told);
    let mut seen = Promised::default();
    for artefact in held {
        let expected = match artefact {
            Artefact::Session => continue,
            Artefact::Event(seq) => {
                seen.events = seq;
                event(seq)
            }
            Artefact::Capsule(version, _) => capsule(version),
            Artefact::Checkpoint(version) => {
                seen.checkpoints.push(version);
                let named = content(Artefact::Capsule(version, id(version)))?;
                if named != Some(capsule(version)) {
                    return Err(format!("checkpoint {version} without its capsule"));
                }
                record(version)
            }
        };
        if content(artefact)? != Some(expected) {
            return Err(format!("{artefact:?} is not what was put"));
        }
    }
    let lost = promised
        .checkpoints
        .iter()
        .any(|version| !seen.checkpoints.contains(version));
    if seen.events < promised.events || lost {
        return Err(format!("promised {promised:?}, found {seen:?}"));
    }
    let unknown = |version: &&u64| {
        let next = promised.checkpoints.last().copied().unwrap_or(0) + 1;
        !promised.checkpoints.contains(version)
            && promised.leaving != Some(**version)
            && **version != next
    };
    match seen.checkpoints.iter().find(unknown) {
        Some(version) => Err(format!("checkpoint {version} came from nowhere")),
        None => Ok(()),
    }
}
