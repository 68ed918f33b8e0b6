//! What a capsule costs beside its body: the same at every length.

use kvcap::{Bank, Draft, Result, Sealer, Suite, Workers};
use kvcap_states::{Buffer, RuntimeKind, Skeleton, residue};

use super::{Least, in_a_row, least_of_each, passes::Bench, stages::Encode, timed};

/// A state that is short: the made ones have the same streams at every length.
const SHORT: u64 = 1 << 20;

/// Seconds of one header.
#[derive(Clone, Copy)]
pub(super) struct Header {
    /// Wrapping the content key; encoding the manifest, reading it back and signing it.
    pub(super) seal: f64,
    /// Parsing and verifying it.
    pub(super) verify: f64,
    /// Unwrapping the content key, and the key schedule.
    pub(super) unlock: f64,
    /// Parsing the state's own header again, which says where its banks go.
    pub(super) skeleton: f64,
}

least_of_each!(Header: seal, verify, unlock, skeleton);

/// Headers of capsules in several encodings, each measured alone.
pub(super) struct Headers {
    bench: Bench,
    pub(super) least: Vec<(Encode, Header)>,
}

impl Headers {
    /// # Errors
    /// As [`Bench::new`].
    pub(super) fn new(encodings: &[Encode]) -> Result<Self> {
        let none = Header {
            seal: f64::MAX,
            verify: f64::MAX,
            unlock: f64::MAX,
            skeleton: f64::MAX,
        };
        Ok(Self {
            bench: Bench::new(SHORT)?,
            least: encodings.iter().map(|encode| (*encode, none)).collect(),
        })
    }

    /// Measures each `times` more, and keeps the least.
    ///
    /// # Errors
    /// None that a made state should give.
    pub(super) fn measure(&mut self, times: u64) -> Result<()> {
        for (encode, least) in &mut self.least {
            least.least(&in_a_row(times, || header(&mut self.bench, *encode))?);
        }
        Ok(())
    }

    pub(super) fn of(&self, encode: Encode) -> Option<Header> {
        let mut least = self.least.iter();
        least.find(|(of, _)| *of == encode).map(|(_, least)| *least)
    }
}

fn header(bench: &mut Bench, encode: Encode) -> Result<Header> {
    let (sealed, _) = bench.seal(Suite::ChaCha20Poly1305, encode.encoding(), Workers::ONE)?;
    let (verified, verify) = bench.header(sealed)?;
    let manifest = verified.manifest().clone();
    let (_, unlock) = timed(|| verified.open(bench.sealed(sealed), &bench.wrap))?;
    let draft = Draft::new(manifest.claims.terms, manifest.context);
    let out = Buffer::new(&mut bench.capsule);
    let (sealer, begun) = timed(|| Sealer::new(out, draft, &bench.signer, &[&bench.wrap]))?;
    for stream in &manifest.measured {
        // the body, which is not measured here: any bytes
        let len = usize::try_from(stream.encoded_len).unwrap_or(usize::MAX);
        sealer.write(bench.plain.get(..len).unwrap_or_default())?;
        sealer.end_stream()?;
    }
    let (_, ended) = timed(|| sealer.finish())?;
    let banks: Vec<Bank> = bench.state.banks.iter().map(|p| p.bank.clone()).collect();
    let residue = residue(&bench.state, &bench.plain)?;
    let (_, skeleton) = timed(|| Skeleton::parse(&residue)?.state(RuntimeKind::MlxLm, &banks))?;
    Ok(Header {
        seal: (begun + ended).as_secs_f64(),
        verify: verify.as_secs_f64(),
        unlock: unlock.as_secs_f64(),
        skeleton: skeleton.as_secs_f64(),
    })
}
