//! Adapters between runtimes' saved KV state and KV capsules.

mod state;

pub use state::{Geometry, Hints, LayerGeometry, Order, Placed, Placement, ReadAt, State, WriteAt};
