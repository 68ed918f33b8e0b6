//! On what terms a capsule is judged.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kvcap::{ExpectedSession, Result};
use kvcap_models::ModelProfile;
use kvcap_store::{Ancestors, Judge, Unchecked, Verifier};

use crate::profile::{Given, Profile};

/// Demands of a caller on a capsule beside the profile.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Names of checks that may be left out.
    pub accept_unchecked: Vec<String>,
    /// Ancestors, or folders to look for them in; the capsule's own folder where there is none.
    pub chain: Vec<PathBuf>,
    /// Session's id, version and replay cursor that the capsule must be of.
    pub session: Option<(String, Option<u64>, Option<u64>)>,
    /// Element types of keys and values.
    pub dtypes: Option<(String, String)>,
}

/// Terms that a capsule is judged on: a profile, and what is asked beside it.
pub struct Terms {
    profile: Arc<Profile>,
    pub(crate) verifier: Verifier,
    accepted: Vec<Unchecked>,
    chain: Vec<PathBuf>,
    session: Option<ExpectedSession>,
    dtypes: Option<(String, String)>,
}

impl Terms {
    /// Takes a profile, the user's own where none is given, and what is asked beside it.
    ///
    /// # Errors
    /// KVC-944 for a name of no check, KVC-945 for the user's configuration.
    pub fn new(profile: Option<Arc<Profile>>, asked: Asked) -> Result<Self> {
        let profile = match profile {
            Some(profile) => profile,
            None => Arc::new(Profile::load(None, Given::default(), None)?),
        };
        let accepted = asked.accept_unchecked.iter().map(|name| name.parse());
        let session = asked.session;
        Ok(Self {
            verifier: profile.verifier(),
            profile,
            accepted: accepted.collect::<Result<_>>()?,
            chain: asked.chain,
            session: session.map(|(id, version, replay_cursor)| ExpectedSession {
                id,
                version,
                replay_cursor,
            }),
            dtypes: asked.dtypes,
        })
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(crate) fn model(&self) -> Result<Option<ModelProfile>> {
        self.profile.model()
    }

    /// Makes a judge, for capsules of `model` if there is one.
    pub(crate) fn judge<'a>(&'a self, model: Option<&'a ModelProfile>) -> Result<Judge<'a>> {
        self.judge_of(model, self.session.clone())
    }

    /// Makes a judge, for capsules of this session too.
    pub(crate) fn judge_of<'a>(
        &'a self,
        model: Option<&'a ModelProfile>,
        session: Option<ExpectedSession>,
    ) -> Result<Judge<'a>> {
        let mut expected = self.profile.expected(model)?;
        expected.session = session;
        expected.dtypes.clone_from(&self.dtypes);
        let judge = self.verifier.judge()?.expecting(expected);
        Ok(judge.danger_without(&self.accepted))
    }

    pub(crate) fn ancestors<'a>(&'a self, tip: &'a Path) -> Ancestors<'a> {
        let given = &self.chain;
        Ancestors { tip, given }
    }
}
