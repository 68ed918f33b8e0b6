//! A server that somebody else runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use kvcap_engines::{Address, AttachedSettings, Engine, EngineError, LlamaServer, Missing};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    stand_in::script,
    support::{completion, read, root, slot, wait_for},
};

async fn run(folder: &Path) -> Child {
    let socket = folder.join("server.sock");
    let _ = fs::remove_file(&socket);
    let child = Command::new(script(folder))
        .args(["-np", "2", "--slot-save-path"])
        .arg(folder.join("slots"))
        .arg("--host")
        .arg(&socket)
        .spawn()
        .unwrap();
    while !socket.exists() {
        sleep(Duration::from_millis(20)).await;
    }
    child
}

fn stop(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn settings(folder: &TempDir) -> AttachedSettings {
    let address = Address::Socket(folder.path().join("server.sock"));
    let mut settings = AttachedSettings::new(address, folder.path().join("slots"));
    settings.model = Some(root().join("tests/fixtures/model"));
    settings
}

#[tokio::test]
async fn what_it_cannot_promise_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("slots")).unwrap();
    fs::set_permissions(
        folder.path().join("slots"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let mut child = run(folder.path()).await;
    let engine = LlamaServer::attach(settings(&folder)).await.unwrap();
    let missing = &engine.about().missing;
    for what in [
        Missing::Supervision,
        Missing::PrivateSocket,
        Missing::PrivateFolder,
    ] {
        assert!(missing.contains(&what), "{what:?}");
        assert!(what.sentence().ends_with('.'));
    }
    stop(&mut child);
}

#[tokio::test]
async fn what_was_before_a_restart_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("slots")).unwrap();
    let mut child = run(folder.path()).await;
    let engine = LlamaServer::attach(settings(&folder)).await.unwrap();
    let before = slot(&engine, 0).await;
    let asked = completion("abc", 2, true);
    read(engine.answer(before, asked.clone()).await.unwrap())
        .await
        .unwrap();
    stop(&mut child);
    assert_eq!(
        engine.answer(before, asked.clone()).await.unwrap_err(),
        EngineError::Lost
    );
    assert!(!engine.health().await.unwrap().ready);
    let mut child = run(folder.path()).await;
    wait_for(&engine, 2).await;
    assert_eq!(
        engine.answer(before, asked.clone()).await.unwrap_err(),
        EngineError::Lost
    );
    let now = slot(&engine, 0).await;
    assert_eq!(engine.answer(now, asked).await.unwrap().reused.cached, 0);
    assert_eq!(
        fs::read_dir(folder.path().join("slots")).unwrap().count(),
        0
    );
    stop(&mut child);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("slots")).unwrap();
    let error = LlamaServer::attach(settings(&folder)).await.err().unwrap();
    assert_eq!(error, EngineError::Lost);
}
