//! Frames in host memory: the call shape of the CPU backend.

use kvcap_codecs::{Accelerator, Codec, Dtype, FrameContext, Scratch};
use mlx_rs::{Array, transforms};

use super::{
    affine,
    arrays::{Triplet, evaluated, exclusive},
    error::{Error, Result, size},
    keys::{self, Rotation},
    transform,
};
use crate::Report;

/// MLX as a place where frames are encoded and decoded.
#[derive(Clone, Debug)]
pub struct Mlx {
    report: Report,
}

const UNSERVED: Error = Error::Unserved("mlx does not serve this codec on such a bank");

impl Mlx {
    /// MLX without a self-test: for the tests of this crate. Others use [`crate::choose`].
    pub(super) const fn with(report: Report) -> Self {
        Self { report }
    }

    /// Encodes one frame, as [`Codec::encode_frame`] does.
    ///
    /// # Errors
    /// Where MLX does not serve the frame, a rule is broken (the CPU names the place), or MLX fails.
    pub fn encode_frame(
        codec: Codec,
        ctx: &FrameContext<'_>,
        plain: &[u8],
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let frame = Frame::new(ctx)?;
        if plain.len() != ctx.plain_len() {
            return Err(UNSERVED);
        }
        let _turn = exclusive();
        let [heads, tokens, dim] = frame.extent;
        let bytes = Array::from_slice(plain, &[size(plain.len())?]).view_dtype(frame.dtype)?;
        let (triplet, usable) = match codec {
            Codec::Affine { bits, group } => {
                affine::encode(&bytes.reshape(&[-1, dim])?, bits, group)?
            }
            Codec::KeyChannel => {
                let turns = ctx.turns(scratch)?.ok_or(UNSERVED)?;
                let rotation = Rotation::new(turns, tokens)?;
                keys::encode(&bytes.reshape(&[heads, tokens, dim])?, rotation.as_ref())?
            }
            _ => return Err(UNSERVED),
        };
        let parts = [triplet.codes, triplet.scales, triplet.biases];
        let parts = parts.map(|part| bytes_of(&part));
        let [codes, scales, biases] = parts;
        let parts = [codes?, scales?, biases?];
        evaluated(&[&parts[0], &parts[1], &parts[2], &usable], &usable)?;
        out.clear();
        for part in &parts {
            out.extend_from_slice(part.try_as_slice::<u8>()?);
        }
        Ok(())
    }

    /// Decodes one frame, as [`Codec::decode_frame`] does. Of `tc` the CPU decodes the coefficients.
    ///
    /// # Errors
    /// As [`Self::encode_frame`].
    pub fn decode_frame(
        codec: Codec,
        ctx: &FrameContext<'_>,
        encoded: &[u8],
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let frame = Frame::new(ctx)?;
        if let Codec::Transform { .. } = codec {
            let coded = codec.decode_coefficients(ctx, encoded, scratch)?;
            let _turn = exclusive();
            let decoded = bytes_of(&transform::rows(&coded, frame.extent, frame.dtype)?)?;
            transforms::eval([&decoded])?;
            return copied(&decoded, out);
        }
        let _turn = exclusive();
        let [heads, tokens, dim] = frame.extent;
        let rows = heads * tokens;
        let (decoded, usable) = match codec {
            Codec::Affine { bits, group } => {
                let groups =
                    dim.div_euclid(i32::from(group)) + i32::from(dim % i32::from(group) != 0);
                let width = groups * i32::from(group) / 8 * i32::from(bits);
                let triplet = sections(encoded, [rows, width], [rows, groups], frame.dtype)?;
                let wide = usize::try_from(dim).map_err(|_| UNSERVED)?;
                affine::decode(&triplet, bits, group, wide)?
            }
            Codec::KeyChannel => {
                let groups = tokens.div_euclid(64) + i32::from(tokens % 64 != 0);
                let width = dim.div_euclid(2) + dim % 2;
                let params = [heads, groups, dim];
                let half = mlx_rs::Dtype::Float16;
                let triplet = sections(encoded, [rows, width], params, half)?;
                let turns = ctx.turns(scratch)?.ok_or(UNSERVED)?;
                let rotation = Rotation::new(turns, tokens)?;
                keys::decode(&triplet, tokens, frame.dtype, rotation.as_ref())?
            }
            _ => return Err(UNSERVED),
        };
        let decoded = bytes_of(&decoded)?;
        evaluated(&[&decoded, &usable], &usable)?;
        copied(&decoded, out)
    }
}

impl Accelerator for Mlx {
    fn name(&self) -> &'static str {
        "mlx"
    }

    fn encode(
        &self,
        codec: Codec,
        ctx: &FrameContext<'_>,
        plain: &[u8],
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> bool {
        self.report.serves(codec, ctx.dtype())
            && Self::encode_frame(codec, ctx, plain, out, scratch).is_ok()
    }

    fn decode(
        &self,
        codec: Codec,
        ctx: &FrameContext<'_>,
        encoded: &[u8],
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> bool {
        self.report.serves(codec, ctx.dtype())
            && Self::decode_frame(codec, ctx, encoded, out, scratch).is_ok()
    }
}

/// A frame's type and extent as MLX has them.
pub(super) struct Frame {
    pub(super) dtype: mlx_rs::Dtype,
    pub(super) extent: [i32; 3],
}

impl Frame {
    pub(super) fn new(ctx: &FrameContext<'_>) -> Result<Self> {
        let dtype = match ctx.dtype() {
            Dtype::F16 => mlx_rs::Dtype::Float16,
            Dtype::Bf16 => mlx_rs::Dtype::Bfloat16,
            Dtype::F32 => mlx_rs::Dtype::Float32,
            _ => return Err(UNSERVED),
        };
        let [heads, tokens, dim] = ctx.extent().ok_or(UNSERVED)?;
        // The widest array of a graph has 8 bytes for each code of a padded row.
        size(ctx.plain_len().checked_mul(64).ok_or(UNSERVED)?)?;
        if ctx.plain_len() == 0 {
            return Err(UNSERVED);
        }
        Ok(Self {
            dtype,
            extent: [size(heads)?, size(tokens)?, size(dim)?],
        })
    }
}

/// The bytes of an array, in row-major order.
fn bytes_of(array: &Array) -> Result<Array> {
    let flat = array.flatten(None, None)?.contiguous()?;
    Ok(flat.view_dtype(mlx_rs::Dtype::Uint8)?)
}

/// Computed bytes to where they belong.
fn copied(decoded: &Array, out: &mut [u8]) -> Result<()> {
    let decoded = decoded.try_as_slice::<u8>()?;
    if decoded.len() != out.len() {
        return Err(UNSERVED);
    }
    out.copy_from_slice(decoded);
    Ok(())
}

/// An encoded frame as a triplet; its length must be that of these shapes.
fn sections<const N: usize>(
    encoded: &[u8],
    codes: [i32; 2],
    params: [i32; N],
    dtype: mlx_rs::Dtype,
) -> Result<Triplet> {
    let count = |shape: &[i32]| {
        shape.iter().try_fold(1_usize, |n, axis| {
            n.checked_mul(usize::try_from(*axis).ok()?)
        })
    };
    let each = if dtype == mlx_rs::Dtype::Float32 {
        4
    } else {
        2
    };
    let codes_len = count(&codes).ok_or(UNSERVED)?;
    let params_len = count(&params)
        .and_then(|n| n.checked_mul(each))
        .ok_or(UNSERVED)?;
    let (Some((codes_bytes, rest)), true) = (
        encoded.split_at_checked(codes_len),
        encoded.len().checked_sub(codes_len) == params_len.checked_mul(2),
    ) else {
        return Err(Error::Broken("an encoded frame has another length"));
    };
    let (scales, biases) = rest.split_at(params_len);
    let numbers = |bytes: &[u8]| -> Result<Array> {
        let bytes = Array::from_slice(bytes, &[size(bytes.len())?]);
        Ok(bytes.view_dtype(dtype)?.reshape(&params)?)
    };
    Ok(Triplet {
        codes: Array::from_slice(codes_bytes, &codes),
        scales: numbers(scales)?,
        biases: numbers(biases)?,
    })
}
