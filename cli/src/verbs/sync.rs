//! `kvcap sync`: sessions of this device, and what a relay keeps of them.

use std::path::PathBuf;

use kvcap::Result;

use crate::{
    flags::{Budget, Common, RelayArgs, SealedFor, SourcesArgs},
    ui::Report,
};

/// Brings sessions up to date on this device and on a relay
///
/// What a relay keeps is sealed, and opens for the holders of your wrapping keys alone: versions, the events that they
/// have seen, and capsules of states. What either side lacks it gets from the other; a device that was lost is made again
/// so. Where this device and another one have both gone on, nothing is changed, and it is said who was first: --branch
/// keeps this device's own under another name, and takes the other's. Whoever is stopped says it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of sessions [default: all, of this device and of the relay]
    #[arg(value_name = "SESSION")]
    sessions: Vec<String>,
    #[command(flatten)]
    relay: RelayArgs,
    /// Where both have gone on, keep this device's own as a session of this name
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// Newest checkpoints that this device gets with their states
    #[arg(long, value_name = "N", default_value_t = kvcap_session::KEEP)]
    keep: usize,
    /// Wrap what the relay keeps for the keys that are sealed for now, in place of older ones
    #[arg(long)]
    rewrap: bool,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "rewrap")]
    dry_run: bool,
    #[command(flatten)]
    trust: SourcesArgs,
    /// A secret wrapping key's file, or a key folder, to open with alone. Several may be given
    #[arg(long, value_name = "KEY")]
    open_key: Vec<PathBuf>,
    #[command(flatten)]
    sealed_for: SealedFor,
    #[command(flatten)]
    budget: Budget,
}

/// # Errors
/// KVC-944: this program was built without relays.
#[cfg(not(feature = "sync"))]
pub(crate) fn run(_args: &Args, _common: &Common) -> Result<Report> {
    crate::flags::without_relays()
}

/// # Errors
/// KVC-953, 954 where this device and another one have gone on; 955 where there is no such session; those of the relay, of
/// sealing and of opening; 94x.
#[cfg(feature = "sync")]
pub(crate) fn run(args: &Args, _common: &Common) -> Result<Report> {
    both_ways::run(args)
}

#[cfg(feature = "sync")]
mod both_ways {
    use kvcap::{Result, text::printable};
    use kvcap_session::{
        Names,
        sync::{Due, Keys, Sync, Synced},
    };
    use kvcap_store::{Passphrases, Verifier};
    use serde_json::{Value, json};

    use super::Args;
    use crate::{
        flags::{names, tier},
        ui::{Report, passphrases, usage},
    };

    pub(super) fn run(args: &Args) -> Result<Report> {
        let Some(relay) = args.relay.read()? else {
            return usage(
                "say which relay: its address and a token",
                "--relay, --relay-token",
            );
        };
        if args.branch.is_some() && args.sessions.len() != 1 {
            return usage("a branch is of one session: name it", "--branch");
        }
        let passphrases = passphrases();
        let keys = args.keys(&passphrases)?;
        let tier = tier()?;
        let sync = Sync {
            tier: &tier,
            relay: &relay,
            keys: &keys,
            keep: args.keep,
        };
        let of = &args.sealed_for;
        let named = |id: &str| names(of.org.as_deref(), of.subject.as_deref(), id);
        let sessions: Vec<Names> = match &args.sessions[..] {
            [] => sync.sessions(&named("all"))?,
            ids => ids.iter().map(|id| named(id)).collect(),
        };
        let mut report = Report::new();
        let (mut all, mut failed) = (Vec::new(), None);
        for names in &sessions {
            match args.session(&sync, names, &mut report) {
                Ok(told) => all.push(told),
                // one that cannot be brought up to date holds up no other
                Err(error) => {
                    let error = error.at(printable(&names.session));
                    if failed.is_none() {
                        failed = Some(error);
                    } else {
                        report.warn(error);
                    }
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        report.row("sessions", all.len());
        report.fact("sessions", all);
        report.fact("dry_run", args.dry_run);
        Ok(report)
    }

    impl Args {
        fn keys<'a>(&self, passphrases: &'a Passphrases<'a>) -> Result<Keys<'a>> {
            let mut open_with = self.sealed_for.wrap_key.clone();
            open_with.extend(self.open_key.iter().cloned());
            let parties = self.sealed_for.read(passphrases)?;
            let verifier = self.budget.of(Verifier {
                audiences: vec![parties.terms.audience.clone()],
                subject: self.sealed_for.subject.clone(),
                tenant: self.sealed_for.org.clone(),
                ..Verifier::new(self.trust.sources())
            });
            Ok(Keys {
                parties: Some(parties),
                suite: self.sealed_for.suite(),
                verifier,
                open_with,
                passphrases,
            })
        }

        fn session(&self, sync: &Sync<'_>, names: &Names, report: &mut Report) -> Result<Value> {
            let due = match self.dry_run {
                true => Some(sync.due(names)?),
                false => None,
            };
            let mut synced = match &due {
                Some(_) => Synced::default(),
                None => sync.bring(names, self.branch.as_deref())?,
            };
            if self.rewrap {
                synced.renewed.extend(sync.rewrap(names)?);
            }
            let text = due.as_ref().map_or_else(|| done(&synced), to_do);
            report.row("session", format_args!("{}: {text}", names.session));
            let due = due.unwrap_or_default();
            Ok(json!({
                "session": names.session,
                "put": synced.put,
                "taken": synced.taken,
                "renewed": synced.renewed,
                "capsules_put": synced.capsules.0,
                "capsules_taken": synced.capsules.1,
                "branch": synced.branch,
                "to_put": due.to_put,
                "to_take": due.to_take,
                "to_renew": due.to_renew,
                "unsaved_events": due.is_open,
            }))
        }
    }

    fn done(synced: &Synced) -> String {
        let mut parts = Vec::new();
        parts.extend(versions("put", &synced.put));
        parts.extend(versions("taken", &synced.taken));
        parts.extend(versions("renewed", &synced.renewed));
        parts.extend(count("capsules of states put", synced.capsules.0));
        parts.extend(count("capsules of states taken", synced.capsules.1));
        if let Some(name) = &synced.branch {
            parts.push(format!("this device's own is {name} now"));
        }
        said(&parts)
    }

    fn to_do(due: &Due) -> String {
        let mut parts = Vec::new();
        parts.extend(versions("to put", &due.to_put));
        if due.is_open {
            parts.push("to put: a new version".to_owned());
        }
        parts.extend(versions("to take", &due.to_take));
        parts.extend(versions("to renew", &due.to_renew));
        said(&parts)
    }

    fn said(parts: &[String]) -> String {
        match parts {
            [] => "up to date".to_owned(),
            parts => parts.join("; "),
        }
    }

    fn versions(what: &str, versions: &[u64]) -> Option<String> {
        let (first, last) = (versions.first()?, versions.last()?);
        Some(match versions.len() {
            1 => format!("{what}: version {first}"),
            len => format!("{what}: {len} versions, {first} to {last}"),
        })
    }

    fn count(what: &str, number: u64) -> Option<String> {
        (number > 0).then(|| format!("{number} {what}"))
    }
}
