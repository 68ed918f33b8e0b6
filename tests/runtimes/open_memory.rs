//! What opening a capsule of a hostile signer may ask for: a constant, and a small multiple of the bytes that
//! are really there (capsule-v1 §3.5 CAP-W-3, runtimes-v1 §1.3): counted by the allocator.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{io, sync::Mutex};

use kvcap::{
    BankEntry, Code, Context, Draft, Error, Expected, Limits, Opened, Policy, Role, RowsEntry,
    Sealer, Section, SectionKind, Stream, Trust, TrustedKey, Untrusted, Workers, WriteAt,
    binding::Runtime,
};
use kvcap_codecs::{BankShape, Codec, Dtype};
use kvcap_states::{layers, open_state};
use kvcap_testkit::{fixture, model, signer, wrapping};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const NOW: u64 = 1_790_000_000;

/// Workers' chunks, and what is there once.
const CONSTANT: usize = 2 << 20;

/// Of what the capsule's sections hold.
const TIMES: usize = 4;

struct Nowhere;

impl WriteAt for Nowhere {
    fn write_all_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Banks and their bytes, then sections and theirs.
struct Hostile {
    format: (&'static str, &'static str),
    tokens: u64,
    banks: Vec<BankEntry>,
    sections: Vec<(SectionKind, Vec<u8>)>,
}

fn bank(role: Role, index: u32, dtype: Dtype, tokens: u64, rows: RowsEntry) -> BankEntry {
    BankEntry {
        role,
        layer: 0,
        index,
        dtype,
        shape: BankShape::Tokens {
            heads: 1,
            tokens,
            dim: dtype.row_bytes(1).unwrap(),
        },
        rows,
        window: 0,
        codec: Codec::Raw,
        rotation: None,
        hadamard: 0,
        chunk_len: 1 << 20,
        asked: None,
    }
}

impl Hostile {
    fn seal(&self) -> Vec<u8> {
        let profile = model(&fixture("model")).unwrap();
        let sections = self.sections.iter().map(|(kind, bytes)| {
            Stream::Section(Section {
                kind: kind.clone(),
                len: bytes.len() as u64,
                chunk_len: 1 << 20,
            })
        });
        let streams = self.banks.iter().cloned().map(Stream::Bank);
        let context = Context::new(
            profile.model,
            profile.tokenizer,
            Runtime {
                name: self.format.0.to_owned(),
                version: String::new(),
                format: self.format.1.to_owned(),
                facts: Vec::new(),
            },
            0..self.tokens,
            1,
            streams.chain(sections).collect(),
        );
        let draft = Draft::new(kvcap_testkit::terms(NOW), context);
        let out = Mutex::new(Vec::new());
        let (signer, key) = (signer(), wrapping());
        let sealer = Sealer::new(out, draft, &signer, &[&key]).unwrap();
        for bank in &self.banks {
            let len = match bank.codec {
                Codec::Raw => bank.shape.plain_len(bank.dtype).unwrap(),
                _ => 64,
            };
            sealer
                .write(&vec![0; usize::try_from(len).unwrap()])
                .unwrap();
            sealer.end_stream().unwrap();
        }
        for (_, bytes) in &self.sections {
            sealer.write(bytes).unwrap();
            sealer.end_stream().unwrap();
        }
        sealer.finish().unwrap().0.into_inner().unwrap()
    }

    /// The refusal of opening it, which must hold little more than its sections.
    fn refused(&self) -> Error {
        self.refused_by(|opened| {
            open_state(opened, &Nowhere, Workers::new(2), &mut |_| {}).unwrap_err()
        })
    }

    fn refused_by(&self, open: impl FnOnce(&Opened<&[u8]>) -> Error) -> Error {
        let file = self.seal();
        let key = signer();
        let trust = Trust::from(TrustedKey::new(key.public(), "tests"));
        let policy = Policy::new(&trust, NOW, "tests", Expected::danger_any_model());
        let held: usize = self.sections.iter().map(|(_, bytes)| bytes.len()).sum();
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let untrusted = Untrusted::read_at(&file[..], &Limits::default()).unwrap();
        let verified = untrusted.verify(&policy).unwrap();
        let unlocked = verified.open(&file[..], &wrapping()).unwrap();
        let opened = unlocked.release().unwrap();
        let refused = open(&opened);
        let peak = MEMORY.peak_usage() - before;
        let most = CONSTANT + TIMES * held;
        assert!(peak <= most, "{peak} bytes for {held}: {refused}");
        refused
    }
}

/// A residue of these segments.
fn residue(len: u64, segments: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = len.to_le_bytes().to_vec();
    out.extend(u32::try_from(segments.len()).unwrap().to_le_bytes());
    for (at, bytes) in segments {
        out.extend(at.to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
    }
    segments.iter().for_each(|(_, bytes)| out.extend(*bytes));
    out
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A state of one key and one value bank of one row, whose residue says something else.
fn claims(format: (&'static str, &'static str), residue: Vec<u8>) -> Hostile {
    Hostile {
        format,
        tokens: 1,
        banks: [Role::Key, Role::Value]
            .map(|role| bank(role, 0, Dtype::F16, 1, RowsEntry::From(0)))
            .into(),
        sections: vec![(SectionKind::Residue, residue)],
    }
}

/// A ring of `rows` rows, every one of them in a hole.
fn ring(rows: u64) -> Hostile {
    let header = format!(
        r#"{{"__metadata__":{{"0.0.0":"1","0.0.1":"{rows}","0.0.2":"{}","0.0.3":"5","2.0":"RotatingKVCache"}},
        "0.0":{{"dtype":"F16","shape":[1,1,{rows},1],"data_offsets":[0,{}]}},
        "0.1":{{"dtype":"F16","shape":[1,1,{rows},1],"data_offsets":[{},{}]}}}}"#,
        rows + 10,
        2 * rows,
        2 * rows,
        4 * rows
    );
    let head = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let len = head.len() as u64 + 4 * rows;
    claims(("mlx-lm", "mlx-lm-0.31"), residue(len, &[(0, &head)]))
}

/// Tokens and cells that lie in holes.
fn cells(tokens: u32, cells: u32) -> Hostile {
    let head = words(&[0x6767_7371, 2, tokens]);
    let count = words(&[cells]);
    let at = 12 + 4 * u64::from(tokens);
    let tail_at = at + 4 + 8 * u64::from(cells);
    let row = [&words(&[1])[..], &4_u64.to_le_bytes()].concat();
    let tail = [&words(&[0, 1])[..], &row].concat();
    let last_at = tail_at + 20 + 4 * u64::from(cells);
    let len = last_at + 12 + 4 * u64::from(cells);
    let rest: [(u64, &[u8]); 2] = [(tail_at, &tail), (last_at, &row)];
    let first: &[(u64, &[u8])] = match tokens {
        0 => &[(0, &[head, count].concat())],
        _ => &[(0, &head), (at, &count)],
    };
    claims(
        ("llama.cpp", "ggsq-2"),
        residue(len, &[first, &rest].concat()),
    )
}

/// Many banks whose rows one section lists.
fn listed(banks: u32, rows: u64) -> Hostile {
    let list = RowsEntry::Listed(banks);
    Hostile {
        format: ("mlx-lm", "mlx-lm-0.31"),
        tokens: rows,
        banks: (0..banks)
            .map(|index| bank(Role::Opaque, index, Dtype::U8, rows, list))
            .collect(),
        sections: vec![
            (
                SectionKind::Positions,
                vec![0; usize::try_from(8 * rows).unwrap()],
            ),
            (SectionKind::Residue, residue(8, &[(0, &[0; 8])])),
        ],
    }
}

/// One test: the allocator counts for the whole process.
#[test]
fn what_a_capsule_claims_allocates_nothing() {
    for rows in [1 << 22, 1 << 40] {
        assert_eq!(ring(rows).refused().code(), Code::StateContradiction);
    }
    assert_eq!(
        cells(1 << 22, 1 << 20).refused().code(),
        Code::StateMalformed
    );
    // only the cells are in a hole: which of the layouts came furthest is told
    let refused = cells(0, 1 << 20).refused().code();
    assert!(matches!(refused, Code::StateMalformed | Code::StateLimit));
    // a header of a claimed length
    let head = (90_000_000_u64).to_le_bytes();
    let header = residue(100_000_000, &[(0, &head)]);
    let refused = claims(("mlx-lm", "mlx-lm-0.31"), header).refused();
    assert_eq!(refused.code(), Code::StateMalformed);
    // a file that has no room for its banks
    let short = residue(9, &[(0, &[0; 8])]);
    let refused = claims(("mlx-lm", "mlx-lm-0.31"), short).refused();
    assert_eq!(refused.code(), Code::StateContradiction);
    // one frame of 4 gigabytes, compressed to a few bytes
    let mut frame = claims(("mlx-lm", "mlx-lm-0.31"), residue(9, &[(0, &[0; 8])]));
    for bank in &mut frame.banks {
        bank.codec = Codec::Planes16;
        bank.chunk_len = 16 << 20;
        bank.shape = BankShape::Tokens {
            heads: 1,
            tokens: 1,
            dim: 1 << 31,
        };
    }
    let refused = frame.refused_by(|opened| {
        let first = layers(opened, Workers::new(2)).next();
        first.unwrap().unwrap_err()
    });
    assert_eq!(refused.code(), Code::ResourceBudget);
    assert_eq!(
        listed(64, 100_000).refused().code(),
        Code::StateContradiction
    );
}
