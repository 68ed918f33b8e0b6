//! The KV capsule for Python: types and lifetimes over the project's libraries, and no logic of its own.
//!
//! ```text
//! kvcap (python/) → _kvcap (here) → kvcap-calls: each call once, as Node and C have them
//! ```
//!
//! Long calls let go of the interpreter. Memory of Python's is read a piece at a time, with the interpreter held
//! ([`memory`], which has the one unsafe block).

#![deny(unsafe_code)]

mod call;
mod error;
mod facts;
mod memory;
mod open;
mod profile;
mod registry;
mod results;
mod seal;
mod session;
mod tensors;
mod verify;

use pyo3::prelude::*;

/// The extension module below `kvcap`.
#[pymodule(gil_used = false)]
fn _kvcap(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Python's handlers are Python's
    kvcap_calls::begin();
    module.add("KvcapError", module.py().get_type::<error::KvcapError>())?;
    module.add_class::<profile::Profile>()?;
    module.add_class::<tensors::Tensors>()?;
    module.add_class::<results::Verdict>()?;
    module.add_class::<verify::Verifying>()?;
    module.add_class::<seal::Sealed>()?;
    module.add_class::<open::Opened>()?;
    module.add_class::<results::Claims>()?;
    module.add_class::<results::Model>()?;
    module.add_class::<results::Key>()?;
    module.add_class::<results::Registry>()?;
    module.add_class::<session::SessionManager>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<results::Checkpoint>()?;
    module.add_class::<session::Resumed>()?;
    module.add_function(wrap_pyfunction!(seal::seal, module)?)?;
    module.add_function(wrap_pyfunction!(verify::verify, module)?)?;
    module.add_function(wrap_pyfunction!(open::open, module)?)?;
    module.add_function(wrap_pyfunction!(facts::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(facts::model_id, module)?)?;
    module.add_function(wrap_pyfunction!(facts::new_signing_key, module)?)?;
    module.add_function(wrap_pyfunction!(facts::new_wrapping_key, module)?)?;
    module.add_function(wrap_pyfunction!(facts::read_public_key, module)?)?;
    module.add_function(wrap_pyfunction!(registry::new_root_key, module)?)?;
    module.add_function(wrap_pyfunction!(registry::create_registry, module)?)?;
    module.add_function(wrap_pyfunction!(registry::change_registry, module)?)?;
    Ok(())
}
