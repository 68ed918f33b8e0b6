//! What a capsule and the one that it continues must have in common (lineage-v1 §2, LIN-L-4 … LIN-L-8).

use kvcap_codecs::BankShape;

use crate::{
    binding::{Model, Tokenizer},
    error::{Code, Error, Result},
    manifest::{Context, Manifest, Parent},
    wire::claims::Terms,
};

impl Manifest {
    /// Checks that a capsule of these terms and this context can continue this one (its parent's digest is for
    /// [`crate::Chain`] to compare).
    ///
    /// # Errors
    /// KVC-703 for positions, 704 for model, tokenizer, rope, layout, banks and prompt, 705 for subject,
    /// tenant and scope, 707 for the issuer, 410 where this one is for one use.
    pub fn check_child(&self, terms: &Terms, child: &Context) -> Result<()> {
        let parent = &self.context;
        let named = child.parent.as_ref().map(|parent| parent.positions.clone());
        if named.as_ref() != Some(&parent.positions)
            || child.positions.start != parent.positions.end
        {
            let found = named.unwrap_or(0..child.positions.start);
            return Err(Error::new(
                Code::LineagePositions,
                "the positions do not continue the parent's",
            )
            .sides(shown(&parent.positions), shown(&found)));
        }
        let own = &self.claims.terms;
        if terms.issuer != own.issuer {
            return Err(
                Error::new(Code::LineageIssuer, "the parent has another issuer")
                    .names(&[&own.issuer], Some(&terms.issuer)),
            );
        }
        check_binding(parent, child)?;
        check_banks(parent, child)?;
        check_claims(self, terms)?;
        match own.single_use {
            false => Ok(()),
            true => Err(Error::new(
                Code::ClaimsReplayed,
                "what may be opened once cannot be continued",
            )
            .at("parent")),
        }
    }
}

pub(crate) fn parent_absent(parent: &Parent) -> Error {
    Error::new(
        Code::LineageParentAbsent,
        "the capsule opens only together with its parent",
    )
    .at(format_args!("parent {}", parent.digest))
}

fn check_binding(parent: &Context, child: &Context) -> Result<()> {
    let (a, b) = (parent, child);
    let tokenizer = |t: &Tokenizer| {
        let Tokenizer {
            vocab,
            vocab_size,
            pre_tokenizer,
            specials,
            chat_template,
            ..
        } = t.clone();
        (vocab, vocab_size, pre_tokenizer, specials, chat_template)
    };
    let model = |m: &Model| m.id.to_string();
    differ("model", model(&a.model), model(&b.model))?;
    if tokenizer(&a.tokenizer) != tokenizer(&b.tokenizer) {
        return Err(differs("tokenizer"));
    }
    if a.rope != b.rope {
        return Err(differs("rope"));
    }
    differ("runtime", &a.runtime.name, &b.runtime.name)?;
    differ("state format", &a.runtime.format, &b.runtime.format)?;
    if a.runtime.facts != b.runtime.facts {
        let other = |(x, y): &(&(String, String), &(String, String))| x != y;
        let pair = a.runtime.facts.iter().zip(&b.runtime.facts).find(other);
        let error = differs("layout facts");
        return Err(match pair {
            Some((x, y)) => error.sides(
                format_args!("{}={}", x.0, x.1),
                format_args!("{}={}", y.0, y.1),
            ),
            None => error.sides(a.runtime.facts.len(), b.runtime.facts.len()),
        });
    }
    if (a.layers, &a.stateless) != (b.layers, &b.stateless) {
        return Err(differs("layers"));
    }
    match (a.prefix.tokens(), b.prefix.tokens()) {
        (Some(a), Some(b)) if b < a => {
            Err(differs("tokens of the prompt").sides(format_args!("at least {a}"), b))
        }
        (Some(_), None) => Err(differs("prompt").sides("named", "not named")),
        (None, Some(_)) => Err(differs("prompt").sides("not named", "named")),
        _ => Ok(()),
    }
}

/// The same banks, and those that the child continues end where it begins.
fn check_banks(parent: &Context, child: &Context) -> Result<()> {
    let (a, b) = (parent.banks().count(), child.banks().count());
    if a != b {
        return Err(differs("banks").sides(a, b));
    }
    for (_, bank) in child.banks() {
        let place = || format!("layer {} {:?} {}", bank.layer, bank.role, bank.index);
        let other = parent
            .banks()
            .find(|(_, other)| other.identity() == bank.identity())
            .ok_or_else(|| differs(place()).sides("no such bank", "one"))?
            .1;
        let same_rows = match (&bank.shape, &other.shape) {
            (
                BankShape::Tokens { heads, dim, .. },
                BankShape::Tokens {
                    heads: h, dim: d, ..
                },
            ) => (heads, dim) == (h, d),
            (BankShape::Whole { .. }, BankShape::Whole { .. }) => true,
            _ => false,
        };
        if !same_rows || bank.dtype != other.dtype || bank.hadamard != other.hadamard {
            return Err(differs(place()).sides(
                format_args!("{} {:?}", other.dtype.name(), other.shape),
                format_args!("{} {:?}", bank.dtype.name(), bank.shape),
            ));
        }
        if bank.is_by_position() && !other.is_by_position() {
            return Err(differs(place()).sides("a bank of every position", "a window or list"));
        }
    }
    Ok(())
}

fn check_claims(parent: &Manifest, terms: &Terms) -> Result<()> {
    let wider = |place, expected: &Option<String>, found: &Option<String>| {
        Err(more(place).names(expected.as_deref().as_slice(), found.as_deref()))
    };
    let own = &parent.claims.terms;
    // a base image is for everybody whom its scope and audience admit
    let base = parent.context.base;
    if own.subject != terms.subject && !base {
        return wider("subject", &own.subject, &terms.subject);
    }
    if own.tenant != terms.tenant && !(base && own.tenant.is_none()) {
        return wider("tenant", &own.tenant, &terms.tenant);
    }
    let granted = |word: &&str| own.scope.split(' ').any(|own| own == *word);
    match terms.scope.split(' ').find(|word| !granted(word)) {
        Some(_) => Err(more("scope").names(&[&own.scope], Some(&terms.scope))),
        None => Ok(()),
    }
}

fn differ<T: PartialEq + std::fmt::Display>(place: &'static str, a: T, b: T) -> Result<()> {
    match a == b {
        true => Ok(()),
        false => Err(differs(place).sides(a, b)),
    }
}

fn differs(place: impl std::fmt::Display) -> Error {
    Error::new(
        Code::LineageBinding,
        "the capsule does not continue its parent's state",
    )
    .at(place)
}

fn more(place: &'static str) -> Error {
    Error::new(
        Code::LineageScope,
        "the capsule claims more than its parent",
    )
    .at(place)
}

fn shown(range: &std::ops::Range<u64>) -> String {
    format!("{} to {}", range.start, range.end)
}
