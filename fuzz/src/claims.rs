//! Capsules whose residue claims a file of any length: what an adapter reads of it lies where a script says, in
//! bytes that are there or in a hole.

use kvcap::{BankEntry, Context, Role, RowsEntry, SectionKind, Stream, binding::Runtime};
use kvcap_codecs::{BankShape, Codec, Dtype};
use kvcap_testvectors::fixture;

use crate::{Input, Seed};

/// A file in the making: bytes and holes in turn.
#[derive(Default)]
struct File {
    len: u64,
    segments: Vec<(u64, Vec<u8>)>,
}

impl File {
    fn bytes(&mut self, bytes: &[u8]) {
        match self.segments.last_mut() {
            Some((at, last)) if *at + last.len() as u64 == self.len => last.extend(bytes),
            _ if bytes.is_empty() => {}
            _ => self.segments.push((self.len, bytes.to_vec())),
        }
        self.len = self.len.saturating_add(bytes.len() as u64);
    }

    fn word(&mut self, word: u64) {
        self.bytes(&word.to_le_bytes()[..4]);
    }

    /// Leaves out what a bank is said to hold, and sometimes what it is not.
    fn hole(&mut self, len: u64) {
        self.len = self.len.saturating_add(len);
    }

    fn residue(self) -> Vec<u8> {
        let mut out = self.len.to_le_bytes().to_vec();
        out.extend((self.segments.len() as u32).to_le_bytes());
        for (at, bytes) in &self.segments {
            out.extend(at.to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
        }
        for (_, bytes) in &self.segments {
            out.extend(bytes);
        }
        out
    }
}

/// A capsule of one row, or of a few listed ones, with a residue of the script's.
pub fn claims(script: &mut Input<'_>) -> Seed {
    let (name, format, residue) = match script.byte() % 4 {
        0 => ("mlx-lm", "mlx-lm-0.31", ring(script)),
        1 => ("llama.cpp", "ggsq-2", cells(script)),
        2 => ("transformers", "dynamic-cache", header(script)),
        _ => ("llama.cpp", "ggsq-3", cells(script)),
    };
    let listed = u64::from(script.byte() % 8);
    let (tokens, rows) = match listed {
        0 => (1, RowsEntry::From(0)),
        listed => (listed, RowsEntry::Listed(2)),
    };
    let bank = |role| BankEntry {
        role,
        layer: 0,
        index: 0,
        dtype: Dtype::F16,
        shape: BankShape::Tokens {
            heads: 1,
            tokens,
            dim: 1,
        },
        rows,
        window: 0,
        codec: Codec::Raw,
        rotation: None,
        hadamard: 0,
        chunk_len: 4096,
        asked: None,
    };
    let mut streams = vec![vec![0; 2 * tokens as usize]; 2];
    let mut entries = vec![
        Stream::Bank(bank(Role::Key)),
        Stream::Bank(bank(Role::Value)),
    ];
    let mut section = |kind, bytes: Vec<u8>| {
        entries.push(fixture::section(kind, bytes.len()));
        streams.push(bytes);
    };
    if listed > 0 {
        let positions = (0..listed).flat_map(|_| u64::from(script.byte()).to_le_bytes());
        section(SectionKind::Positions, positions.collect());
    }
    section(SectionKind::Residue, residue);
    let runtime = Runtime {
        name: name.to_owned(),
        version: String::new(),
        format: format.to_owned(),
        facts: Vec::new(),
    };
    Seed {
        context: Context::new(
            fixture::model(),
            fixture::tokenizer(),
            runtime,
            0..tokens,
            1,
            entries,
        ),
        streams,
    }
}

/// A number at the edge of something, no longer than a file can be.
fn count(script: &mut Input<'_>) -> u64 {
    script.edge() % (1 << 40)
}

/// An mlx-lm ring, by default one that has wrapped, with its rows in a hole.
fn ring(script: &mut Input<'_>) -> Vec<u8> {
    let rows = count(script).max(1);
    let mut numbers = [1 % rows, rows, rows + 10, 5.min(rows)];
    let odd = script.byte();
    if let Some(number) = numbers.get_mut(usize::from(odd)) {
        *number = count(script);
    }
    let [keep, max_size, offset, idx] = numbers;
    let (half, all) = (2 * rows, 4 * rows);
    let text = format!(
        r#"{{"__metadata__":{{"0.0.0":"{keep}","0.0.1":"{max_size}","0.0.2":"{offset}","0.0.3":"{idx}","2.0":"RotatingKVCache"}},"0.0":{{"dtype":"F16","shape":[1,1,{rows},1],"data_offsets":[0,{half}]}},"0.1":{{"dtype":"F16","shape":[1,1,{rows},1],"data_offsets":[{half},{all}]}}}}"#
    );
    let mut file = File::default();
    file.bytes(&(text.len() as u64).to_le_bytes());
    file.bytes(text.as_bytes());
    file.hole(all);
    file.residue()
}

/// A llama.cpp sequence, whose tokens and cells are there or in holes.
fn cells(script: &mut Input<'_>) -> Vec<u8> {
    let tokens = count(script) % (1 << 27);
    let cells = count(script) % (1 << 25);
    let flags = script.byte();
    let mut file = File::default();
    file.word(0x6767_7371);
    file.word(if flags & 1 == 0 { 2 } else { 3 });
    file.word(tokens);
    let mut either = |file: &mut File, len: u64, there: bool| match there && len <= 4096 {
        true => file.bytes(script.take(len as usize)),
        false => file.hole(len),
    };
    either(&mut file, 4 * tokens, flags & 2 != 0);
    if flags & 1 != 0 {
        file.word(1);
    }
    file.word(cells);
    let cell = if flags & 1 == 0 { 8 } else { 12 };
    either(&mut file, cell * cells, flags & 4 != 0);
    file.word(0);
    file.word(1);
    for _ in 0..2 {
        file.word(1);
        file.bytes(&4_u64.to_le_bytes());
        file.hole(4 * cells);
    }
    file.residue()
}

/// A safetensors header of a claimed length, of which a part is there.
fn header(script: &mut Input<'_>) -> Vec<u8> {
    let len = count(script) % 100_000_000;
    let mut file = File::default();
    file.bytes(&len.to_le_bytes());
    let there = script.short();
    file.bytes(there);
    file.hole(len.saturating_sub(there.len() as u64));
    file.hole(count(script));
    file.residue()
}
