//! One verb a file.

pub(crate) mod bench;
mod calibrate;
pub(crate) mod check_restore;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod demo;
mod demo_forge;
pub(crate) mod diff;
mod equate;
pub(crate) mod inspect;
mod inspect_banks;
pub(crate) mod keygen;
pub(crate) mod log;
pub(crate) mod man;
pub(crate) mod model_id;
pub(crate) mod open;
mod open_target;
pub(crate) mod registry;
mod registry_show;
mod reissue;
pub(crate) mod renew;
mod reseal;
pub(crate) mod rewrap;
pub(crate) mod scale;
pub(crate) mod seal;
mod seal_report;
pub(crate) mod selftest;
pub(crate) mod shred;
mod timings;
pub(crate) mod truncate;
pub(crate) mod verify;

use kvcap::Result;

use crate::{
    args::{Cli, Verb},
    report::Report,
};

/// Runs a verb.
///
/// # Errors
/// What the verb refuses.
pub(crate) fn run(cli: &Cli) -> Result<Report> {
    let common = &cli.common;
    let backend = selftest::backend()?;
    let mut report = match &cli.verb {
        Verb::Keygen(args) => keygen::run(args),
        Verb::ModelId(args) => model_id::run(args, common),
        Verb::Seal(args) => seal::run(args, common),
        Verb::Verify(args) => verify::run(args, common, args.timings),
        Verb::ValidateSession(args) => verify::run(args, common, true),
        Verb::Open(args) => open::run(args, common),
        Verb::Renew(args) => renew::run(args),
        Verb::Rewrap(args) => rewrap::run(args),
        Verb::Compact(args) => compact::run(args, common),
        Verb::Truncate(args) => truncate::run(args, common),
        Verb::Log(args) => log::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::CheckRestore(args) => check_restore::run(args, common),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Shred(args) => shred::run(args),
        Verb::Registry(args) => registry::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Scale(args) => scale::run(args, common),
        Verb::Selftest(args) => selftest::run(args),
        Verb::Demo(args) => demo::run(args),
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    }?;
    if let Some(text) = backend {
        report.row("backend", &text);
        report.fact("backend", text);
    }
    Ok(report)
}
