//! The one path on which trust is made (capsule-v1 §3.2).

mod binding;
pub(crate) mod body;
pub(crate) mod claims;
pub(crate) mod policy;
pub(crate) mod push;
pub(crate) mod step;
pub(crate) mod unchecked;
mod unlock;
pub(crate) mod untrusted;
