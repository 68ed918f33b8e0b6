//! Lists of a GGUF header, kept as long as they are in the file.

/// Numbers, truth values or texts of one type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packed {
    /// Elements of one GGUF type, little-endian as in the file.
    Numbers { kind: Number, bytes: Vec<u8> },
    /// Texts one after the other, and where each ends.
    Texts { text: String, ends: Vec<u32> },
}

/// A GGUF type of fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

/// An element of a list; nothing that holds others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Item<'a> {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

impl Number {
    /// The type of a GGUF type number.
    pub(crate) fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of an element.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// An element of this type; none where the bytes are not as many, or a truth value is neither 0 nor 1.
    pub(crate) fn read(self, bytes: &[u8]) -> Option<Item<'static>> {
        let int = |value: i128| Some(Item::Int(value));
        match self {
            Self::U8 => int(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I8 => int(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U16 => int(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I16 => int(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U32 => int(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I32 => int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U64 => int(u64::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I64 => int(i64::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::F32 => Some(Item::Float(
                f32::from_le_bytes(bytes.try_into().ok()?).into(),
            )),
            Self::F64 => Some(Item::Float(f64::from_le_bytes(bytes.try_into().ok()?))),
            Self::Bool => match bytes {
                [0] => Some(Item::Bool(false)),
                [1] => Some(Item::Bool(true)),
                _ => None,
            },
        }
    }
}

impl Packed {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers { kind, bytes } => bytes.len() / kind.len(),
            Self::Texts { ends, .. } => ends.len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<Item<'_>> {
        match self {
            Self::Numbers { kind, bytes } => {
                let start = at.checked_mul(kind.len())?;
                kind.read(bytes.get(start..start.checked_add(kind.len())?)?)
            }
            Self::Texts { text, ends } => {
                let start = match at.checked_sub(1) {
                    None => 0,
                    Some(before) => usize::try_from(*ends.get(before)?).ok()?,
                };
                let end = usize::try_from(*ends.get(at)?).ok()?;
                text.get(start..end).map(Item::Text)
            }
        }
    }

    /// The elements in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

impl<'a> Item<'a> {
    pub(crate) fn as_u64(self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    pub(crate) fn as_text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}
