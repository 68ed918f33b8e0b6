//! A frame as a script describes it.

use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, ParamDtype};

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

    /// Returns true if a head has as many elements as are rotated.
    pub fn rotates(&self) -> bool {
        match self.shape {
            BankShape::Tokens { dim, .. } => self.pairs as u64 <= dim / 2,
            BankShape::Whole { .. } => false,
        }
    }
}
