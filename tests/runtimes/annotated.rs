//! The annotated files of `spec/runtimes-v1.md` are the fixtures, byte for byte, and their regions are those that the
//! adapters find. `KVCAP_BLESS=1` rewrites them.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt::Write as _, ops::Range};

use kvcap_states::{Hints, RuntimeKind, parse};
use kvcap_testkit::fixture;

const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/runtimes-v1.md");

/// Most bytes of a part that are shown.
const SHOWN: usize = 12;
/// Column of what a part is.
const COLUMN: usize = 42;

/// A file, how far it is explained, and the regions met.
struct Walk {
    file: Vec<u8>,
    at: usize,
    text: String,
    regions: BTreeSet<(u64, u64)>,
}

impl Walk {
    fn new(file: Vec<u8>) -> Self {
        Self {
            file,
            at: 0,
            text: String::new(),
            regions: BTreeSet::new(),
        }
    }

    fn line(&mut self, shown: &str, what: &str) {
        let row = format!("{:>5x}  {shown:<COLUMN$}{what}", self.at);
        writeln!(self.text, "{}", row.trim_end()).unwrap();
    }

    /// The next `len` bytes.
    fn bytes(&mut self, len: usize, what: &str) {
        let bytes = &self.file[self.at..self.at + len];
        let mut shown: Vec<_> = (bytes.iter().take(SHOWN))
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if len > SHOWN {
            shown.push("…".to_owned());
        }
        self.line(&shown.join(" "), what);
        self.at += len;
    }

    /// The next four bytes as a number.
    fn u32(&mut self, what: impl Fn(u32) -> String) -> usize {
        let number = u32::from_le_bytes(self.file[self.at..self.at + 4].try_into().unwrap());
        self.bytes(4, &what(number));
        usize::try_from(number).unwrap()
    }

    /// Bytes that are like those before.
    fn skip(&mut self, len: usize, what: &str) {
        self.line("…", what);
        self.at += len;
    }

    /// The bytes of a bank.
    fn region(&mut self, range: Range<usize>) {
        let [start, end] = [range.start, range.end].map(|at| u64::try_from(at).unwrap());
        self.regions.insert((start, end));
    }

    /// Compares the regions with those that the adapter finds.
    fn finish(mut self, kind: RuntimeKind) -> String {
        assert_eq!(self.at, self.file.len(), "bytes are left");
        let state = parse(kind, &self.file, Hints::None).unwrap();
        let parts = state.banks.iter().flat_map(|placed| &placed.parts);
        let found = parts.map(|part| (part.offset, part.offset + part.len));
        assert_eq!(self.regions, found.collect());
        self.line("", "end");
        self.text
    }
}

/// The entries of a JSON object, split as they stand.
fn entries(object: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, byte) in object.bytes().enumerate() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                found.push(&object[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&object[start..]);
    found
}

/// A header's lines: entries that have a note, and … for others between them.
struct Listing<'a> {
    notes: &'a [(&'a str, &'a str)],
    told: BTreeSet<&'a str>,
    left_out: bool,
    lines: Vec<String>,
}

impl Listing<'_> {
    /// An object's entries, each found by its key after `path`.
    fn object(&mut self, object: &str, indent: &str, path: &str, data: &[u8]) {
        let all = entries(object);
        for (at, entry) in all.iter().enumerate() {
            let key = entry.split('"').nth(1).unwrap();
            let comma = if at + 1 < all.len() { "," } else { "" };
            if let Some(metadata) = entry.strip_prefix("\"__metadata__\":{") {
                self.flush(indent);
                self.lines.push(format!("{indent}\"__metadata__\":{{"));
                let inside = &metadata[..metadata.len() - 1];
                self.object(inside, &format!("{indent}  "), "metadata ", data);
                self.lines.push(format!("{indent}}}{comma}"));
                continue;
            }
            let path = format!("{path}{key}");
            let Some((name, what)) = self.notes.iter().find(|(name, _)| *name == path) else {
                self.left_out = true;
                continue;
            };
            self.flush(indent);
            self.told.insert(name);
            let what = format!("{what}{}", number(entry, data));
            let entry = format!("{indent}{entry}{comma}");
            self.lines.push(format!("{entry:<78}  {what}"));
        }
        self.flush(indent);
    }

    fn flush(&mut self, indent: &str) {
        if std::mem::take(&mut self.left_out) {
            self.lines.push(format!("{indent}…"));
        }
    }
}

/// The value of a tensor of whole numbers: one, or the letters of a name.
fn number(entry: &str, data: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_str(&format!("{{{entry}}}")).unwrap();
    let tensor = value.as_object().unwrap().values().next().unwrap();
    if tensor["dtype"] != "I32" {
        return String::new();
    }
    let (words, _) = data[range(tensor)].as_chunks::<4>();
    let words: Vec<_> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    if let [one] = words[..] {
        return format!(" = {one}");
    }
    let letters = words.iter().map(|word| char::from_u32(*word).unwrap());
    format!(" = \"{}\"", letters.collect::<String>())
}

fn range(tensor: &serde_json::Value) -> Range<usize> {
    let at = |n: usize| usize::try_from(tensor["data_offsets"][n].as_u64().unwrap()).unwrap();
    at(0)..at(1)
}

/// A safetensors file: what `notes` name stands with its note.
fn safetensors(name: &str, kind: RuntimeKind, notes: &[(&str, &str)]) -> String {
    let mut walk = Walk::new(std::fs::read(fixture(&format!("{name}.safetensors"))).unwrap());
    let len = usize::try_from(u64::from_le_bytes(walk.file[..8].try_into().unwrap())).unwrap();
    walk.bytes(8, &format!("n = {len}"));
    let first = 8 + len;
    let header = String::from_utf8(walk.file[8..first].to_vec()).unwrap();
    let object = header.trim_end_matches(' ');
    let mut listing = Listing {
        notes,
        told: BTreeSet::new(),
        left_out: false,
        lines: Vec::new(),
    };
    let inside = &object[1..object.len() - 1];
    listing.object(inside, "  ", "", &walk.file[first..]);
    assert_eq!(listing.told.len(), notes.len(), "{name} has other entries");
    writeln!(walk.text, "    8  {{").unwrap();
    for line in &listing.lines {
        writeln!(walk.text, "       {}", line.trim_end()).unwrap();
    }
    let blanks = match header.len() - object.len() {
        0 => String::new(),
        blanks => format!("  and {blanks} spaces"),
    };
    writeln!(walk.text, "       }}{blanks}").unwrap();
    walk.at = first;
    let data = walk.file.len() - first;
    walk.bytes(data, &format!("data: {data} bytes"));
    let header: serde_json::Value = serde_json::from_str(object).unwrap();
    for (name, tensor) in header.as_object().unwrap() {
        // numbers, names and nothing are residue
        let bytes = || range(tensor);
        if name != "__metadata__" && tensor["dtype"] != "I32" && !bytes().is_empty() {
            let Range { start, end } = bytes();
            walk.region(first + start..first + end);
        }
    }
    walk.finish(kind)
}

/// `text` with … for the lines from the one that holds `from` on, up to the last that holds `to`.
fn without(text: &str, from: &str, to: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let first = lines.iter().position(|line| line.contains(from)).unwrap();
    let last = lines.iter().rposition(|line| line.contains(to)).unwrap();
    let mut kept = lines[..first].to_vec();
    kept.push("       …");
    kept.extend(&lines[last..]);
    kept.join("\n") + "\n"
}

/// Sections of a llama.cpp file: one attention cache of one stream.
fn attention(walk: &mut Walk) {
    walk.u32(|n| format!("attention cache: n_stream = {n}"));
    let cells = walk.u32(|n| format!("stream 0: {n} cells"));
    walk.bytes(12, "cell 0: position 0, in 1 sequence, which is 0");
    walk.skip(12 * (cells - 1), &format!("{} more cells", cells - 1));
    let v_trans = walk.u32(|n| format!("v_trans = {n}"));
    let layers = walk.u32(|n| format!("n_layer = {n}"));
    for half in ["keys", "values"] {
        for layer in 0..layers {
            let start = walk.at;
            if layer > 0 {
                let row = tensor_len(walk, half == "values" && v_trans == 1);
                walk.region(start + 12..start + 12 + row * cells);
                walk.at = start + 12 + row * cells;
                continue;
            }
            let kind = walk.u32(|n| format!("{half} of the first layer: type {n}"));
            assert!([1, 2, 8].contains(&kind));
            let row = if half == "values" && v_trans == 1 {
                let element = walk.u32(|n| format!("element bytes = {n}"));
                element * walk.u32(|n| format!("channels = {n}"))
            } else {
                let row = tensor_row(walk);
                walk.bytes(8, &format!("row bytes = {row}"));
                row
            };
            walk.region(walk.at..walk.at + row * cells);
            let what = match half == "values" && v_trans == 1 {
                false => format!("region: {cells} rows of {row} bytes"),
                true => format!("region: {} channels of {cells} elements", row / 2),
            };
            walk.bytes(row * cells, &what);
            let end = walk.at;
            let each = 12 + row * cells;
            walk.line("…", &format!("{} more layers of {each} bytes", layers - 1));
            assert_eq!(end, start + each);
        }
    }
}

fn tensor_row(walk: &Walk) -> usize {
    let row = walk.file[walk.at..walk.at + 8].try_into().unwrap();
    usize::try_from(u64::from_le_bytes(row)).unwrap()
}

fn tensor_len(walk: &Walk, transposed: bool) -> usize {
    let word = |at: usize| {
        let at = walk.at + at;
        let word = walk.file[at..at + 4].try_into().unwrap();
        usize::try_from(u32::from_le_bytes(word)).unwrap()
    };
    if transposed {
        word(4) * word(8)
    } else {
        word(4)
    }
}

fn head(walk: &mut Walk, what: &str) -> usize {
    walk.bytes(4, what);
    walk.u32(|n| format!("version = {n}"));
    walk.u32(|n| format!("tokens: n = {n}"))
}

fn llama(name: &str) -> Walk {
    Walk::new(std::fs::read(fixture(&format!("{name}.bin"))).unwrap())
}

fn sequence(name: &str) -> String {
    let mut walk = llama(name);
    let tokens = head(&mut walk, "magic 67677371: a sequence");
    walk.bytes(4 * tokens, &format!("{tokens} ids of 4 bytes"));
    attention(&mut walk);
    walk.finish(RuntimeKind::LlamaCpp)
}

fn session() -> String {
    let mut walk = llama("llama_ggsn10_q8_0");
    let tokens = head(&mut walk, "magic 6767736e: a session");
    walk.bytes(4 * tokens, &format!("{tokens} ids of 4 bytes"));
    let arch = walk.u32(|n| format!("architecture: n = {n}"));
    walk.bytes(arch, "\"llama\"");
    attention(&mut walk);
    walk.finish(RuntimeKind::LlamaCpp)
}

/// The sequence file with llama-server's record in place of its tokens, as the server saves a slot.
fn slot() -> String {
    let mut walk = llama("llama_ggsq3_f16_fa");
    let file = &walk.file;
    let ids = &file[12..12 + 64];
    let record: Vec<u8> = [-1_i32, 1, 16]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .chain(ids.iter().copied())
        .chain([0; 4])
        .collect();
    let count = u32::try_from(record.len() / 4).unwrap().to_le_bytes();
    walk.file = [&file[..8], &count, &record, &file[76..]].concat();
    let words = head(&mut walk, "magic 67677371: a sequence");
    assert_eq!(words, 20);
    walk.bytes(4, "−1: the array is llama-server's record");
    walk.u32(|n| format!("its version = {n}"));
    let tokens = walk.u32(|n| format!("n = {n}"));
    walk.bytes(4 * tokens, &format!("{tokens} ids of 4 bytes"));
    walk.u32(|n| format!("m = {n}: no media, and the record ends"));
    attention(&mut walk);
    walk.finish(RuntimeKind::LlamaCpp)
}

fn examples() -> Vec<(&'static str, String)> {
    let mlx = RuntimeKind::MlxLm;
    vec![
        (
            "mlx-lm-0.31",
            safetensors(
                "mlx031_tiny",
                mlx,
                &[
                    ("0.0", "layer 0, slot 0: keys"),
                    ("0.1", "layer 0, slot 1: values"),
                    ("metadata 0.0", "meta_state of layer 0: none"),
                    ("metadata 2.0", "class of layer 0"),
                ],
            ),
        ),
        (
            "mlx-lm-0.31 quantized",
            safetensors(
                "mlx031_q8",
                mlx,
                &[
                    ("0.0.0", "layer 0, keys: codes"),
                    ("0.0.1", "scales"),
                    ("0.0.2", "biases"),
                    ("metadata 0.0.0", "meta_state of layer 0: offset"),
                    ("metadata 0.0.1", "group"),
                    ("metadata 0.0.2", "bits"),
                    ("metadata 2.0", "class of layer 0"),
                ],
            ),
        ),
        (
            "mlx-lm-0.32",
            safetensors(
                "mlx032_tiny",
                mlx,
                &[
                    ("0.0", "layer 0, slot 0: keys"),
                    ("0.1", "layer 0, slot 1: values"),
                    ("0.2", "layer 0, slot 2: offset"),
                    ("metadata 1.0", "class of layer 0"),
                    ("metadata 2.0", "begins the third list"),
                    ("metadata 2.1.0", "tensor 0.2 …"),
                    ("metadata 2.1.1", "… is a number"),
                ],
            ),
        ),
        (
            "mlx-lm-0.32 nested",
            safetensors(
                "mlx032_list",
                mlx,
                &[
                    ("0.0.0.0.0", "layer 0, cache 0, slot 0: convolution"),
                    ("0.0.0.0.1", "recurrent"),
                    ("0.0.0.1", "slot 1: left_padding"),
                    ("0.0.0.2", "slot 2: lengths"),
                    ("0.0.1", "class of cache 0"),
                    ("0.1.0.0", "layer 0, cache 1, slot 0: keys"),
                    ("0.1.0.1", "slot 1: values"),
                    ("0.1.0.2", "slot 2: offset"),
                    ("0.1.1", "class of cache 1"),
                    ("metadata 1.0", "class of layer 0"),
                    ("metadata 2.1.0", "tensor 0.0.0.1 …"),
                    ("metadata 2.1.1", "… is nothing"),
                    ("metadata 2.3.0", "tensor 0.0.1 …"),
                    ("metadata 2.3.1", "… is a text"),
                ],
            ),
        ),
        (
            "mlx-lm-0.32 ring",
            safetensors(
                "mlx032_rotating",
                mlx,
                &[
                    ("0.0", "keys: R = 16 rows held"),
                    ("0.2", "offset, O"),
                    ("0.3", "keep, K"),
                    ("0.4", "max_size, M"),
                    ("0.5", "_idx, I"),
                    ("metadata 1.0", "class of layer 0"),
                ],
            ),
        ),
        (
            "transformers",
            safetensors(
                "hf_f16",
                RuntimeKind::HuggingFace,
                &[
                    ("layers.0.keys", "layer 0: keys"),
                    ("layers.0.values", "layer 0: values"),
                    ("layers.5.values", "the last of 12 tensors"),
                ],
            ),
        ),
        ("llama.cpp sequence", sequence("llama_ggsq3_f16_fa")),
        (
            "llama.cpp transposed",
            without(&sequence("llama_ggsq3_f16_vtrans"), "version", "v_trans"),
        ),
        (
            "llama.cpp session",
            without(&session(), "values of", "  end"),
        ),
        ("llama.cpp slot", without(&slot(), "v_trans", "  end")),
    ]
}

#[test]
fn annotated_files_are_fresh() {
    let mut spec = std::fs::read_to_string(SPEC).unwrap();
    let mut stale = Vec::new();
    for (name, text) in examples() {
        let marker = format!("<!-- example: {name} -->\n\n```\n");
        let start = spec.find(&marker).unwrap_or_else(|| panic!("no {name}")) + marker.len();
        let end = start + spec[start..].find("```\n").unwrap();
        if spec[start..end] != text {
            stale.push(name);
            spec.replace_range(start..end, &text);
        }
    }
    if std::env::var_os("KVCAP_BLESS").is_some() {
        std::fs::write(SPEC, spec).unwrap();
    } else {
        assert!(stale.is_empty(), "stale: {stale:?}; run with KVCAP_BLESS=1");
    }
}
