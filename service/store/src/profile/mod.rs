//! Profiles: what a person would else say with flags every day (docs/reference/config.md).
//!
//! [`Settings::load`] takes a profile of `$XDG_CONFIG_HOME/kvcap/config.toml`, what `KVCAP_*` variables say over it,
//! and what the caller's flags say over both. Nearer sources replace what lies behind them: a flag that names whom to
//! trust replaces all that the profile trusts. What is trusted in the end passes the rules of [`TrustSources`], as if
//! flags had said it.

mod file;
mod new;
mod place;
mod sealing;
mod setting;
mod variables;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use kvcap::{Error, Result, TrustedKey};

use self::{
    file::{Config, ConfigFile, Entry, NONE, Stated, check_text, fault, is_name},
    setting::Kind,
};
pub use self::{
    file::{DEFAULT, read_unchanged},
    new::{Made, NewProfile, default_issuer},
    place::{Environment, config_folder, state_folder},
    setting::Setting,
    variables::check_variables,
};
use crate::{LedgerFile, LedgerSource, TrustSources, Verifier, key_file};

/// Origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A flag of the command line, or the caller.
    Flag,
    /// A variable of the environment.
    Variable(String),
    /// A line of the configuration.
    Profile {
        /// The configuration's file.
        file: PathBuf,
        /// From 1 on.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::Profile { file, line } => write!(f, "{}:{line}", file.display()),
        }
    }
}

/// Value of a setting, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As flags write it: one text, or several of a list. A trusted key is its text with its issuer.
    pub texts: Vec<String>,
    /// Origin of the value.
    pub origin: Origin,
}

/// Settings that hold after all: flags over variables over a profile.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<Setting, Value>,
    profile: Option<String>,
    file: Option<PathBuf>,
}

impl Settings {
    /// Loads the settings: of the profile `choice`, or that of `KVCAP_PROFILE`, or the configuration's own; `none` is
    /// no profile. `flags` are what the caller was told, in the form of [`Value::texts`].
    ///
    /// # Errors
    /// KVC-945 for a configuration that is malformed, that others can change, or that has no such profile, and for
    /// variables that are malformed; 942 and 312 for trusted keys, 940.
    pub fn load(
        env: Environment<'_>,
        choice: Option<&str>,
        flags: BTreeMap<Setting, Vec<String>>,
    ) -> Result<Self> {
        let variable = text_of(env, "KVCAP_PROFILE")?;
        let choice = choice.or(variable.as_deref());
        let mut settings = Self::default();
        if choice != Some(NONE) {
            settings.take_profile(env, choice)?;
        }
        settings.overlay(variables(env)?);
        let flag = |(setting, texts)| {
            let origin = Origin::Flag;
            (setting, Value { texts, origin })
        };
        settings.overlay(flags.into_iter().map(flag).collect());
        settings.check()?;
        Ok(settings)
    }

    /// Returns the profile's name, if there is one.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Returns the configuration's file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns what a setting is, if anybody says so.
    #[must_use]
    pub fn value(&self, setting: Setting) -> Option<&Value> {
        self.values.get(&setting)
    }

    /// Returns all that is set.
    pub fn values(&self) -> impl Iterator<Item = (Setting, &Value)> {
        self.values.iter().map(|(setting, value)| (*setting, value))
    }

    /// Returns the settings where the caller says what one of them is, or that there is none.
    #[must_use]
    pub fn with(mut self, setting: Setting, text: Option<String>) -> Self {
        let value = |text| Value {
            texts: vec![text],
            origin: Origin::Flag,
        };
        self.values.remove(&setting);
        self.values.extend(text.map(|text| (setting, value(text))));
        self
    }

    /// Returns whom these settings trust.
    #[must_use]
    pub fn trust(&self) -> TrustSources {
        TrustSources {
            keys: self.texts(Setting::Trust).to_vec(),
            registries: self
                .texts(Setting::Registry)
                .iter()
                .map(PathBuf::from)
                .collect(),
            roots: self.texts(Setting::RegistryRoot).to_vec(),
        }
    }

    /// Returns the verifier that these settings describe: it holds to the rules of every other.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let one = |setting| self.texts(setting).first().cloned();
        let mut verifier = Verifier {
            ledger: one(Setting::Ledger)
                .map(|path| Arc::new(LedgerFile::at(path.into())) as Arc<dyn LedgerSource>),
            subject: one(Setting::Subject),
            tenant: one(Setting::Tenant),
            ..Verifier::new(self.trust())
        };
        if let Some(audience) = one(Setting::Audience) {
            verifier.audiences = vec![audience];
        }
        verifier
    }

    fn texts(&self, setting: Setting) -> &[String] {
        self.values.get(&setting).map_or(&[], |value| &value.texts)
    }

    fn take_profile(&mut self, env: Environment<'_>, choice: Option<&str>) -> Result<()> {
        let folder = config_folder(env);
        let file = folder
            .as_deref()
            .map(ConfigFile::read)
            .transpose()?
            .flatten();
        let Some(file) = file else {
            return match choice {
                None => Ok(()),
                Some(name) => Err(fault("there is no configuration with this profile").at(name)),
            };
        };
        let Config { chosen, profiles } = file.parse()?;
        self.file = Some(file.path.clone());
        let name = choice.or(chosen.as_deref());
        let Some(stated) = profiles.get(name.unwrap_or(DEFAULT)) else {
            let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
            return match name {
                None => Ok(()),
                Some(name) => Err(fault("the configuration has no such profile")
                    .at(file.path.display())
                    .sides(known.join(", "), name)),
            };
        };
        self.profile = Some(name.unwrap_or(DEFAULT).to_owned());
        for (setting, Stated { entries, line }) in stated {
            let place = format!("{}:{line}", file.path.display());
            let resolve = |entry| resolve(env, &file.folder, *setting, entry);
            let texts = entries.iter().map(resolve).collect::<Result<Vec<_>>>();
            let origin = Origin::Profile {
                file: file.path.clone(),
                line: *line,
            };
            let texts = texts.map_err(|error| error.at(place))?;
            self.values.insert(*setting, Value { texts, origin });
        }
        Ok(())
    }

    /// Lays what a nearer source says over what is there.
    fn overlay(&mut self, nearer: BTreeMap<Setting, Value>) {
        for setting in nearer.keys() {
            for void in setting.replaces() {
                self.values.remove(void);
            }
        }
        self.values.extend(nearer);
    }

    /// Refuses a version of no runtime: a state of another one would be sealed with it.
    fn check(&self) -> Result<()> {
        match self.values.get(&Setting::RuntimeVersion) {
            Some(version)
                if version.origin != Origin::Flag && self.value(Setting::Runtime).is_none() =>
            {
                let what = "runtime-version is of no runtime: say which";
                Err(fault(what).at(&version.origin))
            }
            _ => Ok(()),
        }
    }
}

/// What variables say. Lists are separated as in `PATH`.
fn variables(env: Environment<'_>) -> Result<BTreeMap<Setting, Value>> {
    let mut values = BTreeMap::new();
    for setting in Setting::ALL {
        let name = setting.variable();
        let Some(text) = text_of(env, &name)? else {
            continue;
        };
        let texts: Vec<String> = match setting.is_list() {
            false => vec![text],
            true => std::env::split_paths(&text)
                .map(|part| part.to_string_lossy().into_owned())
                .collect(),
        };
        for text in &texts {
            check_text(setting, text).map_err(|what| fault(what).at(&name))?;
        }
        let origin = Origin::Variable(name);
        values.insert(setting, Value { texts, origin });
    }
    Ok(values)
}

/// A variable's text; an empty one counts as none.
fn text_of(env: Environment<'_>, name: &str) -> Result<Option<String>> {
    let text = env(name).filter(|text| !text.is_empty());
    let text = text.map(|text| text.into_string()).transpose();
    text.map_err(|_| fault("the variable is not text in UTF-8").at(name))
}

/// A value of the file as a flag would write it: paths from the file's folder, trusted keys by their text.
fn resolve(env: Environment<'_>, folder: &Path, setting: Setting, entry: &Entry) -> Result<String> {
    let text = &entry.text;
    let is_text = key_file::is_text(text);
    match setting.kind() {
        Kind::Text | Kind::Time | Kind::Count | Kind::Texts => Ok(text.clone()),
        Kind::Keys if is_text => Ok(text.clone()),
        Kind::Path | Kind::Paths | Kind::Keys => path_in(env, folder, text),
        Kind::Roots if is_text => Ok(text.clone()),
        Kind::Roots => trusted_text(folder, &path_in(env, folder, text)?),
        Kind::Trusted => {
            let key = match is_text {
                true => text.clone(),
                false => trusted_text(folder, &path_in(env, folder, text)?)?,
            };
            pinned(&key, entry.issuer.as_deref())
        }
    }
}

fn path_in(env: Environment<'_>, folder: &Path, text: &str) -> Result<String> {
    let path = match text.strip_prefix("~/") {
        Some(rest) => env("HOME").map(|home| Path::new(&home).join(rest)),
        None => Some(folder.join(text)),
    };
    let path = path.and_then(|path| path.into_os_string().into_string().ok());
    path.ok_or_else(|| fault("the path is not text in UTF-8, or there is no HOME").at(text))
}

/// The text of a key's file that decides what is trusted: where nobody else can change it, and inside the folder
/// through no link that leads out of it.
fn trusted_text(folder: &Path, path: &str) -> Result<String> {
    let path = Path::new(path);
    let text = read_unchanged(path, key_file::LONGEST)?;
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| Error::io(&error, path.display()))
    };
    if path.starts_with(folder) && !real(path)?.starts_with(real(folder)?) {
        let what = "a link leads out of the configuration's folder: what is trusted lies in it, or is named where it is";
        return Err(fault(what).at(path.display()));
    }
    Ok(text)
}

/// A trusted key's text with the issuer that it speaks for.
fn pinned(text: &str, issuer: Option<&str>) -> Result<String> {
    let key = TrustedKey::from_text(text)?;
    let TrustedKey { issuer, key, .. } = key_file::given_to(key, issuer)?;
    match issuer == key.own_issuer() {
        true => Ok(key.to_text()),
        false => Ok(format!("issuer: {issuer}\n{}", key.to_text())),
    }
}
