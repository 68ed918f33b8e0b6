//! What a llama-server does wrong, and what its engine makes of it.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use kvcap::Code;
use kvcap_engines::{Asked, Engine, EngineError, Event, LlamaServer, Slot, StateFolder};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::support::{
    completion, engine, files, kill, private_folders, processes, read, settings, slot, wait_for,
};

fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("engines")
        .tempdir()
        .unwrap()
}

#[tokio::test]
async fn what_it_is_told_by_a_first_state() {
    let folder = folder();
    let engine = engine("plain", &folder).await;
    let about = engine.about();
    assert_eq!((about.version.as_str(), about.format), ("b12345", "ggsq-3"));
    assert_eq!((about.slots, about.context), (2, 64));
    assert!(about.rewinds);
    assert!(
        about
            .facts
            .contains(&("type_k".to_owned(), "f16".to_owned()))
    );
}

#[tokio::test]
async fn a_state_leaves_and_comes_back() {
    let folder = folder();
    let engine = engine("plain", &folder).await;
    let (one, two) = (slot(&engine, 0).await, slot(&engine, 1).await);
    let (_, counts) = read(
        engine
            .answer(one, completion("abcdef", 3, true))
            .await
            .unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(
        (counts.cached, counts.evaluated, counts.predicted),
        (0, 6, 3)
    );
    let state = engine.export(one).await.unwrap();
    let bytes = fs::read(state.path()).unwrap();
    let admitted = engine.new_state().unwrap();
    fs::write(admitted.path(), bytes).unwrap();
    engine.admit(two, admitted).await.unwrap();
    let answer = engine
        .answer(two, completion("abcdefgh", 3, true))
        .await
        .unwrap();
    assert_eq!(
        (
            answer.reused.cached,
            answer.reused.evaluated,
            answer.reused.predicted
        ),
        (6, 2, 0)
    );
    let path = state.path().to_owned();
    drop(state);
    assert!(!path.exists());
    drop(answer);
    drop(engine);
    for _ in 0..100 {
        sleep(Duration::from_millis(50)).await;
        if fs::read_dir(folder.path().join("engine")).unwrap().count() == 0 {
            return;
        }
    }
    panic!("left: {:?}", files(folder.path()));
}

#[tokio::test]
async fn folders_are_private_and_empty() {
    let folder = folder();
    let engine = engine("plain", &folder).await;
    assert_eq!(private_folders(&folder.path().join("engine")), 2);
    let one = slot(&engine, 0).await;
    engine.evaluate(one, &[5, 6, 7]).await.unwrap();
    drop(engine.export(one).await.unwrap());
    let left = files(&folder.path().join("engine"));
    let names: Vec<_> = left.iter().map(|path| path.file_name().unwrap()).collect();
    assert!(
        names
            .iter()
            .all(|name| *name == "server.sock" || *name == "lock"),
        "{left:?}"
    );
}

#[tokio::test]
async fn what_no_capsule_keeps_is_refused() {
    let folder = folder();
    let engine = engine("plain", &folder).await;
    let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:," } }] }]);
    let refused = [
        Asked::completion(json!({ "prompt": "a", "n": 2 })),
        Asked::completion(json!({ "prompt": ["a", "b"] })),
        Asked::completion(json!({ "prompt": [[1], [2]] })),
        Asked::completion(json!({ "prompt": { "multimodal_data": [] } })),
        Asked::completion(json!({ "prompt": "a", "lora": [{ "id": 0, "scale": 1.0 }] })),
        Asked::completion(json!({ "prompt": "a", "control_vector": "b" })),
        Asked::completion(json!({ "prompt": "" })),
        Asked::completion(json!({ "prompt": [1_u64 << 32] })),
        Asked::completion(json!({ "prompt": "a", "stream": "true" })),
        Asked::completion(json!({ "prompt": "a", "max_tokens": "3" })),
        Asked::completion(json!({ "prompt": "a", "n_predict": -2 })),
        Asked::chat(json!({ "messages": [] })),
        Asked::chat(json!({ "messages": ["a"] })),
        Asked::chat(json!({ "messages": [{ "content": "a" }] })),
        Asked::chat(json!({ "messages": [{ "role": "user" }] })),
        Asked::chat(json!({ "messages": [{ "role": "user", "content": 3 }] })),
        Asked::completion(json!("a")),
        Asked::chat(json!({ "messages": image })),
        Asked::chat(json!({})),
    ];
    let one = slot(&engine, 0).await;
    for asked in refused {
        for error in [
            engine.tokens(&asked).await.unwrap_err(),
            engine.answer(one, asked.clone()).await.unwrap_err(),
        ] {
            assert!(
                matches!(error, EngineError::Refused { status: 400, .. }),
                "{asked:?}: {error}"
            );
        }
    }
    let long = vec![1; 65];
    assert!(matches!(
        engine.evaluate(one, &long).await,
        Err(EngineError::Refused { status: 400, .. })
    ));
    let none = Slot { index: 2, ..one };
    assert!(matches!(
        engine.erase(none).await,
        Err(EngineError::Refused { .. })
    ));
    assert!(matches!(
        engine.export(one).await,
        Err(EngineError::Refused { status: 409, .. })
    ));
}

#[tokio::test]
async fn what_a_caller_must_not_decide_is_taken_out() {
    let folder = folder();
    let engine = engine("plain", &folder).await;
    let (one, two) = (slot(&engine, 0).await, slot(&engine, 1).await);
    engine
        .evaluate(one, b"abcd".map(u32::from).as_slice())
        .await
        .unwrap();
    let body = json!({ "prompt": "abcdef", "id_slot": 0, "cache_prompt": false, "n_cache_reuse": 8, "stream": true });
    let answer = engine
        .answer(two, Asked::completion(body.clone()))
        .await
        .unwrap();
    assert_eq!(answer.reused.cached, 0);
    drop(answer);
    let answer = engine.answer(one, Asked::completion(body)).await.unwrap();
    assert_eq!(answer.reused.cached, 4);
}

#[tokio::test]
async fn counts_stay_at_the_end_of_a_stream() {
    let folder = folder();
    let engine = engine("plain", &folder).await;
    let one = slot(&engine, 0).await;
    let mut answer = engine
        .answer(one, completion("abc", 3, true))
        .await
        .unwrap();
    let mut with = Vec::new();
    while let Some(Ok(Event::Bytes(bytes))) = answer.events.next().await {
        with.push(std::str::from_utf8(&bytes).unwrap().contains("timings"));
    }
    assert_eq!(with, [false, false, true, false]);
    assert!(answer.events.next().await.is_none());
}

#[tokio::test]
async fn an_engine_that_dies_in_an_answer_is_lost_and_comes_back() {
    let folder = folder();
    let engine = engine("dies", &folder).await;
    let before = slot(&engine, 0).await;
    let answer = engine
        .answer(before, completion("abc", 8, true))
        .await
        .unwrap();
    assert_eq!(read(answer).await.unwrap_err(), EngineError::Lost);
    wait_for(&engine, 2).await;
    let one = completion("abc", 2, true);
    assert_eq!(
        engine.answer(before, one.clone()).await.unwrap_err(),
        EngineError::Lost
    );
    let (_, counts) = read(engine.answer(slot(&engine, 0).await, one).await.unwrap())
        .await
        .unwrap();
    assert_eq!(counts.cached, 0);
}

#[tokio::test]
async fn an_answer_that_is_given_up_says_so() {
    let folder = folder();
    let engine = engine("gives-up", &folder).await;
    let answer = engine
        .answer(slot(&engine, 0).await, completion("abc", 8, true))
        .await
        .unwrap();
    let refused = EngineError::Refused {
        status: 500,
        message: "Compute error.".to_owned(),
    };
    assert_eq!(read(answer).await.unwrap_err(), refused);
}

#[tokio::test]
async fn an_answer_that_stops_short_has_no_end() {
    let folder = folder();
    let engine = engine("stops-short", &folder).await;
    let answer = engine
        .answer(slot(&engine, 0).await, completion("abc", 8, true))
        .await
        .unwrap();
    assert_eq!(read(answer).await.unwrap_err(), EngineError::Lost);
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_not_guessed_at() {
    let folder = folder();
    let engine = engine("garbage", &folder).await;
    let error = engine
        .tokens(&completion("abc", 1, false))
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Io(_)), "{error}");
}

#[tokio::test]
async fn a_state_of_another_layout_never_reaches_the_engine() {
    let folder = folder();
    // what it restored would kill it
    let engine = engine("restore-dies", &folder).await;
    let one = slot(&engine, 0).await;
    let fixtures = crate::support::root().join("tests/fixtures");
    for (name, code) in [
        ("llama_ggsq3_f16_vtrans.bin", Code::BindingLayout),
        ("llama_ggsq3_q4_0.bin", Code::BindingLayout),
        ("mlx031_f16.safetensors", Code::StateUnrecognised),
    ] {
        let state = engine.new_state().unwrap();
        fs::copy(fixtures.join(name), state.path()).unwrap();
        match engine.admit(one, state).await {
            Err(EngineError::Unsuitable(error)) => {
                assert_eq!(error.code(), code, "{name}: {error}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(engine.health().await.unwrap().generation, 1);
}

async fn admit_own(engine: &LlamaServer, slot: Slot) -> Result<(), EngineError> {
    engine.evaluate(slot, &[1, 2, 3]).await.unwrap();
    let state = engine.export(slot).await.unwrap();
    engine.admit(slot, state).await
}

#[tokio::test]
async fn after_a_refused_restore_the_slot_is_clean() {
    for mode in ["restore-fails", "takes-nothing"] {
        let folder = folder();
        let engine = engine(mode, &folder).await;
        let one = slot(&engine, 0).await;
        match admit_own(&engine, one).await {
            Err(EngineError::Unsuitable(error)) => {
                assert_eq!(error.code(), Code::StateRestoreIneffective, "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(engine.evaluate(one, &[1, 2, 3]).await.unwrap().cached, 0);
    }
}

#[tokio::test]
async fn a_slot_that_stays_bad_ends_the_engine() {
    let folder = folder();
    let engine = engine("takes-nothing-and-breaks", &folder).await;
    let one = slot(&engine, 0).await;
    assert_eq!(admit_own(&engine, one).await, Err(EngineError::Lost));
    wait_for(&engine, 2).await;
    assert_eq!(engine.erase(one).await, Err(EngineError::Lost));
    assert_eq!(
        engine
            .evaluate(slot(&engine, 0).await, &[1, 2, 3])
            .await
            .unwrap()
            .cached,
        0
    );
}

#[tokio::test]
async fn a_restore_that_kills_the_engine_is_lost() {
    let folder = folder();
    let engine = engine("restore-dies", &folder).await;
    let one = slot(&engine, 0).await;
    assert_eq!(admit_own(&engine, one).await, Err(EngineError::Lost));
    wait_for(&engine, 2).await;
    assert!(
        files(folder.path())
            .iter()
            .all(|path| !path.ends_with("states"))
    );
}

#[tokio::test]
async fn a_program_that_does_not_start_is_explained() {
    let folder = folder();
    let error = LlamaServer::start(settings("does-not-start", &folder))
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("the model cannot be read"),
        "{error}"
    );
    let mut waiting = settings("never-ready", &folder);
    waiting.patience = Duration::from_millis(500);
    let error = LlamaServer::start(waiting).await.err().unwrap();
    assert!(error.to_string().contains("not ready in time"), "{error}");
    for arguments in [
        &["--lora", "x.gguf"][..],
        &["--slot-save-path", "/tmp"],
        &["-v"],
        &["--port", "80"],
        &["-t"],
    ] {
        let mut settings = settings("plain", &folder);
        settings.arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        match LlamaServer::start(settings).await.err().unwrap() {
            EngineError::Unsuitable(error) => assert_eq!(error.code(), Code::LocalUsage),
            other => panic!("{arguments:?}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_kill_is_seen_and_nothing_is_left_running() {
    let folder = folder();
    let engine = engine("slow", &folder).await;
    let mark = folder.path().to_str().unwrap();
    let first = processes(mark);
    let one = slot(&engine, 0).await;
    let answer = engine
        .answer(one, completion("abc", 1000, true))
        .await
        .unwrap();
    kill(&first);
    assert_eq!(read(answer).await.unwrap_err(), EngineError::Lost);
    wait_for(&engine, 2).await;
    assert_ne!(processes(mark), first);
    drop(engine);
    for _ in 0..100 {
        sleep(Duration::from_millis(50)).await;
        if processes(mark).is_empty() {
            return;
        }
    }
    panic!("left running");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_stopped() {
    let folder = folder();
    let engine = engine("slow", &folder).await;
    let one = slot(&engine, 0).await;
    let answer = engine
        .answer(one, completion("abc", 100_000, true))
        .await
        .unwrap();
    drop(answer);
    let next = timeout(
        Duration::from_secs(10),
        engine.answer(one, completion("abcd", 2, true)),
    );
    read(next.await.unwrap().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_state_that_nobody_waits_for_goes_too() {
    let folder = folder();
    let engine = engine("saves-late", &folder).await;
    let one = slot(&engine, 0).await;
    engine.evaluate(one, &[1, 2, 3]).await.unwrap();
    let export = timeout(Duration::from_millis(50), engine.export(one)).await;
    assert!(export.is_err());
    sleep(Duration::from_millis(1500)).await;
    let left = files(&folder.path().join("engine"));
    let states = |path: &&PathBuf| path.file_name().unwrap().len() == 32;
    assert_eq!(left.iter().find(states), None);
}

/// A process with an engine, until it is killed.
#[tokio::test]
#[ignore = "it is the process that another test kills"]
async fn holder() {
    let Some(path) = env::var_os("HOLDER") else {
        return;
    };
    let folder = tempfile::Builder::new().tempdir_in(path).unwrap();
    let engine = engine("plain", &folder).await;
    let _state = engine.new_state().unwrap();
    sleep(Duration::from_secs(3600)).await;
}

#[tokio::test]
async fn an_engine_does_not_outlive_who_started_it() {
    let folder = folder();
    let mark = folder.path().to_str().unwrap().to_owned();
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["failures::holder", "--exact", "--ignored"])
        .env("HOLDER", folder.path())
        .spawn()
        .unwrap();
    let states = || {
        let left = files(folder.path());
        left.into_iter()
            .filter(|path| path.file_name().unwrap().len() == 32)
            .count()
    };
    while states() == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!processes(&mark).is_empty());
    kill(&[holder.id()]);
    holder.wait().unwrap();
    for _ in 0..1200 {
        sleep(Duration::from_millis(50)).await;
        if processes(&mark).is_empty() {
            break;
        }
    }
    assert!(processes(&mark).is_empty(), "left running");
    // what it held in clear goes when the next engine starts there
    assert_eq!(states(), 1);
    let held = fs::read_dir(folder.path()).unwrap().next().unwrap();
    drop(StateFolder::new(&held.unwrap().path().join("engine")).unwrap());
    assert_eq!(states(), 0);
}
