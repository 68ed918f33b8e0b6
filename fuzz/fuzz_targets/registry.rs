//! Any bytes as a registry, and any payload under its root's signature: what is accepted has a next
//! version that says the same and follows it.

#![no_main]

use kvcap::{Registry, RootKey, UntrustedRegistry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let root = RootKey::from_seed(&[7; 32]);
    if let Ok(untrusted) = UntrustedRegistry::read(data) {
        assert_eq!(untrusted.danger_unverified_roots().is_some(), data[0] == 0x83);
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
