//! Profiles of transforms (codecs-v1 §12.7): matrices and means of a model's banks, and what they promise.

mod bank;
mod file;
mod ladder;

pub use bank::BankProfile;
pub use ladder::Point;

pub(crate) use bank::{Components, paired};

/// A model's profile: what transforms 1 and 2 encode and decode its banks with.
#[derive(Debug)]
pub struct Profile {
    model: [u8; 32],
    banks: Vec<BankProfile>,
    points: Vec<Point>,
}

impl Profile {
    /// The suffix of a profile's file.
    pub const SUFFIX: &'static str = "kvtc";
    /// The most bytes of a profile's file.
    pub const MAX_LEN: u64 = 256 << 20;

    /// Id of the model that it was made for.
    #[must_use]
    pub const fn model(&self) -> &[u8; 32] {
        &self.model
    }

    /// Its banks, ascending by layer and role.
    #[must_use]
    pub fn banks(&self) -> &[BankProfile] {
        &self.banks
    }

    /// Points that it promises, from the coarsest on.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The bank of a layer and a role's number (capsule-v1 §7.1).
    #[must_use]
    pub fn bank(&self, layer: u64, role: u8) -> Option<&BankProfile> {
        self.at(layer, role).map(|at| &self.banks[at])
    }

    /// Place of a bank in the order of [`Self::banks`].
    #[must_use]
    pub fn at(&self, layer: u64, role: u8) -> Option<usize> {
        let key = (u32::try_from(layer).ok()?, role);
        self.banks.binary_search_by_key(&key, BankProfile::key).ok()
    }
}
