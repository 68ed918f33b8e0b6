//! `kvcap model-id --equate`: two models compared, and a statement that they are one.

use std::path::{Path, PathBuf};

use clap::Args;
use kvcap::{Equivalence, Result};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions, equate};
use kvcap_store::{
    key_file,
    output::{self, Readers},
    time,
};

use crate::{
    flags::{Common, duration},
    ui::{Report, bytes, passphrases, progress, usage},
};

/// Two models that are to be one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Two formats of one model")]
pub(crate) struct EquateArgs {
    /// Compare two models, model folders or GGUF files: every tensor, the rope, the vocabulary and what
    /// else their states depend on. With --sign-key and -o, vouch that they are one: open --to asks for
    /// that
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["path", "adapter", "runtime_opt"])]
    equate: Vec<PathBuf>,
    /// The secret signing key's file
    #[arg(long, value_name = "KEY", requires = "equate", requires = "output")]
    sign_key: Option<PathBuf>,
    /// Who vouches [default: the issuer that the signing key's file names]
    #[arg(long, value_name = "NAME", requires = "equate")]
    issuer: Option<String>,
    /// How long the statement is good [default: as long as its key]
    #[arg(long, value_name = "TIME", requires = "sign_key", value_parser = duration)]
    statement_ttl: Option<u64>,
}

impl EquateArgs {
    /// # Errors
    /// As [`equate`]; those of keys and outputs.
    pub(crate) fn run(
        &self,
        out: Option<&Path>,
        force: bool,
        cache: &HashCache,
        common: &Common,
    ) -> Result<Report> {
        let [one, other] = self.equate.as_slice() else {
            return usage("two models are compared", "--equate");
        };
        let signing = match (&self.sign_key, out) {
            (None, Some(_)) => return usage("a statement is signed", "--sign-key"),
            (Some(key), Some(_)) => Some(key_file::signing(key, &passphrases())?),
            (_, None) => None,
        };
        let profile = |path| profile(path, cache, common);
        let (a, b) = (profile(one)?, profile(other)?);
        let bar = progress::bar(common.shows_progress(), "compare", 0);
        let equated = equate((one, &a), (other, &b), &|done, total| {
            bar.set(done, total);
        })?;
        bar.finish();
        let ids = [a.model.id, b.model.id];
        let mut report = Report::new();
        for (path, id) in [(one, ids[0]), (other, ids[1])] {
            report.row("model", format_args!("{id} ({})", path.display()));
        }
        report.row(
            "equal",
            format_args!(
                "{} tensors, {} of them with rows in another order; {}",
                equated.tensors,
                equated.permuted,
                bytes(equated.bytes)
            ),
        );
        if let (Some(key), Some(path)) = (&signing, out) {
            let issuer = self.issuer.clone().unwrap_or_else(|| key.issuer());
            key_file::check_issuer(key, &issuer)?;
            let now = time::now();
            let end = self.statement_ttl.map(|ttl| now.saturating_add(ttl));
            let statement = Equivalence::sign(ids, &issuer, now, end, key)?;
            output::write(path, force, Readers::Umask, &statement)?;
            report.row(
                "signed by",
                format_args!("key {}, issuer {issuer:?}", key.public().id()),
            );
            report.row("valid", end.map_or("no end".to_owned(), time::show_instant));
            if !output::is_stdout(path) {
                report.row("written", path.display());
            }
        }
        report.fact("model_ids", ids.map(|id| id.to_string()).to_vec());
        report.fact("tensors", equated.tensors);
        report.fact("permuted", equated.permuted);
        report.fact("compared_bytes", equated.bytes);
        report.fact("output", out.map(|path| path.display().to_string()));
        Ok(report)
    }
}

fn profile(path: &Path, cache: &HashCache, common: &Common) -> Result<ModelProfile> {
    let bar = progress::bar(common.shows_progress(), "model", 0);
    let told = |done, total| {
        bar.set(done, total);
    };
    let options = RuntimeOptions::default();
    let profile = ModelProfile::read(path, &[], &options, cache, &told);
    bar.finish();
    profile
}
