//! What a profile promises at which rates.

use super::Profile;
use crate::layout::Codec;

/// Rates of all banks, and the loss that they promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// KL divergence in 1e-9 nat.
    pub kl: u32,
    /// Rate of each bank, in the profile's order, in 1/64 bit a value.
    pub rates: Vec<u16>,
}

impl Point {
    /// Rates of all banks together, each weighted by its channels.
    pub(super) fn total(&self, profile: &Profile) -> u64 {
        let banks = self.rates.iter().zip(&profile.banks);
        banks
            .map(|(rate, bank)| u64::from(*rate) * (bank.heads * bank.dim) as u64)
            .sum()
    }
}

impl Profile {
    /// Rates of each bank whose mean, weighted by channels, is at most `rate` 1/64 bits: those between the
    /// two points beside it, or of the last point and as much more or less for every bank.
    #[must_use]
    pub fn rates(&self, rate: u16) -> Vec<u16> {
        let channels: u64 = self.banks.iter().map(|b| (b.heads * b.dim) as u64).sum();
        let target = u64::from(rate) * channels;
        let clamped = |rate: u64| {
            let rate = u16::try_from(rate).unwrap_or(Codec::MAX_RATE);
            rate.clamp(Codec::MIN_RATE, Codec::MAX_RATE)
        };
        let above = self.points.iter().position(|p| p.total(self) >= target);
        let pair =
            above.and_then(|at| Some((self.points.get(at.checked_sub(1)?)?, &self.points[at])));
        if let Some((low, high)) = pair {
            let (from, to) = (low.total(self), high.total(self));
            let (part, whole) = (target - from, (to - from).max(1));
            let between = low.rates.iter().zip(&high.rates).map(|(low, high)| {
                let (low, high) = (u64::from(*low), u64::from(*high));
                clamped((low * (whole - part) + high * part) / whole)
            });
            return between.collect();
        }
        let end = if above.is_some() {
            self.points.first()
        } else {
            self.points.last()
        };
        let Some(end) = end else {
            return vec![rate; self.banks.len()];
        };
        let mean = end.total(self).div_ceil(channels.max(1));
        let shifted = |own: &u16| {
            let own = u64::from(*own) + u64::from(rate);
            clamped(own.saturating_sub(mean))
        };
        let shifted: Vec<_> = end.rates.iter().map(shifted).collect();
        let moved = Point {
            kl: 0,
            rates: shifted,
        };
        // banks that met an end of the range take from the others
        if moved.total(self) <= target {
            moved.rates
        } else {
            vec![rate; self.banks.len()]
        }
    }

    /// The mean rate of each point in bits a value, and the KL divergence in nats that it promises.
    pub fn promises(&self) -> impl Iterator<Item = (f64, f64)> {
        let channels: usize = self.banks.iter().map(|b| b.heads * b.dim).sum();
        self.points.iter().map(move |point| {
            let bits = point.total(self) as f64 / (64.0 * channels.max(1) as f64);
            (bits, f64::from(point.kl) * 1e-9)
        })
    }

    /// The least mean rate, in 1/64 bit a value, that promises at most `kl` nats; `None` where no point does.
    #[must_use]
    pub fn rate_for(&self, kl: f64) -> Option<u16> {
        let channels: u64 = self.banks.iter().map(|b| (b.heads * b.dim) as u64).sum();
        let point = self
            .points
            .iter()
            .find(|point| f64::from(point.kl) * 1e-9 <= kl)?;
        u16::try_from(point.total(self).div_ceil(channels.max(1))).ok()
    }
}
