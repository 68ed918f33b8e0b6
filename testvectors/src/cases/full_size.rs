//! Limits at their full size, and one over (capsule-v1 §10).

use kvcap::{BankEntry, Context, Role, Section, SectionKind, Stream};
use kvcap_codecs::{BankShape, Dtype};

use crate::{
    case::{Made, signed},
    cases,
    fixture::{self, CHUNK, Capsule, WRAP_KEY},
    parts::{Parts, lengths, regions},
    raw::{head, skip},
};

const ENVELOPE: usize = 1 << 20;
const ITEMS: usize = 262_144;
/// Most bytes of tables that are whole rows.
const TABLES: usize = (64 << 20) / 48 * 48;

/// A capsule whose histories encrypt to zeros, so that it packs well: their plain bytes are the key
/// stream.
pub(super) fn hollow(seed: &str, context: Context) -> Capsule {
    let mut plain = fixture::contents(&context);
    let history = |stream: &Stream| matches!(stream, Stream::Section(section) if section.kind == SectionKind::History);
    let at: Vec<usize> = (0..plain.len())
        .filter(|index| history(&context.streams[*index]))
        .collect();
    let seal = |plain: &[Vec<u8>]| {
        let (terms, context) = (fixture::terms(), context.clone());
        fixture::seal(
            seed,
            terms,
            context,
            plain.to_vec(),
            &[],
            &[WRAP_KEY],
            Vec::new(),
        )
    };
    for index in &at {
        plain[*index].fill(0);
    }
    let file = seal(&plain).file;
    let mut start = regions(&file).1;
    for (index, bytes) in plain.iter_mut().enumerate() {
        let end = start + bytes.len();
        if at.contains(&index) {
            bytes.copy_from_slice(&file[start..end]);
        }
        start = end;
    }
    seal(&plain)
}

/// A history of this many bytes in chunks of this length.
pub(super) fn history(len: u64, chunk_len: u64) -> Made {
    let mut context = fixture::context();
    context.streams.push(Stream::Section(Section {
        kind: SectionKind::History,
        len,
        chunk_len,
    }));
    Made::of(hollow(&format!("history of {len}"), context))
}

/// Items of a header or manifest, as CAP-C-4 counts them.
fn items(bytes: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        let (major, _, len) = head(bytes, at);
        at = match major {
            4 | 5 => at + len,
            _ => skip(bytes, at),
        };
        count += 1;
    }
    count
}

/// Everything as large as it may be: 65,536 layers, 4,096 streams, eight dimensions, 64 adapters, 16
/// recipients; then special tokens and an extension until items and bytes are at their limits.
fn largest(over: usize) -> Made {
    let mut context = fixture::context();
    context.layers = 65_536;
    context.stateless = (1..65_536).collect();
    let adapter = context.model.adapters[0].clone();
    context.model.adapters = vec![adapter; 64];
    context.streams.push(Stream::Bank(BankEntry {
        shape: BankShape::Whole {
            dims: vec![1, 2, 1, 2, 1, 2, 1, 3],
        },
        ..fixture::whole(Role::Recurrent, 0, 0, Dtype::F16, &[])
    }));
    let left = 4096 - context.streams.len();
    context.streams.extend((0..left).map(|n| {
        Stream::Section(Section {
            kind: SectionKind::Other(format!("n{n}")),
            len: 0,
            chunk_len: CHUNK,
        })
    }));
    let mut recipients = vec![WRAP_KEY];
    recipients.extend((1..16).map(|n| [n; 32]));
    let plain = fixture::contents(&context);
    let seal = |specials: usize, extensions: Vec<(u64, Vec<u8>)>| {
        let mut context = context.clone();
        let name = |n| (format!("{n:05}"), 0);
        context.tokenizer.specials = (0..specials).map(name).collect();
        fixture::seal(
            "largest",
            fixture::terms(),
            context,
            plain.clone(),
            &[],
            &recipients,
            extensions,
        )
    };
    let payload = |capsule: &Capsule| Parts::of(capsule).payload;
    // a special token is three items, an extension two
    let missing = ITEMS - items(&payload(&seal(0, vec![(1, Vec::new())])));
    let (specials, more) = match missing % 3 {
        0 => (missing / 3, 0),
        1 => (missing / 3 - 1, 2),
        _ => (missing / 3, 1),
    };
    let with = |len: usize| {
        let mut extensions = vec![(1, vec![0; len])];
        extensions.extend((0..more).map(|n| (2 + n, Vec::new())));
        seal(specials, extensions)
    };
    // the head of so long a string, and of what holds it, no longer change
    let short = lengths(&with(70_000).file).0;
    let capsule = with(70_000 + ENVELOPE - short);
    assert_eq!(lengths(&capsule.file).0, ENVELOPE);
    assert_eq!(items(&payload(&capsule)), ITEMS);
    if over == 0 {
        return Made::of(capsule);
    }
    let mut parts = Parts::of(&capsule);
    crate::raw::edit(&mut parts.payload, &crate::case::keys([6, 2, 1]), |value| {
        value.as_bytes_mut().unwrap().extend(vec![0; over]);
    });
    parts.sign();
    Made::of(Capsule {
        file: parts.file(),
        plain: parts.plain,
    })
}

fn tables(len: usize) -> Made {
    signed(|parts| {
        let rows: usize = parts.tables.iter().map(Vec::len).sum();
        parts.unused = vec![0; len - rows];
        parts.retable();
    })
}

cases! {
    /// an envelope of 1 MiB and 262,144 items: 65,536 layers, 4,096 streams, 64 adapters, 16 recipients
    largest_manifest: A 0 Accept ["§10"] = largest(0);
    /// the same and one byte, signed
    envelope_one_over: R 105 Header ["CAP-F-3" "§10"] = largest(1);
    /// tables of 64 MiB, less what is no whole row; all but five rows unused
    tables_at_limit: A 0 Accept ["CAP-F-3" "CAP-T-1"] = tables(TABLES);
    /// a row more, signed
    tables_one_over: R 105 Header ["CAP-F-3" "§10"] = tables(TABLES + 48);
    /// a chunk of 16 MiB and one of a byte
    chunk_len_at_limit: A 0 Accept ["§7.4"] = history((16 << 20) + 1, 16 << 20);
}
