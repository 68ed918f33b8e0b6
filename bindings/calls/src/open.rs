//! Opening: a verified capsule's state, or a part of it, into an output.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use kvcap::{Members, OpenedChain, Result, SectionKind, Workers, WriteAt};
use kvcap_states::{Buffer, Selection, check_rotation, extract, open_state};
use kvcap_store::{
    Admitted, WrapKeys,
    output::{Output, Readers},
};

use crate::{
    progress::{Progress, Watched},
    source::{Bytes, Source},
    terms::Terms,
    verdict::Verdict,
};

/// A capsule that was verified and whose key was unwrapped: its state can be read, whole or in parts.
pub struct Opened {
    chain: OpenedChain<Bytes>,
    verdict: Verdict,
    terms: Terms,
}

/// Verifies a capsule and opens it. One for single use is used up with this call.
///
/// # Errors
/// As the verifier, and KVC-7xx for keys.
pub fn open(source: Source, terms: Terms, tokens: Option<&[u32]>) -> Result<Opened> {
    let model = terms.model()?;
    let mut judge = terms.judge(model.as_ref())?;
    let paths = terms.profile().keys_to_open();
    let keys = terms
        .profile()
        .with_passphrase(|known| WrapKeys::read(&paths, known))?;
    let verdict = judge.verify(source.header()?)?;
    check_rotation(
        &verdict.tip().manifest().context,
        terms.profile().options()?.hadamard,
    )?;
    let (path, bytes) = (source.path, source.bytes);
    let ancestors = terms.ancestors(&path);
    let verdict = judge.with_ancestors(verdict.with_source(bytes), &ancestors, Bytes::File)?;
    let accepted = judge.conclude(verdict)?;
    let said = Verdict::of(accepted.chain(), accepted.unchecked(), &judge, None);
    let Admitted {
        opened, unchecked, ..
    } = judge.open(accepted, keys, tokens, Workers::all())?;
    let verdict = said.now_unchecked(&unchecked, &judge);
    drop(judge);
    Ok(Opened {
        chain: opened,
        verdict,
        terms,
    })
}

/// Verifies a capsule and opens it into the file `to`, which appears whole or not at all; returns the file's length too.
///
/// # Errors
/// As [`open`] and [`Opened::write`]; KVC-941 where the file exists and is not to be replaced.
pub fn open_to_file(
    source: Source,
    terms: Terms,
    tokens: Option<&[u32]>,
    part: Option<&Selection>,
    to: (&Path, bool),
    progress: &Progress<'_>,
) -> Result<(Opened, u64)> {
    // before the capsule is recorded as used: an output that cannot be made is known early
    let output = Output::create(to.0, to.1, Readers::Owner)?;
    let opened = open(source, terms, tokens)?;
    let length = opened.write_into(part, output, progress)?;
    Ok((opened, length))
}

impl Opened {
    /// Returns the judgement of the capsule.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Returns the length of the whole state, which is to be opened into memory.
    ///
    /// # Errors
    /// KVC-910 for one that takes more than the profile's budget.
    pub fn state_len(&self) -> Result<u64> {
        let length = kvcap_states::state_len(&self.chain)?;
        self.terms.judge(None)?.check_state(length)?;
        Ok(length)
    }

    /// Returns the token ids that were sealed beside the state.
    ///
    /// # Errors
    /// KVC-8xx for a damaged body.
    pub fn tokens(&self) -> Result<Option<Vec<u32>>> {
        let bytes = self.chain.tip().section(&SectionKind::Tokens)?;
        Ok(bytes.map(|bytes| {
            let (ids, _) = bytes.as_chunks::<4>();
            ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
        }))
    }

    /// Returns the state, or a part of it as plain tensors (safetensors), in memory.
    ///
    /// # Errors
    /// As [`write`](Self::write); KVC-910 for a state that takes more than the profile's budget.
    pub fn read(&self, part: Option<&Selection>, progress: &Progress<'_>) -> Result<Vec<u8>> {
        if part.is_some() {
            // its length is known once it is there
            let out = Mutex::new(Vec::new());
            self.write(part, &out, progress)?;
            return Ok(out.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        let length = usize::try_from(self.state_len()?).unwrap_or(usize::MAX);
        let mut state = vec![0; length];
        self.write(None, &Buffer::new(&mut state), progress)?;
        Ok(state)
    }

    /// Writes the state, or a part of it, into the file `to`, which appears whole or not at all, and returns its length.
    ///
    /// # Errors
    /// As [`write`](Self::write); KVC-941 where the file exists and is not to be replaced.
    pub fn write_to_file(
        &self,
        part: Option<&Selection>,
        to: (&Path, bool),
        progress: &Progress<'_>,
    ) -> Result<u64> {
        let output = Output::create(to.0, to.1, Readers::Owner)?;
        self.write_into(part, output, progress)
    }

    fn write_into(
        &self,
        part: Option<&Selection>,
        output: Output,
        progress: &Progress<'_>,
    ) -> Result<u64> {
        let written = self.write(part, &output, progress);
        let length = written.map_err(|error| output.at(error))?;
        output.commit()?;
        Ok(length)
    }

    /// Writes the state, or a part of it as plain tensors (safetensors), and returns its length.
    ///
    /// # Errors
    /// KVC-8xx for a damaged body, KVC-810 for a part that is not there, KVC-940 as the output; KVC-944 where the caller
    /// has ended the call.
    pub fn write(
        &self,
        part: Option<&Selection>,
        out: &dyn WriteAt,
        progress: &Progress<'_>,
    ) -> Result<u64> {
        let members = self.chain.ancestors().iter().chain([self.chain.tip()]);
        let banks = members.flat_map(|member| member.manifest().context.banks());
        let all = banks
            .filter_map(|(_, bank)| bank.shape.plain_len(bank.dtype))
            .sum();
        let out: &dyn WriteAt = &Watched { out, progress };
        let (workers, told) = (Workers::all(), &mut |more| progress.add(more, all));
        let written = match part {
            Some(part) => extract(&self.chain, part, out, workers, told).map(|taken| taken.len),
            None => open_state(&self.chain, out, workers, told).map(|state| state.state_len),
        };
        progress.check()?;
        written
    }
}
