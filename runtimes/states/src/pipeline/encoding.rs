//! Which codec each bank gets: a preset, overrides by role, and a guard that measures first.

use std::{
    cell::LazyCell,
    sync::{Arc, Mutex, PoisonError},
};

use kvcap::{
    Bank, Code, Error, ReadAt, Result, Role, RotationTable, Rows, RowsEntry, Workers,
    binding::{Digest, Rope},
};
use kvcap_codecs::{Codec, Content, Guard, Padding, Preset, Quality, Reason, choose};

use crate::{
    pipeline::{
        bank_io::{BankCodec, Buffers},
        frames::lock,
        plan::{Choice, Fallback, entry, rotation},
    },
    profiles::{self, KnownProfile},
    state::{Placed, State},
};

/// The quality of a bank that is measured already.
pub(crate) type Measured = Option<Quality>;

/// Choice of codecs for the banks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// Codecs by what a bank holds.
    pub preset: Preset,
    /// The profile, by its digest, that a rate is encoded with ([`crate::offer_profile`]). Where none is named, the model's
    /// is taken that this process finds, if there is one ([`crate::look_for_profiles_beside`]).
    pub profile: Option<Digest>,
    /// Another codec for keys.
    pub keys: Option<Codec>,
    /// Another codec for values.
    pub values: Option<Codec>,
    /// Exact banks of floats are compressed and their streams padded so, which lets their lengths
    /// depend on content; not where `None`.
    pub compress: Option<Padding>,
    /// Bounds past which a lossy codec is given up for a finer one, which lets codecs and lengths
    /// depend on content; never where `None`.
    pub guard: Option<Guard>,
}

impl Encoding {
    /// Every bit, lengths that follow from the shapes.
    pub const EXACT: Self = Self {
        preset: Preset::Exact,
        profile: None,
        keys: None,
        values: None,
        compress: None,
        guard: None,
    };

    /// A preset: codecs and lengths that follow from the shapes alone.
    #[must_use]
    pub fn of(preset: Preset) -> Self {
        Self {
            preset,
            ..Self::EXACT
        }
    }

    /// The codec that each bank of `state` gets, and what was measured of it: a guarded lossy bank is
    /// encoded once to measure it.
    ///
    /// # Errors
    /// KVC-944 for a loss that no profile promises; 905 for values that are not finite, where the guard does not keep such banks exact; as
    /// [`Placed::read_frame`].
    pub(crate) fn choices(
        &self,
        state: &State,
        file: &dyn ReadAt,
        ropes: &[Rope],
        profile: Option<&Arc<KnownProfile>>,
        context_length: u64,
        workers: Workers,
    ) -> Result<(Vec<Choice>, Vec<Measured>)> {
        let rates = self.rates(profile)?;
        let chosen = Mutex::new(Vec::new());
        let mut banks = state.banks.iter();
        workers.run(
            Buffers::default,
            |_| Ok(banks.next()),
            |buffers, placed, turn| {
                // hundreds of powers, which exact banks do without
                let table = LazyCell::new(|| rotation(&placed.bank, ropes, context_length));
                let rated = profile.zip(rates.as_deref());
                let wanted = self.wanted(&placed.bank, rated, || table.is_some());
                let mut measured = None;
                let (codec, fallback) = match self.guard.filter(|_| !wanted.is_exact()) {
                    None => (wanted, None),
                    Some(guard) => {
                        let measure = |codec| {
                            let quality = quality(placed, file, codec, &table, profile, buffers)?;
                            measured = Some((codec, quality));
                            Ok(quality)
                        };
                        guarded(wanted, table.is_some(), guard, measure)?
                    }
                };
                let measured = measured.filter(|(of, _)| *of == codec);
                let codec = match codec {
                    Codec::Raw => self.exact(&placed.bank),
                    lossy => lossy,
                };
                turn.run(|| {
                    let measured = measured.map(|(_, quality)| quality);
                    lock(&chosen).push((Choice { codec, fallback }, measured));
                    Ok(())
                })
            },
        )?;
        let chosen = chosen.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(chosen.into_iter().unzip())
    }

    /// The codec asked for, where it serves the bank.
    fn wanted(
        &self,
        bank: &Bank,
        profile: Option<(&Arc<KnownProfile>, &[u16])>,
        rotated: impl FnOnce() -> bool,
    ) -> Codec {
        let (content, asked) = match bank.role {
            Role::Key | Role::RopeKey => (Content::Keys, self.keys),
            Role::Value => (Content::Values, self.values),
            Role::Latent => (Content::Latent, self.values),
            _ => (Content::Other, None),
        };
        let profiled = || {
            let (known, rates) = profile?;
            let (at, own) = known.for_bank(bank)?;
            let rate = *rates.get(at)?;
            Some(Codec::within(
                own.transform(),
                rate,
                bank.dtype,
                &bank.shape,
            ))
        };
        let codec = asked
            .or_else(profiled)
            .unwrap_or_else(|| self.preset.codec(bank.dtype, &bank.shape, content));
        // keys whose rotation is not known cannot be un-rotated
        let codec = match codec {
            Codec::KeyChannel if !rotated() => Codec::Affine { bits: 4, group: 64 },
            codec => codec,
        };
        match codec.applies(bank.dtype, &bank.shape, content) {
            Ok(()) => codec,
            Err(_) => Codec::Raw,
        }
    }

    /// The profile that is asked for, which is of this model, or the model's own where a rate is.
    pub(crate) fn codec_profile(&self, model: &Digest) -> Result<Option<Arc<KnownProfile>>> {
        match (&self.profile, self.preset) {
            (Some(digest), _) => {
                let known = profiles::with_digest(digest)?;
                known.check_model(model)?;
                Ok(Some(known))
            }
            (None, Preset::Rate(_) | Preset::Promise(_)) => profiles::of_model(model),
            (None, _) => Ok(None),
        }
    }

    /// Rates of the profile's banks, where a rate is asked for.
    fn rates(&self, profile: Option<&Arc<KnownProfile>>) -> Result<Option<Vec<u16>>> {
        let rate = match (self.preset, profile) {
            (Preset::Rate(rate), Some(known)) => Some(known.profile().rates(rate)),
            (Preset::Promise(kl), Some(known)) => {
                let rate = known.profile().rate_for(f64::from(kl) * 1e-9);
                let what = "the profile promises no loss as small as that";
                let rate = rate.ok_or_else(|| Error::new(Code::LocalUsage, what))?;
                Some(known.profile().rates(rate))
            }
            (Preset::Promise(_), None) => {
                let what = "a loss is promised by a profile, and none was given";
                return Err(Error::new(Code::LocalUsage, what));
            }
            _ => None,
        };
        Ok(rate)
    }

    fn exact(&self, bank: &Bank) -> Codec {
        let smaller = [Codec::Planes16, Codec::Planes32];
        let serves = |codec: &Codec| {
            codec
                .applies(bank.dtype, &bank.shape, Content::Other)
                .is_ok()
        };
        let found = smaller.into_iter().find(serves);
        found
            .filter(|_| self.compress.is_some())
            .unwrap_or(Codec::Raw)
    }
}

/// A codec that the guard accepts, and why it is not the wanted one.
fn guarded(
    wanted: Codec,
    turned: bool,
    guard: Guard,
    measure: impl FnMut(Codec) -> Result<Quality>,
) -> Result<(Codec, Option<Fallback>)> {
    let choice = choose(wanted, turned, guard, measure, |error: &Error| {
        error.code() == Code::CodecNonFinite
    })?;
    let seen = match choice.reason {
        Reason::Wanted => return Ok((choice.codec, None)),
        Reason::Error => choice.measured,
        Reason::NonFinite => f64::INFINITY,
    };
    let fallback = Fallback {
        from: wanted,
        limit: choice.limit,
        seen,
    };
    Ok((choice.codec, Some(fallback)))
}

/// What `codec` does to a bank.
pub(crate) fn quality(
    placed: &Placed,
    file: &dyn ReadAt,
    codec: Codec,
    table: &Option<RotationTable>,
    profile: Option<&Arc<KnownProfile>>,
    buffers: &mut Buffers,
) -> Result<Quality> {
    let bank = &placed.bank;
    let tables: Vec<RotationTable> = table.iter().cloned().collect();
    let (rows, listed) = match &bank.rows {
        Rows::From(start) => (RowsEntry::From(*start), Arc::default()),
        Rows::Listed(list) => (RowsEntry::Listed(0), Arc::clone(list)),
        Rows::None => (RowsEntry::None, Arc::default()),
    };
    let choice = Choice {
        codec,
        fallback: None,
    };
    let entry = entry(bank, rows, choice, table.as_ref().map(|_| 0), 0);
    BankCodec::new(&entry, &tables, listed, profile.cloned()).receipt(buffers, |frame, plain| {
        placed.read_frame(file, frame, plain)
    })
}
