//! The sealed receipts: what each lossy bank lost, for those alone who can open it (codecs-v1 §10.4).

use kvcap::{BankEntry, Code, Context, Error, Opened, ReadAt, Result, SectionKind};
use kvcap_codecs::Quality;

use crate::pipeline::{bank_io::codec_error, plan::Fallback};

/// Measured quality of a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    /// Of a lossy bank, what its codec lost.
    pub quality: Option<Quality>,
    /// Reason that another codec than the one asked for was taken, if it was.
    pub fallback: Option<Fallback>,
}

/// The bytes of the section while they come together, bank by bank in the order of the body.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    bytes: Vec<u8>,
    worst: Option<Quality>,
}

impl Receipts {
    pub(crate) fn add(&mut self, quality: Option<Quality>, fallback: Option<Fallback>) {
        if let Some(quality) = quality {
            self.bytes.extend(quality.to_bytes());
            self.worst = Some(self.worst.map_or(quality, |worst| worst.worse(&quality)));
        }
        if let Some(Fallback { limit, seen, .. }) = fallback {
            self.bytes.extend(limit.to_le_bytes());
            self.bytes.extend(seen.to_le_bytes());
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn worst(&self) -> Option<Quality> {
        self.worst
    }
}

/// Reads the receipts of an opened capsule: one a bank, in the order of [`Context::banks`].
///
/// # Errors
/// KVC-905 for numbers that no measurement gives; as [`kvcap::StreamReader::read`].
pub fn receipts<S: ReadAt>(opened: &Opened<S>) -> Result<Vec<Receipt>> {
    let context = &opened.manifest().context;
    let bytes = opened.section(&SectionKind::Receipts)?.unwrap_or_default();
    parse(context, &bytes)
}

fn parse(context: &Context, mut bytes: &[u8]) -> Result<Vec<Receipt>> {
    let banks = context.banks();
    banks.map(|(_, bank)| receipt(bank, &mut bytes)).collect()
}

fn receipt(bank: &BankEntry, rest: &mut &[u8]) -> Result<Receipt> {
    let quality = match bank.codec.is_exact() {
        true => None,
        false => Some(Quality::from_bytes(take(rest)?).map_err(|error| codec_error(&error))?),
    };
    let fallback = match bank.asked {
        None => None,
        Some(from) => {
            let [limit, seen] = [number(rest)?, number(rest)?];
            // an error may be infinite, where a codec cannot express a number
            if !(limit >= 0.0 && seen >= 0.0) {
                let what = "a number of a quality receipt is negative or none";
                return Err(Error::new(Code::CodecNonFinite, what));
            }
            Some(Fallback { from, limit, seen })
        }
    };
    Ok(Receipt { quality, fallback })
}

fn number(rest: &mut &[u8]) -> Result<f64> {
    take(rest).map(|bytes| f64::from_le_bytes(*bytes))
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N]> {
    let (first, later) = rest.split_first_chunk().ok_or_else(|| {
        // the manifest's own length, CAP-S-8
        Error::new(Code::ManifestInconsistent, "the receipts end early")
    })?;
    *rest = later;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use kvcap::{Role, RowsEntry};
    use kvcap_codecs::{BankShape, Codec, Dtype};

    use super::*;

    /// A lossy bank whose first codec was not taken: four numbers, and two.
    #[test]
    fn numbers_that_no_measurement_gives_are_refused() {
        let q8 = Codec::Affine { bits: 8, group: 64 };
        let bank = BankEntry {
            role: Role::Key,
            layer: 0,
            index: 0,
            dtype: Dtype::F16,
            shape: BankShape::Tokens {
                heads: 1,
                tokens: 1,
                dim: 64,
            },
            rows: RowsEntry::From(0),
            window: 0,
            codec: q8,
            rotation: None,
            hadamard: 0,
            chunk_len: 4096,
            asked: Some(Codec::Affine { bits: 4, group: 64 }),
        };
        let good = [0.01, 0.1, 0.99, 0.02, 0.05, 0.2];
        let read = |numbers: &[f64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            receipt(&bank, &mut &bytes[..]).map_err(|error| error.code())
        };
        let with = |at: usize, number: f64| {
            let mut numbers = good;
            numbers[at] = number;
            read(&numbers)
        };
        let fallback = read(&good).unwrap().fallback.unwrap();
        assert_eq!((fallback.limit, fallback.seen), (0.05, 0.2));
        assert!(with(5, f64::INFINITY).is_ok(), "an error of what was asked");
        for (at, number) in [
            (0, f64::NAN),
            (0, -0.1),
            (1, f64::INFINITY),
            (2, f64::NAN),
            (3, -1.0),
            (4, f64::NAN),
            (4, -0.1),
            (5, f64::NAN),
            (5, -0.1),
        ] {
            assert_eq!(with(at, number), Err(Code::CodecNonFinite), "{at} {number}");
        }
        assert_eq!(read(&good[..5]), Err(Code::ManifestInconsistent));
    }
}
