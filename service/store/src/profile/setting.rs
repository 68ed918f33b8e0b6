//! The settings that a profile can hold: one row each, from which the file's keys, the variables and the reference
//! page follow.

/// Something that a profile, a variable or a flag can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// Issuer, who seals.
    Issuer,
    /// Audience, who may restore: also the name under which this verifier is known.
    Audience,
    /// The tenant.
    Tenant,
    /// On whose behalf.
    Subject,
    /// Time for which a capsule is valid.
    Ttl,
    /// The model.
    Model,
    /// Adapters on its weights.
    Adapter,
    /// Options that the runtime is told when it runs.
    RuntimeOpt,
    /// Tokens of context that the runtime is set to.
    ContextSize,
    /// The runtime.
    Runtime,
    /// Its version.
    RuntimeVersion,
    /// Encoding of the banks.
    Encoding,
    /// The secret signing key.
    SignKey,
    /// Secret wrapping keys, to seal for and to open with.
    WrapKey,
    /// Secret wrapping keys to open with alone.
    OpenKey,
    /// Public keys to seal for.
    Recipient,
    /// Public keys that are trusted, each with its issuer.
    Trust,
    /// Key registries that list who is trusted.
    Registry,
    /// The roots of those registries.
    RegistryRoot,
    /// Memory of the verifier from one capsule to the next.
    Ledger,
    /// Relay that keeps versions of sessions.
    Relay,
    /// The file of a token that it knows.
    RelayToken,
    /// The file of authorities whose certificates it may have.
    Ca,
}

/// How a setting's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a word.
    Text,
    /// A length of time: `24h`.
    Time,
    /// A whole number from 1 on.
    Count,
    /// A path.
    Path,
    /// Several words.
    Texts,
    /// Several paths, each perhaps with `=` and more after it.
    Paths,
    /// Several public keys, each a file or a key's text.
    Keys,
    /// Trusted keys, each also as `{ issuer, key }`; they decide what is trusted.
    Trusted,
    /// Public keys of roots: they decide what is trusted.
    Roots,
}

use Setting as S;

impl Setting {
    /// Every setting, in the order of the reference page.
    pub const ALL: [Self; 23] = [
        S::Issuer,
        S::Audience,
        S::Tenant,
        S::Subject,
        S::Ttl,
        S::Model,
        S::Adapter,
        S::RuntimeOpt,
        S::ContextSize,
        S::Runtime,
        S::RuntimeVersion,
        S::Encoding,
        S::SignKey,
        S::WrapKey,
        S::OpenKey,
        S::Recipient,
        S::Trust,
        S::Registry,
        S::RegistryRoot,
        S::Ledger,
        S::Relay,
        S::RelayToken,
        S::Ca,
    ];

    /// Returns its key in the file; with `--` before it also the program's flag, where that has one.
    #[must_use]
    pub const fn key(self) -> &'static str {
        self.row().0
    }

    /// Returns what it says, in a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.row().2
    }

    /// Returns what holds where nobody says anything.
    #[must_use]
    pub const fn fallback(self) -> &'static str {
        self.row().3
    }

    /// Returns how its value is written.
    #[must_use]
    pub const fn form(self) -> &'static str {
        match self.kind() {
            Kind::Text => "text",
            Kind::Time => "time: `90s`, `15m`, `24h`, `7d`",
            Kind::Count => "number",
            Kind::Path => "path",
            Kind::Texts => "list of texts",
            Kind::Paths => "list of paths",
            Kind::Keys | Kind::Roots => "list of files or keys' texts",
            Kind::Trusted => "list of `{ issuer, key }`, or of files or keys' texts",
        }
    }

    /// Returns the environment's variable: `KVCAP_` and the key in capitals.
    #[must_use]
    pub fn variable(self) -> String {
        format!("KVCAP_{}", self.key().to_uppercase().replace('-', "_"))
    }

    /// Returns the setting of a key.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.key() == key)
    }

    /// Returns whether it may have several values.
    #[must_use]
    pub const fn is_list(self) -> bool {
        match self.kind() {
            Kind::Text | Kind::Time | Kind::Count | Kind::Path => false,
            Kind::Texts | Kind::Paths | Kind::Keys | Kind::Trusted | Kind::Roots => true,
        }
    }

    /// Returns what a nearer source's word on this setting makes void in those behind it: whom to trust is decided
    /// in one place alone, and what was said of one model or runtime is not said of another.
    pub(super) const fn replaces(self) -> &'static [Self] {
        match self {
            S::Trust | S::Registry | S::RegistryRoot => &[S::Trust, S::Registry, S::RegistryRoot],
            S::WrapKey | S::Recipient => &[S::WrapKey, S::OpenKey, S::Recipient],
            S::Model => &[S::Adapter, S::RuntimeOpt, S::ContextSize],
            S::Runtime => &[S::RuntimeVersion],
            S::SignKey => &[S::Issuer],
            _ => &[],
        }
    }

    pub(super) const fn kind(self) -> Kind {
        self.row().1
    }

    /// Key, kind, meaning, default.
    const fn row(self) -> (&'static str, Kind, &'static str, &'static str) {
        match self {
            S::Issuer => (
                "issuer",
                Kind::Text,
                "who seals",
                "the signing key's issuer",
            ),
            S::Audience => (
                "audience",
                Kind::Text,
                "who may restore, and the name under which this verifier is known",
                "`local`",
            ),
            S::Tenant => ("tenant", Kind::Text, "the tenant", "none"),
            S::Subject => ("subject", Kind::Text, "whose state it is", "none"),
            S::Ttl => ("ttl", Kind::Time, "how long a capsule is valid", "none"),
            S::Model => (
                "model",
                Kind::Path,
                "the model: a folder, a GGUF file or a .kvid file",
                "none",
            ),
            S::Adapter => (
                "adapter",
                Kind::Paths,
                "adapters on the model's weights, each `PATH` or `PATH=SCALE`",
                "none",
            ),
            S::RuntimeOpt => (
                "runtime-opt",
                Kind::Texts,
                "what the runtime is told when it runs, each `KEY=VALUE`",
                "none",
            ),
            S::ContextSize => (
                "context-size",
                Kind::Count,
                "tokens of context that the runtime is set to",
                "not stated",
            ),
            S::Runtime => (
                "runtime",
                Kind::Text,
                "the runtime: `mlx-lm`, `llama-cpp`, `hf`, `raw`",
                "found out from the state",
            ),
            S::RuntimeVersion => (
                "runtime-version",
                Kind::Text,
                "the runtime's version or build; needs `runtime`",
                "not stated",
            ),
            S::Encoding => (
                "encoding",
                Kind::Text,
                "how banks are encoded: `exact`, `near`, `small`, `tiny`, `tc:RATE`, `auto:KL`, `q8`, `k8v4`, `q4`, `q4c`",
                "`exact`",
            ),
            S::SignKey => (
                "sign-key",
                Kind::Path,
                "the secret signing key's file",
                "none",
            ),
            S::WrapKey => (
                "wrap-key",
                Kind::Paths,
                "secret wrapping keys or key folders, to seal for and to open with",
                "none",
            ),
            S::OpenKey => (
                "open-key",
                Kind::Paths,
                "secret wrapping keys or key folders to open with alone, older ones for instance",
                "none",
            ),
            S::Recipient => (
                "recipient",
                Kind::Keys,
                "public keys whose holders can open what is sealed",
                "none",
            ),
            S::Trust => (
                "trust",
                Kind::Trusted,
                "public keys of who may have signed, each for one issuer",
                "none",
            ),
            S::Registry => (
                "registry",
                Kind::Paths,
                "key registries that list who may have signed; needs `registry-root`",
                "none",
            ),
            S::RegistryRoot => (
                "registry-root",
                Kind::Roots,
                "public keys of the roots that sign those registries; nothing beside them is trusted",
                "none",
            ),
            S::Ledger => (
                "ledger",
                Kind::Path,
                "what is remembered from one capsule to the next",
                "none",
            ),
            S::Relay => (
                "relay",
                Kind::Text,
                "the relay that keeps versions of sessions; needs `relay-token`",
                "none",
            ),
            S::RelayToken => (
                "relay-token",
                Kind::Path,
                "the private file of a token that the relay knows",
                "none",
            ),
            S::Ca => (
                "ca",
                Kind::Path,
                "authorities (PEM) whose certificates the relay may have, and no other",
                "the web's",
            ),
        }
    }
}
