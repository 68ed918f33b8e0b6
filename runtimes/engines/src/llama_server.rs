//! llama-server: a child of one's own on a private socket, or one that runs already.

mod answering;
mod attached;
mod dialect;
mod first_state;
mod settings;
mod starting;

use std::{path::PathBuf, sync::Arc};

use kvcap::{Code, Error};

use self::attached::Attached;
pub use self::{attached::AttachedSettings, settings::LlamaServerSettings};
use crate::{
    about::{About, Missing, rewinds},
    answer::{Answer, Timings},
    asked::Asked,
    child::check_program,
    engine::{Answering, Engine, Health, Slot},
    error::EngineError,
    http::Client,
    layout::Layout,
    model::profile,
    state_file::{StateFile, StateFolder},
    supervisor::Supervisor,
};

/// A llama-server with its slots.
///
/// Every slot is its own; prompts that were answered are kept nowhere else. The server is killed with the last of its
/// handles, and with this process however that ends.
pub struct LlamaServer {
    about: About,
    client: Client,
    states: StateFolder,
    layout: Layout,
    life: Life,
}

enum Life {
    Supervised(Supervisor<()>),
    Attached(Attached),
}

impl LlamaServer {
    /// Starts a server, and again whenever it ends; returns when the model is loaded and a first state has shown what
    /// it writes.
    ///
    /// # Errors
    /// [`EngineError::Unsuitable`] with KVC-944 for settings that are not allowed and a program that is not there, with the
    /// model's codes for one that cannot be bound, with KVC-923 for states that are not the model's; [`EngineError::Io`] with the server's last
    /// words where it does not start.
    pub async fn start(settings: LlamaServerSettings) -> Result<Self, EngineError> {
        settings.check().map_err(EngineError::Unsuitable)?;
        check_program(&settings.program).map_err(EngineError::Unsuitable)?;
        let room = starting::Room::new(settings.folder.as_deref())?;
        let client = room.client()?;
        let states = room.states.clone();
        let in_memory = room.in_memory;
        let options = settings.told();
        let profile = profile(&settings.model, &options).await?;
        let path = settings.model.clone();
        let slots = settings.slots;
        let starts = starting::Starts {
            settings: Arc::new(settings),
            room: Arc::new(room),
            model: profile.model.id,
        };
        let supervisor = Supervisor::start(move || starts.again()).await?;
        let props = client.props().await?;
        let shown = first_state::show(&client, &states, &profile, slots - 1).await?;
        Ok(Self {
            about: About {
                kind: kvcap_states::RuntimeKind::LlamaCpp,
                version: props.version,
                path,
                rewinds: rewinds(&profile),
                profile,
                options,
                slots,
                context: props.context,
                format: shown.format,
                facts: shown.facts.clone(),
                missing: (!in_memory)
                    .then_some(Missing::Memory)
                    .into_iter()
                    .collect(),
            },
            client,
            states,
            layout: shown,
            life: Life::Supervised(supervisor),
        })
    }

    /// Uses a server that runs already; its slots are taken over.
    ///
    /// # Errors
    /// As [`Self::start`]; [`EngineError::Lost`] where it does not answer.
    pub async fn attach(settings: AttachedSettings) -> Result<Self, EngineError> {
        let client = Client::new(settings.address.clone(), settings.key.as_deref())?;
        let states = StateFolder::existing(&settings.states).map_err(EngineError::Io)?;
        let props = client.props().await?;
        let path = settings.model.clone();
        let path = path.unwrap_or_else(|| PathBuf::from(&props.model));
        let mut options = settings.options.clone();
        options.ctx_size = options.ctx_size.or(Some(props.context));
        let profile = profile(&path, &options).await?;
        let slots = usize::try_from(props.slots).unwrap_or(usize::MAX);
        let shown = first_state::show(&client, &states, &profile, slots - 1).await?;
        Ok(Self {
            about: About {
                kind: kvcap_states::RuntimeKind::LlamaCpp,
                version: props.version.clone(),
                path,
                rewinds: rewinds(&profile),
                profile,
                options,
                slots,
                context: props.context,
                format: shown.format,
                facts: shown.facts.clone(),
                missing: settings.missing(&states)?,
            },
            client,
            states,
            layout: shown,
            life: Life::Attached(Attached::new(props)),
        })
    }

    /// Refuses a slot that is not of this life.
    async fn check(&self, slot: Slot) -> Result<(), EngineError> {
        if slot.index >= self.about.slots {
            return Err(EngineError::Refused {
                status: 400,
                message: "the engine has no such slot".to_owned(),
            });
        }
        match &self.life {
            Life::Supervised(supervisor) => supervisor.of(slot),
            Life::Attached(attached) => attached.check(slot, &self.client).await,
        }
    }

    /// What a call gave; an engine that was lost meanwhile is remembered as such.
    fn heard<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let (Life::Attached(attached), Err(EngineError::Lost)) = (&self.life, &result) {
            attached.lose();
        }
        result
    }

    /// Ends the life that a slot is of, or believes in it no more.
    fn give_up(&self, slot: Slot) {
        match &self.life {
            Life::Supervised(supervisor) => supervisor.give_up(slot),
            Life::Attached(attached) => attached.lose(),
        }
    }

    /// A state that was refused may have left bad rows behind. What is not clean afterwards is not used again.
    async fn clean(&self, slot: Slot) -> Result<(), EngineError> {
        let cleaning = async {
            self.client.erase(slot.index).await?;
            let counts = self
                .client
                .evaluate(slot.index, &first_state::PROBE)
                .await?;
            self.client.erase(slot.index).await?;
            Ok(counts.cached == 0)
        };
        let cleaned: Result<bool, EngineError> = cleaning.await;
        if !matches!(cleaned, Ok(true)) {
            self.give_up(slot);
            return Err(EngineError::Lost);
        }
        Ok(())
    }

    async fn restore(&self, slot: Slot, state: StateFile) -> Result<(), EngineError> {
        let fits = self.layout.check(&state, &self.about.profile.geometry);
        fits.map_err(EngineError::Unsuitable)?;
        let restored = self.client.restore(slot.index, state.name()).await;
        drop(state);
        match restored {
            Err(EngineError::Refused { message, .. }) => {
                self.clean(slot).await?;
                let what = "the runtime did not take the state";
                let error = Error::new(Code::StateRestoreIneffective, what).at(message);
                Err(EngineError::Unsuitable(error))
            }
            other => other,
        }
    }
}

impl Engine for LlamaServer {
    fn about(&self) -> &About {
        &self.about
    }

    fn tokens<'a>(&'a self, asked: &'a Asked) -> Answering<'a, Vec<u32>> {
        Box::pin(async move {
            asked.check()?;
            if let Life::Supervised(supervisor) = &self.life {
                supervisor.any()?;
            }
            self.heard(self.client.ids(asked).await)
        })
    }

    fn answer(&self, slot: Slot, asked: Asked) -> Answering<'_, Answer> {
        Box::pin(async move {
            let prepared = dialect::prepare(asked, slot.index)?;
            self.check(slot).await?;
            self.heard(answering::answer(&self.client, prepared).await)
        })
    }

    fn evaluate<'a>(&'a self, slot: Slot, tokens: &'a [u32]) -> Answering<'a, Timings> {
        Box::pin(async move {
            self.check(slot).await?;
            self.heard(self.client.evaluate(slot.index, tokens).await)
        })
    }

    fn export(&self, slot: Slot) -> Answering<'_, StateFile> {
        Box::pin(async move {
            self.check(slot).await?;
            let (state, client) = (self.new_state()?, self.client.clone());
            // a server that has begun goes on when nobody listens, and would write anew what is unlinked
            let saving = tokio::spawn(async move {
                let saved = client.save(slot.index, state.name()).await;
                saved.map(|tokens| (state, tokens))
            });
            let saved = saving.await.unwrap_or(Err(EngineError::Lost));
            if matches!(saved, Err(EngineError::Io(_))) {
                self.give_up(slot);
            }
            match self.heard(saved)? {
                (_, 0) => Err(EngineError::Refused {
                    status: 409,
                    message: "the slot holds nothing".to_owned(),
                }),
                (state, _) => Ok(state),
            }
        })
    }

    fn new_state(&self) -> Result<StateFile, EngineError> {
        self.states.create().map_err(EngineError::Io)
    }

    fn admit(&self, slot: Slot, state: StateFile) -> Answering<'_, ()> {
        Box::pin(async move {
            self.check(slot).await?;
            self.heard(self.restore(slot, state).await)
        })
    }

    fn erase(&self, slot: Slot) -> Answering<'_, ()> {
        Box::pin(async move {
            self.check(slot).await?;
            self.heard(self.client.erase(slot.index).await)
        })
    }

    fn health(&self) -> Answering<'_, Health> {
        Box::pin(async move {
            Ok(match &self.life {
                Life::Supervised(supervisor) => supervisor.health(),
                Life::Attached(attached) => attached.health(&self.client).await,
            })
        })
    }
}
