//! Profiles: whom to trust, whose keys, which model.

use std::{collections::HashMap, sync::Arc};

use kvcap_calls::{Given, Profile as Library};
use napi_derive::napi;

use crate::call::{Calling, Outcome, calling, outcome};

/// Settings by name (docs/reference/config.md, with `_` for `-`), each a text or several.
pub type Settings = HashMap<String, Vec<String>>;

#[napi]
#[derive(Clone)]
pub struct Profile(pub(crate) Arc<Library>);

/// Settings as the library takes them.
pub fn given(settings: Settings) -> kvcap::Result<Given> {
    let mut given = Given::default();
    for (name, texts) in settings {
        given.set(&name, texts)?;
    }
    Ok(given)
}

/// A place for a profile that a call makes.
#[napi]
#[derive(Clone, Default)]
pub struct Made(Arc<std::sync::OnceLock<Arc<Library>>>);

#[napi]
impl Made {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    #[napi]
    pub fn profile(&self) -> Option<Profile> {
        self.0.get().cloned().map(Profile)
    }
}

impl Made {
    fn put(&self, profile: Library) {
        self.0.get_or_init(|| Arc::new(profile));
    }
}

#[napi]
impl Profile {
    #[napi(getter)]
    pub fn name(&self) -> Option<String> {
        self.0.name().map(str::to_owned)
    }

    #[napi(getter)]
    pub fn settings(&self) -> HashMap<String, Vec<String>> {
        self.0.settings().into_iter().collect()
    }
}

#[napi]
pub fn profile_new(settings: Settings, passphrase: Option<String>, made: &Made) -> Outcome<bool> {
    let profile = given(settings).and_then(|given| Library::new(given, passphrase));
    outcome(profile.map(|profile| {
        made.put(profile);
        true
    }))
}

#[napi]
pub fn profile_load(
    name: Option<String>,
    settings: Settings,
    passphrase: Option<String>,
    made: &Made,
) -> Outcome<bool> {
    let profile =
        given(settings).and_then(|given| Library::load(name.as_deref(), given, passphrase));
    outcome(profile.map(|profile| {
        made.put(profile);
        true
    }))
}

#[napi(ts_return_type = "Promise<boolean | Refused>")]
pub fn profile_create(
    name: String,
    issuer: Option<String>,
    settings: Settings,
    passphrase: Option<String>,
    made: &Made,
) -> Calling<bool> {
    let made = made.clone();
    calling(move || {
        let profile = Library::create(&name, issuer.as_deref(), given(settings)?, passphrase)?;
        made.put(profile);
        Ok(true)
    })
}
