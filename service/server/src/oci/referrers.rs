//! What is attached to an image: found, and recorded where a registry does not do so itself (oci-v1 §5).

use kvcap::{Code, Error, Result};
use serde_json::{Value, json};

use super::{
    Image, ImageReference, ImageRegistry,
    manifest::{self, CAPSULE, Descriptor, MANIFEST},
    missing, nothing,
    reference::is_digest,
    transport::{Answer, Body, escaped},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a capsule may be attached to.
const SUBJECTS: [&str; 4] = [
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Longest manifest of a subject, and longest index, in bytes: what registries take.
const LONGEST: u64 = 4 << 20;

/// Most answers of a list.
const PAGES: usize = 16;

/// Most capsules that one image has.
const MOST: usize = 1024;

/// Times that an index is put which somebody else changes too.
const TRIES: usize = 5;

/// Capsules that are attached to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrers {
    /// Digest of the image's manifest.
    pub subject: String,
    /// The capsules, as the registry lists them. Nobody has verified them.
    pub images: Vec<Image>,
}

impl ImageRegistry {
    /// Returns the capsules that are attached to the image. What a list names and is not there, or is no capsule of this
    /// image, is left out.
    ///
    /// # Errors
    /// KVC-940 where there is no such image, and where the registry gives something else; 910 for a list that is too long.
    pub fn referrers(&mut self) -> Result<Referrers> {
        let subject = self.subject(&self.reference.clone())?.digest;
        let mut images = Vec::new();
        for digest in self.listed(&subject)? {
            let place = self.reference.pinned(&digest);
            let Some(found) = self.manifest(&place, MANIFEST, manifest::LONGEST)? else {
                continue;
            };
            if let Some((_, image)) = found.capsule()
                && image.subject.as_ref() == Some(&subject)
            {
                images.push(image);
            }
        }
        Ok(Referrers { subject, images })
    }

    /// What an image is named by, as the registry has it.
    pub(super) fn subject(&mut self, image: &ImageReference) -> Result<Descriptor> {
        if !image.is_beside(&self.reference) {
            let what = "a capsule is attached to what lies in its own repository";
            return Err(Error::new(Code::LocalUsage, what).sides(&self.reference, image));
        }
        let accepted = SUBJECTS.join(", ");
        let found = self.manifest(image, &accepted, LONGEST)?;
        let found = found.ok_or_else(|| missing(image))?;
        match SUBJECTS.iter().find(|known| **known == found.media_type) {
            Some(known) => Ok(Descriptor {
                media_type: (*known).to_owned(),
                size: u64::try_from(found.text.len()).unwrap_or(0),
                digest: found.digest,
            }),
            None => {
                let what = "the registry gives neither an image nor an index";
                Err(Error::new(Code::LocalIo, what).at(image))
            }
        }
    }

    /// The digests of what an image's list calls capsules: the registry's own, or else the one under a tag.
    fn listed(&mut self, subject: &str) -> Result<Vec<String>> {
        let kind = escaped(CAPSULE);
        let mut place = format!("referrers/{subject}?artifactType={kind}");
        let mut digests = Vec::new();
        for page in 0..PAGES {
            let accept = [("accept", INDEX)];
            let answer = self.transport.ask("GET", &place, &accept, &nothing)?;
            if page == 0 && answer.status() == 404 {
                if let Some((index, _)) = self.tagged(subject)? {
                    add(&index, &mut digests)?;
                }
                return Ok(digests);
            }
            answer.expect(&[200])?;
            let next = answer.next()?;
            add(&index(answer)?, &mut digests)?;
            match next {
                Some(next) => place = next,
                None => return Ok(digests),
            }
        }
        Err(too_long(subject))
    }

    /// The index under a subject's tag, if there is one, and its entity tag.
    fn tagged(&mut self, subject: &str) -> Result<Option<(Value, Option<String>)>> {
        let (place, accept) = (tag_of(subject), [("accept", INDEX)]);
        let answer = self.transport.ask("GET", &place, &accept, &nothing)?;
        if answer.status() == 404 {
            return Ok(None);
        }
        answer.expect(&[200])?;
        let etag = answer.header("etag").map(str::to_owned);
        Ok(Some((index(answer)?, etag)))
    }

    /// Has a manifest of ours stand in the index under its subject's tag, with all that stands there.
    pub(super) fn record(&mut self, subject: &str, own: &str, size: usize) -> Result<()> {
        let mut there = self.tagged(subject)?;
        for _ in 0..TRIES {
            if has(there.as_ref(), own) {
                return Ok(());
            }
            let none = || json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
            let (mut index, condition) = match there {
                // a weak one matches none (RFC 9110 §13.1.1)
                Some((index, etag)) => {
                    let etag = etag.filter(|tag| tag.starts_with('"'));
                    (index, etag.map(|tag| ("if-match", tag)))
                }
                None => (none(), Some(("if-none-match", "*".to_owned()))),
            };
            if let Some(all) = index["manifests"].as_array_mut() {
                all.push(json!({
                    "mediaType": MANIFEST, "digest": own, "size": size, "artifactType": CAPSULE,
                }));
            }
            let text = index.to_string().into_bytes();
            if u64::try_from(text.len()).is_ok_and(|len| len > LONGEST) {
                return Err(too_long(subject));
            }
            let mut headers = vec![("content-type", INDEX)];
            headers.extend(condition.as_ref().map(|(name, tag)| (*name, tag.as_str())));
            let body = || Ok(Body::Bytes(text.clone()));
            let put = self
                .transport
                .ask("PUT", &tag_of(subject), &headers, &body)?;
            put.expect(&[201, 412])?;
            // whoever read it before has put his own in its place
            there = self.tagged(subject)?;
        }
        match has(there.as_ref(), own) {
            true => Ok(()),
            false => {
                let what = "the list of what is attached is changed by others all the time";
                Err(Error::new(Code::LocalIo, what).at(&self.reference))
            }
        }
    }
}

/// The tag of what refers to a subject (distribution specification, referrers tag schema).
fn tag_of(subject: &str) -> String {
    format!("manifests/{}", subject.replace(':', "-"))
}

fn index(answer: Answer<'_>) -> Result<Value> {
    let place = answer.place();
    let index: Value = serde_json::from_slice(&answer.bytes(LONGEST)?).unwrap_or_default();
    let kind = &index["mediaType"];
    let is_index = index["schemaVersion"] == 2 && (kind == INDEX || kind.is_null());
    if is_index && index["manifests"].is_array() {
        return Ok(index);
    }
    let what = "the registry gives no list of what is attached";
    Err(Error::new(Code::LocalIo, what).at(place))
}

/// The digests of what an index calls capsules. A registry may not have looked for them alone.
fn add(index: &Value, digests: &mut Vec<String>) -> Result<()> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let digest = text(entry, "digest");
        let is_ours = text(entry, "mediaType") == MANIFEST
            && text(entry, "artifactType") == CAPSULE
            && is_digest(&digest);
        if !is_ours || digests.contains(&digest) {
            continue;
        }
        if digests.len() == MOST {
            return Err(too_long("referrers"));
        }
        digests.push(digest);
    }
    Ok(())
}

fn has(index: Option<&(Value, Option<String>)>, digest: &str) -> bool {
    let all = index.and_then(|(index, _)| index["manifests"].as_array());
    all.into_iter()
        .flatten()
        .any(|entry| entry["digest"] == digest)
}

fn too_long(place: &str) -> Error {
    let what = "the list of what is attached is longer than is read";
    Error::new(Code::ResourceBudget, what).at(place)
}
