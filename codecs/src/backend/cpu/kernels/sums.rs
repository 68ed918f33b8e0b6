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
    let mut lanes = Lanes::default();
    let chunk = WIDTH * E::BYTES;
    let (xs, ys) = (original.chunks_exact(chunk), decoded.chunks_exact(chunk));
    let (x_rest, y_rest) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        let (mut xs, mut ys) = ([0.0; WIDTH], [0.0; WIDTH]);
        I::store(E::load::<I>(x), &mut xs);
        I::store(E::load::<I>(y), &mut ys);
        lanes.add(&xs, &ys);
    }
    // Zeros past the end add nothing: no sum is ever a negative zero.
    let (mut xs, mut ys) = ([0.0; WIDTH], [0.0; WIDTH]);
    let elements = x_rest.len() / E::BYTES;
    load_row::<I, E>(x_rest, &mut xs[..elements]);
    load_row::<I, E>(y_rest, &mut ys[..elements]);
    lanes.add(&xs, &ys);
    Sums {
        error2: fold_lanes(lanes.error2),
        original2: fold_lanes(lanes.original2),
        decoded2: fold_lanes(lanes.decoded2),
        product: fold_lanes(lanes.product),
        max_error: lanes.max_error.iter().fold(0.0, |m, x| m.max(*x)),
    }
}

#[derive(Default)]
struct Lanes {
    error2: [f64; LANES],
    original2: [f64; LANES],
    decoded2: [f64; LANES],
    product: [f64; LANES],
    max_error: [f64; LANES],
}

impl Lanes {
    /// Terms are written out before they are added: else the compiler puts the four sums of one
    /// element into a register, instead of one sum of as many elements, and takes twice as long.
    #[inline(always)]
    fn add(&mut self, xs: &[f32; WIDTH], ys: &[f32; WIDTH]) {
        let mut terms = [[0.0; WIDTH]; 5];
        for at in 0..WIDTH {
            let (x, y) = (f64::from(xs[at]), f64::from(ys[at]));
            let error = x - y;
            terms[0][at] = error * error;
            terms[1][at] = x * x;
            terms[2][at] = y * y;
            terms[3][at] = x * y;
            terms[4][at] = error.abs();
        }
        let [error2, original2, decoded2, product, size] = std::hint::black_box(&terms);
        add(&mut self.error2, error2);
        add(&mut self.original2, original2);
        add(&mut self.decoded2, decoded2);
        add(&mut self.product, product);
        for sizes in size.as_chunks::<LANES>().0 {
            for (largest, size) in self.max_error.iter_mut().zip(sizes) {
                *largest = if *size > *largest { *size } else { *largest };
            }
        }
    }
}

#[inline(always)]
fn add(lanes: &mut [f64; LANES], terms: &[f64; WIDTH]) {
    for terms in terms.as_chunks::<LANES>().0 {
        for (lane, term) in lanes.iter_mut().zip(terms) {
            *lane += term;
        }
    }
}
