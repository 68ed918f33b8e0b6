//! Live runtimes behind one trait: a prompt is evaluated in a slot, the slot's state leaves as a private file, and a
//! state that was opened from a verified capsule comes back.
//!
//! ```text
//! request ─tokens→ ids            slot ─answer→ Event::Bytes…, Event::Done(Timings)
//! capsule ─open→ StateFile ─admit→ slot ─export→ StateFile ─seal→ capsule
//! ```
//!
//! - [`Engine`]: one runtime with its slots: [`LlamaServer`], [`MlxLm`]. [`About`] says what it is.
//! - [`Timings::cached`]: what was reused, by the runtime's own count, and the only thing that proves a restore.
//! - [`StateFile`]: a state in clear, in a folder that only its user may enter; it is gone when it is dropped.
//! - [`EngineError`]: the request was refused, the runtime was lost, or it does not suit.

#![forbid(unsafe_code)]

mod about;
mod answer;
mod asked;
mod body;
mod child;
mod engine;
mod error;
mod http;
mod layout;
mod llama_server;
mod mlx_lm;
mod model;
mod state_file;
mod supervisor;

pub use about::{About, Missing};
pub use answer::{Answer, Event, Events, Timings};
pub use asked::Asked;
pub use body::Body;
pub use engine::{Answering, Engine, Health, Slot};
pub use error::EngineError;
pub use http::Address;
pub use llama_server::{AttachedSettings, LlamaServer, LlamaServerSettings};
pub use mlx_lm::{MlxLm, MlxLmSettings};
pub use state_file::{StateFile, StateFolder};
