//! A manifest from its bytes: CDDL and the codes of each field (capsule-v1 §6, §7).

mod binding;
mod stream;

use std::ops::Range;

use self::{
    binding::{model, parent, prefix, rope, rotation, runtime, tokenizer},
    stream::{measured, stream},
};
use super::{
    CaptureFlags, Context, Keys, Manifest, WrappedKey,
    check::{self, contradiction, over},
};
use crate::{
    binding::F64Bits,
    digest::Digest,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::Limits,
    manifest::RecipientKind,
    suite::Suite,
    wire::{
        cbor::{self, Field, Value},
        claims::Claims,
        prologue::{Prologue, VERSION},
    },
};

const FIELD: Code = Code::ManifestField;

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

/// Finite: the exponent is not all ones.
fn finite(field: Field<'_>) -> Result<F64Bits> {
    let bits = F64Bits(u64::from_le_bytes(field.array_of()?));
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
    let profile = fields
        .optional(15, "codec profile")
        .map(digest)
        .transpose()?;
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
        profile,
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
    let refused = |what: &'static str| Error::new(Code::BodyRecipient, what).at("recipients");
    for (at, recipient) in listed.iter().enumerate() {
        let mut later = listed.iter().skip(at + 1);
        if later.any(|other| other.key == recipient.key) {
            return Err(refused("a key id stands twice"));
        }
    }
    let has = |kind| listed.iter().any(|recipient| recipient.kind == kind);
    if has(RecipientKind::X25519) && has(RecipientKind::XWing) {
        return Err(refused(
            "a recipient that is safe from quantum computers stands beside one that is not",
        ));
    }
    Ok(Keys {
        salt,
        commitment,
        recipients: listed,
    })
}

fn recipient(field: Field<'_>) -> Result<WrappedKey> {
    let [number, key, enc, wrapped] = field.tuple()?;
    let kind = RecipientKind::from_number(number.uint()?)
        .ok_or_else(|| number.wrong("is a recipient of a type that is not known"))?;
    let bytes = enc.bytes()?;
    if bytes.len() != kind.enc_len() {
        return Err(enc.wrong("is a byte string of another length"));
    }
    Ok(WrappedKey {
        kind,
        key: KeyId(key.array_of()?),
        enc: bytes.to_vec(),
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
            (Value::Unsigned(key), Value::Bytes(value)) => Ok((*key, value.clone())),
            (Value::Negative(_), Value::Bytes(_)) => {
                Err(all.wrong("holds a key that is not unsigned"))
            }
            _ => Err(all.wrong("holds something else than byte strings")),
        })
        .collect()
}
