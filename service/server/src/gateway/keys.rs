//! The gateway's own keys, and what its capsules say.

use std::path::PathBuf;

use kvcap::{Code, Error, Expected, ExpectedSession, Result, Terms, TrustedKey, WrappingKey};
use kvcap_session::Names;
use kvcap_states::Encoding;
use kvcap_store::{Judge, Passphrases, Sealer, Verifier, WrapKeys};

use crate::setup;

/// Keys that states are sealed with, and opened.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) sealer: Sealer,
    /// Files and folders of wrapping keys: read for each use, so that a key that is destroyed opens nothing more.
    pub(super) to_open: Vec<PathBuf>,
    audience: String,
    ttl: u64,
    pub(super) encoding: Encoding,
}

/// Who can open a capsule that is sealed now.
pub(super) struct Parties {
    pub(super) terms: Terms,
    pub(super) wrapping: Vec<WrappingKey>,
}

impl Keys {
    /// Reads the keys, of which the signing one has to be trusted: what it signs is to come back.
    ///
    /// # Errors
    /// KVC-94x for the files, 312 for an issuer that is not the key's or the one that it is trusted for, 945 for a key that nobody trusts.
    pub(super) fn read(setup: &setup::Keys, verifier: &Verifier) -> Result<Self> {
        let passphrases = Passphrases::none();
        let sealer = setup.sealing.read(&passphrases)?;
        let own = TrustedKey::from(&sealer.signer).key.id();
        let refused = |what: &'static str| Err(Error::new(Code::LocalConfig, what).at("keys"));
        match verifier.judge()?.trust().issuer_of(own) {
            None => {
                return refused("sign-key is not trusted here: its capsules would not come back");
            }
            Some(trusted) if trusted != sealer.issuer() => {
                let what =
                    "sign-key is trusted for another issuer: its capsules would not come back";
                let error = Error::new(Code::KeyIssuer, what).at("keys");
                let sides = format_args!("{trusted:?}");
                return Err(error.sides(sides, format_args!("{:?}", sealer.issuer())));
            }
            Some(_) => {}
        }
        if !verifier.audiences.contains(&setup.audience) {
            return refused("audience is none of audiences: its capsules would not come back");
        }
        let mut to_open = setup.sealing.wrap_keys.clone();
        let more = setup.open_keys.iter();
        to_open.extend(
            more.filter(|key| !setup.sealing.wrap_keys.contains(key))
                .cloned(),
        );
        WrapKeys::read(&to_open, &passphrases)?;
        Ok(Self {
            sealer,
            to_open,
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
        let mut terms = self.sealer.terms(&self.audience, now, expires);
        terms.tenant.clone_from(&names.tenant);
        terms.subject.clone_from(&names.subject);
        scope.clone_into(&mut terms.scope);
        let tenant = names.tenant.as_deref();
        let wrapping = self.sealer.wrapping(tenant, now, &Passphrases::none())?;
        Ok(Parties { terms, wrapping })
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
