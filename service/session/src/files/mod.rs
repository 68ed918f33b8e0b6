//! The device tier: sessions in files of their owner (session-v1 §10), and the interface that it shares with tiers
//! above and below it.

mod device;
mod listing;
mod log;
pub(crate) mod measures;
mod memory;
mod name;
mod profiles;
mod recall;
mod tier;

pub(crate) use device::fill;
pub use device::{DeviceTier, DeviceWriter};
pub use log::Log;
pub use memory::MemoryTier;
pub use profiles::{CodecProfiles, ProfileFile};
pub use recall::{Recalled, recall};
pub use tier::{Artefact, Keep, Put, Tier, Write, get_small, rebuild};
