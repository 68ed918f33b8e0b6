//! A state file cut to its first positions: a rewind (runtimes-v1 §1.8).
//!
//! Every byte of a state file is a bank's or residue. So a shorter file is the same file with shorter
//! regions and a few numbers changed; an adapter says which ([`Edit`]), the rest is the same for all.

mod cells;
mod tensors;

use kvcap::{Bank, Code, Context, Error, Result, Rows, RowsEntry, Workers, WriteAt};
use kvcap_codecs::{BLOCK_TOKENS, BankShape};

use crate::{
    adapters::{RuntimeKind, parse},
    state::{
        Hints, Order, Placed, ReadAt, Region, State,
        file::{overflow, product, read_at, size},
        template::Template,
    },
};

/// Bytes of the residue that are replaced; the new ones may be fewer or more.
struct Edit {
    start: u64,
    end: u64,
    bytes: Vec<u8>,
}

/// Writes the first `tokens` positions of `state`, read from `file`, as a state file of the same runtime
/// and format into `out`, which is empty; gives that state.
///
/// # Errors
/// KVC-810 naming the bank that makes a rewind invalid (a recurrent state, a sliding window, rows in
/// another order), or where the state has not so many positions; 922 for a file whose other content
/// cannot be cut (several sequences, media, outputs, nested caches, `raw`).
pub fn truncate_state(
    kind: RuntimeKind,
    state: &State,
    file: &dyn ReadAt,
    tokens: u64,
    out: &dyn WriteAt,
    workers: Workers,
) -> Result<State> {
    check(state, tokens)?;
    let banks = state
        .banks
        .iter()
        .map(|placed| placed.rows(0, tokens))
        .collect::<Result<Vec<_>>>()?;
    let cut: Vec<Placed> = banks
        .iter()
        .map(|placed| {
            Ok(Placed {
                bank: placed.bank.clone(),
                parts: placed
                    .parts
                    .iter()
                    .map(|part| dense(&placed.bank, part))
                    .collect::<Result<_>>()?,
                hadamard: placed.hadamard,
            })
        })
        .collect::<Result<_>>()?;
    let edits = match kind {
        RuntimeKind::LlamaCpp => cells::edits(state, file, tokens)?,
        RuntimeKind::MlxLm => tensors::mlx_lm(state, file, &cut, tokens)?,
        RuntimeKind::HuggingFace => tensors::hf(state, file, &cut, tokens)?,
        RuntimeKind::Raw => {
            return Err(unsupported("tensors of an unknown runtime cannot be cut"));
        }
    };
    let (template, places) = residue(state, file, &cut, &edits)?;
    let described: Vec<Bank> = cut.iter().map(|placed| placed.bank.clone()).collect();
    let shorter = parse(kind, &template, Hints::Banks(&described))?;
    template.write(out)?;
    let mut moved = Vec::new();
    for ((from, mut to), offsets) in banks.iter().zip(cut).zip(places) {
        for (part, offset) in to.parts.iter_mut().zip(offsets) {
            part.offset = offset;
        }
        moved.push((from, to));
    }
    let blocks = tokens.div_ceil(BLOCK_TOKENS);
    let mut frames = moved
        .iter()
        .flat_map(|bank| (0..blocks).map(move |index| (bank, index)));
    workers.run(
        Vec::new,
        |_| Ok(frames.next()),
        |frame, ((from, to), index), _| {
            from.read_frame(file, index, frame)?;
            to.write_frame(out, index, frame)
        },
    )?;
    Ok(shorter)
}

/// Returns whether a capsule's header shows nothing that [`truncate_state`] refuses of its state: an unknown runtime, a
/// bank that does not keep every position, or a prompt of which no token is known to be a position's. A last token that
/// was not evaluated is none. What only the file tells, as several sequences, is told when it is cut.
#[must_use]
pub fn can_be_cut(context: &Context) -> bool {
    let known = RuntimeKind::from_runtime(&context.runtime.name);
    let positions = &context.positions;
    let one_to_one = context
        .prefix
        .tokens()
        .and_then(|tokens| tokens.checked_sub(positions.end))
        .is_some_and(|more| more <= 1);
    // an increment begins where its parent ends, and is joined with it before it is cut
    let keeps = |rows| matches!(rows, RowsEntry::From(start) if start == positions.start);
    let mut banks = context.banks().map(|(_, bank)| bank);
    known.is_some_and(|kind| kind != RuntimeKind::Raw)
        && one_to_one
        && banks.all(|bank| keeps(bank.rows) && bank.window == 0)
}

/// A rewind is valid where every bank keeps every position.
fn check(state: &State, tokens: u64) -> Result<()> {
    if tokens == 0 || tokens > state.positions.end || state.positions.start != 0 {
        return Err(
            Error::new(Code::BodyRange, "the state does not hold these positions").sides(
                format_args!("1 to {}, from 0", state.positions.end),
                format_args!("{tokens} of {:?}", state.positions),
            ),
        );
    }
    for placed in &state.banks {
        let why = match placed.bank.rows {
            Rows::None => "a recurrent state cannot be rewound: it holds its last position alone",
            Rows::Listed(_) => "rows that are not in the order of positions cannot be rewound",
            Rows::From(_) if placed.bank.window != 0 => {
                "a sliding window cannot be rewound: what left it is gone"
            }
            Rows::From(0) => continue,
            Rows::From(_) => "a bank that begins later cannot be rewound",
        };
        return Err(Error::new(Code::BodyRange, why).at(placed.name()));
    }
    Ok(())
}

/// The part with no room for further rows.
fn dense(bank: &Bank, part: &Region) -> Result<Region> {
    let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
        return Err(overflow());
    };
    let (order, len) = match part.order {
        Order::Rows {
            row_bytes,
            token_stride,
            ..
        } if token_stride == row_bytes => {
            let head_stride = product(tokens, row_bytes)?;
            let order = Order::Rows {
                row_bytes,
                head_stride,
                token_stride,
            };
            (order, product(heads, head_stride)?)
        }
        Order::Rows { token_stride, .. } => (part.order, product(tokens, token_stride)?),
        Order::Transposed { element, .. } => {
            let dim_stride = product(tokens, element)?;
            let head_stride = product(dim, dim_stride)?;
            let order = Order::Transposed {
                element,
                head_stride,
                dim_stride,
            };
            (order, product(heads, head_stride)?)
        }
        Order::Contiguous => return Err(overflow()),
    };
    Ok(Region {
        offset: part.offset,
        len,
        order,
    })
}

/// Gives everything but banks, and the new offset of each part of each bank. What is not a region and not
/// edited is copied as it is.
fn residue(
    state: &State,
    file: &dyn ReadAt,
    cut: &[Placed],
    edits: &[Edit],
) -> Result<(Template, Vec<Vec<u64>>)> {
    enum What<'a> {
        Region(usize, usize, u64),
        Edit(&'a [u8]),
    }
    let mut events = Vec::new();
    for (bank, (old, new)) in state.banks.iter().zip(cut).enumerate() {
        for (part, (old, new)) in old.parts.iter().zip(&new.parts).enumerate() {
            let end = old.offset.saturating_add(old.len);
            events.push((old.offset, end, What::Region(bank, part, new.len)));
        }
    }
    for edit in edits {
        events.push((edit.start, edit.end, What::Edit(&edit.bytes)));
    }
    events.sort_by_key(|event| event.0);
    let mut places: Vec<Vec<u64>> = cut.iter().map(|bank| vec![0; bank.parts.len()]).collect();
    let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
    let (mut from, mut to) = (0_u64, 0_u64);
    let mut copy = |from: u64, until: u64, to: u64| -> Result<u64> {
        let len = until.checked_sub(from).ok_or_else(overflow)?;
        let mut bytes = vec![0; size(len)?];
        read_at(file, from, &mut bytes)?;
        pieces.push((to, bytes));
        Ok(to + len)
    };
    let mut edited = Vec::new();
    for (start, end, what) in events {
        to = copy(from, start, to)?;
        from = end;
        match what {
            What::Edit(bytes) => {
                edited.push((to, bytes.to_vec()));
                to += u64::try_from(bytes.len()).map_err(|_| overflow())?;
            }
            What::Region(bank, part, len) => {
                if let Some(place) = places.get_mut(bank).and_then(|bank| bank.get_mut(part)) {
                    *place = to;
                }
                to = to.checked_add(len).ok_or_else(overflow)?;
            }
        }
    }
    let len = copy(from, state.file_len, to)?;
    pieces.extend(edited);
    Ok((Template { pieces, len }, places))
}

fn unsupported(what: &'static str) -> Error {
    Error::new(Code::StateUnsupported, what)
}
