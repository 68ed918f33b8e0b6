//! A server that runs already.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use kvcap_models::RuntimeOptions;

use super::dialect::Props;
use crate::{
    about::Missing,
    engine::{Health, Slot},
    error::EngineError,
    http::{Address, Client},
    state_file::{StateFolder, is_in_memory},
};

/// Settings for a llama-server that runs already.
#[derive(Clone)]
pub struct AttachedSettings {
    /// Address that it listens on.
    pub address: Address,
    /// Its key (`--api-key`), where it asks for one.
    pub key: Option<String>,
    /// Folder that it was started with as `--slot-save-path`.
    pub states: PathBuf,
    /// Model file, where the path that the server names is not one here.
    pub model: Option<PathBuf>,
    /// Options that it was started with, as far as they change states.
    pub options: RuntimeOptions,
}

impl AttachedSettings {
    /// Returns settings for an address and a folder of slots.
    #[must_use]
    pub fn new(address: Address, states: impl Into<PathBuf>) -> Self {
        Self {
            address,
            key: None,
            states: states.into(),
            model: None,
            options: RuntimeOptions::default(),
        }
    }

    pub(super) fn missing(&self, states: &StateFolder) -> Result<Vec<Missing>, EngineError> {
        let mut missing = vec![Missing::Supervision, Missing::PrivateSocket];
        if !states.is_private().map_err(EngineError::Io)? {
            missing.push(Missing::PrivateFolder);
        }
        if !is_in_memory(states.path()) {
            missing.push(Missing::Memory);
        }
        Ok(missing)
    }
}

/// What is known of the life of a server that somebody else keeps.
pub(super) struct Attached {
    /// Itself, as it described itself first.
    props: Props,
    now: Mutex<Health>,
}

impl Attached {
    pub(super) fn new(props: Props) -> Self {
        Self {
            props,
            now: Mutex::new(Health {
                generation: 1,
                ready: true,
            }),
        }
    }

    /// Remembers that it was gone: what its slots held is not believed in.
    pub(super) fn lose(&self) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.ready {
            now.ready = false;
            now.generation += 1;
        }
    }

    /// Asks whether it is there; the one that comes back must be the one that went.
    pub(super) async fn health(&self, client: &Client) -> Health {
        let same = client.props().await.is_ok_and(|props| props == self.props);
        if !same {
            self.lose();
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.ready = same;
        *now
    }

    pub(super) async fn check(&self, slot: Slot, client: &Client) -> Result<(), EngineError> {
        let known = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match known.ready {
            true => known,
            false => self.health(client).await,
        };
        match now.ready && now.generation == slot.generation {
            true => Ok(()),
            false => Err(EngineError::Lost),
        }
    }
}
