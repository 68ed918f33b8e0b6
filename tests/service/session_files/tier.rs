//! What tiers accept and refuse, all of them alike.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use kvcap::{CapsuleId, Result};
use kvcap_session::{
    Names,
    files::{Artefact, DeviceTier, Keep, MemoryTier, Put, Tier, get_small, rebuild},
};
use tempfile::TempDir;

use crate::work::{capsule, event, id, name, record};

fn number<T: std::fmt::Debug>(result: Result<T>) -> u16 {
    result.unwrap_err().code().number()
}

fn bytes(tier: &dyn Tier, artefact: Artefact) -> Option<Vec<u8>> {
    get_small(tier, &name(), artefact, 1 << 20).unwrap()
}

fn fill(tier: &dyn Tier) {
    let mut writer = tier.write(&name()).unwrap();
    writer.put(Artefact::Session, &&b"{}"[..]).unwrap();
    for seq in 1..=30 {
        writer.put(Artefact::Event(seq), &event(seq)).unwrap();
    }
    for version in 1..=4 {
        let capsule = (Artefact::Capsule(version, id(version)), capsule(version));
        for (artefact, bytes) in [capsule, (Artefact::Checkpoint(version), record(version))] {
            assert_eq!(writer.put(artefact, &bytes).unwrap(), Put::New);
        }
    }
}

/// A suite that each tier passes.
fn conforms(tier: &dyn Tier) {
    assert!(tier.sessions().unwrap().is_empty());
    assert!(tier.list(&name()).unwrap().is_empty());
    assert!(bytes(tier, Artefact::Checkpoint(1)).is_none());
    fill(tier);
    assert_eq!(tier.sessions().unwrap(), [name()]);
    let held = tier.list(&name()).unwrap();
    assert_eq!(held.len(), 1 + 30 + 8);
    assert!(held.is_sorted());

    let mut writer = tier.write(&name()).unwrap();
    for (artefact, content) in [
        (Artefact::Event(3), event(3)),
        (Artefact::Checkpoint(2), record(2)),
        (Artefact::Capsule(2, id(2)), capsule(2)),
    ] {
        assert_eq!(writer.put(artefact, &content).unwrap(), Put::Same);
        let code = match artefact {
            Artefact::Event(_) => 953,
            _ => 954,
        };
        let mut other = content.clone();
        other[5] ^= 1;
        assert_eq!(number(writer.put(artefact, &other)), code, "{artefact:?}");
        assert_eq!(
            number(writer.put(artefact, &&content[1..])),
            code,
            "{artefact:?}"
        );
    }
    assert_eq!(number(writer.put(Artefact::Event(32), &event(32))), 952);
    assert_eq!(number(writer.remove(Artefact::Event(1))), 944);
    writer.put(Artefact::Session, &&b"{\"a\":1}"[..]).unwrap();
    writer.remove(Artefact::Checkpoint(1)).unwrap();
    writer.remove(Artefact::Checkpoint(1)).unwrap();
    drop(writer);
    assert_eq!(bytes(tier, Artefact::Session).unwrap(), b"{\"a\":1}");
    assert_eq!(bytes(tier, Artefact::Event(3)), Some(event(3)));
    assert_eq!(bytes(tier, Artefact::Checkpoint(2)), Some(record(2)));
    assert_eq!(bytes(tier, Artefact::Capsule(2, id(2))), Some(capsule(2)));
    assert_eq!(bytes(tier, Artefact::Checkpoint(1)), None);
    let longest = get_small(tier, &name(), Artefact::Checkpoint(2), 3);
    assert_eq!(number(longest), 910);
}

fn device() -> (TempDir, DeviceTier) {
    let folder = TempDir::new().unwrap();
    let tier = DeviceTier::at(folder.path().join("state/kvcap/sessions"));
    (folder, tier)
}

#[test]
fn tiers_conform() {
    conforms(&device().1);
    conforms(&MemoryTier::default());
}

/// An edge holds a few checkpoints and events, and a device loses its files: each is made again from the one below.
#[test]
fn a_tier_is_rebuilt_from_the_one_below() {
    let (_folder, below) = device();
    fill(&below);
    let edge = MemoryTier::default();
    let few = Keep {
        checkpoints: 3,
        events: 20,
        capsules: false,
    };
    rebuild(&below, &edge, &name(), few).unwrap();
    let held = edge.list(&name()).unwrap();
    assert_eq!(held.len(), 1 + 20 + 3);
    for artefact in &held {
        assert_eq!(bytes(&edge, *artefact), bytes(&below, *artefact));
    }
    // again, and further events, as they come
    rebuild(&below, &edge, &name(), few).unwrap();
    assert_eq!(edge.list(&name()).unwrap(), held);
    for tier in [&below as &dyn Tier, &edge] {
        let mut writer = tier.write(&name()).unwrap();
        assert_eq!(number(writer.put(Artefact::Event(32), &event(32))), 952);
        writer.put(Artefact::Event(31), &event(31)).unwrap();
    }
    let (_folder, other) = device();
    rebuild(&below, &other, &name(), Keep::ALL).unwrap();
    assert_eq!(other.list(&name()).unwrap(), below.list(&name()).unwrap());
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_are_their_owners_alone() {
    let (folder, tier) = device();
    fill(&tier);
    let session = tier.folder(&name()).unwrap();
    assert!(session.ends_with("acme/agent/%46ix%20login"));
    let mut found = Vec::new();
    for entry in fs::read_dir(&session).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    found.sort();
    let first = format!("1-{}.kvcap", id(1));
    assert_eq!(found[..2], [first, "1.json".to_owned()]);
    assert_eq!(found[8..], ["lock", "log.jsonl", "session.json"]);
    for above in session
        .ancestors()
        .take_while(|above| *above != folder.path())
    {
        assert_eq!(mode(above), 0o700, "{}", above.display());
    }

    // what others may read is not taken for one's own, and links are not followed
    let record = session.join("3.json");
    fs::set_permissions(&record, fs::Permissions::from_mode(0o644)).unwrap();
    let open = get_small(&tier, &name(), Artefact::Checkpoint(3), 99);
    assert_eq!(number(open), 943);
    fs::remove_file(&record).unwrap();
    symlink("2.json", &record).unwrap();
    assert_eq!(
        number(get_small(&tier, &name(), Artefact::Checkpoint(3), 99)),
        940
    );
    fs::set_permissions(&session, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(tier.writer(&name()).unwrap_err().code().number(), 945);
}

#[test]
fn a_second_writer_waits_and_is_told_and_readers_do_not_wait() {
    let (_folder, tier) = device();
    let first = tier.writer(&name()).unwrap();
    assert_eq!(tier.writer(&name()).unwrap_err().code().number(), 947);
    assert!(tier.list(&name()).unwrap().is_empty());
    drop(first);
    tier.writer(&name()).unwrap();
}

/// Whoever removes the lock lets a second writer in; the first writes nothing more.
#[test]
fn a_writer_whose_lock_was_taken_writes_no_more() {
    let (_folder, tier) = device();
    let mut first = tier.write(&name()).unwrap();
    first.put(Artefact::Event(1), &event(1)).unwrap();
    fs::remove_file(tier.folder(&name()).unwrap().join("lock")).unwrap();
    let mut second = tier.write(&name()).unwrap();
    assert_eq!(number(first.put(Artefact::Event(2), &event(2))), 947);
    assert_eq!(number(first.put(Artefact::Checkpoint(1), &record(1))), 947);
    second.put(Artefact::Event(2), &event(2)).unwrap();
}

/// A tool appends lines by itself, and may be stopped within one.
#[test]
fn a_torn_line_is_dropped_and_said() {
    let (_folder, tier) = device();
    fill(&tier);
    let log = tier.folder(&name()).unwrap().join("log.jsonl");
    let mut content = fs::read(&log).unwrap();
    content.extend(b"{\"seq\":31,\"bo");
    fs::write(&log, &content).unwrap();
    let read = tier.log(&name()).unwrap();
    assert_eq!((read.len(), read.torn()), (30, 13));
    let mut writer = tier.write(&name()).unwrap();
    writer.put(Artefact::Event(31), &event(31)).unwrap();
    let read = tier.log(&name()).unwrap();
    assert_eq!((read.len(), read.torn()), (31, 0));
    assert_eq!(read.line(31), Some(&event(31)[..]));
    for bad in [&b"{\n}"[..], b"", b"\0"] {
        assert_eq!(number(writer.put(Artefact::Event(32), &bad)), 944);
    }
}

#[test]
fn the_list_is_of_sessions_alone_newest_first() {
    let (_folder, tier) = device();
    let of = |tenant: Option<&str>, subject: Option<&str>, session| Names {
        tenant: tenant.map(str::to_owned),
        subject: subject.map(str::to_owned),
        ..Names::of(session)
    };
    let names = [
        of(None, None, "one"),
        of(Some("-"), None, "Two"),
        of(Some("acme"), Some("me@host"), "../three"),
    ];
    for (at, name) in (1..).zip(&names) {
        tier.write(name)
            .unwrap()
            .put(Artefact::Session, &&b"{}"[..])
            .unwrap();
        let folder = fs::File::open(tier.folder(name).unwrap()).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at);
        folder.set_modified(time).unwrap();
    }
    let root = tier.folder(&names[0]).unwrap();
    let root = root.ancestors().nth(3).unwrap();
    fs::create_dir_all(root.join("acme/me%40host/Not%20ours")).unwrap();
    fs::write(root.join("file"), b"").unwrap();
    symlink(root, root.join("acme/link")).unwrap();
    let found = tier.sessions().unwrap();
    assert_eq!(
        found,
        [names[2].clone(), names[1].clone(), names[0].clone()]
    );
}

/// What is not named as an artefact is left alone, and nothing in the making is shown.
#[test]
fn other_files_are_none_of_the_session() {
    let (_folder, tier) = device();
    fill(&tier);
    let before = tier.list(&name()).unwrap();
    let other = CapsuleId([0xAB; 16]);
    for file in [
        "01.json".to_owned(),
        "+1.json".to_owned(),
        "notes.json".to_owned(),
        "5.kvcap".to_owned(),
        format!("5-{other}x.kvcap"),
        format!("5-{}.kvcap", other.to_string().to_uppercase()),
        ".5.json.AAAAAAAA.kvcap.tmp".to_owned(),
    ] {
        fs::write(tier.folder(&name()).unwrap().join(file), b"{}").unwrap();
    }
    assert_eq!(tier.list(&name()).unwrap(), before);
}
