//! `kvcap model-id`: a model's identity.

use std::path::PathBuf;

use kvcap::Result;

use super::equate::EquateArgs;
use kvcap_store::output::{self, Readers};

use crate::{
    flags::{Common, ModelArgs},
    ui::{Report, bytes, quoted},
};

/// Computes a model's id from its weights, configuration and adapters
///
/// PATH is a model folder (safetensors), a GGUF file (any of its splits) or a .kvid file. The weights
/// are hashed on all cores once and then remembered by path, size and time. A .kvid file holds the id
/// and everything else that a capsule binds, in a few kilobytes: seal and verify take it for --model.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model folder, GGUF file or .kvid file
    #[arg(required_unless_present = "equate")]
    path: Option<PathBuf>,
    #[command(flatten)]
    equate: EquateArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Write a .kvid file, or the statement; - for stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(short, long)]
    force: bool,
}

/// # Errors
/// 93x for the model; 940, 941 for the output.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    if let Some(path) = &args.output {
        output::check_absent(path, args.force)?;
    }
    let Some(path) = &args.path else {
        return args.equate.run(
            args.output.as_deref(),
            args.force,
            &args.model.cache(),
            common,
        );
    };
    let profile = args.model.read(path, common)?;
    if let Some(path) = &args.output {
        output::write(
            path,
            args.force,
            Readers::Umask,
            profile.to_kvid().as_bytes(),
        )?;
    }
    let mut report = Report::new();
    let model = &profile.model;
    let length = profile.weights.iter().map(|file| file.length).sum();
    report.row("model id", model.id);
    report.row("name", quoted(&model.name));
    report.row(
        "weights",
        format_args!(
            "{} in {} file(s), {}",
            model.weights,
            profile.weights.len(),
            bytes(length)
        ),
    );
    report.row("config", model.config);
    for adapter in &model.adapters {
        let scale = f64::from_bits(adapter.scale.0);
        report.row("adapter", format_args!("{} × {scale}", adapter.digest));
    }
    report.row(
        "tokenizer",
        format_args!(
            "{} ({} ids)",
            profile.tokenizer.vocab, profile.tokenizer.vocab_size
        ),
    );
    report.row("layers", profile.geometry.layers.len());
    if let Some(path) = args.output.as_ref().filter(|path| !output::is_stdout(path)) {
        report.row("written", path.display());
    }
    let adapters: Vec<_> = model
        .adapters
        .iter()
        .map(|a| serde_json::json!({"digest": a.digest.to_string(), "scale": f64::from_bits(a.scale.0)}))
        .collect();
    report.fact("model_id", model.id.to_string());
    report.fact("model_name", model.name.as_str());
    report.fact("weights", model.weights.to_string());
    report.fact("weights_bytes", length);
    report.fact("config", model.config.to_string());
    report.fact("adapters", adapters);
    report.fact("tokenizer", profile.tokenizer.vocab.to_string());
    report.fact("vocab_size", profile.tokenizer.vocab_size);
    report.fact("layers", profile.geometry.layers.len());
    report.fact(
        "output",
        args.output.as_ref().map(|path| path.display().to_string()),
    );
    Ok(report)
}
