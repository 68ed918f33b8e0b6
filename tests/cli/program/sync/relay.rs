//! A relay, and devices that keep their sessions there.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

#[cfg(feature = "shared")]
use kvcap_testkit::{Postgres, Valkey};
use serde_json::Value;

use super::super::{authority::certify, support::Folder};

/// A relay that is a process of its own, in a folder of its own.
pub(super) struct Relay {
    folder: Folder,
    child: Option<Child>,
    pub(super) address: String,
    /// Where it keeps what is not in its bucket.
    #[cfg(feature = "shared")]
    beside: Option<(Postgres, Valkey)>,
}

/// Permissions of a device's token.
const MAY: &str = r#"["capsule:put", "capsule:get", "session:put", "session:get"]"#;

impl Relay {
    /// A relay that trusts these devices, each with a token of the same owner.
    pub(super) fn of(devices: &[&Folder]) -> Self {
        let mut relay = Self::at(Folder::empty(), "folder = \"kept\"", devices);
        relay.open_to(devices);
        relay
    }

    /// One that gives up who is silent within a body for 5 seconds.
    pub(super) fn impatient(devices: &[&Folder]) -> Self {
        let place = "folder = \"kept\"\nlimits = { silence = \"5s\" }";
        let mut relay = Self::at(Folder::empty(), place, devices);
        relay.open_to(devices);
        relay
    }

    /// One that speaks TLS, with a certificate of an authority of its own: `ca.pem` of the first device.
    pub(super) fn certified(devices: &[&Folder]) -> Self {
        let folder = Folder::empty();
        certify(&folder);
        devices[0].write("ca.pem", &folder.read("ca.pem"));
        let place = "folder = \"kept\"\ntls = { certificate = \"tls.pem\", key = \"tls.key\" }";
        let mut relay = Self::at(folder, place, devices);
        relay.open_to(devices);
        let host = relay.address.rsplit('/').next().unwrap();
        relay.address = format!("https://{host}");
        relay
    }

    /// One that keeps in a bucket and a database, with an edge before both.
    #[cfg(feature = "shared")]
    pub(super) fn sharing(devices: &[&Folder]) -> Self {
        let folder = Folder::empty();
        let (database, edge) = (Postgres::start(), Valkey::start());
        database.write_address(&folder.path("database"));
        edge.write_address(&folder.path("edge"));
        fs::create_dir(folder.path("kept")).unwrap();
        let bucket = folder.path("kept").display().to_string();
        let place = format!(
            "shared = {{ database = \"database\", bucket = \"file://{bucket}\", edge = \"edge\" }}"
        );
        let mut relay = Self::at(folder, &place, devices);
        relay.beside = Some((database, edge));
        relay.open_to(devices);
        relay
    }

    fn at(folder: Folder, place: &str, devices: &[&Folder]) -> Self {
        let token = folder.json("serve --new-token");
        let text = |name: &str| token[name].as_str().unwrap().to_owned();
        let keys: Vec<String> = devices
            .iter()
            .map(|device| format!("{:?}", public_key(device)))
            .collect();
        let relay = format!(
            "listen = \"127.0.0.1:0\"\n{place}\naudiences = [\"local\"]\ntrust = [{}]\n\n[[tokens]]\n\
             digest = \"{}\"\nmay = {MAY}\n",
            keys.join(", "),
            text("digest"),
        );
        folder.write("relay.toml", relay.as_bytes());
        folder.write("token", text("token").as_bytes());
        Self {
            folder,
            child: None,
            address: String::new(),
            #[cfg(feature = "shared")]
            beside: None,
        }
    }

    fn open_to(&mut self, devices: &[&Folder]) {
        self.start();
        for device in devices {
            self.admit(device);
        }
    }

    /// What its edge has, piece by piece.
    #[cfg(feature = "shared")]
    pub(super) fn at_edge(&self) -> Vec<String> {
        let (_, edge) = self.beside.as_ref().unwrap();
        let keys = edge.ask(&["KEYS", "kvcap:*.kvcap"]);
        let pieces = keys.iter().map(|key| edge.ask(&["HVALS", key]).join("\n"));
        pieces.collect()
    }

    pub(super) fn start(&mut self) {
        let mut child = self
            .folder
            .command("serve relay.toml")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        told.read_line(&mut line).unwrap();
        self.address = line.trim().rsplit(' ').next().unwrap().to_owned();
        self.child = Some(child);
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Gives a device the token.
    pub(super) fn admit(&self, device: &Folder) {
        device.write("token", &self.folder.read("token"));
        fs::set_permissions(device.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn flags(&self) -> String {
        format!("--relay {} --relay-token token", self.address)
    }

    pub(super) fn sync(&self, device: &Folder, line: &str) -> Value {
        device.json(&format!("sync {line} {}", self.flags()))
    }

    pub(super) fn refuses(&self, device: &Folder, line: &str, code: u16, exit: i32) -> String {
        device
            .refused(&format!("sync {line} {}", self.flags()), code, exit)
            .err
    }

    /// Every file that it keeps.
    pub(super) fn kept(&self) -> Vec<PathBuf> {
        let mut all = files(&self.folder.path("kept"));
        all.retain(|path| path.file_name().unwrap() != "lock");
        all
    }

    pub(super) fn order(&self) -> PathBuf {
        let mut kept = self.kept();
        kept.retain(|path| path.extension().unwrap() == "versions");
        assert_eq!(kept.len(), 1, "{kept:?}");
        kept.remove(0)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Every file below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut all, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => all.push(path),
            }
        }
    }
    all
}

pub(super) fn public_key(device: &Folder) -> PathBuf {
    let profile = device.home().join("config/kvcap/default");
    let mut keys = fs::read_dir(profile)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    keys.find(|path| {
        path.to_string_lossy().ends_with("sign.key.pub")
            || path.to_string_lossy().ends_with("issuer.key.pub")
    })
    .unwrap()
}

pub(super) fn device() -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model");
    folder
}

/// Another device with the same keys, and the same model and states.
pub(super) fn another(from: &Folder) -> Folder {
    let folder = Folder::empty();
    copy(&from.home().join("config"), &folder.home().join("config"));
    copy(&from.path("model"), &folder.path("model"));
    for name in ["state.bin", "prompt.json"] {
        folder.write(name, &from.read(name));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

pub(super) fn say(device: &Folder, words: &str) {
    device.ok(&format!("events append fix {words} --kind user"));
    device.ok(&format!("events append fix yes-{words} --kind assistant"));
}

pub(super) fn words(device: &Folder, session: &str) -> Vec<String> {
    let told = device.json(&format!("events list {session}"));
    let events = told["events"].as_array().unwrap().iter();
    events
        .map(|event| event["body"].as_str().unwrap_or("-").to_owned())
        .collect()
}

pub(super) fn one(told: &Value) -> &Value {
    let sessions = told["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{told}");
    &sessions[0]
}
