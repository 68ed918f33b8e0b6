//! Frames on which MLX and the CPU's plain loops must agree to the last bit.

use kvcap_codecs::{
    BankShape, Codec, CodecError, Dtype, FrameContext, Pairing, Positions, Profile, Rotation,
    Scratch,
};

use super::{Error, Mlx};

/// One frame, made by rule.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Subject of the vector.
    pub name: &'static str,
    dtype: Dtype,
    shape: BankShape,
    pairing: Pairing,
    inv_freq: Vec<f64>,
    plain: Vec<u8>,
}

/// Bits of an element from its index and 32 random bits.
type Rule = fn(Dtype, u32, u32) -> u32;

/// The rules. Each makes finite elements.
const RULES: [(&str, Rule); 10] = [
    ("normal", |dtype, _, r| number(dtype, bell(r))),
    ("ties", |dtype, _, r| {
        number(dtype, small(r >> 26) / 16.0 - 2.0)
    }),
    ("all negative", |dtype, _, r| {
        number(dtype, -1.0 - small(r >> 24) / 64.0)
    }),
    ("all positive", |dtype, _, r| {
        number(dtype, 3.0 + small(r >> 24) / 64.0)
    }),
    ("zeros of both signs", |dtype, i, r| {
        let one = u32::from(i.is_multiple_of(97)) * number(dtype, -0.375);
        one | (r & 1) << (width(dtype) * 8 - 1)
    }),
    ("constants", |dtype, i, _| {
        number(dtype, small(i / 128 % 7) - 3.0)
    }),
    ("subnormal", |dtype, _, r| {
        let fraction = (1 << fraction_bits(dtype)) - 1;
        (r & fraction) | (r >> 31) << (width(dtype) * 8 - 1)
    }),
    ("largest", |dtype, _, r| {
        let most = if dtype == Dtype::F16 {
            0x7bff
        } else {
            number(dtype, f32::MAX / 4.0)
        };
        most - (r >> 8 & 3) | (r >> 31) << (width(dtype) * 8 - 1)
    }),
    // Of a magnitude that binary16 still expresses after a turn.
    ("large", |dtype, _, r| {
        let half = small(r >> 22) + 45_000.0;
        number(dtype, half) | (r & 1) << (width(dtype) * 8 - 1)
    }),
    ("any finite bits", |dtype, _, r| {
        let bits = r >> (32 - width(dtype) * 8);
        // In the wider types the difference of two numbers must be finite too.
        let top = if dtype == Dtype::F16 { 0x1f } else { 0xfe };
        let exponent = bits >> fraction_bits(dtype);
        bits & !(u32::from(exponent & top == top) << fraction_bits(dtype) << 1)
    }),
];

/// Every rule on whole groups, and on rows and tokens that leave partial ones.
#[must_use]
pub fn all(dtype: Dtype) -> Vec<Vector> {
    let mut all = Vec::new();
    for (rule, (name, bits)) in (1..).zip(RULES) {
        for (heads, tokens, dim, pairs, pairing) in [
            (2, 70, 128, 64, Pairing::Half),
            (3, 65, 83, 20, Pairing::Interleaved),
        ] {
            let mut state = rule;
            let mut plain = Vec::new();
            for index in 0..heads * tokens * dim {
                let element = bits(dtype, index, random(&mut state)).to_le_bytes();
                plain.extend(element.iter().take(usize::from(width(dtype))));
            }
            let angle = |pair: u32| 1e4_f64.powf(-f64::from(pair) / f64::from(pairs));
            all.push(Vector {
                name,
                dtype,
                shape: BankShape::Tokens {
                    heads: heads.into(),
                    tokens: tokens.into(),
                    dim: dim.into(),
                },
                pairing,
                inv_freq: (0..pairs).map(angle).collect(),
                plain,
            });
        }
    }
    all
}

impl Vector {
    fn context(&self) -> Result<FrameContext<'_>, CodecError> {
        let rotation = Rotation {
            pairing: self.pairing,
            inv_freq: &self.inv_freq,
        };
        let frame = FrameContext::new(&self.shape, self.dtype, 0)?;
        Ok(frame.with_rotation(rotation, Positions::From(100_000)))
    }

    /// Encodes and decodes by MLX and by the CPU's plain loops (`tc` is decoded alone); false where both refused to encode,
    /// so that only the decoding of arbitrary bytes was compared.
    ///
    /// # Errors
    /// Says where the two differ, or what MLX could not do.
    pub fn compare(&self, codec: Codec) -> Result<bool, String> {
        let mut scratch = Scratch::with_path("reference").ok_or("the plain loops are missing")?;
        let ctx = self.context().map_err(|error| error.to_string())?;
        if let Codec::Transform { transform, .. } = codec {
            return self.compare_transform(codec, transform, ctx, &mut scratch);
        }
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        let cpu = codec.encode_frame(&ctx, &self.plain, &mut expected, &mut scratch);
        let mlx = Mlx::encode_frame(codec, &ctx, &self.plain, &mut found, &mut scratch);
        let encoded = match (cpu, mlx) {
            (Ok(()), Ok(())) => {
                same("encoded", &expected, &found)?;
                true
            }
            // Refused by both, such as a range that binary16 cannot express.
            (Err(_), Err(Error::Broken(_))) => false,
            (cpu, mlx) => return Err(format!("encoding: cpu {cpu:?}, mlx {mlx:?}")),
        };
        self.compare_decoded(codec, &ctx, &expected, &mut scratch)?;
        // Codes, scales and biases of any encoder: saturation, and refusals.
        let mut state = 7;
        for byte in &mut expected {
            *byte ^= random(&mut state).to_le_bytes()[3] & 0x5f;
        }
        self.compare_decoded(codec, &ctx, &expected, &mut scratch)?;
        Ok(encoded)
    }

    /// Decodes what the CPU encoded, by its own step, by the least and by the largest.
    fn compare_transform(
        &self,
        codec: Codec,
        transform: u8,
        ctx: FrameContext<'_>,
        scratch: &mut Scratch,
    ) -> Result<bool, String> {
        let file = profile(transform, &ctx);
        let profile = (transform > 0).then(|| Profile::parse(&file)).transpose();
        let profile = profile.map_err(|error| error.to_string())?;
        let bank = profile.as_ref().and_then(|profile| profile.bank(0, 0));
        let ctx = bank.map_or(ctx, |bank| ctx.with_profile(bank));
        // by the fastest path, since every one writes the same
        let mut fast = Scratch::paths().pop().and_then(Scratch::with_path);
        let mut frame = Vec::new();
        if codec
            .encode_frame(
                &ctx,
                &self.plain,
                &mut frame,
                fast.as_mut().unwrap_or(scratch),
            )
            .is_err()
        {
            return Ok(false);
        }
        self.compare_decoded(codec, &ctx, &frame, scratch)?;
        for step in [-3200_i16, 4064] {
            for (at, byte) in frame.iter_mut().zip(step.to_le_bytes()) {
                *at = byte;
            }
            self.compare_decoded(codec, &ctx, &frame, scratch)?;
        }
        // refused by both
        frame.truncate(frame.len() / 2);
        self.compare_decoded(codec, &ctx, &frame, scratch)?;
        Ok(true)
    }

    fn compare_decoded(
        &self,
        codec: Codec,
        ctx: &FrameContext<'_>,
        encoded: &[u8],
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let mut expected = vec![0; self.plain.len()];
        let mut found = expected.clone();
        let cpu = codec.decode_frame(ctx, encoded, &mut expected, scratch);
        let mlx = Mlx::decode_frame(codec, ctx, encoded, &mut found, scratch);
        match (cpu, mlx) {
            (Ok(()), Ok(())) => same("decoded", &expected, &found),
            (Err(_), Err(Error::Broken(_))) => Ok(()),
            // of tc, which the CPU judges
            (Err(cpu), Err(Error::Codec(mlx))) if cpu == mlx => Ok(()),
            (cpu, mlx) => Err(format!("decoding: cpu {cpu:?}, mlx {mlx:?}")),
        }
    }
}

/// A profile (codecs-v1 §12.7) of one bank: of each component one large weight and many small ones, all shifts, and an
/// analysis that is about the inverse.
fn profile(transform: u8, ctx: &FrameContext<'_>) -> Vec<u8> {
    let [heads, _, dim] = ctx.extent().unwrap_or_default();
    let short = |n: usize| u16::try_from(n).unwrap_or(0).to_le_bytes();
    let channels = heads * dim;
    let count = if transform == 2 { channels } else { dim };
    let mut state = 11;
    let mut small = |below: u32| i16::try_from((random(&mut state) >> 16) % below).unwrap_or(0);
    let mut out = b"KVTCPROF".to_vec();
    out.extend([short(1), short(1), short(0), short(0)].concat());
    out.extend([7; 32]);
    out.extend([0, 0, 0, 0, 0, transform]);
    out.extend([short(heads), short(dim), short(0)].concat());
    let cells = || (0..channels * count).map(|at| at / count % count == at % count);
    for _ in 0..channels {
        out.extend((f32::from(small(9)) / 8.0 - 0.5).to_le_bytes());
    }
    let shifts: Vec<u8> = (0..9).cycle().take(channels).collect();
    out.extend(&shifts);
    for same in cells() {
        let weight = if same { 120 } else { small(7) - 3 };
        out.extend(&weight.to_le_bytes()[..1]);
    }
    for shift in &shifts {
        let weight = 120.0 * 30_000.0 * f32::from(1_u16 << shift);
        out.extend((1.0 / weight).to_le_bytes());
    }
    for same in cells() {
        out.extend((if same { 30_000 } else { small(9) - 4 }).to_le_bytes());
    }
    out
}

fn same(what: &str, expected: &[u8], found: &[u8]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let differing = expected.iter().zip(found).filter(|(e, f)| e != f).count();
    let first = expected.iter().zip(found).position(|(e, f)| e != f);
    Err(format!(
        "{what}: {differing} of {} bytes differ (mlx gave {}), the first at {first:?}",
        expected.len(),
        found.len()
    ))
}

/// 32 bits of a linear congruential generator.
fn random(state: &mut u64) -> u32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let [.., a, b, c, d] = state.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Near a normal deviate: the sum of four uniform ones.
fn bell(random: u32) -> f32 {
    let sum: f32 = random
        .to_le_bytes()
        .iter()
        .map(|byte| f32::from(*byte))
        .sum();
    sum / 128.0 - 4.0
}

/// A number below 65536, exactly.
fn small(n: u32) -> f32 {
    f32::from(u16::try_from(n).unwrap_or(u16::MAX))
}

const fn width(dtype: Dtype) -> u8 {
    if matches!(dtype, Dtype::F32) { 4 } else { 2 }
}

const fn fraction_bits(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F16 => 10,
        Dtype::Bf16 => 7,
        _ => 23,
    }
}

/// The bits of `x` in the type, cut short; for binary16 where it is normal, or zero.
fn number(dtype: Dtype, x: f32) -> u32 {
    let bits = x.to_bits();
    match dtype {
        Dtype::F16 => {
            let magnitude = (bits & 0x7fff_ffff) >> 13;
            bits >> 16 & 0x8000 | magnitude.saturating_sub(112 << 10)
        }
        Dtype::Bf16 => bits >> 16,
        _ => bits,
    }
}
