//! llama.cpp's saved states: sequence files, session files, llama-server's slot files and the
//! in-memory form of a sequence (runtimes-v1 §3).
//!
//! A version number does not name a layout, and nothing in a file says which sections follow. So
//! every layout that a version is known to have is tried, and the file is accepted only if exactly
//! one reads it to its last byte.

use std::fmt;

use kvcap::{Code, Error, Result};

use self::{
    cursor::Cursor,
    section::{Attention, Layout, Recurrent, Section},
    tokens::Tokens,
};
use crate::state::{Hints, ReadAt, State};

mod cursor;
mod describe;
mod label;
mod layers;
mod section;
mod tokens;

#[cfg(test)]
mod tests;

const SEQUENCE_MAGIC: u32 = 0x6767_7371;
const SESSION_MAGIC: u32 = 0x6767_736e;
const BLOB_MAGIC: u32 = 0xaf14_3cd8;
/// First word of the memory of a DeepSeek-V4 context, which has sections of its own.
const DSV4_MAGIC: u32 = 0x3456_5344;

const MAX_ARCH_BYTES: u32 = 256;
/// Full attention, sliding window, recurrent.
const MAX_SECTIONS: usize = 3;

/// Whether the file starts with one of llama.cpp's magic numbers.
pub(crate) fn recognise(file: &dyn ReadAt) -> bool {
    let magic = Cursor::new(file).u32("the magic number");
    matches!(magic, Ok(SEQUENCE_MAGIC | SESSION_MAGIC | BLOB_MAGIC))
}

/// Parses a state file to its last byte.
///
/// # Errors
/// [`Code::StateUnsupported`] for a version or content that is not carried,
/// [`Code::StateMalformed`] where no layout reads the whole file, [`Code::StateLimit`] for a count
/// over its limit, [`Code::StateContradiction`] where the file contradicts the hints or itself.
pub(crate) fn parse(file: &dyn ReadAt, hints: Hints<'_>) -> Result<State> {
    let header = Header::read(file)?;
    let mut search = Search::default();
    search.layouts(&header, header.form.layouts);
    match search.found.as_slice() {
        [] => Err(foreign(&header).unwrap_or_else(|| search.nothing_fits())),
        [only] => describe::state(&header, only, hints),
        // the hints decide, if they leave one
        several => {
            let mut states: Vec<_> = several
                .iter()
                .map(|parsed| describe::state(&header, parsed, hints))
                .collect();
            if states.iter().any(Result::is_ok) {
                states.retain(Result::is_ok);
                if states.len() > 1 {
                    let what = "more than one layout reads the file to its last byte";
                    return Err(Error::new(Code::StateUnsupported, what));
                }
            }
            states.swap_remove(0)
        }
    }
}

/// A form of file: what its magic and version leave open.
struct Form {
    format: &'static str,
    /// The value of the fact `file`.
    file: &'static str,
    /// It holds one sequence.
    single: bool,
    /// In the order in which they are tried.
    layouts: &'static [Variant],
}

/// A layout of what follows the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    /// An attention cache starts with its number of streams.
    n_stream: bool,
    /// Bytes of a cell's extension.
    cell_ext: u32,
    /// An attention cache says how its rows are rotated.
    rotation: bool,
    /// Logits and embeddings stand before the sections.
    outputs: bool,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.n_stream {
            "streams"
        } else {
            "no streams"
        })?;
        if self.rotation {
            f.write_str(" with rotation")?;
        }
        if self.cell_ext > 0 {
            write!(f, " and {} bytes more a cell", self.cell_ext)?;
        }
        Ok(())
    }
}

const fn streams(cell_ext: u32) -> Variant {
    Variant {
        n_stream: true,
        cell_ext,
        rotation: false,
        outputs: false,
    }
}

const fn rotated(cell_ext: u32) -> Variant {
    Variant {
        rotation: true,
        ..streams(cell_ext)
    }
}

const fn with_outputs(variant: Variant) -> Variant {
    Variant {
        outputs: true,
        ..variant
    }
}

/// As before caches had streams, and as ik_llama.cpp still writes them.
const ONE_CACHE: Variant = Variant {
    n_stream: false,
    ..streams(0)
};

/// Every layout that any version has.
const EVERY: &[Variant] = &[
    rotated(0),
    rotated(12),
    streams(0),
    streams(8),
    streams(12),
    ONE_CACHE,
    with_outputs(streams(0)),
    with_outputs(ONE_CACHE),
];

const SEQUENCE_4: Form = Form {
    format: "ggsq-4",
    file: "sequence",
    single: true,
    layouts: &[rotated(0), rotated(12)],
};
const SEQUENCE_3: Form = Form {
    format: "ggsq-3",
    layouts: &[streams(0), streams(12)],
    ..SEQUENCE_4
};
const SEQUENCE_2: Form = Form {
    format: "ggsq-2",
    layouts: &[streams(0), streams(8), streams(12), ONE_CACHE],
    ..SEQUENCE_4
};
const SESSION_11: Form = Form {
    format: "ggsn-11",
    file: "session",
    single: false,
    layouts: &[rotated(0), rotated(12)],
};
const SESSION_10: Form = Form {
    format: "ggsn-10",
    layouts: &[streams(0), streams(12)],
    ..SESSION_11
};
const SESSION_9: Form = Form {
    format: "ggsn-9",
    layouts: &[
        streams(0),
        streams(8),
        streams(12),
        with_outputs(streams(0)),
        with_outputs(ONE_CACHE),
    ],
    ..SESSION_11
};
const BLOB: Form = Form {
    format: "seq-blob",
    file: "blob",
    single: true,
    layouts: &[rotated(0), rotated(12), streams(0), streams(8), streams(12)],
};

/// Refuses a file whose version has other layouts than the one that reads it: it is whole, and of a
/// program that is not known.
fn foreign(header: &Header<'_>) -> Option<Error> {
    let mut search = Search::default();
    search.layouts(header, EVERY);
    let found = search.found.first()?.variant;
    let what = match found.n_stream {
        true => "the layout of the file is not one that llama.cpp gives this version",
        false => "the file is of a fork that keeps the layout without streams (ik_llama.cpp)",
    };
    let own = header.form.layouts.iter().map(Variant::to_string);
    Some(
        Error::new(Code::StateUnsupported, what)
            .at(header.form.format)
            .sides(own.collect::<Vec<_>>().join(" or "), found),
    )
}

/// What stands before the memory sections.
struct Header<'a> {
    form: &'static Form,
    tokens: Option<Tokens>,
    /// Architecture, in a session.
    arch: Option<String>,
    /// Sequence, in a blob.
    sequence: Option<u32>,
    /// At the first section (or the outputs of an old session).
    body: Cursor<'a>,
    file_len: u64,
}

impl<'a> Header<'a> {
    fn read(file: &'a dyn ReadAt) -> Result<Self> {
        let mut cursor = Cursor::new(file);
        let magic = cursor.u32("the magic number")?;
        let mut header = Self {
            form: &BLOB,
            tokens: None,
            arch: None,
            sequence: None,
            body: cursor.clone(),
            file_len: file.len(),
        };
        if magic == BLOB_MAGIC {
            header.sequence = Some(cursor.u32("the sequence id")?);
        } else {
            let version = cursor.u32("the version")?;
            header.form = match (magic, version) {
                (SEQUENCE_MAGIC, 4) => &SEQUENCE_4,
                (SEQUENCE_MAGIC, 3) => &SEQUENCE_3,
                (SEQUENCE_MAGIC, 2) => &SEQUENCE_2,
                (SESSION_MAGIC, 11) => &SESSION_11,
                (SESSION_MAGIC, 10) => &SESSION_10,
                (SESSION_MAGIC, 9) => &SESSION_9,
                (SEQUENCE_MAGIC, _) => return Err(unknown_version("sequence", "2 to 4", version)),
                (SESSION_MAGIC, _) => return Err(unknown_version("session", "9 to 11", version)),
                _ => {
                    let what = "the file is not a llama.cpp state";
                    return Err(Error::new(Code::StateUnrecognised, what));
                }
            };
            header.tokens = Some(Tokens::read(&mut cursor, header.form.single)?);
            if !header.form.single {
                header.arch = Some(read_arch(&mut cursor)?);
            }
        }
        if matches!(cursor.clone().u32(""), Ok(DSV4_MAGIC)) {
            let what = "the memory of a DeepSeek-V4 context is not carried";
            return Err(Error::new(Code::StateUnsupported, what));
        }
        header.body = cursor;
        Ok(header)
    }
}

/// A way to read the whole file.
struct Parsed {
    variant: Variant,
    sections: Vec<Section>,
}

/// All ways to read the file, and the failure that came furthest.
#[derive(Default)]
struct Search {
    found: Vec<Parsed>,
    furthest: Option<((usize, bool, u64), Error)>,
}

impl Search {
    /// Tries each layout on what follows the header.
    fn layouts(&mut self, header: &Header<'_>, variants: &[Variant]) {
        for variant in variants {
            let mut cursor = header.body.clone();
            let start = match variant.outputs {
                true => skip_outputs(&mut cursor),
                false => Ok(()),
            };
            match start {
                Ok(()) => {
                    let layout = Layout {
                        n_stream: variant.n_stream,
                        cell_ext: variant.cell_ext,
                        rotation: variant.rotation,
                        single: header.form.single,
                    };
                    self.sections(&cursor, layout, *variant, &mut Vec::new());
                }
                Err(error) => self.failed(&cursor, false, error),
            }
        }
    }

    /// Tries every order of sections from `cursor` on: one or two attention caches with or without
    /// values, then recurrent states.
    fn sections(
        &mut self,
        cursor: &Cursor<'_>,
        layout: Layout,
        variant: Variant,
        before: &mut Vec<Section>,
    ) {
        if !before.is_empty() {
            if cursor.at_end() {
                self.read_whole(variant, before);
                return;
            }
            self.failed(cursor, true, after_sections(cursor));
            let closed = matches!(before.last(), Some(Section::Recurrent(_)));
            if closed || before.len() == MAX_SECTIONS || !layout.n_stream {
                return;
            }
        }
        for kind in 0..3 {
            let mut next = cursor.clone();
            let section = match kind {
                0 | 1 if before.len() == 2 => continue,
                0 => Attention::read(&mut next, layout, true).map(Section::Attention),
                1 => Attention::read(&mut next, layout, false).map(Section::Attention),
                // before streams, a recurrent state was written as an attention cache
                _ if !layout.n_stream => continue,
                _ => Recurrent::read(&mut next, layout).map(Section::Recurrent),
            };
            match section {
                Ok(section) => {
                    before.push(section);
                    self.sections(&next, layout, variant, before);
                    before.pop();
                }
                Err(error) => self.failed(&next, false, error),
            }
        }
    }

    fn read_whole(&mut self, variant: Variant, sections: &[Section]) {
        if self.found.iter().any(|known| known.sections == sections) {
            return; // nothing in the file depends on where the two differ
        }
        self.found.push(Parsed {
            variant,
            sections: sections.to_vec(),
        });
    }

    /// Keeps the failure of the layout that read most: between two that read as many structures,
    /// bytes after a section say more than what those bytes are not.
    fn failed(&mut self, cursor: &Cursor<'_>, after_section: bool, error: Error) {
        let rank = (cursor.structures(), after_section, cursor.at());
        if self.furthest.as_ref().is_none_or(|(best, _)| rank > *best) {
            self.furthest = Some((rank, error));
        }
    }

    fn nothing_fits(self) -> Error {
        let what = "no known layout reads the file to its last byte";
        match self.furthest {
            Some(((_, _, at), error)) => {
                error.at(format_args!("{what}; the best stops near byte {at}"))
            }
            None => Error::new(Code::StateMalformed, what),
        }
    }
}

/// What follows the last section: a trailer with a tag of four capitals is of a writer that is not known.
fn after_sections(cursor: &Cursor<'_>) -> Error {
    let tag = cursor.clone().bytes("a trailer").unwrap_or_default();
    let capital = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let what = match &tag {
        // the proposals for llama-server write it as text or as a number
        b"SCKP" | b"PKCS" => "context checkpoints (SCKP) follow the last section".to_owned(),
        tag if tag.iter().all(capital) => {
            let tag = String::from_utf8_lossy(tag);
            format!("an unknown trailer {tag} follows the last section")
        }
        _ => {
            let what = format!("{} bytes follow the last section", cursor.remaining());
            return Error::new(Code::StateMalformed, what);
        }
    };
    Error::new(Code::StateUnsupported, what)
}

fn read_arch(cursor: &mut Cursor<'_>) -> Result<String> {
    let what = "the architecture's name";
    let len = cursor.count(what, 1, MAX_ARCH_BYTES)?;
    let bytes: Vec<u8> = (0..len)
        .map(|_| cursor.bytes::<1>(what).map(|[byte]| byte))
        .collect::<Result<_>>()?;
    let name = String::from_utf8(bytes).ok();
    name.filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| {
            let what = "the architecture's name is not plain text";
            Error::new(Code::StateMalformed, what)
        })
}

/// `u32 n, i32 ids[n], u64 m, f32 logits[m], u64 k, f32 embeddings[k]`, until llama.cpp left
/// them out of sessions.
fn skip_outputs(cursor: &mut Cursor<'_>) -> Result<()> {
    let ids = cursor.count("output ids", 4, u32::MAX)?;
    cursor.skip(u64::from(ids).saturating_mul(4), "output ids")?;
    for what in ["logits", "embeddings"] {
        let count = cursor.u64(what)?;
        cursor.skip(count.saturating_mul(4), what)?;
    }
    Ok(())
}

fn unknown_version(form: &str, known: &str, version: u32) -> Error {
    let what = format!("the version of the {form} file is unknown");
    Error::new(Code::StateUnsupported, what).sides(known, version)
}
