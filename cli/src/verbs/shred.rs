//! `kvcap shred`: destroys wrapping keys, and with them what was sealed for them.

use std::{collections::BTreeSet, path::PathBuf};

use clap::ArgGroup;
use kvcap::Result;
use kvcap_store::{
    key_folder::{self, Meant, Slot},
    time::{self, Day},
};
use serde_json::json;

use crate::ui::{Report, confirm};

/// Destroys wrapping keys of a key folder
///
/// Every copy of every capsule that was sealed for a destroyed key alone is then unreadable, wherever it
/// lies; `kvcap verify` still tells what it was, and `kvcap open` says KVC-811. The key's file is
/// overwritten and removed, and a record stays. Not undone: copies of the key made before, capsules opened
/// before, recipients besides, and old blocks that a file system or an SSD keeps.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(false).args(["key_id", "org", "no_org"]))]
pub(crate) struct Args {
    /// The keys' ids, in hexadecimal (kvcap inspect names them as recipients)
    #[arg(value_name = "KEY-ID")]
    key_id: Vec<String>,
    /// The key folder
    #[arg(long, value_name = "FOLDER")]
    wrap_key: PathBuf,
    /// All keys of this tenant
    #[arg(long = "tenant", alias = "org", value_name = "NAME")]
    org: Option<String>,
    /// All keys of capsules without a tenant
    #[arg(long = "no-tenant", alias = "no-org")]
    no_org: bool,
    /// Of these, the keys of days before this one alone: 2026-11-21
    #[arg(long, value_name = "DAY", conflicts_with = "key_id", value_parser = day)]
    before: Option<Day>,
    /// Let --before take in the keys of today and later
    #[arg(long, requires = "before")]
    including_today: bool,
    /// List the keys that are meant, and destroy nothing
    #[arg(long)]
    dry_run: bool,
    /// Destroy them without a question
    #[arg(long)]
    yes: bool,
}

/// What is to be done, in one line.
fn question(slots: &[Slot]) -> String {
    let days: BTreeSet<Day> = slots.iter().map(|slot| slot.day).collect();
    let days = days.first().zip(days.last());
    let days = days.map_or_else(String::new, |(first, last)| format!("{first} to {last}"));
    let tenants: BTreeSet<&str> = slots.iter().map(|slot| slot.tenant.as_str()).collect();
    let tenants: Vec<&str> = tenants.into_iter().collect();
    let (count, tenants) = (slots.len(), tenants.join(", "));
    format!("destroy {count} wrapping key(s) of tenant {tenants}, days {days}")
}

/// A day: `2026-11-21`.
fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "a day is written 2026-11-21".to_owned())
}

/// # Errors
/// As [`key_folder::select`] and [`key_folder::shred`]; KVC-944 where nobody has said yes.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let meant = match args.key_id.is_empty() {
        false => Meant::Ids(&args.key_id),
        true => Meant::Tenant {
            tenant: args.org.as_deref(),
            before: args.before,
            including_today: args.including_today,
        },
    };
    let now = time::now();
    let slots = key_folder::select(&args.wrap_key, meant, now)?;
    if !args.dry_run {
        confirm(args.yes, &question(&slots))?;
        key_folder::shred(&args.wrap_key, &slots, now)?;
    }
    let mut report = Report::new();
    for slot in &slots {
        report.row(
            match (slot.destroyed, args.dry_run) {
                (true, _) => "destroyed before",
                (false, true) => "to destroy",
                (false, false) => "destroyed",
            },
            format_args!("key {} of tenant {}, {}", slot.id, slot.tenant, slot.day),
        );
    }
    report.row("keys", slots.len());
    let shown = slots.iter().map(|slot| {
        let (day, before) = (slot.day.to_string(), slot.destroyed);
        json!({"key_id": slot.id, "tenant": slot.tenant, "day": day, "destroyed_before": before})
    });
    report.fact("keys", shown.collect::<Vec<_>>());
    report.fact("dry_run", args.dry_run);
    Ok(report)
}
