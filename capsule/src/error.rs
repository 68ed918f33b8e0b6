//! The one error type: a stable code, what it concerns, and both sides of a disagreement.
//!
//! The registry is `spec/errors.md`; a test holds the two together. Texts may change, codes never.

use std::{borrow::Cow, fmt};

use crate::text::printable;

/// Answer of the command line to a code (capsule-v1 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The capsule or state is well formed but refused: exit 1.
    Refused,
    /// The request itself is not usable: exit 2.
    Usage,
    /// The input is malformed or over a limit: exit 3.
    Malformed,
    /// A file could not be read or written: exit 4.
    Io,
}

macro_rules! codes {
    ($($name:ident $number:literal $slug:literal $outcome:ident $text:literal;)+) => {
        /// A refusal's stable code (`spec/errors.md`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("KVC-", $number, " `", $slug, "`: ", $text, ".")] $name,)+
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            const fn row(self) -> (u16, &'static str, Outcome, &'static str) {
                match self { $(Self::$name => ($number, $slug, Outcome::$outcome, $text),)+ }
            }
        }
    };
}

codes! {
    FramingPrologueShort 101 "framing.prologue_short" Malformed "the file ends before the 64-byte prologue does";
    FramingMagic 102 "framing.magic" Malformed "the first eight bytes are not the magic of a KV capsule";
    FramingVersion 103 "framing.version" Malformed "the major version is not 1";
    FramingReserved 104 "framing.reserved" Malformed "a reserved byte of the prologue is not zero";
    FramingLength 105 "framing.length" Malformed "the envelope's length is zero, or a length is over its limit, no whole number of rows, or overflows";
    FramingTruncated 106 "framing.truncated" Malformed "the file ends inside the envelope or the tables";
    FramingPadding 107 "framing.padding" Malformed "a padding byte or an unused table row is not zero";
    FramingTrailing 108 "framing.trailing" Malformed "bytes follow the body";
    CborMalformed 201 "cbor.malformed" Malformed "the bytes are not well-formed CBOR, or a text is not UTF-8";
    CborNotCanonical 202 "cbor.not_canonical" Malformed "a length, an integer or the order of keys is not the deterministic form";
    CborDuplicateKey 203 "cbor.duplicate_key" Malformed "a map holds a key twice";
    CborLimit 204 "cbor.limit" Malformed "nesting or item count is over its limit";
    CborForbidden 205 "cbor.forbidden" Malformed "a float, tag, bignum or simple value that the profile forbids";
    CborTrailing 206 "cbor.trailing" Malformed "bytes follow a complete item";
    CoseStructure 210 "cose.structure" Malformed "the envelope is not a tagged COSE_Sign1 of four elements";
    CoseUnprotected 211 "cose.unprotected" Malformed "the unprotected header is not empty";
    CoseAlgorithm 212 "cose.algorithm" Malformed "the algorithm is not Ed25519 (-19)";
    CoseHeaderUnknown 213 "cose.header_unknown" Malformed "the protected header holds a label that the profile does not know";
    CoseHeaderMissing 214 "cose.header_missing" Malformed "the protected header lacks a required label";
    CoseCritical 215 "cose.critical" Malformed "the protected header holds a critical list";
    CoseType 216 "cose.type" Malformed "the content type or the type is not a capsule's";
    CoseDetached 217 "cose.detached" Malformed "the payload is not embedded";
    KeyUnknown 301 "key.unknown" Refused "no trusted key has this key id";
    KeyPurpose 302 "key.purpose" Refused "the key is not meant for this use or suite";
    KeyWindow 303 "key.window" Refused "the time lies outside the key's window";
    KeyCompromised 304 "key.compromised" Refused "the key is marked compromised";
    KeyWeak 305 "key.weak" Refused "the public key is weak or not canonical";
    SignatureMalformed 306 "signature.malformed" Refused "the signature is not 64 bytes with a reduced scalar";
    SignatureInvalid 307 "signature.invalid" Refused "the signature does not verify";
    RegistryUnsigned 308 "registry.unsigned" Refused "the registry lacks a valid root signature";
    RegistryVersion 309 "registry.version" Refused "the registry's version is not the next one";
    RegistryExpired 310 "registry.expired" Refused "the registry has expired";
    RegistryDuplicateKey 311 "registry.duplicate_key" Refused "two registry entries have one key id";
    KeyIssuer 312 "key.issuer" Refused "the issuer is not the one the key belongs to";
    RegistryMalformed 313 "registry.malformed" Malformed "the registry's listing is malformed or over a limit";
    RegistryRoots 314 "registry.roots" Refused "the statements about the registry's roots are no chain from the verifier's root, or older than seen";
    RegistryStale 315 "registry.stale" Refused "the registry's timestamp is missing, has expired, or is of another version";
    RegistryScope 316 "registry.scope" Refused "the registry lists a key for an issuer that its roots may not speak for, or they give more than they have";
    ClaimsMalformed 401 "claims.malformed" Refused "a claim is missing, of the wrong type, or contradicts another";
    ClaimsExpired 402 "claims.expired" Refused "the capsule has expired";
    ClaimsNotYetValid 403 "claims.not_yet_valid" Refused "the capsule is not valid yet, or was issued in the future";
    ClaimsLifetime 404 "claims.lifetime" Refused "the lifetime is longer than allowed";
    ClaimsAudience 405 "claims.audience" Refused "the capsule is meant for another audience";
    ClaimsSubject 406 "claims.subject" Refused "the capsule belongs to another subject";
    ClaimsTenant 407 "claims.organisation" Refused "the capsule belongs to another tenant";
    ClaimsScope 408 "claims.scope" Refused "the scope does not grant this use";
    ClaimsRevoked 409 "claims.revoked" Refused "the capsule is revoked";
    ClaimsReplayed 410 "claims.replayed" Refused "a single-use capsule was used before";
    ClaimsSequence 411 "claims.sequence" Refused "a newer capsule of the session was used already";
    ClaimsClock 412 "claims.clock" Refused "the clock went back";
    ClaimsSession 413 "claims.session" Refused "the capsule is of another session or checkpoint";
    ManifestField 501 "manifest.field" Malformed "a field is missing, unknown or of the wrong type";
    ManifestSuite 502 "manifest.suite" Malformed "the suite is unknown or not supported";
    ManifestLimit 503 "manifest.limit" Malformed "a count or length is over its limit";
    ManifestOffsets 504 "manifest.offsets" Malformed "the sum of the streams' lengths overflows";
    ManifestDuplicateBank 505 "manifest.duplicate_bank" Malformed "two banks have one identity";
    ManifestCriticalExtension 506 "manifest.critical_extension" Malformed "a critical extension is unknown";
    ManifestInconsistent 507 "manifest.inconsistent" Malformed "two statements of the capsule contradict each other";
    BindingModel 601 "binding.model" Refused "the capsule was made by another model";
    BindingTokenizer 602 "binding.tokenizer" Refused "the capsule was made with another tokenizer";
    BindingRope 603 "binding.rope" Refused "the rotary position embedding differs";
    BindingLayout 604 "binding.layout" Refused "element type, layout or state format differ";
    BindingPrefix 605 "binding.prefix" Refused "the capsule does not hold the state of this prompt";
    BindingPositions 606 "binding.positions" Refused "the positions are not those expected";
    BindingBankMissing 607 "binding.bank_missing" Refused "a bank that the model needs is not in the capsule";
    BindingRuntime 608 "binding.runtime" Refused "the capsule was made by another runtime or version";
    BindingEquivalence 609 "binding.equivalence" Refused "the statement of equivalence is about other models";
    BindingStatement 610 "binding.statement" Malformed "a statement about models is malformed";
    BindingUnchecked 612 "binding.unchecked" Refused "the capsule was not compared with something that nobody accepted";
    BindingCapture 613 "binding.capture" Refused "the state was captured in an unusual way that nobody accepted";
    LineageParentAbsent 701 "lineage.parent_absent" Refused "the parent capsule is missing";
    LineageParentDigest 702 "lineage.parent_digest" Refused "the parent is not the capsule that was meant";
    LineagePositions 703 "lineage.positions" Refused "the positions do not continue the parent's";
    LineageBinding 704 "lineage.binding" Refused "model, tokenizer, rope, layout or prompt differ from the parent's";
    LineageScope 705 "lineage.scope" Refused "the capsule claims more than its parent";
    LineageDepth 706 "lineage.depth" Refused "the chain is too long";
    LineageIssuer 707 "lineage.issuer" Refused "the parent has another issuer";
    LineageParentInvalid 708 "lineage.parent_invalid" Refused "the parent is expired or revoked";
    BodyTable 801 "body.table" Refused "a chunk table does not match its signed digest";
    BodyTableRows 802 "body.table_rows" Refused "a chunk table does not have the signed number of rows";
    BodyUnwrap 803 "body.unwrap" Refused "the content key could not be unwrapped";
    BodyCommitment 804 "body.commitment" Refused "the content key is not the one committed to";
    BodyChunkDigest 805 "body.leaf" Refused "a chunk does not match its signed hash";
    BodyChunk 806 "body.chunk" Refused "a chunk could not be opened";
    BodyTruncated 807 "body.truncated" Refused "the body ends early";
    BodyRecipient 808 "body.recipient" Malformed "a recipient entry is malformed";
    BodyNoKey 809 "body.no_key" Refused "no recipient entry is for this key";
    BodyRange 810 "body.range" Refused "the range lies outside the capsule";
    BodyKeyDestroyed 811 "body.key_destroyed" Refused "the key for this capsule was destroyed";
    CodecUnknown 901 "codec.unknown" Malformed "the codec is not known";
    CodecMalformed 902 "codec.malformed" Malformed "an encoded frame is malformed";
    CodecLength 903 "codec.length" Malformed "a length is not the one that the manifest gives, or a codec stands where it does not apply";
    CodecBounds 904 "codec.bounds" Malformed "an encoded frame asks for more than its bounds";
    CodecNonFinite 905 "codec.non_finite" Malformed "a scale, bias or value is not finite";
    CodecReceipt 906 "codec.receipt" Refused "the measured quality is not the signed one";
    CodecBackend 907 "codec.backend" Refused "a backend does not give the CPU's bits";
    CodecNoProfile 908 "codec.no_profile" Refused "the profile that the codecs decode with is not here";
    CodecProfile 909 "codec.profile" Malformed "a codec's profile is malformed, another model's, or not about the bank";
    ResourceBudget 910 "resource.budget" Malformed "the capsule is larger than the caller allows";
    StateUnrecognised 920 "state.unrecognised" Malformed "no adapter recognises the state file";
    StateMalformed 921 "state.malformed" Malformed "the state file is malformed or truncated";
    StateUnsupported 922 "state.unsupported" Refused "the state file holds something that no adapter carries";
    StateContradiction 923 "state.contradiction" Refused "the state file contradicts the model or itself";
    StateLimit 924 "state.limit" Malformed "a count in the state file is over its limit";
    StateUnknownPrefix 925 "state.unknown_prefix" Usage "the state does not carry its tokens and none were given";
    StateRestoreIneffective 926 "state.restore_ineffective" Refused "the runtime did not reuse what was restored";
    ModelMalformed 930 "model.malformed" Malformed "a model file is malformed";
    ModelUnsupported 931 "model.unsupported" Refused "the model uses something that a capsule cannot bind";
    ModelMissing 932 "model.missing" Io "the model folder lacks a needed file";
    ModelUnequal 933 "model.unequal" Refused "the two models are not the same";
    LocalIo 940 "local.io" Io "a file could not be read or written";
    LocalExists 941 "local.exists" Io "the output exists already";
    LocalKeyMalformed 942 "local.key_malformed" Usage "a key file is malformed";
    LocalKeyMode 943 "local.key_mode" Usage "a secret key file or a ledger is open to others, or belongs to another user";
    LocalUsage 944 "local.usage" Usage "the request is not well formed";
    LocalConfig 945 "local.config" Usage "the configuration is malformed, open to changes by others, or lacks the profile";
    LocalPassphrase 946 "local.passphrase" Usage "a key's passphrase is wrong, or nobody can be asked for it";
    LocalBusy 947 "local.busy" Io "another process is writing there, or took the lock away";
    LocalHelper 948 "local.helper" Io "a key's helper program fails, takes too long, or gives what is not good";
    SessionMalformed 950 "session.malformed" Malformed "an event, a record or an agent state is malformed";
    SessionLimit 951 "session.limit" Malformed "an event, a record, a log or a context is over its limit";
    SessionGap 952 "session.gap" Refused "an event is missing, or events are out of order";
    SessionFork 953 "session.fork" Refused "the log goes on in two ways";
    SessionVersion 954 "session.version" Refused "the version is not the next one, or exists with other content";
    SessionMissing 955 "session.missing" Refused "there is no such session, version or turn";
    SessionEmpty 956 "session.empty" Refused "the session has no turns yet";
    SessionNoState 957 "session.no_state" Refused "the checkpoint has no state";
    SessionBehind 958 "session.behind" Refused "what is asked lies before what the checkpoint still has";
    SessionContext 959 "session.context" Refused "positions and reserve are more than the runtime's context";
    SessionDiverged 960 "session.diverged" Refused "the request leaves the tokens of the state";
    SessionWhole 961 "session.whole" Refused "the state cannot be cut to fewer positions";
}

impl Code {
    /// The number, 101 to 999.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.row().0
    }

    /// The dotted name, `claims.expired`.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        self.row().1
    }

    /// Returns how the command line answers it.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        self.row().2
    }

    /// One sentence that says what it means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.row().3
    }

    /// The code with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.number() == number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KVC-{}", self.number())
    }
}

/// Refusal or failure: a stable code, what is wrong, and where it is known the place and both
/// sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Detail>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Detail {
    code: Code,
    what: Cow<'static, str>,
    place: Option<String>,
    expected: Option<Stated>,
    found: Option<Stated>,
    side: Option<IoSide>,
    kind: Option<std::io::ErrorKind>,
}

/// One side of a disagreement: as it is, and as a sentence shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stated {
    plain: String,
    shown: String,
}

impl Stated {
    fn said(text: impl fmt::Display) -> Self {
        let plain = text.to_string();
        let shown = printable(&plain).into_owned();
        Self { plain, shown }
    }

    /// Names in quotes, so that none ends before it ends and goes on with words of ours.
    fn names(names: &[&str]) -> Self {
        if names.is_empty() {
            return Self::said("none");
        }
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        Self {
            plain: names.join(" or "),
            shown: printable(&quoted.join(" or ")).into_owned(),
        }
    }
}

/// Side of a transfer that failed (KVC-940).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoSide {
    /// Input, which is read from.
    Source,
    /// Output, which is written to.
    Sink,
    /// Peer, who was asked over a network.
    Peer,
}

/// An error as a stranger may see it: the code and its registered text. It names no place, no side of
/// a disagreement, no key and no tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Public(Code);

impl Public {
    /// Returns the code that a stranger may see.
    #[must_use]
    pub fn code(self) -> Code {
        self.0
    }
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0;
        write!(f, "{code} {}: {}", code.slug(), code.meaning())
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a code and one lower-case sentence without a full stop.
    pub fn new(code: Code, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Detail {
            code,
            what: what.into(),
            place: None,
            expected: None,
            found: None,
            side: None,
            kind: None,
        }))
    }

    /// Says where: a field, a stream, a chunk, a file.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place = Some(match self.0.place.take() {
            None => place.to_string(),
            Some(inner) => format!("{place}: {inner}"),
        });
        self
    }

    /// Names both sides of a disagreement.
    #[must_use]
    pub fn sides(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.0.expected = Some(Stated::said(expected));
        self.0.found = Some(Stated::said(found));
        self
    }

    /// Names both sides of a disagreement where they are names that somebody chose: any of `expected`, and
    /// `found`. The sentence shows them in quotes.
    #[must_use]
    pub fn names(mut self, expected: &[&str], found: Option<&str>) -> Self {
        self.0.expected = Some(Stated::names(expected));
        self.0.found = Some(Stated::names(found.as_slice()));
        self
    }

    /// An operating system's error about `place`.
    #[must_use]
    pub fn io(error: &std::io::Error, place: impl fmt::Display) -> Self {
        let mut io = Self::new(Code::LocalIo, lower_first(&error.to_string())).at(place);
        io.0.kind = Some(error.kind());
        io
    }

    /// A failure to read `place` (KVC-940).
    #[must_use]
    pub fn source(error: &std::io::Error, place: impl fmt::Display) -> Self {
        let mut error = Self::io(error, place);
        error.0.side = Some(IoSide::Source);
        error
    }

    /// A failure to write `place` (KVC-940).
    #[must_use]
    pub fn sink(error: &std::io::Error, place: impl fmt::Display) -> Self {
        let mut error = Self::io(error, place);
        error.0.side = Some(IoSide::Sink);
        error
    }

    /// A failure to ask who is at `place` over a network (KVC-940). [`std::io::ErrorKind::InvalidData`] is that of one whose
    /// certificate is not accepted.
    #[must_use]
    pub fn peer(
        what: impl Into<Cow<'static, str>>,
        kind: std::io::ErrorKind,
        place: impl fmt::Display,
    ) -> Self {
        let mut error = Self::new(Code::LocalIo, what).at(place);
        (error.0.kind, error.0.side) = (Some(kind), Some(IoSide::Peer));
        error
    }

    /// Replaces the place: by who knows which file a library wrote to.
    #[must_use]
    pub fn moved_to(mut self, place: impl fmt::Display) -> Self {
        self.0.place = Some(place.to_string());
        self
    }

    /// Returns the kind of the operating system's error, where there is one.
    #[must_use]
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        self.0.kind
    }

    /// Returns the side that failed, where that is known.
    #[must_use]
    pub fn io_side(&self) -> Option<IoSide> {
        self.0.side
    }

    /// Returns what may be told to who sent the capsule. What fails at the content
    /// key or after it looks alike, as KVC-806 (capsule-v1 CAP-A-3): no stranger learns how far he came.
    #[must_use]
    pub fn public(&self) -> Public {
        Public(match self.code() {
            Code::BodyUnwrap
            | Code::BodyCommitment
            | Code::BodyChunk
            | Code::CodecUnknown
            | Code::CodecMalformed
            | Code::CodecLength
            | Code::CodecBounds
            | Code::CodecNonFinite => Code::BodyChunk,
            code => code,
        })
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence, without place and sides.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Place of the fault, if known.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.0.place.as_deref()
    }

    /// Returns what was wanted, where two sides disagree.
    #[must_use]
    pub fn expected(&self) -> Option<&str> {
        self.0.expected.as_ref().map(|side| side.plain.as_str())
    }

    /// Returns what was there instead.
    #[must_use]
    pub fn found(&self) -> Option<&str> {
        self.0.found.as_ref().map(|side| side.plain.as_str())
    }
}

/// The operating system's texts begin with a capital.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = &self.0;
        if let Some(place) = &detail.place {
            write!(f, "{}: ", printable(place))?;
        }
        f.write_str(&printable(&detail.what))?;
        if let (Some(expected), Some(found)) = (&detail.expected, &detail.found) {
            let (expected, found) = (&expected.shown, &found.shown);
            write!(f, " (expected {expected}, found {found})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_hears_the_code_alone() {
        let error = Error::new(
            Code::ClaimsSubject,
            "the capsule belongs to another subject",
        )
        .at("/home/ana")
        .names(&["ana"], Some("bob"));
        let shown = error.public().to_string();
        assert_eq!(
            shown,
            "KVC-406 claims.subject: the capsule belongs to another subject"
        );
        let of = |code| Error::new(code, "").public();
        assert_eq!(of(Code::BodyUnwrap), of(Code::BodyChunk));
        assert_eq!(of(Code::BodyCommitment), of(Code::CodecBounds));
        assert_ne!(of(Code::BodyChunkDigest), of(Code::BodyChunk));
    }

    #[test]
    fn names_are_in_quotes_only_where_a_sentence_holds_them() {
        let error = Error::new(Code::ClaimsAudience, "another").names(&["a", "b)"], Some("c\"\n"));
        assert_eq!(error.expected(), Some("a or b)"));
        assert_eq!(error.found(), Some("c\"\n"));
        assert_eq!(
            error.to_string(),
            r#"another (expected "a" or "b)", found "c\"\n")"#
        );
        let none = Error::new(Code::ClaimsSession, "none").names(&[], None);
        assert_eq!(none.to_string(), "none (expected none, found none)");
    }

    #[test]
    fn what_is_read_and_what_is_written_fail_apart() {
        let io = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(Error::source(&io, "a").io_side(), Some(IoSide::Source));
        assert_eq!(Error::sink(&io, "a").io_side(), Some(IoSide::Sink));
        assert_eq!(Error::io(&io, "a").io_side(), None);
    }
}
