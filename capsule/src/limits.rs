//! What a reader accepts before it allocates (capsule-v1 §10).

/// Limits of a reader. The default is the specification's; a caller may lower any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the envelope.
    pub envelope: u32,
    /// Bytes of the chunk tables.
    pub tables: u64,
    /// Streams of a capsule.
    pub streams: u64,
    /// Recipients of the content key.
    pub recipients: u64,
    /// Layers of a model.
    pub layers: u64,
    /// Adapters of a model.
    pub adapters: u64,
    /// Dimensions of a shape.
    pub dimensions: u64,
    /// Sum of plain bytes of all streams, in all capsules of a chain.
    pub budget: u64,
    /// Capsules of a chain, from its root to its tip.
    pub chain: usize,
}

/// Smallest chunk length of a stream.
pub const MIN_CHUNK: u64 = 4 << 10;
/// Largest chunk length of a stream.
pub const MAX_CHUNK: u64 = 16 << 20;
/// Longest lifetime that is accepted by default: 30 days, in seconds.
pub const MAX_LIFETIME: u64 = 30 * 24 * 3600;
/// Largest difference of clocks that `nbf` and `iat` are granted, in seconds.
pub const MAX_SKEW: u64 = 60;
/// Most chunks of a stream.
pub(crate) const MAX_CHUNKS: u64 = (1 << 32) - 1;
/// Deepest nesting of CBOR arrays and maps.
pub(crate) const CBOR_DEPTH: u32 = 8;
/// Most CBOR items of a header or manifest.
pub(crate) const CBOR_ITEMS: u64 = 262_144;
/// Longest text of a claim or a manifest, in bytes.
pub(crate) const TEXT: usize = 1024;

/// Longest key registry, in bytes (registry-v1 §2).
pub const MAX_REGISTRY: usize = 4 << 20;
/// Most keys of a registry.
pub(crate) const MAX_REGISTRY_KEYS: usize = 1024;
/// Most revoked capsules of a registry.
pub(crate) const MAX_REVOKED: usize = 65_536;

impl Default for Limits {
    fn default() -> Self {
        Self {
            envelope: 1 << 20,
            tables: 64 << 20,
            streams: 4096,
            recipients: 16,
            layers: 65_536,
            adapters: 64,
            dimensions: 8,
            budget: u64::MAX,
            chain: 64,
        }
    }
}
