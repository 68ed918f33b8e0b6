//! What a profile says of a capsule in the making: who signs it, for whom, and until when.

use std::path::PathBuf;

use kvcap::{Code, Error, Result};

use super::{Setting, Settings};
use crate::{Parties, Passphrases, SealingKeys, time};

impl Settings {
    /// Returns the keys to seal with.
    ///
    /// # Errors
    /// KVC-944 where nobody could sign, or open what is sealed.
    pub fn sealing_keys(&self) -> Result<SealingKeys> {
        let keys = SealingKeys {
            sign_key: self
                .one(Setting::SignKey)
                .ok_or_else(|| unset(Setting::SignKey))?
                .into(),
            wrap_keys: self.paths(&[Setting::WrapKey]),
            recipients: self.texts(Setting::Recipient).to_vec(),
            issuer: self.one(Setting::Issuer).map(str::to_owned),
        };
        match keys.wrap_keys.is_empty() && keys.recipients.is_empty() {
            true => Err(unset(Setting::WrapKey)),
            false => Ok(keys),
        }
    }

    /// Returns how long a capsule is valid, in seconds, if that is set.
    ///
    /// # Errors
    /// KVC-944 where it is no length of time.
    pub fn ttl(&self) -> Result<Option<u64>> {
        let malformed = || {
            let what = "the time of validity is no length of time";
            Error::new(Code::LocalUsage, what).at(Setting::Ttl.key())
        };
        let ttl = self.one(Setting::Ttl);
        ttl.map(|ttl| time::parse_duration(ttl).ok_or_else(malformed))
            .transpose()
    }

    /// Reads the keys to seal with, and makes the terms as of `now`.
    ///
    /// # Errors
    /// KVC-944 where a key or the time of validity is not set; 312 for another issuer than the key's; 94x for keys.
    pub fn parties(&self, passphrases: &Passphrases<'_>, now: u64) -> Result<Parties> {
        let keys = self.sealing_keys()?;
        let ttl = self.ttl()?.ok_or_else(|| unset(Setting::Ttl))?;
        let sealer = keys.read(passphrases)?;
        let audience = self.one(Setting::Audience).unwrap_or("local");
        let mut terms = sealer.terms(audience, now, now.saturating_add(ttl));
        terms.tenant = self.one(Setting::Tenant).map(str::to_owned);
        terms.subject = self.one(Setting::Subject).map(str::to_owned);
        sealer.parties(terms, passphrases)
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
