//! `kvcap codec-profile`: profiles of codecs that codecs find wherever the model lies (codecs-v1 §12.7).

use std::path::PathBuf;

use clap::Subcommand;
use kvcap::{Result, binding::Digest};
use kvcap_session::files::ProfileFile;
use kvcap_states::{KnownProfile, read_profile};
use serde_json::{Value, json};

use crate::{
    flags::codec_profiles,
    ui::{Report, bytes, grouped},
};

/// Keeps profiles of codecs, by which `tc` loses less on a model
///
/// Capsules name the profile that they need by its digest. One that is kept here is found by every verb, beside those that
/// lie in the model's folder; `gc --codec-profiles` removes those that nothing needs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keeps a copy of profiles
    Add {
        /// The files (.kvtc)
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Lists the profiles that are kept
    List,
}

/// # Errors
/// KVC-909 for what is no profile; 944 where there is no home; 94x.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let kept = codec_profiles()?;
    let mut report = Report::new();
    let mut facts = Vec::new();
    match &args.verb {
        Verb::Add { files } => {
            for file in files {
                let (known, file) = kept.add(file)?;
                tell(&mut report, &mut facts, &known, &file);
            }
        }
        Verb::List => {
            for file in kept.list()? {
                match read_profile(&file.path) {
                    Ok(known) => tell(&mut report, &mut facts, &known, &file),
                    Err(error) => report.note(format_args!("{error}")),
                }
            }
            let count = grouped(u64::try_from(facts.len()).unwrap_or(u64::MAX));
            report.row("profiles", count);
        }
    }
    report.fact("profiles", facts);
    Ok(report)
}

fn tell(report: &mut Report, facts: &mut Vec<Value>, known: &KnownProfile, file: &ProfileFile) {
    let profile = known.profile();
    let model = Digest(*profile.model());
    let banks = profile.banks().len();
    report.row("profile", known.digest());
    report.row("  model", model);
    let transforms = profile
        .banks()
        .iter()
        .map(kvcap_codecs::BankProfile::transform);
    let transform = transforms.max().unwrap_or(0);
    let len = bytes(file.bytes);
    report.row(
        "  banks",
        format_args!("{banks}, transform {transform}, {len}"),
    );
    let mut points = Vec::new();
    for (rate, kl) in profile.promises() {
        report.row("  promises", format_args!("{rate:.2} bits: KL {kl:.1e}"));
        points.push(json!({"bits": rate, "kl": kl}));
    }
    facts.push(json!({
        "digest": known.digest().to_string(),
        "model": model.to_string(),
        "path": file.path.display().to_string(),
        "file_bytes": file.bytes,
        "banks": banks,
        "transform": transform,
        "promises": points,
    }));
}
