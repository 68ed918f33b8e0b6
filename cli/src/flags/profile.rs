//! A profile under the flags: what nobody says on the command line has the profile's value as its default.

use std::{collections::BTreeMap, env, ffi::OsString};

use clap::{
    ArgMatches, Command, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use kvcap::{Code, Error};
use kvcap_store::profile::{Origin, Setting, Settings, Value, check_variables};

use Setting as S;

/// Why there is no command to run.
pub(crate) enum Unparsed {
    /// Help, or a command line that is none.
    Usage(clap::Error),
    /// A configuration, or a value of it, that cannot be used.
    Settings {
        error: Error,
        verb: String,
        json: bool,
    },
}

impl From<clap::Error> for Unparsed {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

/// The settings that a verb takes from a profile.
fn taken(verb: &str) -> Vec<S> {
    let trust = [S::Trust, S::Registry, S::RegistryRoot];
    let model = [S::Model, S::Adapter, S::RuntimeOpt, S::ContextSize];
    let runtime = [S::Runtime, S::RuntimeVersion];
    let names = [S::Audience, S::Tenant, S::Subject];
    let sealed = [S::Issuer, S::Ttl, S::Encoding, S::SignKey, S::Recipient];
    let opens = [S::WrapKey, S::OpenKey];
    let judged = [&trust[..], &[S::Ledger]].concat();
    let policy = [&judged[..], &model, &runtime, &names].concat();
    let relay = [S::Relay, S::RelayToken, S::Ca];
    let history = [S::Issuer, S::Ttl, S::SignKey, S::Recipient, S::WrapKey];
    match verb {
        "seal" | "checkpoint" => {
            [&trust[..], &model, &runtime, &names, &sealed, &[S::WrapKey]].concat()
        }
        "verify" | "validate-session" | "check-restore" => policy,
        "open" => [&policy[..], &opens].concat(),
        "resume" => [&policy[..], &opens, &relay].concat(),
        "sync" => [&trust[..], &names, &history, &[S::OpenKey], &relay].concat(),
        "erase" => [&[S::Tenant, S::Subject], &relay[..]].concat(),
        "export" => [&names[..], &history].concat(),
        "import" => [&judged[..], &names, &opens].concat(),
        "status" | "sessions" | "gc" | "events" | "revert" | "branch" => {
            vec![S::Tenant, S::Subject]
        }
        "renew" => [&judged[..], &[S::SignKey, S::Ttl]].concat(),
        "rewrap" => [&judged[..], &[S::SignKey], &opens].concat(),
        "compact" | "truncate" => [&judged[..], &[S::SignKey, S::WrapKey]].concat(),
        _ => Vec::new(),
    }
}

/// Parses a command line, with a profile's settings for what it leaves unsaid, and names its verb.
///
/// # Errors
/// Help and errors of use; as [`Settings::load`], and KVC-945 for a setting that its flag would refuse.
pub(crate) fn parse<T: CommandFactory + FromArgMatches>(
    line: impl IntoIterator<Item = OsString>,
) -> Result<(T, String), Unparsed> {
    let line: Vec<OsString> = line.into_iter().collect();
    // a copy costs less than the derived tree built once more
    let built = T::command();
    let mut command = relaxed(built.clone(), &line);
    let found = match command.try_get_matches_from_mut(&line) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::DisplayVersion => return Err(error.into()),
        // the usage that it shows is of the command as it is
        Err(error) if !error.use_stderr() => {
            return Err(built
                .try_get_matches_from(&line)
                .err()
                .unwrap_or(error)
                .into());
        }
        Err(error) => return Err(error.into()),
    };
    let Some((verb, matches)) = found
        .subcommand()
        .filter(|(verb, _)| !taken(verb).is_empty())
    else {
        // nothing was relaxed for it
        return named(&found);
    };
    let unusable = |error| Unparsed::Settings {
        error,
        verb: verb.to_owned(),
        json: matches.get_flag("json"),
    };
    let flags = command.find_subcommand(verb);
    let flags = flags.map_or_else(BTreeMap::new, |verb| given(verb, matches));
    let choice = matches.get_one::<String>("profile").map(String::as_str);
    let settings = load(choice, flags).map_err(unusable)?;
    let defaults = defaults(verb, matches, &settings);
    let command = built.mut_subcommand(verb, |verb| with_defaults(verb, &defaults));
    let matches =
        command
            .try_get_matches_from(&line)
            .map_err(|error| match blame(&error, &defaults) {
                Some(error) => unusable(error),
                None => advised(error, verb).into(),
            })?;
    named(&matches)
}

/// Loads the settings of this process.
///
/// # Errors
/// As [`check_variables`] and [`Settings::load`].
pub(crate) fn load(
    choice: Option<&str>,
    flags: BTreeMap<S, Vec<String>>,
) -> kvcap::Result<Settings> {
    check_variables(env::vars_os().map(|(name, _)| name))?;
    Settings::load(&|name| env::var_os(name), choice, flags)
}

/// What was parsed, and the verb as it is written: `registry add`.
fn named<T: FromArgMatches>(matches: &ArgMatches) -> Result<(T, String), Unparsed> {
    let mut verb = Vec::new();
    let mut below = matches.subcommand();
    while let Some((name, matches)) = below {
        verb.push(name.to_owned());
        below = matches.subcommand();
    }
    Ok((T::from_arg_matches(matches)?, verb.join(" ")))
}

/// The command, where nothing is missing that a profile may hold: of the verbs that the line may mean, since a change of all
/// takes longer than what most of them do.
fn relaxed(command: Command, line: &[OsString]) -> Command {
    let said = |name: &str| line.iter().any(|word| *word == *name);
    let verbs: Vec<String> = command
        .get_subcommands()
        .filter(|verb| said(verb.get_name()) || verb.get_all_aliases().any(said))
        .map(|verb| verb.get_name().to_owned())
        .collect();
    verbs.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |verb| {
            taken(name)
                .into_iter()
                .fold(verb, |verb, setting| match id_of(&verb, setting.key()) {
                    Some(id) => verb.mut_arg(id, |arg| arg.required(false)),
                    None => verb,
                })
        })
    })
}

/// The name by which the parser knows a flag.
fn id_of(verb: &Command, long: &str) -> Option<String> {
    let mut arguments = verb.get_arguments();
    let arg = arguments.find(|arg| arg.get_long() == Some(long))?;
    Some(arg.get_id().to_string())
}

/// What the command line itself says.
fn given(verb: &Command, matches: &ArgMatches) -> BTreeMap<S, Vec<String>> {
    let said = |setting: S| {
        let id = id_of(verb, setting.key())?;
        let said = matches.value_source(&id) == Some(ValueSource::CommandLine);
        let raw = said.then(|| matches.get_raw(&id)).flatten()?;
        let texts = raw.map(|text| text.to_string_lossy().into_owned());
        Some((setting, texts.collect()))
    };
    taken(verb.get_name())
        .into_iter()
        .filter_map(said)
        .collect()
}

/// What a flag is where nobody says.
struct Default<'s> {
    flag: &'static str,
    texts: Vec<String>,
    origin: &'s Origin,
}

fn defaults<'s>(verb: &str, matches: &ArgMatches, settings: &'s Settings) -> Vec<Default<'s>> {
    let taken = taken(verb);
    let of = |setting: S| {
        let value = settings.value(setting).filter(|_| taken.contains(&setting));
        value.filter(|value| value.origin != Origin::Flag)
    };
    // a start state that everyone shares is nobody's
    let base = matches.try_get_one::<bool>("base").ok().flatten() == Some(&true);
    let seals = ["seal", "checkpoint", "export"].contains(&verb);
    let mut found: Vec<Default<'s>> = Vec::new();
    for setting in taken.iter().copied() {
        let Some(Value { texts, origin }) = of(setting) else {
            continue;
        };
        let (flag, texts) = match setting {
            S::Subject if base => continue,
            // said with the runtime
            S::RuntimeVersion if !seals => continue,
            S::Runtime if !seals => (setting.key(), vec![expected_runtime(settings)]),
            S::OpenKey if verb != "sync" => (S::WrapKey.key(), texts.clone()),
            _ => (setting.key(), texts.clone()),
        };
        match found.iter_mut().find(|default| default.flag == flag) {
            Some(default) => default.texts.extend(texts),
            None => found.push(Default {
                flag,
                texts,
                origin,
            }),
        }
    }
    found
}

/// `NAME` or `NAME=VERSION`, as those who verify say it.
fn expected_runtime(settings: &Settings) -> String {
    let text = |setting| settings.value(setting).map(|value| value.texts.concat());
    let name = text(S::Runtime).unwrap_or_default();
    match text(S::RuntimeVersion) {
        Some(version) => format!("{name}={version}"),
        None => name,
    }
}

fn with_defaults(verb: Command, defaults: &[Default<'_>]) -> Command {
    defaults
        .iter()
        .fold(verb, |verb, default| match id_of(&verb, default.flag) {
            Some(id) => verb.mut_arg(id, |arg| {
                arg.required(false).default_values(default.texts.clone())
            }),
            None => verb,
        })
}

/// Says of flags that are missing what would say them from then on.
fn advised(mut error: clap::Error, verb: &str) -> clap::Error {
    let settings = taken(verb);
    let of_profile = |flag: &String| {
        let long = flag
            .split(' ')
            .next()
            .and_then(|flag| flag.strip_prefix("--"));
        long.is_some_and(|long| settings.iter().any(|setting| setting.key() == long))
    };
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(flags)) => flags.iter().any(of_profile),
        _ => false,
    };
    if missing && error.kind() == ErrorKind::MissingRequiredArgument {
        let tip = format!("kvcap init makes a profile that says it; or see: kvcap {verb} --help");
        let tip = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}

/// Says of a value that its flag refuses where it comes from.
fn blame(error: &clap::Error, defaults: &[Default<'_>]) -> Option<Error> {
    let refused = [ErrorKind::InvalidValue, ErrorKind::ValueValidation].contains(&error.kind());
    let Some(ContextValue::String(said)) = error.get(ContextKind::InvalidArg).filter(|_| refused)
    else {
        return None;
    };
    let said = said.split(' ').next()?.strip_prefix("--")?;
    let Default {
        flag,
        texts,
        origin,
    } = defaults.iter().find(|default| default.flag == said)?;
    let error = Error::new(Code::LocalConfig, format!("{flag} cannot be this")).at(origin);
    let found = texts.join(", ");
    Some(error.sides(
        format_args!("a value of --{flag}"),
        format_args!("{found:?}"),
    ))
}
