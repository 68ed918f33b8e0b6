//! A tier in memory: the edge in tests, and what a tier does at its plainest.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kvcap::{Error, ReadAt, Result};

use super::tier::{Artefact, Put, Tier, Write, gap, place, stays, taken};
use crate::Names;

type Sessions = BTreeMap<Names, BTreeMap<Artefact, Vec<u8>>>;

/// Sessions in memory. Of events it may hold the newest alone, as an edge does.
#[derive(Debug, Default)]
pub struct MemoryTier(Mutex<Sessions>);

impl MemoryTier {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tier for MemoryTier {
    fn sessions(&self) -> Result<Vec<Names>> {
        Ok(self.sessions().keys().cloned().collect())
    }

    fn list(&self, session: &Names) -> Result<Vec<Artefact>> {
        let sessions = self.sessions();
        let artefacts = sessions.get(session).into_iter().flatten();
        Ok(artefacts.map(|(artefact, _)| *artefact).collect())
    }

    fn get(&self, session: &Names, artefact: Artefact) -> Result<Option<Box<dyn ReadAt + Send>>> {
        let sessions = self.sessions();
        let bytes = sessions.get(session).and_then(|held| held.get(&artefact));
        Ok(bytes.map(|bytes| -> Box<dyn ReadAt + Send> { Box::new(bytes.clone()) }))
    }

    fn write<'t>(&'t self, session: &Names) -> Result<Box<dyn Write + 't>> {
        let session = session.clone();
        let sessions = self.sessions();
        Ok(Box::new(Writer { session, sessions }))
    }
}

struct Writer<'t> {
    session: Names,
    sessions: MutexGuard<'t, Sessions>,
}

impl Write for Writer<'_> {
    fn put(&mut self, artefact: Artefact, bytes: &dyn ReadAt) -> Result<Put> {
        let held = self.sessions.entry(self.session.clone()).or_default();
        let len = usize::try_from(bytes.len()).unwrap_or(usize::MAX);
        let mut content = vec![0; len];
        bytes
            .read_exact_at(0, &mut content)
            .map_err(|error| Error::source(&error, place(&self.session)))?;
        match held.get(&artefact) {
            Some(there) if *there == content => return Ok(Put::Same),
            Some(_) if artefact != Artefact::Session => return Err(taken(artefact)),
            _ => {}
        }
        if let Artefact::Event(seq) = artefact {
            let events = held.range(Artefact::Event(0)..=Artefact::Event(u64::MAX));
            if let Some((Artefact::Event(last), _)) = events.last()
                && *last + 1 != seq
            {
                return Err(gap(*last + 1, seq));
            }
        }
        held.insert(artefact, content);
        Ok(Put::New)
    }

    fn remove(&mut self, artefact: Artefact) -> Result<()> {
        if matches!(artefact, Artefact::Event(_)) {
            return Err(stays(artefact));
        }
        if let Some(held) = self.sessions.get_mut(&self.session) {
            held.remove(&artefact);
        }
        Ok(())
    }

    fn forget(&mut self) -> Result<()> {
        self.sessions.remove(&self.session);
        Ok(())
    }
}
