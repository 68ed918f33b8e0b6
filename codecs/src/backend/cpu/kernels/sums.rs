//! Sums for receipts (codecs-v1 §10.2).

use super::element::{Element, load_row};
use crate::{
    backend::{
        Sums,
        cpu::isa::{Isa, WIDTH},
    },
    reference::{LANES, fold_lanes},
};

#[inline(always)]
pub(in super::super) fn sums<I: Isa, E: Element>(original: &[u8], decoded: &[u8]) -> Sums {
    let mut lanes = [[0.0_f64; LANES]; 5];
    let chunk = WIDTH * E::BYTES;
    for (x, y) in original.chunks(chunk).zip(decoded.chunks(chunk)) {
        // Zeros past the end add nothing: no sum is ever a negative zero.
        let (mut xs, mut ys) = ([0.0; WIDTH], [0.0; WIDTH]);
        let elements = x.len() / E::BYTES;
        load_row::<I, E>(x, &mut xs[..elements]);
        load_row::<I, E>(y, &mut ys[..elements]);
        for (xs, ys) in xs
            .as_chunks::<LANES>()
            .0
            .iter()
            .zip(ys.as_chunks::<LANES>().0)
        {
            for lane in 0..LANES {
                let (x, y) = (f64::from(xs[lane]), f64::from(ys[lane]));
                let error = x - y;
                lanes[0][lane] += error * error;
                lanes[1][lane] += x * x;
                lanes[2][lane] += y * y;
                lanes[3][lane] += x * y;
                let (size, largest) = (error.abs(), lanes[4][lane]);
                lanes[4][lane] = if size > largest { size } else { largest };
            }
        }
    }
    Sums {
        error2: fold_lanes(lanes[0]),
        original2: fold_lanes(lanes[1]),
        decoded2: fold_lanes(lanes[2]),
        product: fold_lanes(lanes[3]),
        max_error: lanes[4].iter().fold(0.0, |m, x| m.max(*x)),
    }
}
