//! Opening what a relay keeps, in ranges: a part of it brings no more than that part, its first layer before the rest.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::spawn,
};

use kvcap::{CapsuleId, Expected, Limits, Policy, SourceFile, Trust, Untrusted, Workers};
use kvcap_session::sync;
use kvcap_states::layers;
use kvcap_store::{Passphrases, key_file};

use super::{
    super::support::Folder,
    relay::{Relay, device, public_key, say},
};

/// Bytes that a relay's answers have brought over a way to it.
struct Way {
    address: String,
    brought: Arc<AtomicU64>,
}

impl Way {
    fn to(relay: &Relay) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (there, brought) = (relay.address.clone(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&brought);
        spawn(move || {
            for here in listener.incoming() {
                let (here, there) = (here.unwrap(), TcpStream::connect(&there).unwrap());
                let (mut up, mut to) = (here.try_clone().unwrap(), there.try_clone().unwrap());
                spawn(move || {
                    let _ends = io::copy(&mut up, &mut to);
                    let _gone = to.shutdown(Shutdown::Both);
                });
                let count = Arc::clone(&count);
                spawn(move || answers(&there, &here, &count));
            }
        });
        Self { address, brought }
    }

    fn brought(&self) -> u64 {
        self.brought.load(Ordering::Relaxed)
    }
}

fn answers(mut there: &TcpStream, mut here: &TcpStream, count: &AtomicU64) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(len @ 1..) = there.read(&mut piece) {
        count.fetch_add(len as u64, Ordering::Relaxed);
        if here.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    let _gone = here.shutdown(Shutdown::Both);
}

/// A device whose made state of so many bytes a relay keeps, the id of its capsule and its file.
fn kept(bytes: u64) -> (Folder, Relay, String, PathBuf) {
    let device = device();
    let relay = Relay::of(&[&device]);
    device.made(bytes);
    say(&device, "one");
    device.ok("checkpoint fix made --model made.kvid --danger-no-prefix --wrap-key reader.key");
    relay.sync(&device, "");
    let folder = device.home().join("state/kvcap/sessions/-/-/fix");
    let mut files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files
        .find(|path| path.extension().is_some_and(|e| e == "kvcap"))
        .unwrap();
    let source = SourceFile::open(&file).unwrap();
    let untrusted = Untrusted::read_at(&source, &Limits::default()).unwrap();
    (device, relay, untrusted.claims().id.to_string(), file)
}

#[test]
fn a_part_of_what_a_relay_keeps_brings_no_more_than_that() {
    let (device, relay, id, file) = kept(12 << 20);
    let way = Way::to(&relay);
    let local = format!(
        "open {} --wrap-key reader.key --model made.kvid",
        file.display()
    );
    let there = format!(
        "open {id} --relay {} --relay-token token --wrap-key reader.key --model made.kvid",
        way.address
    );
    for part in [
        "--layers 3..5",
        "--positions 10..20",
        "--layers 0..1 --positions 0..1",
    ] {
        let before = way.brought();
        let told = device.json(&format!("{there} {part} -o there"));
        let brought = way.brought() - before;
        device.ok(&format!("{local} {part} -o here"));
        assert!(device.read("there") == device.read("here"), "{part}");
        for name in ["there", "here"] {
            fs::remove_file(device.path(name)).unwrap();
        }
        // its first 64 KiB, what was read of it, and what HTTP says around each range
        let most = (64 << 10) + told["read_bytes"].as_u64().unwrap() + (48 << 10);
        assert!(
            brought <= most,
            "{part}: {brought} bytes for at most {most}"
        );
    }
    let before = way.brought();
    device.ok(&format!("{there} -o whole"));
    assert!(device.read("whole") == device.read("made"));
    let (brought, len) = (way.brought() - before, fs::metadata(&file).unwrap().len());
    assert!(
        brought < len + len / 50,
        "{brought} bytes of a file of {len}"
    );
}

#[test]
fn what_a_relay_does_not_keep_is_not_opened() {
    let (device, relay, id, file) = kept(1 << 20);
    let open = |capsule: &str, more: &str| {
        format!(
            "open {capsule} {} --wrap-key reader.key --model made.kvid -o out {more}",
            relay.flags()
        )
    };
    device.refused(&open(&"0".repeat(32), ""), 940, 4);
    device.refused(&open("made.kvcap", ""), 944, 2);
    // one that is no ancestor, and one that is not there
    device.refused(&open(&id, &format!("--chain {id}")), 702, 1);
    device.refused(&open(&id, &format!("--chain {}", "0".repeat(32))), 940, 4);
    device.refused(&open(&id, "--layers 9..99"), 810, 1);
    assert!(!device.has("out"));
    // damaged where it is kept
    let mut damaged = fs::read(&file).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let held = relay
        .kept()
        .into_iter()
        .find(|path| fs::metadata(path).unwrap().len() == damaged.len() as u64);
    fs::write(held.unwrap(), damaged).unwrap();
    device.ok(&open(&id, "--layers 0..1"));
    fs::remove_file(device.path("out")).unwrap();
    device.refused(&open(&id, ""), 805, 1);
    assert!(!device.has("out"));
}

#[test]
fn the_first_layer_is_there_while_the_rest_comes() {
    let (device, relay, id, file) = kept(12 << 20);
    let way = Way::to(&relay);
    let asking = sync::Relay::at(&way.address, &device.path("token"), None).unwrap();
    let kept = asking.open(CapsuleId::from_hex(&id).unwrap()).unwrap();
    let (untrusted, capsule) = kept.unwrap();
    let trust = Trust::from(key_file::trusted(public_key(&device).to_str().unwrap()).unwrap());
    let now = kvcap_store::time::now();
    let policy = Policy::new(&trust, now, "local", Expected::danger_any_model());
    let verified = untrusted.verify(&policy).unwrap();
    let key = key_file::wrapping_key(&device.path("reader.key"), &Passphrases::none()).unwrap();
    let opened = verified.open(capsule, &key).unwrap().release().unwrap();
    let before = way.brought();
    let mut layers = layers(&opened, Workers::new(2));
    let first = layers.next().unwrap().unwrap();
    let brought = way.brought() - before;
    assert_eq!(first.number, 0);
    // sixteen layers of the same length, of which one has come, and at most a piece of the next
    let len = fs::metadata(file).unwrap().len();
    assert!(brought < len / 12, "{brought} bytes of a file of {len}");
    assert_eq!(layers.map(Result::unwrap).count(), 15);
    assert!(way.brought() - before < len + len / 50);
}
