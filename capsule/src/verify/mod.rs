//! The one path on which trust is made (capsule-v1 §11.2).

mod binding;
pub(crate) mod body;
pub(crate) mod claims;
pub(crate) mod policy;
pub(crate) mod push;
pub(crate) mod step;
mod unlock;
pub(crate) mod untrusted;

pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}
