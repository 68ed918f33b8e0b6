//! The file of a profile (codecs-v1 §12.7).

use std::sync::OnceLock;

use super::{BankProfile, Point, Profile};
use crate::layout::{Codec, CodecError, ErrorKind, JOINT_CHANNELS};

const MAGIC: &[u8; 8] = b"KVTCPROF";
const VERSION: u16 = 1;
const MAX_BANKS: usize = 4096;
const MAX_POINTS: usize = 64;
pub(super) const MAX_DIM: usize = 1024;
const MAX_HEADS: usize = 1024;
const MAX_CHANNELS: usize = 16_384;
const MAX_SHIFT: u8 = 8;
/// Roles of banks with a token axis that `tc` serves.
const ROLES: u8 = 4;

fn refused(what: &'static str) -> CodecError {
    CodecError::new(ErrorKind::Profile, what)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let short = refused("a profile ends early");
        let (field, rest) = self.0.split_at_checked(len).ok_or(short)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let short = refused("a profile ends early");
        let (field, rest) = self.0.split_first_chunk().ok_or(short)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, CodecError> {
        let bytes = self.take(4 * count)?;
        let floats = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        let floats: Vec<_> = floats.collect();
        if floats.iter().all(|x| x.is_finite()) {
            Ok(floats)
        } else {
            Err(refused("a number of a profile is not finite"))
        }
    }
}

impl Profile {
    /// Reads a profile's file.
    ///
    /// # Errors
    /// 909 where it breaks a rule of codecs-v1 §12.7.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        if u64::try_from(bytes.len()).is_ok_and(|len| len > Self::MAX_LEN) {
            return Err(refused("a profile is over its limit"));
        }
        let mut cursor = Cursor(bytes);
        if cursor.array()? != *MAGIC || cursor.u16()? != VERSION {
            return Err(refused("the file is no profile of version 1"));
        }
        let (banks, points) = (usize::from(cursor.u16()?), usize::from(cursor.u16()?));
        if !(1..=MAX_BANKS).contains(&banks) || points > MAX_POINTS || cursor.u16()? != 0 {
            return Err(refused("a count of a profile is over its limit"));
        }
        let model = cursor.array()?;
        let entries = cursor.take(12 * banks)?.as_chunks().0;
        let mut banks = entries
            .iter()
            .map(entry)
            .collect::<Result<Vec<_>, CodecError>>()?;
        if !banks.is_sorted_by(|a, b| a.key() < b.key()) {
            return Err(refused("a profile's banks are not in order"));
        }
        let points = (0..points)
            .map(|_| point(&mut cursor, banks.len()))
            .collect::<Result<Vec<_>, CodecError>>()?;
        // every length is known before anything is made of it
        let matrices: usize = banks
            .iter()
            .map(|bank| 9 * bank.heads * bank.dim + 3 * bank.matrix_len())
            .sum();
        if cursor.0.len() != matrices {
            return Err(refused("a profile has another length than its banks give"));
        }
        for bank in &mut banks {
            fill(bank, &mut cursor)?;
        }
        let profile = Self {
            model,
            banks,
            points,
        };
        let ascending = |a: &Point, b: &Point| a.total(&profile) < b.total(&profile) && a.kl > b.kl;
        if !profile.points.is_sorted_by(ascending) {
            return Err(refused("a profile's points are not in order"));
        }
        Ok(profile)
    }
}

fn entry(bytes: &[u8; 12]) -> Result<BankProfile, CodecError> {
    let [l0, l1, l2, l3, role, transform, h0, h1, d0, d1, z0, z1] = *bytes;
    let heads = usize::from(u16::from_le_bytes([h0, h1]));
    let dim = usize::from(u16::from_le_bytes([d0, d1]));
    let served = role < ROLES
        && (1..=MAX_HEADS).contains(&heads)
        && (1..=MAX_DIM).contains(&dim)
        && match transform {
            1 => heads * dim <= MAX_CHANNELS,
            2 => heads * dim <= JOINT_CHANNELS,
            _ => false,
        };
    if !served || [z0, z1] != [0, 0] {
        return Err(refused("a bank of a profile is not one that it may have"));
    }
    Ok(BankProfile {
        layer: u32::from_le_bytes([l0, l1, l2, l3]),
        role,
        transform,
        heads,
        dim,
        means: Vec::new(),
        shifts: Vec::new(),
        synthesis: Vec::new(),
        scales: Vec::new(),
        analysis: Vec::new(),
        weights: OnceLock::new(),
    })
}

fn point(cursor: &mut Cursor<'_>, banks: usize) -> Result<Point, CodecError> {
    let kl = cursor.u32()?;
    let rates = cursor.take(2 * banks)?.as_chunks().0.iter();
    let rates: Vec<_> = rates.map(|rate| u16::from_le_bytes(*rate)).collect();
    let served = |rate: &u16| (Codec::MIN_RATE..=Codec::MAX_RATE).contains(rate);
    if !rates.iter().all(served) {
        return Err(refused("a rate of a profile is not a codec's"));
    }
    Ok(Point { kl, rates })
}

fn fill(bank: &mut BankProfile, cursor: &mut Cursor<'_>) -> Result<(), CodecError> {
    let channels = bank.heads * bank.dim;
    bank.means = cursor.floats(channels)?;
    bank.shifts = cursor.take(channels)?.to_vec();
    let synthesis = cursor.take(bank.matrix_len())?.iter();
    bank.synthesis = synthesis.map(|byte| byte.cast_signed()).collect();
    if bank.shifts.iter().any(|shift| *shift > MAX_SHIFT) || bank.synthesis.contains(&i8::MIN) {
        return Err(refused("a weight of a profile is out of its range"));
    }
    bank.scales = cursor.floats(channels)?;
    let analysis = cursor.take(2 * bank.matrix_len())?.as_chunks().0.iter();
    bank.analysis = analysis.map(|two| i16::from_le_bytes(*two)).collect();
    Ok(())
}
