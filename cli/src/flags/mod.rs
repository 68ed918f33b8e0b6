//! Flags that verbs share, one group a file, and how their values are written.

mod chain;
mod common;
mod model;
mod tokens;
mod trust;
mod values;
mod verifier;

pub(crate) use chain::ChainArgs;
pub(crate) use common::{Common, Compress, Threads};
pub(crate) use model::ModelArgs;
pub(crate) use tokens::tokens;
pub(crate) use trust::TrustArgs;
pub(crate) use values::{duration, instant, preset, range, suite};
pub(crate) use verifier::PolicyArgs;
