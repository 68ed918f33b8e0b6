//! A key's holder, and a helper program that has the secret and answers as it likes (helper-v1): what is written, and
//! what comes out, under every answer.

use crate::{
    forgeries::{Found, bodies, ours},
    reader::{Delivered, read},
    rules::{Promise, Rule, Rules},
    terms::{Content, Header, Signer, Text, commitment},
};

/// What a helper answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A signature by a key, of a message.
    Signature(Signer, u8),
    Content(Content),
    Refused,
}

/// The message that is to be signed, and one that was signed before.
pub(crate) const ASKED: u8 = 1;
pub(crate) const BEFORE: u8 = 2;

pub(crate) const ANSWERS: [Answer; 10] = [
    Answer::Signature(Signer::First, ASKED),
    Answer::Signature(Signer::First, BEFORE),
    Answer::Signature(Signer::Theirs, ASKED),
    Answer::Signature(Signer::Theirs, BEFORE),
    Answer::Content(Content::Ours),
    Answer::Content(Content::Sold),
    Answer::Content(Content::Made),
    Answer::Content(Content::MadeToo),
    Answer::Refused,
    // random bytes in the place of a signature
    Answer::Signature(Signer::Unknown, ASKED),
];

/// What is written for a signature of [`ASKED`] by the key that the file names: whose, and of what.
pub(crate) fn sign(answer: Answer, rules: Rules) -> Result<(Signer, u8), u16> {
    let Answer::Signature(by, of) = answer else {
        return Err(948); // refused, or of another form (HLP-A-1)
    };
    if rules.have(Rule::HelperSigned) && (by, of) != (Signer::First, ASKED) {
        return Err(948);
    }
    Ok((by, of))
}

/// The content key that is used for a capsule.
pub(crate) fn unwrap(
    header: &Header,
    ctx: u64,
    answer: Answer,
    rules: Rules,
) -> Result<Content, u16> {
    let Answer::Content(content) = answer else {
        return Err(948);
    };
    if rules.have(Rule::HelperCommitted) && commitment(content, ctx) != header.commitment {
        return Err(804);
    }
    Ok(content)
}

/// Explores answers, for the honest capsule and for those that a hostile sealer has made together with the helper.
pub(crate) fn explore(rules: Rules) -> Found {
    let mut found = Found::default();
    for answer in ANSWERS {
        found.seen += 1;
        if let Ok(written) = sign(answer, rules) {
            found.accepted += 1;
            found.breaks(Promise::Elsewhere, written != (Signer::First, ASKED));
        }
    }
    let (honest, body) = ours(rules);
    let ctx = honest.bound.ctx(rules);
    for body in bodies(&body, &body, ctx) {
        let delivered = Delivered::new(body);
        for committed in [Content::Ours, Content::Made, Content::MadeToo] {
            let header = Header {
                commitment: commitment(committed, ctx),
                tables: delivered.digest,
                ..honest
            };
            let own = read(&header, ctx, &delivered, committed, rules);
            for answer in ANSWERS {
                found.seen += 1;
                let Ok(content) = unwrap(&header, ctx, answer, rules) else {
                    continue;
                };
                let texts: Result<Vec<Text>, u16> = read(&header, ctx, &delivered, content, rules);
                found.accepted += usize::from(texts.is_ok());
                // it opens as it does for who has the secret, or not at all
                found.breaks(Promise::Elsewhere, texts.is_ok() && texts != own);
                // and what is wrapped for another recipient is the capsule's
                found.breaks(Promise::HandOver, content != committed);
            }
        }
    }
    found
}
