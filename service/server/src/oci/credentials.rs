//! Who asks a registry of containers (oci-v1 §6).

use std::{collections::BTreeMap, fmt, fs::OpenOptions, path::Path};

use kvcap::{Code, Error, Result};
use kvcap_store::private;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::base64;

/// Longest file, in bytes.
const LONGEST: u64 = 1 << 20;

/// What follows `Basic` in a header, if there is something.
pub(super) struct Credentials(Option<Zeroizing<String>>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Those that a file has for a host; none where it does not name it.
    pub(super) fn read(path: &Path, host: &str) -> Result<Self> {
        let failed = |error| Error::source(&error, path.display());
        let file = private::open(path, OpenOptions::new().read(true)).map_err(failed)?;
        private::check(&file, path)?;
        let text = private::text(&file, path, LONGEST, Code::LocalConfig)?;
        // its own words might be a password
        let wrong = |what: &'static str| Error::new(Code::LocalConfig, what).at(path.display());
        let form = "the file has not the form of Docker's config.json";
        let mut file: File = serde_json::from_str(&text).map_err(|_| wrong(form))?;
        let Some(entry) = file.auths.remove(host) else {
            return Ok(Self(None));
        };
        let [auth, password, token] =
            [entry.auth, entry.password, entry.identitytoken].map(|text| text.map(Zeroizing::new));
        if token.is_some_and(|token| !token.is_empty()) {
            return Err(wrong(
                "a token of identity is not known here: log in with a password",
            ));
        }
        let basic = match (auth, entry.username, password) {
            (Some(auth), ..) if !auth.is_empty() => auth,
            (_, Some(name), Some(password)) => {
                let both = Zeroizing::new(format!("{name}:{}", *password));
                Zeroizing::new(base64::encode(both.as_bytes()))
            }
            _ => return Ok(Self(None)),
        };
        let is_text = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
        match basic.bytes().all(is_text) {
            true => Ok(Self(Some(basic))),
            false => Err(wrong(form)),
        }
    }

    /// The header, if there is one.
    pub(super) fn basic(&self) -> Option<Zeroizing<String>> {
        let text = self.0.as_ref()?;
        Some(Zeroizing::new(format!("Basic {}", **text)))
    }
}
