//! The steps of verification, for whoever times or counts them.

/// A step of the one path from bytes to trust; each is told when it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The key is trusted and its signature verifies.
    Signature,
    /// The manifest is decoded and its statements agree.
    Manifest,
    /// Key window, revocation, times, audience, subject, tenant, scope.
    Claims,
    /// Model, tokenizer, rope, runtime, banks.
    Binding,
    /// The chunk tables are the signed ones.
    Tables,
    /// Every chunk is the signed one.
    Body,
}

impl Step {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Manifest => "manifest",
            Self::Claims => "claims",
            Self::Binding => "binding",
            Self::Tables => "tables",
            Self::Body => "body",
        }
    }
}
