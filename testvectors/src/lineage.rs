//! Capsules that continue others: each turn of a session adds ten tokens (lineage-v1 §2).

use kvcap::{
    Context, Limits, Parent, PrefixValue, RowsEntry, SectionKind, Stream, Terms, Untrusted,
    WrappingKey, binding::Digest,
};
use kvcap_codecs::BankShape;

use crate::fixture::{self, Capsule};

/// Tokens of a turn.
pub const STEP: u64 = 10;

/// Token ids after turn `turn`, from 0.
#[must_use]
pub fn ids(turn: u64) -> Vec<u32> {
    (1..=(turn + 1) * STEP).map(|n| 3 * n as u32).collect()
}

/// Contents of the capsule of turn `turn`, without a parent.
#[must_use]
pub fn context(turn: u64) -> Context {
    let mut context = fixture::context();
    let (start, end) = (STEP * turn, STEP * (turn + 1));
    context.positions = start..end;
    for stream in &mut context.streams {
        match stream {
            Stream::Bank(bank) => {
                bank.rows = RowsEntry::From(start);
                if let BankShape::Tokens { tokens, .. } = &mut bank.shape {
                    *tokens = STEP;
                }
            }
            Stream::Section(section) if section.kind == SectionKind::Tokens => {
                section.len = 4 * end
            }
            Stream::Section(_) => {}
        }
    }
    context
}

/// The digest by which a child names its parent.
#[must_use]
pub fn digest(parent: &Capsule) -> Digest {
    let header = Untrusted::read_at(&parent.file, &Limits::default()).unwrap();
    header.lineage().unwrap()
}

/// Seals `context`, whose prompt is `ids`.
#[must_use]
pub fn seal(seed: &str, terms: Terms, mut context: Context, ids: &[u32]) -> Capsule {
    let prefix = PrefixValue::of(ids);
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY)
        .prefix_key()
        .unwrap()
        .unwrap();
    context.prefix = prefix.keyed(&key);
    let mut plain = fixture::contents(&context);
    for (stream, bytes) in context.streams.iter().zip(&mut plain) {
        match stream {
            Stream::Section(section) if section.kind == SectionKind::Tokens => {
                *bytes = fixture::token_bytes(ids);
            }
            Stream::Section(section) if section.kind == SectionKind::Prefix => {
                *bytes = prefix.value.0.to_vec();
            }
            _ => {}
        }
    }
    let keys = [fixture::WRAP_KEY];
    fixture::seal(seed, terms, context, plain, &[], &keys, Vec::new())
}

/// The first capsule of a session.
#[must_use]
pub fn root() -> Capsule {
    seal("chain root", fixture::terms(), context(0), &ids(0))
}

/// The capsule of turn `turn`, which continues `parent`, changed.
pub fn child(
    seed: &str,
    parent: &Capsule,
    turn: u64,
    change: impl FnOnce(&mut Terms, &mut Context, &mut Vec<u32>),
) -> Capsule {
    let (mut terms, mut context, mut ids) = (fixture::terms(), context(turn), ids(turn));
    context.parent = Some(Parent {
        digest: digest(parent),
        positions: STEP * (turn - 1)..STEP * turn,
    });
    change(&mut terms, &mut context, &mut ids);
    seal(seed, terms, context, &ids)
}

/// Root, first and second child.
#[must_use]
pub fn three() -> [Capsule; 3] {
    let root = root();
    let first = child("chain first", &root, 1, |_, _, _| {});
    let second = child("chain second", &first, 2, |_, _, _| {});
    [root, first, second]
}
