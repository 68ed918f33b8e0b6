//! Fresh keys into their files.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use kvcap::{KeyId, RecipientKind, Result, RootKey, SigningKey, WrappingKey};
use zeroize::Zeroizing;

use crate::{
    output::{self, Readers},
    passphrase,
};

/// A fresh secret key for its file, and its public half.
#[non_exhaustive]
pub struct FreshKey {
    /// Name of its use: `signing`, `wrapping`, `root`.
    pub name: &'static str,
    /// Its id.
    pub id: KeyId,
    /// The public half's line, if it has one.
    pub public: Option<String>,
    /// Issuer that a signing key speaks for.
    pub issuer: Option<String>,
    /// Its line.
    secret: Zeroizing<String>,
    /// The line of both files that names the issuer; a key that speaks for itself alone needs none.
    issuer_line: Option<String>,
}

impl fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, id) = (&self.name, &self.id);
        f.debug_struct("FreshKey")
            .field("name", name)
            .field("id", id)
            .finish_non_exhaustive()
    }
}

impl FreshKey {
    /// Makes a signing key that speaks for `issuer`, or for itself alone.
    ///
    /// # Errors
    /// KVC-940 where there is no randomness; as [`SigningKey::speaking_for`].
    pub fn signing(issuer: Option<&str>) -> Result<Self> {
        let mut key = SigningKey::generate()?;
        if let Some(issuer) = issuer {
            key = key.speaking_for(issuer)?;
        }
        Ok(Self {
            name: "signing",
            id: key.public().id(),
            public: Some(key.public().to_text()),
            issuer: Some(key.issuer()),
            // made here, so that it has one
            secret: key.to_secret_text().unwrap_or_default(),
            issuer_line: key.issuer_line(),
        })
    }

    /// Makes a root key, which signs key registries.
    ///
    /// # Errors
    /// KVC-940 where there is no randomness.
    pub fn root() -> Result<Self> {
        let key = RootKey::generate()?;
        Ok(Self {
            name: "root",
            id: key.public().id(),
            public: Some(key.public().to_text()),
            issuer: None,
            // made here, so that it has one
            secret: key.to_secret_text().unwrap_or_default(),
            issuer_line: None,
        })
    }

    /// Makes a wrapping key.
    ///
    /// # Errors
    /// KVC-940 where there is no randomness.
    pub fn wrapping(kind: RecipientKind) -> Result<Self> {
        let key = WrappingKey::generate_of(kind)?;
        Ok(Self {
            name: "wrapping",
            id: key.id(),
            public: key.public().map(|public| public.to_text()),
            issuer: None,
            // made here, so that it has one
            secret: key.to_secret_text().unwrap_or_default(),
            issuer_line: None,
        })
    }

    /// Writes the secret key to `path`, under the passphrase if one is given, and the public half to `path.pub`,
    /// which is given back, for these readers. A secret key is never replaced, a public one with `force` alone.
    ///
    /// # Errors
    /// KVC-941 where a file exists; 940; 946 for an empty passphrase.
    pub fn write(
        &self,
        path: &Path,
        force: bool,
        readers: Readers,
        passphrase: Option<&str>,
    ) -> Result<Option<PathBuf>> {
        let public = self.public.as_ref().map(|line| (with_pub(path), line));
        output::check_absent(path, force)?;
        if let Some((path, _)) = &public {
            output::check_absent(path, force)?;
        }
        let Self { name, id, .. } = self;
        let issuer = self.issuer_line.iter().map(|line| format!("{line}\n"));
        let issuer = issuer.collect::<String>();
        let locked = passphrase.map(|passphrase| passphrase::lock(&self.secret, passphrase));
        let locked = locked.transpose()?;
        let (line, how) = match &locked {
            Some(line) => (line, ", under a passphrase"),
            None => (&self.secret, ""),
        };
        let text = Zeroizing::new(format!(
            "# kvcap secret {name} key {id}{how}: share it with nobody\n{issuer}{}\n",
            **line
        ));
        output::write(path, force, Readers::Owner, text.as_bytes())?;
        let Some((public, line)) = public else {
            return Ok(None);
        };
        let text = format!("# kvcap public {name} key {id}\n{issuer}{line}\n");
        output::write(&public, force, readers, text.as_bytes())?;
        Ok(Some(public))
    }
}

fn with_pub(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
