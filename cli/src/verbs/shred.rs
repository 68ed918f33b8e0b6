//! `kvcap shred`: destroys wrapping keys, and with them what was sealed for them.

use std::path::PathBuf;

use clap::ArgGroup;
use kvcap::{Code, Error, Result};
use kvcap_store::{key_folder, time};
use serde_json::json;

use crate::ui::Report;

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
    #[arg(long, value_name = "DAY", conflicts_with = "key_id")]
    before: Option<String>,
}

/// # Errors
/// KVC-809 where the folder has no such key; 940.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let known = key_folder::slots(&args.wrap_key)?;
    let absent = |id: &String| known.iter().all(|slot| slot.id != *id);
    if let Some(id) = args.key_id.iter().find(|id| absent(id)) {
        return Err(Error::new(Code::BodyNoKey, "the key folder has no such key").at(id));
    }
    let tenant = key_folder::tenant_name(args.org.as_deref())?;
    let meant = |slot: &key_folder::Slot| match args.key_id.is_empty() {
        false => args.key_id.contains(&slot.id),
        true => {
            let early = args.before.as_ref().is_none_or(|day| slot.day < *day);
            slot.tenant == tenant && early
        }
    };
    let slots = key_folder::shred(&args.wrap_key, meant, time::now())?;
    let mut report = Report::new();
    for slot in &slots {
        report.row(
            match slot.destroyed {
                true => "destroyed before",
                false => "destroyed",
            },
            format_args!("key {} of tenant {}, {}", slot.id, slot.tenant, slot.day),
        );
    }
    report.row("keys", slots.len());
    let shown = slots
        .iter()
        .map(|slot| json!({"key": slot.id, "tenant": slot.tenant, "day": slot.day, "before": slot.destroyed}));
    report.fact("keys", shown.collect::<Vec<_>>());
    Ok(report)
}
