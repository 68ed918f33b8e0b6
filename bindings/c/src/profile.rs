//! Profiles: whom to trust, whose keys, which model.

use std::{ffi::c_char, sync::Arc};

use kvcap_calls::Profile;

use crate::{
    facts::{Facts, kvcap_facts},
    given::{kvcap_setting, settings, some_text, text},
    status::{Out, ending, kvcap_error, usage},
};

/// Settings that hold for the calls it is given to.
pub struct kvcap_profile(Arc<Profile>);

impl kvcap_profile {
    pub(crate) fn shared(&self) -> Arc<Profile> {
        Arc::clone(&self.0)
    }
}

fn put(out: Out<'_, kvcap_profile>, profile: Profile) -> Result<(), crate::status::Failed> {
    let out = out.ok_or_else(|| usage("there is no place for the profile", "profile"))?;
    out.write(Some(Box::new(kvcap_profile(Arc::new(profile)))));
    Ok(())
}

/// Makes a profile of settings, and nothing that is set elsewhere.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_profile_new(
    given: *const kvcap_setting,
    count: usize,
    passphrase: *const c_char,
    profile: Out<'_, kvcap_profile>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let passphrase = some_text(passphrase, "passphrase")?;
        put(profile, Profile::new(settings(given, count)?, passphrase)?)
    })
}

/// Loads a profile of the user's configuration, its default where `name` is NULL; settings that are given come first.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_profile_load(
    name: *const c_char,
    given: *const kvcap_setting,
    count: usize,
    passphrase: *const c_char,
    profile: Out<'_, kvcap_profile>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let name = some_text(name, "name")?;
        let passphrase = some_text(passphrase, "passphrase")?;
        let given = settings(given, count)?;
        put(profile, Profile::load(name.as_deref(), given, passphrase)?)
    })
}

/// Makes a profile with keys of its own in the user's configuration, as `kvcap init` does, and loads it.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_profile_create(
    name: *const c_char,
    issuer: *const c_char,
    given: *const kvcap_setting,
    count: usize,
    passphrase: *const c_char,
    profile: Out<'_, kvcap_profile>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (name, issuer) = (text(name, "name")?, some_text(issuer, "issuer")?);
        let passphrase = some_text(passphrase, "passphrase")?;
        let given = settings(given, count)?;
        let made = Profile::create(&name, issuer.as_deref(), given, passphrase)?;
        put(profile, made)
    })
}

/// Returns all that is set, by the settings' names: paths and public keys, no secret.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_profile_facts(
    profile: Option<&kvcap_profile>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let profile = profile.ok_or_else(|| usage("there is no profile", "profile"))?;
        let mut made = Facts::default();
        made.text("name", profile.0.name());
        for (name, values) in profile.0.settings() {
            made.texts(&name, values);
        }
        made.put(facts);
        Ok(())
    })
}

/// Frees a profile. Handles that were made with it stay good.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_profile_free(profile: Option<Box<kvcap_profile>>) {
    drop(profile);
}
