//! `kvcap revert` and `kvcap branch`: a session from an earlier point on.

use std::ffi::OsStr;

use kvcap::Result;
use kvcap_store::time;

use super::checkpoint::describe;
use crate::{
    flags::{OwnerArgs, SessionArgs},
    ui::{Report, usage},
};

/// Takes a session back to an earlier version or turn
///
/// Nothing is removed: the log says that what came after is taken back, and the checkpoint is a new version, with the
/// latest state from before it.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("point").required(true)))]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// To what a version covers
    #[arg(long, value_name = "VERSION", group = "point")]
    to: Option<u64>,
    /// To the end of a turn; 0 is the beginning
    #[arg(long, value_name = "N", group = "point")]
    to_turn: Option<u64>,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// # Errors
/// KVC-955 where there is no such session, version or turn; 947, 95x; 94x.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let mut session = args.owner.load_meant(&args.session)?;
    let cursor = match (args.to, args.to_turn) {
        (Some(version), _) => session.record(version)?.replay_cursor,
        (None, turn) => session.end_of_turn(turn.unwrap_or(0))?,
    };
    let now = time::now();
    let record = session.revert(now, cursor)?;
    let mut report = Report::new();
    describe(&record, now, &mut report);
    Ok(report)
}

/// Begins another session at a checkpoint
///
/// The branch has a copy of the log up to there and of the state. Both go on by themselves.
#[derive(Debug, clap::Args)]
pub(crate) struct BranchArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// The new session
    #[arg(value_name = "BRANCH")]
    branch: Option<String>,
    /// The version to begin at [default: the newest]
    #[arg(long, value_name = "VERSION")]
    at: Option<u64>,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// # Errors
/// KVC-955 where there is no such session or version; 954 where the branch is there already; 947; 94x.
pub(crate) fn branch(args: &BranchArgs) -> Result<Report> {
    let (name, branch) = args.session.with(args.branch.as_ref())?;
    let Some(branch) = branch.and_then(OsStr::to_str) else {
        return usage("name the new session", "BRANCH");
    };
    let session = args.owner.load(name)?;
    let newest = || Ok(session.versions()?.last().copied().unwrap_or(0));
    let version = args.at.map_or_else(newest, Ok)?;
    let now = time::now();
    let branch = session.branch(branch, version, now)?;
    let mut report = Report::new();
    describe(&branch.record(1)?, now, &mut report);
    Ok(report)
}
