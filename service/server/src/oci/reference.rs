//! Names of images (oci-v1 §2).

use std::{fmt, net::IpAddr, str::FromStr};

use kvcap::{Code, Error, Result};

/// Longest name, in bytes.
const LONGEST: usize = 255;

/// Image in a registry of containers: `HOST[:PORT]/NAME[:TAG][@sha256:DIGEST]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    host: String,
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageReference {
    /// The registry, with its port if that was said.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The digest that the image must have, with its algorithm.
    pub(super) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What its manifest is got by: the digest, or else the tag.
    pub(super) fn wanted(&self) -> &str {
        let tag = self.tag.as_deref().unwrap_or_default();
        self.digest().unwrap_or(tag)
    }

    /// The image of a digest in the same repository.
    pub(super) fn pinned(&self, digest: &str) -> Self {
        Self {
            tag: None,
            digest: Some(digest.to_owned()),
            ..self.clone()
        }
    }

    /// Whether another image lies in the same repository.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (&self.host, &self.name) == (&other.host, &other.name)
    }

    /// The name under which a manifest is put.
    pub(super) fn target(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

impl FromStr for ImageReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            let what = "an image is named HOST/NAME:TAG, HOST/NAME@sha256:DIGEST, or with both";
            Error::new(Code::LocalUsage, what)
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn parse(text: &str) -> Option<ImageReference> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.to_owned()).filter(|text| is_digest(text))),
        None => (text, None),
    };
    let (host, path) = rest.split_once('/')?;
    let (name, tag) = match path.split_once(':') {
        Some((name, tag)) => (name, Some(tag.to_owned()).filter(|text| is_tag(text))),
        None => (path, None),
    };
    // what was said and is none is missed here
    let has_all = tag.is_some() == path.contains(':') && digest.is_some() == text.contains('@');
    let is_named = tag.is_some() || digest.is_some();
    let is_whole = is_host(host) && is_name(name) && has_all && is_named;
    is_whole.then(|| ImageReference {
        host: host.to_owned(),
        name: name.to_owned(),
        tag,
        digest,
    })
}

/// `sha256:` and 64 hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default().as_bytes();
    let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    digits.len() == 64 && digits.iter().all(is_digit)
}

/// Whether a host is this machine. One with a name of a user before it is not.
pub(super) fn is_loopback(host: &str) -> bool {
    if host.contains('@') {
        return false;
    }
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = name.parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A name or address, and a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let is_named =
        host.bytes().all(is_known) && host.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_named && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Parts of small letters and digits, with separators between them.
fn is_name(name: &str) -> bool {
    let is_end = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_part = |part: &str| {
        let known = |byte: u8| is_end(Some(byte)) || b"._-".contains(&byte);
        let runs = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let joins = |run: &str| {
            run.is_empty() || [".", "_", "__"].contains(&run) || run.bytes().all(|b| b == b'-')
        };
        part.bytes().all(known)
            && is_end(part.bytes().next())
            && is_end(part.bytes().last())
            && runs.into_iter().all(joins)
    };
    name.len() <= LONGEST && name.split('/').all(is_part)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let known = |byte: u8| is_word(byte) || b".-".contains(&byte);
    tag.len() <= 128 && tag.bytes().next().is_some_and(is_word) && tag.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_told_apart() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in [
            "localhost:5000/bases/agent:v1".to_owned(),
            "ghcr.io/lab/base_image/a-b--c.d:2026-11".to_owned(),
            format!("[::1]:5000/a@{digest}"),
            format!("registry.example.com/a:b@{digest}"),
        ] {
            let parsed = good.parse::<ImageReference>().unwrap();
            assert_eq!(parsed.to_string(), good);
        }
        for bad in [
            "",
            "a",
            "host/name",
            "host/name:",
            "host/Name:v1",
            "host//name:v1",
            "host/../name:v1",
            "host/a..b:v1",
            "host/a/:v1",
            "host:x/name:v1",
            "host/name:v1?x",
            "user@host/name:v1",
            "http://host/name:v1",
            "host/name@sha256:00",
            "ho st/name:v1",
        ] {
            let refused = bad.parse::<ImageReference>().unwrap_err();
            assert_eq!(refused.code(), Code::LocalUsage, "{bad}");
        }
        let is_here = |host| is_loopback(host);
        assert!(
            ["localhost", "localhost:1", "127.0.0.1:5000", "[::1]:1"].map(is_here) == [true; 4]
        );
        assert!(["127.example.com", "localhost.com", "10.0.0.1"].map(is_here) == [false; 3]);
    }
}
