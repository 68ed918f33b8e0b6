//! `kvcap pin` and `kvcap unpin`: versions that are never removed.

use kvcap::{Result, text::printable};
use serde_json::json;

use crate::{
    flags::{OwnerArgs, SessionArgs},
    ui::{Report, usage},
};

/// Pins a version of a session, which `gc` then never removes
#[derive(Debug, clap::Args)]
pub(crate) struct PinArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// The version [default: the newest]
    #[arg(long, value_name = "VERSION")]
    at: Option<u64>,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Unpins a version of a session, which goes when its time has come
#[derive(Debug, clap::Args)]
pub(crate) struct UnpinArgs {
    #[command(flatten)]
    version: PinArgs,
}

/// # Errors
/// KVC-955 where there is no such session or version; 944 where it has no version yet; 947, 950; 94x.
pub(crate) fn pin(args: &PinArgs) -> Result<Report> {
    set(args, true)
}

/// # Errors
/// As [`pin`].
pub(crate) fn unpin(args: &UnpinArgs) -> Result<Report> {
    set(&args.version, false)
}

fn set(args: &PinArgs, is_pinned: bool) -> Result<Report> {
    let mut session = args.owner.load_meant(&args.session)?;
    let newest = || session.versions().map(|versions| versions.last().copied());
    let Some(version) = args.at.map_or_else(newest, |at| Ok(Some(at)))? else {
        return usage("the session has no version yet", "kvcap checkpoint");
    };
    session.pin(version, is_pinned)?;
    let pinned = session.pinned();
    let name = session.names().session;
    let list: Vec<String> = pinned.iter().map(u64::to_string).collect();
    let mut report = Report::new();
    report.row("session", printable(&name));
    report.row(
        "pinned",
        match list.is_empty() {
            true => "no version".to_owned(),
            false => format!("versions {}", list.join(", ")),
        },
    );
    report.fact("session", name);
    report.fact("version", version);
    report.fact("pinned", json!(pinned));
    Ok(report)
}
