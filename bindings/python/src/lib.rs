//! The KV capsule for Python: types and lifetimes over the project's libraries, and no logic of its own.
//!
//! ```text
//! kvcap (python/) → _kvcap (here) → kvcap-store's Verifier, kvcap-states' adapters, kvcap-session's sessions
//! ```
//!
//! Long calls let go of the interpreter. Memory of Python's is read a piece at a time, with the interpreter held
//! ([`memory`], which has the one unsafe block).

#![deny(unsafe_code)]

mod call;
mod error;
mod inspect;
mod keys;
mod memory;
mod open;
mod profile;
mod progress;
mod seal;
mod session;
mod verdict;
mod verify;

use kvcap_session::files::CodecProfiles;
use pyo3::prelude::*;

/// The extension module below `kvcap`.
#[pymodule(gil_used = false)]
fn _kvcap(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Python's handlers are Python's
    kvcap_store::output::leave_signals();
    if let Some(kept) = CodecProfiles::of_user(&|name| std::env::var_os(name)) {
        kept.look_here();
    }
    module.add("KvcapError", module.py().get_type::<error::KvcapError>())?;
    module.add_class::<profile::Profile>()?;
    module.add_class::<memory::Tensors>()?;
    module.add_class::<verdict::Verdict>()?;
    module.add_class::<verify::Verifying>()?;
    module.add_class::<seal::Sealed>()?;
    module.add_class::<open::Opened>()?;
    module.add_class::<inspect::Claims>()?;
    module.add_class::<inspect::Model>()?;
    module.add_class::<keys::Key>()?;
    module.add_class::<session::SessionManager>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<session::Checkpoint>()?;
    module.add_class::<session::Resumed>()?;
    module.add_function(wrap_pyfunction!(seal::seal, module)?)?;
    module.add_function(wrap_pyfunction!(verify::verify, module)?)?;
    module.add_function(wrap_pyfunction!(open::open, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::model_id, module)?)?;
    module.add_function(wrap_pyfunction!(keys::new_signing_key, module)?)?;
    module.add_function(wrap_pyfunction!(keys::new_wrapping_key, module)?)?;
    module.add_function(wrap_pyfunction!(keys::read_public_key, module)?)?;
    Ok(())
}
