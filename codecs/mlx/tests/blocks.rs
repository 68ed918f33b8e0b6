//! Exact banks of MLX's arrays: the bytes of the host's codec, and blocks of a paged cache.
#![cfg(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux))]
#![allow(clippy::unwrap_used)]

use kvcap_codecs::{BankShape, Codec, Dtype, FrameContext, Scratch};
use kvcap_codecs_mlx::{Error, arrays, blocks};
use mlx_rs::Array;

const HEADS: i32 = 2;
const SIZE: i32 = 4;
const DIM: i32 = 3;

/// Seven blocks of other numbers each.
fn pool() -> Array {
    let count = 7 * HEADS * SIZE * DIM;
    let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
    Array::from_slice(&values, &[7, HEADS, SIZE, DIM])
}

/// What the pool holds at a place.
fn at(block: i32, head: i32, row: i32, channel: i32) -> f32 {
    (((block * HEADS + head) * SIZE + row) * DIM + channel) as f32
}

#[test]
fn an_exact_frame_has_the_bytes_of_the_host_and_comes_back() {
    let (heads, tokens, dim) = (2, 5, 6);
    for (dtype, mlx) in [
        (Dtype::F16, mlx_rs::Dtype::Float16),
        (Dtype::Bf16, mlx_rs::Dtype::Bfloat16),
        (Dtype::F32, mlx_rs::Dtype::Float32),
        (Dtype::U8, mlx_rs::Dtype::Uint8),
    ] {
        let shape = BankShape::Tokens { heads, tokens, dim };
        let ctx = FrameContext::new(&shape, dtype, 0).unwrap();
        // any bits: NaN and infinities too
        let plain: Vec<u8> = (0..ctx.plain_len()).map(|i| (i * 89 % 256) as u8).collect();
        let (mut frame, mut scratch) = (Vec::new(), Scratch::with_path("reference").unwrap());
        Codec::Raw
            .encode_frame(&ctx, &plain, &mut frame, &mut scratch)
            .unwrap();
        let bytes = Array::from_slice(&frame, &[frame.len() as i32]);
        let shape = [heads as i32, tokens as i32, dim as i32];
        let elements = blocks::exact_decode(&bytes, &shape, mlx).unwrap();
        assert_eq!(elements.shape(), shape);
        assert_eq!(elements.dtype(), mlx);
        // in the same memory: nothing was copied
        let encoded = blocks::exact_encode(&elements).unwrap();
        let place = |array: &Array| array.as_slice::<u8>().as_ptr();
        assert_eq!(place(&encoded), place(&bytes), "{}", dtype.name());
        // through another order in memory, too
        let turned = elements.transpose_axes(&[2, 0, 1]).unwrap();
        let back = turned.transpose_axes(&[1, 2, 0]).unwrap();
        for elements in [&elements, &back] {
            let encoded = blocks::exact_encode(elements).unwrap();
            assert_eq!(encoded.as_slice::<u8>(), frame, "{}", dtype.name());
        }
    }
}

#[test]
fn blocks_are_gathered_in_the_order_of_their_table() {
    let table = [5, 0, 3];
    for tokens in [9, 10, 12] {
        let bank = blocks::gather(&pool(), &table, tokens as usize).unwrap();
        assert_eq!(bank.shape(), [HEADS, tokens, DIM]);
        let mut expected = Vec::new();
        for head in 0..HEADS {
            for token in 0..tokens {
                for channel in 0..DIM {
                    let block = table[(token / SIZE) as usize];
                    expected.push(at(block as i32, head, token % SIZE, channel));
                }
            }
        }
        assert_eq!(bank.as_slice::<f32>(), expected);
    }
}

#[test]
fn what_is_scattered_is_gathered_again_and_nothing_else_changes() {
    let table = [6, 1, 4];
    for tokens in [9, 11, 12] {
        let count = HEADS * tokens * DIM;
        let values: Vec<f32> = (0..count).map(|i| -1.0 - i as f32).collect();
        let bank = Array::from_slice(&values, &[HEADS, tokens, DIM]);
        let mut after = pool();
        blocks::scatter(&mut after, &table, &bank).unwrap();
        let again = blocks::gather(&after, &table, tokens as usize).unwrap();
        assert_eq!(again.as_slice::<f32>(), values);
        let after = after.as_slice::<f32>();
        for (index, value) in pool().as_slice::<f32>().iter().enumerate() {
            let row = index as i32 / DIM % SIZE;
            let block = index as i32 / (DIM * SIZE * HEADS);
            let place = table.iter().position(|named| *named == block as u32);
            let written = place.is_some_and(|at| at as i32 * SIZE + row < tokens);
            assert_eq!(after[index] == *value, !written, "block {block}, row {row}");
        }
    }
}

#[test]
fn what_is_gathered_is_quantized_and_what_is_restored_is_scattered() {
    let (count, size, dim) = (3 * HEADS * SIZE, SIZE, 64);
    let values: Vec<f32> = (0..count * dim).map(|i| (i % 37) as f32 - 18.0).collect();
    let pool = Array::from_slice(&values, &[3, HEADS, size, dim]);
    let (table, tokens) = ([2, 0], 7);
    for bits in [8, 4] {
        let bank = blocks::gather(&pool, &table, tokens).unwrap();
        let triplet = arrays::affine_encode(&bank, bits, 64).unwrap();
        let restored = arrays::affine_decode(&triplet, bits, 64).unwrap();
        let mut after = pool.clone();
        blocks::scatter(&mut after, &table, &restored).unwrap();
        let again = blocks::gather(&after, &table, tokens).unwrap();
        assert_eq!(again.as_slice::<f32>(), restored.as_slice::<f32>());
        // a step of the codes of a group, whose values lie in 36
        let step = 36.0 / f32::from((1_u16 << bits) - 1);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= step;
        assert!(
            again
                .as_slice::<f32>()
                .iter()
                .zip(bank.as_slice())
                .all(near)
        );
    }
}

#[test]
fn what_blocks_do_not_hold_is_refused() {
    let unserved = |done: Result<(), Error>| assert!(matches!(done, Err(Error::Unserved(_))));
    let gather = |table: &[u32], tokens| blocks::gather(&pool(), table, tokens).map(drop);
    unserved(gather(&[7], 4)); // there are seven
    unserved(gather(&[0], 5));
    unserved(gather(&[0, 1], 4));
    unserved(gather(&[], 0));
    let bank = |shape: &[i32]| {
        Array::from_slice(&vec![0_f32; shape.iter().product::<i32>() as usize], shape)
    };
    let scatter = |table: &[u32], bank: &Array| blocks::scatter(&mut pool(), table, bank);
    unserved(scatter(&[2, 2], &bank(&[HEADS, 8, DIM])));
    unserved(scatter(&[2], &bank(&[HEADS + 1, 4, DIM])));
    unserved(scatter(&[2], &bank(&[HEADS, 4, DIM + 1])));
    unserved(scatter(&[2], &bank(&[4, DIM])));
    unserved(scatter(
        &[2],
        &bank(&[HEADS, 4, DIM])
            .as_dtype(mlx_rs::Dtype::Float16)
            .unwrap(),
    ));
    unserved(blocks::exact_decode(&bank(&[4]), &[4], mlx_rs::Dtype::Float32).map(drop));
    let short = Array::from_slice(&[0_u8; 6], &[6]);
    assert!(blocks::exact_decode(&short, &[4], mlx_rs::Dtype::Float16).is_err());
}
