//! Sums for receipts (codecs-v1 §10.2).

use super::element::{Element, load_row};
use crate::kernels::{
    LANES, Sums,
    cpu::isa::{Isa, WIDE, WIDTH},
    fold_lanes,
};

/// One register for each lane of a sum.
const _: () = assert!(LANES == WIDE);

#[inline(always)]
pub(in super::super) fn sums<I: Isa, E: Element>(original: &[u8], decoded: &[u8]) -> Sums {
    let mut lanes = [I::wide_load(&[0.0; LANES]); 5];
    let chunk = WIDTH * E::BYTES;
    let whole = original.len() - original.len() % chunk;
    let (original, original_end) = original.split_at(whole);
    let (decoded, decoded_end) = decoded.split_at(whole);
    for (x, y) in original
        .chunks_exact(chunk)
        .zip(decoded.chunks_exact(chunk))
    {
        lanes = add::<I>(lanes, E::load::<I>(x), E::load::<I>(y));
    }
    // Zeros past the end add nothing: no sum is ever a negative zero.
    let (mut xs, mut ys) = ([0.0; WIDTH], [0.0; WIDTH]);
    let elements = original_end.len() / E::BYTES;
    load_row::<I, E>(original_end, &mut xs[..elements]);
    load_row::<I, E>(decoded_end, &mut ys[..elements]);
    lanes = add::<I>(lanes, I::load(&xs), I::load(&ys));
    let [error2, original2, decoded2, product, largest] = lanes.map(|lanes| {
        let mut numbers = [0.0; LANES];
        I::wide_store(lanes, &mut numbers);
        numbers
    });
    Sums {
        error2: fold_lanes(error2),
        original2: fold_lanes(original2),
        decoded2: fold_lanes(decoded2),
        product: fold_lanes(product),
        max_error: largest.iter().fold(0.0, |m, x| m.max(*x)),
    }
}

/// Two elements to each lane, in order.
#[inline(always)]
fn add<I: Isa>(lanes: [I::D; 5], x: I::V, y: I::V) -> [I::D; 5] {
    let [
        mut error2,
        mut original2,
        mut decoded2,
        mut product,
        mut largest,
    ] = lanes;
    for (x, y) in I::widen(x).into_iter().zip(I::widen(y)) {
        let error = I::wide_sub(x, y);
        error2 = I::wide_add(error2, I::wide_mul(error, error));
        original2 = I::wide_add(original2, I::wide_mul(x, x));
        decoded2 = I::wide_add(decoded2, I::wide_mul(y, y));
        product = I::wide_add(product, I::wide_mul(x, y));
        largest = I::wide_max_abs(error, largest);
    }
    [error2, original2, decoded2, product, largest]
}
