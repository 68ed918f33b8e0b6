//! What a verifier expects, and the checks of claims and binding (capsule-v1 §11.2, steps 7–10).

use std::ops::Range;

use crate::{
    bank::Role,
    binding::{Digest, Model, Rope, Tokenizer},
    envelope::Terms,
    error::{Code, Error, Result},
    keys::CapsuleId,
    limits::{Limits, MAX_LIFETIME},
    manifest::{Context, Manifest, Suite},
    prefix::{self, PrefixValue},
    trust::{Purpose, Trust, TrustedKey},
    wrapping::PrefixKey,
};

/// The scope that restoring needs.
pub const RESTORE: &str = "kv:restore";
/// Largest difference of clocks that `nbf` and `iat` are granted, in seconds.
pub const MAX_SKEW: u64 = 60;

/// Everything that verification depends on besides the capsule.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    /// The keys that may have signed it.
    pub trust: &'a Trust,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// The verifier's own names; the capsule's audience must be one of them.
    pub audiences: Vec<String>,
    /// What the state must be of.
    pub expected: Expected<'a>,
    /// The caller on whose behalf it is verified. A capsule with a subject is refused to others.
    pub subject: Option<String>,
    /// The tenant. A capsule with one is refused to others.
    pub organisation: Option<String>,
    /// The word that must stand in its scope.
    pub scope: String,
    /// Longest accepted lifetime, in seconds.
    pub max_lifetime: u64,
    /// Granted difference of clocks, in seconds; more than [`MAX_SKEW`] counts as that.
    pub skew: u64,
    /// Accepted suites.
    pub suites: Vec<Suite>,
    /// Accepted sizes.
    pub limits: Limits,
}

impl<'a> Policy<'a> {
    /// A policy of the defaults: scope `kv:restore`, 30 days, 60 seconds, both suites, no subject,
    /// no tenant.
    #[must_use]
    pub fn new(trust: &'a Trust, now: u64, audience: &str, expected: Expected<'a>) -> Self {
        Self {
            trust,
            now,
            audiences: vec![audience.to_owned()],
            expected,
            subject: None,
            organisation: None,
            scope: RESTORE.to_owned(),
            max_lifetime: MAX_LIFETIME,
            skew: MAX_SKEW,
            suites: vec![Suite::ChaCha20Poly1305, Suite::Aes256Gcm],
            limits: Limits::default(),
        }
    }

    /// The same for an ancestor of a capsule: what is expected of positions, prompt, banks and capsule
    /// id is said of the tip alone.
    pub(crate) fn of_ancestor(&self) -> Self {
        Self {
            expected: Expected {
                positions: None,
                prefix: None,
                banks: Vec::new(),
                capsule: None,
                ..self.expected.clone()
            },
            ..self.clone()
        }
    }

    /// A policy that judges signature, key and times, and takes from `terms` for whom and what for the
    /// capsule is: for its issuer, and for display. Whoever restores states his own names.
    #[must_use]
    pub fn danger_as_stated(trust: &'a Trust, now: u64, terms: &Terms) -> Self {
        let scope = terms.scope.split(' ').next().unwrap_or_default();
        Self {
            subject: terms.subject.clone(),
            organisation: terms.organisation.clone(),
            scope: scope.to_owned(),
            ..Self::new(trust, now, &terms.audience, Expected::danger_any_model())
        }
    }
}

/// What a capsule must be of. Only what is stated is compared.
#[derive(Clone, Debug, Default)]
pub struct Expected<'a> {
    model: Option<(&'a Model, &'a Tokenizer, &'a [Rope])>,
    /// Runtime by name, and by version where the capsule states one (KVC-608).
    pub runtime: Option<(String, Option<String>)>,
    /// State format, and layout facts that must be among the capsule's (KVC-604).
    pub layout: Option<(String, Vec<(String, String)>)>,
    /// Element types of keys and values, by name (KVC-604).
    pub dtypes: Option<(String, String)>,
    /// Positions that the capsule must hold (KVC-606).
    pub positions: Option<Range<u64>>,
    /// The prompt, and the tenant's key that tells whether the capsule is of it (KVC-605).
    pub prefix: Option<(PrefixValue, &'a PrefixKey)>,
    /// Banks that the model needs (KVC-607).
    pub banks: Vec<(Role, u32)>,
    /// Layers of which the model needs some bank (KVC-607).
    pub layers: Vec<u32>,
    /// The capsule that is meant (KVC-507).
    pub capsule: Option<CapsuleId>,
}

impl<'a> Expected<'a> {
    /// The state of this model, read with this tokenizer and these rotary embeddings.
    #[must_use]
    pub fn of(model: &'a Model, tokenizer: &'a Tokenizer, rope: &'a [Rope]) -> Self {
        Self {
            model: Some((model, tokenizer, rope)),
            ..Self::default()
        }
    }

    /// The state of any model: for a relay that stores capsules and never restores them. Restoring a
    /// state into a model that was not compared corrupts it silently.
    #[must_use]
    pub fn danger_any_model() -> Self {
        Self::default()
    }

    /// Returns whether a model is stated.
    #[must_use]
    pub fn names_model(&self) -> bool {
        self.model.is_some()
    }
}

/// K-3, K-4.
pub(crate) fn check_key(policy: &Policy<'_>, key: &TrustedKey, manifest: &Manifest) -> Result<()> {
    let terms = &manifest.claims.terms;
    if terms.issued_at < key.not_before
        || (terms.issued_at >= key.sign_until && key.sign_until != TrustedKey::NO_END)
        || (policy.now >= key.verify_until && key.verify_until != TrustedKey::NO_END)
    {
        return Err(
            Error::new(Code::KeyWindow, "the capsule lies outside the key's window").sides(
                format_args!("signed {} to {}", key.not_before, key.sign_until),
                format_args!("iat {}", terms.issued_at),
            ),
        );
    }
    let suite = manifest.context.suite;
    if key.purpose != Purpose::Capsules || !key.suites.contains(&suite.number()) {
        return Err(Error::new(
            Code::KeyPurpose,
            "the key is not meant for capsules of this suite",
        ));
    }
    if !policy.suites.contains(&suite) {
        return Err(
            Error::new(Code::ManifestSuite, "the suite is not allowed here").at(suite.name()),
        );
    }
    match &key.issuer {
        Some(issuer) if *issuer != terms.issuer => Err(Error::new(
            Code::KeyIssuer,
            "the key belongs to another issuer",
        )
        .sides(quoted(issuer), quoted(&terms.issuer))),
        _ => Ok(()),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Steps 8 and 9.
pub(crate) fn check_claims(policy: &Policy<'_>, terms: &Terms) -> Result<()> {
    check_time(policy, terms)?;
    if !policy.audiences.contains(&terms.audience) {
        let own: Vec<String> = policy.audiences.iter().map(|name| quoted(name)).collect();
        return Err(Error::new(
            Code::ClaimsAudience,
            "the capsule is meant for another audience",
        )
        .sides(own.join(" or "), quoted(&terms.audience)));
    }
    let same = |code, what, own: &Option<String>, stated: &Option<String>| match stated {
        Some(stated) if own.as_ref() != Some(stated) => Err(Error::new(code, what).sides(
            own.as_deref()
                .map_or_else(|| "none stated".to_owned(), quoted),
            quoted(stated),
        )),
        _ => Ok(()),
    };
    same(
        Code::ClaimsSubject,
        "the capsule belongs to another subject",
        &policy.subject,
        &terms.subject,
    )?;
    same(
        Code::ClaimsOrganisation,
        "the capsule belongs to another organisation",
        &policy.organisation,
        &terms.organisation,
    )?;
    if !terms.scope.split(' ').any(|word| word == policy.scope) {
        return Err(
            Error::new(Code::ClaimsScope, "the scope does not grant this use")
                .sides(quoted(&policy.scope), quoted(&terms.scope)),
        );
    }
    Ok(())
}

fn check_time(policy: &Policy<'_>, terms: &Terms) -> Result<()> {
    let now = policy.now;
    for (name, start) in [("nbf", terms.not_before), ("iat", terms.issued_at)] {
        if start >= terms.expires {
            return Err(Error::new(
                Code::ClaimsMalformed,
                "the capsule expires before it is valid",
            )
            .at(name)
            .sides(format_args!("before exp {}", terms.expires), start));
        }
    }
    if now >= terms.expires {
        return Err(Error::new(Code::ClaimsExpired, "the capsule has expired")
            .sides(format_args!("exp after now {now}"), terms.expires));
    }
    let latest = now.saturating_add(policy.skew.min(MAX_SKEW));
    for (name, start) in [("nbf", terms.not_before), ("iat", terms.issued_at)] {
        if start > latest {
            return Err(
                Error::new(Code::ClaimsNotYetValid, "the capsule is not valid yet")
                    .at(name)
                    .sides(format_args!("at most {latest}"), start),
            );
        }
    }
    let lifetime = terms.expires - terms.issued_at;
    if lifetime > policy.max_lifetime {
        return Err(
            Error::new(Code::ClaimsLifetime, "the lifetime is longer than allowed").sides(
                format_args!("at most {} s", policy.max_lifetime),
                format_args!("{lifetime} s"),
            ),
        );
    }
    match terms.renew_until {
        Some(until) if terms.expires > until => Err(past_renewal(until, terms.expires)),
        _ => Ok(()),
    }
}

pub(crate) fn past_renewal(until: u64, expires: u64) -> Error {
    let what = "the capsule would outlive what its issuer allowed";
    Error::new(Code::ClaimsLifetime, what).sides(format_args!("exp at most {until}"), expires)
}

/// Step 10.
pub(crate) fn check_binding(policy: &Policy<'_>, manifest: &Manifest) -> Result<()> {
    let (expected, context) = (&policy.expected, &manifest.context);
    if let Some(id) = expected.capsule
        && id != manifest.claims.id
    {
        return Err(
            Error::new(Code::ManifestInconsistent, "this is another capsule")
                .sides(id, manifest.claims.id),
        );
    }
    if let Some((model, tokenizer, rope)) = expected.model {
        check_model(model, &context.model)?;
        check_tokenizer(tokenizer, &context.tokenizer)?;
        check_rope(rope, context)?;
    }
    check_layout(expected, context)?;
    if let Some(positions) = &expected.positions
        && *positions != context.positions
    {
        let shown = |range: &Range<u64>| format!("{} to {}", range.start, range.end);
        return Err(
            Error::new(Code::BindingPositions, "the capsule holds other positions")
                .sides(shown(positions), shown(&context.positions)),
        );
    }
    if let Some((value, key)) = &expected.prefix {
        match context.prefix.names(&value.value, Some(key)) {
            Some(true) => {}
            Some(false) => return Err(prefix::mismatch("the capsule is of another prompt")),
            None => {
                return Err(prefix::mismatch(
                    "the capsule does not name its prompt under this key",
                ));
            }
        }
    }
    for (role, layer) in &expected.banks {
        let held = context
            .banks()
            .any(|(_, bank)| bank.role == *role && bank.layer == *layer);
        if !held {
            return Err(Error::new(
                Code::BindingBankMissing,
                "a bank that the model needs is not in the capsule",
            )
            .at(format_args!("{role:?} of layer {layer}")));
        }
    }
    for layer in &expected.layers {
        if !context.banks().any(|(_, bank)| bank.layer == *layer) {
            return Err(Error::new(
                Code::BindingBankMissing,
                "a layer that the model needs has no bank in the capsule",
            )
            .at(format_args!("layer {layer}")));
        }
    }
    let plain = context
        .streams
        .iter()
        .try_fold(0_u64, |sum, stream| sum.checked_add(stream.plain_len()?))
        .unwrap_or(u64::MAX);
    if plain > policy.limits.budget {
        return Err(Error::new(
            Code::ResourceBudget,
            "the capsule is larger than the caller allows",
        )
        .sides(
            format_args!("at most {} bytes", policy.limits.budget),
            plain,
        ));
    }
    Ok(())
}

fn check_model(expected: &Model, found: &Model) -> Result<()> {
    if expected.id == found.id {
        return Ok(());
    }
    let part = [
        ("weights", expected.weights != found.weights),
        ("config", expected.config != found.config),
        ("adapters", expected.adapters != found.adapters),
    ];
    let differ: Vec<&str> = part.into_iter().filter(|p| p.1).map(|p| p.0).collect();
    let shown = |model: &Model| format!("{} ({:?})", short(&model.id), model.name);
    Err(Error::new(
        Code::BindingModel,
        format!(
            "the capsule was made by another model: {} differ",
            differ.join(", ")
        ),
    )
    .sides(shown(expected), shown(found)))
}

fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(16).collect()
}

fn check_tokenizer(expected: &Tokenizer, found: &Tokenizer) -> Result<()> {
    let template = |t: &Tokenizer| t.chat_template.map_or("none".to_owned(), |d| short(&d));
    let parts = [
        ("vocabulary", short(&expected.vocab), short(&found.vocab)),
        (
            "vocabulary size",
            expected.vocab_size.to_string(),
            found.vocab_size.to_string(),
        ),
        (
            "pre-tokenizer",
            quoted(&expected.pre_tokenizer),
            quoted(&found.pre_tokenizer),
        ),
        (
            "special tokens",
            format!("{:?}", expected.specials),
            format!("{:?}", found.specials),
        ),
        ("chat template", template(expected), template(found)),
    ];
    match parts
        .into_iter()
        .find(|(_, expected, found)| expected != found)
    {
        None => Ok(()),
        Some((place, expected, found)) => Err(Error::new(
            Code::BindingTokenizer,
            "the capsule was made with another tokenizer",
        )
        .at(place)
        .sides(expected, found)),
    }
}

/// Rope as far as it is the model's, for every layer that has keys.
fn check_rope(expected: &[Rope], context: &Context) -> Result<()> {
    let of = |ropes: &'_ [Rope], layer| ropes.iter().find(|r| r.layers.contains(&layer)).cloned();
    for (_, bank) in context.banks() {
        if !matches!(bank.role, Role::Key | Role::RopeKey) {
            continue;
        }
        let (want, found) = (of(expected, bank.layer), of(&context.rope, bank.layer));
        let facts = |rope: &Option<Rope>| {
            rope.as_ref()
                .map(|r| (r.pairing, r.rotary_dims, r.theta, r.scaling.clone()))
        };
        if facts(&want) != facts(&found) {
            let shown = |rope: Option<Rope>| {
                rope.map_or("none".to_owned(), |rope| {
                    format!(
                        "{:?} pairs, {} dims, theta {:#x}, {:?}",
                        rope.pairing, rope.rotary_dims, rope.theta.0, rope.scaling
                    )
                })
            };
            return Err(
                Error::new(Code::BindingRope, "the rotary position embedding differs")
                    .at(format_args!("layer {}", bank.layer))
                    .sides(shown(want), shown(found)),
            );
        }
    }
    Ok(())
}

fn check_layout(expected: &Expected<'_>, context: &Context) -> Result<()> {
    let runtime = &context.runtime;
    let layout = |place: String, expected: &str, found: &str| {
        Err(
            Error::new(Code::BindingLayout, "the state's layout differs")
                .at(place)
                .sides(quoted(expected), quoted(found)),
        )
    };
    if let Some((format, facts)) = &expected.layout {
        if *format != runtime.format {
            return layout("state format".to_owned(), format, &runtime.format);
        }
        for (name, value) in facts {
            let found = runtime.facts.iter().find(|fact| fact.0 == *name);
            let found = found.map_or("", |fact| fact.1.as_str());
            if found != value {
                return layout(name.clone(), value, found);
            }
        }
    }
    if let Some((keys, values)) = &expected.dtypes {
        for (_, bank) in context.banks() {
            let want = match bank.role {
                Role::Key => keys,
                Role::Value => values,
                _ => continue,
            };
            if *want != bank.dtype.name() {
                let place = format!("element type, layer {}", bank.layer);
                return layout(place, want, &bank.dtype.name());
            }
        }
    }
    if let Some((name, version)) = &expected.runtime {
        let stated = version.as_ref().filter(|_| !runtime.version.is_empty());
        let version_differs = stated.is_some_and(|version| *version != runtime.version);
        if *name != runtime.name || version_differs {
            let shown = |name: &str, version: &str| format!("{name} {version}");
            return Err(Error::new(
                Code::BindingRuntime,
                "the capsule was made by another runtime or version",
            )
            .sides(
                shown(name, version.as_deref().unwrap_or_default()),
                shown(&runtime.name, &runtime.version),
            ));
        }
    }
    Ok(())
}
