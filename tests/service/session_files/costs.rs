//! What appending, and a checkpoint, cost: bytes that are read, and syncs.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use kvcap::WriteAt;
use kvcap_session::{
    Body, Cause, Kind, Names, Session,
    files::{Artefact, DeviceTier, Write},
};
use kvcap_store::operation::{Operation, observe};

use crate::{
    crash::{alone, place, quick},
    work::{capsule, event, id, name, record},
};

/// The syncs of `work` below a folder, in order: the file's name without what is random, and `/` for a folder's.
fn syncs(tier: &DeviceTier, work: impl FnOnce()) -> Vec<String> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (shared, root) = (Arc::clone(&heard), tier.folder(&name()).unwrap());
    observe(Some(Box::new(move |operation| {
        let path = place(&operation);
        if path.starts_with(&root) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match operation {
                Operation::Sync(_) => shared.lock().unwrap().push(name),
                Operation::SyncFolder(_) => shared.lock().unwrap().push("/".to_owned()),
                _ => {}
            }
        }
        Ok(())
    })));
    work();
    observe(None);
    let heard = heard.lock().unwrap();
    let stem = |name: &String| match name.strip_suffix(".kvcap.tmp") {
        Some(made) => made.rsplit_once('.').unwrap().0.to_owned(),
        None => name.clone(),
    };
    heard.iter().map(stem).collect()
}

/// A file is two syncs, its bytes and its name (SES-F-5), and a line of the log is one. None can be left out, which
/// `a_sync_that_is_left_out_is_seen` shows of each.
#[test]
fn a_checkpoint_is_two_syncs_a_file_and_an_event_is_one() {
    let _alone = alone();
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut session = Session::load_or_create(&tier, &name(), 1).unwrap();
    let mut append = |text: &str| {
        session.append(1, Kind::User, Body::from(text)).unwrap();
    };
    append("the log is made");
    assert_eq!(syncs(&tier, || append("one more")), ["log.jsonl"]);

    let without_state = syncs(&tier, || {
        session.checkpoint(1, Cause::Asked, None).unwrap();
    });
    assert_eq!(without_state, [".1.json", "/"]);

    let with_state = syncs(&tier, || {
        let mut writer = tier.writer(&name()).unwrap();
        let output = writer.begin(2).unwrap();
        output.write_all_at(0, &capsule(2)).unwrap();
        writer.finish(output, 2, id(2)).unwrap();
        writer.put(Artefact::Checkpoint(2), &record(2)).unwrap();
    });
    assert_eq!(with_state, [".2.kvcap", "/", ".2.json", "/"]);
}

/// Of a long log its end alone is read: an early line that is damaged is not met by who appends, nor by who asks how
/// the session stands after its newest checkpoint.
#[test]
fn appending_reads_the_end_of_the_log() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut session = Session::load_or_create(&tier, &name(), 1).unwrap();
    let text = "x".repeat(3000);
    for _ in 0..60 {
        session.append(1, Kind::User, Body::from(&*text)).unwrap();
    }
    session.checkpoint(1, Cause::Asked, None).unwrap();
    let whole = tier.log(&name()).unwrap();
    for (read, least) in [
        (tier.log_end(&name(), 1).unwrap(), 1),
        (tier.log_end(&name(), 2).unwrap(), 2),
        (tier.log_end(&name(), 40).unwrap(), 40),
        (tier.log_after(&name(), 59).unwrap(), 1),
        (tier.log_after(&name(), 20).unwrap(), 40),
        (tier.log_after(&name(), 0).unwrap(), 60),
        (tier.log_after(&name(), 99).unwrap(), 1),
    ] {
        assert_eq!(read.len(), 60);
        let held = read.lines().count();
        assert!((least..=least.max(5) * 5).contains(&held), "{held} lines");
        for seq in 0..62 {
            let is_read = seq > 60 - held as u64;
            assert_eq!(read.line(seq), whole.line(seq).filter(|_| is_read), "{seq}");
        }
    }

    let path = tier.folder(&name()).unwrap().join("log.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    bytes[50] = b'\x01';
    fs::write(&path, &bytes).unwrap();
    let event = session.append(1, Kind::User, Body::from("on")).unwrap();
    assert_eq!(event.seq, 61);
    assert_eq!(session.status().unwrap().current.turns, 61);
    assert_eq!(session.events().unwrap_err().code().number(), 950);
}

/// The end of a log is what it is in the whole one, whatever the lengths of lines and wherever it is torn.
#[test]
fn the_end_of_a_log_is_that_of_the_whole() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut writer = tier.writer(&name()).unwrap();
    writer.put(Artefact::Event(1), &event(1)).unwrap();
    let path = tier.folder(&name()).unwrap().join("log.jsonl");
    for torn in [
        &b""[..],
        b"{\"seq\":",
        b"{\"seq\":99,\"body\":\"\0\0\0\0\"}\n",
        b"\n\0\0\n",
    ] {
        for long in [1, 4000, 16_300, 16_384, 40_000] {
            let mut bytes = Vec::new();
            for seq in 1..=9_u64 {
                let body = "y".repeat(if seq % 3 == 0 { long } else { 3 });
                bytes.extend(format!("{{\"seq\":{seq},\"body\":\"{body}\"}}\n").bytes());
            }
            bytes.extend(torn);
            fs::write(&path, &bytes).unwrap();
            let whole = tier.log(&name()).unwrap();
            for seq in 0..11 {
                let end = tier.log_after(&name(), seq).unwrap();
                assert_eq!((end.len(), end.torn()), (whole.len(), whole.torn()));
                for after in seq + 1..11 {
                    assert_eq!(end.line(after), whole.line(after));
                }
            }
        }
    }
}

/// Writes made of an early line's number are refused as before, and the same line again is accepted.
#[test]
fn an_early_event_is_put_once() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut writer = tier.writer(&name()).unwrap();
    for seq in 1..=40 {
        writer.put(Artefact::Event(seq), &event(seq)).unwrap();
    }
    for seq in [1, 2, 20, 39, 40] {
        writer.put(Artefact::Event(seq), &event(seq)).unwrap();
        let refused = writer.put(Artefact::Event(seq), &event(seq + 1));
        assert_eq!(refused.unwrap_err().code().number(), 953, "{seq}");
    }
    let refused = writer.put(Artefact::Event(42), &event(42));
    assert_eq!(refused.unwrap_err().code().number(), 952);
    assert_eq!(tier.log(&name()).unwrap().len(), 40);
}

/// Others write between two appends of one session: each goes on from the log as it is.
#[test]
fn what_others_appended_is_gone_on_from() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let open = || Session::load_or_create(&tier, &name(), 1).unwrap();
    let (mut one, mut other) = (open(), open());
    for round in 0..4 {
        for session in [&mut one, &mut other, &mut open()] {
            session.append(1, Kind::Note, Body::from("on")).unwrap();
        }
        let by = if round % 2 == 0 { &mut one } else { &mut other };
        by.checkpoint(1, Cause::Asked, None).unwrap();
    }
    let log = one.events().unwrap();
    assert_eq!(log.len(), 12);
    let current = one.status().unwrap().current;
    assert_eq!((current.replay_cursor, current.version), (12, 4));
    // a log that ends before the newest checkpoint, and another log of the same length or session, are refused
    let path = tier.folder(&name()).unwrap().join("log.jsonl");
    let code = |log: &[u8]| {
        fs::write(&path, log).unwrap();
        let refused = open().append(1, Kind::Note, Body::from("on"));
        refused.unwrap_err().code().number()
    };
    let whole = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(code(&lines[..11].concat()), 952);
    assert_eq!(code(b""), 952);
    let other = |names: &Names, events: usize| {
        let elsewhere = quick();
        let tier = DeviceTier::at(elsewhere.path().join("sessions"));
        let mut session = Session::load_or_create(&tier, names, 1).unwrap();
        for _ in 0..events {
            session.append(1, Kind::Note, Body::from("off")).unwrap();
        }
        fs::read(tier.folder(names).unwrap().join("log.jsonl")).unwrap()
    };
    assert_eq!(code(&other(&name(), 12)), 953);
    assert_eq!(code(&other(&Names::of("elsewhere"), 1)), 953);
    fs::write(&path, &whole).unwrap();
    open().append(1, Kind::Note, Body::from("on")).unwrap();
}
