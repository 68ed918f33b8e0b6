//! What must be accepted: lengths, times, keys and claims at their bounds.

use kvcap::{PrefixValue, Section, SectionKind, Session, Stream, Suite, Terms};

use super::full_size;
use crate::{
    case::{Made, given},
    cases,
    context::{ExpectedPrefix, Memory, Range},
    fixture::{self, CHUNK, EXPIRES, ISSUED, OTHER_WRAP, TOKENS, WRAP_KEY},
    hex::hex,
    model::model_json,
};

/// The base capsule's context, changed.
fn varied(seed: &str, change: impl FnOnce(&mut kvcap::Context)) -> Made {
    let mut context = fixture::context();
    change(&mut context);
    Made::of(fixture::seal_context(seed, context))
}

/// One more section, of this length.
fn sized(len: usize) -> Made {
    varied(&format!("section of {len}"), |context| {
        context
            .streams
            .push(fixture::section(SectionKind::History, len));
    })
}

fn claimed(seed: &str, change: impl FnOnce(&mut Terms)) -> Made {
    let mut terms = fixture::terms();
    change(&mut terms);
    let context = fixture::context();
    let plain = fixture::contents(&context);
    Made::of(fixture::seal(
        seed,
        terms,
        context,
        plain,
        &[],
        &[WRAP_KEY],
        Vec::new(),
    ))
}

/// A capsule for one use.
pub(super) fn once() -> Made {
    claimed("single use", |terms| {
        terms.single_use = true;
        terms.sequence = Some(u64::MAX);
        terms.renew_until = terms.expires;
    })
}

/// The base capsule with another number in its session.
pub(super) fn numbered(number: u64) -> Made {
    claimed(&format!("number {number}"), |terms| {
        terms.sequence = Some(number)
    })
}

/// A checkpoint of a session.
pub(super) fn checkpoint(id: &str, version: u64, replay_cursor: u64) -> Made {
    claimed(
        &format!("session {id} {version} {replay_cursor}"),
        |terms| {
            terms.session = Some(Session {
                id: id.to_owned(),
                version,
                replay_cursor,
            });
        },
    )
}

/// The same with another number in that session.
pub(super) fn numbered_in(id: &str, number: u64) -> Made {
    claimed(&format!("number {number} in {id}"), |terms| {
        terms.sequence = Some(number);
        terms.session = Some(Session {
            id: id.to_owned(),
            version: number,
            replay_cursor: number,
        });
    })
}

/// What a verifier remembers.
pub(super) fn memory(latest: Option<u64>, opened: &[String]) -> Option<Memory> {
    let opened = opened.to_vec();
    Some(Memory { latest, opened })
}

fn wrapped(recipients: &[[u8; 32]]) -> Made {
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let seed = format!("{} recipients", recipients.len());
    Made::of(fixture::seal(
        &seed,
        fixture::terms(),
        context,
        plain,
        &[],
        recipients,
        Vec::new(),
    ))
}

fn extended() -> Made {
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let extensions = vec![(1, b"one".to_vec()), (70_000, Vec::new())];
    let terms = fixture::terms();
    Made::of(fixture::seal(
        "extension",
        terms,
        context,
        plain,
        &[],
        &[WRAP_KEY],
        extensions,
    ))
}

/// The token ids and the prefix, of a model of this many layers.
fn only_sections(layers: u32) -> Made {
    varied(&format!("sections of {layers} layers"), |context| {
        context
            .streams
            .retain(|stream| matches!(stream, Stream::Section(_)));
        context.layers = layers;
        context.stateless = (0..layers).collect();
        context.rope.clear();
        context.positions = 0..0;
    })
}

/// Sections of no bytes up to the limit of streams.
fn many_streams() -> Made {
    varied("most streams", |context| {
        let left = 4096 - context.streams.len();
        context.streams.extend((0..left).map(|n| {
            Stream::Section(Section {
                kind: SectionKind::Other(format!("n{n}")),
                len: 0,
                chunk_len: CHUNK,
            })
        }));
    })
}

fn reads(ranges: &[(usize, u64, u64)]) -> Made {
    given(|context| {
        let range = |(stream, start, end)| Range { stream, start, end };
        context.reads = ranges.iter().copied().map(range).collect();
    })
}

cases! {
    /// two banks, token ids, a keyed prefix
    base: A 0 Accept [] = given(|_| {});
    /// another capsule of the same issuer
    other: A 0 Accept [] = Made::of(fixture::other());
    /// verified without any key
    verify_only: A 0 Accept ["§7.4"] = given(|context| context.wrapping_key = None);
    /// everything that a caller can state is stated
    all_expected: A 0 Accept ["CAP-V-9"] = given(|context| {
        let wanted = &mut context.expected;
        wanted.model = Some(model_json(&fixture::model(), &fixture::tokenizer(), &fixture::rope()));
        wanted.runtime = Some(("mlx-lm".to_owned(), Some("0.32.0".to_owned())));
        let facts = vec![("layout".to_owned(), "bhtd".to_owned())];
        wanted.layout = Some(("mlx-lm-0.32".to_owned(), facts));
        wanted.dtypes = Some(("f16".to_owned(), "f16".to_owned()));
        wanted.positions = Some((0, TOKENS));
        wanted.prefix = Some(ExpectedPrefix {
            tokens: fixture::prompt(),
            key: hex(&crate::schedule::b3("kvcap v1 prefix key", &[&WRAP_KEY])),
        });
        wanted.banks = vec![(0, 0), (1, 0)];
        wanted.capsule = Some(hex(&crate::parts::Parts::of(&fixture::base()).cti()));
        context.limits.insert("budget".to_owned(), 65 * 96 * 2 + 260 + 32);
    });
    /// a section of one chunk less a byte
    one_chunk_short: A 0 Accept ["§7.4"] = sized(4095);
    /// a section of exactly one chunk
    one_chunk: A 0 Accept ["§7.4"] = sized(4096);
    /// a last chunk of one byte
    last_chunk_one_byte: A 0 Accept ["§7.4"] = sized(4097);
    /// exactly two chunks
    exact_multiple: A 0 Accept ["§7.4"] = sized(8192);
    /// a section of one byte
    one_byte: A 0 Accept ["§7.4"] = sized(1);
    /// an empty section, which has no chunk
    empty_section: A 0 Accept ["§7.3"] = sized(0);
    /// no bank: the only layer holds no state
    sections_alone: A 0 Accept ["CAP-S-3" "CAP-M-5"] = only_sections(1);
    /// no bank, and a model of no layers
    sections_of_no_layers: A 0 Accept ["CAP-S-3" "CAP-M-5"] = only_sections(0);
    /// 257 chunks: the index takes more than a byte
    chunks_257: A 0 Accept ["§9.4"] = full_size::history(256 * 4096 + 1, CHUNK);
    /// 4,096 streams
    streams_at_limit: A 0 Accept ["§10"] = many_streams();
    /// now + 60 = nbf
    nbf_within_skew: A 0 Accept ["CAP-V-3"] = given(|context| context.now = ISSUED - 60);
    /// the second before exp
    second_before_expiry: A 0 Accept ["CAP-V-2"] = given(|context| context.now = EXPIRES - 1);
    /// valid when the header came and when the body had
    mid_upload: A 0 Accept ["CAP-V-11"] = given(|context| context.later = Some(EXPIRES - 1));
    /// a lifetime of exactly 30 days
    lifetime_at_limit: A 0 Accept ["CAP-V-4"] = claimed("30 days", |terms| terms.expires = ISSUED + 30 * 86_400);
    /// nbf after iat
    nbf_after_iat: A 0 Accept ["CAP-V-1"] = claimed("nbf", |terms| terms.not_before = ISSUED + 10);
    /// no subject, tenant or sequence number
    few_claims: A 0 Accept ["CAP-E-9"] = claimed("few claims", |terms| {
        terms.subject = None;
        terms.tenant = None;
        terms.sequence = None;
    });
    /// a checkpoint of a session, and the caller states all three claims
    session: A 0 Accept ["CAP-E-9" "CAP-V-7"] = checkpoint("s-1", 7, 42).when(|context| {
        context.expected.session = Some(("s-1".to_owned(), Some(7), Some(42)));
    });
    /// the caller states the session alone
    session_any_version: A 0 Accept ["CAP-V-7"] = checkpoint("s-1", 7, 42).when(|context| {
        context.expected.session = Some(("s-1".to_owned(), None, None));
    });
    /// the caller states no session
    session_not_stated: A 0 Accept ["CAP-V-7"] = checkpoint("s-1", 7, 42);
    /// a session's id of 1,024 bytes, the largest numbers
    session_at_limit: A 0 Accept ["CAP-E-9"] = checkpoint(&"s".repeat(1024), u64::MAX, u64::MAX);
    /// llama.cpp's rotation of a quantized cache, in a layer without rotary embedding too
    hadamard: A 0 Accept ["§7.1"] = varied("hadamard", |context| {
        context.rope.clear();
        for stream in &mut context.streams {
            if let Stream::Bank(bank) = stream {
                bank.hadamard = 64;
            }
        }
    });
    /// an issuer of 1,024 bytes
    iss_at_limit: A 0 Accept ["CAP-E-9"] = claimed("long issuer", |terms| terms.issuer = "x".repeat(1024))
        .when(|context| context.trust[0].issuer = "x".repeat(1024));
    /// for one use, with the largest sequence number, by a verifier that remembers nothing of it
    single_use: A 0 Accept ["CAP-E-9" "REG-U-4"] = once().when(|context| context.memory = memory(None, &[]));
    /// a retired key, and an iat before its end
    retired_key: A 0 Accept ["CAP-K-3"] = given(|context| {
        context.trust[0].sign_until = Some(ISSUED + 1);
        context.trust[0].not_before = ISSUED;
        context.trust[0].issuer = fixture::ISSUER.to_owned();
        context.trust[0].suites = vec![1];
    });
    /// two recipients, opened by the second
    second_recipient: A 0 Accept ["CAP-R-2"] = wrapped(&[WRAP_KEY, OTHER_WRAP]).when(|context| context.wrapping_key = Some(hex(&OTHER_WRAP)));
    /// 16 recipients
    recipients_at_limit: A 0 Accept ["§10"] = {
        let mut all = vec![WRAP_KEY];
        all.extend((1..16).map(|n| [n; 32]));
        wrapped(&all)
    };
    /// two extensions, neither critical
    extension_not_critical: A 0 Accept ["CAP-M-4"] = extended();
    /// suite 2, AES-256-GCM
    suite_2: A 0 Accept ["§4"] = varied("suite 2", |context| context.suite = Suite::Aes256Gcm);
    /// no prefix
    prefix_none: A 0 Accept ["§6.5"] = varied("no prefix", |context| {
        context.prefix = kvcap::Prefix::None;
        context.streams.truncate(2);
    });
    /// a public prefix of a base image
    prefix_public: A 0 Accept ["CAP-P-3" "LIN-L-3"] = {
        let mut terms = fixture::terms();
        terms.subject = None;
        let mut context = fixture::context();
        context.prefix = PrefixValue::of(&fixture::prompt()).public();
        context.base = true;
        let plain = fixture::contents(&context);
        Made::of(fixture::seal("public", terms, context, plain, &[], &[WRAP_KEY], Vec::new()))
    };
    /// ranges within, at and across the chunks' bounds
    ranges: A 0 Accept ["CAP-O-4"] = reads(&[
        (0, 0, 1),
        (0, 4095, 4096),
        (0, 4096, 4097),
        (0, 4095, 4097),
        (0, 1, 8319),
        (0, 8191, 8320),
        (0, 8320, 8320),
        (1, 4159, 4160),
        (2, 0, 260),
    ]);
    /// nothing but the token ids
    one_section: A 0 Accept ["CAP-O-4"] = reads(&[(2, 0, 260)]);
}
