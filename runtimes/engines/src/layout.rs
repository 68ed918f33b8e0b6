//! How a runtime lays out its states, as its first one shows: runtimes check little of what they load.

use std::collections::BTreeSet;

use kvcap::{Code, Error, Result};
use kvcap_models::Geometry;
use kvcap_states::{Hints, RuntimeKind, State, parse};

use crate::state_file::StateFile;

/// Facts that are the content's.
const OF_CONTENT: [&str; 2] = ["media", "outputs"];

/// Layout of a runtime's states.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) kind: RuntimeKind,
    pub(crate) format: &'static str,
    pub(crate) facts: Vec<(String, String)>,
    /// Element types of each role's banks.
    types: BTreeSet<String>,
}

impl Layout {
    pub(crate) fn of(kind: RuntimeKind, state: State) -> Self {
        let types = state.banks.iter().map(|placed| {
            let bank = &placed.bank;
            format!("{:?}={}", bank.role, bank.dtype.name())
        });
        Self {
            kind,
            format: state.format,
            types: types.collect(),
            facts: state.facts,
        }
    }

    /// Refuses a state of another layout.
    pub(crate) fn check(&self, state: &StateFile, geometry: &Geometry) -> Result<()> {
        let state = parse(self.kind, &state.source()?, Hints::Model(geometry))?;
        let found = Self::of(self.kind, state);
        let differs = |what: &'static str| Error::new(Code::BindingLayout, what);
        if found.format != self.format {
            let error = differs("the runtime writes states of another format");
            return Err(error.sides(self.format, found.format));
        }
        let (ours, theirs) = (self.said(), found.said());
        if ours != theirs {
            let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
                let only: Vec<_> = these.difference(those).cloned().collect();
                only.join(" ")
            };
            let error = differs("the runtime writes states of another layout");
            return Err(error.sides(only(&ours, &theirs), only(&theirs, &ours)));
        }
        Ok(())
    }

    fn said(&self) -> BTreeSet<String> {
        let facts = self
            .facts
            .iter()
            .filter(|(name, _)| !OF_CONTENT.contains(&name.as_str()));
        let facts = facts.map(|(name, value)| format!("{name}={value}"));
        facts.chain(self.types.iter().cloned()).collect()
    }
}
