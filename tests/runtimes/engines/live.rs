//! The suite with a live engine, as the environment names it:
//!
//! | variable | |
//! |---|---|
//! | `KVCAP_ENGINE` | `llama-server` or `mlx-lm` |
//! | `KVCAP_ENGINE_PROGRAM` | llama-server, or a Python that has mlx-lm |
//! | `KVCAP_ENGINE_MODEL` | a GGUF file, or a model folder |
//! | `KVCAP_ENGINE_ARGUMENTS` | more for llama-server, in one text |
//! | `KVCAP_ENGINE_CHATS` | set where the model has a chat template |
//! | `KVCAP_ENGINE_LOG` | a file for what the engine says |

use std::{env, path::PathBuf};

use kvcap_engines::{LlamaServer, LlamaServerSettings, MlxLm, MlxLmSettings};

use crate::conformance::Subject;

fn named(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_engine_conforms() {
    let Ok(engine) = env::var("KVCAP_ENGINE") else {
        println!("SKIPPED: no live engine; tests/live/run --engines has them");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (program, model) = (named("KVCAP_ENGINE_PROGRAM"), named("KVCAP_ENGINE_MODEL"));
    let chats = env::var_os("KVCAP_ENGINE_CHATS").is_some();
    let log = env::var_os("KVCAP_ENGINE_LOG").map(PathBuf::from);
    match engine.as_str() {
        "llama-server" => {
            let mut settings = LlamaServerSettings::new(program, model);
            let more = env::var("KVCAP_ENGINE_ARGUMENTS").unwrap_or_default();
            settings.arguments = more.split_whitespace().map(str::to_owned).collect();
            settings.slots = 2;
            settings.context = 512;
            settings.folder = Some(folder.path().to_owned());
            settings.log = log;
            let engine = LlamaServer::start(settings).await.unwrap();
            let mark = folder.path().to_str().unwrap();
            let engine = &engine;
            Subject {
                engine,
                mark,
                chats,
            }
            .conform()
            .await;
        }
        "mlx-lm" => {
            let mark = &model;
            let mut settings = MlxLmSettings::new(program, &model);
            settings.slots = 2;
            settings.context = 512;
            settings.folder = Some(folder.path().to_owned());
            settings.log = log;
            let engine = &MlxLm::start(settings).await.unwrap();
            Subject {
                engine,
                mark,
                chats,
            }
            .conform()
            .await;
        }
        other => panic!("no engine is named {other}"),
    }
}
