//! A llama.cpp sequence file, without its rows (runtimes-v1 §3).

use std::collections::BTreeSet;

use kvcap::{Bank, Code, Error, Result};
use kvcap_codecs::{BankShape, Dtype};

use super::{header::overflow, layers::refused};
use crate::{pipeline::hadamard, state::template::Template};

/// What the target's build and settings decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Version of the file.
    pub(super) version: u32,
    /// Values by channel, as without flash attention.
    pub(super) v_trans: bool,
    /// Quantized rows are rotated by llama.cpp's own rule.
    pub(super) rotated: bool,
}

/// The file for `pairs`, keys and values of each layer, of the prompt `tokens`: one stream of the
/// sequence 0, whose cells are the positions from 0 on.
pub(super) fn template(pairs: &[[Bank; 2]], tokens: &[u32], layout: Layout) -> Result<Template> {
    let cells = match pairs.first().map(|pair| &pair[0].shape) {
        Some(BankShape::Tokens { tokens, .. }) => i32::try_from(*tokens).map_err(|_| overflow())?,
        _ => return Err(overflow()),
    };
    let ids = usize::try_from(cells).ok().and_then(|n| tokens.get(..n));
    let ids = ids.ok_or_else(|| {
        Error::new(
            Code::StateContradiction,
            "the prompt is shorter than the state",
        )
        .sides(format_args!("{cells} tokens"), tokens.len())
    })?;
    let mut file = Writer::default();
    file.word(0x6767_7371);
    file.word(layout.version);
    file.number(cells);
    for id in ids {
        // an image or a sound, whose rows no other runtime has
        let id = i32::try_from(*id).map_err(|_| refused("images or sounds among the tokens"))?;
        file.number(id);
    }
    file.word(1); // streams
    file.number(cells);
    for position in 0..cells {
        file.number(position);
        file.word(1); // sequences of the cell
        file.word(0);
    }
    file.word(layout.v_trans.into());
    file.word(u32::try_from(pairs.len()).map_err(|_| overflow())?);
    if layout.version >= 4 {
        for slot in 0..2 {
            file.word(rotation(pairs.iter().map(|pair| &pair[slot]), layout)?);
        }
    }
    for [keys, _] in pairs {
        file.rows(keys)?;
    }
    for [_, values] in pairs {
        match layout.v_trans {
            false => file.rows(values)?,
            true => file.channels(values)?,
        }
    }
    file.flush();
    Ok(Template {
        pieces: file.pieces,
        len: file.at,
    })
}

/// The block of the rotation on the keys or the values of all layers.
fn rotation<'a>(banks: impl Iterator<Item = &'a Bank>, layout: Layout) -> Result<u32> {
    let blocks: BTreeSet<u32> = banks
        .map(|bank| hadamard::own_block(bank.role, &bank.shape, bank.dtype, "llama.cpp"))
        .collect();
    match blocks.into_iter().collect::<Vec<_>>().as_slice() {
        _ if !layout.rotated => Ok(0),
        [] => Ok(0),
        [block] => Ok(*block),
        _ => Err(refused(
            "layers of one cache with rotations of several blocks",
        )),
    }
}

/// Bytes between rows.
#[derive(Default)]
struct Writer {
    pieces: Vec<(u64, Vec<u8>)>,
    piece: Vec<u8>,
    /// Where the piece begins.
    at: u64,
}

impl Writer {
    fn word(&mut self, word: u32) {
        self.piece.extend(word.to_le_bytes());
    }

    fn number(&mut self, number: i32) {
        self.piece.extend(number.to_le_bytes());
    }

    fn flush(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        let len = u64::try_from(piece.len()).unwrap_or(0);
        self.pieces.push((self.at, piece));
        self.at += len;
    }

    /// Leaves room for all rows of a bank.
    fn skip(&mut self, bank: &Bank) -> Result<()> {
        self.flush();
        let len = bank.shape.plain_len(bank.dtype);
        let at = len.and_then(|len| self.at.checked_add(len));
        self.at = at.ok_or_else(overflow)?;
        Ok(())
    }

    fn rows(&mut self, bank: &Bank) -> Result<()> {
        let row = heads_dim(bank)
            .and_then(|[heads, dim]| bank.dtype.row_bytes(dim)?.checked_mul(heads))
            .ok_or_else(overflow)?;
        self.number(ggml_type(bank.dtype)?);
        self.piece.extend(row.to_le_bytes());
        self.skip(bank)
    }

    fn channels(&mut self, bank: &Bank) -> Result<()> {
        let element = bank.dtype.row_bytes(1);
        let element = element
            .and_then(|bytes| u32::try_from(bytes).ok())
            .ok_or_else(|| {
                refused("quantized values need flash attention")
                    .sides("v_trans 0", bank.dtype.name())
            })?;
        let channels = heads_dim(bank)
            .and_then(|[heads, dim]| u32::try_from(heads.checked_mul(dim)?).ok())
            .ok_or_else(overflow)?;
        self.number(ggml_type(bank.dtype)?);
        self.word(element);
        self.word(channels);
        self.skip(bank)
    }
}

fn heads_dim(bank: &Bank) -> Option<[u64; 2]> {
    match bank.shape {
        BankShape::Tokens { heads, dim, .. } => Some([heads, dim]),
        BankShape::Whole { .. } => None,
    }
}

fn ggml_type(dtype: Dtype) -> Result<i32> {
    Ok(match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::GgmlQ4_0 => 2,
        Dtype::GgmlQ8_0 => 8,
        Dtype::Bf16 => 30,
        other => {
            return Err(refused("llama.cpp has no cache of this element type")
                .sides("f16, bf16, f32, q8_0 or q4_0", other.name()));
        }
    })
}
