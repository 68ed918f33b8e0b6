//! A capsule opened as another state than the one that was sealed: keys and values of another element
//! type (runtimes-v1 §7).

mod elements;
mod layers;
mod mlx_lm;

use std::fs::File;

use kvcap::{Bank, BankEntry, Code, Error, Opened, ReadAt, Result, Rows, SectionKind, WriteAt};
use kvcap_codecs::{Codec, Dtype};

pub use elements::Elements;
use elements::{Recast, Stages, floats};
use layers::{Layer, refused};

use crate::{
    Hints, OpenReport, RuntimeKind, Skeleton,
    bank_io::{BankCodec, Buffers},
    parse,
    safetensors::Header,
    state::Placed,
};

/// A state file without the rows of its banks.
struct Blank {
    /// Bytes and their places.
    pieces: Vec<(u64, Vec<u8>)>,
    /// Length of the file.
    len: u64,
}

/// Writes the state with `elements` as its keys' and values' element type, in the same runtime's format,
/// into `out`, which is empty. What is already encoded so is not encoded again.
///
/// # Errors
/// KVC-922 naming what has no such form; KVC-905 for a number that the type cannot hold; otherwise as
/// [`crate::open_state`].
pub fn open_as<S: ReadAt>(
    opened: &Opened<S>,
    elements: Elements,
    out: &File,
    progress: &mut dyn FnMut(u64),
) -> Result<OpenReport> {
    let context = &opened.manifest().context;
    let layers = Layer::all(context)?;
    let pairs = layers
        .iter()
        .map(|layer| {
            let [keys, values] = layer.banks().map(|(_, entry)| recast_bank(entry, elements));
            Ok([keys?, values?])
        })
        .collect::<Result<Vec<_>>>()?;
    let layout = match context.runtime.format.as_str() {
        "mlx-lm-0.32" => mlx_lm::Layout::New,
        "mlx-lm-0.31" => mlx_lm::Layout::Old,
        _ => {
            let format = context.runtime.format.escape_debug();
            return Err(refused("the state has one element type only").at(format));
        }
    };
    let residue = opened.section(&SectionKind::Residue)?.unwrap_or_default();
    let original = Header::read(&Skeleton::parse(&residue)?)?;
    let user = original.metadata.into_iter();
    let user = user.filter(|(key, _)| key.starts_with(layout.user()));
    let blank = mlx_lm::blank(&pairs, user.collect(), layout)?;
    let placed = blank.write(out, RuntimeKind::MlxLm, Hints::None, &pairs)?;
    let mut writer = Writer {
        opened,
        out,
        buffers: Buffers::default(),
        stages: Stages::default(),
    };
    let mut plain_len = 0;
    for (layer, placed) in layers.iter().zip(&placed) {
        for (bank, placed) in layer.banks().into_iter().zip(placed) {
            writer.bank(bank, placed, &mut |len| {
                plain_len += len;
                progress(len);
            })?;
        }
    }
    Ok(OpenReport {
        state_len: blank.len,
        banks: 2 * layers.len(),
        plain_len,
    })
}

/// The bank that `entry`'s becomes.
fn recast_bank(entry: &BankEntry, elements: Elements) -> Result<Bank> {
    let place = |error: Error| error.at(format_args!("layer {}", entry.layer));
    let dtype = floats(entry.dtype).and_then(|floats| elements.dtype(floats));
    let bank = Bank {
        role: entry.role,
        layer: entry.layer,
        index: 0,
        dtype: dtype.map_err(place)?,
        shape: entry.shape.clone(),
        rows: Rows::From(0),
        window: 0,
    };
    match bank.shape.plain_len(bank.dtype) {
        Some(_) => Ok(bank),
        None => Err(place(
            refused("a row is not whole groups or blocks of the element type")
                .at(bank.dtype.name()),
        )),
    }
}

impl Blank {
    /// Writes the file without its rows, and finds the places of `pairs` in it with the runtime's own
    /// parser: what was written is what will be read.
    fn write(
        &self,
        out: &File,
        kind: RuntimeKind,
        hints: Hints<'_>,
        pairs: &[[Bank; 2]],
    ) -> Result<Vec<[Placed; 2]>> {
        let io = |error: std::io::Error| Error::io(&error, "output");
        out.set_len(self.len).map_err(io)?;
        for (at, bytes) in &self.pieces {
            out.write_all_at(*at, bytes).map_err(io)?;
        }
        let state = parse(kind, out, hints)?;
        let find = |bank: &Bank| {
            let found = state.banks.iter().find(|placed| placed.bank == *bank);
            found.cloned().ok_or_else(|| {
                Error::new(
                    Code::StateContradiction,
                    "the written state does not hold a bank as it should",
                )
                .at(format_args!("layer {}", bank.layer))
            })
        };
        let places = pairs
            .iter()
            .map(|[keys, values]| Ok([find(keys)?, find(values)?]));
        places.collect()
    }
}

/// Banks on their way into a state.
struct Writer<'a, S> {
    opened: &'a Opened<S>,
    out: &'a File,
    buffers: Buffers,
    stages: Stages,
}

impl<S: ReadAt> Writer<'_, S> {
    /// Writes one bank; `done` hears of its bytes.
    fn bank(
        &mut self,
        (stream, entry): (usize, &BankEntry),
        placed: &Placed,
        done: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let tables = &self.opened.manifest().context.rotations;
        let codec = BankCodec::new(entry, tables, Vec::new());
        let mut reader = self.opened.stream(stream)?;
        let frames = 0..codec.frames();
        let (out, stages) = (self.out, &mut self.stages);
        let mut write = |index, frame: &[u8]| {
            placed.write_frame(out, index, frame)?;
            done(u64::try_from(frame.len()).unwrap_or(0));
            Ok(())
        };
        // an affine frame has the form of a triplet
        if let (Codec::Affine { bits, group }, Dtype::MlxAffine(to)) =
            (entry.codec, placed.bank.dtype)
            && (bits, group, entry.dtype) == (to.bits, to.group, to.params.dtype())
        {
            return codec.encoded(&mut self.buffers, &mut reader, frames, write);
        }
        let recast = Recast {
            shape: &entry.shape,
            from: entry.dtype,
            to: placed.bank.dtype,
        };
        codec.decode(&mut self.buffers, &mut reader, frames, |index, plain| {
            let frame = recast.frame(stages, index, plain);
            write(index, frame.map_err(|error| error.at(codec.name()))?)
        })
    }
}
