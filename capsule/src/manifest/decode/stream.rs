//! Banks and sections, and what is measured of them (capsule-v1 §7).

use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, ParamDtype};

use super::{collect, digest, string};
use crate::{
    error::{Code, Error, Result},
    limits::{Limits, MAX_CHUNK, MIN_CHUNK},
    manifest::{
        BankEntry, Role, RowsEntry, Section, SectionKind, Stream, StreamDigest,
        check::contradiction, encode::role_code,
    },
    wire::cbor::Field,
};

pub(super) fn stream(field: Field<'_>, limits: &Limits) -> Result<Stream> {
    let mut fields = field.fields()?;
    let tag = fields.required(1, "stream kind")?;
    match tag.uint()? {
        0 => {}
        1 => {
            let kind = fields.required(2, "section kind")?;
            let name = fields.required(3, "section name")?;
            let section = Section {
                kind: section_kind(kind, name)?,
                len: fields.required(10, "plain length")?.uint()?,
                chunk_len: chunk_len(fields.required(11, "chunk length")?)?,
            };
            fields.end()?;
            return Ok(Stream::Section(section));
        }
        _ => return Err(tag.wrong("is neither a bank nor a section")),
    }
    let role_field = fields.required(2, "role")?;
    let role = role(role_field.uint()?).ok_or_else(|| role_field.wrong("is not a known role"))?;
    let layer = fields.required(3, "layer")?.small()?;
    let index = fields.required(4, "index")?.small()?;
    let dtype = dtype(fields.required(5, "dtype")?)?;
    let shape = shape(fields.required(6, "shape")?, limits)?;
    let rows = rows(fields.required(7, "rows")?)?;
    let window = fields.required(8, "window")?.uint()?;
    let taken = codec(fields.required(9, "codec")?)?;
    let plain_len = fields.required(10, "plain length")?.uint()?;
    let chunk_len = chunk_len(fields.required(11, "chunk length")?)?;
    let asked = fields
        .optional(12, "codec asked for")
        .map(codec)
        .transpose()?;
    let rotation = fields
        .optional(13, "rotation table")
        .map(|table| table.small())
        .transpose()?;
    let hadamard = match fields.optional(14, "Hadamard block") {
        None => 0,
        Some(block) => match block.small()? {
            0 => return Err(block.wrong("is 0, which is left out")),
            block => block,
        },
    };
    fields.end()?;
    if shape.plain_len(dtype) != Some(plain_len) || plain_len == 0 {
        let from_shape = shape.plain_len(dtype).map_or_else(
            || "a length that does not overflow".to_owned(),
            |len| len.to_string(),
        );
        return Err(contradiction("plain length and shape").sides(from_shape, plain_len));
    }
    Ok(Stream::Bank(BankEntry {
        role,
        layer,
        index,
        dtype,
        shape,
        rows,
        window,
        codec: taken,
        rotation,
        hadamard,
        chunk_len,
        asked,
    }))
}

fn role(code: u64) -> Option<Role> {
    [
        Role::Key,
        Role::Value,
        Role::Latent,
        Role::RopeKey,
        Role::Recurrent,
        Role::Convolution,
        Role::IndexKey,
        Role::Opaque,
    ]
    .into_iter()
    .find(|role| role_code(*role) == code)
}

fn section_kind(kind: Field<'_>, name: Field<'_>) -> Result<SectionKind> {
    let kind = match kind.uint()? {
        1 => SectionKind::Tokens,
        2 => SectionKind::History,
        3 => SectionKind::AgentState,
        4 => SectionKind::Residue,
        5 => SectionKind::Positions,
        6 => SectionKind::Prefix,
        8 => SectionKind::Receipts,
        7 => SectionKind::Other(string(name)?),
        _ => return Err(kind.wrong("is not a known kind of section")),
    };
    if name.text()? != kind.code().1 || kind == SectionKind::Other(String::new()) {
        return Err(name.wrong("is not the name that the section's kind has"));
    }
    Ok(kind)
}

fn chunk_len(field: Field<'_>) -> Result<u64> {
    let len = field.uint()?;
    if !(MIN_CHUNK..=MAX_CHUNK).contains(&len) {
        return Err(
            Error::new(Code::ManifestLimit, "a chunk length is out of range")
                .sides(format_args!("{MIN_CHUNK} to {MAX_CHUNK}"), len),
        );
    }
    Ok(len)
}

fn dtype(field: Field<'_>) -> Result<Dtype> {
    let unknown = || field.wrong("is not a known element type");
    let from = |code: Field<'_>, affine| {
        let code = u8::try_from(code.uint()?).map_err(|_| unknown())?;
        Dtype::from_code(code, affine).ok_or_else(unknown)
    };
    if field.list().is_err() {
        return from(field, None);
    }
    let [code, bits, group, params] = field.tuple()?;
    let params = ParamDtype::from_dtype(from(params, None)?).ok_or_else(unknown)?;
    let affine = AffineParams::new(bits.small()?, group.small()?, params).ok_or_else(unknown)?;
    from(code, Some(affine))
}

fn shape(field: Field<'_>, limits: &Limits) -> Result<BankShape> {
    let dims: Vec<u64> = collect(
        field,
        limits.dimensions.saturating_add(1),
        "too many dimensions",
        Field::uint,
    )?;
    match dims.as_slice() {
        [0, heads, tokens, dim] => Ok(BankShape::Tokens {
            heads: *heads,
            tokens: *tokens,
            dim: *dim,
        }),
        [1, dims @ ..] => Ok(BankShape::Whole { dims: dims.into() }),
        _ => Err(field.wrong("is not a known shape")),
    }
}

fn rows(field: Field<'_>) -> Result<RowsEntry> {
    let parts: Vec<Field<'_>> = field.list()?.collect();
    let kind = parts.first().map(|kind| kind.uint()).transpose()?;
    match (kind, parts.as_slice()) {
        (Some(0), [_, start]) => Ok(RowsEntry::From(start.uint()?)),
        (Some(1), [_, stream]) => Ok(RowsEntry::Listed(stream.small()?)),
        (Some(2), [_]) => Ok(RowsEntry::None),
        _ => Err(field.wrong("does not say which positions the rows stand for")),
    }
}

fn codec(field: Field<'_>) -> Result<Codec> {
    let unknown = || {
        Error::new(
            Code::CodecUnknown,
            "the codec or its parameters are not known",
        )
    };
    let parts: Vec<u64> = field.list()?.map(Field::uint).collect::<Result<_>>()?;
    let [id, params @ ..] = parts.as_slice() else {
        return Err(unknown());
    };
    Codec::from_id(*id, params).map_err(|_| unknown())
}

pub(super) fn measured(field: Field<'_>) -> Result<StreamDigest> {
    let [len, table] = field.tuple()?;
    Ok(StreamDigest {
        encoded_len: u64::from_le_bytes(len.array_of()?),
        table: digest(table)?,
    })
}
