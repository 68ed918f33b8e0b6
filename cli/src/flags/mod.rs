//! Flags that verbs share, one group a file, and how their values are written.

mod authorities;
mod budget;
mod chain;
mod common;
mod engine;
mod model;
mod profile;
mod relay;
mod request;
mod sealed_for;
mod sessions;
mod tokens;
mod trust;
mod values;
mod verifier;
mod wait;

pub(crate) use authorities::AuthoritiesArgs;
pub(crate) use budget::Budget;
pub(crate) use chain::ChainArgs;
pub(crate) use common::{Common, Compress, Threads};
pub(crate) use engine::{EngineArgs, UNBUILT};
pub(crate) use model::ModelArgs;
pub(crate) use profile::{Unparsed, load, parse};
pub(crate) use relay::RelayArgs;
#[cfg(not(feature = "sync"))]
pub(crate) use relay::without_relays;
pub(crate) use request::{RequestArgs, ReuseArgs};
pub(crate) use sealed_for::SealedFor;
pub(crate) use sessions::{
    OwnerArgs, SessionArgs, codec_profiles, find, find_codec_profiles, names, tier,
};
pub(crate) use tokens::TokensArgs;
pub(crate) use trust::{SourcesArgs, TrustArgs};
pub(crate) use values::{byte_count, duration, instant, preset, range, suite};
pub(crate) use verifier::{CheckpointArgs, PolicyArgs, ReaderArgs};
pub(crate) use wait::WaitArgs;
