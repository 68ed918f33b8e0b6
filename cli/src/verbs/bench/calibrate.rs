//! A short measurement of this machine, for predictions.

use kvcap::{Result, Suite, Workers};

use super::{passes::Bench, stages::Encode};

/// What sealing and opening in one encoding cost here, in seconds a plain byte, on all cores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) encoding: &'static str,
    pub(crate) settings: kvcap_states::Encoding,
    pub(crate) seal: f64,
    pub(crate) open: f64,
}

/// Rates of every encoding of fixed length, from a made state of `len` bytes in memory; the least of
/// `rounds`.
///
/// # Errors
/// None that a made state should give.
pub(crate) fn rates(len: u64, suite: Suite, rounds: u32) -> Result<Vec<Rate>> {
    let mut bench = Bench::new(len)?;
    let workers = Workers::all();
    Encode::all()
        .filter(|encode| encode.encoding().compress.is_none())
        .map(|encode| {
            let (mut seal, mut open) = (f64::MAX, f64::MAX);
            for _ in 0..rounds {
                let (sealed, time) = bench.seal(suite, encode.encoding(), workers)?;
                seal = seal.min(time.as_secs_f64());
                open = open.min(bench.open(sealed, workers)?.as_secs_f64());
            }
            Ok(Rate {
                encoding: encode.name,
                settings: encode.encoding(),
                seal: seal / bench.bytes(),
                open: open / bench.bytes(),
            })
        })
        .collect()
}
