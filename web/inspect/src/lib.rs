//! A capsule verified in a browser, as its bytes come; nothing leaves the page.
//!
//! ```text
//! page ─request→ Inspector ─feed→ kvcap's push verifier ─report→ page
//! ```
//!
//! It is for looking: who states no audience is shown the capsule by its own (CAP-V-5), and the report names
//! what was not checked (CAP-V-12). It opens nothing, and holds no secret.

mod abi;
mod inspector;
mod request;
mod view;

pub use inspector::Inspector;
pub use request::Request;
