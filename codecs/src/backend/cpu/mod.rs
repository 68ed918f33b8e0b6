//! Vector paths, chosen at run time.

use std::sync::OnceLock;

use crate::{backend::Kernels, reference};

/// The paths that this machine has, slowest first.
pub(crate) fn paths() -> impl Iterator<Item = &'static Kernels> {
    [&reference::KERNELS].into_iter()
}

/// The path that `KVCAP_CPU` names, if the machine has it, or else the fastest.
pub(crate) fn selected() -> &'static Kernels {
    static SELECTED: OnceLock<&Kernels> = OnceLock::new();
    SELECTED.get_or_init(|| {
        let named = std::env::var("KVCAP_CPU").ok();
        paths()
            .find(|path| named.as_deref() == Some(path.name))
            .or_else(|| paths().last())
            .unwrap_or(&reference::KERNELS)
    })
}
