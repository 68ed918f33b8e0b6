//! What an adapter understands of a runtime's state file: banks and where their bytes lie.
//!
//! An adapter only parses. It names every bank, says where its rows lie in the file
//! ([`Region`]), and the rest is shared: reading frames out of the file, putting them back, and
//! the residue, which is every byte of the file that belongs to no bank.

pub(crate) mod file;
pub(crate) mod geometry;
pub(crate) mod leftover;
pub(crate) mod region;
pub(crate) mod template;

use std::ops::Range;

use kvcap::{Bank, Result, Role, Rows};
use kvcap_codecs::BankShape;

pub use kvcap::{ReadAt, WriteAt};
use kvcap_models::Geometry;

pub use self::{
    leftover::Leftover,
    region::{Order, Region},
};

/// A state file as its adapter understands it: every byte is a bank's, padding, or residue.
#[derive(Clone, Debug)]
pub struct State {
    /// The runtime's own name: `mlx-lm`, `llama.cpp`, `transformers`, `raw`.
    pub runtime: &'static str,
    /// The format by this adapter's name for it: `mlx-lm-0.32`, `ggsq-3`.
    pub format: &'static str,
    /// Facts of layout that must agree wherever the state is restored, sorted by name.
    pub facts: Vec<(String, String)>,
    /// Banks in the order of the file.
    pub banks: Vec<Placed>,
    /// Layers of the model, as far as the file tells.
    pub layers: u32,
    /// Layers that hold no state in this file, ascending.
    pub stateless: Vec<u32>,
    /// Positions that the state covers; empty where the file does not tell (recurrent states alone,
    /// raw tensors).
    pub positions: Range<u64>,
    /// Token ids, where the file carries them.
    pub tokens: Option<Vec<u32>>,
    /// Things that a user should know, a sentence each.
    pub notes: Vec<String>,
    /// Length of the file.
    pub file_len: u64,
}

/// A bank and the place of its bytes.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The bank in canonical form.
    pub bank: Bank,
    /// Its parts: one, or three for MLX's affine triplets (codes, scales, biases).
    pub parts: Vec<Region>,
    /// Block of the Hadamard rotation on the stored rows, 0 for none, where the file says it.
    pub hadamard: Option<u32>,
}

/// Facts about a state that its file alone does not tell, known before it is parsed.
#[derive(Clone, Copy, Debug, Default)]
pub enum Hints<'a> {
    /// Nothing: heads and layer numbers are as the file gives them.
    #[default]
    None,
    /// The model's geometry, when sealing.
    Model(&'a Geometry),
    /// The banks of the manifest in file order, when writing a state back.
    Banks(&'a [Bank]),
}

impl State {
    /// What an increment holds of it: of banks that keep every position the rows from `start` on, and
    /// every other bank whole.
    pub(crate) fn after(&self, start: u64) -> Result<Self> {
        let mut state = self.clone();
        if !state.positions.is_empty() {
            state.positions.start = start;
        }
        for placed in &mut state.banks {
            let (Rows::From(from), BankShape::Tokens { tokens, .. }, 0) =
                (&placed.bank.rows, &placed.bank.shape, placed.bank.window)
            else {
                continue;
            };
            let first = start.saturating_sub(*from);
            *placed = placed.rows(first, tokens.saturating_sub(first))?;
        }
        Ok(state)
    }

    /// The banks of a role, with their layers.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &Placed> {
        self.banks
            .iter()
            .filter(move |placed| placed.bank.role == role)
    }
}

/// Words in order, each with its number of repetitions: `KVCache*6`, `ArraysCache*3,KVCache`.
pub(crate) fn runs(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for word in words {
        match runs.last_mut() {
            Some((last, count)) if last == word.as_ref() => *count += 1,
            _ => runs.push((word.as_ref().to_owned(), 1)),
        }
    }
    let texts: Vec<_> = runs
        .into_iter()
        .map(|(word, count)| match count {
            1 => word,
            count => format!("{word}*{count}"),
        })
        .collect();
    texts.join(",")
}
