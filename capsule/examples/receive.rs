//! A server receives an upload: the header is decided before a byte of the body is stored, and each
//! chunk is checked as it comes. `cargo run -p kvcap --example receive`

#![allow(clippy::print_stdout, reason = "an example tells what happens")]

use std::{error::Error, sync::Mutex};

use kvcap::{
    Context, Draft, Expected, Fed, Limits, Policy, PushHeader, Sealer, Section, SectionKind,
    SigningKey, Terms, Trust, WrappingKey,
    binding::{Digest, Model, Runtime, Tokenizer},
};

const NOW: u64 = 1_800_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let signer = SigningKey::generate()?.speaking_for("prefill.example.com")?;
    let key = WrappingKey::generate()?;
    let model = Model::new(digest("model"), digest("weights"), digest("config"));
    let tokenizer = Tokenizer::new(digest("vocabulary"), 32_000);
    let note = b"what the agent knew".to_vec();
    let streams = vec![Section::new(SectionKind::AgentState, u64::try_from(note.len())?).into()];
    let runtime = Runtime::new("raw", "safetensors");
    let context = Context::new(model.clone(), tokenizer.clone(), runtime, 0..1, 1, streams);
    let terms = Terms::new(&signer.issuer(), "cache.example.com", NOW, NOW + 3600);
    let sealer = Sealer::new(
        Mutex::new(Vec::new()),
        Draft::new(terms, context),
        &signer,
        &[&key],
    )?;
    sealer.write(&note)?;
    sealer.end_stream()?;
    let upload = sealer.finish()?.0.into_inner()?;

    let trust = Trust::from(&signer);
    let expected = Expected::of(&model, &tokenizer, &[]);
    let policy = Policy::new(&trust, NOW, "cache.example.com", expected);
    let mut pieces = upload.chunks(1460);
    let mut header = PushHeader::new(&Limits::default());
    let (untrusted, rest) = loop {
        let Some(mut piece) = pieces.next() else {
            return Err(header.end().into());
        };
        match header.feed(&mut piece)? {
            Fed::More(more) => header = more,
            Fed::Header(untrusted) => break (untrusted, piece),
        }
    };
    // whom it is from and what for is known here, and nothing of the body is kept yet
    let verified = untrusted
        .verify(&policy)
        .inspect_err(|error| println!("refused: {}", error.public()))?;
    let mut body = verified.push_body().feed(rest)?;
    for piece in pieces {
        body = body.feed(piece)?;
    }
    // time has passed: the capsule may have expired or been revoked since
    let policy = Policy::new(
        &trust,
        NOW + 60,
        "cache.example.com",
        Expected::of(&model, &tokenizer, &[]),
    );
    let checked = body.finish()?.accept(&policy)?;
    println!("{} chunks, {} bytes", checked.chunks, checked.bytes);

    let opened = verified.open(upload.as_slice(), &key)?.release()?;
    assert_eq!(opened.stream_bytes(0)?, note);
    Ok(())
}

fn digest(of: &str) -> Digest {
    Digest::labelled("an example's digest", &[of.as_bytes()])
}
