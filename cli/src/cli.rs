//! The command line: its verbs, and who runs each.

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory, Parser, Subcommand};
use kvcap::{Code, Error, Result};
use kvcap_store::output::is_stdout;

use crate::{
    flags::{Common, find_codec_profiles},
    ui::{Printer, Report},
    verbs,
};

/// Seals a language model's saved attention state (KV cache) into a signed, encrypted capsule.
///
/// Anyone with the issuer's public key can verify every byte of a capsule; only a holder of a
/// wrapping key can open it, and only into the model that it was made by.
#[derive(Debug, Parser)]
#[command(
    name = "kvcap",
    version,
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

pub(crate) const EXIT_CODES: &str = "\
Exit status:
  0  accepted          1  refused          2  the request is not usable
  3  malformed input, or over a limit      4  a file could not be read or written
  141  with `-o -`, the output was closed before its end, as by `| head`

Errors are one line on stderr, `kvcap: error[KVC-402]: …`, and a hint; the codes are listed in
spec/errors.md. With --json, stdout gets one object: {\"schema\": 2, \"ok\": true, …}, or
{\"schema\": 2, \"ok\": false, \"error\": {\"code\": 402, …}}. With `-o -` stdout is the output's, and
the report goes to stderr.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Init(Box<verbs::init::Args>),
    Profile(verbs::profile::Args),
    Keygen(verbs::keygen::Args),
    ModelId(verbs::model_id::Args),
    Seal(Box<verbs::seal::Args>),
    Verify(Box<verbs::verify::Args>),
    /// The former name of `verify --timings`
    #[command(hide = true)]
    ValidateSession(Box<verbs::verify::Args>),
    Open(Box<verbs::open::Args>),
    Checkpoint(Box<verbs::checkpoint::Args>),
    Resume(Box<verbs::resume::Args>),
    Status(verbs::status::Args),
    Sessions(verbs::status::ListArgs),
    Revert(verbs::revert::Args),
    Branch(verbs::revert::BranchArgs),
    Pin(verbs::pin::PinArgs),
    Unpin(verbs::pin::UnpinArgs),
    Events(verbs::events::Args),
    Export(Box<verbs::export::Args>),
    Import(Box<verbs::export::ImportArgs>),
    Gc(verbs::gc::Args),
    #[cfg_attr(not(feature = "sync"), command(hide = true))]
    Sync(Box<verbs::sync::Args>),
    Erase(verbs::erase::Args),
    Renew(verbs::renew::Args),
    Rewrap(verbs::rewrap::Args),
    Compact(verbs::compact::Args),
    Truncate(verbs::truncate::Args),
    Log(verbs::log::Args),
    Diff(verbs::diff::Args),
    #[command(alias = "receipt")]
    CheckRestore(Box<verbs::check_restore::Args>),
    Inspect(verbs::inspect::Args),
    Prune(verbs::prune::Args),
    #[cfg_attr(not(feature = "server"), command(hide = true))]
    Base(verbs::base::Args),
    #[cfg_attr(not(feature = "server"), command(hide = true))]
    Serve(Box<verbs::serve::Args>),
    Shred(verbs::shred::Args),
    Registry(verbs::registry::Args),
    Ledger(verbs::ledger::Args),
    CodecProfile(verbs::codec_profile::Args),
    Bench(verbs::bench::Args),
    Scale(Box<verbs::scale::Args>),
    Selftest(verbs::selftest::Args),
    Demo(verbs::demo::Args),
    Completions(verbs::completions::Args),
    Man(verbs::man::Args),
}

impl Verb {
    /// Where the verb's output goes, if it has one.
    pub(crate) fn output(&self) -> Option<&Path> {
        match self {
            Self::ModelId(args) => args.output.as_deref(),
            Self::Seal(args) => args.output.as_deref(),
            Self::Open(args) => args.output.as_deref(),
            Self::Resume(args) => args.output.as_deref(),
            Self::Export(args) => Some(args.output()),
            Self::Compact(args) => Some(args.output()),
            Self::Truncate(args) => Some(args.output()),
            Self::Renew(args) => Some(args.output()),
            Self::Rewrap(args) => Some(args.output()),
            Self::Base(args) => args.output(),
            _ => None,
        }
    }
}

impl Cli {
    /// How and where the report of `verb` is printed.
    pub(crate) fn place(&self, verb: String) -> Printer {
        let aside = self.verb.output().is_some_and(is_stdout);
        Printer::new(verb, self.common.json, self.common.quiet, aside)
    }

    /// Runs a verb.
    ///
    /// # Errors
    /// What the verb refuses.
    pub(crate) fn run(&self) -> Result<Report> {
        let common = &self.common;
        let backend = verbs::selftest::backend()?;
        find_codec_profiles();
        let mut report = match &self.verb {
            Verb::Init(args) => verbs::init::run(args, common),
            Verb::Profile(args) => verbs::profile::run(args, common),
            Verb::Keygen(args) => verbs::keygen::run(args),
            Verb::ModelId(args) => verbs::model_id::run(args, common),
            Verb::Seal(args) => verbs::seal::run(args, common),
            Verb::Verify(args) => verbs::verify::run(args, common, args.timings),
            Verb::ValidateSession(args) => verbs::verify::run(args, common, true),
            Verb::Open(args) => verbs::open::run(args, common),
            Verb::Checkpoint(args) => verbs::checkpoint::run(args, common),
            Verb::Resume(args) => verbs::resume::run(args, common),
            Verb::Status(args) => verbs::status::run(args),
            Verb::Sessions(args) => verbs::status::list(args),
            Verb::Revert(args) => verbs::revert::run(args),
            Verb::Branch(args) => verbs::revert::branch(args),
            Verb::Pin(args) => verbs::pin::pin(args),
            Verb::Unpin(args) => verbs::pin::unpin(args),
            Verb::Events(args) => verbs::events::run(args),
            Verb::Export(args) => verbs::export::run(args),
            Verb::Import(args) => verbs::export::import(args),
            Verb::Gc(args) => verbs::gc::run(args),
            Verb::Sync(args) => verbs::sync::run(args, common),
            Verb::Erase(args) => verbs::erase::run(args),
            Verb::Renew(args) => verbs::renew::run(args),
            Verb::Rewrap(args) => verbs::rewrap::run(args),
            Verb::Compact(args) => verbs::compact::run(args, common),
            Verb::Truncate(args) => verbs::truncate::run(args, common),
            Verb::Log(args) => verbs::log::run(args),
            Verb::Diff(args) => verbs::diff::run(args),
            Verb::CheckRestore(args) => verbs::check_restore::run(args, common),
            Verb::Inspect(args) => verbs::inspect::run(args),
            Verb::Prune(args) => verbs::prune::run(args),
            Verb::Base(args) => verbs::base::run(args, common),
            Verb::Serve(args) => verbs::serve::run(args, common),
            Verb::Shred(args) => verbs::shred::run(args),
            Verb::Registry(args) => verbs::registry::run(args),
            Verb::Ledger(args) => verbs::ledger::run(args),
            Verb::CodecProfile(args) => verbs::codec_profile::run(args),
            Verb::Bench(args) => verbs::bench::run(args),
            Verb::Scale(args) => verbs::scale::run(args, common),
            Verb::Selftest(args) => verbs::selftest::run(args),
            Verb::Demo(args) => verbs::demo::run(args, run_line),
            Verb::Completions(args) => verbs::completions::run(args, Self::command()),
            Verb::Man(args) => verbs::man::run(args, Self::command()),
        }?;
        if let Some(text) = backend {
            report.row("backend", &text);
            report.fact("backend", text);
        }
        Ok(report)
    }
}

/// Runs a command line, as the demo writes it.
fn run_line(line: &[OsString]) -> Result<Report> {
    let cli = Cli::try_parse_from(line).map_err(|error| {
        Error::new(Code::LocalUsage, "the command line cannot be parsed").at(error.kind())
    })?;
    cli.run()
}
