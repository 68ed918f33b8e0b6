//! What calls return: the library's results, as classes of Python's.

/// Declares a class with the fields of one of the library's results, and how it is shown.
macro_rules! result {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$said:meta])* $field:ident: $type:ty,)* }
        $this:ident => $shown:expr
    ) => {
        $(#[$doc])*
        #[pyclass(frozen, get_all, module = "kvcap")]
        pub(crate) struct $name {
            $($(#[$said])* $field: $type,)*
        }

        impl From<library::$name> for $name {
            fn from(made: library::$name) -> Self {
                Self { $($field: made.$field,)* }
            }
        }

        #[pymethods]
        impl $name {
            fn __repr__(&self) -> String {
                let $this = self;
                $shown
            }
        }
    };
}

use std::path::PathBuf;

use kvcap_calls as library;
use pyo3::prelude::*;

result! {
    /// Judgement of a capsule that was accepted: who vouched for what, and what was not checked.
    Verdict {
        /// The capsule's id.
        id: String,
        /// Id of the key that signed it.
        key: String,
        /// Who sealed it.
        issuer: String,
        /// Who may restore it.
        audience: String,
        /// The tenant, or None.
        tenant: Option<String>,
        /// Whose state it is, or None.
        subject: Option<String>,
        /// When it expires, with its ancestors, in seconds since 1970.
        expires: u64,
        /// Time that it was judged by.
        judged_at: u64,
        /// Model id, in hexadecimal.
        model_id: String,
        /// Model's name, as the sealer has it.
        model_name: String,
        /// Runtime's name and its version, empty where none is stated.
        runtime: (String, String),
        /// First position held and the one after the last, with the ancestors'.
        positions: (u64, u64),
        /// Ids of the capsule and of the ancestors that were found.
        chain: Vec<String>,
        /// Session's id, version and replay cursor, or None.
        session: Option<(String, u64, u64)>,
        /// Names of the checks that were left out.
        unchecked: Vec<&'static str>,
        /// Those of them that the caller has not accepted by name.
        unaccepted: Vec<&'static str>,
        /// Chunks and bytes of the body that were checked, or None where it was not read.
        body: Option<(u64, u64)>,
    }
    it => format!("<kvcap.Verdict {}: accepted, not checked: {}>", it.id, it.unaccepted.join(", "))
}

result! {
    /// Statements of a capsule about itself: UNVERIFIED, nobody has vouched for any of them.
    Claims {
        /// The capsule's id.
        id: String,
        /// Id of the key that is said to have signed it.
        key: String,
        /// Who is said to have sealed it.
        issuer: String,
        /// Who may restore it.
        audience: String,
        /// The tenant, or None.
        tenant: Option<String>,
        /// Whose state it is, or None.
        subject: Option<String>,
        /// What it may be used for.
        scope: String,
        /// When it was sealed, in seconds since 1970.
        issued_at: u64,
        /// When it expires.
        expires: u64,
        /// Until when it may be renewed.
        renew_until: u64,
        /// Whether it may be restored once only.
        single_use: bool,
        /// Session's id, version and replay cursor, or None.
        session: Option<(String, u64, u64)>,
        /// Model id, in hexadecimal, and name.
        model: (String, String),
        /// Runtime's name, version and state format.
        runtime: (String, String, String),
        /// First position held and the one after the last.
        positions: (u64, u64),
        /// Tokens of the prompt, and how it is named: none, keyed, public.
        prompt: (u64, &'static str),
        /// Layers of the model.
        layers: u32,
        /// Ids and kinds of the keys that can open it.
        recipients: Vec<(String, &'static str)>,
        /// Lineage digest of the capsule that it continues, or None.
        parent: Option<String>,
        /// Bytes of the whole capsule.
        length: u64,
    }
    it => format!("<kvcap.Claims {}: unverified>", it.id)
}

result! {
    /// Identity of a model (model-id-v1).
    Model {
        /// Model id, in hexadecimal.
        id: String,
        /// Digest of the weights.
        weights: String,
        /// Digest of the configuration.
        config: String,
        /// Name, which no check compares.
        name: String,
        /// Digest of the tokenizer's vocabulary.
        vocabulary: String,
    }
    it => format!("<kvcap.Model {} {:?}>", it.id, it.name)
}

result! {
    /// Public half of a key, and where it lies. The secret stays in its file.
    Key {
        /// Its id, in hexadecimal.
        id: String,
        /// The public key's text, or None for a symmetric key.
        public: Option<String>,
        /// The issuer that a signing key speaks for.
        issuer: Option<String>,
        /// The file of the public key, or None.
        public_path: Option<PathBuf>,
    }
    it => format!("<kvcap.Key {}>", it.id)
}

result! {
    /// A version of a registry.
    Registry {
        /// Its number, from 1 on.
        version: u64,
        /// Id of its root key.
        root: String,
        /// Time when it was signed, in seconds since 1970.
        issued_at: u64,
        /// Time of expiry.
        expires: u64,
        /// Ids of the keys that it lists.
        keys: Vec<String>,
        /// Ids of the capsules that it revokes.
        revoked: Vec<String>,
    }
    it => format!("<kvcap.Registry {} of {}>", it.version, it.root)
}

result! {
    /// A version of a session.
    Checkpoint {
        /// Its number, from 1 on.
        version: u64,
        /// When it was made, in seconds since 1970.
        at: u64,
        /// Number of the last event that it has seen.
        replay_cursor: u64,
        /// Turns up to there.
        turns: u64,
        /// Messages up to there.
        messages: u64,
        /// Id of the capsule with its state, or None.
        capsule: Option<String>,
        /// Tokens that the state covers, 0 without one.
        token_count: u64,
    }
    it => format!("<kvcap.Checkpoint {}>", it.version)
}
