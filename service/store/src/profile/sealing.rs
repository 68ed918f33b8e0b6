//! What a profile says of a capsule in the making: who signs it, for whom, and until when.

use std::path::{Path, PathBuf};

use kvcap::{Code, Error, Recipient, RecipientPublicKey, Result, SigningKey, Terms, WrappingKey};

use super::{Setting, Settings};
use crate::{Passphrases, WrapKeys, key_file, time};

/// Keys and terms that a capsule is sealed with.
#[non_exhaustive]
pub struct Parties {
    /// Statements of who seals, for whom and until when.
    pub terms: Terms,
    /// The key that signs.
    pub signer: SigningKey,
    wrapping: Vec<WrappingKey>,
    public: Vec<RecipientPublicKey>,
}

impl Parties {
    /// Returns who may open it.
    #[must_use]
    pub fn recipients(&self) -> Vec<Recipient<'_>> {
        key_file::all(&self.wrapping, &self.public)
    }
}

impl Settings {
    /// Reads the keys to seal with, and makes the terms as of `now`.
    ///
    /// # Errors
    /// KVC-944 where a key or the time of validity is not set; 312 for another issuer than the key's; 94x for keys.
    pub fn parties(&self, passphrases: &Passphrases<'_>, now: u64) -> Result<Parties> {
        let sign_key = self
            .one(Setting::SignKey)
            .ok_or_else(|| unset(Setting::SignKey))?;
        let ttl = self.one(Setting::Ttl).ok_or_else(|| unset(Setting::Ttl))?;
        let (wrap_keys, recipients) = (
            self.paths(&[Setting::WrapKey]),
            self.texts(Setting::Recipient),
        );
        if wrap_keys.is_empty() && recipients.is_empty() {
            return Err(unset(Setting::WrapKey));
        }
        let ttl = time::parse_duration(ttl).ok_or_else(|| {
            Error::new(
                Code::LocalUsage,
                "the time of validity is no length of time",
            )
            .at(Setting::Ttl.key())
        })?;
        let signer = key_file::signing(Path::new(sign_key), passphrases)?;
        let issuer = match self.one(Setting::Issuer) {
            Some(issuer) => issuer.to_owned(),
            None => signer.issuer(),
        };
        key_file::check_issuer(&signer, &issuer)?;
        let audience = self.one(Setting::Audience).unwrap_or("local");
        let mut terms = Terms::new(&issuer, audience, now, now.saturating_add(ttl));
        terms.tenant = self.one(Setting::Tenant).map(str::to_owned);
        terms.subject = self.one(Setting::Subject).map(str::to_owned);
        let wrapping = WrapKeys::read(&wrap_keys, passphrases)?;
        Ok(Parties {
            wrapping: wrapping.sealing(terms.tenant.as_deref(), now)?,
            public: key_file::recipients(recipients)?,
            terms,
            signer,
        })
    }

    /// Returns the paths of the wrapping keys and key folders to open with.
    #[must_use]
    pub fn keys_to_open(&self) -> Vec<PathBuf> {
        self.paths(&[Setting::WrapKey, Setting::OpenKey])
    }

    fn one(&self, setting: Setting) -> Option<&str> {
        self.texts(setting).first().map(String::as_str)
    }

    fn paths(&self, settings: &[Setting]) -> Vec<PathBuf> {
        let texts = settings.iter().flat_map(|setting| self.texts(*setting));
        texts.map(PathBuf::from).collect()
    }
}

fn unset(setting: Setting) -> Error {
    Error::new(
        Code::LocalUsage,
        "sealing needs a setting that nobody has made",
    )
    .at(setting.key())
}
