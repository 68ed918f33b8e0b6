//! Which codec each bank gets: a preset, overrides by role, and a guard that measures first.

use kvcap::{
    Bank, Code, Error, Fallback, ReadAt, Result, Role, RotationTable, Rows, RowsEntry,
    binding::{F64Bits, Rope},
};
use kvcap_codecs::{Codec, Content, Guard, Preset, Quality, Reason, choose};

use crate::{
    bank_io::{BankCodec, Buffers},
    plan::{Choice, entry, rotation},
    state::{Placed, State},
};

/// How banks are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// Codecs by what a bank holds.
    pub preset: Preset,
    /// Another codec for keys.
    pub keys: Option<Codec>,
    /// Another codec for values.
    pub values: Option<Codec>,
    /// Whether exact banks of floats are compressed, which lets their lengths depend on content.
    pub compress: bool,
    /// When a lossy codec is given up for a finer one; never where `None`.
    pub guard: Option<Guard>,
}

impl Encoding {
    /// Every bit, lengths that follow from the shapes.
    pub const EXACT: Self = Self {
        preset: Preset::Exact,
        keys: None,
        values: None,
        compress: false,
        guard: None,
    };

    /// A preset with its guard's default limit.
    #[must_use]
    pub fn of(preset: Preset) -> Self {
        Self {
            preset,
            guard: Some(Guard::default()),
            ..Self::EXACT
        }
    }

    /// The codec that each bank of `state` gets. A guarded lossy bank is encoded once to measure it.
    ///
    /// # Errors
    /// KVC-905 for values that are not finite, where the guard does not keep such banks exact; as
    /// [`Placed::read_frame`].
    pub(crate) fn choices(
        &self,
        state: &State,
        file: &dyn ReadAt,
        ropes: &[Rope],
        context_length: u64,
    ) -> Result<Vec<Choice>> {
        let mut buffers = Buffers::default();
        let banks = state.banks.iter();
        banks
            .map(|placed| {
                let table = rotation(&placed.bank, ropes, context_length);
                let wanted = self.wanted(&placed.bank, table.is_some());
                let (codec, fallback) = match self.guard.filter(|_| !wanted.is_exact()) {
                    None => (wanted, None),
                    Some(guard) => {
                        let measure = |codec| quality(placed, file, codec, &table, &mut buffers);
                        guarded(wanted, guard, measure)?
                    }
                };
                let codec = match codec {
                    Codec::Raw => self.exact(&placed.bank),
                    lossy => lossy,
                };
                Ok(Choice { codec, fallback })
            })
            .collect()
    }

    /// The codec asked for, where it serves the bank.
    fn wanted(&self, bank: &Bank, rotated: bool) -> Codec {
        let (content, asked) = match bank.role {
            Role::Key | Role::RopeKey => (Content::Keys, self.keys),
            Role::Value => (Content::Values, self.values),
            Role::Latent => (Content::Latent, self.values),
            _ => (Content::Other, None),
        };
        let codec = asked.unwrap_or_else(|| self.preset.codec(bank.dtype, &bank.shape, content));
        // keys whose rotation is not known cannot be un-rotated
        let codec = match codec {
            Codec::Q4k if !rotated => Codec::Affine { bits: 4, group: 64 },
            codec => codec,
        };
        match codec.applies(bank.dtype, &bank.shape, content) {
            Ok(()) => codec,
            Err(_) => Codec::Raw,
        }
    }

    fn exact(&self, bank: &Bank) -> Codec {
        let smaller = [Codec::Planes16, Codec::Planes32];
        let serves = |codec: &Codec| {
            codec
                .applies(bank.dtype, &bank.shape, Content::Other)
                .is_ok()
        };
        let found = smaller.into_iter().find(serves);
        found.filter(|_| self.compress).unwrap_or(Codec::Raw)
    }
}

/// A codec that the guard accepts, and why it is not the wanted one.
fn guarded(
    wanted: Codec,
    guard: Guard,
    measure: impl FnMut(Codec) -> Result<Quality>,
) -> Result<(Codec, Option<Fallback>)> {
    let choice = choose(wanted, guard, measure, |error: &Error| {
        error.code() == Code::CodecNonFinite
    })?;
    let seen = match choice.reason {
        Reason::Wanted => return Ok((choice.codec, None)),
        Reason::Error => choice.measured,
        Reason::NonFinite => f64::INFINITY,
    };
    let fallback = Fallback {
        from: wanted,
        limit: F64Bits(choice.limit.to_bits()),
        seen: F64Bits(seen.to_bits()),
    };
    Ok((choice.codec, Some(fallback)))
}

/// What `codec` does to a bank.
pub(crate) fn quality(
    placed: &Placed,
    file: &dyn ReadAt,
    codec: Codec,
    table: &Option<RotationTable>,
    buffers: &mut Buffers,
) -> Result<Quality> {
    let bank = &placed.bank;
    let tables: Vec<RotationTable> = table.iter().cloned().collect();
    let (rows, listed) = match &bank.rows {
        Rows::From(start) => (RowsEntry::From(*start), Vec::new()),
        Rows::Listed(list) => (RowsEntry::Listed(0), list.clone()),
        Rows::None => (RowsEntry::None, Vec::new()),
    };
    let choice = Choice {
        codec,
        fallback: None,
    };
    let entry = entry(bank, rows, choice, table.as_ref().map(|_| 0));
    let receipt = BankCodec::new(&entry, &tables, listed).encode(
        buffers,
        |frame, plain| placed.read_frame(file, frame, plain),
        |_| Ok(()),
    )?;
    let receipt = receipt.unwrap_or_default();
    Quality::from_bytes(&receipt).map_err(|error| crate::bank_io::codec_error(&error))
}
