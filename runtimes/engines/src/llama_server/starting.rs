//! A server's private place, and its start.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use kvcap::binding::Digest;
use tokio::time::{Instant, sleep};

use super::settings::LlamaServerSettings;
use crate::{
    child::Watched,
    error::EngineError,
    http::{Address, Client},
    model::is_still,
    state_file::{StateFolder, in_memory, is_in_memory},
    supervisor::Life,
};

/// A private folder with the socket, and one in it for states.
pub(super) struct Room {
    folder: StateFolder,
    pub(super) states: StateFolder,
    pub(super) in_memory: bool,
}

impl Room {
    pub(super) fn new(parent: Option<&Path>) -> Result<Self, EngineError> {
        let parent = parent.map_or_else(in_memory, Path::to_path_buf);
        let folder = StateFolder::new(&parent).map_err(EngineError::Io)?;
        let states = StateFolder::new(folder.path()).map_err(EngineError::Io)?;
        let in_memory = is_in_memory(&parent);
        Ok(Self {
            folder,
            states,
            in_memory,
        })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("server.sock")
    }

    pub(super) fn client(&self) -> Result<Client, EngineError> {
        Client::new(Address::Socket(self.socket()), None)
    }
}

/// Starts of one server, one after the other.
pub(super) struct Starts {
    pub(super) settings: Arc<LlamaServerSettings>,
    pub(super) room: Arc<Room>,
    /// Id of the model that it was first started with.
    pub(super) model: Digest,
}

impl Starts {
    pub(super) fn again(
        &self,
    ) -> Pin<Box<dyn Future<Output = Result<Life<()>, EngineError>> + Send>> {
        let (settings, room, model) = (self.settings.clone(), self.room.clone(), self.model);
        Box::pin(async move { start(&settings, room, model).await })
    }
}

async fn start(
    settings: &LlamaServerSettings,
    room: Arc<Room>,
    model: Digest,
) -> Result<Life<()>, EngineError> {
    is_still(model, &settings.model, &settings.told()).await?;
    // the one that it had before
    let _ = std::fs::remove_file(room.socket());
    let path = |path: &Path| OsString::from(path);
    let line = settings.command_line(&path(&room.socket()), &path(room.states.path()));
    let started = Watched::start(&settings.program, &line, settings.log.as_ref()).await;
    let (mut watched, said) = started.map_err(EngineError::Io)?;
    let client = room.client()?;
    let until = Instant::now() + settings.patience;
    loop {
        tokio::select! {
            () = watched.end() => {
                let error = said.explain("the engine ended before it was ready").await;
                return Err(EngineError::Io(error));
            }
            () = sleep(Duration::from_millis(50)) => {}
        }
        if client.is_ready().await {
            break;
        }
        if Instant::now() > until {
            return Err(EngineError::Io(
                said.explain("the engine is not ready in time").await,
            ));
        }
    }
    Ok(Life {
        handle: (),
        end: Box::pin(async move {
            watched.end().await;
            drop(room);
        }),
    })
}
