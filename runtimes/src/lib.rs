//! Adapters between runtimes' saved KV state and KV capsules.

mod check;
mod file;
mod placement;
mod state;

pub use state::{Geometry, Hints, LayerGeometry, Order, Placed, Placement, ReadAt, State, WriteAt};
