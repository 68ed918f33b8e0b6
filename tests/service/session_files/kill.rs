//! A process that checkpoints until it is killed, again and again: `KVCAP_KILLS=200` for the long form.

use std::{
    env,
    io::{self, BufRead, BufReader, Write as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use kvcap::WriteAt;
use kvcap_session::files::{Artefact, DeviceTier, Tier, Write, get_small};
use tempfile::TempDir;

use crate::work::{capsule, event, id, name, record};

const FOLDER: &str = "KVCAP_KILL_FOLDER";

/// Checkpoints for ever, and says which are kept.
#[test]
#[ignore = "the process that `no_kill_loses_a_checkpoint` kills"]
fn victim() {
    let tier = DeviceTier::at(env::var_os(FOLDER).unwrap().into());
    let held = tier.list(&name()).unwrap();
    let done = held.iter().filter_map(|artefact| match artefact {
        Artefact::Checkpoint(version) => Some(*version),
        _ => None,
    });
    let done = done.max().unwrap_or(0);
    let mut writer = tier.writer(&name()).unwrap();
    for version in done + 1.. {
        for seq in 3 * version - 2..=3 * version {
            writer.put(Artefact::Event(seq), &event(seq)).unwrap();
        }
        if writer
            .path(Artefact::Capsule(version, id(version)))
            .exists()
        {
            writer
                .put(Artefact::Capsule(version, id(version)), &capsule(version))
                .unwrap();
        } else {
            let output = writer.begin(version).unwrap();
            output.write_all_at(0, &capsule(version)).unwrap();
            writer.finish(output, version, id(version)).unwrap();
        }
        writer
            .put(Artefact::Checkpoint(version), &record(version))
            .unwrap();
        writeln!(io::stdout(), "\nkept {version}").unwrap();
        if version > 4 {
            writer.remove(Artefact::Checkpoint(version - 4)).unwrap();
            writer
                .remove(Artefact::Capsule(version - 4, id(version - 4)))
                .unwrap();
        }
    }
}

#[test]
fn no_kill_loses_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    let kills = env::var("KVCAP_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let (mut kept, mut seed) = (0, 1_u64);
    for kill in 0..kills {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill::victim", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path().join("sessions"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told =
            lines.filter_map(|line| line.unwrap().strip_prefix("kept ")?.parse::<u64>().ok());
        // after a new one for certain, and then at some moment
        kept = told.next().unwrap();
        thread::sleep(Duration::from_micros((seed >> 33) % 20_000));
        child.kill().unwrap();
        kept = told.last().unwrap_or(kept);
        child.wait().unwrap();

        let held = tier.list(&name()).unwrap();
        assert!(
            held.contains(&Artefact::Checkpoint(kept)),
            "kill {kill}: {kept} is lost"
        );
        for artefact in &held {
            let expected = match *artefact {
                Artefact::Session => continue,
                Artefact::Event(seq) => event(seq),
                Artefact::Capsule(version, _) => capsule(version),
                Artefact::Checkpoint(version) => {
                    assert!(held.contains(&Artefact::Capsule(version, id(version))));
                    assert!(held.contains(&Artefact::Event(3 * version)));
                    record(version)
                }
            };
            // the log is read for each of its lines
            if matches!(artefact, Artefact::Event(seq) if seq + 9 < 3 * kept) {
                continue;
            }
            let content = get_small(&tier, &name(), *artefact, 1 << 20).unwrap();
            assert!(content == Some(expected), "kill {kill}: {artefact:?}");
        }
    }
    assert!(kept >= kills);
}
