//! How much of everything (http-v1 §9).

use std::time::Duration;

/// Limits of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a capsule.
    pub capsule: u64,
    /// Bytes of an envelope.
    pub envelope: u32,
    /// Bytes of chunk tables.
    pub tables: u64,
    /// Bytes that are kept for a tenant.
    pub tenant: u64,
    /// Uploads at once.
    pub uploads: usize,
    /// Uploads of a tenant at once.
    pub tenant_uploads: usize,
    /// Requests of a tenant in a second.
    pub rate: u32,
    /// Requests of a tenant at once, before the rate counts.
    pub burst: u32,
    /// Connections.
    pub connections: usize,
    /// Time for the head of a request.
    pub head: Duration,
    /// Time without a byte of a body.
    pub silence: Duration,
    /// Least bytes of an upload in a second, on average and after the time of silence.
    pub slowest: u64,
    /// Time that a resumable upload lives without a request.
    pub resumable: Duration,
    /// Time from one sweep to the next.
    pub sweep: Duration,
    /// Time for ending what was begun.
    pub ending: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let reader = kvcap::Limits::default();
        Self {
            capsule: 16 << 30,
            envelope: reader.envelope,
            tables: reader.tables,
            tenant: 64 << 30,
            uploads: 256,
            tenant_uploads: 64,
            rate: 100,
            burst: 200,
            connections: 1024,
            head: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            slowest: 1024,
            resumable: Duration::from_secs(3600),
            sweep: Duration::from_secs(60),
            ending: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The limits of the push verifier.
    pub(crate) fn reader(&self) -> kvcap::Limits {
        kvcap::Limits {
            envelope: self.envelope,
            tables: self.tables,
            ..kvcap::Limits::default()
        }
    }
}
