//! The worked example of the specification: one small capsule, every byte explained.

use std::fmt::Write as _;

use kvcap::{Context, PrefixValue, Role, SectionKind, Stream, Terms, WrappingKey};
use kvcap_codecs::Dtype;

use crate::{
    annotate::{Page, hex_lines, spaced},
    fixture::{self, Capsule, SIGN_SEED, WRAP_KEY},
    hex::hex,
    parts::{self, Parts, ROW, lengths, regions},
    schedule::{
        b3, chunk_digest, context_input, fixed_claims, half, sign_key_id, table_digest, wrap_key_id,
    },
};

const HEADER: &[(&str, &str)] = &[
    ("", "protected header"),
    ("1", "alg: Ed25519"),
    ("3", "content type"),
    ("4", "kid"),
    ("15", "claims"),
    ("15.1", "iss"),
    ("15.2", "sub"),
    ("15.3", "aud"),
    ("15.4", "exp"),
    ("15.5", "nbf"),
    ("15.6", "iat"),
    ("15.7", "cti: capsule id"),
    ("15.9", "scope"),
    ("16", "typ"),
];

const MANIFEST: &[(&str, &str)] = &[
    ("", "manifest"),
    ("1", "version"),
    ("2", "context: enters the keys"),
    ("2.1", "suite"),
    ("2.2", "model"),
    ("2.2.1", "model id"),
    ("2.2.2", "weights"),
    ("2.2.3", "config"),
    ("2.2.4", "adapters"),
    ("2.2.5", "name"),
    ("2.3", "tokenizer"),
    ("2.3.1", "vocabulary"),
    ("2.3.2", "token ids"),
    ("2.3.3", "version"),
    ("2.3.4", "pre-tokenizer"),
    ("2.3.5", "special tokens"),
    ("2.4", "runtime"),
    ("2.4.1", "name"),
    ("2.4.2", "version"),
    ("2.4.3", "state format"),
    ("2.4.4", "facts"),
    ("2.5", "ropes"),
    ("2.5.*.1", "layers"),
    ("2.5.*.2", "pairing: half"),
    ("2.5.*.3", "rotary dims"),
    ("2.5.*.4", "theta: 10000.0"),
    ("2.5.*.5", "scaling: none"),
    ("2.5.*.6", "offset"),
    ("2.5.*.7", "keys after rotation"),
    ("2.5.*.8", "Hadamard block of keys"),
    ("2.5.*.9", "Hadamard block of values"),
    ("2.6", "prefix"),
    ("2.6.1", "scheme: keyed"),
    ("2.6.2", "prefix key id"),
    ("2.6.3", "commitment to P"),
    ("2.6.4", "tokens"),
    ("2.7", "positions"),
    ("2.8", "capture flags"),
    ("2.9", "context length"),
    ("2.10", "layers; those without state"),
    ("2.11", "rotation tables"),
    ("2.12", "streams"),
    ("2.12.*.1", "kind of stream: 0 bank, 1 section"),
    ("2.12.*.2", "role, or kind of section"),
    ("2.12.*.3", "layer, or name of section"),
    ("2.12.*.4", "index"),
    ("2.12.*.5", "dtype: f16"),
    ("2.12.*.6", "shape: heads, tokens, dim"),
    ("2.12.*.7", "rows from position"),
    ("2.12.*.8", "window"),
    ("2.12.*.9", "codec: raw"),
    ("2.12.*.10", "plain length"),
    ("2.12.*.11", "chunk length"),
    ("3", "measured, one a stream"),
    ("3.*.0", "encoded length"),
    ("3.*.1", "table digest"),
    ("4", "keys"),
    ("4.1", "salt"),
    ("4.2", "key commitment"),
    ("4.3", "recipients"),
    ("4.3.*.0", "type"),
    ("4.3.*.1", "wrapping key id"),
    ("4.3.*.2", "nonce"),
    ("4.3.*.3", "wrapped content key"),
    ("5", "tables_len"),
];

const STREAMS: [&str; 4] = [
    "keys of layer 0",
    "values of layer 0",
    "`tokens`",
    "`prefix`",
];
const TOKENS: [u32; 3] = [1, 15043, 29991];

fn context() -> Context {
    let mut context = fixture::context();
    context.model.adapters.clear();
    context.tokenizer.specials.truncate(1);
    context.tokenizer.chat_template = None;
    context.rope[0].rotary_dims = 4;
    context.rope[0].theta = kvcap::binding::F64Bits(10_000.0_f64.to_bits());
    let key = WrappingKey::from_bytes(WRAP_KEY)
        .prefix_key()
        .unwrap()
        .unwrap();
    context.prefix = PrefixValue::of(&TOKENS).keyed(&key);
    context.positions = 0..3;
    context.streams = vec![
        Stream::Bank(fixture::rows(Role::Key, 0, Dtype::F16, 1, 3, 4)),
        Stream::Bank(fixture::rows(Role::Value, 0, Dtype::F16, 1, 3, 4)),
        fixture::section(SectionKind::Tokens, 12),
        fixture::section(SectionKind::Prefix, 32),
    ];
    context
}

/// The capsule of the example.
#[must_use]
pub fn capsule() -> Capsule {
    let now = fixture::NOW;
    let mut terms = Terms::new("prefill-1", fixture::AUDIENCE, now, now + 3600);
    terms.subject = Some("user-7".to_owned());
    // f16: 1.0 to 12.0, and the same negative
    let numbers = [
        0x3C00_u16, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800, 0x4880, 0x4900, 0x4980,
        0x4A00,
    ];
    let keys = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let values = numbers
        .iter()
        .flat_map(|n| (n | 0x8000).to_le_bytes())
        .collect();
    let plain = vec![
        keys,
        values,
        fixture::token_bytes(&TOKENS),
        PrefixValue::of(&TOKENS).value.0.to_vec(),
    ];
    fixture::seal(
        "example",
        terms,
        context(),
        plain,
        &[],
        &[WRAP_KEY],
        Vec::new(),
    )
}

/// The text of `spec/example.md`.
#[must_use]
pub fn text() -> String {
    let capsule = capsule();
    let parts = Parts::of(&capsule);
    let mut page = Page::new(&capsule.file);
    secrets(&mut page, &parts);
    map(&mut page, &capsule.file);
    prologue(&mut page, &capsule.file);
    envelope(&mut page, &parts);
    signature(&mut page, &parts);
    tables(&mut page, &capsule.file, &parts);
    body(&mut page, &capsule.file, &parts);
    prefix(&mut page);
    schedule(&mut page, &parts);
    page.finish()
}

fn line(page: &mut Page<'_>, name: &str, value: &[u8]) {
    let lines = hex_lines(value, 32).join(&format!("\n{:22}", ""));
    writeln!(page.text, "{name:<22}{lines}").unwrap();
}

fn secrets(page: &mut Page<'_>, parts: &Parts) {
    page.text.push_str(
        "# A capsule, byte by byte\n\n\
         A whole capsule of `capsule-v1.md`: one layer, three tokens, one head of four elements, f16.\n\
         It is made with fixed keys and chosen randomness by `cargo run -p kvcap-testvectors --features hazmat --bin generate`, and a test keeps this text as that program writes it.\n\
         Offsets are hexadecimal; every byte of the file stands below in its place.\n\n\
         ## 1. What is secret\n\n```\n",
    );
    let public = parts::public(&SIGN_SEED);
    let prefix_key = b3("kvcap v1 prefix key", &[&WRAP_KEY]);
    line(page, "signing seed", &SIGN_SEED);
    line(page, "public key", &public);
    line(page, "its id, kid", &sign_key_id(&public));
    line(page, "wrapping key", &WRAP_KEY);
    line(page, "its id", &wrap_key_id(&WRAP_KEY));
    line(page, "prefix key", &prefix_key);
    line(
        page,
        "its id",
        &half(b3("kvcap v1 prefix key id", &[&prefix_key])),
    );
    line(page, "content key", &parts.content_key());
    page.text.push_str("```\n");
}

fn map(page: &mut Page<'_>, file: &[u8]) {
    let (envelope, tables, body) = lengths(file);
    let (tables_at, body_at) = regions(file);
    writeln!(
        page.text,
        "\n## 2. The file\n\n| offset | length | |\n|---|---|---|\n\
         | 0 | 64 | prologue |\n\
         | 40 | {envelope} | envelope |\n\
         | {:x} | {} | zeros to a multiple of 4096 |\n\
         | {tables_at:x} | {tables} | tables: 4 streams of one chunk, 48 bytes each |\n\
         | {:x} | {} | zeros to a multiple of 4096 |\n\
         | {body_at:x} | {body} | body |\n\
         | {:x} | | end |",
        64 + envelope,
        tables_at - 64 - envelope,
        tables_at + tables,
        body_at - tables_at - tables,
        file.len(),
    )
    .unwrap();
}

fn prologue(page: &mut Page<'_>, file: &[u8]) {
    let (envelope, tables, body) = lengths(file);
    page.section("3. Prologue");
    for (len, what) in [
        (8, "magic".to_owned()),
        (2, "major version 1".to_owned()),
        (2, "reserved".to_owned()),
        (4, format!("envelope_len = {envelope}")),
        (8, format!("tables_len = {tables}")),
        (8, format!("body_len = {body}")),
        (32, "reserved".to_owned()),
    ] {
        page.bytes(len, &what);
    }
    page.end();
}

fn envelope(page: &mut Page<'_>, parts: &Parts) {
    page.section("4. Envelope: the protected header");
    page.bytes(1, "tag 18: COSE_Sign1");
    page.bytes(1, "array of 4");
    page.string_head(parts.header.len(), "protected header");
    page.cbor(HEADER);
    page.end();
    page.section("5. Envelope: the manifest");
    page.bytes(1, "unprotected header: an empty map");
    page.string_head(parts.payload.len(), "payload");
    page.cbor(MANIFEST);
    page.end();
}

fn signature(page: &mut Page<'_>, parts: &Parts) {
    page.section("6. Envelope: the signature");
    page.string_head(64, "signature");
    page.bytes(32, "R");
    page.bytes(32, "S");
    page.zeros("padding");
    page.end();
    let message = parts.sig_structure();
    writeln!(
        page.text,
        "\nSigned is `Sig_structure = [\"Signature1\", protected, h'', payload]` (RFC 9052 §4.4), {} bytes, which begin `{}`.\nTheir SHA-256 is `{}`.",
        message.len(),
        spaced(&message[..16]),
        crate::generate::sha256(&message),
    )
    .unwrap();
}

fn tables(page: &mut Page<'_>, file: &[u8], parts: &Parts) {
    page.section("7. Tables");
    for (name, _) in STREAMS.iter().zip(&parts.tables) {
        page.bytes(16, &format!("tag: {name}"));
        page.bytes(32, "chunk digest");
    }
    page.zeros("padding");
    page.end();
    assert_eq!(page.at(), regions(file).1);
}

fn body(page: &mut Page<'_>, file: &[u8], parts: &Parts) {
    page.section("8. Body");
    for (name, bytes) in STREAMS.iter().zip(&parts.body) {
        page.bytes(bytes.len(), name);
    }
    page.end();
    assert_eq!(page.at(), file.len(), "every byte stands in the text");
}

fn prefix(page: &mut Page<'_>) {
    let ids = fixture::token_bytes(&TOKENS);
    let chain = b3("kvcap v1 prefix block", &[&[0; 32], &ids]);
    let value = b3("kvcap v1 prefix", &[&chain, &3_u64.to_le_bytes()]);
    let key = b3("kvcap v1 prefix key", &[&WRAP_KEY]);
    let commitment = *blake3::keyed_hash(&key, &value).as_bytes();
    writeln!(
        page.text,
        "\n## 9. The prefix\n\nThe token ids are {TOKENS:?}: one block.\n\n```"
    )
    .unwrap();
    line(page, "u32 token ids", &ids);
    line(page, "h₀", &chain);
    line(page, "P", &value);
    line(page, "commitment", &commitment);
    page.text.push_str("```\n");
}

fn schedule(page: &mut Page<'_>, parts: &Parts) {
    let schedule = parts.schedule();
    let input = context_input(&parts.header, &parts.payload);
    let claims = fixed_claims(&parts.header);
    writeln!(
        page.text,
        "\n## 10. The key schedule\n\nThe context input is `u32({}) ‖ claims ‖ u32({}) ‖ context`, {} bytes.\nThe claims are those that no later header changes, a map of `iss`, `sub`, `nbf`, `cti` and the cap; the context is the value of manifest key 2 as it stands above.\n\n```",
        claims.len(),
        input.len() - claims.len() - 8,
        input.len(),
    )
    .unwrap();
    line(page, "fixed claims", &claims);
    line(page, "ctx", &schedule.ctx);
    line(page, "commitment", &schedule.commitment);
    line(page, "root", &schedule.root);
    page.text.push_str(
        "```\n\nThe recipient's entry wraps the content key with this associated data:\n\n```\n",
    );
    let aad = [&b"kvcap v1 wrap"[..], &wrap_key_id(&WRAP_KEY), &parts.cti()].concat();
    line(page, "aad of the wrap", &aad);
    page.text.push_str("```\n\n## 11. The streams\n");
    for (stream, name) in STREAMS.iter().enumerate() {
        let (key, base) = schedule.stream(stream);
        let plain = &parts.plain[stream];
        let (nonce, aad) = schedule.chunk(stream, 0, true, plain.len());
        let (text, tag) = schedule.seal(stream, 0, true, plain);
        let rows = [&tag[..], &chunk_digest(&text)].concat();
        assert_eq!((&text, &rows), (&parts.body[stream], &parts.tables[stream]));
        assert_eq!(rows.len(), ROW);
        writeln!(page.text, "\nStream {stream}, {name}:\n\n```").unwrap();
        for (what, bytes) in [
            ("key", &key[..]),
            ("base nonce", &base),
            ("nonce of chunk 0", &nonce),
            ("aad of chunk 0", &aad),
            ("plain", plain),
            ("ciphertext", &text),
            ("tag", &tag),
            ("chunk digest", &chunk_digest(&text)),
            ("table digest", &table_digest(stream, &rows)),
        ] {
            line(page, what, bytes);
        }
        page.text.push_str("```\n");
    }
    let measured = crate::raw::find(&parts.payload, &[crate::raw::Step::Key(3)]);
    let salt = crate::raw::find(&parts.payload, &crate::case::keys([4, 1]));
    let lineage = b3(
        "kvcap v1 lineage",
        &[
            &schedule.ctx,
            &parts.payload[salt][2..],
            &schedule.commitment,
            &parts.payload[measured],
        ],
    );
    writeln!(
        page.text,
        "\nThe lineage digest, by which an increment would name this capsule, is `{}`.",
        hex(&lineage)
    )
    .unwrap();
}
