//! The provider of TLS for all that is connected to.

use std::sync::Once;

/// TLS by ring, as the server's own.
pub(super) fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // another that was chosen before is as good
        let _there = rustls::crypto::ring::default_provider().install_default();
    });
}
