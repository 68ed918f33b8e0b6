//! KV capsules over HTTP: a relay that verifies what strangers upload while it arrives, and keeps it. It has no
//! secret, and adds no rule to those of [`kvcap_store::Verifier`]. The specification is `spec/http-v1.md`.
//!
//! ```text
//! connection ─request→ token, rate, place ─body→ Incoming: header → verdict → claim → chunks → conclude → durable
//!                                                     │                      │                         │
//!                                              kvcap's push verifier   put once, quota    kvcap-store's CapsuleStore
//! ```
//!
//! With the feature `gateway` it can have a model behind it: [`Setup`], and http-v1 §11. That takes secrets.
//!
//! - [`Settings`], read by [`Settings::read`] from a file: whom to trust, who may, how much.
//! - [`Server`]: binds, runs, and ends what it has begun.
//! - [`NewToken`]: a token, and the digest that is kept of it.
//! - `ImageRegistry`, with that feature: base images in registries of containers (oci-v1).
//! - [`Inspector`], a page that verifies in a browser: a relay's `/inspect`; [`Viewer`] shows one capsule in it.

#![forbid(unsafe_code)]

mod audit;
mod base64;
mod connection;
mod duration;
mod gates;
#[cfg(feature = "gateway")]
mod gateway;
mod inspector;
mod limits;
mod log;
mod metrics;
#[cfg(feature = "gateway")]
mod oci;
#[cfg(feature = "gateway")]
mod own;
mod page;
mod place;
mod policy;
mod refusal;
mod relay;
#[cfg(feature = "gateway")]
mod remote;
mod requests;
#[cfg(feature = "gateway")]
mod round_trip;
mod server;
mod settings;
#[cfg(feature = "gateway")]
mod setup;
mod tls;
mod tokens;
mod viewer;

#[cfg(feature = "gateway")]
pub use gateway::is_base_name;
pub use inspector::Inspector;
pub use limits::Limits;
pub use log::Log;
#[cfg(feature = "gateway")]
pub use oci::{Image, ImageReference, ImageRegistry, Referrers};
#[cfg(feature = "gateway")]
pub use own::Own;
pub use place::Place;
#[cfg(feature = "gateway")]
pub use remote::{Remote, Reply};
#[cfg(feature = "gateway")]
pub use round_trip::{Evaluated, RoundTrip, Saved};
pub use server::{Reload, Running, Server, Stop};
pub use settings::Settings;
#[cfg(feature = "gateway")]
pub use setup::{EngineSetup, Keys, Sessions, Setup};
pub use tls::Tls;
pub use tokens::{NewToken, Permission, Token, Tokens};
pub use viewer::{Viewer, Viewing};
