//! States in clear: who may see them, and that they go.

use std::{fs, os::unix::fs::PermissionsExt};

use kvcap_engines::StateFolder;

#[test]
fn a_state_is_its_users_and_goes_when_it_is_dropped() {
    let parent = tempfile::tempdir().unwrap();
    let folder = StateFolder::new(parent.path()).unwrap();
    assert!(folder.is_private().unwrap());
    let state = folder.create().unwrap();
    let mode = fs::metadata(state.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(state.name().len(), 32);
    let path = state.path().to_owned();
    // the folder stays as long as one of its states
    drop(folder);
    assert!(path.exists());
    drop(state);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn what_a_dead_process_left_is_cleared_and_what_a_living_one_holds_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let living = StateFolder::new(parent.path()).unwrap();
    let held = living.create().unwrap();
    let dead = parent
        .path()
        .join("kvcap-engine-00112233445566778899aabbccddeeff");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    fs::write(dead.join("state"), "secret").unwrap();
    let others = parent.path().join("kvcap-engine-of-somebody");
    fs::create_dir(&others).unwrap();
    let _next = StateFolder::new(parent.path()).unwrap();
    assert!(!dead.exists());
    assert!(held.path().exists() && others.exists());
}

#[test]
fn a_folder_that_was_there_stays() {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = StateFolder::existing(parent.path()).unwrap();
    assert!(!folder.is_private().unwrap());
    drop(folder.create().unwrap());
    drop(folder);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    assert!(StateFolder::existing(&parent.path().join("none")).is_err());
}
