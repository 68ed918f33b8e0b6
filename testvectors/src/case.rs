//! A vector before it is written: its file, its context, and what a reader must make of it.

use crate::{
    context::Context,
    fixture::{self, Capsule},
    parts::Parts,
    raw::Step,
};

/// Maker of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes were changed after signing.
    M,
    /// A trusted signer signed it.
    R,
    /// The file is valid; the context is not its own.
    C,
    /// There is none: the file must be accepted.
    A,
}

impl Kind {
    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::M => "M",
            Self::R => "R",
            Self::C => "C",
            Self::A => "A",
        }
    }
}

/// The first step, of a reader that verifies everything before it opens, which refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A trusted key is loaded.
    Trust,
    /// Prologue and envelope are read (capsule-v1 §3.2, 1–3).
    Header,
    /// Signature, manifest, claims, binding (4–10).
    Verify,
    /// The parents of a capsule that has one (lineage-v1 §2).
    Chain,
    /// Tables and body, without a key (11–12).
    Body,
    /// Content key, commitment, prefix (capsule-v1 §3.3, 21–26).
    Open,
    /// Chunks (27).
    Read,
    /// Frames (28).
    Decode,
    /// Every step passes.
    Accept,
}

impl Stage {
    /// Its name in `manifest.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Header => "header",
            Self::Verify => "verify",
            Self::Chain => "chain",
            Self::Body => "body",
            Self::Open => "open",
            Self::Read => "read",
            Self::Decode => "decode",
            Self::Accept => "accept",
        }
    }
}

/// Result of a case's function.
pub struct Made {
    /// The file.
    pub file: Vec<u8>,
    /// Context that the verifier brings along.
    pub context: Context,
    /// The encoded bytes of each stream.
    pub plain: Vec<Vec<u8>>,
    /// Number of them that a reader which opens without checking the body first gives out before it
    /// refuses.
    pub released: usize,
}

/// One vector.
pub struct Case {
    /// Its name: that of the row in `negative-cases.tsv`, where there is one.
    pub name: &'static str,
    /// Maker of the fault.
    pub kind: Kind,
    /// The code with which it is refused, 0 for acceptance.
    pub code: u16,
    /// The step that refuses.
    pub stage: Stage,
    /// Rules of the specification.
    pub rules: &'static [&'static str],
    /// Sentence that says what was done.
    pub what: &'static str,
    /// Makes it.
    pub make: fn() -> Made,
}

/// Declares cases: `/// what` `name: Kind code Stage ["rule"] = expression;`
#[macro_export]
macro_rules! cases {
    ($(#[doc = $what:literal] $name:ident: $kind:ident $code:literal $stage:ident [$($rule:literal)*] = $make:expr;)+) => {
        $(#[doc = $what] fn $name() -> $crate::case::Made { $make })+

        /// This file's cases.
        pub const CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: stringify!($name),
            kind: $crate::case::Kind::$kind,
            code: $code,
            stage: $crate::case::Stage::$stage,
            rules: &[$($rule),*],
            what: $what.trim_ascii(),
            make: $name,
        }),+];
    };
}

impl Made {
    /// `file` in the base capsule's context; nothing is released.
    #[must_use]
    pub fn of(capsule: Capsule) -> Self {
        Self {
            file: capsule.file,
            context: Context::default(),
            plain: capsule.plain,
            released: 0,
        }
    }

    /// Returns the file in another context.
    #[must_use]
    pub fn when(mut self, change: impl FnOnce(&mut Context)) -> Self {
        change(&mut self.context);
        self
    }

    /// Returns the file with so many bytes released before the fault is met.
    #[must_use]
    pub fn after(mut self, released: usize) -> Self {
        self.released = released;
        self
    }
}

/// The base capsule's bytes, changed.
pub fn mutated(change: impl FnOnce(&mut Vec<u8>)) -> Made {
    let mut made = Made::of(fixture::base());
    change(&mut made.file);
    made
}

/// The base capsule in another context.
pub fn given(change: impl FnOnce(&mut Context)) -> Made {
    Made::of(fixture::base()).when(change)
}

/// The base capsule's parts, changed and written without signing again.
pub fn unsigned(change: impl FnOnce(&mut Parts)) -> Made {
    made(false, false, change)
}

/// The base capsule's parts, changed and signed again.
pub fn signed(change: impl FnOnce(&mut Parts)) -> Made {
    made(false, true, change)
}

/// The base capsule's parts, changed, encrypted under what they now say, and signed again: what is
/// changed is the only fault.
pub fn sealed(change: impl FnOnce(&mut Parts)) -> Made {
    made(true, true, change)
}

fn made(seal: bool, sign: bool, change: impl FnOnce(&mut Parts)) -> Made {
    let mut parts = Parts::of(&fixture::base());
    change(&mut parts);
    if seal {
        parts.reseal();
    }
    if sign {
        parts.sign();
    }
    Made::of(Capsule {
        file: parts.file(),
        plain: parts.plain,
    })
}

/// A path of integer keys.
#[must_use]
pub fn keys<const N: usize>(path: [i64; N]) -> [Step; N] {
    path.map(Step::Key)
}

/// The path of a field of stream `index` in the manifest.
#[must_use]
pub const fn stream(index: usize, field: i64) -> [Step; 4] {
    [
        Step::Key(2),
        Step::Key(12),
        Step::At(index),
        Step::Key(field),
    ]
}
