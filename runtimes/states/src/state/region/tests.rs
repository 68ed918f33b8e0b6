use std::{io, sync::Mutex};

use kvcap::{Bank, Role, Rows};
use kvcap_codecs::{AffineParams, BankShape, Dtype, ParamDtype};
use proptest::prelude::*;

use crate::{Order, Placed, Region, state::WriteAt};

struct Memory(Mutex<Vec<u8>>);

impl WriteAt for Memory {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + buf.len()].copy_from_slice(buf);
        Ok(())
    }
}

fn placed(dtype: Dtype, shape: BankShape, parts: Vec<Region>) -> Placed {
    let rows = match shape {
        BankShape::Tokens { .. } => Rows::From(0),
        BankShape::Whole { .. } => Rows::None,
    };
    let bank = Bank {
        role: Role::Key,
        layer: 0,
        index: 0,
        dtype,
        shape,
        rows,
        window: 0,
    };
    Placed {
        bank,
        parts,
        hadamard: None,
    }
}

/// Where element bytes (head, token, byte of the row) lie, one at a time: the plain-loop oracle.
fn place(part: &Region, head: u64, token: u64, byte: u64) -> usize {
    let within = match part.order {
        Order::Contiguous => byte,
        Order::Rows {
            head_stride,
            token_stride,
            ..
        } => head * head_stride + token * token_stride + byte,
        Order::Transposed {
            element,
            head_stride,
            dim_stride,
        } => head * head_stride + byte / element * dim_stride + token * element + byte % element,
    };
    usize::try_from(part.offset + within).unwrap()
}

/// Reads every frame, compares with the oracle, writes it to an empty file, and returns that file.
fn check(placed: &Placed, file: &[u8], rows: &[u64]) -> Vec<u8> {
    let (heads, tokens) = match placed.bank.shape {
        BankShape::Tokens { heads, tokens, .. } => (heads, tokens),
        BankShape::Whole { .. } => (1, 1),
    };
    placed.check(u64::try_from(file.len()).unwrap()).unwrap();
    let out = Memory(Mutex::new(vec![0; file.len()]));
    let mut want_file = vec![0; file.len()];
    let mut frame = vec![7; 3];
    for index in 0..placed.bank.shape.frames(placed.bank.dtype).unwrap() {
        placed.read_frame(&file, index, &mut frame).unwrap();
        let mut want = Vec::new();
        for (part, row) in placed.parts.iter().zip(rows) {
            for h in 0..heads {
                for t in index * 256..tokens.min(index * 256 + 256) {
                    for byte in 0..*row {
                        let at = place(part, h, t, byte);
                        want.push(file[at]);
                        want_file[at] = file[at];
                    }
                }
            }
        }
        assert_eq!(frame, want);
        placed.write_frame(&out, index, &frame).unwrap();
    }
    let out = out.0.into_inner().unwrap();
    assert_eq!(out, want_file);
    out
}

fn noise(len: u64) -> Vec<u8> {
    let mut state = 1u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state.to_le_bytes()[3]
        })
        .collect()
}

proptest! {
    #[test]
    fn rows_by_head(heads in 1u64..4, tokens in 1u64..600, dim in 1u64..6, pad in 0u64..300) {
        let row = dim * 2;
        let head_stride = (tokens + pad) * row;
        let part = Region {
            offset: 5,
            len: heads * head_stride,
            order: Order::Rows { row_bytes: row, head_stride, token_stride: row },
        };
        let shape = BankShape::Tokens { heads, tokens, dim };
        check(&placed(Dtype::F16, shape, vec![part]), &noise(5 + part.len), &[row]);
    }

    #[test]
    fn rows_by_token(heads in 1u64..4, tokens in 1u64..600, dim in 1u64..6, gap in 0u64..9) {
        let row = dim * 4;
        let token_stride = heads * row + gap;
        let part = Region {
            offset: 3,
            len: tokens * token_stride,
            order: Order::Rows { row_bytes: row, head_stride: row, token_stride },
        };
        let shape = BankShape::Tokens { heads, tokens, dim };
        check(&placed(Dtype::F32, shape, vec![part]), &noise(3 + part.len), &[row]);
    }

    #[test]
    fn transposed(heads in 1u64..4, tokens in 1u64..600, dim in 1u64..70, gap in 0u64..9) {
        let dim_stride = tokens * 2 + gap;
        let part = Region {
            offset: 1,
            len: heads * dim * dim_stride,
            order: Order::Transposed { element: 2, head_stride: dim * dim_stride, dim_stride },
        };
        let shape = BankShape::Tokens { heads, tokens, dim };
        check(&placed(Dtype::Bf16, shape, vec![part]), &noise(1 + part.len), &[dim * 2]);
    }

    #[test]
    fn triplets(heads in 1u64..4, tokens in 1u64..600, groups in 1u64..3, pad in 0u64..300) {
        let affine = AffineParams::new(4, 32, ParamDtype::F16).unwrap();
        let rows = [groups * 16, groups * 2, groups * 2];
        let mut offset = 0;
        let parts = rows.map(|row| {
            let head_stride = (tokens + pad) * row;
            let order = Order::Rows { row_bytes: row, head_stride, token_stride: row };
            let part = Region { offset, len: heads * head_stride, order };
            offset += part.len + 1;
            part
        });
        let shape = BankShape::Tokens { heads, tokens, dim: groups * 32 };
        check(&placed(Dtype::MlxAffine(affine), shape, parts.to_vec()), &noise(offset), &rows);
    }
}

#[test]
fn a_whole_bank_is_cut_into_pieces_of_1_mib() {
    let part = Region {
        offset: 9,
        len: (2 << 20) + 6,
        order: Order::Contiguous,
    };
    let shape = BankShape::Whole {
        dims: vec![(1 << 20) + 3],
    };
    let placed = placed(Dtype::F16, shape, vec![part]);
    let file = noise(9 + part.len);
    let mut frame = Vec::new();
    let mut whole = Vec::new();
    for index in 0..3 {
        placed.read_frame(&file, index, &mut frame).unwrap();
        whole.extend_from_slice(&frame);
    }
    assert_eq!(whole, file[9..]);
    assert!(placed.read_frame(&file, 3, &mut frame).is_err());
}

#[test]
fn a_wrong_placement_is_refused_before_any_byte_is_read() {
    let row = |row_bytes, head_stride, token_stride, len| Region {
        offset: 0,
        len,
        order: Order::Rows {
            row_bytes,
            head_stride,
            token_stride,
        },
    };
    let shape = BankShape::Tokens {
        heads: 2,
        tokens: 3,
        dim: 4,
    };
    for part in [
        row(8, 24, 8, 47),        // the last row leaves the region
        row(8, 23, 8, 100),       // heads overlap
        row(8, 8, 15, 100),       // tokens overlap
        row(4, 24, 4, 100),       // another row length
        row(0, 0, 0, 100),        // no row at all
        row(8, u64::MAX, 8, 100), // overflow
        row(8, 8, u64::MAX, 100), // overflow
        Region {
            order: Order::Contiguous,
            ..row(8, 24, 8, 48)
        },
    ] {
        let placed = placed(Dtype::F16, shape.clone(), vec![part]);
        assert!(placed.check(1000).is_err(), "{part:?}");
        assert!(
            placed
                .read_frame(&vec![0; 1000], 0, &mut Vec::new())
                .is_err()
        );
    }
    let good = placed(Dtype::F16, shape, vec![row(8, 24, 8, 48)]);
    assert!(good.check(48).is_ok());
    assert!(good.check(47).is_err());
}
