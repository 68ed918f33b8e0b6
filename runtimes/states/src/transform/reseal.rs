//! An opened capsule or chain sealed again as one capsule: what it is of comes from its manifest, so
//! that the model need not be at hand.

use kvcap::{
    CaptureFlags, Code, Error, Members, Opened, Prefix, PrefixValue, ReadAt, Result, SectionKind,
    Stream, Workers,
};

use crate::{
    pipeline::{
        open::write_state,
        plan::{Capture, Lineage, Prompt},
    },
    state::{State, WriteAt},
};

use kvcap_models::{Geometry, ModelProfile};

/// Writes the state of a capsule or chain into `out`, which is empty, as [`crate::open_state`] does, and gives
/// what its adapter finds there.
///
/// # Errors
/// As [`crate::open_state`].
pub fn reopen<M: Members>(
    opened: &M,
    out: &dyn WriteAt,
    workers: Workers,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<State> {
    Ok(write_state(opened, out, workers, progress)?.0)
}

/// Returns what is to be sealed of `state`, the whole or the first positions of what `opened` describes: the same
/// model, tokenizer, rope, runtime and prompt. Of the whole state also history and the like; a rewind
/// leaves behind what was said later.
///
/// # Errors
/// KVC-925 where the prompt of a rewind is not known; as [`kvcap::StreamReader::read`].
pub fn as_sealed<M: Members>(opened: &M, state: &State) -> Result<(ModelProfile, Capture)> {
    let tip = opened.tip();
    let context = &tip.manifest().context;
    let rewind = state.positions.end < context.positions.end;
    let profile = ModelProfile {
        model: context.model.clone(),
        weights: Vec::new(),
        tokenizer: context.tokenizer.clone(),
        rope: context.rope.clone(),
        geometry: Geometry::default(),
    };
    let rotated = context.banks().any(|(_, bank)| bank.hadamard != 0);
    let known = |name: &String| state.facts.iter().any(|fact| fact.0 == *name);
    let facts = context.runtime.facts.iter();
    let capture = Capture {
        suite: context.suite,
        prompt: prompt(tip, state, rewind)?,
        public_prefix: matches!(context.prefix, Prefix::Public { .. }),
        sections: match rewind {
            true => Vec::new(),
            false => sections(tip)?,
        },
        runtime_version: context.runtime.version.clone(),
        facts: facts.filter(|fact| !known(&fact.0)).cloned().collect(),
        hadamard: (!rotated).then_some(false),
        flags: flags(opened),
        context_length: context.context_length,
        lineage: Lineage {
            continued: None,
            base: context.base,
        },
    };
    Ok((profile, capture))
}

/// How any part of the state came about: what an ancestor was captured with lives on in what is joined of it.
fn flags<M: Members>(opened: &M) -> CaptureFlags {
    let of = |member: &Opened<M::Source>| member.manifest().context.flags;
    opened
        .ancestors()
        .iter()
        .map(of)
        .fold(of(opened.tip()), CaptureFlags::union)
}

fn prompt<S: ReadAt>(tip: &Opened<S>, state: &State, rewind: bool) -> Result<Prompt> {
    let Some(PrefixValue { value, tokens }) = tip.prompt()? else {
        return Ok(Prompt::DangerNone);
    };
    match tip.tokens()? {
        Some(mut ids) => {
            if rewind {
                let kept = usize::try_from(state.positions.end).unwrap_or(usize::MAX);
                ids.truncate(kept);
            }
            Ok(Prompt::Tokens(ids))
        }
        None if !rewind => Ok(Prompt::Value(PrefixValue { value, tokens })),
        None => Err(Error::new(
            Code::StateUnknownPrefix,
            "the capsule does not hold the token ids that a rewind's prompt is made of",
        )),
    }
}

/// History, agent state and named sections: what the sealer gave beside the state.
fn sections<S: ReadAt>(tip: &Opened<S>) -> Result<Vec<(SectionKind, Vec<u8>)>> {
    let streams = tip.manifest().context.streams.iter().enumerate();
    streams
        .filter_map(|(index, stream)| match stream {
            Stream::Section(section) => match section.kind {
                SectionKind::History | SectionKind::AgentState | SectionKind::Other(_) => {
                    Some((index, section.kind.clone()))
                }
                _ => None,
            },
            Stream::Bank(_) => None,
        })
        .map(|(index, kind)| Ok((kind, tip.stream_bytes(index)?)))
        .collect()
}
