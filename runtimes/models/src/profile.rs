//! A model's identity and the facts that its cache depends on (model-id-v1).

use kvcap::{
    ByRuntime, Expected, Needs, Role,
    binding::{Digest, Model, Pairing, Rope, Tokenizer},
};

use crate::{
    geometry::{Geometry, LayerGeometry},
    model_id::{WeightsFile, model_id},
};

/// Model that a capsule is bound to, as its files describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelProfile {
    /// Weights, config and adapters, and the id over them.
    pub model: Model,
    /// The weights files, sorted by name; with `model` they give the id again.
    pub weights: Vec<WeightsFile>,
    /// Tokenizer that turns text into token ids.
    pub tokenizer: Tokenizer,
    /// Rotary embeddings by groups of layers; none for models without.
    pub rope: Vec<Rope>,
    /// State that each layer keeps.
    pub geometry: Geometry,
}

impl ModelProfile {
    /// The model id that the parts give.
    pub(crate) fn id(&self) -> Digest {
        model_id(&self.weights, self.model.config, &self.model.adapters)
    }

    /// The banks that a state of this model needs, whichever runtime saved it: keys and values of
    /// every layer of attention.
    #[must_use]
    pub fn needed_banks(&self) -> Vec<(Role, u32)> {
        let attention = |layer: &LayerGeometry| matches!(layer, LayerGeometry::Attention { .. });
        self.layers_that(attention)
            .flat_map(|layer| [(Role::Key, layer), (Role::Value, layer)])
            .collect()
    }

    /// The layers of which a state of this model needs some bank, where runtimes differ in which:
    /// latent attention and recurrent layers.
    #[must_use]
    pub fn needed_layers(&self) -> Vec<u32> {
        let kept = |layer: &LayerGeometry| {
            matches!(
                layer,
                LayerGeometry::Latent { .. } | LayerGeometry::Recurrent
            )
        };
        self.layers_that(kept).collect()
    }

    fn layers_that(&self, kind: fn(&LayerGeometry) -> bool) -> impl Iterator<Item = u32> {
        (0..)
            .zip(&self.geometry.layers)
            .filter(move |(_, layer)| kind(layer))
            .map(|(number, _)| number)
    }

    /// Returns what is expected of a capsule of this model, whichever runtime made it.
    #[must_use]
    pub fn expected(&self) -> Expected<'_> {
        Expected::by_runtime(&self.model, &self.tokenizer, self)
    }

    /// The ropes as a runtime stores keys with them (model-id-v1 MOD-R-6): mlx-lm interleaves the rotated part of a
    /// latent's keys, whatever the folder's own implementation does; and who loads a GGUF file whose converter has
    /// interleaved the pairs puts them back in halves, but for llama.cpp.
    #[must_use]
    pub fn rope_in(&self, runtime: &str) -> Vec<Rope> {
        let mut ropes = self.rope.clone();
        for rope in &mut ropes {
            match runtime {
                "mlx-lm" if self.any_latent(rope) => rope.pairing = Pairing::Interleaved,
                "mlx-lm" | "transformers" if self.is_gguf() => rope.pairing = Pairing::Half,
                _ => {}
            }
        }
        ropes
    }

    fn any_latent(&self, rope: &Rope) -> bool {
        rope.layers.iter().any(|layer| {
            let kept = usize::try_from(*layer)
                .ok()
                .and_then(|i| self.geometry.layers.get(i));
            matches!(kept, Some(LayerGeometry::Latent { .. }))
        })
    }

    /// Whether it is a GGUF file, or its splits: their names inside a model tell (model-id-v1 §3).
    fn is_gguf(&self) -> bool {
        let named = |file: &WeightsFile| file.name.ends_with(".gguf");
        !self.weights.is_empty() && self.weights.iter().all(named)
    }
}

impl ByRuntime for ModelProfile {
    fn needs(&self, runtime: &str) -> Needs {
        // raw capsules hold whatever tensors a file had: their roles and layers mean nothing
        let (banks, layers) = match runtime {
            "raw" => (Vec::new(), Vec::new()),
            _ => (self.needed_banks(), self.needed_layers()),
        };
        Needs {
            rope: self.rope_in(runtime),
            banks,
            layers,
        }
    }
}
