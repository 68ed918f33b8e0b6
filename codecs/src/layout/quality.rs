//! The quality receipt of a lossy bank (codecs-v1 §10.3).

use super::{CodecError, ErrorKind};

/// The errors of one bank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Root of the summed squares of errors over the summed squares of elements.
    pub relative_rmse: f64,
    /// The largest absolute difference.
    pub max_abs_error: f64,
    /// Cosine of the angle between original and decoded.
    pub cosine: f64,
    /// For keys, the relative error once the mean of each channel of the un-rotated keys is taken
    /// off: attention does not see that mean, and this is what tracks its error. 0 for other banks.
    pub centred_key_error: f64,
}

impl Quality {
    /// Returns what is sealed: the four numbers as binary64, little-endian, in order of fields.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let fields = [
            self.relative_rmse,
            self.max_abs_error,
            self.cosine,
            self.centred_key_error,
        ];
        for (eight, field) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *eight = field.to_le_bytes();
        }
        bytes
    }

    /// The receipt with these bytes.
    ///
    /// # Errors
    /// 905 where a number is not finite, or an error is negative.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CodecError> {
        let mut fields = [0.0; 4];
        for (field, eight) in fields.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *field = f64::from_le_bytes(*eight);
        }
        let [relative_rmse, max_abs_error, cosine, centred_key_error] = fields;
        let errors = [relative_rmse, max_abs_error, centred_key_error];
        if !fields.iter().all(|x| x.is_finite()) || errors.iter().any(|x| *x < 0.0) {
            return Err(CodecError::new(
                ErrorKind::NonFinite,
                "a number of a quality receipt is not finite or is negative",
            ));
        }
        Ok(Self {
            relative_rmse,
            max_abs_error,
            cosine,
            centred_key_error,
        })
    }

    /// The worse of two qualities, number by number.
    #[must_use]
    pub fn worse(&self, other: &Self) -> Self {
        Self {
            relative_rmse: self.relative_rmse.max(other.relative_rmse),
            max_abs_error: self.max_abs_error.max(other.max_abs_error),
            cosine: self.cosine.min(other.cosine),
            centred_key_error: self.centred_key_error.max(other.centred_key_error),
        }
    }

    /// The error that a preset's guard looks at: the centred one for keys, else the relative one.
    #[must_use]
    pub fn guarded(&self) -> f64 {
        if self.centred_key_error > 0.0 {
            self.centred_key_error
        } else {
            self.relative_rmse
        }
    }
}
