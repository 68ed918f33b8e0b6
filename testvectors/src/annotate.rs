//! A file's bytes written out in order, each with what it is.

use std::fmt::Write as _;

use crate::{hex::hex, raw::head};

/// Bytes on a line.
const WIDTH: usize = 16;

/// `89 4b 56`.
#[must_use]
pub fn spaced(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

/// Hexadecimal in lines of `width` bytes.
#[must_use]
pub fn hex_lines(bytes: &[u8], width: usize) -> Vec<String> {
    bytes.chunks(width).map(hex).collect()
}

/// The text, and how far the file is explained.
pub struct Page<'a> {
    /// The text so far.
    pub text: String,
    file: &'a [u8],
    at: usize,
}

impl<'a> Page<'a> {
    /// Nothing explained yet.
    #[must_use]
    pub fn new(file: &'a [u8]) -> Self {
        Self {
            text: String::new(),
            file,
            at: 0,
        }
    }

    /// The offset up to which the file is explained.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The text, once every byte is explained.
    #[must_use]
    pub fn finish(self) -> String {
        assert_eq!(self.at, self.file.len(), "bytes are left");
        self.text
    }

    /// A heading, and the start of a block.
    pub fn section(&mut self, title: &str) {
        writeln!(self.text, "\n## {title}\n\n```").unwrap();
    }

    /// The end of a block.
    pub fn end(&mut self) {
        self.text.push_str("```\n");
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize, what: &str) {
        let bytes = &self.file[self.at..self.at + len];
        for (line, part) in bytes.chunks(WIDTH).enumerate() {
            let what = if line == 0 { what } else { "" };
            let offset = self.at + line * WIDTH;
            let hex = spaced(part);
            let row = format!("{offset:04x}  {hex:<48}{what}");
            self.text.push_str(row.trim_end());
            self.text.push('\n');
        }
        self.at += len;
    }

    /// Zeros up to the next page.
    pub fn zeros(&mut self, what: &str) {
        let end = self.at.next_multiple_of(4096);
        assert!(self.file[self.at..end].iter().all(|byte| *byte == 0));
        writeln!(
            self.text,
            "{:04x}  00 …{:44}{what}, {} bytes",
            self.at,
            "",
            end - self.at
        )
        .unwrap();
        self.at = end;
    }

    /// The head of a byte string.
    pub fn string_head(&mut self, len: usize, what: &str) {
        let (_, found, head) = head(self.file, self.at);
        assert_eq!(found, len);
        self.bytes(head, &format!("{what}: {len} bytes"));
    }

    /// One CBOR item, named by the paths of its parts.
    pub fn cbor(&mut self, names: &[(&str, &str)]) {
        self.item(names, 0, "", 0, "");
    }

    /// An item whose `lead` bytes are its key in a map.
    fn item(&mut self, names: &[(&str, &str)], lead: usize, path: &str, depth: usize, label: &str) {
        let (major, argument, len) = head(self.file, self.at + lead);
        let start = self.at + lead + len;
        let content = |len| &self.file[start..start + len];
        let (value, total) = match major {
            0 => (argument.to_string(), len),
            1 => (format!("-{}", argument + 1), len),
            2 => (format!("{argument} bytes"), len + argument),
            3 => (
                format!("{:?}", String::from_utf8_lossy(content(argument))),
                len + argument,
            ),
            4 => (format!("array of {argument}"), len),
            _ => (format!("map of {argument}"), len),
        };
        let name = names
            .iter()
            .find(|(own, _)| *own == path)
            .map_or("", |n| n.1);
        let text = [label, &value, name]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(if name.is_empty() { " " } else { "  " });
        self.bytes(lead + total, &format!("{:1$}{text}", "", 2 * depth));
        let step = |last: &str| match path {
            "" => last.to_owned(),
            _ => format!("{path}.{last}"),
        };
        match major {
            4 => {
                for index in 0..argument {
                    // places in a fixed array have names, elements of a list do not
                    let place = step(&index.to_string());
                    let named = names.iter().any(|(own, _)| own.starts_with(&place));
                    let place = if named { place } else { step("*") };
                    self.item(names, 0, &place, depth + 1, "");
                }
            }
            5 => {
                for _ in 0..argument {
                    let (major, key, len) = head(self.file, self.at);
                    let key = match major {
                        1 => format!("-{}", key + 1),
                        _ => key.to_string(),
                    };
                    self.item(names, len, &step(&key), depth + 1, &format!("{key}:"));
                }
            }
            _ => {}
        }
    }
}
