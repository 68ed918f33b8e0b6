//! The KV capsule for Node: types and lifetimes over the project's libraries, and no logic of its own.
//!
//! ```text
//! kvcap (index.js) → native.node (here) → kvcap-calls
//! ```
//!
//! A call runs in a thread of Node's pool and holds up nobody; what it refuses comes back as a value ([`call`]), of which
//! index.js makes a KvcapError.

#![deny(unsafe_code)]

mod call;
mod calls;
mod profile;
mod registry;
mod results;
mod session;
mod source;
