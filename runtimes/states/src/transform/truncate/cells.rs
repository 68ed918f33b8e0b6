//! What a shorter llama.cpp state says: fewer tokens, fewer cells.

use kvcap::Result;

use super::{Edit, unsupported};
use crate::state::{
    ReadAt, State,
    file::{overflow, read_at},
};

/// Edits of the token array and of the one stream with cells.
pub(super) fn edits(state: &State, file: &dyn ReadAt, tokens: u64) -> Result<Vec<Edit>> {
    let fact = |name: &str| {
        let found = state.facts.iter().find(|fact| fact.0 == name);
        found.map_or("", |fact| fact.1.as_str())
    };
    if fact("sections") != "attention" || fact("outputs") == "1" || !fact("media").is_empty() {
        return Err(unsupported(
            "a file with media, outputs or several sections cannot be cut",
        ));
    }
    if fact("sequences") != "1" {
        return Err(unsupported("a file of several sequences cannot be cut"));
    }
    let mut reader = Reader { file, at: 4 };
    let mut edits = Vec::new();
    if fact("file") == "blob" {
        reader.at += 4; // the sequence
    } else {
        reader.at += 4; // the version
        edits.push(token_array(&mut reader, tokens, fact("file") == "slot")?);
        if fact("file") == "session" {
            let arch = reader.u32()?;
            reader.at += u64::from(arch);
        }
    }
    let streams = match fact("n_stream") {
        "none" => 1,
        _ => reader.u32()?,
    };
    let ext: u64 = fact("cell_ext").parse().map_err(|_| overflow())?;
    for _ in 0..streams {
        let start = reader.at;
        let cells = u64::from(reader.u32()?);
        if cells == 0 {
            continue;
        }
        if cells != state.positions.end {
            return Err(unsupported("a file of several sequences cannot be cut"));
        }
        let first = reader.at;
        let mut kept = first;
        for cell in 0..cells {
            if cell == tokens {
                kept = reader.at;
            }
            reader.at += 4; // the position
            let sequences = reader.u32()?;
            reader.at += ext + 4 * u64::from(sequences);
        }
        if tokens == cells {
            kept = reader.at;
        }
        edits.push(Edit {
            start,
            end: first,
            bytes: u32::try_from(tokens)
                .map_err(|_| overflow())?
                .to_le_bytes()
                .to_vec(),
        });
        edits.push(Edit {
            start: kept,
            end: reader.at,
            bytes: Vec::new(),
        });
        return Ok(edits);
    }
    Err(unsupported("the file has no cells"))
}

/// `u32 n, i32 ids[n]`, or llama-server's record without media in its place.
fn token_array(reader: &mut Reader<'_>, tokens: u64, slot: bool) -> Result<Edit> {
    let start = reader.at;
    let words = reader.u32()?;
    let end = reader.at + 4 * u64::from(words);
    let count = match slot {
        false => words,
        true => {
            reader.at += 8; // marker and version of the record
            reader.u32()?
        }
    };
    let kept = count.min(u32::try_from(tokens).map_err(|_| overflow())?);
    let mut bytes = Vec::new();
    match slot {
        false => bytes.extend(kept.to_le_bytes()),
        // marker, version and count before the ids, no media after them
        true => {
            for word in [kept + 4, u32::MAX, 1, kept] {
                bytes.extend(word.to_le_bytes());
            }
        }
    }
    for _ in 0..kept {
        bytes.extend(reader.u32()?.to_le_bytes());
    }
    if slot {
        bytes.extend([0; 4]);
    }
    reader.at = end;
    Ok(Edit { start, end, bytes })
}

struct Reader<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl Reader<'_> {
    fn u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        read_at(self.file, self.at, &mut bytes)?;
        self.at += 4;
        Ok(u32::from_le_bytes(bytes))
    }
}
