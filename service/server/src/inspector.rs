//! The inspector: a page that verifies capsules in its reader's browser, served as it was built (web/inspect).

use std::path::Path;

use axum::{
    body::Bytes,
    response::{Html, IntoResponse, Response},
};
use kvcap::{Code, Error, Result};
use kvcap_store::input;

use crate::page;

/// Longest page, in bytes.
const LONGEST: u64 = 16 << 20;

/// Place in it where public keys are pasted.
const KEYS: &str = "</textarea>";

/// A built inspector, one HTML file.
#[derive(Clone, PartialEq, Eq)]
pub struct Inspector(Bytes);

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inspector of {} bytes", self.0.len())
    }
}

impl Inspector {
    /// Returns the one that this program was built with, if it was.
    #[must_use]
    pub fn built_in() -> Option<Self> {
        #[cfg(feature = "inspector")]
        let page = Some(Self(Bytes::from_static(include_bytes!(env!(
            "KVCAP_INSPECT_PAGE",
            "the feature inspector carries the page that KVCAP_INSPECT_PAGE names: web/inspect/build makes it"
        )))));
        #[cfg(not(feature = "inspector"))]
        let page = None;
        page
    }

    /// Reads one from a file.
    ///
    /// # Errors
    /// KVC-940; 945 where it is no inspector.
    pub fn read(path: &Path) -> Result<Self> {
        let page = input::small(path, LONGEST)?;
        match std::str::from_utf8(&page).is_ok_and(|page| page.contains(KEYS)) {
            true => Ok(Self(page.into())),
            false => {
                let what = "this is no inspector: web/inspect/build makes it";
                Err(Error::new(Code::LocalConfig, what).at(path.display()))
            }
        }
    }

    /// The page, with the texts of public keys in the field for them.
    pub(crate) fn with_keys(&self, keys: &str) -> Self {
        let page = String::from_utf8_lossy(&self.0);
        let Some((before, after)) = page.split_once(KEYS) else {
            return self.clone();
        };
        // a text area has no markup but its end, and entities
        let keys = keys.replace('&', "&amp;").replace('<', "&lt;");
        Self(format!("{before}{keys}{KEYS}{after}").into())
    }

    /// The page as an answer. What it may do stands in its own head; that nobody may frame it can be said here alone.
    pub(crate) fn answer(&self) -> Response {
        page::answer(
            Html(self.0.clone()).into_response(),
            "frame-ancestors 'none'",
        )
    }
}
