//! The chosen provider against the oracle, and both against each other's output.

use super::{Cipher, Refused, Suite, rust_crypto::Cipher as Oracle};
use crate::hazmat::Entropy;

/// Lengths around the blocks that vectorized code works by, and one of a usual chunk.
const LENGTHS: [usize; 20] = [
    0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 511, 512, 1023, 1025, 4095, 65_537,
    262_144,
];

fn bytes(entropy: &mut Entropy, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    entropy.fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_provider_agrees_with_the_oracle() {
    let mut random = Entropy::danger_chosen(b"providers");
    for suite in Suite::ALL {
        for (round, len) in LENGTHS.into_iter().cycle().take(80).enumerate() {
            let key = bytes(&mut random, 32).try_into().unwrap();
            let nonce = bytes(&mut random, 12).try_into().unwrap();
            let aad = bytes(&mut random, round);
            let plain = bytes(&mut random, len);
            let chosen = Cipher::new(suite, &key);
            let oracle = Oracle::new(suite, &key);

            let (mut ours, mut theirs) = (plain.clone(), plain.clone());
            let tag = chosen.seal(&nonce, &aad, &mut ours).unwrap();
            assert_eq!(oracle.seal(&nonce, &aad, &mut theirs), Ok(tag));
            assert_eq!(ours, theirs, "{suite:?}, {len} bytes");

            let mut opened = vec![0; len];
            chosen.open(&nonce, &aad, &ours, &tag, &mut opened).unwrap();
            assert_eq!(opened, plain);
            opened.fill(0);
            oracle.open(&nonce, &aad, &ours, &tag, &mut opened).unwrap();
            assert_eq!(opened, plain);
        }
    }
}

#[test]
fn both_refuse_what_was_changed() {
    let mut random = Entropy::danger_chosen(b"refusals");
    for suite in Suite::ALL {
        let key = bytes(&mut random, 32).try_into().unwrap();
        let nonce: [u8; 12] = bytes(&mut random, 12).try_into().unwrap();
        let mut sealed = bytes(&mut random, 1000);
        let chosen = Cipher::new(suite, &key);
        let oracle = Oracle::new(suite, &key);
        let tag = chosen.seal(&nonce, b"aad", &mut sealed).unwrap();
        let refused = |nonce: &[u8; 12], aad: &[u8], chunk: &[u8], tag: &[u8; 16]| {
            let mut opened = vec![0; chunk.len()];
            let found = chosen.open(nonce, aad, chunk, tag, &mut opened);
            assert_eq!(found, Err(Refused));
            let found = oracle.open(nonce, aad, chunk, tag, &mut opened);
            assert_eq!(found, Err(Refused));
        };
        refused(&nonce, b"aae", &sealed, &tag);
        refused(&nonce, b"aad", &sealed[1..], &tag);
        for at in 0..nonce.len() {
            let mut other = nonce;
            other[at] ^= 1;
            refused(&other, b"aad", &sealed, &tag);
        }
        for at in 0..tag.len() {
            let mut other = tag;
            other[at] ^= 0x80;
            refused(&nonce, b"aad", &sealed, &other);
        }
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 4;
            refused(&nonce, b"aad", &other, &tag);
        }
    }
}
