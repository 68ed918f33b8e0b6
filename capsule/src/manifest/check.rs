//! A manifest's statements held against each other and against the prologue (CAP-M-2 … CAP-M-6, CAP-S-1 … CAP-S-8).

use std::collections::{BTreeMap, BTreeSet};

use kvcap_codecs::{BankShape, Codec, Content};

use super::{BankEntry, Context, Manifest, Prefix, RowsEntry, Section, SectionKind, Stream};
use crate::{
    error::{Code, Error, Result},
    limits::MAX_CHUNKS,
    manifest::Role,
    wire::prologue::{Prologue, ROW},
};

pub(super) fn contradiction(place: &'static str) -> Error {
    Error::new(
        Code::ManifestInconsistent,
        "two statements of the capsule contradict each other",
    )
    .at(place)
}

pub(super) fn over(what: &'static str, limit: u64, found: u64) -> Error {
    Error::new(Code::ManifestLimit, what).sides(format_args!("at most {limit}"), found)
}

/// What the context alone must satisfy: used when sealing and when verifying.
pub(crate) fn context(context: &Context) -> Result<()> {
    let with_tokens = context
        .banks()
        .any(|(_, bank)| matches!(bank.shape, BankShape::Tokens { .. }));
    if context.positions.is_empty() && (with_tokens || context.positions != (0..0)) {
        return Err(contradiction("positions"));
    }
    if let Some(parent) = &context.parent
        && parent.positions.end != context.positions.start
    {
        return Err(Error::new(
            Code::LineagePositions,
            "the positions do not continue the parent's",
        )
        .sides(parent.positions.end, context.positions.start));
    }
    if context.streams.is_empty() {
        return Err(Error::new(Code::ManifestField, "is empty").at("streams"));
    }
    rope_layers(context)?;
    let mut identities = BTreeSet::new();
    let mut sections = BTreeSet::new();
    for (index, stream) in context.streams.iter().enumerate() {
        match stream {
            Stream::Bank(entry) => {
                if !identities.insert(entry.identity()) {
                    return Err(duplicate("two banks have one identity", index));
                }
                bank(context, entry).map_err(|error| error.at(format_args!("stream {index}")))?;
            }
            Stream::Section(section) => {
                section_len(context, section)
                    .map_err(|error| error.at(format_args!("stream {index}")))?;
                let once = section.kind != SectionKind::Positions;
                if once && !sections.insert(&section.kind) {
                    return Err(duplicate("two sections have one name", index));
                }
            }
        }
    }
    let receipts = context.banks().map(|(_, bank)| bank.receipt_len()).sum();
    let sealed = context.section(&SectionKind::Receipts);
    if sealed.map_or(0, |(_, section)| section.len) != receipts
        || (sealed.is_some() && receipts == 0)
    {
        return Err(contradiction("lossy banks and their receipts")
            .sides(receipts, sealed.map_or(0, |(_, section)| section.len)));
    }
    let profiled = context.banks().any(|(_, bank)| bank.codec.needs_profile());
    if context.profile.is_some() != profiled {
        return Err(contradiction("codec profile and codecs"));
    }
    let named = context.prefix != Prefix::None;
    if named != sections.contains(&SectionKind::Prefix) {
        return Err(contradiction("prefix and its section"));
    }
    layers(context)
}

/// What a section's kind says of its length (CAP-S-11).
fn section_len(context: &Context, section: &Section) -> Result<()> {
    let fits = match section.kind {
        SectionKind::Prefix => section.len == 32,
        SectionKind::Positions => section.len.is_multiple_of(8),
        SectionKind::Tokens => {
            let len = context.prefix.tokens().map(|tokens| tokens.checked_mul(4));
            len == Some(Some(section.len))
        }
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(contradiction("length of a section").at(section.kind.name()))
}

fn duplicate(what: &'static str, index: usize) -> Error {
    Error::new(Code::ManifestDuplicateBank, what).at(format_args!("stream {index}"))
}

fn rope_layers(context: &Context) -> Result<()> {
    let mut seen = BTreeSet::new();
    for layer in context.rope.iter().flat_map(|rope| &rope.layers) {
        if *layer >= context.layers || !seen.insert(*layer) {
            return Err(contradiction("rope layers"));
        }
    }
    Ok(())
}

/// CAP-S-3, CAP-S-5, CAP-S-6, CAP-S-7 for one bank.
fn bank(context: &Context, bank: &BankEntry) -> Result<()> {
    if bank.layer >= context.layers {
        return Err(
            contradiction("layer").sides(format_args!("below {}", context.layers), bank.layer)
        );
    }
    let tokens = match bank.shape {
        BankShape::Tokens { tokens, .. } => Some(tokens),
        BankShape::Whole { .. } => None,
    };
    let positions = &context.positions;
    match (tokens, bank.rows) {
        (None, RowsEntry::None) => {}
        (Some(tokens), RowsEntry::From(start)) => {
            let end = start
                .checked_add(tokens)
                .filter(|end| *end <= positions.end);
            let windowed = bank.window != 0;
            let fits = end
                .is_some_and(|end| windowed || (start >= positions.start && end == positions.end));
            if !fits {
                return Err(contradiction("rows and positions").sides(
                    format_args!("{} to {}", positions.start, positions.end),
                    format_args!("{tokens} from {start}"),
                ));
            }
            if context.parent.is_some() && !windowed && start != positions.start {
                return Err(Error::new(
                    Code::LineagePositions,
                    "a bank does not continue the parent's",
                )
                .sides(positions.start, start));
            }
        }
        (Some(tokens), RowsEntry::Listed(stream)) => {
            let listed = usize::try_from(stream)
                .ok()
                .and_then(|stream| context.streams.get(stream));
            let fits = matches!(
                listed,
                Some(Stream::Section(Section { kind: SectionKind::Positions, len, .. }))
                    if Some(*len) == tokens.checked_mul(8)
            );
            if !fits {
                return Err(contradiction("rows and the list of positions"));
            }
        }
        _ => return Err(contradiction("rows and shape")),
    }
    let keys = matches!(bank.role, Role::Key | Role::RopeKey);
    let table_fits = match bank.rotation {
        None => bank.codec != Codec::KeyChannel,
        Some(table) => {
            let known = usize::try_from(table).is_ok_and(|at| at < context.rotations.len());
            known && keys && !bank.codec.is_exact()
        }
    };
    if !table_fits {
        return Err(contradiction("codec and rotation table"));
    }
    let content = match bank.role {
        Role::Key | Role::RopeKey => Content::Keys,
        Role::Value => Content::Values,
        Role::Latent => Content::Latent,
        _ => Content::Other,
    };
    bank.codec
        .applies(bank.dtype, &bank.shape, content)
        .map_err(|error| Error::new(Code::CodecLength, error.to_string()).at("codec"))
}

/// CAP-S-3 and CAP-S-4: every layer has what it needs.
fn layers(context: &Context) -> Result<()> {
    let mut banks: BTreeMap<u32, [usize; 4]> = BTreeMap::new();
    for (_, bank) in context.banks() {
        let [keys, values, latents, rope_keys] = banks.entry(bank.layer).or_default();
        match bank.role {
            Role::Key => *keys += 1,
            Role::Value => *values += 1,
            Role::Latent => *latents += 1,
            Role::RopeKey => *rope_keys += 1,
            _ => {}
        }
    }
    for (layer, [keys, values, latents, rope_keys]) in &banks {
        if keys != values || (*rope_keys != 0 && rope_keys != latents) {
            return Err(contradiction("keys without values").at(format_args!("layer {layer}")));
        }
    }
    let stateless: BTreeSet<u32> = context.stateless.iter().copied().collect();
    for layer in 0..context.layers {
        if banks.contains_key(&layer) == stateless.contains(&layer) {
            return Err(
                contradiction("layers with and without state").at(format_args!("layer {layer}"))
            );
        }
    }
    if stateless.last().is_some_and(|last| *last >= context.layers) {
        return Err(contradiction("layers without state"));
    }
    Ok(())
}

/// What was measured against the context and the prologue.
pub(crate) fn measured(manifest: &Manifest, prologue: Prologue) -> Result<()> {
    let Manifest {
        context, measured, ..
    } = manifest;
    let terms = &manifest.claims.terms;
    if context.base && (terms.subject.is_some() || terms.session.is_some()) {
        return Err(contradiction("base image and whose it is"));
    }
    if measured.len() != context.streams.len() {
        return Err(contradiction("measured").sides(context.streams.len(), measured.len()));
    }
    let (mut body, mut rows) = (0_u64, 0_u64);
    for (index, (stream, measured)) in context.streams.iter().zip(measured).enumerate() {
        let encoded = measured.encoded_len;
        lengths(stream, encoded).map_err(|error| error.at(format_args!("stream {index}")))?;
        let chunks = encoded.div_ceil(stream.chunk_len());
        if chunks > MAX_CHUNKS {
            return Err(over("too many chunks", MAX_CHUNKS, chunks));
        }
        rows = rows.saturating_add(chunks);
        body = body
            .checked_add(encoded)
            .ok_or_else(|| Error::new(Code::ManifestOffsets, "the streams' lengths overflow"))?;
    }
    if body != prologue.body_len {
        return Err(contradiction("body_len").sides(body, prologue.body_len));
    }
    if rows.saturating_mul(ROW) > prologue.tables_len {
        return Err(Error::new(
            Code::BodyTableRows,
            "the chunk tables do not fit their region",
        )
        .sides(prologue.tables_len / ROW, rows));
    }
    Ok(())
}

fn lengths(stream: &Stream, encoded: u64) -> Result<()> {
    match stream {
        Stream::Section(section) => {
            if encoded != section.len {
                return Err(contradiction("section").sides(section.len, encoded));
            }
        }
        Stream::Bank(bank) => {
            let most = bank.max_len().unwrap_or(0);
            let fits = if bank.codec.is_fixed_rate() {
                encoded == most
            } else {
                (1..=most).contains(&encoded)
            };
            if !fits {
                return Err(Error::new(
                    Code::CodecLength,
                    "the encoded length is not one that the codec gives",
                )
                .sides(most, encoded));
            }
        }
    }
    Ok(())
}
