//! The one error of this crate: a stable code, what went wrong, and where (codecs-v1 §9).

use std::fmt;

/// Kind of a refusal; the numbers are the format's registered codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 901: the codec or its parameters are not known.
    Unknown,
    /// 902: the encoded bytes break a rule of their codec.
    Malformed,
    /// 903: a length is not the one that shape and codec give, or the codec does not serve such banks.
    Length,
    /// 904: the encoded bytes ask for more than their bounds.
    Bounds,
    /// 905: a value, scale or bias is not finite.
    NonFinite,
    /// 908: the profile that a codec needs is not there.
    NoProfile,
    /// 909: a profile breaks a rule, or is not about the bank.
    Profile,
}

/// An element of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Row of the bank, counted from its first token.
    pub token: u64,
    /// Head.
    pub head: u64,
    /// Element of the head.
    pub channel: u64,
}

/// A refusal of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecError {
    kind: ErrorKind,
    what: &'static str,
    place: Option<Place>,
    sides: Option<(u64, u64)>,
}

impl CodecError {
    pub(crate) const fn new(kind: ErrorKind, what: &'static str) -> Self {
        Self {
            kind,
            what,
            place: None,
            sides: None,
        }
    }

    /// The kind of refusal.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The registered code: 901 to 905, 908, 909.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self.kind {
            ErrorKind::Unknown => 901,
            ErrorKind::Malformed => 902,
            ErrorKind::Length => 903,
            ErrorKind::Bounds => 904,
            ErrorKind::NonFinite => 905,
            ErrorKind::NoProfile => 908,
            ErrorKind::Profile => 909,
        }
    }

    /// The element concerned, where one is.
    #[must_use]
    pub const fn place(&self) -> Option<Place> {
        self.place
    }

    /// Expected and found, where two lengths disagree.
    #[must_use]
    pub const fn lengths(&self) -> Option<(u64, u64)> {
        self.sides
    }
}

#[cfg(feature = "encode")]
impl CodecError {
    pub(crate) const fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Names both sides of a disagreement about a length or count.
    pub(crate) fn sides(mut self, expected: u64, found: usize) -> Self {
        self.sides = Some((expected, u64::try_from(found).unwrap_or(u64::MAX)));
        self
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if let Some((expected, found)) = self.sides {
            write!(f, " (expected {expected}, found {found})")?;
        }
        if let Some(p) = self.place {
            write!(
                f,
                " at token {}, head {}, channel {}",
                p.token, p.head, p.channel
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for CodecError {}
