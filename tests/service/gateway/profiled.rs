//! States that are sealed with a profile of codecs (codecs-v1 §12.7): found by its digest, and missed by its code.
//!
//! A process remembers the profiles that it met. So one of its own seals, and this one meets the profile only when it
//! restores.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
};

use kvcap::{Limits, Untrusted, binding::Digest};
use kvcap_codecs::Preset;
use kvcap_server::{NewToken, Permission, Token, Tokens};
use kvcap_session::files::CodecProfiles;
use kvcap_testkit::{
    fixture, model,
    profile::{Entry, made},
};

use crate::support::{Gateway, Home, TestEngine, capsules::take_home, said, says, settings, told};

const FOLDER: &str = "KVCAP_TEST_PROFILED_FOLDER";
const SESSIONS: [&str; 2] = ["missed", "found"];
const PROMPT: &str = "a state that is sealed with a profile of its model";

/// A profile of the engine's model that knows each of its banks.
fn profile() -> Vec<u8> {
    let id = model(&fixture("model")).unwrap().model.id.0;
    let entries: Vec<Entry> = (0..6)
        .flat_map(|layer| [(0, 1), (1, 2)].map(|(role, by)| Entry::new(layer, role, by, 2, 64)))
        .collect();
    made(id, &entries, &[])
}

fn kept(home: &Path) -> PathBuf {
    home.join("codec-profiles")
}

fn engine() -> Arc<TestEngine> {
    let engine = TestEngine::new(2, true);
    engine.near.store(true, Ordering::SeqCst);
    engine
}

/// The gateway that seals, in the process that the other test begins.
#[test]
fn a_gateway_that_has_the_profile() {
    let Some(home) = env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let file = home.join("made.kvtc");
    fs::write(&file, profile()).unwrap();
    let kept = CodecProfiles::at(kept(&home));
    let (known, _) = kept.add(&file).unwrap();
    fs::remove_file(file).unwrap();
    kept.look_here();

    let token = NewToken::generate().unwrap();
    let ana = Token {
        tenant: Some("acme".to_owned()),
        subject: Some("ana".to_owned()),
        may: Permission::ALL.to_vec(),
    };
    let mut tokens = Tokens::default();
    tokens.add(token.digest(), ana).unwrap();
    let mut settings = settings(&home, tokens, &engine());
    settings.gateway.as_mut().unwrap().keys.encoding = Preset::Rate(640);
    let gateway = Gateway::begin(settings);
    for session in SESSIONS {
        assert_eq!(
            said(&gateway.complete(token.text(), session, PROMPT)),
            says(PROMPT, 4)
        );
        let capsule = take_home(&gateway, token.text(), session);
        let read = Untrusted::read(&mut &*capsule, &Limits::default()).unwrap();
        let named = read.outline().unwrap().codec_profile.unwrap();
        assert_eq!(Digest::from_hex(&named), Some(known.digest()));
    }
    gateway.end();
}

#[test]
fn a_state_is_restored_with_its_profile_and_not_without() {
    let home = Home::new();
    let sealed = Command::new(env::current_exe().unwrap())
        .args(["--exact", "profiled::a_gateway_that_has_the_profile"])
        .env(FOLDER, home.folder.path())
        .output()
        .unwrap();
    assert!(
        sealed.status.success() && sealed.stdout.windows(8).any(|said| said == b"1 passed"),
        "{}",
        String::from_utf8_lossy(&sealed.stdout)
    );

    let engine = engine();
    let gateway = home.gateway(&engine);
    let text = PROMPT.to_owned() + &says(PROMPT, 4) + " and goes on";
    let asked = gateway.complete(&home.ana, SESSIONS[0], &text);
    assert_eq!(told(&asked), ("fresh", "none", 0, text.len() as u64));
    assert_eq!(asked.field("x-kvcap-code"), Some("KVC-908"));
    assert_eq!(said(&asked), says(&text, 4));
    assert_eq!(engine.called("admit"), 0);

    // found by its digest in a folder
    CodecProfiles::at(kept(home.folder.path())).look_here();
    let asked = gateway.complete(&home.ana, SESSIONS[1], &text);
    let restored = PROMPT.len() as u64 + 3;
    let evaluated = text.len() as u64 - restored;
    assert_eq!(told(&asked), ("exact", "capsule", restored, evaluated));
    assert_eq!(asked.field("x-kvcap-code"), None);
    assert_eq!(said(&asked), says(&text, 4));
    assert_eq!(engine.called("admit"), 1);
}
