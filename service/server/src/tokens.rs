//! Who may: bearer tokens, of which only digests are kept (http-v1 §3).

use std::{collections::HashMap, fmt, sync::Arc};

use kvcap::{Code, Error, Result, binding::Digest};

const TAG: &str = "kvcap-token-1";

/// Use of the relay that a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Uploads, and removes what was uploaded.
    Put,
    /// Reads capsules.
    Get,
    /// Lists sessions, and reads them.
    SessionGet,
    /// Writes to sessions, and saves them.
    SessionPut,
    /// Evaluates with what sessions and capsules restore.
    Restore,
    /// Reads metrics.
    Admin,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Put,
        Self::Get,
        Self::SessionGet,
        Self::SessionPut,
        Self::Restore,
        Self::Admin,
    ];

    /// Returns its name (http-v1 §3).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "capsule:put",
            Self::Get => "capsule:get",
            Self::SessionGet => "session:get",
            Self::SessionPut => "session:put",
            Self::Restore => "kv:restore",
            Self::Admin => "admin",
        }
    }
}

/// Meaning of a token: whom it names, and what he may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Tenant of the caller and of his capsules.
    pub tenant: Option<String>,
    /// Subject of the caller and of his capsules.
    pub subject: Option<String>,
    /// Uses that are permitted.
    pub may: Vec<Permission>,
}

/// Tokens by their digests.
#[derive(Clone, Debug, Default)]
pub struct Tokens(HashMap<Digest, Arc<Token>>);

impl Tokens {
    /// Adds a token by the digest of its text.
    ///
    /// # Errors
    /// KVC-945 for a digest that is there.
    pub fn add(&mut self, digest: Digest, token: Token) -> Result<()> {
        match self.0.insert(digest, Arc::new(token)) {
            None => Ok(()),
            Some(_) => {
                let what = "two tokens have one digest";
                Err(Error::new(Code::LocalConfig, what).at(digest))
            }
        }
    }

    /// Returns the number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token that the value of an `Authorization` header names.
    pub(crate) fn find(&self, authorization: &str) -> Option<Arc<Token>> {
        let (scheme, text) = authorization.split_once(' ')?;
        let text = text.trim();
        let hex = text.strip_prefix(TAG)?;
        if !scheme.eq_ignore_ascii_case("bearer") || Digest::from_hex(hex).is_none() {
            return None;
        }
        self.0.get(&digest(text)).cloned()
    }
}

/// A new token. Its `Debug` does not show it.
pub struct NewToken {
    text: String,
}

impl NewToken {
    /// Makes a token of 32 random bytes.
    ///
    /// # Errors
    /// KVC-940 where the system's generator fails.
    pub fn generate() -> Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| {
            Error::new(Code::LocalIo, "the system's random generator gives nothing")
        })?;
        let text = format!("{TAG}{}", Digest(secret));
        Ok(Self { text })
    }

    /// Returns the token of this text, if it is one.
    #[cfg(feature = "gateway")]
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let known = text.strip_prefix(TAG).and_then(Digest::from_hex);
        known.map(|_| Self {
            text: text.to_owned(),
        })
    }

    /// Returns the token, which its caller keeps.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the digest, which the relay keeps.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&self.text)
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewToken({})", self.digest())
    }
}

fn digest(text: &str) -> Digest {
    Digest::labelled("kvcap v1 bearer token", &[text.as_bytes()])
}
