//! The first 64 bytes and the offsets that follow from them (capsule-v1 §2).

use crate::{
    error::{Code, Error, Result},
    limits::Limits,
};

pub(crate) const PROLOGUE: usize = 64;
pub(crate) const ROW: u64 = 48;
pub(crate) const VERSION: u16 = 1;
const MAGIC: [u8; 8] = [0x89, b'K', b'V', b'C', 0x0D, 0x0A, 0x1A, 0x0A];
const PAGE: u64 = 4096;

/// Lengths of the regions of a file; every offset is computed from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prologue {
    pub(crate) envelope_len: u32,
    pub(crate) tables_len: u64,
    pub(crate) body_len: u64,
}

fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(PAGE)
}

impl Prologue {
    pub(crate) fn envelope_end(self) -> u64 {
        64 + u64::from(self.envelope_len)
    }

    /// Where the tables begin: a multiple of the page.
    pub(crate) fn tables_at(self) -> u64 {
        // cannot overflow: the envelope's length has 32 bits
        align(self.envelope_end()).unwrap_or(u64::MAX)
    }

    fn body_at_checked(self) -> Option<u64> {
        align(self.tables_at().checked_add(self.tables_len)?)
    }

    /// Where the body begins; in range for every prologue that [`Self::new`] made.
    pub(crate) fn body_at(self) -> u64 {
        self.body_at_checked().unwrap_or(u64::MAX)
    }

    pub(crate) fn file_len(self) -> u64 {
        self.body_at().saturating_add(self.body_len)
    }

    /// Checks the lengths (CAP-F-3).
    pub(crate) fn new(
        envelope_len: u32,
        tables_len: u64,
        body_len: u64,
        limits: &Limits,
    ) -> Result<Self> {
        let length = |what, limit: u64, found: u64| {
            Error::new(Code::FramingLength, what).sides(format_args!("at most {limit}"), found)
        };
        if envelope_len == 0 {
            return Err(Error::new(Code::FramingLength, "the envelope has no bytes"));
        }
        if envelope_len > limits.envelope {
            return Err(length(
                "the envelope is too long",
                limits.envelope.into(),
                envelope_len.into(),
            ));
        }
        if tables_len > limits.tables {
            return Err(length("the tables are too long", limits.tables, tables_len));
        }
        if !tables_len.is_multiple_of(ROW) {
            return Err(Error::new(
                Code::FramingLength,
                "the tables are not whole rows",
            ));
        }
        let prologue = Self {
            envelope_len,
            tables_len,
            body_len,
        };
        prologue
            .body_at_checked()
            .and_then(|body| body.checked_add(body_len))
            .ok_or_else(|| Error::new(Code::FramingLength, "the body's length overflows"))?;
        Ok(prologue)
    }

    pub(crate) fn parse(bytes: &[u8; PROLOGUE], limits: &Limits) -> Result<Self> {
        let (magic, rest) = bytes.split_at(8);
        if magic != MAGIC {
            return Err(Error::new(Code::FramingMagic, "this is not a KV capsule"));
        }
        let field = |at: usize| rest.get(at..).unwrap_or_default();
        let u16_at = |at| {
            field(at)
                .first_chunk()
                .map_or(0, |b| u16::from_le_bytes(*b))
        };
        let u32_at = |at| {
            field(at)
                .first_chunk()
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        let u64_at = |at| {
            field(at)
                .first_chunk()
                .map_or(0, |b| u64::from_le_bytes(*b))
        };
        let version = u16_at(0);
        if version != VERSION {
            return Err(Error::new(
                Code::FramingVersion,
                "the format's version is not supported",
            )
            .sides(VERSION, version));
        }
        if u16_at(2) != 0 || field(24).iter().any(|byte| *byte != 0) {
            return Err(Error::new(
                Code::FramingReserved,
                "a reserved byte of the prologue is not zero",
            ));
        }
        Self::new(u32_at(4), u64_at(8), u64_at(16), limits)
    }

    pub(crate) fn to_bytes(self) -> [u8; PROLOGUE] {
        let mut bytes = [0; PROLOGUE];
        let parts: [&[u8]; 6] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &[0; 2],
            &self.envelope_len.to_le_bytes(),
            &self.tables_len.to_le_bytes(),
            &self.body_len.to_le_bytes(),
        ];
        for (byte, value) in bytes.iter_mut().zip(parts.concat()) {
            *byte = value;
        }
        bytes
    }
}
