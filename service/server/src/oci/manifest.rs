//! The manifest of a capsule (oci-v1 §1).

use serde::Deserialize;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The configuration that says nothing, and its digest.
pub(super) const EMPTY: &str = "{}";
pub(super) const EMPTY_DIGEST: &str =
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

pub(super) const CAPSULE: &str = "application/vnd.kvcap";

/// Longest manifest, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;

/// The manifest of a capsule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CapsuleManifest {
    /// The one layer, of its own media type.
    pub(super) layer: Descriptor,
    /// What it is attached to.
    pub(super) subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u64,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    subject: Option<Descriptor>,
}

/// What names a blob or a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    /// With its algorithm.
    pub(super) digest: String,
    pub(super) size: u64,
}

/// The manifest of a capsule, which may be attached to something: the same bytes each time.
pub(super) fn text(digest: &str, size: u64, subject: Option<&Descriptor>) -> String {
    let subject = subject.map_or_else(String::new, |subject| {
        let Descriptor { media_type, digest, size } = subject;
        format!(",\"subject\":{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{size}}}")
    });
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"artifactType\":\"{CAPSULE}\",\
         \"config\":{{\"mediaType\":\"{EMPTY_TYPE}\",\"digest\":\"{EMPTY_DIGEST}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"{CAPSULE}\",\"digest\":\"sha256:{digest}\",\"size\":{size}}}]{subject}}}"
    )
}

/// A capsule's manifest; nothing where it is another's.
pub(super) fn read(text: &[u8]) -> Option<CapsuleManifest> {
    let manifest: Manifest = serde_json::from_slice(text).ok()?;
    let mut layers = manifest.layers.into_iter();
    let (layer, config, subject) = (layers.next()?, manifest.config, manifest.subject);
    let is_named = |of: &Descriptor| super::reference::is_digest(&of.digest);
    let is_ours = manifest.schema_version == 2
        && manifest.media_type == MANIFEST
        && manifest.artifact_type == CAPSULE
        && config.media_type == EMPTY_TYPE
        && (config.digest == EMPTY_DIGEST && config.size == 2)
        && layer.media_type == CAPSULE
        && is_named(&layer)
        && subject.as_ref().is_none_or(is_named)
        && layers.next().is_none();
    is_ours.then_some(CapsuleManifest { layer, subject })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capsule_s_manifest_is_read_back_and_no_other() {
        let (digest, size) = ("ab".repeat(32), 27_152);
        let own = text(&digest, size, None);
        let layer = Descriptor {
            media_type: CAPSULE.to_owned(),
            digest: format!("sha256:{digest}"),
            size,
        };
        let read_back = |text: &str| read(text.as_bytes()).map(|read| (read.layer, read.subject));
        assert_eq!(read_back(&own), Some((layer.clone(), None)));
        let subject = Descriptor {
            media_type: MANIFEST.to_owned(),
            digest: format!("sha256:{}", "cd".repeat(32)),
            size: 7,
        };
        let attached = text(&digest, size, Some(&subject));
        let member = own.strip_suffix('}').unwrap().to_owned()
            + &format!(
                r#","subject":{{"mediaType":"{MANIFEST}","digest":"{}","size":7}}}}"#,
                subject.digest
            );
        assert_eq!(attached, member, "it comes last");
        assert_eq!(read_back(&attached), Some((layer, Some(subject))));
        for (from, to) in [("sha256:cd", "sha512:cd"), ("\"size\":7", "\"size\":\"7\"")] {
            assert_eq!(read_back(&attached.replace(from, to)), None, "{to}");
        }
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
