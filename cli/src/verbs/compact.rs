//! `kvcap compact`: a chain as one capsule.

use std::path::Path;

use kvcap::Result;
use kvcap_states::reopen;

use super::reseal::ResealArgs;
use kvcap_store::input;

use crate::{flags::Common, ui::Report};

/// Makes one full capsule of a capsule and those that it continues
///
/// It holds what the chain holds, for the same audience, and no longer than the first of them is valid.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    reseal: ResealArgs,
}

impl Args {
    pub(crate) fn output(&self) -> &Path {
        &self.reseal.output
    }
}

/// # Errors
/// As `kvcap open` and `kvcap seal`.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let ready = args.reseal.ready()?;
    let workers = args.reseal.threads().workers();
    let file = input::spool()?;
    let state = reopen(&ready.opened, &file, workers, &mut |_| {}).map_err(input::of_spool)?;
    args.reseal
        .seal(&ready, &state, &input::spooled(file)?, common)
}
