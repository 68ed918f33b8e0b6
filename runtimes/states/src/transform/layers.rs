//! Layers of an opened capsule or chain in memory, one after the other, so that a runtime can begin
//! with the first while the next are read (runtimes-v1 §1.6).

use std::sync::Mutex;

use kvcap::{Bank, Code, Error, Members, Result, Workers};
use kvcap_codecs::{BLOCK_TOKENS, BankShape, Dtype, Scratch, WHOLE_FRAME_BYTES};

use crate::{
    pipeline::{
        arena::Arena,
        frames::{Wanted, each_frame, lock},
        whole::{WholeBank, rows_of, whole_banks},
    },
    state::file::{overflow, product, size},
};

/// Most plain bytes of an encoded one: the fewest bits of a codec with its scales are a tenth of an f32.
const MOST: u64 = 16;

/// One layer's banks.
#[derive(Debug)]
#[non_exhaustive]
pub struct Layer {
    /// The model's layer, from 0.
    pub number: u32,
    /// Its banks in the order of the manifest, with their bytes as [`open_layer`] gives them.
    pub banks: Vec<(Bank, Arena)>,
}

/// Gives layer after layer, each decoded when it is asked for. Layers without banks are left out.
pub fn layers<M: Members>(
    opened: &M,
    workers: Workers,
) -> impl Iterator<Item = Result<Layer>> + '_ {
    let layers = 0..opened.tip().manifest().context.layers;
    layers.filter_map(move |number| {
        let layer = layer_banks(opened, number).and_then(|banks| {
            let lengths = banks.iter().map(|whole| size(plain_len(&whole.bank)?));
            let mut bytes = lengths
                .map(|len| Arena::new(len?))
                .collect::<Result<Vec<Arena>>>()?;
            let mut into: Vec<&mut [u8]> = bytes.iter_mut().map(|arena| &mut **arena).collect();
            decode(&banks, &mut into, workers)?;
            let banks = banks.into_iter().map(|whole| whole.bank);
            Ok(Layer {
                number,
                banks: banks.zip(bytes).collect(),
            })
        });
        match layer {
            Ok(layer) if layer.banks.is_empty() => None,
            layer => Some(layer),
        }
    })
}

/// Decodes the banks of layer `number` into `into`: one buffer of exactly its plain length for each, in
/// the order of the manifest. A bank with a token axis is laid out as `[head][token][dim]`, MLX's affine
/// triplets as codes, scales and biases, each so; any other as it is.
///
/// # Errors
/// KVC-944 where the buffers are not those of the layer's banks; 910 where a bank claims more than 16 times its
/// encoded bytes; otherwise as [`crate::open_state`].
pub fn open_layer<M: Members>(
    opened: &M,
    number: u32,
    into: &mut [&mut [u8]],
    workers: Workers,
) -> Result<()> {
    decode(&layer_banks(opened, number)?, into, workers)
}

fn layer_banks<M: Members>(opened: &M, number: u32) -> Result<Vec<WholeBank<'_, M::Source>>> {
    let mut banks = whole_banks(opened)?;
    banks.retain(|whole| whole.bank.layer == number);
    banks.iter().try_for_each(can_be)?;
    Ok(banks)
}

/// Refuses a bank that claims more plain bytes than its encoded ones can give, before they are set aside.
fn can_be<S: kvcap::ReadAt>(whole: &WholeBank<'_, S>) -> Result<()> {
    let encoded = whole.parts.iter().map(|part| {
        let measured = &part.capsule.manifest().measured;
        measured
            .get(part.stream)
            .map_or(0, |found| found.encoded_len)
    });
    let most = encoded.fold(0, u64::saturating_add).saturating_mul(MOST);
    match plain_len(&whole.bank)? {
        plain if plain <= most => Ok(()),
        plain => {
            let what = "the bank claims more bytes than its encoded ones can give";
            Err(Error::new(Code::ResourceBudget, what).sides(format_args!("at most {most}"), plain))
        }
    }
}

fn plain_len(bank: &Bank) -> Result<u64> {
    bank.shape.plain_len(bank.dtype).ok_or_else(overflow)
}

/// Where one frame goes: its runs of rows, in the frame's own order.
type Place<'b> = Mutex<Vec<&'b mut [u8]>>;

fn decode<S: kvcap::ReadAt>(
    banks: &[WholeBank<'_, S>],
    into: &mut [&mut [u8]],
    workers: Workers,
) -> Result<()> {
    let usage = |what| Error::new(Code::LocalUsage, what);
    if banks.len() != into.len() {
        let what = "not one buffer for each bank of the layer";
        return Err(usage(what).sides(banks.len(), into.len()));
    }
    let mut wanted: Vec<Wanted<'_, S>> = Vec::new();
    let mut places: Vec<Vec<Place<'_>>> = Vec::new();
    for (whole, into) in banks.iter().zip(into) {
        let len = size(plain_len(&whole.bank)?)?;
        if into.len() != len {
            let what = "a buffer has not its bank's plain length";
            return Err(usage(what).sides(len, into.len()));
        }
        places.extend(self::places(whole, into)?);
        wanted.extend(whole.parts.iter().copied().map(Wanted::all));
    }
    each_frame(
        &wanted,
        workers,
        Default::default,
        |buffers: &mut (Vec<u8>, Scratch), frame| {
            let place = usize::try_from(frame.index).ok();
            let place = place.and_then(|at| places.get(frame.bank)?.get(at));
            let mut runs = lock(place.ok_or_else(overflow)?);
            let encoded = (frame.index, frame.encoded);
            frame.codec.fill(&mut runs, encoded, buffers)
        },
    )
}

/// Cuts a bank's buffer into the places of its frames, part after part.
fn places<'b, S>(
    whole: &WholeBank<'_, S>,
    mut buffer: &'b mut [u8],
) -> Result<Vec<Vec<Place<'b>>>> {
    let bank = &whole.bank;
    let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
        let frames = buffer.chunks_mut(size(WHOLE_FRAME_BYTES)?);
        return Ok(vec![frames.map(|frame| Mutex::new(vec![frame])).collect()]);
    };
    let lengths = |rows: u64| {
        let whole = rows / BLOCK_TOKENS;
        let last = Some(rows % BLOCK_TOKENS).filter(|last| *last > 0);
        (0..whole).map(|_| BLOCK_TOKENS).chain(last)
    };
    let mut places: Vec<Vec<Vec<&'b mut [u8]>>> = Vec::new();
    for part in &whole.parts {
        places.push(lengths(rows_of(part.bank)).map(|_| Vec::new()).collect());
    }
    for row in row_sections(bank.dtype, dim)? {
        for _ in 0..heads {
            let mut head = take(&mut buffer, product(tokens, row)?)?;
            for (part, frames) in whole.parts.iter().zip(&mut places) {
                for (frame, rows) in frames.iter_mut().zip(lengths(rows_of(part.bank))) {
                    frame.push(take(&mut head, product(rows, row)?)?);
                }
            }
        }
    }
    let frames = places.into_iter();
    Ok(frames
        .map(|frames| frames.into_iter().map(Mutex::new).collect())
        .collect())
}

/// Bytes of a row in each of a frame's sections.
fn row_sections(dtype: Dtype, dim: u64) -> Result<Vec<u64>> {
    if let Dtype::MlxAffine(params) = dtype {
        let (codes, scales) = params.row_sections(dim).ok_or_else(overflow)?;
        return Ok(vec![codes, scales, scales]);
    }
    Ok(vec![dtype.row_bytes(dim).ok_or_else(overflow)?])
}

fn take<'b>(rest: &mut &'b mut [u8], len: u64) -> Result<&'b mut [u8]> {
    let whole = std::mem::take(rest);
    let (head, tail) = whole
        .split_at_mut_checked(size(len)?)
        .ok_or_else(overflow)?;
    *rest = tail;
    Ok(head)
}
