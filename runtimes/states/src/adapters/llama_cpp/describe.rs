//! From a file that was read whole to a [`State`]: what is checked, bound and told.

use std::{collections::BTreeSet, ops::Range};

use kvcap::{Code, Error, Result};

use super::{
    Header, Parsed, label,
    label::Labelled,
    section::{Attention, Cells, Member, Recurrent, Section},
};
use crate::state::{Hints, State};

/// The state that `parsed` describes.
///
/// # Errors
/// [`Code::StateUnsupported`] where there are no cells, [`Code::StateContradiction`] for negative
/// or repeated positions and for sequences that do not agree, and those of the labels.
pub(super) fn state(header: &Header<'_>, parsed: &Parsed, hints: Hints<'_>) -> Result<State> {
    let positions = positions(parsed)?;
    let sequences = sequences(header, parsed)?;
    let Labelled { banks, layers } = label::label(&parsed.sections, hints)?;
    let owners: BTreeSet<u32> = banks.iter().map(|placed| placed.bank.layer).collect();
    let tokens = header.tokens.as_ref().map(|tokens| tokens.ids.clone());
    Ok(State {
        runtime: "llama.cpp",
        format: header.form.format,
        facts: facts(header, parsed, sequences),
        banks,
        layers,
        stateless: (0..layers)
            .filter(|layer| !owners.contains(layer))
            .collect(),
        notes: notes(header, parsed, &positions, sequences),
        positions,
        tokens: tokens.filter(|ids| !ids.is_empty()),
        file_len: header.file_len,
    })
}

impl Parsed {
    fn caches(&self) -> impl Iterator<Item = &Attention> {
        self.sections.iter().filter_map(|section| match section {
            Section::Attention(cache) => Some(cache),
            Section::Recurrent(_) => None,
        })
    }

    fn recurrent(&self) -> impl Iterator<Item = &Recurrent> {
        self.sections.iter().filter_map(|section| match section {
            Section::Attention(_) => None,
            Section::Recurrent(recurrent) => Some(recurrent),
        })
    }

    fn cells(&self) -> impl Iterator<Item = &Cells> {
        self.sections.iter().flat_map(Section::cells)
    }
}

/// The positions that the cells cover, once they are sound.
fn positions(parsed: &Parsed) -> Result<Range<u64>> {
    for (index, section) in parsed.sections.iter().enumerate() {
        check_members(section).map_err(|error| error.at(format_args!("section {index}")))?;
    }
    let all = || parsed.cells().flat_map(|cells| &cells.positions);
    let (Some(&first), Some(&last)) = (all().min(), all().max()) else {
        return Err(Error::new(
            Code::StateUnsupported,
            "the state holds no cells",
        ));
    };
    match (u64::try_from(first), u64::try_from(last)) {
        (Ok(first), Ok(last)) => Ok(first..last.saturating_add(1)),
        _ => Err(Error::new(
            Code::StateContradiction,
            format!("a cell has the negative position {first}"),
        )),
    }
}

/// No two cells of a sequence may stand for one position (images: for one position, x and y).
fn check_members(section: &Section) -> Result<()> {
    let members = || section.cells().flat_map(|cells| &cells.members).copied();
    // nearly always in order, and then nothing is copied
    let ascending = members().zip(members().skip(1)).all(|(a, b)| a < b);
    let mut sorted: Vec<Member> = match ascending {
        true => Vec::new(),
        false => members().collect(),
    };
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Error::new(
            Code::StateContradiction,
            format!(
                "two cells of one sequence have position {}",
                pair[0].position
            ),
        )),
    }
}

/// How many sequences the file holds.
fn sequences(header: &Header<'_>, parsed: &Parsed) -> Result<usize> {
    let ids: BTreeSet<u32> = parsed
        .cells()
        .flat_map(|cells| &cells.members)
        .filter_map(|member| member.sequence)
        .chain(header.sequence)
        .collect();
    if header.form.single && ids.len() > 1 {
        return Err(Error::new(
            Code::StateContradiction,
            format!("the state of one sequence names sequences {ids:?}"),
        ));
    }
    Ok(ids.len().max(1))
}

fn facts(header: &Header<'_>, parsed: &Parsed, sequences: usize) -> Vec<(String, String)> {
    let used = || parsed.caches().flat_map(Attention::used);
    let slot = header.tokens.as_ref().is_some_and(|tokens| tokens.slot);
    let sections = parsed
        .sections
        .iter()
        .enumerate()
        .map(|(index, section)| match section {
            Section::Attention(_) if index == 0 => "attention",
            Section::Attention(_) => "window",
            Section::Recurrent(_) => "recurrent",
        });
    let cell_ext = if used().next().is_some() {
        parsed.variant.cell_ext
    } else {
        0
    };
    let n_stream = if parsed.variant.n_stream {
        distinct(parsed.caches().map(|cache| cache.streams.len().to_string()))
    } else {
        "none".to_owned()
    };
    let file = if slot { "slot" } else { header.form.file };
    let mut facts = vec![
        ("cell_ext", cell_ext.to_string()),
        ("file", file.to_owned()),
        ("n_stream", n_stream),
        ("sections", sections.collect::<Vec<_>>().join("+")),
        ("sequences", sequences.to_string()),
        (
            "type_k",
            distinct(used().flat_map(|s| &s.keys).map(|t| t.dtype.name())),
        ),
        (
            "type_v",
            distinct(used().flat_map(|s| &s.values).map(|t| t.dtype.name())),
        ),
        (
            "v_trans",
            distinct(used().map(|s| u8::from(s.v_trans).to_string())),
        ),
    ];
    if parsed.variant.rotation && used().next().is_some() {
        let blocks = |at: usize| {
            let stated = used().filter_map(move |stream| Some(stream.rotation?[at].to_string()));
            distinct(stated)
        };
        facts.extend([("n_rot_k", blocks(0)), ("n_rot_v", blocks(1))]);
    }
    if parsed.recurrent().next().is_some() {
        let names = |half: fn(&Recurrent) -> &Vec<super::section::Tensor>| {
            distinct(parsed.recurrent().flat_map(half).map(|t| t.dtype.name()))
        };
        facts.push(("type_r", names(|recurrent| &recurrent.convolution)));
        facts.push(("type_s", names(|recurrent| &recurrent.state)));
    }
    facts.extend(header.arch.clone().map(|arch| ("arch", arch)));
    if parsed.variant.outputs {
        facts.push(("outputs", "1".to_owned()));
    }
    if let Some(tokens) = header.tokens.as_ref().filter(|tokens| tokens.media > 0) {
        facts.push(("media", tokens.media.to_string()));
    }
    facts.sort_unstable_by_key(|fact| fact.0);
    facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The values in order of appearance, each once; `none` for none.
fn distinct(values: impl Iterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    if seen.is_empty() {
        seen.push("none".to_owned());
    }
    seen.join(",")
}

fn notes(
    header: &Header<'_>,
    parsed: &Parsed,
    positions: &Range<u64>,
    sequences: usize,
) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(tokens) = &header.tokens {
        let covered = positions.end - positions.start;
        if u64::try_from(tokens.ids.len()) != Ok(covered) {
            notes.push(format!(
                "the token array holds {} ids, the cells cover positions {} to {}",
                tokens.ids.len(),
                positions.start,
                positions.end,
            ));
        }
        if tokens.media > 0 {
            notes.push(format!(
                "{} images or sounds stand among the tokens: their content is carried, the prefix does not name it",
                tokens.media,
            ));
        }
    }
    if sequences > 1 {
        notes.push(format!("the session holds {sequences} sequences"));
    }
    if parsed.variant.outputs {
        notes.push("logits and embeddings of the last batch are carried as residue".to_owned());
    }
    let last = |cells: &mut dyn Iterator<Item = &Cells>| {
        cells
            .flat_map(|cells| cells.positions.iter().copied())
            .max()
    };
    let attention = last(&mut parsed.caches().flat_map(Attention::used).map(|s| &s.cells));
    let recurrent = last(&mut parsed.recurrent().map(|recurrent| &recurrent.cells));
    if let (Some(attention), Some(recurrent)) = (attention, recurrent)
        && attention != recurrent
    {
        notes.push(format!(
            "the attention cache ends at position {attention}, the recurrent state at {recurrent}"
        ));
    }
    notes
}
