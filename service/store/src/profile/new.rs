//! A first profile: its keys, and its part of the configuration.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, KeyId, RecipientKind, Result};

use super::{
    ConfigFile, DEFAULT, Environment, Setting, check_text, config_folder, fault, is_name,
    state_folder,
};
use crate::{
    fresh_key::FreshKey,
    lock::{Lock, Wait},
    output::{self, Readers},
    private,
};

/// A profile to be made, with keys of its own.
pub struct NewProfile<'a> {
    /// Its name.
    pub name: &'a str,
    /// The issuer that its signing key speaks for, who is the one that it trusts.
    pub issuer: &'a str,
    /// Other settings; keys, trust and ledger are its own.
    pub settings: BTreeMap<Setting, String>,
    /// True if capsules are sealed for keys of a folder, one for each tenant and day, instead of
    /// for one key.
    pub key_folder: bool,
    /// The passphrase of the keys, if they are to have one.
    pub passphrase: Option<&'a str>,
}

impl fmt::Debug for NewProfile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewProfile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Files that were made.
#[derive(Debug)]
pub struct Made {
    /// The configuration.
    pub file: PathBuf,
    /// The secret signing key.
    pub sign_key: PathBuf,
    /// Its public half, for who verifies.
    pub public: PathBuf,
    /// The signing key's id.
    pub key: KeyId,
    /// The wrapping key, or the folder of them.
    pub wrap_key: PathBuf,
    /// True if it is the profile that is meant where none is named.
    pub meant: bool,
    /// Memory of the verifier, if there is a place for it.
    pub ledger: Option<PathBuf>,
}

impl NewProfile<'_> {
    /// Makes the keys and adds the profile to the configuration, which is made where there is none; the first profile
    /// is the one that is meant where none is named. Nothing is replaced.
    ///
    /// # Errors
    /// KVC-941 where the profile or a file of it exists; 945 for a name that no profile can have, for values that no
    /// setting can, and for the configuration that is there; 942 for an issuer that no capsule can state; 940.
    pub fn make(&self, env: Environment<'_>) -> Result<Made> {
        self.check()?;
        let nowhere =
            || fault("there is no HOME and no XDG_CONFIG_HOME to put the configuration in");
        let folder = config_folder(env).ok_or_else(nowhere)?;
        private::folder(&folder)?;
        let file = folder.join("config.toml");
        let _lock = Lock::of(&file, Wait::default())?;
        let before = ConfigFile::read(&folder)?;
        let known = before.as_ref().map(ConfigFile::parse).transpose()?;
        let meant = known
            .as_ref()
            .is_none_or(|config| config.chosen.as_deref().unwrap_or(DEFAULT) == self.name);
        if known.is_some_and(|config| config.profiles.contains_key(self.name)) {
            let what = "the profile exists already: choose another name";
            return Err(Error::new(Code::LocalExists, what).at(self.name));
        }
        let own = folder.join(self.name);
        private::folder(&own)?;
        let (sign_key, public, key) = self.signing_key(&own)?;
        let wrap_key = self.wrapping_key(&own)?;
        let ledger = state_folder(env);
        if let Some(folder) = &ledger {
            private::folder(folder)?;
        }
        let ledger = ledger.map(|folder| folder.join(format!("{}.ledger", self.name)));
        let mut text = match &before {
            Some(before) => before.text().to_owned(),
            None => format!(
                "# Settings of kvcap; `kvcap profile show` prints what holds.\nprofile = {}\n",
                quoted(self.name)
            ),
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&self.text(ledger.as_deref()));
        output::write(&file, true, Readers::Owner, text.as_bytes())?;
        Ok(Made {
            file,
            sign_key,
            public,
            key,
            wrap_key,
            meant,
            ledger,
        })
    }

    fn check(&self) -> Result<()> {
        if !is_name(self.name) {
            let what = "a profile's name has small letters, digits, - and _, and is not none";
            return Err(fault(what).at(self.name));
        }
        if self.key_folder && self.passphrase.is_some() {
            let what = "keys of a folder are made without asking, and cannot be under a passphrase";
            return Err(Error::new(Code::LocalUsage, what));
        }
        for (setting, text) in &self.settings {
            check_text(*setting, text).map_err(|what| fault(what).at(setting.key()))?;
        }
        Ok(())
    }

    fn signing_key(&self, folder: &Path) -> Result<(PathBuf, PathBuf, KeyId)> {
        let fresh = FreshKey::signing(Some(self.issuer))?;
        let path = folder.join("sign.key");
        // it decides what is trusted, whatever the umask
        let public = fresh.write(&path, false, Readers::Owner, self.passphrase)?;
        let public = public.unwrap_or_else(|| path.clone());
        Ok((path, public, fresh.id))
    }

    fn wrapping_key(&self, folder: &Path) -> Result<PathBuf> {
        if self.key_folder {
            let keys = folder.join("keys");
            private::folder(&keys)?;
            return Ok(keys);
        }
        let fresh = FreshKey::wrapping(RecipientKind::Symmetric)?;
        let path = folder.join("wrap.key");
        fresh.write(&path, false, Readers::Owner, self.passphrase)?;
        Ok(path)
    }

    /// The profile as it stands in the file; its own files by paths from there.
    fn text(&self, ledger: Option<&Path>) -> String {
        let name = self.name;
        let wrap = if self.key_folder { "keys" } else { "wrap.key" };
        let mut text = format!("\n[profiles.{name}]\n");
        let mut line = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
        line("issuer", quoted(self.issuer));
        for (setting, value) in &self.settings {
            let value = match value.parse::<u64>() {
                Ok(count) if *setting == Setting::ContextSize => count.to_string(),
                _ => quoted(value),
            };
            line(setting.key(), value);
        }
        line("sign-key", quoted(&format!("{name}/sign.key")));
        line("wrap-key", quoted(&format!("{name}/{wrap}")));
        let trusted = quoted(&format!("{name}/sign.key.pub"));
        let issuer = quoted(self.issuer);
        line(
            "trust",
            format!("[{{ issuer = {issuer}, key = {trusted} }}]"),
        );
        if let Some(ledger) = ledger.and_then(Path::to_str) {
            line("ledger", quoted(ledger));
        }
        text
    }
}

/// Returns a name to sign under where nobody has chosen one: the user's, at the machine's.
#[must_use]
pub fn default_issuer(env: Environment<'_>) -> String {
    let named = |name| {
        env(name)?
            .into_string()
            .ok()
            .filter(|name| !name.is_empty())
    };
    let user = named("USER").or_else(|| named("LOGNAME"));
    let user = user.unwrap_or_else(|| "kvcap".to_owned());
    #[cfg(unix)]
    let host = rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .map(str::to_owned);
    #[cfg(not(unix))]
    let host = named("COMPUTERNAME");
    match host.filter(|host| !host.is_empty()) {
        Some(host) => format!("{user}@{host}"),
        None => user,
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["a", "a\"b\\c", "line\nline\u{7f}", "é\u{1F600}"] {
            let line = format!("x = {}", quoted(text));
            let table = toml::de::DeTable::parse(&line).unwrap();
            assert_eq!(table.get_ref()["x"].get_ref().as_str(), Some(text));
        }
    }
}
