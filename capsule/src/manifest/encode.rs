//! A manifest's bytes.

use std::ops::Range;

use kvcap_codecs::{BankShape, Codec, Dtype};

use super::{
    BankEntry, Context, Keys, Prefix, RotationTable, RowsEntry, Section, Stream, StreamDigest,
};
use crate::{
    binding::{F64Bits, KeyBasis, Model, Pairing, Rope, Runtime, Scaling, Tokenizer},
    manifest::Role,
    wire::{
        cbor::{Value, array, bytes, encode as encode_item, encode_map, int, map, text, uint},
        prologue::VERSION,
    },
};

/// The payload of an encoded context. Its length depends on the context, the recipients' number and
/// `extensions` alone, so that room for it can be kept before anything is measured.
pub(crate) fn encode(
    context: &[u8],
    measured: &[StreamDigest],
    keys: &Keys,
    tables_len: u64,
    extensions: &[(u64, Vec<u8>)],
) -> Vec<u8> {
    let extensions = (!extensions.is_empty()).then(|| {
        let all = extensions
            .iter()
            .map(|(key, value)| (uint(*key), bytes(value.as_slice())));
        map([(1, Some(array([]))), (2, Some(Value::Map(all.collect())))])
    });
    let version = encode_item(&uint(VERSION.into()));
    let measured = encode_item(&array(measured.iter().map(measured_value)));
    let keys = encode_keys(keys);
    // fixed width would be kinder to the writer; the value is known before the first byte
    let tables_len = encode_item(&uint(tables_len));
    let extensions = extensions.as_ref().map(encode_item);
    let mut entries: Vec<(u64, &[u8])> = vec![
        (1, &version),
        (2, context),
        (3, &measured),
        (4, &keys),
        (5, &tables_len),
    ];
    entries.extend(extensions.as_deref().map(|extensions| (6, extensions)));
    encode_map(&entries)
}

/// The bytes of key 4: all of a payload that a new wrapping changes.
pub(crate) fn encode_keys(keys: &Keys) -> Vec<u8> {
    let recipients = keys.recipients.iter().map(|recipient| {
        array([
            uint(recipient.kind.number()),
            bytes(recipient.key.0),
            bytes(recipient.enc.as_slice()),
            bytes(recipient.wrapped),
        ])
    });
    encode_item(&map([
        (1, Some(bytes(keys.salt))),
        (2, Some(bytes(keys.commitment.0))),
        (3, Some(array(recipients))),
    ]))
}

/// The bytes of key 2, which enter the keys of the body.
pub(crate) fn encode_context(context: &Context) -> Vec<u8> {
    encode_item(&context_value(context))
}

fn f64_bits(bits: &F64Bits) -> Value {
    bytes(bits.0.to_le_bytes())
}

fn measured_value(measured: &StreamDigest) -> Value {
    array([
        bytes(measured.encoded_len.to_le_bytes()),
        bytes(measured.table.0),
    ])
}

fn context_value(context: &Context) -> Value {
    let layers = array([
        uint(context.layers.into()),
        array(context.stateless.iter().map(|layer| uint((*layer).into()))),
    ]);
    let parent = context.parent.as_ref().map(|parent| {
        let Range { start, end } = parent.positions.clone();
        map([
            (1, Some(bytes(parent.digest.0))),
            (2, Some(array([uint(start), uint(end)]))),
        ])
    });
    let positions = array([uint(context.positions.start), uint(context.positions.end)]);
    map([
        (1, Some(uint(context.suite.number()))),
        (2, Some(model(&context.model))),
        (3, Some(tokenizer(&context.tokenizer))),
        (4, Some(runtime(&context.runtime))),
        (5, Some(array(context.rope.iter().map(rope)))),
        (6, Some(prefix(&context.prefix))),
        (7, Some(positions)),
        (8, Some(uint(context.flags.bits()))),
        (9, Some(uint(context.context_length))),
        (10, Some(layers)),
        (11, Some(array(context.rotations.iter().map(rotation)))),
        (12, Some(array(context.streams.iter().map(stream)))),
        (13, parent),
        (14, context.base.then(|| uint(1))),
        (15, context.profile.as_ref().map(|digest| bytes(digest.0))),
    ])
}

fn model(model: &Model) -> Value {
    let adapters = model
        .adapters
        .iter()
        .map(|adapter| array([bytes(adapter.digest.0), f64_bits(&adapter.scale)]));
    map([
        (1, Some(bytes(model.id.0))),
        (2, Some(bytes(model.weights.0))),
        (3, Some(bytes(model.config.0))),
        (4, Some(array(adapters))),
        (5, Some(text(&model.name))),
    ])
}

fn tokenizer(tokenizer: &Tokenizer) -> Value {
    let specials = tokenizer
        .specials
        .iter()
        .map(|(name, id)| array([text(name), uint((*id).into())]));
    map([
        (1, Some(bytes(tokenizer.vocab.0))),
        (2, Some(uint(tokenizer.vocab_size.into()))),
        (3, Some(text(&tokenizer.version))),
        (4, Some(text(&tokenizer.pre_tokenizer))),
        (5, Some(array(specials))),
        (6, tokenizer.chat_template.map(|digest| bytes(digest.0))),
    ])
}

fn runtime(runtime: &Runtime) -> Value {
    let facts = runtime
        .facts
        .iter()
        .map(|(name, value)| array([text(name), text(value)]));
    map([
        (1, Some(text(&runtime.name))),
        (2, Some(text(&runtime.version))),
        (3, Some(text(&runtime.format))),
        (4, Some(array(facts))),
    ])
}

fn pairing(pairing: Pairing) -> Value {
    uint(match pairing {
        Pairing::Half => 0,
        Pairing::Interleaved => 1,
    })
}

fn rope(rope: &Rope) -> Value {
    let keys = match rope.keys {
        KeyBasis::PostRope => 0,
        KeyBasis::PreRope => 1,
    };
    map([
        (
            1,
            Some(array(rope.layers.iter().map(|l| uint((*l).into())))),
        ),
        (2, Some(pairing(rope.pairing))),
        (3, Some(uint(rope.rotary_dims.into()))),
        (4, Some(f64_bits(&rope.theta))),
        (5, Some(scaling(&rope.scaling))),
        (6, Some(int(rope.offset))),
        (7, Some(uint(keys))),
    ])
}

pub(super) fn scaling(scaling: &Scaling) -> Value {
    let list = |values: &[F64Bits]| array(values.iter().map(f64_bits));
    match scaling {
        Scaling::None => array([uint(0)]),
        Scaling::Linear { factor } => array([uint(1), f64_bits(factor)]),
        Scaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            attention_factor,
            truncate,
        } => array([
            uint(2),
            f64_bits(factor),
            uint(*original),
            f64_bits(beta_fast),
            f64_bits(beta_slow),
            f64_bits(mscale),
            f64_bits(mscale_all_dim),
            f64_bits(attention_factor),
            Value::Bool(*truncate),
        ]),
        Scaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => array([
            uint(3),
            f64_bits(factor),
            f64_bits(low_freq_factor),
            f64_bits(high_freq_factor),
            uint(*original),
        ]),
        Scaling::LongRope {
            short,
            long,
            original,
            attention_factor,
            long_used,
        } => array([
            uint(4),
            list(short),
            list(long),
            uint(*original),
            f64_bits(attention_factor),
            Value::Bool(*long_used),
        ]),
        Scaling::Factors { factors } => array([uint(5), list(factors)]),
        Scaling::Proportional { factor } => array([uint(6), f64_bits(factor)]),
        Scaling::Multi {
            sections,
            interleaved,
        } => array([
            uint(7),
            array(sections.iter().map(|pairs| uint((*pairs).into()))),
            Value::Bool(*interleaved),
        ]),
    }
}

fn rotation(table: &RotationTable) -> Value {
    let frequencies: Vec<u8> = table
        .frequencies
        .iter()
        .flat_map(|frequency| frequency.0.to_le_bytes())
        .collect();
    array([
        pairing(table.pairing),
        f64_bits(&table.attention_factor),
        bytes(frequencies),
    ])
}

fn prefix(prefix: &Prefix) -> Value {
    match prefix {
        Prefix::None => map([(1, Some(uint(0)))]),
        Prefix::Keyed {
            key,
            commitment,
            tokens,
        } => map([
            (1, Some(uint(1))),
            (2, Some(bytes(key.0))),
            (3, Some(bytes(commitment.0))),
            (4, Some(uint(*tokens))),
        ]),
        Prefix::Public { value, tokens } => map([
            (1, Some(uint(2))),
            (3, Some(bytes(value.0))),
            (4, Some(uint(*tokens))),
        ]),
    }
}

fn stream(stream: &Stream) -> Value {
    match stream {
        Stream::Bank(entry) => bank(entry),
        Stream::Section(entry) => section(entry),
    }
}

fn bank(bank: &BankEntry) -> Value {
    let dtype = match bank.dtype {
        Dtype::MlxAffine(params) => array([
            uint(bank.dtype.code().into()),
            uint(params.bits.into()),
            uint(params.group.into()),
            uint(params.params.dtype().code().into()),
        ]),
        plain => uint(plain.code().into()),
    };
    let shape = match &bank.shape {
        BankShape::Tokens { heads, tokens, dim } => {
            array([uint(0), uint(*heads), uint(*tokens), uint(*dim)])
        }
        BankShape::Whole { dims } => {
            array([uint(1)].into_iter().chain(dims.iter().map(|d| uint(*d))))
        }
    };
    let rows = match bank.rows {
        RowsEntry::From(start) => array([uint(0), uint(start)]),
        RowsEntry::Listed(stream) => array([uint(1), uint(stream.into())]),
        RowsEntry::None => array([uint(2)]),
    };
    map([
        (1, Some(uint(0))),
        (2, Some(uint(role_code(bank.role)))),
        (3, Some(uint(bank.layer.into()))),
        (4, Some(uint(bank.index.into()))),
        (5, Some(dtype)),
        (6, Some(shape)),
        (7, Some(rows)),
        (8, Some(uint(bank.window))),
        (9, Some(codec(bank.codec))),
        (10, bank.shape.plain_len(bank.dtype).map(uint)),
        (11, Some(uint(bank.chunk_len))),
        (12, bank.asked.map(codec)),
        (13, bank.rotation.map(|table| uint(table.into()))),
        (14, (bank.hadamard != 0).then(|| uint(bank.hadamard.into()))),
    ])
}

fn codec(codec: Codec) -> Value {
    let params = codec.params().into_iter().map(uint);
    array([uint(codec.id().into())].into_iter().chain(params))
}

fn section(section: &Section) -> Value {
    let (kind, name) = section.kind.code();
    map([
        (1, Some(uint(1))),
        (2, Some(uint(kind))),
        (3, Some(text(name))),
        (10, Some(uint(section.len))),
        (11, Some(uint(section.chunk_len))),
    ])
}

/// The registered code of a role (capsule-v1 §7.1).
pub(super) const fn role_code(role: Role) -> u64 {
    match role {
        Role::Key => 0,
        Role::Value => 1,
        Role::Latent => 2,
        Role::RopeKey => 3,
        Role::Recurrent => 4,
        Role::Convolution => 5,
        Role::IndexKey => 6,
        Role::Opaque => 7,
    }
}
