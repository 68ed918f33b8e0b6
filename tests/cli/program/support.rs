//! A folder with keys and inputs, and the program run in it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

pub(crate) use kvcap_testkit::fixture;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROMPT: &str =
    "[0, 1820, 1890, 200, 200, 796, 1900, 398, 1410, 304, 1894, 1196, 1878, 200, 200, 796]";
pub(crate) const KEYS: &str = "--sign-key issuer.key --wrap-key reader.key";
pub(crate) const SEAL: &str =
    "-o a.kvcap --model model --ttl 1h --sign-key issuer.key --wrap-key reader.key";
pub(crate) const TRUST: &str = "--trust issuer.key.pub";

/// What every verb prints with `--json`; each object that a test sees is compared with it.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../docs/reference/kvcap.schema.json")).unwrap()
});

#[allow(dead_code, reason = "one test asks for its verbs")]
pub(crate) fn schema() -> &'static Value {
    &SCHEMA
}

/// A folder to work in, and one for the user's configuration.
pub(crate) struct Folder(pub(crate) TempDir, TempDir);

/// What the program did.
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Folder {
    /// A folder with a signing key, a wrapping key, a model, a prompt and the state `state.bin`.
    pub(crate) fn new() -> Self {
        let folder = Self::empty();
        folder.ok("keygen sign -o issuer.key --issuer lab");
        folder.ok("keygen wrap -o reader.key");
        let model = folder.path("model");
        fs::create_dir(&model).unwrap();
        for entry in fs::read_dir(fixture("model")).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, model.join(from.file_name().unwrap())).unwrap();
        }
        folder.write("prompt.json", PROMPT.as_bytes());
        folder.take("llama_ggsq3_f16_fa.bin", "state.bin");
        folder
    }

    pub(crate) fn empty() -> Self {
        Self(TempDir::new().unwrap(), TempDir::new().unwrap())
    }

    /// The same with `state.bin` sealed as `a.kvcap`.
    pub(crate) fn sealed() -> Self {
        let folder = Self::new();
        folder.ok(&format!("seal state.bin {SEAL}"));
        folder
    }

    /// Writes a made state of so many bytes as `made`, and its model as `made.kvid`; gives its tokens.
    pub(crate) fn made(&self, bytes: u64) -> u64 {
        let state = fs::File::create(self.path("made")).unwrap();
        self.write("made.kvid", kvcap_testkit::profile().to_kvid().as_bytes());
        kvcap_testkit::state(bytes, &state).unwrap()
    }

    pub(crate) fn take(&self, name: &str, to: &str) {
        self.write(to, &fs::read(fixture(name)).unwrap());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Everything in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvcap"));
        kvcap_testkit::isolated(&mut command, self.home())
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env(
                "XDG_CACHE_HOME",
                concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"),
            );
        command
    }

    /// The user's home: configuration in `config/kvcap`, what is remembered in `state/kvcap`.
    pub(crate) fn home(&self) -> &Path {
        self.1.path()
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs with `input` on stdin.
    pub(crate) fn pipe(&self, line: &str, input: &[u8]) -> Ran {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // a program that refuses early does not read to the end
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let ran = Ran::of(child.wait_with_output().unwrap());
        writer.join().unwrap();
        ran
    }

    pub(crate) fn ok(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.exit, 0, "kvcap {line}\n{}", ran.err);
        // what was not checked is named, and what will go wrong, and nothing else is said
        let mut said = ran.err.lines();
        let known = ["kvcap: not checked: ", "kvcap: note: "];
        assert!(
            said.all(|said| known.iter().any(|start| said.starts_with(start))),
            "kvcap {line}\n{}",
            ran.err
        );
        ran
    }

    /// Runs with `--json`, and gives the one object that it prints.
    pub(crate) fn json(&self, line: &str) -> Value {
        let object = self.ok(&format!("{line} --json")).json();
        assert_eq!(object["ok"], true, "kvcap {line}");
        object
    }

    /// The line is refused with this code: as text, as JSON, by its exit status, and without a new
    /// file.
    pub(crate) fn refused(&self, line: &str, code: u16, exit: i32) -> Ran {
        let before = self.names();
        let ran = self.run(line);
        ran.check_refused(line, code, exit);
        let error = self.run(&format!("{line} --json")).json();
        assert_eq!(error["schema"], 2);
        assert_eq!(error["ok"], false);
        assert_eq!(error["error"]["code"], code, "kvcap {line}");
        assert_eq!(error["error"]["exit"], exit);
        assert!(!error["error"]["slug"].as_str().unwrap().is_empty());
        assert_eq!(self.names(), before, "kvcap {line} left something");
        ran
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            exit: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            stdout: output.stdout,
        }
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{}\n{}", self.out, self.err);
        let object: Value = serde_json::from_str(&self.out).unwrap();
        let fits = kvcap_testkit::schema::check(&SCHEMA, &object);
        assert_eq!(fits, Ok(()), "docs/reference/kvcap.schema.json: {object}");
        object
    }

    /// One line that names the code, and one that says what to do.
    pub(crate) fn check_refused(&self, line: &str, code: u16, exit: i32) {
        let lines: Vec<&str> = self.err.lines().collect();
        let start = format!("kvcap: error[KVC-{code}]: ");
        assert!(
            lines.len() == 2 && lines[0].starts_with(&start) && lines[1].starts_with("hint: "),
            "kvcap {line}: wanted {code}\n{}{}",
            self.err,
            self.out,
        );
        assert_eq!(self.exit, exit, "kvcap {line}\n{}", self.err);
    }
}
