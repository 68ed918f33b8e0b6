//! Which element type a state is to have, and frames from one type into another.

use std::str::FromStr;

use kvcap::{Code, Error, Result};
use kvcap_codecs::{
    AffineParams, BankShape, Codec, Dtype, FrameContext, ParamDtype, Scratch, from_f32, to_f32,
};

use super::basis::apply;
use crate::pipeline::bank_io::codec_error;
use kvcap_models::Change;

/// Element types that keys and values of a written state can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Floats.
    Float(ParamDtype),
    /// MLX's affine triplets, with scales of the floats that are quantized.
    Affine {
        /// Bits of a code.
        bits: u8,
        /// Elements that share a scale.
        group: u16,
    },
    /// ggml's q8_0.
    Q8_0,
    /// ggml's q4_0.
    Q4_0,
}

impl Elements {
    /// As a bank's element type, where the floats themselves are `float`.
    pub(crate) fn dtype(self, float: ParamDtype) -> Result<Dtype> {
        Ok(match self {
            Self::Float(float) => float.dtype(),
            Self::Q8_0 => Dtype::GgmlQ8_0,
            Self::Q4_0 => Dtype::GgmlQ4_0,
            Self::Affine { bits, group } => AffineParams::new(bits, group, float)
                .map(Dtype::MlxAffine)
                .ok_or_else(|| Error::new(Code::StateUnsupported, "no such affine codec"))?,
        })
    }
}

impl FromStr for Elements {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let floats = [ParamDtype::F16, ParamDtype::Bf16, ParamDtype::F32];
        let float = floats.into_iter().find(|f| f.dtype().name() == name);
        match (float, Codec::from_name(name), name) {
            (Some(float), ..) => Ok(Self::Float(float)),
            (_, Some(Codec::Affine { bits, group }), _) => Ok(Self::Affine { bits, group }),
            (_, _, "q8_0") => Ok(Self::Q8_0),
            (_, _, "q4_0") => Ok(Self::Q4_0),
            _ => Err(
                Error::new(Code::LocalUsage, "no such element type of keys and values").sides(
                    "f16, bf16, f32, mlx's q8_g64 (other bits and groups alike), ggml's q8_0 or q4_0",
                    name.escape_debug(),
                ),
            ),
        }
    }
}

/// The floats that elements stand for: themselves, those of a triplet's scales, binary16 for ggml's
/// blocks.
pub(super) fn floats(dtype: Dtype) -> Result<ParamDtype> {
    match dtype {
        Dtype::MlxAffine(params) => Ok(params.params),
        Dtype::GgmlQ8_0 | Dtype::GgmlQ4_0 => Ok(ParamDtype::F16),
        other => ParamDtype::from_dtype(other).ok_or_else(|| {
            Error::new(
                Code::StateUnsupported,
                "no conversion serves this element type",
            )
            .sides("f16, bf16, f32, mlx's triplets, q8_0 or q4_0", other.name())
        }),
    }
}

/// Frames of one bank from one element type into another.
pub(super) struct Recast<'a> {
    pub(super) shape: &'a BankShape,
    pub(super) from: Dtype,
    pub(super) to: Dtype,
    pub(super) change: Change,
}

/// Buffers that are used again for every frame.
#[derive(Default)]
pub(super) struct Stages {
    decoded: Vec<u8>,
    values: Vec<f32>,
    floats: Vec<u8>,
    encoded: Vec<u8>,
    codec: Scratch,
}

impl Recast<'_> {
    /// Frame `index` in the other type.
    pub(super) fn frame<'s>(
        &self,
        stages: &'s mut Stages,
        index: u64,
        plain: &'s [u8],
    ) -> Result<&'s [u8]> {
        if self.from == self.to && self.change.is_none() {
            return Ok(plain);
        }
        self.through_floats(stages, index, plain)
            .map_err(|error| codec_error(&error))
    }

    fn through_floats<'s>(
        &self,
        stages: &'s mut Stages,
        index: u64,
        plain: &'s [u8],
    ) -> std::result::Result<&'s [u8], kvcap_codecs::CodecError> {
        let mut bytes = plain;
        let (from, to) = (inner(self.from), inner(self.to));
        if let Dtype::MlxAffine(params) = self.from {
            let frame = FrameContext::new(self.shape, from, index)?;
            stages.decoded.resize(frame.plain_len(), 0);
            affine(params).decode_frame(&frame, plain, &mut stages.decoded, &mut stages.codec)?;
            bytes = &stages.decoded;
        }
        if from != to || !self.change.is_none() {
            to_f32(from, bytes, &mut stages.values)?;
            if let BankShape::Tokens { dim, .. } = self.shape {
                let dim = usize::try_from(*dim).unwrap_or(0);
                apply(self.change, &mut stages.values, dim);
            }
            from_f32(to, &stages.values, &mut stages.floats)?;
            bytes = &stages.floats;
        }
        if let Dtype::MlxAffine(params) = self.to {
            let frame = FrameContext::new(self.shape, to, index)?;
            let out = &mut stages.encoded;
            affine(params).encode_frame(&frame, bytes, out, &mut stages.codec)?;
            bytes = &stages.encoded;
        }
        Ok(bytes)
    }
}

/// What is inside a triplet; other types themselves.
fn inner(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::MlxAffine(params) => params.params.dtype(),
        other => other,
    }
}

fn affine(params: AffineParams) -> Codec {
    Codec::Affine {
        bits: params.bits,
        group: params.group,
    }
}
