//! Settings of a profile, and what they come to.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use kvcap::Expected;
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions, parse_adapter};
use kvcap_session::files::CodecProfiles;
use kvcap_states::{RuntimeKind, look_for_profiles_beside};
use kvcap_store::{
    Ask, Passphrases, Verifier,
    profile::{NewProfile, Parties, Setting, Settings, check_variables, default_issuer},
    time,
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};
use zeroize::Zeroizing;

use crate::error::OrRaise;

/// Settings that hold for the calls it is given to: whom to trust, whose keys, which model, for whom and how long.
///
/// `Profile(...)` is what its arguments say and nothing else; `Profile.load(...)` begins with the user's configuration
/// and the `KVCAP_*` variables, as the program does. Arguments are the settings of docs/reference/config.md with `_`
/// for `-`; lists may be lists.
#[pyclass(frozen, module = "kvcap")]
pub(crate) struct Profile {
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

#[pymethods]
impl Profile {
    #[new]
    #[pyo3(signature = (*, passphrase = None, **settings))]
    fn new(passphrase: Option<String>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (flags, limits) = given(settings)?;
        let settings = Settings::load(&|_| None, Some("none"), flags).or_raise()?;
        Ok(Self {
            settings,
            passphrase: passphrase.map(Zeroizing::new),
            limits,
        })
    }

    #[staticmethod]
    #[pyo3(signature = (name = None, *, passphrase = None, **settings))]
    fn load(
        name: Option<&str>,
        passphrase: Option<String>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (flags, limits) = given(settings)?;
        check_variables(env::vars_os().map(|(name, _)| name)).or_raise()?;
        let settings = Settings::load(&|name| env::var_os(name), name, flags).or_raise()?;
        Ok(Self {
            settings,
            passphrase: passphrase.map(Zeroizing::new),
            limits,
        })
    }

    /// Makes a profile with keys of its own in the user's configuration, as `kvcap init` does, and loads it.
    #[staticmethod]
    #[pyo3(signature = (name = "default", *, issuer = None, passphrase = None, **settings))]
    fn create(
        py: Python<'_>,
        name: &str,
        issuer: Option<&str>,
        passphrase: Option<String>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let env = |name: &str| env::var_os(name);
        let (flags, _) = given(settings)?;
        let one = |(setting, texts): (Setting, Vec<String>)| (setting, texts.concat());
        let own = issuer.map_or_else(|| default_issuer(&env), str::to_owned);
        let passphrase = passphrase.map(Zeroizing::new);
        let new = NewProfile {
            name,
            issuer: &own,
            settings: flags.into_iter().map(one).collect(),
            key_folder: false,
            passphrase: passphrase.as_ref().map(|text| text.as_str()),
        };
        py.detach(|| new.make(&env)).or_raise()?;
        let settings = Settings::load(&env, Some(name), Flags::new()).or_raise()?;
        Ok(Self {
            settings,
            passphrase,
            limits: Limits::default(),
        })
    }

    /// The profile's name in the configuration, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.settings.profile()
    }

    /// All that is set: paths and public keys, no secret.
    #[getter]
    fn settings(&self) -> BTreeMap<String, Vec<String>> {
        let named = |(setting, value): (Setting, &kvcap_store::profile::Value)| {
            (setting.key().replace('-', "_"), value.texts.clone())
        };
        self.settings.values().map(named).collect()
    }

    fn __repr__(&self) -> String {
        let names: Vec<String> = self.settings().into_keys().collect();
        format!(
            "<kvcap.Profile {}: {}>",
            self.name().unwrap_or("none"),
            names.join(", ")
        )
    }
}

impl Profile {
    /// The profile that a call was given, or the user's own.
    pub(crate) fn or_own(py: Python<'_>, given: Option<Py<Self>>) -> PyResult<Py<Self>> {
        match given {
            Some(profile) => Ok(profile),
            None => Py::new(py, Self::load(None, None, None)?),
        }
    }

    /// The same profile for another subject.
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

    pub(crate) fn parties(&self) -> kvcap::Result<Parties> {
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

    /// The passphrase of this profile's keys, for who asks.
    pub(crate) fn passphrase(&self) -> kvcap::Result<Zeroizing<String>> {
        Ok(self.passphrase.clone().unwrap_or_default())
    }

    /// Passphrases that `ask` tells, if this profile has one.
    pub(crate) fn passphrases<'a>(&self, ask: Ask<'a>) -> Passphrases<'a> {
        match &self.passphrase {
            Some(_) => Passphrases::asking(ask),
            None => Passphrases::none(),
        }
    }

    /// What the runtime is told when it runs.
    pub(crate) fn options(&self) -> kvcap::Result<RuntimeOptions> {
        let mut options = RuntimeOptions::parse(self.texts(Setting::RuntimeOpt))?;
        let size = self.text(Setting::ContextSize);
        let size = size.map(|text| {
            text.parse().map_err(|_| {
                kvcap::Error::new(
                    kvcap::Code::LocalUsage,
                    "the size of the context is no number",
                )
                .at(Setting::ContextSize.key())
            })
        });
        options.ctx_size = options.ctx_size.or(size.transpose()?);
        Ok(options)
    }

    /// The model, if one is set; its weights are hashed once and then remembered.
    pub(crate) fn model(
        &self,
        told: &(dyn Fn(u64, u64) + Sync),
    ) -> kvcap::Result<Option<ModelProfile>> {
        // what the user keeps comes after what lies beside the model
        if let Some(kept) = CodecProfiles::of_user(&|name| env::var_os(name)) {
            kept.look_here();
        }
        let Some(path) = self.text(Setting::Model) else {
            return Ok(None);
        };
        let adapters = self.texts(Setting::Adapter).iter();
        let adapters = adapters.map(|text| parse_adapter(text));
        let adapters = adapters.collect::<kvcap::Result<Vec<_>>>()?;
        let (options, cache) = (self.options()?, HashCache::user());
        look_for_profiles_beside(Path::new(path));
        ModelProfile::read(Path::new(path), &adapters, &options, &cache, told).map(Some)
    }

    /// The runtime that is set, and its version.
    pub(crate) fn runtime(&self) -> kvcap::Result<Option<(RuntimeKind, Option<String>)>> {
        let kind = self.text(Setting::Runtime).map(str::parse).transpose()?;
        let version = self.text(Setting::RuntimeVersion).map(str::to_owned);
        Ok(kind.map(|kind| (kind, version)))
    }

    /// What is expected of a capsule, of `model` if there is one.
    pub(crate) fn expected<'m>(
        &self,
        model: Option<&'m ModelProfile>,
    ) -> kvcap::Result<Expected<'m>> {
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

type Flags = BTreeMap<Setting, Vec<String>>;

/// Keyword arguments as settings.
fn given(settings: Option<&Bound<'_, PyDict>>) -> PyResult<(Flags, Limits)> {
    let (mut flags, mut limits) = (Flags::new(), Limits::default());
    let Some(settings) = settings else {
        return Ok((flags, limits));
    };
    for (name, value) in settings {
        let name: String = name.extract()?;
        match name.as_str() {
            _ if value.is_none() => continue,
            "scope" => limits.scope = value.extract()?,
            "max_lifetime" => limits.max_lifetime = value.extract()?,
            "budget" => limits.budget = value.extract()?,
            "at" => limits.at = value.extract()?,
            _ => {
                let (setting, texts) = said(&name, &value)?;
                flags.insert(setting, texts);
            }
        }
    }
    Ok((flags, limits))
}

/// A setting by its name, and its value as flags write it.
fn said(name: &str, value: &Bound<'_, PyAny>) -> PyResult<(Setting, Vec<String>)> {
    let key = name.replace('_', "-");
    let mut all = Setting::ALL.into_iter();
    let setting = all
        .find(|setting| setting.key() == key)
        .ok_or_else(|| PyTypeError::new_err(format!("no such setting: {name}")))?;
    let many = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    if many && !setting.is_list() {
        let what = format!("{name} is one value, not a list");
        return Err(PyValueError::new_err(what));
    }
    let texts = match many {
        true => value.try_iter()?.map(|item| text(&item?)).collect(),
        false => text(value).map(|text| vec![text]),
    };
    Ok((setting, texts?))
}

/// A text, a number or a path as flags write it.
fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_string());
    }
    if let Ok(number) = value.extract::<u64>() {
        return Ok(number.to_string());
    }
    let path: PathBuf = value.extract()?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| PyValueError::new_err("the path is not text in UTF-8"))
}
