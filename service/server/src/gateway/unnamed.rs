//! Requests that name no session: the one that they go on from, or a new one (http-v1 HTTP-E-9).

use std::{fs, sync::Arc};

use kvcap::{Code, Error, Result};
use kvcap_engines::Slot;
use kvcap_session::{Names, Session};
use kvcap_store::time;

use super::{
    Gateway,
    finding::{self, AUTO, Finding, Found},
    slots::Held,
};
use crate::{refusal::Answer, tokens::Token};

impl Gateway {
    /// The session for a request without a name.
    pub(super) async fn unnamed(
        self: &Arc<Self>,
        finding: &Arc<Finding>,
        caller: &Token,
        tokens: &Arc<Vec<u32>>,
    ) -> Answer<Names> {
        let owner = finding::owner(caller.tenant.as_deref(), caller.subject.as_deref());
        let (looking, asked) = (Arc::clone(finding), Arc::clone(tokens));
        let found = self.aside(move || looking.find(owner, &asked)).await?;
        let from = match found {
            Found::GoesOn(session) if session.starts_with(AUTO) => {
                return self.names_of(caller, &session);
            }
            // a session with a name is its user's to go on with
            Found::GoesOn(session) | Found::Leaves(session) => Some(session),
            Found::Nothing => None,
        };
        let new = self.names_of(caller, &new_name()?)?;
        if let Some(session) = from {
            let from = self.names_of(caller, &session)?;
            self.save_if_held(&from).await?;
            let (branching, id) = (Arc::clone(self), new.session.clone());
            let forgetting = Arc::clone(finding);
            // one that is gone, or has no state, is begun anew
            let _branched = self
                .aside(move || {
                    let branched = branching.branch(&from, &id);
                    if matches!(&branched, Err(error) if error.code() == Code::SessionMissing) {
                        forgetting.forget(owner, &from.session)?;
                    }
                    branched
                })
                .await;
        }
        Ok(new)
    }

    fn branch(&self, from: &Names, id: &str) -> Result<()> {
        let session = Session::load(&self.sessions, from)?;
        let newest = session.newest()?.filter(|record| record.capsule.is_some());
        let what = "the session has no state";
        let newest = newest.ok_or_else(|| Error::new(Code::SessionNoState, what))?;
        session.branch(id, newest.version, time::now()).map(drop)
    }

    /// Saves what a slot holds of a session that is to be copied.
    async fn save_if_held(self: &Arc<Self>, names: &Names) -> Answer<()> {
        let Some(mut lease) = self.slots.lease_held(names).await else {
            return Ok(());
        };
        let generation = self.generation().await?;
        let slot = Slot {
            index: lease.index,
            generation,
        };
        if let Some(held) = lease.held.as_mut()
            && held.generation == generation
            && held.unsaved > 0
        {
            self.save(slot, held, false).await?;
        }
        Ok(())
    }

    /// Notes what a session holds, or will when its answer is done, so that it is found.
    pub(super) async fn note(self: &Arc<Self>, names: &Names, tokens: &Arc<Vec<u32>>) {
        let Some(finding) = self.finding.clone() else {
            return;
        };
        let (names, tokens) = (names.clone(), Arc::clone(tokens));
        let noting = move || {
            let owner = finding::owner(names.tenant.as_deref(), names.subject.as_deref());
            finding.note(owner, &names.session, &tokens)
        };
        // what is not noted is not found, and lost to nobody who names it
        let _noted = self.aside(noting).await;
    }

    /// Notes what a slot holds of a session, and removes what is over the budget.
    pub(super) async fn settle(self: &Arc<Self>, held: &Held) {
        let Some(finding) = self.finding.clone() else {
            return;
        };
        self.note(&held.names, &Arc::new(held.tokens.clone())).await;
        let (gateway, names) = (Arc::clone(self), held.names.clone());
        let _kept = self
            .aside(move || gateway.keep_to_budget(&finding, &names))
            .await;
    }

    /// Removes the sessions without a name that an owner has used longest ago, where they are over the budget.
    fn keep_to_budget(&self, finding: &Finding, names: &Names) -> Result<()> {
        let owner = finding::owner(names.tenant.as_deref(), names.subject.as_deref());
        let mut left = self.setup.budget;
        // the newest first
        for (own, _) in self.sessions.changed()? {
            let is_auto = own.tenant == names.tenant
                && own.subject == names.subject
                && own.session.starts_with(AUTO);
            if !is_auto {
                continue;
            }
            let files = self.sessions.files(&own)?;
            let bytes = files.iter().map(|file| file.1).sum();
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None if own == *names => left = 0,
                None => {
                    finding.forget(owner, &own.session)?;
                    let _alone = self.sessions.writer(&own)?;
                    let folder = self.sessions.folder(&own)?;
                    fs::remove_dir_all(&folder)
                        .map_err(|error| Error::io(&error, folder.display()))?;
                }
            }
        }
        Ok(())
    }
}

/// A name for a session that nobody has named.
fn new_name() -> Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(Code::LocalIo, "the system's random generator gives nothing"))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{AUTO}{hex}"))
}
