//! `kvcap erase`: sessions removed, on a relay and on this device.

use kvcap::{Code, Error, Result, text::printable};
use kvcap_session::{Names, Session};
use serde_json::json;

use crate::{
    flags::{OwnerArgs, RelayArgs, tier},
    ui::{Report, confirm, usage},
};

/// Removes whole sessions: on a relay, where one is named, and then on this device
///
/// Copies that were made before stay readable for who holds their keys: kvcap shred destroys a tenant's wrapping keys, and
/// is said first where everything of a tenant has to go.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of the sessions, whole
    #[arg(value_name = "SESSION", required_unless_present = "all")]
    sessions: Vec<String>,
    /// All sessions of the tenant and the subject
    #[arg(long, conflicts_with = "sessions")]
    all: bool,
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(flatten)]
    relay: RelayArgs,
    /// List what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove without a question
    #[arg(long)]
    yes: bool,
}

/// A session that is to go, and where it is.
struct Doomed {
    names: Names,
    here: bool,
    there: bool,
}

/// # Errors
/// KVC-955 where there is no such session; 944 where nobody has said yes; 947, 94x; those of the relay.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let far = Far::of(&args.relay)?;
    let tier = tier()?;
    let kept = far.sessions()?;
    let is_here = |names: &Names| tier.folder(names).map(|folder| folder.exists());
    let mut doomed = Vec::new();
    let mut named: Vec<Names> = args
        .sessions
        .iter()
        .map(|id| args.owner.names(id))
        .collect();
    if args.all {
        let own = tier.changed()?.into_iter().map(|(names, _)| names);
        named.extend(own.filter(|names| args.owner.own(names)));
        named.extend(kept.iter().map(|id| args.owner.names(id)));
        named.sort();
        named.dedup();
    }
    for names in named {
        let (here, there) = (is_here(&names)?, kept.contains(&names.session));
        if !here && !there && !args.all {
            let error = Error::new(Code::SessionMissing, "there is no such session");
            return Err(error.at(printable(&names.session)));
        }
        doomed.push(Doomed { names, here, there });
    }
    if doomed.is_empty() {
        return usage("there is no session to erase", "--all");
    }
    let mut report = Report::new();
    if !args.dry_run {
        confirm(args.yes, &format!("erase {} sessions", doomed.len()))?;
        for Doomed { names, there, .. } in &doomed {
            if *there {
                far.forget(&names.session)?;
            }
            // of what a writer that was stopped has left there is no description
            Session::erase(&tier, names)?;
        }
    }
    let label = match args.dry_run {
        true => "to erase",
        false => "erased",
    };
    for Doomed { names, here, there } in &doomed {
        let place = match (here, there) {
            (true, true) => "here and on the relay",
            (true, false) => "here",
            (false, _) => "on the relay",
        };
        report.row(label, format_args!("{}, {place}", names.session));
    }
    let entries = doomed.iter().map(|doomed| {
        json!({"session": doomed.names.session, "device": doomed.here, "relay": doomed.there})
    });
    report.fact("sessions", entries.collect::<Vec<_>>());
    report.fact("dry_run", args.dry_run);
    Ok(report)
}

/// The relay, if one is named.
#[cfg(feature = "sync")]
struct Far(Option<kvcap_session::sync::Relay>);

#[cfg(not(feature = "sync"))]
struct Far;

#[cfg(feature = "sync")]
impl Far {
    fn of(relay: &RelayArgs) -> Result<Self> {
        relay.read().map(Self)
    }

    fn sessions(&self) -> Result<Vec<String>> {
        let newest = self.0.as_ref().map(|relay| relay.newest()).transpose()?;
        Ok(newest.into_iter().flatten().map(|(id, _)| id).collect())
    }

    fn forget(&self, session: &str) -> Result<()> {
        match &self.0 {
            Some(relay) => relay.forget(session).map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(not(feature = "sync"))]
impl Far {
    fn of(relay: &RelayArgs) -> Result<Self> {
        match relay.is_named() {
            true => crate::flags::without_relays(),
            false => Ok(Self),
        }
    }

    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with relays"
    )]
    fn sessions(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with relays"
    )]
    fn forget(&self, _session: &str) -> Result<()> {
        Ok(())
    }
}
