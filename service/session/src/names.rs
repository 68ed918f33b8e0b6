//! Whose session it is.

use kvcap::{Code, Error, Result, binding::Digest};
use serde::{Deserialize, Serialize};

use crate::value;

/// Names of a session: its id, and the tenant and subject that know it by that id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// The tenant, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The subject, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The session's id.
    pub session: String,
}

impl Names {
    /// Returns the names of a session of no tenant and no subject.
    #[must_use]
    pub fn of(session: &str) -> Self {
        Self {
            tenant: None,
            subject: None,
            session: session.to_owned(),
        }
    }

    /// Checks that each name can be a claim (capsule-v1 CAP-E-9).
    ///
    /// # Errors
    /// KVC-950.
    pub fn check(&self) -> Result<()> {
        let names = [
            self.tenant.as_ref(),
            self.subject.as_ref(),
            Some(&self.session),
        ];
        for name in names.into_iter().flatten() {
            if name.is_empty() || name.len() > 1024 || name.chars().any(char::is_control) {
                let what = "a name is a text of 1 to 1,024 bytes without control characters";
                return Err(Error::new(Code::SessionMalformed, what));
            }
        }
        Ok(())
    }

    /// Returns the head of an empty log that this session begins (session-v1 §3).
    ///
    /// # Errors
    /// KVC-951 for names that are no claims.
    pub fn origin(&self) -> Result<Digest> {
        let absent = String::new();
        let tenant = self.tenant.as_ref().unwrap_or(&absent);
        let subject = self.subject.as_ref().unwrap_or(&absent);
        let bytes = value::to_cbor(&[tenant, subject, &self.session], 4096)?;
        Ok(Digest::labelled("kvcap v1 log", &[&bytes]))
    }
}
