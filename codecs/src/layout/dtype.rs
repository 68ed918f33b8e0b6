//! Element types of a bank (codecs-v1 §2.1).

/// Parameters of an affine-quantized element type: `x = q · scale + bias` for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AffineParams {
    /// Bits of one code: 3, 4, 5, 6 or 8.
    pub bits: u8,
    /// Consecutive elements along head_dim that share a scale and a bias: 32, 64 or 128.
    pub group: u16,
    /// Type of scales and biases: [`Dtype::F16`], [`Dtype::Bf16`] or [`Dtype::F32`] by its code.
    pub params: ParamDtype,
}

/// Element types that scales and biases may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamDtype {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary32.
    F32,
}

/// The type of one element of a bank, as the manifest names it (codecs-v1 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// 8-bit float, 4 exponent bits.
    F8E4M3,
    /// 8-bit float, 5 exponent bits.
    F8E5M2,
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit.
    U8,
    /// Signed 8-bit.
    I8,
    /// Unsigned 16-bit.
    U16,
    /// Signed 16-bit.
    I16,
    /// Unsigned 32-bit.
    U32,
    /// Signed 32-bit.
    I32,
    /// Unsigned 64-bit.
    U64,
    /// Signed 64-bit.
    I64,
    /// ggml q4_0: f16 scale, 32 4-bit codes.
    GgmlQ4_0,
    /// ggml q4_1: f16 scale and minimum, 32 4-bit codes.
    GgmlQ4_1,
    /// ggml q5_0: f16 scale, 32 5-bit codes.
    GgmlQ5_0,
    /// ggml q5_1: f16 scale and minimum, 32 5-bit codes.
    GgmlQ5_1,
    /// ggml q8_0: f16 scale, 32 signed bytes.
    GgmlQ8_0,
    /// ggml iq4_nl: f16 scale, 32 codes of a fixed table.
    GgmlIq4Nl,
    /// MLX's affine triplet (codes, scales, biases) carried verbatim.
    MlxAffine(AffineParams),
}

/// Code in the manifest, name, elements a block, bytes a block.
const TABLE: [(Dtype, u8, &str, u32, u32); 21] = [
    (Dtype::F16, 1, "f16", 1, 2),
    (Dtype::Bf16, 2, "bf16", 1, 2),
    (Dtype::F32, 3, "f32", 1, 4),
    (Dtype::F64, 4, "f64", 1, 8),
    (Dtype::F8E4M3, 5, "f8_e4m3", 1, 1),
    (Dtype::F8E5M2, 6, "f8_e5m2", 1, 1),
    (Dtype::Bool, 7, "bool", 1, 1),
    (Dtype::U8, 16, "u8", 1, 1),
    (Dtype::I8, 17, "i8", 1, 1),
    (Dtype::U16, 18, "u16", 1, 2),
    (Dtype::I16, 19, "i16", 1, 2),
    (Dtype::U32, 20, "u32", 1, 4),
    (Dtype::I32, 21, "i32", 1, 4),
    (Dtype::U64, 22, "u64", 1, 8),
    (Dtype::I64, 23, "i64", 1, 8),
    (Dtype::GgmlQ4_0, 32, "ggml_q4_0", 32, 18),
    (Dtype::GgmlQ4_1, 33, "ggml_q4_1", 32, 20),
    (Dtype::GgmlQ5_0, 34, "ggml_q5_0", 32, 22),
    (Dtype::GgmlQ5_1, 35, "ggml_q5_1", 32, 24),
    (Dtype::GgmlQ8_0, 36, "ggml_q8_0", 32, 34),
    (Dtype::GgmlIq4Nl, 37, "ggml_iq4_nl", 32, 18),
];

/// Code of [`Dtype::MlxAffine`] in the manifest.
const MLX_AFFINE: u8 = 48;

impl ParamDtype {
    /// The element type of one scale or bias.
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            Self::F32 => Dtype::F32,
        }
    }

    /// The parameter type with this element type, if scales may have it.
    #[must_use]
    pub const fn from_dtype(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::Bf16 => Some(Self::Bf16),
            Dtype::F32 => Some(Self::F32),
            _ => None,
        }
    }

    /// Bytes of one scale or bias.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }
}

impl AffineParams {
    /// Parameters, if the format knows them: bits 3, 4, 5, 6, 8; groups 32, 64, 128.
    #[must_use]
    pub fn new(bits: u8, group: u16, params: ParamDtype) -> Option<Self> {
        (matches!(bits, 3 | 4 | 5 | 6 | 8) && matches!(group, 32 | 64 | 128)).then_some(Self {
            bits,
            group,
            params,
        })
    }

    /// Bytes of the codes, and of the scales (as many for the biases), of a row of `dim` elements.
    ///
    /// The last group of a row may be partial: it has a scale and a bias like a whole one, and its
    /// codes are padded with zero codes to a whole group.
    #[must_use]
    pub fn row_sections(self, dim: u64) -> Option<(u64, u64)> {
        let groups = dim.div_ceil(u64::from(self.group));
        let codes = groups
            .checked_mul(u64::from(self.group))?
            .checked_mul(u64::from(self.bits))?
            / 8;
        Some((codes, groups.checked_mul(self.params.bytes())?))
    }
}

impl Dtype {
    /// Every plain element type and block type (not the affine triplets).
    pub fn plain() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The registered code (codecs-v1 §2.1).
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::MlxAffine(_) => MLX_AFFINE,
            plain => TABLE
                .iter()
                .find(|row| row.0 == plain)
                .map_or(0, |row| row.1),
        }
    }

    /// The element type with this code; affine triplets need their parameters.
    #[must_use]
    pub fn from_code(code: u8, affine: Option<AffineParams>) -> Option<Self> {
        match (code, affine) {
            (MLX_AFFINE, Some(params)) => Some(Self::MlxAffine(params)),
            (_, Some(_)) => None,
            (_, None) => TABLE.iter().find(|row| row.1 == code).map(|row| row.0),
        }
    }

    /// Its name, in lower case: `bf16`, `ggml_q8_0`, `mlx_q4_g64_f16`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::MlxAffine(p) => {
                format!("mlx_q{}_g{}_{}", p.bits, p.group, p.params.dtype().name())
            }
            plain => TABLE
                .iter()
                .find(|row| row.0 == plain)
                .map_or("", |row| row.2)
                .to_owned(),
        }
    }

    /// Bytes that a row of `dim` elements takes, if `dim` is a whole number of its blocks.
    #[must_use]
    pub fn row_bytes(self, dim: u64) -> Option<u64> {
        match self {
            Self::MlxAffine(p) => {
                if !dim.is_multiple_of(u64::from(p.group)) {
                    return None;
                }
                let (codes, params) = p.row_sections(dim)?;
                codes.checked_add(params.checked_mul(2)?)
            }
            plain => {
                let row = TABLE.iter().find(|row| row.0 == plain)?;
                if !dim.is_multiple_of(u64::from(row.3)) {
                    return None;
                }
                (dim / u64::from(row.3)).checked_mul(u64::from(row.4))
            }
        }
    }
}
