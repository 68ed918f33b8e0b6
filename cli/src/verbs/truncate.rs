//! `kvcap truncate`: a rewind as a capsule of its own.

use std::path::Path;

use kvcap::{Members, Result};
use kvcap_states::{RuntimeKind, reopen, truncate_state};

use super::reseal::ResealArgs;
use kvcap_store::input;

use crate::{
    flags::Common,
    ui::{Report, usage},
};

/// Makes a capsule of the first tokens of a capsule or chain
///
/// Banks of attention can be rewound to any position; a recurrent state or a sliding window cannot, and
/// is refused by name. The new capsule is bound to the shorter prompt, and leaves history behind.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    reseal: ResealArgs,
    /// How many tokens to keep
    #[arg(long, value_name = "N")]
    tokens: u64,
}

impl Args {
    pub(crate) fn output(&self) -> &Path {
        &self.reseal.output
    }
}

/// # Errors
/// As `kvcap open` and `kvcap seal`; 810 and 922 where the state cannot be rewound.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let ready = args.reseal.ready()?;
    let workers = args.reseal.threads().workers();
    let name = &ready.opened.tip().manifest().context.runtime.name;
    let Some(kind) = RuntimeKind::from_runtime(name) else {
        return usage("the capsule is of a runtime that is not known", name);
    };
    let (whole, cut) = (input::spool()?, input::spool()?);
    let state = reopen(&ready.opened, &whole, workers, &mut |_| {}).map_err(input::of_spool)?;
    let whole = input::spooled(whole)?;
    let state = truncate_state(kind, &state, &whole, args.tokens, &cut, workers)
        .map_err(input::of_spool)?;
    args.reseal
        .seal(&ready, &state, &input::spooled(cut)?, common)
}
