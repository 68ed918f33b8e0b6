//! What is erased, and keys that are replaced: in every place that a relay keeps something.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::json;

use super::{
    super::support::Folder,
    relay::{Relay, another, device, one, say},
};

#[test]
fn what_is_erased_is_gone_everywhere_and_copies_open_for_nobody() {
    let device = with_key_folder();
    let relay = Relay::of(&[&device]);
    // a state, a version, and the versions' order
    erased(&device, &relay, 3);
}

#[test]
#[cfg(feature = "shared")]
fn what_is_erased_is_gone_from_bucket_database_and_edge() {
    let device = with_key_folder();
    let relay = Relay::sharing(&[&device]);
    // the order is in the database
    erased(&device, &relay, 2);
    // pieces that nothing names any more go within the hour, and are as unreadable as every copy
    for piece in relay.at_edge() {
        assert!(!piece.contains("secret"));
    }
}

fn with_key_folder() -> Folder {
    let folder = Folder::new();
    folder.ok("init --yes --issuer lab --model model --key-folder");
    folder
}

/// Puts a session, and takes it back: the device's, the relay's, and every copy that was made before.
fn erased(folder: &Folder, relay: &Relay, files: usize) {
    say(folder, "secret");
    folder.ok("checkpoint fix state.bin");
    relay.sync(folder, "");
    // whatever stands before the relay's files has them too
    let reader = another(folder);
    relay.admit(&reader);
    relay.sync(&reader, "");
    // every copy that somebody could have made
    let copies = Folder::empty();
    let mut names = Vec::new();
    for path in relay.kept() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        copies.write(&name, &fs::read(&path).unwrap());
        names.push(name);
    }
    names.retain(|name| name.ends_with(".kvcap"));
    assert_eq!(names.len(), 2);
    let keys = folder.home().join("config/kvcap/default");
    let keys = fs::read_dir(keys)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let keys = keys.into_iter().find(|path| path.is_dir()).unwrap();
    // the key first
    folder.ok(&format!(
        "shred --no-tenant --wrap-key {} --yes",
        keys.display()
    ));
    folder.refused("erase fix", 944, 2);
    let listed = folder.json(&format!("erase fix --dry-run {}", relay.flags()));
    assert_eq!(listed["sessions"][0]["relay"], true);
    assert_eq!(relay.kept().len(), files);
    let erased = folder.json(&format!("erase fix --yes {}", relay.flags()));
    assert_eq!(erased["sessions"][0]["device"], true);
    assert!(relay.kept().is_empty(), "{:?}", relay.kept());
    folder.refused("status fix", 955, 1);
    let late = another(folder);
    relay.admit(&late);
    relay.refuses(&late, "fix", 955, 1);
    folder.refused(&format!("erase fix --yes {}", relay.flags()), 955, 1);
    let sessions = folder.home().join("state/kvcap/sessions/-/-");
    assert_eq!(fs::read_dir(sessions).unwrap().count(), 0);
    for name in names {
        folder.write(&name, &copies.read(&name));
        let opened = folder.run(&format!("import copy {name}"));
        opened.check_refused(&name, 811, 1);
    }
}

#[test]
fn versions_are_wrapped_for_the_keys_of_today() {
    let device = device();
    wrapped_again(&device, &Relay::of(&[&device]));
}

#[test]
#[cfg(feature = "shared")]
fn an_edge_gives_out_no_version_for_the_keys_of_before() {
    let device = device();
    let relay = Relay::sharing(&[&device]);
    wrapped_again(&device, &relay);
    assert!(!relay.at_edge().is_empty());
}

fn wrapped_again(first: &Folder, relay: &Relay) {
    say(first, "one");
    relay.sync(first, "");
    let reader = another(first);
    relay.admit(&reader);
    relay.sync(&reader, "");
    let old = wrapping_key(first);
    first.ok("keygen wrap -o new.key");
    let new = first.path("new.key");
    let with = |line: &str| {
        format!(
            "{line} --wrap-key {} --open-key {}",
            new.display(),
            old.display()
        )
    };
    let rewrapped = relay.sync(first, &with("fix --rewrap"));
    assert_eq!(one(&rewrapped)["renewed"], json!([1]));
    assert_eq!(
        one(&relay.sync(first, &with("fix --rewrap")))["renewed"],
        json!([])
    );
    // who has the new key alone reads it; who has the old one alone does not
    let holder = another(first);
    relay.admit(&holder);
    relay.refuses(&holder, "fix", 809, 1);
    holder.write("new.key", &first.read("new.key"));
    fs::set_permissions(holder.path("new.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let taken = relay.sync(&holder, "fix --wrap-key new.key");
    assert_eq!(one(&taken)["taken"], json!([1]));
}

fn wrapping_key(device: &Folder) -> PathBuf {
    let profile = device.home().join("config/kvcap/default");
    let mut keys = fs::read_dir(profile)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    keys.find(|path| path.to_string_lossy().contains("wrap"))
        .unwrap()
}
