//! Any bytes as a registry, and any payload under its root's signature: what is accepted has a next
//! version that says the same and follows it. Any bytes as what travels beside one: notes, and proposals
//! of a next version.

#![no_main]

use std::str;

use kvcap::{Proposal, Registry, RootKey, UntrustedRegistry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let root = RootKey::from_seed(&[7; 32]);
    beside(data, &root);
    if let Ok(untrusted) = UntrustedRegistry::read(data) {
        assert_eq!(
            untrusted.danger_unverified_roots().is_some(),
            data[0] == 0x83
        );
        let shown = untrusted.danger_unverified_listing();
        if let Ok(registry) = untrusted.verify_at_any_time(&root.public()) {
            assert_eq!(shown.ok().as_ref(), Some(registry.listing()));
            check(&registry, &root);
        }
    }
    let signed = root.danger_sign(data);
    let untrusted = UntrustedRegistry::read(&signed).expect("the envelope is good");
    let shown = untrusted.danger_unverified_listing();
    let stranger = RootKey::from_seed(&[8; 32]).public();
    assert!(
        UntrustedRegistry::read(&signed)
            .is_ok_and(|other| other.verify_at_any_time(&stranger).is_err())
    );
    if let Ok(registry) = untrusted.verify_at_any_time(&root.public()) {
        assert_eq!(shown.ok().as_ref(), Some(registry.listing()));
        check(&registry, &root);
    }
});

fn check(registry: &Registry, root: &RootKey) {
    let old = registry.listing();
    // under several roots no key alone signs the next version
    if old.version == u64::MAX || registry.roots().is_some() {
        return;
    }
    let bytes = registry
        .next(&[], root, old.issued_at, old.expires)
        .expect("it goes on");
    let next = UntrustedRegistry::read(&bytes).expect("what is written is read");
    let next = next
        .verify_at_any_time(&root.public())
        .expect("and verified");
    assert!(next.follows(&registry.mark()).is_ok());
    assert!(registry.follows(&next.mark()).is_err());
    assert_eq!(
        (&next.listing().keys, &next.listing().revoked),
        (&old.keys, &old.revoked)
    );
    assert_eq!(next.trust().ids().count(), old.keys.len());
}

fn beside(data: &[u8], root: &RootKey) {
    let first = Registry::first(root, 1_800_000_000, 1_800_086_400).expect("it begins");
    let untrusted = UntrustedRegistry::read(&first).expect("what is written is read");
    let registry = untrusted
        .verify_at_any_time(&root.public())
        .expect("and verified");
    let note = registry.note(root).expect("its root signs");
    if let Ok(text) = str::from_utf8(data) {
        assert!(registry.check_notes(&[text]).is_err() || text.starts_with(&note[..64]));
        // whatever is signed beside it, it is still that version's
        if let Ok(marks) = registry.check_notes(&[&format!("{note}{text}")]) {
            assert_eq!(marks, [registry.mark()]);
        }
    }
    if let Ok(proposal) = Proposal::read(data, &registry) {
        let bytes = proposal.to_bytes();
        let again = Proposal::read(&bytes, &registry).expect("what is written is read");
        assert_eq!(again.to_bytes(), bytes);
    }
}
