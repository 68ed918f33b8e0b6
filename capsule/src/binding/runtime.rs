//! Which runtime saved the state, and in which format (capsule-v1 §6.3).

/// Runtime that saved the state, and its format (capsule-v1 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `mlx-lm`, `llama.cpp`, `transformers` or another runtime's own name.
    pub name: String,
    /// Its version or build commit; empty where nobody said.
    pub version: String,
    /// The state format by an adapter's name for it: `mlx-lm-0.32`, `ggsq-3`, `dynamic-cache`.
    pub format: String,
    /// Facts of layout and run-time overrides that change the state, sorted by name.
    pub facts: Vec<(String, String)>,
}

impl Runtime {
    /// Returns a runtime and its state format, of which nothing else is known.
    #[must_use]
    pub fn new(name: &str, format: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            format: format.to_owned(),
            facts: Vec::new(),
        }
    }
}
