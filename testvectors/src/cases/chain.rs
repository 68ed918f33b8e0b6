//! Chains of capsules: what holds one state, and what does not (lineage-v1 §2).

use kvcap::{Context, Role, Stream, Terms};

use crate::{
    case::{Made, keys},
    cases,
    fixture::{self, Capsule, EXPIRES, ISSUED, OTHER_SEED},
    lineage::{child, context, ids, root, seal, three},
    parts::{self, Parts},
    raw::{byte_string, encode, int, put, text},
    schedule::sign_key_id,
};

/// The tip first, then its ancestors as they are offered.
pub(super) fn chain(members: &[&Capsule]) -> Made {
    let (tip, ancestors) = members.split_first().unwrap();
    let mut made = Made::of((*tip).clone());
    for ancestor in ancestors {
        let name = made.context.hold("chain", "kvcap", &ancestor.file);
        made.context.parents.push(name);
        made.plain.splice(0..0, ancestor.plain.iter().cloned());
    }
    made
}

/// A root and a child that is changed.
fn pair(change: impl FnOnce(&mut Terms, &mut Context, &mut Vec<u32>)) -> Made {
    let root = root();
    chain(&[&child("chain child", &root, 1, change), &root])
}

fn three_in_order(order: [usize; 3]) -> Made {
    let all = three();
    chain(&order.map(|index| &all[index]))
}

fn banks(context: &mut Context) -> impl Iterator<Item = &mut kvcap::BankEntry> {
    context
        .streams
        .iter_mut()
        .filter_map(|stream| match stream {
            Stream::Bank(bank) => Some(bank),
            Stream::Section(_) => None,
        })
}

/// The same body under another header.
fn reissued(capsule: &Capsule, change: impl FnOnce(&mut Parts)) -> Capsule {
    let mut parts = Parts::of(capsule);
    change(&mut parts);
    parts.sign();
    Capsule {
        file: parts.file(),
        plain: capsule.plain.clone(),
    }
}

/// A base image: no subject, no tenant, the mark.
fn base_image() -> Capsule {
    let mut terms = fixture::terms();
    (terms.subject, terms.tenant) = (None, None);
    let mut context = context(0);
    context.base = true;
    seal("chain base", terms, context, &ids(0))
}

fn of_base() -> Made {
    let base = base_image();
    chain(&[&child("of base", &base, 1, |_, _, _| {}), &base])
}

/// Another issuer's capsule as the parent: both are trusted.
fn other_issuer() -> Made {
    let root = root();
    let mut parts = Parts::of(&root);
    parts.signer = OTHER_SEED;
    let kid = sign_key_id(&parts::public(&OTHER_SEED));
    put(&mut parts.header, &keys([4]), &byte_string(&kid));
    put(
        &mut parts.header,
        &keys([15, 1]),
        &encode(&text("other.example.com")),
    );
    parts.reseal();
    parts.sign();
    let other = Capsule {
        file: parts.file(),
        plain: root.plain,
    };
    let made = chain(&[&child("of another", &other, 1, |_, _, _| {}), &other]);
    made.when(|context| {
        let mut other = crate::context::Trusted::of(&parts::public(&OTHER_SEED));
        other.issuer = "other.example.com".to_owned();
        context.trust.push(other);
    })
}

/// A parent that expires when its child does not.
fn expired_parent() -> Made {
    let root = root();
    let short = reissued(&root, |parts| {
        put(
            &mut parts.header,
            &keys([15, 4]),
            &encode(&int(ISSUED + 1000)),
        );
    });
    chain(&[&child("outlives", &root, 1, |_, _, _| {}), &short])
}

/// A second root with the same prompt: other keys and values.
fn twin() -> Capsule {
    seal("chain twin", fixture::terms(), context(0), &ids(0))
}

cases! {
    /// three capsules that hold one state: all streams of the root, then of the next, then of the tip
    chain_three_deep: A 0 Accept ["lineage-v1 §2" "LIN-L-1" "LIN-L-9"] = three_in_order([2, 1, 0]);
    /// two capsules
    chain_of_two: A 0 Accept ["lineage-v1 §2"] = pair(|_, _, _| {});
    /// a user's increment of a base image that has neither subject nor tenant
    chain_of_base_image: A 0 Accept ["LIN-L-3" "LIN-L-7"] = of_base();
    /// the parent was renewed after its child was made
    chain_parent_renewed: A 0 Accept ["lineage-v1 §2"] = {
        let root = root();
        let renewed = reissued(&root, |parts| {
            put(&mut parts.header, &keys([15, 4]), &encode(&int(EXPIRES + 86_400)));
        });
        chain(&[&child("chain child", &root, 1, |_, _, _| {}), &renewed])
    };
    /// an increment with a narrower scope
    chain_scope_narrower: A 0 Accept ["LIN-L-7"] = pair(|terms, _, _| terms.scope = "kv:restore".to_owned());
    /// another capsule in the parent's place
    parent_digest: R 702 Chain ["lineage-v1 §2"] = {
        let root = root();
        chain(&[&child("chain child", &root, 1, |_, _, _| {}), &fixture::base()])
    };
    /// another state of the same prompt in the parent's place
    parent_same_prefix_other: R 702 Chain ["lineage-v1 §2"] = {
        let root = root();
        chain(&[&child("chain child", &root, 1, |_, _, _| {}), &twin()])
    };
    /// the root in the place of the capsule between
    chain_member_left_out: C 702 Chain ["lineage-v1 §2"] = three_in_order([2, 0, 1]);
    /// a member twice
    chain_member_twice: C 702 Chain ["lineage-v1 §2"] = three_in_order([2, 1, 1]);
    /// a capsule beyond the root
    chain_beyond_the_root: C 702 Chain ["lineage-v1 §2"] = {
        let [root, first, _] = three();
        chain(&[&first, &root, &twin()])
    };
    /// the chain ends before its root
    chain_ends_early: C 701 Open ["LIN-L-2"] = {
        let [_, first, second] = three();
        chain(&[&second, &first])
    };
    /// keys and values by position continue banks with a window
    chain_window_continued: R 704 Chain ["LIN-L-4"] = {
        let mut context = context(0);
        banks(&mut context).for_each(|bank| bank.window = 16);
        let root = seal("chain window", fixture::terms(), context, &ids(0));
        chain(&[&child("chain child", &root, 1, |_, _, _| {}), &root])
    };
    /// the increment is of another model
    parent_model: R 704 Chain ["LIN-L-6"] = pair(|_, context, _| context.model.id = fixture::digest("another"));
    /// the increment is of another tokenizer
    chain_other_tokenizer: R 704 Chain ["LIN-L-6"] = pair(|_, context, _| context.tokenizer.vocab_size += 1);
    /// the increment has another position offset, which is no fact of the model
    chain_other_rope: R 704 Chain ["LIN-L-6"] = pair(|_, context, _| context.rope[0].offset = 1);
    /// the increment was saved in another layout
    chain_other_layout: R 704 Chain ["LIN-L-6"] = pair(|_, context, _| context.runtime.format = "mlx-lm-0.31".to_owned());
    /// the increment has a bank more
    chain_bank_more: R 704 Chain ["LIN-L-5"] = pair(|_, context, _| {
        let extra = fixture::whole(Role::Opaque, 0, 0, kvcap_codecs::Dtype::U8, &[4]);
        context.streams.push(Stream::Bank(extra));
    });
    /// the increment's values have another element type
    chain_other_dtype: R 704 Chain ["LIN-L-5"] = pair(|_, context, _| {
        banks(context).for_each(|bank| bank.dtype = kvcap_codecs::Dtype::Bf16);
    });
    /// the increment's prompt does not begin with the parent's
    chain_other_prompt: R 704 Open ["LIN-L-9"] = pair(|_, _, ids| ids[3] += 1);
    /// the parent is for one use
    chain_parent_single_use: R 410 Chain ["REG-U-6"] = {
        let mut terms = fixture::terms();
        terms.single_use = true;
        let root = seal("chain once", terms, context(0), &ids(0));
        chain(&[&child("chain child", &root, 1, |_, _, _| {}), &root])
    };
    /// a bank of the parent was rotated by its runtime, and the increment's was not
    chain_other_hadamard: R 704 Chain ["LIN-L-5"] = pair(|_, context, _| banks(context).for_each(|bank| bank.hadamard = 64));
    /// a checkpoint of another session continues the parent's: a branch
    chain_other_session: A 0 Accept ["LIN-L-7"] = pair(|terms, _, _| {
        terms.session = Some(kvcap::Session { id: "branch".to_owned(), version: 1, replay_cursor: 9 });
    });
    /// the caller states the session of the increment; its parent is of none
    chain_session_of_the_tip: A 0 Accept ["CAP-V-7"] = pair(|terms, _, _| {
        terms.session = Some(kvcap::Session { id: "branch".to_owned(), version: 1, replay_cursor: 9 });
    }).when(|context| context.expected.session = Some(("branch".to_owned(), Some(1), Some(9))));
    /// the increment allows more than its parent
    child_scope_wider: R 705 Chain ["LIN-L-7"] = pair(|terms, _, _| terms.scope.push_str(" kv:export"));
    /// the increment has a subject, its parent has none and is no base image
    child_other_subject: R 705 Chain ["LIN-L-7"] = {
        let mut terms = fixture::terms();
        terms.subject = None;
        let root = seal("chain nobody", terms, context(0), &ids(0));
        chain(&[&child("chain child", &root, 1, |_, _, _| {}), &root])
    };
    /// the increment is for the caller, its parent for another user
    chain_two_subjects: R 406 Chain ["LIN-L-7" "CAP-V-6"] = pair(|terms, _, _| terms.subject = Some("mallory".to_owned()))
        .when(|context| context.subject = Some("mallory".to_owned()));
    /// the increment has no subject where its parent has one
    chain_subject_dropped: R 705 Chain ["LIN-L-7"] = pair(|terms, _, _| terms.subject = None);
    /// a member more than the caller's limit
    chain_too_deep: C 706 Chain ["LIN-L-8"] = three_in_order([2, 1, 0]).when(|context| {
        context.limits.insert("chain".to_owned(), 2);
    });
    /// the members together hold more than the caller's budget
    chain_over_budget: C 910 Chain ["LIN-L-8"] = three_in_order([2, 1, 0]).when(|context| {
        context.limits.insert("budget".to_owned(), 4500);
    });
    /// another issuer's capsule is continued
    parent_other_issuer: R 707 Chain ["LIN-L-7"] = other_issuer();
    /// the parent has expired, the increment has not
    parent_expired_or_revoked: R 708 Chain ["lineage-v1 §2"] = expired_parent();
}
