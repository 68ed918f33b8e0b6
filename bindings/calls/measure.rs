//! Seals and opens a state in memory, as the bindings' own `measure` programs do: `measure STATE MODEL FOLDER`, of which
//! the folder has issuer.key, issuer.key.pub and reader.key. Prints seconds of the second seal and of the second open.

#![allow(clippy::print_stdout, reason = "a program's report")]

use std::{
    error::Error,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use kvcap_calls::{Asked, Given, Profile, Progress, Said, Source, Terms, open, seal};
use kvcap_states::Buffer;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [state, model, folder] = given.as_slice() else {
        return Err("measure STATE MODEL FOLDER".into());
    };
    let file = |name: &str| vec![Path::new(folder).join(name).display().to_string()];
    let mut settings = Given::default();
    settings.set("sign_key", file("issuer.key"))?;
    settings.set("trust", file("issuer.key.pub"))?;
    settings.set("wrap_key", file("reader.key"))?;
    settings.set("model", vec![model.clone()])?;
    settings.set("ttl", vec!["1h".to_owned()])?;
    let profile = Arc::new(Profile::new(settings, None)?);
    let terms = || Terms::new(Some(Arc::clone(&profile)), Asked::default());
    let bytes = fs::read(state)?;
    let source = Source::memory(bytes.clone());
    let mut capsule = Vec::new();
    let mut took = [0.0; 2];
    for _ in 0..2 {
        let started = Instant::now();
        let said = Said {
            danger_no_prefix: true,
            ..Said::default()
        };
        let out = Mutex::new(Vec::new());
        seal(&source, &terms()?, said, &out, &Progress::none())?;
        took[0] = started.elapsed().as_secs_f64();
        capsule = out.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
    for _ in 0..2 {
        let sealed = Source::memory(capsule.clone());
        let started = Instant::now();
        let opened = open(sealed, terms()?, None)?;
        let mut state = vec![0; usize::try_from(opened.state_len()?)?];
        opened.write(None, &Buffer::new(&mut state), &Progress::none())?;
        took[1] = started.elapsed().as_secs_f64();
        assert!(state == bytes, "the state comes back");
    }
    println!("{:.4} {:.4}", took[0], took[1]);
    Ok(())
}
