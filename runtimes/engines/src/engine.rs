//! One runtime with its slots.

use std::{future::Future, pin::Pin};

use crate::{
    about::About,
    answer::{Answer, Timings},
    asked::Asked,
    error::EngineError,
    state_file::StateFile,
};

/// Result of an engine's call, when it is done.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// Place for one sequence in one life of an engine.
///
/// After a restart every slot of before is dead: a call with one is [`EngineError::Lost`], and nothing is evaluated
/// in the belief that a state is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Number among [`About::slots`], from 0.
    pub index: usize,
    /// Life of the engine that it is of, as [`Health::generation`] says.
    pub generation: u64,
}

/// Life of an engine as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Number of this life: 1 for the first, one more after every restart.
    pub generation: u64,
    /// It answers.
    pub ready: bool,
}

/// A live runtime with a model loaded.
///
/// Calls for one slot are made one after the other, by whoever holds its lease; calls for different slots may overlap.
/// Every call may end as [`EngineError::Lost`] or as [`EngineError::Io`], and a call for a slot that the engine does not
/// have as [`EngineError::Refused`].
pub trait Engine: Send + Sync {
    /// Returns what the engine is.
    fn about(&self) -> &About;

    /// Returns the token ids of a request, by the engine's own template and tokenizer: those that
    /// [`Engine::answer`] evaluates.
    ///
    /// # Errors
    /// [`EngineError::Refused`] for a request that the engine does not understand or that asks for what a capsule
    /// cannot keep: several prompts, several answers, images, an adapter.
    fn tokens<'a>(&'a self, asked: &'a Asked) -> Answering<'a, Vec<u32>>;

    /// Evaluates a request in a slot, and gives the answer as it comes: when the prompt is evaluated, so that what was
    /// reused can be judged before the client gets a byte. What the slot holds of the request is reused.
    ///
    /// An answer that is dropped is stopped; the slot then holds the request and the part of the answer that was made.
    ///
    /// # Errors
    /// As [`Engine::tokens`]; what goes wrong after the first byte comes with the events.
    fn answer(&self, slot: Slot, asked: Asked) -> Answering<'_, Answer>;

    /// Evaluates a prompt of ids in a slot, without an answer.
    ///
    /// # Errors
    /// [`EngineError::Refused`] for an empty prompt, and one longer than [`About::context`].
    fn evaluate<'a>(&'a self, slot: Slot, tokens: &'a [u32]) -> Answering<'a, Timings>;

    /// Returns the state of a slot, as the runtime saves it.
    ///
    /// # Errors
    /// [`EngineError::Refused`] for a slot that holds nothing.
    fn export(&self, slot: Slot) -> Answering<'_, StateFile>;

    /// Returns a new private file, into which a state is opened for [`Engine::admit`].
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn new_state(&self) -> Result<StateFile, EngineError>;

    /// Restores a state into a slot. The state is from a fully verified capsule: runtimes check little of what they
    /// load. The file is gone afterwards, whatever happens.
    ///
    /// That it returns proves nothing: [`Timings::cached`] of the next answer does.
    ///
    /// # Errors
    /// [`EngineError::Unsuitable`] where the runtime does not take it; the slot is empty then.
    fn admit(&self, slot: Slot, state: StateFile) -> Answering<'_, ()>;

    /// Empties a slot.
    ///
    /// # Errors
    /// None of its own.
    fn erase(&self, slot: Slot) -> Answering<'_, ()>;

    /// Returns which life the engine is in.
    ///
    /// # Errors
    /// None: an engine that does not answer is one that is not ready.
    fn health(&self) -> Answering<'_, Health>;
}
