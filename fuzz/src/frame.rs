//! A frame as a script describes it.

use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, ParamDtype, Profile};
use kvcap_testkit::profile::{Entry, made};

use crate::Input;

/// Arguments of a codec, small.
pub struct Frame {
    /// The codec.
    pub codec: Codec,
    /// The element type.
    pub dtype: Dtype,
    /// The bank's shape.
    pub shape: BankShape,
    /// Pairs that are rotated; 0 for none.
    pub pairs: usize,
}

impl Frame {
    /// Takes one from `script`: seven bytes.
    pub fn read(script: &mut Input<'_>) -> Self {
        let codecs: Vec<Codec> = [
            Codec::Raw,
            Codec::Planes16,
            Codec::Planes32,
            Codec::KeyChannel,
        ]
        .into_iter()
        .chain(
            [3, 4, 5, 6, 8]
                .into_iter()
                .flat_map(|bits| [32, 64, 128].map(|group| Codec::Affine { bits, group })),
        )
        .chain([16, 200, 1024].map(|rate| Codec::Transform { transform: 0, rate }))
        .chain([1, 2].map(|transform| Codec::Transform {
            transform,
            rate: 200,
        }))
        .collect();
        let triplet = AffineParams::new(4, 32, ParamDtype::F16).map(Dtype::MlxAffine);
        let dtypes: Vec<Dtype> = Dtype::plain().chain(triplet).collect();
        let (codec, dtype) = (script.pick(&codecs), script.pick(&dtypes));
        let (heads, dim) = (script.byte() % 4, script.byte());
        let tokens = u64::from(script.u16() % 600);
        let shape = match heads {
            0 => BankShape::Whole {
                dims: vec![tokens, dim.into()],
            },
            heads => BankShape::Tokens {
                heads: heads.into(),
                tokens,
                dim: dim.into(),
            },
        };
        Self {
            codec,
            dtype,
            shape,
            pairs: usize::from(script.byte()) % (usize::from(dim) / 2 + 2),
        }
    }

    /// The profile that its codec needs: weights, means and shifts out of `seed`.
    pub fn profile(&self, seed: u8) -> Option<Profile> {
        let Codec::Transform {
            transform: transform @ 1..,
            ..
        } = self.codec
        else {
            return None;
        };
        let BankShape::Tokens { heads, dim, .. } = self.shape else {
            return None;
        };
        let (heads, dim) = (u16::try_from(heads).ok()?, u16::try_from(dim).ok()?);
        let mut entry = Entry::new(0, 0, transform, heads, dim);
        for (shift, at) in entry.shifts.iter_mut().zip(seed..=u8::MAX) {
            *shift = at % 9;
        }
        // what no profile has, heads or dims of 0, is refused
        Profile::parse(&made([0; 32], &[entry], &[])).ok()
    }

    /// Returns true if a head has as many elements as are rotated.
    pub fn rotates(&self) -> bool {
        match self.shape {
            BankShape::Tokens { dim, .. } => self.pairs as u64 <= dim / 2,
            BankShape::Whole { .. } => false,
        }
    }
}
