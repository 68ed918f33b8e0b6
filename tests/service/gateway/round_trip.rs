//! The story that `kvcap demo --server` tells, before an engine in memory.

use std::{cell::Cell, sync::Arc};

use kvcap_codecs::Preset;
use kvcap_engines::Engine;
use kvcap_server::{EngineSetup, Own, RoundTrip};
use kvcap_store::profile::{NewProfile, Setting, Settings};
use tempfile::TempDir;

use crate::support::TestEngine;

/// A profile with keys of its own, in a folder.
fn profile(folder: &TempDir) -> Settings {
    let env = |name: &str| match name {
        "HOME" | "XDG_CONFIG_HOME" | "XDG_STATE_HOME" => Some(folder.path().into()),
        _ => None,
    };
    let profile = NewProfile {
        name: "default",
        issuer: "demo",
        settings: [(Setting::Audience, "local".to_owned())].into(),
        key_folder: false,
        passphrase: None,
    };
    profile.make(&env).unwrap();
    Settings::load(&env, None, [].into()).unwrap()
}

#[test]
fn a_conversation_goes_on_after_its_server_has_ended() {
    let folder = TempDir::new().unwrap();
    let engine = TestEngine::new(1, true);
    let begun = Cell::new(0);
    let profile = profile(&folder);
    let own = || {
        begun.set(begun.get() + 1);
        // each server has an engine that knows nothing of the one before
        engine.die();
        let given = EngineSetup::Given(Arc::clone(&engine) as Arc<dyn Engine>);
        Own::of(
            &profile,
            folder.path(),
            "127.0.0.1:0".parse().unwrap(),
            given,
        )
    };
    let text = "A list of things that nobody knows by heart. ".repeat(20);
    let told = RoundTrip::over(&text, &own).unwrap();
    assert_eq!(begun.get(), 2);
    let (first, saved) = (&told.first, &told.saved);
    assert_eq!((first.rung.as_str(), first.restored), ("fresh", 0));
    // all that was evaluated, and the answer but its last token
    assert_eq!(saved.positions, first.evaluated + 15);
    assert!(saved.bytes > 0);
    let resumed = &told.resumed;
    assert_eq!(
        (resumed.rung.as_str(), resumed.code.as_str()),
        ("exact", "")
    );
    assert_eq!(resumed.restored, saved.positions);
    let anew = &told.from_nothing;
    assert_eq!((anew.rung.as_str(), anew.restored), ("fresh", 0));
    assert_eq!(anew.evaluated, resumed.restored + resumed.evaluated);
    assert!(told.is_same);
    // an engine whose restores do nothing is told as it is
    engine.lies.store(true, std::sync::atomic::Ordering::SeqCst);
    let folder = TempDir::new().unwrap();
    let own = || {
        engine.die();
        let given = EngineSetup::Given(Arc::clone(&engine) as Arc<dyn Engine>);
        Own::of(
            &profile,
            folder.path(),
            "127.0.0.1:0".parse().unwrap(),
            given,
        )
    };
    let told = RoundTrip::over(&text, &own).unwrap();
    let resumed = &told.resumed;
    assert_eq!(
        (resumed.rung.as_str(), resumed.code.as_str()),
        ("fresh", "KVC-926")
    );
    assert_eq!((resumed.restored, told.is_same), (0, true));
}

#[test]
fn a_profile_is_taken_as_it_says_or_refused() {
    let folder = TempDir::new().unwrap();
    let profile = profile(&folder);
    let of = |setting, text: &str| {
        let engine: Arc<dyn Engine> = TestEngine::new(1, true);
        Own::of(
            &profile.clone().with(setting, Some(text.to_owned())),
            folder.path(),
            "127.0.0.1:0".parse().unwrap(),
            EngineSetup::Given(engine),
        )
    };
    for (setting, text, code) in [
        (Setting::Encoding, "as small as can be", 945),
        (Setting::Ttl, "seven", 944),
    ] {
        assert_eq!(of(setting, text).unwrap_err().code().number(), code);
    }
    let keys = |own: Own| own.settings.gateway.unwrap().keys;
    let near = keys(of(Setting::Encoding, "near").unwrap());
    assert_eq!(Some(near.encoding), Preset::from_name("near"));
    // who only opens is none of those for whom is sealed
    let keys = keys(of(Setting::OpenKey, "old.key").unwrap());
    assert_eq!(keys.sealing.wrap_keys.len(), 1);
    assert!(keys.open_keys.contains(&"old.key".into()));
}
