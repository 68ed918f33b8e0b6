//! Which runtime's adapter reads a file.

mod foreign;
mod hf;
mod llama_cpp;
mod mlx_lm;
mod raw;
mod tensors;

use std::str::FromStr;

use kvcap::{Code, Error, Result};

use crate::state::{Hints, ReadAt, State, geometry};

/// A runtime whose state files are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeKind {
    /// mlx-lm prompt caches, both layouts.
    MlxLm,
    /// llama.cpp sequence, session, slot and blob forms.
    LlamaCpp,
    /// Hugging Face transformers caches as safetensors.
    HuggingFace,
    /// Any safetensors file, as opaque banks. Never chosen by [`detect`].
    Raw,
}

impl RuntimeKind {
    /// Every kind, in the order in which [`detect`] tries them.
    pub const ALL: [Self; 4] = [Self::LlamaCpp, Self::MlxLm, Self::HuggingFace, Self::Raw];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlxLm => "mlx-lm",
            Self::LlamaCpp => "llama-cpp",
            Self::HuggingFace => "hf",
            Self::Raw => "raw",
        }
    }

    /// The name in [`State::runtime`], and in a manifest.
    #[must_use]
    pub const fn runtime(self) -> &'static str {
        match self {
            Self::MlxLm => "mlx-lm",
            Self::LlamaCpp => "llama.cpp",
            Self::HuggingFace => "transformers",
            Self::Raw => "raw",
        }
    }

    /// The kind whose states carry this [`State::runtime`], as a manifest names it.
    #[must_use]
    pub fn from_runtime(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.runtime() == name)
    }
}

impl FromStr for RuntimeKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|kind| [kind.name(), kind.runtime()].contains(&name));
        found.ok_or_else(|| {
            Error::new(Code::LocalUsage, "no such runtime")
                .sides("mlx-lm, llama-cpp, hf or raw", name.escape_debug())
        })
    }
}

/// The runtime that wrote `file`, by its content.
///
/// # Errors
/// [`Code::StateUnrecognised`] naming what the file is, where that is known; safetensors may still be
/// sealed with [`RuntimeKind::Raw`].
pub fn detect(file: &dyn ReadAt) -> Result<RuntimeKind> {
    if llama_cpp::recognise(file) {
        Ok(RuntimeKind::LlamaCpp)
    } else if mlx_lm::recognise(file) {
        Ok(RuntimeKind::MlxLm)
    } else if hf::recognise(file) {
        Ok(RuntimeKind::HuggingFace)
    } else {
        Err(foreign::unrecognised(file))
    }
}

/// The banks of a state file and their places, checked: rows inside regions, regions inside the file
/// and apart from each other, and heads and layers equal to the model's where it is given.
///
/// No byte of a bank is read.
///
/// # Errors
/// [`Code::StateUnrecognised`] where it is something else and no state, [`Code::StateMalformed`] where it is truncated or not well formed,
/// [`Code::StateUnsupported`] naming what no adapter carries, [`Code::StateContradiction`] naming both
/// sides, [`Code::StateLimit`], and [`Code::LocalIo`].
pub fn parse(kind: RuntimeKind, file: &dyn ReadAt, hints: Hints<'_>) -> Result<State> {
    let state = match kind {
        RuntimeKind::MlxLm => mlx_lm::parse(file, hints),
        RuntimeKind::HuggingFace => hf::parse(file, hints),
        RuntimeKind::Raw => raw::parse(file, hints),
        RuntimeKind::LlamaCpp => llama_cpp::parse(file, hints),
    }
    .map_err(|error| foreign::instead(error, file))?;
    state.check()?;
    if let (Hints::Model(geometry), false) = (hints, kind == RuntimeKind::Raw) {
        geometry::check(&state, geometry)?;
    }
    Ok(state)
}
