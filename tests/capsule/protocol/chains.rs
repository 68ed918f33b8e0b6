//! An increment and what is given as its parent: every header that the attacker can make of either, before
//! every verifier (lineage-v1 §2).

use crate::{
    forgeries::{self, CAP, Found, bound, honest, stated},
    reader::{Delivered, Verifier, open, verify_chain},
    rules::{Promise, Rules},
    terms::{
        Body, Bound, Content, Entry, Header, Name, Signer, Text, Wrapping, commitment, sealed,
        tables,
    },
};

const CHILD: u8 = 5;
const TWIN: u8 = 6;

/// A capsule that anybody can make under a key of his.
fn made(header: Header, rules: Rules) -> (Header, Body) {
    let ctx = header.bound.ctx(rules);
    let body = sealed(Content::Made, ctx, Text::Made);
    let entry = Entry {
        to: Wrapping::Door,
        content: Content::Made,
        of: header.bound.id,
    };
    let header = Header {
        commitment: commitment(Content::Made, ctx),
        entries: [Some(entry), None],
        tables: tables(&body),
        ..header
    };
    (header, body)
}

/// Explores tips and parents. The parent is for one use, or it is not; it is revoked, or it is not.
pub(crate) fn explore(rules: Rules) -> Found {
    let mut found = Found::default();
    for once in [false, true] {
        let base = Bound { once, ..bound() };
        let parent = honest(base, Content::Ours, Text::Ours, Wrapping::Holder, rules);
        let twin = Bound { id: TWIN, ..base };
        let twin = honest(twin, Content::Sold, Text::Sold, Wrapping::Door, rules);
        let named = Bound {
            id: CHILD,
            once: false,
            parent: Some(parent.0.lineage(rules)),
            ..base
        };
        let mut child = honest(
            named,
            Content::MadeToo,
            Text::MadeToo,
            Wrapping::Door,
            rules,
        );
        child.0.expires = CAP;

        // the honest child, and children that others make of the same parent
        let mut tips = vec![child];
        for header in stated(&child.0) {
            let ours = header.bound.id == forgeries::OURS && header.expires == CAP;
            if ours && !header.forged && !header.bound.once && header.bound.cap == CAP {
                let id = CHILD;
                let bound = Bound { id, ..header.bound };
                for scope in [1, 3] {
                    tips.push(made(
                        Header {
                            bound,
                            scope,
                            ..header
                        },
                        rules,
                    ));
                }
                // the child's own body under another's header
                tips.push((
                    Header {
                        bound,
                        signer: header.signer,
                        ..child.0
                    },
                    child.1,
                ));
            }
        }
        // the parent, a later header of it, another capsule, and one of the attacker's
        let mut parents = vec![None, Some(parent), Some(twin)];
        let late = Header {
            signer: Signer::Second,
            expires: CAP,
            ..parent.0
        };
        parents.push(Some((late, parent.1)));
        let claims = Bound { id: 7, ..base };
        let own = Header {
            signer: Signer::Second,
            bound: claims,
            ..parent.0
        };
        parents.push(Some(made(own, rules)));

        for by in forgeries::verifiers() {
            for revoked in [None, Some(forgeries::OURS)] {
                let by = Verifier { revoked, ..by };
                for (tip, tip_body) in &tips {
                    for of in &parents {
                        found.seen += 1;
                        let of = of.as_ref();
                        if verify_chain(tip, of.map(|(header, _)| header), &by, rules).is_ok() {
                            judge(&mut found, (tip, tip_body), of, &by, rules);
                        }
                    }
                }
            }
        }
    }
    found
}

/// What has been accepted, against the promises.
fn judge(
    found: &mut Found,
    (tip, tip_body): (&Header, &Body),
    parent: Option<&(Header, Body)>,
    by: &Verifier,
    rules: Rules,
) {
    found.accepted += 1;
    let keys = [Wrapping::Holder, Wrapping::Door];
    let opened = |header: &Header, body: &Body| {
        let (ctx, delivered) = (header.bound.ctx(rules), Delivered::new(*body));
        keys.into_iter()
            .find_map(|key| open(header, ctx, &delivered, key, rules).ok())
    };
    if opened(tip, tip_body).is_none() {
        return; // the body is not this header's
    }
    let Some((of, body)) = parent else {
        found.breaks(Promise::OneLine, true);
        return;
    };
    let Some(texts) = opened(of, body) else {
        return;
    };
    // every tip here was made to continue the one parent
    found.breaks(Promise::OneLine, texts != [Text::Ours(0), Text::Ours(1)]);
    found.breaks(Promise::OneLine, tip.bound.issuer != of.bound.issuer);
    found.breaks(
        Promise::OneLine,
        tip.scope & !of.scope != 0 || tip.bound.tenant != of.bound.tenant,
    );
    found.breaks(
        Promise::OneLine,
        by.now >= of.expires || by.revoked == Some(of.bound.id),
    );
    found.breaks(Promise::OneUse, of.bound.once);
    found.breaks(Promise::Confidentiality, by.tenant != Name::Ours);
    found.breaks(Promise::Renewal, by.now >= CAP);
}
