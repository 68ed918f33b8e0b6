//! How long a runtime waits for its first layer, and for all of them.
//!
//! ```text
//! cargo run --profile dist -p kvcap-states --example first_layer -- CAPSULE WRAP-KEY ISSUER.pub
//! ```
//!
//! Trusts the key it is given and any model, and takes the capsule's own audience: an example.

#![allow(clippy::print_stdout, reason = "an example")]

use std::{fs, time::Instant};

use kvcap::{
    Expected, Limits, Policy, SourceFile, Trust, TrustedKey, Untrusted, Workers, WrappingKey,
};
use kvcap_states::layers;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [capsule, key, issuer] = args.as_slice() else {
        return Err("usage: first_layer CAPSULE WRAP-KEY ISSUER.pub".into());
    };
    let key = WrappingKey::from_text(&fs::read_to_string(key)?)?;
    let trust = Trust::from(TrustedKey::from_text(&fs::read_to_string(issuer)?)?);
    for workers in [Workers::ONE, Workers::all()] {
        let start = Instant::now();
        let file = SourceFile::open(capsule)?;
        let untrusted = Untrusted::read_at(&file, &Limits::default())?;
        let terms = untrusted.claims().terms.clone();
        let expected = Expected::danger_any_model();
        let policy = Policy::new(&trust, terms.issued_at, &terms.audience, expected);
        let opened = untrusted.verify(&policy)?.open(file, &key)?.release()?;
        let ready = start.elapsed();
        let (mut first, mut bytes, mut count) = (None, 0, 0);
        for layer in layers(&opened, workers) {
            let layer = layer?;
            first.get_or_insert_with(|| start.elapsed());
            bytes += layer
                .banks
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum::<usize>();
            count += 1;
        }
        println!(
            "{} thread(s): verified and unwrapped {ready:.1?}, first layer {:.1?}, all {count} layers ({bytes} bytes) {:.1?}",
            workers.count(),
            first.unwrap_or_default(),
            start.elapsed()
        );
    }
    Ok(())
}
