//! KV capsules over HTTP: a relay that verifies what strangers upload while it arrives, and keeps it. It has no
//! secret, and adds no rule to those of [`kvcap_store::Verifier`]. The specification is `spec/http-v1.md`.
//!
//! ```text
//! connection ─request→ token, rate, place ─body→ Incoming: header → verdict → claim → chunks → conclude → durable
//!                                                     │                      │                         │
//!                                              kvcap's push verifier   Index: put once, quota     kvcap-store's Blobs
//! ```
//!
//! - [`Settings`], read by [`Settings::read`] from a file: whom to trust, who may, how much.
//! - [`Server`]: binds, runs, and ends what it has begun.
//! - [`NewToken`]: a token, and the digest that is kept of it.

#![forbid(unsafe_code)]

mod audit;
mod connection;
mod gates;
mod limits;
mod metrics;
mod refusal;
mod relay;
mod server;
mod settings;
mod tokens;

pub use limits::Limits;
pub use server::{Running, Server, Stop};
pub use settings::Settings;
pub use tokens::{NewToken, Permission, Token, Tokens};
