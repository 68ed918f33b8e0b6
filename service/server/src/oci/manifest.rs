//! The manifest of a capsule (oci-v1 §1).

use serde::Deserialize;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The configuration that says nothing, and its digest.
pub(super) const EMPTY: &str = "{}";
pub(super) const EMPTY_DIGEST: &str =
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

const CAPSULE: &str = "application/vnd.kvcap";

/// Longest manifest, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;

/// The one layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// With its algorithm.
    pub(super) digest: String,
    pub(super) size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u64,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// The manifest of a capsule: the same bytes each time.
pub(super) fn text(digest: &str, size: u64) -> String {
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"artifactType\":\"{CAPSULE}\",\
         \"config\":{{\"mediaType\":\"{EMPTY_TYPE}\",\"digest\":\"{EMPTY_DIGEST}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"{CAPSULE}\",\"digest\":\"sha256:{digest}\",\"size\":{size}}}]}}"
    )
}

/// The layer of a capsule's manifest; nothing where it is another's.
pub(super) fn read(text: &[u8]) -> Option<Layer> {
    let manifest: Manifest = serde_json::from_slice(text).ok()?;
    let mut layers = manifest.layers.into_iter();
    let (layer, config) = (layers.next()?, manifest.config);
    let is_ours = manifest.schema_version == 2
        && manifest.media_type == MANIFEST
        && manifest.artifact_type == CAPSULE
        && config.media_type == EMPTY_TYPE
        && (config.digest == EMPTY_DIGEST && config.size == 2)
        && layer.media_type == CAPSULE
        && super::reference::is_digest(&layer.digest)
        && layers.next().is_none();
    is_ours.then_some(Layer {
        digest: layer.digest,
        size: layer.size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capsule_s_manifest_is_read_back_and_no_other() {
        let (digest, size) = ("ab".repeat(32), 27_152);
        let own = text(&digest, size);
        let layer = Layer {
            digest: format!("sha256:{digest}"),
            size,
        };
        assert_eq!(read(own.as_bytes()), Some(layer));
        assert_eq!(super::super::sha256(EMPTY.as_bytes()), EMPTY_DIGEST);
        for (from, to) in [
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            (MANIFEST, "application/vnd.oci.image.index.v1+json"),
            ("\"artifactType\":\"application/vnd.kvcap\",", ""),
            (EMPTY_TYPE, "application/vnd.oci.image.config.v1+json"),
            ("sha256:ab", "sha512:ab"),
            ("\"size\":27152", "\"size\":-1"),
            (
                "}]}",
                "},{\"mediaType\":\"a\",\"digest\":\"b\",\"size\":1}]}",
            ),
        ] {
            let other = own.replace(from, to);
            assert_ne!(other, own, "{from}");
            assert_eq!(read(other.as_bytes()), None, "{to}");
        }
        let with_more = own.replace("{\"schema", " {\"annotations\":{\"a\":\"b\"}, \"schema");
        assert!(read(with_more.as_bytes()).is_some());
    }
}
