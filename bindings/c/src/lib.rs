//! The KV capsule for C: opaque handles over the project's libraries, and no logic of its own.
//!
//! ```text
//! kvcap.h (cbindgen) → here: handles, texts, callbacks → kvcap-calls
//! ```
//!
//! No panic crosses the border: each call catches it ([`status`]). What C hands over is read in [`given`] alone, which has
//! the unsafe blocks; all else that is unsafe is the names that functions have for the linker.

#![allow(
    unsafe_code,
    reason = "names for the linker, and memory of C's in `given`"
)]
#![allow(non_camel_case_types, reason = "they are C's")]

mod calls;
mod facts;
mod given;
mod output;
mod profile;
mod registry;
mod session;
mod status;
mod terms;

pub use calls::*;
pub use facts::*;
pub use given::*;
pub use profile::*;
pub use registry::*;
pub use session::*;
pub use status::*;
pub use terms::*;
