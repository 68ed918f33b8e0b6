//! `kvcap status --metrics`: figures of sessions and of what came of resuming them.

use kvcap::{Result, text::printable};
use kvcap_session::{Metrics, Session};
use kvcap_store::time;

use crate::{
    flags::{OwnerArgs, tier},
    ui::Report,
};

/// The figures of one session, or of all that are the owner's: one that cannot be read hides no other, and is told.
///
/// # Errors
/// KVC-955 where there is no such session; 950; 94x.
pub(super) fn run(all: bool, name: Option<&str>, owner: &OwnerArgs) -> Result<Report> {
    let mut unread = Vec::new();
    let metrics = match all {
        false => Metrics::alone(owner.load(name)?.figures()?),
        true => {
            let (tier, mut figures) = (tier()?, Vec::new());
            for (names, _) in tier.changed()? {
                if !owner.own(&names) {
                    continue;
                }
                match Session::load(&tier, &names).and_then(|session| session.figures()) {
                    Ok(found) => figures.push(found),
                    Err(error) => unread.push((names.session, error)),
                }
            }
            Metrics::over(figures)
        }
    };
    let now = time::now();
    let mut report = Report::data(metrics.to_prometheus(now));
    for (session, error) in unread {
        let session = printable(&session).into_owned();
        report.warn(format_args!("session {session} is left out: {error}"));
    }
    report.fact("metrics", metrics.to_json(now));
    report.fact("measured_at", now);
    Ok(report)
}
