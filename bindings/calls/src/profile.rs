//! Settings of a profile, and what they come to.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    sync::Once,
};

use kvcap::{Code, Error, Expected, Result};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions, parse_adapter};
use kvcap_session::files::CodecProfiles;
use kvcap_states::{RuntimeKind, look_for_profiles_beside};
use kvcap_store::{
    Ask, Parties, Passphrases, Verifier,
    profile::{NewProfile, Setting, Settings, check_variables, default_issuer},
    time,
};
use zeroize::Zeroizing;

/// Settings that hold for the calls it is given to: whom to trust, whose keys, which model, for whom and how long.
///
/// Names are those of docs/reference/config.md, with `_` for `-`.
pub struct Profile {
    settings: Settings,
    passphrase: Option<Zeroizing<String>>,
    limits: Limits,
}

/// What a verifier takes beside settings.
#[derive(Clone, Debug, Default)]
struct Limits {
    scope: Option<String>,
    max_lifetime: Option<u64>,
    budget: Option<u64>,
    at: Option<u64>,
}

type Flags = BTreeMap<Setting, Vec<String>>;

/// Settings as a caller gives them: names, and texts as flags write them.
#[derive(Debug, Default)]
pub struct Given {
    flags: Flags,
    limits: Limits,
}

impl Given {
    /// Takes a setting; of a list, all that it has.
    ///
    /// # Errors
    /// KVC-944 for an unknown name, for several values of what is one, and for what is no number.
    pub fn set(&mut self, name: &str, texts: Vec<String>) -> Result<()> {
        let refused = |what| Err(Error::new(Code::LocalUsage, what).at(name));
        let key = name.replace('_', "-");
        let setting = Setting::of_key(&key);
        if !Self::knows(name) {
            return refused("no such setting");
        }
        if texts.len() != 1 && !setting.is_some_and(Setting::is_list) {
            return refused("the setting is one value");
        }
        let limit = match key.as_str() {
            "scope" => {
                self.limits.scope = texts.into_iter().next();
                return Ok(());
            }
            "max-lifetime" => &mut self.limits.max_lifetime,
            "budget" => &mut self.limits.budget,
            "at" => &mut self.limits.at,
            _ => {
                self.flags.extend(setting.map(|setting| (setting, texts)));
                return Ok(());
            }
        };
        let number = texts.first().and_then(|text| text.parse().ok());
        if number.is_none() {
            return refused("the setting is a number");
        }
        *limit = number;
        Ok(())
    }

    /// Returns true for the name of a setting.
    #[must_use]
    pub fn knows(name: &str) -> bool {
        let key = name.replace('_', "-");
        LIMITS.contains(&key.as_str()) || Setting::of_key(&key).is_some()
    }
}

/// Settings of a verifier alone, which no configuration has.
const LIMITS: [&str; 4] = ["scope", "max-lifetime", "budget", "at"];

/// Does once what a process needs before the first call: signals stay its program's, and profiles of codecs that the user
/// keeps are found.
pub fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        kvcap_store::output::leave_signals();
        look_where_the_user_keeps_profiles();
    });
}

fn look_where_the_user_keeps_profiles() {
    if let Some(kept) = CodecProfiles::of_user(&|name| env::var_os(name)) {
        kept.look_here();
    }
}

impl Profile {
    /// Takes settings, and nothing that is set elsewhere.
    ///
    /// # Errors
    /// KVC-944 for a setting's value.
    pub fn new(given: Given, passphrase: Option<String>) -> Result<Self> {
        begin();
        Ok(Self {
            settings: Settings::load(&|_| None, Some("none"), given.flags)?,
            passphrase: passphrase.map(Zeroizing::new),
            limits: given.limits,
        })
    }

    /// Begins with the user's configuration and the `KVCAP_*` variables, as the program does.
    ///
    /// # Errors
    /// KVC-944, KVC-945.
    pub fn load(name: Option<&str>, given: Given, passphrase: Option<String>) -> Result<Self> {
        begin();
        check_variables(env::vars_os().map(|(name, _)| name))?;
        Ok(Self {
            settings: Settings::load(&|name| env::var_os(name), name, given.flags)?,
            passphrase: passphrase.map(Zeroizing::new),
            limits: given.limits,
        })
    }

    /// Makes a profile with keys of its own in the user's configuration, as `kvcap init` does, and loads it.
    ///
    /// # Errors
    /// KVC-940, KVC-941, KVC-944, KVC-945.
    pub fn create(
        name: &str,
        issuer: Option<&str>,
        given: Given,
        passphrase: Option<String>,
    ) -> Result<Self> {
        begin();
        let env = |name: &str| env::var_os(name);
        let one = |(setting, texts): (Setting, Vec<String>)| (setting, texts.concat());
        let own = issuer.map_or_else(|| default_issuer(&env), str::to_owned);
        let passphrase = passphrase.map(Zeroizing::new);
        let new = NewProfile {
            name,
            issuer: &own,
            settings: given.flags.into_iter().map(one).collect(),
            key_folder: false,
            passphrase: passphrase.as_ref().map(|text| text.as_str()),
        };
        new.make(&env)?;
        Ok(Self {
            settings: Settings::load(&env, Some(name), Flags::new())?,
            passphrase,
            limits: Limits::default(),
        })
    }

    /// Returns the profile's name in the configuration.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.settings.profile()
    }

    /// Returns all that is set: paths and public keys, no secret.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, Vec<String>> {
        let named = |(setting, value): (Setting, &kvcap_store::profile::Value)| {
            (setting.key().replace('-', "_"), value.texts.clone())
        };
        self.settings.values().map(named).collect()
    }

    /// Returns the same profile for another subject.
    pub(crate) fn on_behalf_of(&self, subject: Option<String>) -> Self {
        Self {
            settings: self.settings.clone().with(Setting::Subject, subject),
            passphrase: self.passphrase.clone(),
            limits: self.limits.clone(),
        }
    }

    pub(crate) fn verifier(&self) -> Verifier {
        let mut verifier = self.settings.verifier();
        let limits = self.limits.clone();
        verifier.scope = limits.scope.unwrap_or(verifier.scope);
        verifier.max_lifetime = limits.max_lifetime.unwrap_or(verifier.max_lifetime);
        verifier.budget = limits.budget.unwrap_or(verifier.budget);
        verifier.at = limits.at;
        verifier
    }

    pub(crate) fn parties(&self) -> Result<Parties> {
        self.with_passphrase(|known| self.settings.parties(known, time::now()))
    }

    pub(crate) fn keys_to_open(&self) -> Vec<PathBuf> {
        self.settings.keys_to_open()
    }

    /// Calls `act` with the passphrase of this profile's keys.
    pub(crate) fn with_passphrase<T>(&self, act: impl FnOnce(&Passphrases<'_>) -> T) -> T {
        let ask = |_: &Path| self.passphrase();
        act(&self.passphrases(&ask))
    }

    /// Returns the passphrase of this profile's keys, for who asks.
    pub(crate) fn passphrase(&self) -> Result<Zeroizing<String>> {
        Ok(self.passphrase.clone().unwrap_or_default())
    }

    /// Returns passphrases that `ask` tells, if this profile has one.
    pub(crate) fn passphrases<'a>(&self, ask: Ask<'a>) -> Passphrases<'a> {
        match &self.passphrase {
            Some(_) => Passphrases::asking(ask),
            None => Passphrases::none(),
        }
    }

    /// Returns what the runtime is told when it runs.
    pub(crate) fn options(&self) -> Result<RuntimeOptions> {
        let mut options = RuntimeOptions::parse(self.texts(Setting::RuntimeOpt))?;
        let size = self.text(Setting::ContextSize);
        let size = size.map(|text| {
            text.parse().map_err(|_| {
                let what = "the size of the context is no number";
                Error::new(Code::LocalUsage, what).at(Setting::ContextSize.key())
            })
        });
        options.ctx_size = options.ctx_size.or(size.transpose()?);
        Ok(options)
    }

    /// Reads the model, if one is set; its weights are hashed once and then remembered.
    pub(crate) fn model(&self) -> Result<Option<ModelProfile>> {
        // what the user keeps comes after what lies beside the model
        look_where_the_user_keeps_profiles();
        let Some(path) = self.text(Setting::Model) else {
            return Ok(None);
        };
        let adapters = self.texts(Setting::Adapter).iter();
        let adapters = adapters.map(|text| parse_adapter(text));
        let adapters = adapters.collect::<Result<Vec<_>>>()?;
        let (options, cache) = (self.options()?, HashCache::user());
        look_for_profiles_beside(Path::new(path));
        ModelProfile::read(Path::new(path), &adapters, &options, &cache, &|_, _| {}).map(Some)
    }

    /// Returns the runtime that is set, and its version.
    pub(crate) fn runtime(&self) -> Result<Option<(RuntimeKind, Option<String>)>> {
        let kind = self.text(Setting::Runtime).map(str::parse).transpose()?;
        let version = self.text(Setting::RuntimeVersion).map(str::to_owned);
        Ok(kind.map(|kind| (kind, version)))
    }

    /// Returns what is expected of a capsule, of `model` if there is one.
    pub(crate) fn expected<'m>(&self, model: Option<&'m ModelProfile>) -> Result<Expected<'m>> {
        let mut expected = model.map_or_else(Expected::danger_any_model, ModelProfile::expected);
        let runtime = self.runtime()?;
        expected.runtime = runtime.map(|(kind, version)| (kind.runtime().to_owned(), version));
        Ok(expected)
    }

    pub(crate) fn text(&self, setting: Setting) -> Option<&str> {
        self.texts(setting).first().map(String::as_str)
    }

    fn texts(&self, setting: Setting) -> &[String] {
        self.settings
            .value(setting)
            .map_or(&[], |value| &value.texts)
    }
}
