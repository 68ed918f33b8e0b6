//! Keys are wiped where they are kept: a process that has sealed and opened stops, and its whole memory is searched
//! for every key that it had. Linux alone shows the memory of another process as a file.
//!
//! What moves a key leaves a copy in a frame of the stack that is dead, until another call overwrites it: no wiping
//! of ours reaches that. The test says which keys these are, and overwrites them before it looks for the others.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    env, fs,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
};

use kvcap::{
    Draft, Expected, Limits, Policy, Recipient, RecipientKind, Sealer, SigningKey, Trust,
    TrustedKey, Untrusted, WrappingKey,
};
use kvcap_testvectors::{
    fixture::{self, Capsule},
    hex::hex,
    parts::Parts,
    schedule::b3,
};

/// What the process that is looked into is told by.
const ROLE: &str = "KVCAP_MEMORY_IMAGE";

/// Writes a secret into its place, so that no other place has it.
fn make(name: &str, place: &mut [u8; 32]) {
    for (n, byte) in (0_u8..).zip(place) {
        *byte = b3("kvcap v1 test memory image", &[name.as_bytes(), &[n]])[0];
    }
}

fn secret(name: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    make(name, &mut bytes);
    bytes
}

/// A secret that is wiped, as its owner has to.
struct Wiped([u8; 32]);

impl Wiped {
    fn of(name: &str) -> Box<Self> {
        let mut made = Box::new(Self([0; 32]));
        make(name, &mut made.0);
        made
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

fn keys() -> (SigningKey, WrappingKey) {
    let (seed, wrapping) = (Wiped::of("seed"), Wiped::of("wrapping"));
    let signer = SigningKey::from_seed(&seed.0);
    (
        signer,
        WrappingKey::of(RecipientKind::Symmetric, wrapping.0),
    )
}

/// Seals a capsule, opens it, and writes it; every key is dropped at the end.
#[inline(never)]
fn work(path: &Path) {
    let (signer, wrapping) = keys();
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let draft = Draft::new(fixture::terms(), context);
    let to = [Recipient::from(&wrapping)];
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, &to).unwrap();
    for bytes in &plain {
        sealer.write(bytes).unwrap();
        sealer.end_stream().unwrap();
    }
    let file = sealer.finish().unwrap().0.into_inner().unwrap();

    let trust: Trust = TrustedKey::new(signer.public(), fixture::ISSUER).into();
    let expected = Expected::danger_any_model();
    let mut policy = Policy::new(&trust, fixture::NOW, fixture::AUDIENCE, expected);
    policy.subject = Some(fixture::SUBJECT.to_owned());
    policy.tenant = Some(fixture::TENANT.to_owned());
    let header = Untrusted::read_at(&file.as_slice(), &Limits::default()).unwrap();
    let verified = header.verify(&policy).unwrap();
    let opened = verified.open(file.as_slice(), &wrapping).unwrap();
    let read = opened.release().unwrap().stream_bytes(0).unwrap();
    assert_eq!(read, plain[0]);
    fs::write(path, &file).unwrap();
}

/// Overwrites what dead frames have left on the stack.
#[inline(never)]
fn overwrite_stack() {
    let bytes = [0xA5_u8; 512 << 10];
    std::hint::black_box(&bytes);
}

/// The part of the process that is looked into.
fn stand(role: &str, path: &Path) {
    let held = (role == "holds").then(|| Box::new(keys()));
    work(path);
    if role != "leaves" {
        overwrite_stack();
    }
    println!("\nready");
    std::io::stdout().flush().unwrap();
    // until the other one has looked
    let _ended = std::io::stdin().read(&mut [0]).unwrap();
    drop(held);
}

/// Searches the memory of a process, where it can be written, for each secret.
fn found(process: u32, secrets: &[(&'static str, [u8; 32])]) -> Vec<&'static str> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let (mut names, mut bytes) = (Vec::new(), 0);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut image = vec![0; usize::try_from(to - from).unwrap()];
        if memory.read_exact_at(&mut image, from).is_err() {
            continue; // what the kernel alone may read
        }
        bytes += image.len();
        for (name, secret) in secrets {
            let there = image.windows(32).any(|part| part == secret);
            if there && !names.contains(name) {
                names.push(*name);
            }
        }
    }
    assert!(bytes > 100_000, "{bytes} bytes were searched");
    names
}

/// What is found in a process of that role once it stands still.
fn image(role: &str) -> Vec<&'static str> {
    let path = env::temp_dir().join(format!("kvcap-memory-image-{}-{role}", std::process::id()));
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "dropped_keys_are_wiped_where_they_were_kept",
            "--nocapture",
        ])
        .env(ROLE, format!("{role} {}", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap());
    let mut lines = told.by_ref().lines().map(|line| line.unwrap());
    let ready = lines.any(|line| line == "ready");
    assert!(ready, "the process ended");
    let file = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let names = found(child.id(), &secrets(file));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    told.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
    names
}

/// Every key that the capsule's making and opening had, from the keys that it was made with.
fn secrets(file: Vec<u8>) -> Vec<(&'static str, [u8; 32])> {
    let plain = fixture::contents(&fixture::context());
    let parts = Parts::of_wrapped(&Capsule { file, plain }, &secret("wrapping"));
    let schedule = parts.schedule();
    let signer = ed25519_dalek::SigningKey::from_bytes(&secret("seed"));
    let expanded: [u8; 32] = signer.to_scalar_bytes();
    assert_ne!(hex(&schedule.root), hex(&[0; 32]));
    vec![
        ("seed", secret("seed")),
        ("signing scalar", expanded),
        ("wrapping key", secret("wrapping")),
        ("content key", parts.content_key()),
        ("root", schedule.root),
        ("stream key", schedule.stream(0).0),
    ]
}

#[test]
fn dropped_keys_are_wiped_where_they_were_kept() {
    if let Ok(role) = env::var(ROLE) {
        let (role, path) = role.split_once(' ').unwrap();
        return stand(role, Path::new(path));
    }
    let held = image("holds");
    for name in ["seed", "wrapping key"] {
        assert!(held.contains(&name), "the search does not find {name}");
    }
    println!("on the stack, in dead frames: {:?}", image("leaves"));
    assert_eq!(image("drops"), Vec::<&str>::new());
}
