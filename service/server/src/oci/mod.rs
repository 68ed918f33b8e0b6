//! Capsules in registries of containers (oci-v1): pushed as artifacts, pulled by tag or by digest.

mod credentials;
mod manifest;
mod reference;
mod referrers;
mod transport;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use kvcap::{Code, Error, Result};
use sha2::{Digest as _, Sha256};

use self::{
    credentials::Credentials,
    manifest::{CapsuleManifest, EMPTY, EMPTY_DIGEST, MANIFEST},
    transport::{Body, Transport},
};

pub use self::{reference::ImageReference, referrers::Referrers};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Registry of containers, and an image in it.
#[derive(Debug)]
pub struct ImageRegistry {
    reference: ImageReference,
    transport: Transport,
}

/// Image that was pushed or pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of its manifest, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Length of the capsule.
    pub bytes: u64,
    /// Digest of the manifest that it is attached to.
    pub subject: Option<String>,
}

/// A manifest that a registry gave.
struct Given {
    media_type: String,
    digest: String,
    text: Vec<u8>,
}

impl Given {
    /// The digest of its layer and the image, where that holds a capsule.
    fn capsule(self) -> Option<(String, Image)> {
        let CapsuleManifest { layer, subject } = manifest::read(&self.text)?;
        let image = Image {
            digest: self.digest,
            bytes: layer.size,
            subject: subject.map(|subject| subject.digest),
        };
        Some((layer.digest, image))
    }
}

impl ImageRegistry {
    /// Returns the registry of an image, for who has name and password in a file like Docker's `config.json`, or asks
    /// without. With a file of authorities in PEM the registry's certificate is of one of them, else of one of the web's.
    ///
    /// # Errors
    /// KVC-943 where others can read the file; 945 for another form, and for a file without certificates; 940.
    pub fn of(
        reference: ImageReference,
        credentials: Option<&Path>,
        authorities: Option<&Path>,
    ) -> Result<Self> {
        let credentials = match credentials {
            Some(path) => Credentials::read(path, reference.host())?,
            None => Credentials::none(),
        };
        let transport = Transport::to(&reference, credentials, authorities)?;
        Ok(Self {
            reference,
            transport,
        })
    }

    /// Pushes a capsule, attached to another image of its repository if one is given; what the registry has already is not
    /// sent again.
    ///
    /// # Errors
    /// KVC-944 where the reference has the digest of another, and for a subject elsewhere; 940 where the registry refuses.
    pub fn push(&mut self, capsule: &File, subject: Option<&ImageReference>) -> Result<Image> {
        let subject = subject.map(|image| self.subject(image)).transpose()?;
        let (digest, bytes) = digest(capsule)?;
        let text = manifest::text(&digest, bytes, subject.as_ref());
        let own = sha256(text.as_bytes());
        if self.reference.digest().is_some_and(|digest| digest != own) {
            let what = "the reference has the digest of another image";
            return Err(Error::new(Code::LocalUsage, what).sides(&self.reference, &own));
        }
        let copy = || {
            let mut file = capsule.try_clone()?;
            file.seek(SeekFrom::Start(0)).map(|_| file)
        };
        self.bring(
            &format!("sha256:{digest}"),
            &|| copy().map(Body::File),
            bytes,
        )?;
        self.bring(EMPTY_DIGEST, &|| Ok(Body::Bytes(EMPTY.into())), 2)?;
        let path = format!("manifests/{}", self.reference.target().unwrap_or(&own));
        let answer = self
            .transport
            .ask("PUT", &path, &[("content-type", MANIFEST)], &|| {
                Ok(Body::Bytes(text.clone().into_bytes()))
            })?;
        answer.expect(&[201])?;
        let subject = subject.map(|subject| subject.digest);
        if let Some(subject) = &subject {
            // a registry that has an own list of what is attached says so
            let is_listed = answer.header("oci-subject") == Some(subject);
            if !is_listed {
                self.record(subject, &own, text.len())?;
            }
        }
        Ok(Image {
            digest: own,
            bytes,
            subject,
        })
    }

    /// A manifest, by its digest or its tag; `None` where it is not there.
    fn manifest(
        &mut self,
        image: &ImageReference,
        accepted: &str,
        longest: u64,
    ) -> Result<Option<Given>> {
        let path = format!("manifests/{}", image.wanted());
        let accept = [("accept", accepted)];
        let answer = self.transport.ask("GET", &path, &accept, &nothing)?;
        if answer.status() == 404 {
            return Ok(None);
        }
        answer.expect(&[200])?;
        let kind = answer.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let text = answer.bytes(longest)?;
        let digest = sha256(&text);
        if image.digest().is_some_and(|pinned| pinned != digest) {
            let what = "the registry gives another image than the digest names";
            return Err(Error::new(Code::LocalIo, what).at(image));
        }
        Ok(Some(Given {
            media_type: kind,
            digest,
            text,
        }))
    }

    /// Brings a blob that is not there.
    fn bring(&mut self, digest: &str, body: &dyn Fn() -> io::Result<Body>, len: u64) -> Result<()> {
        let there = self
            .transport
            .ask("HEAD", &format!("blobs/{digest}"), &[], &nothing)?;
        if there.status() == 200 {
            return Ok(());
        }
        there.expect(&[404])?;
        let begun = self
            .transport
            .ask("POST", "blobs/uploads/", &[], &nothing)?;
        begun.expect(&[202])?;
        let place = begun.location()?;
        let (and, len) = (if place.contains('?') { '&' } else { '?' }, len.to_string());
        let headers = [
            ("content-type", "application/octet-stream"),
            ("content-length", &*len),
        ];
        let put = self.transport.ask(
            "PUT",
            &format!("{place}{and}digest={digest}"),
            &headers,
            body,
        )?;
        put.expect(&[201])
    }

    /// Pulls a capsule into a file that is empty. It is the one that its manifest names, and nobody has verified it yet.
    ///
    /// # Errors
    /// KVC-940 where there is none, and where the registry gives something else; 910 for one of more than `most` bytes.
    pub fn pull(&mut self, mut to: &File, most: u64) -> Result<Image> {
        let image = self.reference.clone();
        let wrong = |what: &'static str| Error::new(Code::LocalIo, what).at(&image);
        let given = self.manifest(&image, MANIFEST, manifest::LONGEST)?;
        let given = given.ok_or_else(|| missing(&image))?;
        let (layer, pulled) = given
            .capsule()
            .ok_or_else(|| wrong("the image holds no capsule"))?;
        let size = pulled.bytes;
        if size > most {
            let what = "the capsule is longer than what is taken";
            return Err(Error::new(Code::ResourceBudget, what).sides(most, size));
        }
        let answer = self
            .transport
            .ask("GET", &format!("blobs/{layer}"), &[], &nothing)?;
        answer.expect(&[200])?;
        let (mut hasher, mut left) = (Sha256::new(), size);
        let mut body = answer.into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = body
                .read(&mut piece)
                .map_err(|error| Error::source(&error, &image))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            left = u64::try_from(read)
                .ok()
                .and_then(|read| left.checked_sub(read))
                .ok_or_else(|| wrong("the registry gives a longer capsule than the image names"))?;
            hasher.update(bytes);
            to.write_all(bytes)
                .map_err(|error| Error::sink(&error, "output"))?;
        }
        if left > 0 {
            return Err(wrong(
                "the registry gives a shorter capsule than the image names",
            ));
        }
        if named(&hasher.finalize()) != layer {
            return Err(wrong(
                "the registry gives another capsule than the image names",
            ));
        }
        Ok(pulled)
    }
}

fn missing(image: &ImageReference) -> Error {
    Error::new(Code::LocalIo, "the registry has no such image").at(image)
}

#[allow(clippy::unnecessary_wraps, reason = "as a file that is copied")]
fn nothing() -> io::Result<Body> {
    Ok(Body::Nothing)
}

/// SHA-256 of a file in hexadecimal digits, and its length.
fn digest(mut file: &File) -> Result<(String, u64)> {
    let failed = |error: io::Error| Error::source(&error, "capsule");
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let (mut hasher, mut len, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let read = file.read(&mut piece).map_err(failed)?;
        match piece.get(..read) {
            Some(bytes) if read > 0 => hasher.update(bytes),
            _ => break,
        }
        len += u64::try_from(read).unwrap_or(0);
    }
    Ok((hex(&hasher.finalize()), len))
}

fn sha256(bytes: &[u8]) -> String {
    named(&Sha256::digest(bytes))
}

fn named(digest: &[u8]) -> String {
    format!("sha256:{}", hex(digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
