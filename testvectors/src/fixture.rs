//! The capsule that most vectors start from: small, and with something of everything that a case
//! needs to reach.
//!
//! Keys, bytes and randomness are fixed, so that the same source gives the same files.

use std::sync::Mutex;

use kvcap::{
    BankEntry, CaptureFlags, Context, Draft, Prefix, PrefixValue, Recipient, Role, RowsEntry,
    Sealer, Section, SectionKind, SigningKey, Stream, Suite, Terms, WrappingKey,
    binding::{
        Adapter, Digest, F64Bits, KeyBasis, Model, Pairing, Rope, Runtime, Scaling, Tokenizer,
    },
    hazmat::Entropy,
};
use kvcap_codecs::{BankShape, Codec, Dtype};

/// The verifier's clock in most vectors.
pub const NOW: u64 = 1_800_000_000;
/// Time at which the base capsule was issued, and the first second of its validity.
pub const ISSUED: u64 = NOW - 1000;
/// Its expiry.
pub const EXPIRES: u64 = ISSUED + 86_400;
/// Its audience.
pub const AUDIENCE: &str = "kv.example.com";
/// Its issuer.
pub const ISSUER: &str = "prefill.example.com";
/// Its subject, with a letter that Unicode can compose in two ways.
pub const SUBJECT: &str = "ren\u{e9}e";
/// Its tenant.
pub const TENANT: &str = "acme";
/// Rows of the base capsule's banks, and tokens of its prompt.
pub const TOKENS: u64 = 65;
/// Smallest chunk length: what the base capsule uses.
pub const CHUNK: u64 = 4096;

/// Seed of the signing key that vectors trust.
pub const SIGN_SEED: [u8; 32] = [0x51; 32];
/// Seed of another tenant's signing key.
pub const OTHER_SEED: [u8; 32] = [0x52; 32];
/// The wrapping key.
pub const WRAP_KEY: [u8; 32] = [0x61; 32];
/// Another wrapping key.
pub const OTHER_WRAP: [u8; 32] = [0x62; 32];

/// A wrapping key of type 2.
pub const HPKE_KEY: [u8; 32] = [0x63; 32];
/// A wrapping key of type 3.
pub const XWING_KEY: [u8; 32] = [0x64; 32];

/// A file and the encoded bytes of each of its streams.
#[derive(Clone)]
pub struct Capsule {
    /// The file.
    pub file: Vec<u8>,
    /// Each stream's encoded bytes, before encryption.
    pub plain: Vec<Vec<u8>>,
}

/// Bytes that look like nothing in particular and are the same every time.
#[must_use]
pub fn noise(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("kvcap v1 test noise")
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A digest of nothing: its bytes follow from `name`.
#[must_use]
pub fn digest(name: &str) -> Digest {
    Digest(*blake3::hash(name.as_bytes()).as_bytes())
}

/// The prompt of the base capsule.
#[must_use]
pub fn prompt() -> Vec<u32> {
    (0..65).map(|n| 7 * n + 1).collect()
}

/// Token ids as a `tokens` section holds them.
#[must_use]
pub fn token_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|t| t.to_le_bytes()).collect()
}

/// The base capsule's claims.
#[must_use]
pub fn terms() -> Terms {
    let mut terms = Terms::new(ISSUER, AUDIENCE, ISSUED, EXPIRES);
    terms.subject = Some(SUBJECT.to_owned());
    terms.tenant = Some(TENANT.to_owned());
    terms.scope = "kv:inspect kv:restore".to_owned();
    terms.sequence = Some(3);
    terms
}

/// The model of all vectors.
#[must_use]
pub fn model() -> Model {
    Model {
        id: digest("model"),
        weights: digest("weights"),
        config: digest("config"),
        adapters: vec![Adapter {
            digest: digest("adapter"),
            scale: F64Bits(0.5_f64.to_bits()),
        }],
        name: "tiny".to_owned(),
    }
}

/// Its tokenizer.
#[must_use]
pub fn tokenizer() -> Tokenizer {
    Tokenizer {
        vocab: digest("vocabulary"),
        vocab_size: 32_000,
        version: "1".to_owned(),
        pre_tokenizer: "llama-bpe".to_owned(),
        specials: vec![("bos".to_owned(), 1), ("eos".to_owned(), 2)],
        chat_template: Some(digest("template")),
    }
}

/// Its rotary embedding.
#[must_use]
pub fn rope() -> Vec<Rope> {
    vec![rope_of(&[0], Scaling::None)]
}

/// A rotary embedding of these layers.
#[must_use]
pub fn rope_of(layers: &[u32], scaling: Scaling) -> Rope {
    Rope {
        layers: layers.to_vec(),
        pairing: Pairing::Half,
        rotary_dims: 64,
        theta: F64Bits(500_000.0_f64.to_bits()),
        scaling,
        offset: 0,
        keys: KeyBasis::PostRope,
    }
}

/// A bank of rows, stored raw.
#[must_use]
pub fn rows(role: Role, layer: u32, dtype: Dtype, heads: u64, tokens: u64, dim: u64) -> BankEntry {
    BankEntry {
        role,
        layer,
        index: 0,
        dtype,
        shape: BankShape::Tokens { heads, tokens, dim },
        rows: RowsEntry::From(0),
        window: 0,
        codec: Codec::Raw,
        rotation: None,
        hadamard: 0,
        chunk_len: CHUNK,
        asked: None,
    }
}

/// A bank without a token axis, stored raw.
#[must_use]
pub fn whole(role: Role, layer: u32, index: u32, dtype: Dtype, dims: &[u64]) -> BankEntry {
    BankEntry {
        index,
        shape: BankShape::Whole {
            dims: dims.to_vec(),
        },
        rows: RowsEntry::None,
        ..rows(role, layer, dtype, 1, 1, 1)
    }
}

/// A section.
#[must_use]
pub fn section(kind: SectionKind, len: usize) -> Stream {
    Stream::Section(Section {
        kind,
        len: len as u64,
        chunk_len: CHUNK,
    })
}

/// The context that all vectors vary: one layer, keys of three chunks and values of two, the token
/// ids and the prefix.
#[must_use]
pub fn context() -> Context {
    Context {
        suite: Suite::ChaCha20Poly1305,
        model: model(),
        tokenizer: tokenizer(),
        runtime: Runtime {
            name: "mlx-lm".to_owned(),
            version: "0.32.0".to_owned(),
            format: "mlx-lm-0.32".to_owned(),
            facts: vec![("layout".to_owned(), "bhtd".to_owned())],
        },
        rope: rope(),
        prefix: prefix(),
        positions: 0..TOKENS,
        flags: CaptureFlags::default(),
        context_length: 4096,
        layers: 1,
        stateless: Vec::new(),
        rotations: Vec::new(),
        streams: vec![
            Stream::Bank(rows(Role::Key, 0, Dtype::F16, 1, TOKENS, 64)),
            Stream::Bank(rows(Role::Value, 0, Dtype::F16, 1, TOKENS, 32)),
            section(SectionKind::Tokens, 260),
            section(SectionKind::Prefix, 32),
        ],
        parent: None,
        base: false,
        profile: None,
    }
}

/// The keyed prefix of the prompt.
#[must_use]
pub fn prefix() -> Prefix {
    PrefixValue::of(&prompt()).keyed(
        &WrappingKey::from_bytes(WRAP_KEY)
            .prefix_key()
            .unwrap()
            .unwrap(),
    )
}

/// Bytes for every stream of `context`: noise for banks, what belongs there for sections.
#[must_use]
pub fn contents(context: &Context) -> Vec<Vec<u8>> {
    let fill = |(index, stream): (usize, &Stream)| match stream {
        Stream::Section(section) if section.kind == SectionKind::Tokens => token_bytes(&prompt()),
        Stream::Section(section) if section.kind == SectionKind::Prefix => {
            PrefixValue::of(&prompt()).value.0.to_vec()
        }
        _ => noise(
            &format!("stream {index}"),
            stream.plain_len().unwrap() as usize,
        ),
    };
    context.streams.iter().enumerate().map(fill).collect()
}

/// Seals with the library. `seed` chooses capsule id, content key, salt and nonces.
#[must_use]
pub fn seal(
    seed: &str,
    terms: Terms,
    context: Context,
    plain: Vec<Vec<u8>>,
    receipts: &[Option<[u8; 32]>],
    recipients: &[[u8; 32]],
    extensions: Vec<(u64, Vec<u8>)>,
) -> Capsule {
    let keys: Vec<WrappingKey> = recipients
        .iter()
        .map(|key| WrappingKey::from_bytes(*key))
        .collect();
    let mut draft = Draft::new(terms, context);
    draft.extensions = extensions;
    let recipients: Vec<Recipient<'_>> = keys.iter().map(Recipient::from).collect();
    seal_for(seed, draft, plain, receipts, &recipients)
}

/// Seals with the library for recipients of any type. Receipts go into their section, after all other streams.
#[must_use]
pub fn seal_for(
    seed: &str,
    mut draft: Draft,
    mut plain: Vec<Vec<u8>>,
    receipts: &[Option<[u8; 32]>],
    recipients: &[Recipient<'_>],
) -> Capsule {
    let signer = SigningKey::from_seed(&SIGN_SEED);
    let receipts = receipts.iter().flatten().flatten().copied();
    let receipts: Vec<u8> = receipts.collect();
    if !receipts.is_empty() {
        let streams = &mut draft.context.streams;
        streams.push(section(SectionKind::Receipts, receipts.len()));
        plain.push(receipts);
    }
    let sealer = Sealer::danger_with_entropy(
        Mutex::new(Vec::new()),
        draft,
        &signer,
        recipients,
        Entropy::danger_chosen(seed.as_bytes()),
    )
    .unwrap();
    for bytes in &plain {
        sealer.write(bytes).unwrap();
        sealer.end_stream().unwrap();
    }
    let (out, _) = sealer.finish().unwrap();
    Capsule {
        file: out.into_inner().unwrap(),
        plain,
    }
}

/// Seals `context` with the base capsule's claims for the one wrapping key.
#[must_use]
pub fn seal_context(seed: &str, context: Context) -> Capsule {
    let plain = contents(&context);
    seal(seed, terms(), context, plain, &[], &[WRAP_KEY], Vec::new())
}

/// The capsule that most vectors start from.
#[must_use]
pub fn base() -> Capsule {
    seal_context("base", context())
}

/// Another capsule of the same issuer and shape.
#[must_use]
pub fn other() -> Capsule {
    let context = context();
    let mut plain = contents(&context);
    plain[0] = noise("other keys", plain[0].len());
    seal(
        "other",
        terms(),
        context,
        plain,
        &[],
        &[WRAP_KEY],
        Vec::new(),
    )
}
