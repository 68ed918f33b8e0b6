//! Saved states of real runtimes, and their model.

use std::path::{Path, PathBuf};

/// The path of a file of `tests/fixtures`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures")
        .join(name)
}
