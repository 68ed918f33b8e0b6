//! Verdicts for Python.

use std::collections::BTreeSet;

use kvcap::Chain;
use kvcap_store::{Judge, Unchecked};
use pyo3::prelude::*;

/// Judgement of a capsule that was accepted: who vouched for what, and what was not checked.
#[pyclass(frozen, get_all, module = "kvcap")]
#[derive(Clone)]
pub(crate) struct Verdict {
    /// The capsule's id.
    id: String,
    /// Id of the key that signed it.
    key: String,
    /// Who sealed it.
    issuer: String,
    /// Who may restore it.
    audience: String,
    /// The tenant, or None.
    tenant: Option<String>,
    /// Whose state it is, or None.
    subject: Option<String>,
    /// When it expires, with its ancestors, in seconds since 1970.
    expires: u64,
    /// Time that it was judged by.
    judged_at: u64,
    /// Model id, in hexadecimal.
    model_id: String,
    /// Model's name, as the sealer has it.
    model_name: String,
    /// Runtime's name and its version, empty where none is stated.
    runtime: (String, String),
    /// First position held and the one after the last, with the ancestors'.
    positions: (u64, u64),
    /// Ids of the capsule and of the ancestors that were found.
    chain: Vec<String>,
    /// Session's id, version and replay cursor, or None.
    session: Option<(String, u64, u64)>,
    /// Names of the checks that were left out.
    unchecked: Vec<&'static str>,
    /// Those of them that the caller has not accepted by name.
    unaccepted: Vec<&'static str>,
    /// Chunks and bytes of the body that were checked, or None where it was not read.
    body: Option<(u64, u64)>,
}

impl Verdict {
    pub(crate) fn of<S>(
        chain: &Chain<S>,
        unchecked: &BTreeSet<Unchecked>,
        judge: &Judge<'_>,
        body: Option<(u64, u64)>,
    ) -> Self {
        let members: Vec<_> = chain.members().map(|(member, _)| member).collect();
        let manifest = chain.tip().manifest();
        let (claims, context) = (&manifest.claims, &manifest.context);
        let terms = &claims.terms;
        let first = members
            .last()
            .map_or(0, |oldest| oldest.manifest().context.positions.start);
        let names =
            |checks: &BTreeSet<Unchecked>| checks.iter().map(|check| check.name()).collect();
        Self {
            id: claims.id.to_string(),
            key: claims.key.to_string(),
            issuer: terms.issuer.clone(),
            audience: terms.audience.clone(),
            tenant: terms.tenant.clone(),
            subject: terms.subject.clone(),
            expires: chain.expires(),
            judged_at: judge.now(),
            model_id: context.model.id.to_string(),
            model_name: context.model.name.clone(),
            runtime: (
                context.runtime.name.clone(),
                context.runtime.version.clone(),
            ),
            positions: (first, context.positions.end),
            chain: members
                .iter()
                .map(|member| member.manifest().claims.id.to_string())
                .collect(),
            session: terms
                .session
                .as_ref()
                .map(|s| (s.id.clone(), s.version, s.replay_cursor)),
            unchecked: names(unchecked),
            unaccepted: names(&judge.unaccepted(unchecked)),
            body,
        }
    }

    /// The verdict after opening, which checks more.
    pub(crate) fn now_unchecked(self, unchecked: &BTreeSet<Unchecked>, judge: &Judge<'_>) -> Self {
        let names =
            |checks: &BTreeSet<Unchecked>| checks.iter().map(|check| check.name()).collect();
        Self {
            unchecked: names(unchecked),
            unaccepted: names(&judge.unaccepted(unchecked)),
            ..self
        }
    }
}

#[pymethods]
impl Verdict {
    fn __repr__(&self) -> String {
        let left = self.unaccepted.join(", ");
        format!("<kvcap.Verdict {}: accepted, not checked: {left}>", self.id)
    }
}
