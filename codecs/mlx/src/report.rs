//! What the self-test found.

use std::fmt;

use kvcap_codecs::{Codec, Dtype};

/// One codec on one element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The codec.
    pub codec: Codec,
    /// The element type.
    pub dtype: Dtype,
    /// Vectors that gave the CPU's bits in both directions; of `tc`, which the CPU encodes, decoded.
    pub passed: usize,
    /// The first vector that did not, and how.
    pub differs: Option<String>,
}

/// The self-test of this machine's MLX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// MLX's device, `gpu` or `cpu`; `None` where MLX is not in this build.
    pub device: Option<&'static str>,
    /// Every codec and element type.
    pub cases: Vec<Case>,
}

impl Report {
    /// A build without MLX.
    pub const ABSENT: Self = Self {
        device: None,
        cases: Vec::new(),
    };

    /// Returns whether MLX does the codec on this element type: it is here, and the vectors agreed. Of `tc` those of
    /// one rate speak for all, whose arithmetic is the same.
    #[must_use]
    pub fn serves(&self, codec: Codec, dtype: Dtype) -> bool {
        let alike = |tested: Codec| match (tested, codec) {
            (Codec::Transform { transform, .. }, Codec::Transform { transform: by, .. }) => {
                transform == by
            }
            _ => tested == codec,
        };
        let mut cases = self.cases.iter();
        cases.any(|case| alike(case.codec) && case.dtype == dtype && case.differs.is_none())
    }

    /// Returns whether MLX is here and every case passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.device.is_some() && self.cases.iter().all(|case| case.differs.is_none())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(device) = self.device else {
            return f.write_str("mlx: not in this build; the cpu does all codecs");
        };
        let failed = self.cases.iter().filter(|case| case.differs.is_some());
        let passed: usize = self.cases.iter().map(|case| case.passed).sum();
        let cases = self.cases.len();
        match failed.clone().count() {
            0 => write!(
                f,
                "mlx: on the {device}; {cases} codecs and types, {passed} vectors, all equal to the cpu"
            )?,
            failed => write!(
                f,
                "mlx: on the {device}; {failed} of {cases} codecs and types differ and are left to the cpu"
            )?,
        }
        for case in failed {
            let differs = case.differs.as_deref().unwrap_or_default();
            write!(f, "\n  {} {}: {differs}", case.codec, case.dtype.name())?;
        }
        Ok(())
    }
}
