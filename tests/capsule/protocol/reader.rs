//! A verifier and reader: the steps of capsule-v1 §3.2 and §3.3 in their order, with their codes.

use crate::{
    rules::{Rule, Rules},
    terms::{Body, Content, Entry, Header, Name, Text, Time, Wrapping, commitment, tables},
};

/// The model of the honest capsule.
pub(crate) const MODEL: u8 = 1;

/// A verifier at a moment, and on whose behalf it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verifier {
    /// Its own name.
    pub(crate) audience: u8,
    pub(crate) now: Time,
    pub(crate) tenant: Name,
    pub(crate) session: u8,
    /// The model that it runs.
    pub(crate) model: u8,
    /// The capsule that its registry revokes.
    pub(crate) revoked: Option<u8>,
}

/// Judges a header: `Err` has the code.
pub(crate) fn verify(header: &Header, by: &Verifier, rules: Rules) -> Result<(), u16> {
    let refuse = |rule: Rule, wrong: bool, code: u16| {
        if rules.have(rule) && wrong {
            Err(code)
        } else {
            Ok(())
        }
    };
    let bound = &header.bound;
    let speaks_for = header.signer.speaks_for();
    refuse(Rule::Trusted, speaks_for.is_none(), 301)?;
    refuse(Rule::Signature, header.forged, 307)?;
    let known = speaks_for.is_some();
    refuse(
        Rule::OneIssuer,
        known && speaks_for != Some(bound.issuer),
        312,
    )?;
    refuse(Rule::Revoked, by.revoked == Some(bound.id), 409)?;
    refuse(Rule::Expiry, by.now >= header.expires, 402)?;
    refuse(Rule::Cap, header.expires > bound.cap, 404)?;
    refuse(Rule::Audience, header.audience != by.audience, 405)?;
    refuse(Rule::Tenant, bound.tenant != by.tenant, 407)?;
    refuse(Rule::Session, bound.session != by.session, 413)?;
    refuse(Rule::Model, bound.model != by.model, 601)
}

/// A body that is delivered, and the digest of its tables.
#[derive(Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) body: Body,
    pub(crate) digest: u64,
}

impl Delivered {
    pub(crate) fn new(body: Body) -> Self {
        let digest = tables(&body);
        Self { body, digest }
    }
}

/// Compares a body with the signed tables.
pub(crate) fn check_body(header: &Header, delivered: &Delivered, rules: Rules) -> Result<(), u16> {
    if rules.have(Rule::Tables) && delivered.digest != header.tables {
        return Err(805);
    }
    Ok(())
}

/// The entry that a key opens, and the content key in it.
pub(crate) fn unwrap(
    header: &Header,
    key: Wrapping,
    rules: Rules,
) -> Result<(Entry, Content), u16> {
    let entry = header.entries.into_iter().flatten().find(|e| e.to == key);
    let entry = entry.ok_or(809_u16)?;
    if rules.have(Rule::EntryOfCapsule) && entry.of != header.bound.id {
        return Err(803);
    }
    Ok((entry, entry.content))
}

/// Gives what a body holds for who has a wrapping key, of a header whose ctx this is. Each chunk passes its digest
/// before it is opened.
pub(crate) fn open(
    header: &Header,
    ctx: u64,
    delivered: &Delivered,
    key: Wrapping,
    rules: Rules,
) -> Result<Vec<Text>, u16> {
    let (_, content) = unwrap(header, key, rules)?;
    if rules.have(Rule::Commitment) && commitment(content, ctx) != header.commitment {
        return Err(804);
    }
    read(header, ctx, delivered, content, rules)
}

/// Gives what a body holds under a content key.
pub(crate) fn read(
    header: &Header,
    ctx: u64,
    delivered: &Delivered,
    content: Content,
    rules: Rules,
) -> Result<Vec<Text>, u16> {
    check_body(header, delivered, rules)?;
    let body = &delivered.body;
    let count = body.iter().flatten().count();
    let mut texts = Vec::new();
    for (place, chunk) in (0_u8..).zip(body.iter().flatten()) {
        let also = chunk.also.filter(|(key, _)| *key == content);
        let own = (chunk.key.0 == content).then_some(chunk.text);
        let text = own.or(also.map(|(_, text)| text)).ok_or(806_u16)?;
        let last = usize::from(place) + 1 == count;
        if chunk.key.1 != ctx
            || (rules.have(Rule::Place) && chunk.place != place)
            || (rules.have(Rule::Last) && chunk.last != last)
        {
            return Err(806);
        }
        texts.push(text);
    }
    Ok(texts)
}

/// Judges a child and the ancestor that is given with it (lineage-v1 §2.2).
pub(crate) fn verify_chain(
    tip: &Header,
    parent: Option<&Header>,
    by: &Verifier,
    rules: Rules,
) -> Result<(), u16> {
    verify(tip, by, rules)?;
    let Some(named) = tip.bound.parent else {
        return Ok(());
    };
    let Some(parent) = parent else {
        return if rules.have(Rule::ParentThere) {
            Err(701)
        } else {
            Ok(())
        };
    };
    if rules.have(Rule::ParentValid) {
        // the session is the tip's alone
        let by = Verifier {
            session: parent.bound.session,
            ..*by
        };
        verify(parent, &by, rules).map_err(|code| match code {
            402 | 409 => 708,
            code => code,
        })?;
    }
    if rules.have(Rule::ParentNamed) && parent.lineage(rules) != named {
        return Err(702);
    }
    if rules.have(Rule::ParentIssuer) && parent.bound.issuer != tip.bound.issuer {
        return Err(707);
    }
    let wider = tip.scope & !parent.scope != 0 || tip.bound.tenant != parent.bound.tenant;
    if rules.have(Rule::NarrowerClaims) && wider {
        return Err(705);
    }
    if rules.have(Rule::ParentNotOnce) && parent.bound.once {
        return Err(410);
    }
    Ok(())
}
