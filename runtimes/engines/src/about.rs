//! What an engine is.

use std::path::PathBuf;

use kvcap_models::{LayerGeometry, ModelProfile, RuntimeOptions};
use kvcap_states::RuntimeKind;

/// Facts of an engine, as far as a capsule's binding and a plan need them.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Runtime whose state files it writes and reads.
    pub kind: RuntimeKind,
    /// Version or build, as its capsules name it.
    pub version: String,
    /// File or folder of the model that it has loaded.
    pub path: PathBuf,
    /// Profile of that model: capsules of the engine's states are bound to it.
    pub profile: ModelProfile,
    /// Options that it was started with, as far as they change states.
    pub options: RuntimeOptions,
    /// Sequences that it holds at once.
    pub slots: usize,
    /// Tokens that a slot has room for.
    pub context: u64,
    /// Format of its states, by the adapter's name for it (`ggsq-4`, `mlx-lm-0.32`), as a first state showed it.
    pub format: &'static str,
    /// Facts of layout of that state, sorted by name: element types, flash attention's order of values, rotation. A
    /// state with others does not fit.
    pub facts: Vec<(String, String)>,
    /// A slot goes back to what it and a request have in common. Otherwise what is not a continuation is evaluated
    /// from nothing.
    pub rewinds: bool,
    /// Promises of a supervised engine that this one cannot make.
    pub missing: Vec<Missing>,
}

/// A promise that an engine cannot make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// Others may speak to it, and use or read its slots.
    PrivateSocket,
    /// Others may read the folder of its states.
    PrivateFolder,
    /// A state's file may be written to a disk.
    Memory,
    /// Nobody restarts it.
    Supervision,
}

impl Missing {
    /// Returns one sentence for the operator.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::PrivateSocket => "Others on the engine's address can read and use its slots.",
            Self::PrivateFolder => {
                "Other users of the machine may read states in the engine's folder of slots."
            }
            Self::Memory => "States in clear may be written to a disk while they are moved.",
            Self::Supervision => "An engine that stops stays stopped.",
        }
    }
}

/// Returns whether every layer of a model keeps every position, in a slot and in a state that was saved of it. Those with
/// a window do not: llama-server saves no row that the window has left, whether or not the slot had it (`--swa-full`,
/// b11434), and cuts the slot all the same when it goes back to where such rows are needed.
pub(crate) fn rewinds(profile: &ModelProfile) -> bool {
    profile.geometry.layers.iter().all(|layer| match layer {
        LayerGeometry::Attention { window, .. } => *window == 0,
        LayerGeometry::Latent { .. } | LayerGeometry::Shared => true,
        LayerGeometry::Recurrent | LayerGeometry::Unknown => false,
    })
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_model_with_a_window_does_not_go_back() {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/model");
        let options = RuntimeOptions::default();
        let read = crate::model::profile(Path::new(model), &options);
        let mut profile = read.await.unwrap();
        assert!(rewinds(&profile));
        let layer = profile.geometry.layers.last_mut().unwrap();
        let LayerGeometry::Attention { window, .. } = layer else {
            panic!("{layer:?}");
        };
        *window = 64;
        assert!(!rewinds(&profile));
    }
}
