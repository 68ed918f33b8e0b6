//! Verdicts as plain values.

use std::collections::BTreeSet;

use kvcap::Chain;
use kvcap_store::{Judge, Unchecked};

/// Judgement of a capsule that was accepted: who vouched for what, and what was not checked.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The capsule's id.
    pub id: String,
    /// Id of the key that signed it.
    pub key: String,
    /// Issuer who sealed it.
    pub issuer: String,
    /// Audience that may restore it.
    pub audience: String,
    /// The tenant.
    pub tenant: Option<String>,
    /// Subject whose state it is.
    pub subject: Option<String>,
    /// Time of expiry, with its ancestors, in seconds since 1970.
    pub expires: u64,
    /// Time that it was judged by.
    pub judged_at: u64,
    /// Model id, in hexadecimal.
    pub model_id: String,
    /// Model's name, as the sealer has it.
    pub model_name: String,
    /// Runtime's name and its version, empty where none is stated.
    pub runtime: (String, String),
    /// First position held and the one after the last, with the ancestors'.
    pub positions: (u64, u64),
    /// Ids of the capsule and of the ancestors that were found.
    pub chain: Vec<String>,
    /// Session's id, version and replay cursor.
    pub session: Option<(String, u64, u64)>,
    /// Names of the checks that were left out.
    pub unchecked: Vec<&'static str>,
    /// Those of them that the caller has not accepted by name.
    pub unaccepted: Vec<&'static str>,
    /// Chunks and bytes of the body that were checked; none where it was not read.
    pub body: Option<(u64, u64)>,
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
        let session = terms.session.as_ref();
        let said = Self {
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
            session: session.map(|s| (s.id.clone(), s.version, s.replay_cursor)),
            unchecked: Vec::new(),
            unaccepted: Vec::new(),
            body,
        };
        said.now_unchecked(unchecked, judge)
    }

    /// Returns the verdict after opening, which checks more.
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
