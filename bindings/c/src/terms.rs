//! On what terms a capsule is judged.

use std::ffi::c_char;

use kvcap_calls::{Asked, Terms};

use crate::{
    given::{number, some_text, texts},
    profile::kvcap_profile,
    status::{Failed, usage},
};

/// Terms that a capsule is judged on. Zeros: on those of the user's own profile.
#[repr(C)]
pub struct kvcap_terms {
    /// Whom to trust, whose keys, which model; NULL for the user's own.
    pub profile: Option<&'static kvcap_profile>,
    /// Names of checks that may be left out.
    pub accept_unchecked: *const *const c_char,
    /// Their number.
    pub accept_unchecked_count: usize,
    /// Paths of ancestors; where there are none, they are looked for in the capsule's folder.
    pub chain: *const *const c_char,
    /// Their number.
    pub chain_count: usize,
    /// Id of the session that the capsule must be of.
    pub session: *const c_char,
    /// Its version, or NULL for any.
    pub session_version: *const u64,
    /// Its replay cursor, or NULL for any.
    pub replay_cursor: *const u64,
    /// Element type of keys, such as `f16`, given together with that of values.
    pub key_dtype: *const c_char,
    /// Element type of values.
    pub value_dtype: *const c_char,
}

/// Terms as the library takes them.
pub(crate) fn terms(given: Option<&kvcap_terms>) -> Result<Terms, Failed> {
    let Some(given) = given else {
        return Ok(Terms::new(None, Asked::default())?);
    };
    let (accepted, chain) = (given.accept_unchecked, given.chain);
    let session = some_text(given.session, "session")?;
    let versions = (number(given.session_version), number(given.replay_cursor));
    let keys = some_text(given.key_dtype, "key_dtype")?;
    let values = some_text(given.value_dtype, "value_dtype")?;
    if keys.is_some() != values.is_some() {
        return Err(usage("element types are given together", "key_dtype"));
    }
    let asked = Asked {
        accept_unchecked: texts(accepted, given.accept_unchecked_count, "accept_unchecked")?,
        chain: texts(chain, given.chain_count, "chain")?
            .into_iter()
            .map(Into::into)
            .collect(),
        session: session.map(|id| (id, versions.0, versions.1)),
        dtypes: keys.zip(values),
    };
    Ok(Terms::new(given.profile.map(kvcap_profile::shared), asked)?)
}
