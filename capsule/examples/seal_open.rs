//! Seals a small state, verifies it with the public key, opens it, and shows what is refused.
//! `cargo run -p kvcap --example seal_open`

#![allow(clippy::print_stdout, reason = "an example tells what happens")]

use std::{error::Error, sync::Mutex};

use kvcap::{
    BankEntry, Context, Draft, Expected, Limits, Policy, Role, RowsEntry, Sealer, SigningKey,
    Terms, Trust, Untrusted, WrappingKey,
    binding::{Digest, Model, Runtime, Tokenizer},
};
use kvcap_codecs::{BankShape, Codec, Dtype};

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;

/// Keys or values of one layer: 2 heads of 300 tokens of 64 elements of f16, stored as they are.
fn bank(role: Role) -> BankEntry {
    BankEntry {
        role,
        layer: 0,
        index: 0,
        dtype: Dtype::F16,
        shape: BankShape::Tokens {
            heads: 2,
            tokens: 300,
            dim: 64,
        },
        rows: RowsEntry::From(0),
        window: 0,
        codec: Codec::Raw,
        rotation: None,
        hadamard: 0,
        chunk_len: 65_536,
        asked: None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let signer = SigningKey::generate()?.speaking_for("prefill.example.com")?;
    let reader = WrappingKey::generate()?;
    let of = |what: &str| Digest::labelled("an example's digest", &[what.as_bytes()]);
    let model = Model::new(of("model"), of("weights"), of("config"));
    let tokenizer = Tokenizer::new(of("vocabulary"), 32_000);

    let banks = [bank(Role::Key), bank(Role::Value)];
    let streams = banks.map(Into::into).to_vec();
    let runtime = Runtime::new("raw", "safetensors");
    let context = Context::new(
        model.clone(),
        tokenizer.clone(),
        runtime,
        0..300,
        1,
        streams,
    );
    let terms = Terms::new(&signer.issuer(), "cache.example.com", NOW, NOW + HOUR);
    let draft = Draft::new(terms, context);
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, &[&reader])?;
    let plain: Vec<u8> = (0..=255).cycle().take(2 * 300 * 64 * 2).collect();
    for _ in 0..2 {
        sealer.write(&plain)?;
        sealer.end_stream()?;
    }
    let file = sealer.finish()?.0.into_inner()?;
    println!(
        "sealed: {} bytes of banks in {} bytes",
        2 * plain.len(),
        file.len()
    );

    let trust = Trust::from(&signer);
    let verify = |file: &[u8], model: &Model, now: u64| {
        let expected = Expected::of(model, &tokenizer, &[]);
        let policy = Policy::new(&trust, now, "cache.example.com", expected);
        Untrusted::read_at(file, &Limits::default())?.verify(&policy)
    };
    let opened = verify(&file, &model, NOW)?
        .open(file.as_slice(), &reader)?
        .release()?;
    assert_eq!(opened.stream_bytes(0)?, plain);
    println!("opened: every byte of every bank is the same");

    let other = Model::new(of("another"), of("fine-tuned weights"), of("config"));
    let mut flipped = file.clone();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let late = verify(&file, &model, NOW + HOUR).err();
    let foreign = verify(&file, &other, NOW).err();
    let damaged = verify(&flipped, &model, NOW)?
        .open(flipped.as_slice(), &reader)?
        .release()?;
    let damaged = damaged.stream_bytes(1).err();
    for (what, refusal) in [
        ("an hour later", late),
        ("into another model", foreign),
        ("with one bit flipped", damaged),
    ] {
        let refusal = refusal.ok_or("a capsule was accepted that must be refused")?;
        println!("refused {what}: {refusal}");
    }
    Ok(())
}
