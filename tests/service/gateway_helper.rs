//! A gateway that has no secret of its own: a helper program signs what it seals, and opens what comes back
//! (spec/helper-v1.md).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails"
)]
#![cfg(unix)]

#[path = "gateway/support/mod.rs"]
#[allow(dead_code, reason = "shared with the gateway's tests")]
mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use kvcap::RecipientKind;
use kvcap_store::{FreshKey, output::Readers};
use serde_json::json;
use support::{Gateway, Home, Reply, TestEngine, said, says, told};

const HELPER: &str = env!("CARGO_BIN_EXE_kvcap-helper-file");
const PROMPT: &str = "a story that is long enough to be worth keeping for another day";

fn with_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Files whose keys a program holds: the gateway's own name it, and their secrets lie in a folder of the program's.
struct Held {
    home: Home,
    program: PathBuf,
}

impl Held {
    /// Keys that the helper of this workspace holds.
    fn new() -> Self {
        // whatever the umask that it was built with
        with_mode(Path::new(HELPER), 0o755);
        Self::by(|_| HELPER.into())
    }

    /// Keys that a program holds, which may be made in the gateway's folder.
    fn by(program: impl FnOnce(&Path) -> PathBuf) -> Self {
        let home = Home::new();
        let secrets = home.path("secrets");
        fs::create_dir(&secrets).unwrap();
        let program = program(home.folder.path());
        let held = Self { home, program };
        fs::rename(held.home.path("sign.key"), held.secret("sign.key")).unwrap();
        fs::remove_file(held.home.path("wrap.key")).unwrap();
        let wrap = FreshKey::wrapping(RecipientKind::XWing).unwrap();
        wrap.write(&held.home.path("wrap.key"), false, Readers::Owner, None)
            .unwrap();
        fs::rename(held.home.path("wrap.key"), held.secret("wrap.key")).unwrap();
        held.name("sign.key");
        held.name("wrap.key");
        held
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.home.path("secrets").join(name)
    }

    /// Writes the file that the gateway reads in a secret's place.
    fn name(&self, name: &str) {
        let public = fs::read_to_string(self.home.path(&format!("{name}.pub"))).unwrap();
        let (program, secret) = (self.program.display(), self.secret(name));
        let path = self.home.path(name);
        fs::write(
            &path,
            format!("helper: {program}\nlabel: {}\n{public}", secret.display()),
        )
        .unwrap();
        with_mode(&path, 0o600);
    }

    /// Takes a secret from the helper; gives how it is put back.
    fn take(&self, name: &str) -> impl FnOnce() {
        let (from, to) = (self.secret(name), self.secret("elsewhere"));
        fs::rename(&from, &to).unwrap();
        move || fs::rename(to, from).unwrap()
    }
}

fn checkpoint(gateway: &Gateway, token: &str, session: &str) -> Reply {
    let path = format!("/v1/sessions/{session}/checkpoint");
    gateway.post(token, &path, &json!({}))
}

#[test]
fn a_gateway_without_a_secret_seals_and_opens() {
    let held = Held::new();
    for file in ["sign.key", "wrap.key"] {
        let text = fs::read_to_string(held.home.path(file)).unwrap();
        assert!(!text.contains("SECRET"), "{file}");
    }
    let gateway = held.home.gateway(&TestEngine::new(1, true));
    let first = gateway.complete(&held.home.ana, "story", PROMPT);
    assert_eq!(checkpoint(&gateway, &held.home.ana, "story").status, 201);
    gateway.end();
    // another gateway, and an engine that knows nothing
    let gateway = held.home.gateway(&TestEngine::new(1, true));
    let more = format!("{PROMPT}{} and on", said(&first));
    let asked = gateway.complete(&held.home.ana, "story", &more);
    let kept = PROMPT.len() as u64 + 3;
    let rest = more.len() as u64 - kept;
    assert_eq!(told(&asked), ("exact", "capsule", kept, rest));
    assert_eq!(said(&asked), says(&more, 4));
    // an increment, whose parent is opened by the helper too
    assert_eq!(checkpoint(&gateway, &held.home.ana, "story").status, 201);
}

#[test]
fn without_its_helper_a_gateway_refuses_by_name_and_serves_on() {
    let held = Held::new();
    let ana = &held.home.ana;
    let gateway = held.home.gateway(&TestEngine::new(1, true));
    let first = gateway.complete(ana, "story", PROMPT);
    // nobody signs: nothing is saved, and nothing is lost
    let back = held.take("sign.key");
    let refused = checkpoint(&gateway, ana, "story");
    assert_eq!(refused.told(), (503, 948));
    // who asks learns no path
    let shown = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(!shown.contains(&*held.program.to_string_lossy()), "{shown}");
    assert!(!shown.contains("secrets"), "{shown}");
    let more = format!("{PROMPT}{} and on", said(&first));
    let second = gateway.complete(ana, "story", &more);
    assert_eq!((said(&second), told(&second).1), (says(&more, 4), "slot"));
    back();
    assert_eq!(checkpoint(&gateway, ana, "story").status, 201);
    gateway.end();
    // nobody opens: whose conversation it is hears of it, rather than that all of it is evaluated anew in silence
    let back = held.take("wrap.key");
    let gateway = held.home.gateway(&TestEngine::new(1, true));
    let last = format!("{more}{} to its end", said(&second));
    let asked = gateway.complete(ana, "story", &last);
    assert_eq!(asked.told(), (503, 948));
    // sessions that have nothing to be opened go on
    let other = gateway.complete(ana, "another", PROMPT);
    assert_eq!(said(&other), says(PROMPT, 4));
    back();
    // what was sealed is there as it was
    let asked = gateway.complete(ana, "story", &last);
    let kept = more.len() as u64 + 3;
    let rest = last.len() as u64 - kept;
    assert_eq!(told(&asked), ("exact", "capsule", kept, rest));
}

/// The helper behind a script that has its moods: the first request that finds a file `hold` waits for a file `go`, and
/// while there is a file `dies` it dies of each.
fn with_moods(folder: &Path) -> PathBuf {
    let path = folder.join("moods");
    let script = format!(
        "#!/bin/sh\ncd '{}'\nif mv hold held 2>/dev/null; then until [ -e go ]; do sleep 0.05; done; fi\n[ -e dies ] && kill -9 $$\nexec '{HELPER}'\n",
        folder.display()
    );
    fs::write(&path, script).unwrap();
    with_mode(&path, 0o755);
    with_mode(Path::new(HELPER), 0o755);
    path
}

#[test]
fn a_helper_that_is_waited_for_keeps_nobody_else() {
    let held = Held::by(with_moods);
    let (ana, bob) = (&held.home.ana, &held.home.bob);
    let gateway = held.home.gateway(&TestEngine::new(2, true));
    gateway.complete(ana, "story", PROMPT);
    fs::write(held.home.path("hold"), "").unwrap();
    thread::scope(|scope| {
        let saving = scope.spawn(|| checkpoint(&gateway, ana, "story"));
        while !held.home.path("held").exists() {
            assert!(!saving.is_finished(), "the helper was not asked");
            thread::sleep(Duration::from_millis(5));
        }
        let asked = gateway.complete(bob, "letter", PROMPT);
        assert_eq!(said(&asked), says(PROMPT, 4));
        assert_eq!(checkpoint(&gateway, bob, "letter").status, 201);
        assert!(!saving.is_finished());
        fs::write(held.home.path("go"), "").unwrap();
        assert_eq!(saving.join().unwrap().status, 201);
    });
}

#[test]
fn a_helper_that_dies_is_a_refusal_until_it_answers_again() {
    let held = Held::by(with_moods);
    let ana = &held.home.ana;
    let gateway = held.home.gateway(&TestEngine::new(1, true));
    gateway.complete(ana, "story", PROMPT);
    fs::write(held.home.path("dies"), "").unwrap();
    assert_eq!(checkpoint(&gateway, ana, "story").told(), (503, 948));
    fs::remove_file(held.home.path("dies")).unwrap();
    assert_eq!(checkpoint(&gateway, ana, "story").status, 201);
}
