//! A manifest from its bytes: CDDL and the codes of each field (capsule-v1 §5, §6).

use std::ops::Range;

use ciborium::Value;
use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, ParamDtype};

use super::{
    BankEntry, CaptureFlags, Context, Fallback, Keys, Manifest, Measured, Parent, Prefix,
    Recipient, RotationTable, RowsEntry, Section, SectionKind, Stream, Suite, check,
};
use crate::{
    bank::Role,
    binding::{
        Adapter, Digest, F64Bits, KeyBasis, Model, Pairing, Rope, Runtime, Scaling, Tokenizer,
    },
    cbor::{self, Field},
    envelope::Claims,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::{Limits, MAX_CHUNK, MIN_CHUNK},
    prologue::{Prologue, VERSION},
};

const FIELD: Code = Code::ManifestField;
const MOST_FREQUENCIES: usize = 1024;

/// Reads a payload that the signature has passed, and checks it against itself and the prologue.
pub(crate) fn decode(
    payload: &[u8],
    claims: Claims,
    prologue: Prologue,
    limits: &Limits,
) -> Result<Manifest> {
    let value = cbor::decode(payload)?;
    let manifest = Field::new(&value, "manifest", FIELD);
    let mut fields = manifest.fields()?;
    let version = fields.required(1, "version")?.uint()?;
    if version != u64::from(VERSION) {
        return Err(contradiction("version").sides(VERSION, version));
    }
    let context = context(fields.required(2, "context")?, limits)?;
    let measured = collect(
        fields.required(3, "measured")?,
        limits.streams,
        "too many streams",
        measured,
    )?;
    let keys = keys(fields.required(4, "keys")?, limits)?;
    let tables_len = fields.required(5, "tables_len")?.uint()?;
    let extensions = fields
        .optional(6, "extensions")
        .map(extensions)
        .transpose()?
        .unwrap_or_default();
    fields.end()?;
    let manifest = Manifest {
        claims,
        context,
        measured,
        keys,
        tables_len,
        extensions,
    };
    if manifest.tables_len != prologue.tables_len {
        return Err(contradiction("tables_len").sides(tables_len, prologue.tables_len));
    }
    check::context(&manifest.context)?;
    check::measured(&manifest, prologue)?;
    Ok(manifest)
}

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

fn collect<'a, T>(
    field: Field<'a>,
    limit: u64,
    what: &'static str,
    read: impl Fn(Field<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let items = field.list()?;
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if count > limit {
        return Err(over(what, limit, count));
    }
    items.map(read).collect()
}

fn digest(field: Field<'_>) -> Result<Digest> {
    field.array_of().map(Digest)
}

/// Any bits: a measured error may be infinite.
fn any_f64(field: Field<'_>) -> Result<F64Bits> {
    Ok(F64Bits(u64::from_le_bytes(field.array_of()?)))
}

/// Finite: the exponent is not all ones.
fn finite(field: Field<'_>) -> Result<F64Bits> {
    let bits = any_f64(field)?;
    if !bits.is_finite() {
        return Err(field.wrong("is not a finite number"));
    }
    Ok(bits)
}

fn string(field: Field<'_>) -> Result<String> {
    field.text().map(str::to_owned)
}

fn ascending(field: Field<'_>, limit: u64) -> Result<Vec<u32>> {
    let list = collect(field, limit, "too many layers", Field::small::<u32>)?;
    if !list.is_sorted_by(|a, b| a < b) {
        return Err(field.wrong("is not ascending"));
    }
    Ok(list)
}

/// Pairs whose first elements ascend.
fn named<T>(field: Field<'_>, read: impl Fn(Field<'_>) -> Result<T>) -> Result<Vec<(String, T)>> {
    let pairs = field
        .list()?
        .map(|pair| {
            let [name, value] = pair.tuple()?;
            Ok((string(name)?, read(value)?))
        })
        .collect::<Result<Vec<_>>>()?;
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(field.wrong("is not ascending"));
    }
    Ok(pairs)
}

fn range(field: Field<'_>) -> Result<Range<u64>> {
    let [start, end] = field.tuple()?;
    Ok(start.uint()?..end.uint()?)
}

fn context(field: Field<'_>, limits: &Limits) -> Result<Context> {
    let mut fields = field.fields()?;
    let suite = fields.required(1, "suite")?.uint()?;
    let suite = Suite::from_number(suite).ok_or_else(|| {
        Error::new(Code::ManifestSuite, "the suite is not known").sides("1 or 2", suite)
    })?;
    let model = model(fields.required(2, "model")?, limits)?;
    let tokenizer = tokenizer(fields.required(3, "tokenizer")?)?;
    let runtime = runtime(fields.required(4, "runtime")?)?;
    let rope = fields
        .required(5, "rope")?
        .list()?
        .map(|entry| rope(entry, limits))
        .collect::<Result<_>>()?;
    let prefix = prefix(fields.required(6, "prefix")?)?;
    let positions = range(fields.required(7, "positions")?)?;
    let flags = fields.required(8, "capture flags")?;
    let flags = CaptureFlags::from_bits(flags.uint()?)
        .ok_or_else(|| flags.wrong("holds a flag that is not known"))?;
    let context_length = fields.required(9, "context length")?.uint()?;
    let [layers, stateless] = fields.required(10, "layers")?.tuple()?;
    let count = layers.uint()?;
    if count > limits.layers {
        return Err(over("too many layers", limits.layers, count));
    }
    let layers = layers.small()?;
    let stateless = ascending(stateless, limits.layers)?;
    let rotations = collect(
        fields.required(11, "rotations")?,
        limits.layers,
        "too many rotation tables",
        rotation,
    )?;
    let streams = collect(
        fields.required(12, "streams")?,
        limits.streams,
        "too many streams",
        |entry| stream(entry, limits),
    )?;
    let parent = fields.optional(13, "parent").map(parent).transpose()?;
    let base = match fields.optional(14, "base") {
        None => false,
        Some(field) if field.uint()? == 1 => true,
        Some(field) => return Err(field.wrong("is not 1")),
    };
    fields.end()?;
    Ok(Context {
        suite,
        model,
        tokenizer,
        runtime,
        rope,
        prefix,
        positions,
        flags,
        context_length,
        layers,
        stateless,
        rotations,
        streams,
        parent,
        base,
    })
}

fn model(field: Field<'_>, limits: &Limits) -> Result<Model> {
    let mut fields = field.fields()?;
    let id = digest(fields.required(1, "model id")?)?;
    let weights = digest(fields.required(2, "weights digest")?)?;
    let config = digest(fields.required(3, "config digest")?)?;
    let adapters = collect(
        fields.required(4, "adapters")?,
        limits.adapters,
        "too many adapters",
        |entry| {
            let [of, scale] = entry.tuple()?;
            Ok(Adapter {
                digest: digest(of)?,
                scale: finite(scale)?,
            })
        },
    )?;
    let name = string(fields.required(5, "model name")?)?;
    fields.end()?;
    Ok(Model {
        id,
        weights,
        config,
        adapters,
        name,
    })
}

fn tokenizer(field: Field<'_>) -> Result<Tokenizer> {
    let mut fields = field.fields()?;
    let vocab = digest(fields.required(1, "vocabulary digest")?)?;
    let vocab_size = fields.required(2, "vocabulary size")?.small()?;
    let version = string(fields.required(3, "tokenizer version")?)?;
    let pre_tokenizer = string(fields.required(4, "pre-tokenizer")?)?;
    let specials = named(fields.required(5, "special tokens")?, |id| id.small())?;
    let chat_template = fields
        .optional(6, "chat template")
        .map(digest)
        .transpose()?;
    fields.end()?;
    Ok(Tokenizer {
        vocab,
        vocab_size,
        version,
        pre_tokenizer,
        specials,
        chat_template,
    })
}

fn runtime(field: Field<'_>) -> Result<Runtime> {
    let mut fields = field.fields()?;
    let name = string(fields.required(1, "runtime name")?)?;
    let version = string(fields.required(2, "runtime version")?)?;
    let format = string(fields.required(3, "state format")?)?;
    let facts = named(fields.required(4, "layout facts")?, string)?;
    fields.end()?;
    Ok(Runtime {
        name,
        version,
        format,
        facts,
    })
}

fn pairing(field: Field<'_>) -> Result<Pairing> {
    match field.uint()? {
        0 => Ok(Pairing::Half),
        1 => Ok(Pairing::Interleaved),
        _ => Err(field.wrong("is not a known pairing")),
    }
}

fn rope(field: Field<'_>, limits: &Limits) -> Result<Rope> {
    let mut fields = field.fields()?;
    let layers = fields.required(1, "rope layers")?;
    let listed = ascending(layers, limits.layers)?;
    if listed.is_empty() {
        return Err(layers.wrong("is empty"));
    }
    let pairing = pairing(fields.required(2, "rope pairing")?)?;
    let rotary_dims = fields.required(3, "rotary dims")?.small()?;
    let theta = finite(fields.required(4, "rope theta")?)?;
    let scaling = scaling(fields.required(5, "rope scaling")?)?;
    let offset = fields.required(6, "rope offset")?.int()?;
    let keys = fields.required(7, "key basis")?;
    let keys = match keys.uint()? {
        0 => KeyBasis::PostRope,
        1 => KeyBasis::PreRope,
        _ => return Err(keys.wrong("is not a known basis")),
    };
    let hadamard_keys = fields.required(8, "key rotation")?.small()?;
    let hadamard_values = fields.required(9, "value rotation")?.small()?;
    fields.end()?;
    Ok(Rope {
        layers: listed,
        pairing,
        rotary_dims,
        theta,
        scaling,
        offset,
        keys,
        hadamard_keys,
        hadamard_values,
    })
}

fn scaling(field: Field<'_>) -> Result<Scaling> {
    let list = |field: Field<'_>| {
        let values: Vec<F64Bits> = field.list()?.map(finite).collect::<Result<_>>()?;
        match values.len() {
            1..=MOST_FREQUENCIES => Ok(values),
            _ => Err(field.wrong("has no values or too many")),
        }
    };
    let kind = field
        .list()?
        .next()
        .ok_or_else(|| field.wrong("is empty"))?
        .uint()?;
    Ok(match kind {
        0 => {
            let [_] = field.tuple()?;
            Scaling::None
        }
        1 => {
            let [_, factor] = field.tuple()?;
            let factor = finite(factor)?;
            Scaling::Linear { factor }
        }
        2 => {
            let [
                _,
                factor,
                original,
                fast,
                slow,
                mscale,
                all,
                attention,
                truncate,
            ] = field.tuple()?;
            Scaling::Yarn {
                factor: finite(factor)?,
                original: original.uint()?,
                beta_fast: finite(fast)?,
                beta_slow: finite(slow)?,
                mscale: finite(mscale)?,
                mscale_all_dim: finite(all)?,
                attention_factor: finite(attention)?,
                truncate: truncate.bool()?,
            }
        }
        3 => {
            let [_, factor, low, high, original] = field.tuple()?;
            Scaling::Llama3 {
                factor: finite(factor)?,
                low_freq_factor: finite(low)?,
                high_freq_factor: finite(high)?,
                original: original.uint()?,
            }
        }
        4 => {
            let [_, short, long, original, attention, used] = field.tuple()?;
            Scaling::LongRope {
                short: list(short)?,
                long: list(long)?,
                original: original.uint()?,
                attention_factor: finite(attention)?,
                long_used: used.bool()?,
            }
        }
        5 => {
            let [_, factors] = field.tuple()?;
            let factors = list(factors)?;
            Scaling::Factors { factors }
        }
        6 => {
            let [_, factor] = field.tuple()?;
            let factor = finite(factor)?;
            Scaling::Proportional { factor }
        }
        7 => {
            let [_, sections, interleaved] = field.tuple()?;
            let listed: Vec<u32> = sections.list()?.map(Field::small).collect::<Result<_>>()?;
            if listed.is_empty() {
                return Err(sections.wrong("is empty"));
            }
            Scaling::Multi {
                sections: listed,
                interleaved: interleaved.bool()?,
            }
        }
        _ => return Err(field.wrong("is not a known kind of scaling")),
    })
}

fn rotation(field: Field<'_>) -> Result<RotationTable> {
    let [pairs, factor, frequencies] = field.tuple()?;
    let (values, rest) = frequencies.bytes()?.as_chunks::<8>();
    if values.is_empty() || values.len() > MOST_FREQUENCIES || !rest.is_empty() {
        return Err(frequencies.wrong("is not 1 to 1,024 numbers of 8 bytes"));
    }
    let values: Vec<F64Bits> = values
        .iter()
        .map(|value| F64Bits(u64::from_le_bytes(*value)))
        .collect();
    if !values.iter().all(|value| value.is_finite()) {
        return Err(frequencies.wrong("holds a number that is not finite"));
    }
    Ok(RotationTable {
        pairing: pairing(pairs)?,
        attention_factor: finite(factor)?,
        frequencies: values,
    })
}

fn prefix(field: Field<'_>) -> Result<Prefix> {
    let mut fields = field.fields()?;
    let scheme = fields.required(1, "prefix scheme")?;
    let prefix = match scheme.uint()? {
        0 => Prefix::None,
        1 => Prefix::Keyed {
            key: KeyId(fields.required(2, "prefix key id")?.array_of()?),
            commitment: digest(fields.required(3, "prefix commitment")?)?,
            tokens: fields.required(4, "prefix tokens")?.uint()?,
        },
        2 => Prefix::Public {
            value: digest(fields.required(3, "prefix value")?)?,
            tokens: fields.required(4, "prefix tokens")?.uint()?,
        },
        _ => return Err(scheme.wrong("is not a known scheme")),
    };
    fields.end()?;
    Ok(prefix)
}

fn parent(field: Field<'_>) -> Result<Parent> {
    let mut fields = field.fields()?;
    let digest = digest(fields.required(1, "parent digest")?)?;
    let positions = range(fields.required(2, "parent positions")?)?;
    fields.end()?;
    Ok(Parent { digest, positions })
}

fn stream(field: Field<'_>, limits: &Limits) -> Result<Stream> {
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
    let codec = codec(fields.required(9, "codec")?)?;
    let plain_len = fields.required(10, "plain length")?.uint()?;
    let chunk_len = chunk_len(fields.required(11, "chunk length")?)?;
    let fallback = fields.optional(12, "fallback").map(fallback).transpose()?;
    let rotation = fields
        .optional(13, "rotation table")
        .map(|table| table.small())
        .transpose()?;
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
        codec,
        rotation,
        chunk_len,
        fallback,
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
    .find(|role| super::encode::role_code(*role) == code)
}

fn section_kind(kind: Field<'_>, name: Field<'_>) -> Result<SectionKind> {
    let kind = match kind.uint()? {
        1 => SectionKind::Tokens,
        2 => SectionKind::History,
        3 => SectionKind::AgentState,
        4 => SectionKind::Residue,
        5 => SectionKind::Positions,
        6 => SectionKind::Prefix,
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
    let small = |value: u64| u8::try_from(value).map_err(|_| unknown());
    let (id, params) = match *parts.as_slice() {
        [id] => (id, None),
        [id, bits, group] => {
            let group = u16::try_from(group).map_err(|_| unknown())?;
            (id, Some((small(bits)?, group)))
        }
        _ => return Err(unknown()),
    };
    Codec::from_id(small(id)?, params).map_err(|_| unknown())
}

fn fallback(field: Field<'_>) -> Result<Fallback> {
    let [from, limit, seen] = field.tuple()?;
    Ok(Fallback {
        from: codec(from)?,
        limit: any_f64(limit)?,
        seen: any_f64(seen)?,
    })
}

fn measured(field: Field<'_>) -> Result<Measured> {
    let parts: Vec<Field<'_>> = field.list()?.collect();
    let (len, table, receipt) = match *parts.as_slice() {
        [len, table] => (len, table, None),
        [len, table, receipt] => (len, table, Some(receipt.array_of()?)),
        _ => return Err(field.wrong("is an array of another length")),
    };
    Ok(Measured {
        encoded_len: u64::from_le_bytes(len.array_of()?),
        table: digest(table)?,
        receipt,
    })
}

fn keys(field: Field<'_>, limits: &Limits) -> Result<Keys> {
    let mut fields = field.fields()?;
    let salt = fields.required(1, "salt")?.array_of()?;
    let commitment = digest(fields.required(2, "key commitment")?)?;
    let recipients = fields.required(3, "recipients")?;
    fields.end()?;
    let listed = collect(
        recipients,
        limits.recipients,
        "too many recipients",
        |entry| recipient(entry.with(Code::BodyRecipient)),
    )?;
    if listed.is_empty() {
        return Err(recipients.wrong("is empty"));
    }
    for (at, recipient) in listed.iter().enumerate() {
        if listed
            .iter()
            .skip(at + 1)
            .any(|other| other.key == recipient.key)
        {
            return Err(Error::new(Code::BodyRecipient, "a key id stands twice").at("recipients"));
        }
    }
    Ok(Keys {
        salt,
        commitment,
        recipients: listed,
    })
}

fn recipient(field: Field<'_>) -> Result<Recipient> {
    let [kind, key, nonce, wrapped] = field.tuple()?;
    if kind.uint()? != 1 {
        return Err(kind.wrong("is a recipient of a type that is not known"));
    }
    Ok(Recipient {
        key: KeyId(key.array_of()?),
        nonce: nonce.array_of()?,
        wrapped: wrapped.array_of()?,
    })
}

fn extensions(field: Field<'_>) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut fields = field.fields()?;
    let critical = fields.required(1, "critical extensions")?;
    let listed: Vec<u64> = critical.list()?.map(Field::uint).collect::<Result<_>>()?;
    let all = fields.required(2, "extensions")?;
    fields.end()?;
    if !listed.is_sorted_by(|a, b| a < b) {
        return Err(critical.wrong("is not ascending"));
    }
    if let Some(key) = listed.first() {
        return Err(Error::new(
            Code::ManifestCriticalExtension,
            "a critical extension is not known",
        )
        .at(format_args!("extension {key}")));
    }
    let entries = all.entries()?;
    if entries.is_empty() {
        return Err(all.wrong("is empty"));
    }
    entries
        .iter()
        .map(|(key, value)| match (key, value) {
            (Value::Integer(key), Value::Bytes(value)) => u64::try_from(*key)
                .map(|key| (key, value.clone()))
                .map_err(|_| all.wrong("holds a key that is not unsigned")),
            _ => Err(all.wrong("holds something else than byte strings")),
        })
        .collect()
}
