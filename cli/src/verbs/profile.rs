//! `kvcap profile`: what holds, and who says so.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand};
use kvcap::Result;
use kvcap_store::profile::{Origin, Setting, Value};
use serde_json::json;

use crate::{
    flags::{self, Common},
    ui::{Report, quoted},
};

/// Shows the settings of a profile
///
/// Flags outrank variables of the environment (KVCAP_ and the key in capitals), and these outrank the profile.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Prints every setting that holds, and where it comes from
    Show(SettingFlags),
}

/// A flag for each setting.
#[derive(Clone, Debug)]
pub(crate) struct SettingFlags(BTreeMap<Setting, Vec<String>>);

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let said = |setting: Setting| {
            let texts = matches.get_many::<String>(setting.key())?;
            Some((setting, texts.cloned().collect()))
        };
        Ok(Self(Setting::ALL.into_iter().filter_map(said).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        Setting::ALL.into_iter().fold(command, |command, setting| {
            let action = match setting.is_list() {
                true => ArgAction::Append,
                false => ArgAction::Set,
            };
            let key = setting.key();
            let meaning = setting.meaning().replace('`', "");
            let arg = Arg::new(key).long(key).value_name("VALUE");
            command.arg(arg.action(action).help(meaning))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// # Errors
/// As [`flags::load`].
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let Verb::Show(said) = &args.verb;
    let choice = common.profile.as_deref();
    let settings = flags::load(choice, said.0.clone())?;
    let mut report = Report::new();
    let file = settings.file().map(|path| path.display().to_string());
    report.row("profile", settings.profile().unwrap_or("none"));
    report.row("configuration", file.as_deref().unwrap_or("none"));
    let mut facts = Vec::new();
    for (setting, Value { texts, origin }) in settings.values() {
        let shown: Vec<String> = texts.iter().map(|text| one_line(text)).collect();
        report.row(
            setting.key(),
            format_args!("{}  ({})", shown.join(", "), origin),
        );
        facts.push(setting_json(setting, texts, origin));
    }
    report.fact("profile", settings.profile());
    report.fact("file", file);
    report.fact("settings", facts);
    Ok(report)
}

/// A trusted key with its issuer before it.
fn one_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((issuer, key)) => {
            let issuer = issuer.strip_prefix("issuer: ").unwrap_or(issuer);
            format!("{} {key}", quoted(issuer))
        }
        None => text.to_owned(),
    }
}

fn setting_json(setting: Setting, texts: &[String], origin: &Origin) -> serde_json::Value {
    let (key, values) = (setting.key(), texts);
    match origin {
        Origin::Variable(variable) => {
            json!({"key": key, "values": values, "origin": "environment", "variable": variable})
        }
        Origin::Profile { file, line } => {
            let file = file.display().to_string();
            json!({"key": key, "values": values, "origin": "profile", "file": file, "line": line})
        }
        _ => json!({"key": key, "values": values, "origin": "flag"}),
    }
}
