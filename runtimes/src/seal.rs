//! A runtime's state file into a capsule: frame by frame, so that it may be larger than memory.

use std::io::{Seek, Write};

use kvcap::{
    Code, Draft, Error, Fallback, ReadAt, Result, Sealed, Sealer, SigningKey, Stream, Terms,
    WrappingKey,
};

use crate::{
    Capture, Encoding, Leftover, ModelProfile, Plan,
    bank_io::{BankCodec, Buffers},
    plan::{self, Source},
    residue,
    state::State,
};

/// What was sealed, and what the user should hear of.
#[derive(Clone, Debug)]
pub struct SealReport {
    /// The capsule.
    pub sealed: Sealed,
    /// Bytes of the state file.
    pub state_len: u64,
    /// Banks whose padding was not zero: it is not sealed and comes back as zeros.
    pub leftovers: Vec<Leftover>,
    /// Banks that a finer codec was chosen for, by their place in [`State::banks`].
    pub fallbacks: Vec<(usize, Fallback)>,
}

/// Seals `state`, read from `file`, into `out`, which is empty; where it continues a capsule, only what
/// is new. `progress` hears how many bytes of banks are done.
///
/// # Errors
/// As [`Plan::new`], [`kvcap::Manifest::check_child`], [`Sealer::new`], [`crate::Placed::read_frame`] and
/// the codecs (KVC-901 to 905).
#[expect(clippy::too_many_arguments, reason = "one call says it all")]
pub fn seal_state<W: Write + Seek>(
    out: W,
    state: &State,
    file: &dyn ReadAt,
    profile: &ModelProfile,
    encoding: Encoding,
    capture: Capture,
    terms: Terms,
    signer: &SigningKey,
    recipients: &[&WrappingKey],
    progress: &mut dyn FnMut(u64),
) -> Result<(W, SealReport)> {
    let first = recipients
        .first()
        .ok_or_else(|| Error::new(Code::LocalUsage, "a capsule needs a wrapping key"))?;
    let leftovers = state.padding_nonzero(file)?;
    let residue = residue(state, file)?;
    let (state_len, continued) = (state.file_len, capture.lineage.continued.clone());
    let new = match &continued {
        Some(continued) => &state.after(continued.parent().positions.end)?,
        None => state,
    };
    let state = new;
    let ropes = plan::rope(state, profile, capture.hadamard)?;
    let choices = encoding.choices(state, file, &ropes, capture.context_length)?;
    let plan = Plan::new(
        state,
        residue,
        profile,
        ropes,
        &choices,
        capture,
        &first.prefix_key(),
    )?;
    if let Some(continued) = &continued {
        continued.check_child(&terms, &plan.context)?;
    }
    let draft = Draft {
        terms,
        context: plan.context,
        extensions: Vec::new(),
    };
    let entries: Vec<Stream> = draft.context.streams.clone();
    let tables = draft.context.rotations.clone();
    let mut sealer = Sealer::new(out, draft, signer, recipients)?;
    let mut buffers = Buffers::default();
    for (entry, source) in entries.iter().zip(&plan.sources) {
        let receipt = match (entry, source) {
            (Stream::Bank(entry), Source::Bank(place)) => {
                let placed = state.banks.get(*place);
                let placed = placed.ok_or_else(|| {
                    Error::new(
                        Code::StateContradiction,
                        "the plan names a bank that is not there",
                    )
                })?;
                let listed = match &placed.bank.rows {
                    kvcap::Rows::Listed(list) => list.clone(),
                    _ => Vec::new(),
                };
                BankCodec::new(entry, &tables, listed).encode(
                    &mut buffers,
                    |frame, plain| {
                        placed.read_frame(file, frame, plain)?;
                        progress(u64::try_from(plain.len()).unwrap_or(0));
                        Ok(())
                    },
                    |encoded| sealer.write(encoded),
                )?
            }
            (_, Source::Section(bytes)) => {
                sealer.write(bytes)?;
                None
            }
            _ => None,
        };
        sealer.end_stream(receipt)?;
    }
    let (out, sealed) = sealer.finish()?;
    let fallbacks = choices
        .iter()
        .enumerate()
        .filter_map(|(place, choice)| Some((place, choice.fallback?)));
    let report = SealReport {
        sealed,
        state_len,
        leftovers,
        fallbacks: fallbacks.collect(),
    };
    Ok((out, report))
}
