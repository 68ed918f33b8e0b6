//! The gateway's own keys, and what its capsules say.

use std::path::PathBuf;

use kvcap::{
    Code, Error, Expected, ExpectedSession, Recipient, RecipientPublicKey, Result, SigningKey,
    Terms, TrustedKey, WrappingKey,
};
use kvcap_session::Names;
use kvcap_states::Encoding;
use kvcap_store::{Judge, Passphrases, Verifier, WrapKeys, key_file};

use crate::setup;

/// Keys that states are sealed with, and opened.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) signer: SigningKey,
    /// Files and folders of wrapping keys: read for each use, so that a key that is destroyed opens nothing more.
    pub(super) wrap_keys: Vec<PathBuf>,
    recipients: Vec<RecipientPublicKey>,
    issuer: String,
    audience: String,
    ttl: u64,
    pub(super) encoding: Encoding,
}

/// Who can open a capsule that is sealed now.
pub(super) struct Parties {
    pub(super) terms: Terms,
    wrapping: Vec<WrappingKey>,
}

impl Keys {
    /// Reads the keys, of which the signing one has to be trusted: what it signs is to come back.
    ///
    /// # Errors
    /// KVC-94x for the files, 312 for an issuer that is not the key's or the one that it is trusted for, 945 for a key that nobody trusts.
    pub(super) fn read(setup: &setup::Keys, verifier: &Verifier) -> Result<Self> {
        let passphrases = Passphrases::none();
        let signer = key_file::signing(&setup.sign_key, &passphrases)?;
        let issuer = setup.issuer.clone().unwrap_or_else(|| signer.issuer());
        key_file::check_issuer(&signer, &issuer)?;
        let own = TrustedKey::from(&signer).key.id();
        let refused = |what: &'static str| Err(Error::new(Code::LocalConfig, what).at("keys"));
        match verifier.judge()?.trust().issuer_of(own) {
            None => {
                return refused("sign-key is not trusted here: its capsules would not come back");
            }
            Some(trusted) if trusted != issuer => {
                let what =
                    "sign-key is trusted for another issuer: its capsules would not come back";
                let error = Error::new(Code::KeyIssuer, what).at("keys");
                return Err(error.sides(format_args!("{trusted:?}"), format_args!("{issuer:?}")));
            }
            Some(_) => {}
        }
        if !verifier.audiences.contains(&setup.audience) {
            return refused("audience is none of audiences: its capsules would not come back");
        }
        WrapKeys::read(&setup.wrap_keys, &passphrases)?;
        Ok(Self {
            signer,
            wrap_keys: setup.wrap_keys.clone(),
            recipients: key_file::recipients(&setup.recipients)?,
            issuer,
            audience: setup.audience.clone(),
            ttl: setup.ttl,
            encoding: Encoding {
                preset: setup.encoding,
                ..Encoding::EXACT
            },
        })
    }

    /// The terms of a session's capsule, and the keys of its tenant.
    ///
    /// # Errors
    /// KVC-94x.
    pub(super) fn parties(&self, names: &Names, scope: &str, now: u64) -> Result<Parties> {
        let expires = now.saturating_add(self.ttl);
        let mut terms = Terms::new(&self.issuer, &self.audience, now, expires);
        terms.tenant.clone_from(&names.tenant);
        terms.subject.clone_from(&names.subject);
        scope.clone_into(&mut terms.scope);
        let wrapping = WrapKeys::read(&self.wrap_keys, &Passphrases::none())?;
        let wrapping = wrapping.sealing(names.tenant.as_deref(), now)?;
        Ok(Parties { terms, wrapping })
    }

    /// Who can open what is sealed for these.
    pub(super) fn recipients<'k>(&'k self, parties: &'k Parties) -> Vec<Recipient<'k>> {
        key_file::all(&parties.wrapping, &self.recipients)
    }
}

/// What a gateway expects of every state that it restores: its model, its engine's version and state format, and the
/// session.
pub(super) struct Expecting<'a> {
    pub(super) verifier: &'a Verifier,
    pub(super) about: &'a kvcap_engines::About,
}

impl<'a> Expecting<'a> {
    /// A judge of capsules of a session, or of base images.
    ///
    /// # Errors
    /// KVC-3xx, 412, 94x.
    pub(super) fn judge(&self, session: Option<ExpectedSession>) -> Result<Judge<'a>> {
        let mut expected: Expected<'a> = self.about.profile.expected();
        let version = Some(self.about.version.clone()).filter(|version| !version.is_empty());
        expected.runtime = Some((self.about.kind.runtime().to_owned(), version));
        expected.layout = Some((self.about.format.to_owned(), self.about.facts.clone()));
        expected.session = session;
        Ok(self.verifier.judge()?.expecting(expected))
    }
}
