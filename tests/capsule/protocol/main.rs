//! The protocol between issuer, holder, relay, attacker and two verifiers, as a model of symbols: every state of a
//! small size is visited, and each promise of the threat model that it can state is a property of all of them.
//!
//! Each rule is taken out by itself, and a promise is then seen to break: so no property holds of nothing. The
//! memory of uses has a model of its own, over the library's ledger (`tests/capsule/one_use.rs`); what is a matter
//! of memory, time or bytes is tested on the library (`docs/security-review.md` says where).

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test that meets what it does not expect fails"
)]

mod chains;
mod forgeries;
mod helpers;
mod histories;
mod library;
mod library_roots;
mod reader;
mod roots;
mod rules;
mod takeovers;
mod terms;

use std::collections::BTreeSet;

use forgeries::Found;
use histories::Scene;
use rules::{Promise, Rule, Rules};
use takeovers::FirstRoot;

/// What is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Forgeries,
    Knowledge,
    Chains,
    Histories(Scene),
    /// Of a registry with timestamps, or without.
    Takeovers {
        stamped: bool,
    },
    Helpers,
}

/// Explores a part, until the promise that is wanted is broken.
fn explore(part: Part, rules: Rules, wanted: Option<Promise>) -> Found {
    match part {
        Part::Forgeries => forgeries::explore(rules, wanted),
        Part::Knowledge => forgeries::knowledge(rules),
        Part::Chains => chains::explore(rules),
        Part::Histories(scene) => histories::explore(scene, rules),
        Part::Takeovers { stamped } => {
            takeovers::explore(stamped, rules, wanted, FirstRoot::Excepted)
        }
        Part::Helpers => helpers::explore(rules),
    }
}

const STAMPED: Part = Part::Takeovers { stamped: true };
const UNSTAMPED: Part = Part::Takeovers { stamped: false };

/// Each rule, where it is taken out, and a promise that does not hold without it.
const NEEDED: &[(Rule, Part, Promise)] = &[
    (Rule::Trusted, Part::Forgeries, Promise::Authenticity),
    (Rule::Signature, Part::Forgeries, Promise::Authenticity),
    (Rule::Tables, Part::Forgeries, Promise::Authenticity),
    (Rule::OneIssuer, Part::Forgeries, Promise::NoSplicing),
    (Rule::Expiry, Part::Forgeries, Promise::LimitedUse),
    (Rule::Audience, Part::Forgeries, Promise::LimitedUse),
    (Rule::Tenant, Part::Forgeries, Promise::LimitedUse),
    (Rule::Tenant, Part::Forgeries, Promise::Confidentiality),
    (Rule::Cap, Part::Forgeries, Promise::Renewal),
    (Rule::Session, Part::Forgeries, Promise::Sessions),
    (Rule::Model, Part::Forgeries, Promise::Binding),
    (Rule::BoundIssuer, Part::Forgeries, Promise::NoSplicing),
    (Rule::BoundTenant, Part::Forgeries, Promise::Confidentiality),
    (Rule::BoundSession, Part::Forgeries, Promise::Sessions),
    (Rule::BoundOnce, Part::Forgeries, Promise::OneUse),
    (Rule::BoundCap, Part::Forgeries, Promise::Renewal),
    (Rule::BoundContext, Part::Forgeries, Promise::Binding),
    (Rule::EntryOfCapsule, Part::Forgeries, Promise::HandOver),
    (Rule::Commitment, Part::Forgeries, Promise::KeyCommitment),
    (Rule::Place, Part::Forgeries, Promise::NoSplicing),
    (Rule::Last, Part::Forgeries, Promise::NoSplicing),
    (
        Rule::FreshContent,
        Part::Knowledge,
        Promise::Confidentiality,
    ),
    (Rule::HybridAlone, Part::Knowledge, Promise::NoHarvest),
    (Rule::KeyedPrompt, Part::Knowledge, Promise::NoConfirmation),
    (Rule::ParentThere, Part::Chains, Promise::OneLine),
    (Rule::ParentNamed, Part::Chains, Promise::OneLine),
    (Rule::ParentValid, Part::Chains, Promise::OneLine),
    (Rule::ParentIssuer, Part::Chains, Promise::OneLine),
    (Rule::NarrowerClaims, Part::Chains, Promise::OneLine),
    (Rule::ParentNotOnce, Part::Chains, Promise::OneUse),
    (
        Rule::Revoked,
        Part::Histories(Scene::Registries),
        Promise::LimitedUse,
    ),
    (
        Rule::RegistryNeverBack,
        Part::Histories(Scene::Registries),
        Promise::LimitedUse,
    ),
    (
        Rule::Again,
        Part::Histories(Scene::Registries),
        Promise::LimitedUse,
    ),
    (
        Rule::Clock,
        Part::Histories(Scene::Renewals),
        Promise::LimitedUse,
    ),
    (
        Rule::ValidToRenew,
        Part::Histories(Scene::Renewals),
        Promise::Renewal,
    ),
    (
        Rule::RenewalToCap,
        Part::Histories(Scene::Renewals),
        Promise::Renewal,
    ),
    (
        Rule::NoWiderScope,
        Part::Histories(Scene::Renewals),
        Promise::Renewal,
    ),
    (Rule::Use, Part::Histories(Scene::Uses), Promise::OneUse),
    (
        Rule::UseFirst,
        Part::Histories(Scene::Uses),
        Promise::OneUse,
    ),
    (Rule::SignsOnce, STAMPED, Promise::NoSingleRoot),
    (Rule::RootSignature, STAMPED, Promise::NoSingleRoot),
    (Rule::Threshold, STAMPED, Promise::NoSingleRoot),
    (Rule::FirstRoot, STAMPED, Promise::NoSingleRoot),
    (Rule::OldRoots, STAMPED, Promise::NoSingleRoot),
    (Rule::NewRoots, STAMPED, Promise::NoSingleRoot),
    (Rule::RootsGiven, UNSTAMPED, Promise::NoSingleRoot),
    (Rule::ThresholdGiven, UNSTAMPED, Promise::NoSingleRoot),
    (Rule::StampsGiven, STAMPED, Promise::NoSingleRoot),
    (Rule::NewestRoots, STAMPED, Promise::NoSingleRoot),
    (Rule::RootIssuers, STAMPED, Promise::NoSingleRoot),
    (Rule::TrustedIssuers, STAMPED, Promise::NoSingleRoot),
    (Rule::RootsExpiry, UNSTAMPED, Promise::NoSingleRoot),
    (Rule::Stamp, STAMPED, Promise::NoSingleRoot),
    (Rule::StampSigned, STAMPED, Promise::NoSingleRoot),
    (Rule::StampOf, STAMPED, Promise::NoSingleRoot),
    (Rule::StampExpiry, STAMPED, Promise::NoSingleRoot),
    (Rule::StampAgain, STAMPED, Promise::NoSingleRoot),
    (Rule::RootsRemembered, STAMPED, Promise::NoSingleRoot),
    (Rule::HelperSigned, Part::Helpers, Promise::Elsewhere),
    (Rule::HelperCommitted, Part::Helpers, Promise::Elsewhere),
    (Rule::HelperCommitted, Part::Helpers, Promise::HandOver),
];

/// Rules that stand in for one another: tests of their own take out two.
const TWICE: [Rule; 4] = [
    Rule::BoundId,
    Rule::RootsVersion,
    Rule::RootsPrevious,
    Rule::RootsChain,
];

#[test]
fn every_promise_holds_of_every_state() {
    let mut parts = vec![
        Part::Forgeries,
        Part::Knowledge,
        Part::Chains,
        STAMPED,
        UNSTAMPED,
        Part::Helpers,
    ];
    parts.extend(histories::SCENES.map(Part::Histories));
    for part in parts {
        let found = explore(part, Rules::default(), None);
        println!(
            "{part:?}: {} states, {} accepted",
            found.seen, found.accepted
        );
        assert_eq!(found.broken, BTreeSet::new(), "{part:?}");
        assert!(found.seen > 10, "{part:?}: {} states", found.seen);
    }
}

#[test]
fn without_any_rule_a_promise_breaks() {
    for (rule, part, promise) in NEEDED {
        let found = explore(*part, Rules::without(*rule), Some(*promise));
        assert!(
            found.broken.contains(promise),
            "{promise:?} holds of {} states without {rule:?}: {:?}",
            found.seen,
            found.broken
        );
    }
}

/// A rule that stands in no row of [`NEEDED`] would be there for nothing.
#[test]
fn every_rule_is_taken_out() {
    let source = include_str!("rules.rs");
    let list = source.split("pub(crate) enum Rule {").nth(1).unwrap();
    let names = list.split("\n}").next().unwrap().lines();
    let names: Vec<&str> = names
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|name| name.chars().all(char::is_alphabetic))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let taken = |(rule, ..): &(Rule, Part, Promise)| format!("{rule:?}") == name;
        let twice = TWICE.iter().any(|rule| format!("{rule:?}") == name);
        assert!(twice || NEEDED.iter().any(taken), "{name}");
    }
}

#[test]
fn the_library_gives_the_models_verdicts() {
    library::compare();
}

#[test]
fn the_library_gives_the_models_verdicts_of_registries() {
    library_roots::compare();
}

#[test]
fn the_library_gives_the_models_verdicts_of_helpers() {
    library::compare_helpers();
}

/// The id enters ctx and every entry: either by itself keeps a capsule's entry out of another.
#[test]
fn a_capsules_id_is_bound_twice() {
    let splicing = |rules| {
        let found = explore(Part::Forgeries, rules, Some(Promise::NoSplicing));
        found.broken.contains(&Promise::NoSplicing)
    };
    assert!(!splicing(Rules::without(Rule::BoundId)));
    assert!(!splicing(Rules::without(Rule::EntryOfCapsule)));
    assert!(splicing(Rules::without_both(
        Rule::BoundId,
        Rule::EntryOfCapsule
    )));
}

/// A statement about roots names the one before by its digest: without that its version keeps an older one from
/// following again, and its chain that of another registry.
#[test]
fn a_statement_about_roots_follows_by_two_marks() {
    let taken_over = |rules| {
        let found = explore(UNSTAMPED, rules, Some(Promise::NoSingleRoot));
        found.broken.contains(&Promise::NoSingleRoot)
    };
    for alone in [Rule::RootsVersion, Rule::RootsPrevious, Rule::RootsChain] {
        assert!(!taken_over(Rules::without(alone)), "{alone:?}");
    }
    for other in [Rule::RootsVersion, Rule::RootsChain] {
        let rules = Rules::without_both(Rule::RootsPrevious, other);
        assert!(taken_over(rules), "{other:?}");
    }
}

/// What the threat model does not promise is not had either: who has the first root shows another registry to those
/// who were given that alone.
#[test]
fn a_first_root_takes_over_whom_it_alone_was_given() {
    let (rules, wanted) = (Rules::default(), Some(Promise::NoSingleRoot));
    let found = takeovers::explore(true, rules, wanted, FirstRoot::Included);
    assert!(found.broken.contains(&Promise::NoSingleRoot));
}

/// What the threat model does not promise is not had either: two verifiers with a memory each accept a use each.
#[test]
fn two_memories_give_two_uses() {
    let found = explore(Part::Histories(Scene::Uses), Rules::default(), None);
    assert!(found.accepted > 0);
}
