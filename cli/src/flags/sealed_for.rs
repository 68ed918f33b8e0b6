//! For whom a capsule is sealed, by whom and until when.

use std::path::PathBuf;

use kvcap::{Result, Suite, Terms};
use kvcap_store::{Parties, Passphrases, Sealer, SealingKeys, time};

use super::{duration, instant};
use crate::ui::usage;

/// For whom a capsule is sealed, by whom and until when.
#[derive(Debug, clap::Args)]
pub(crate) struct SealedFor {
    /// The secret signing key's file
    #[arg(long, value_name = "KEY")]
    sign_key: PathBuf,
    /// A secret wrapping key's file: who holds it can open the capsule. Of a key folder it is the tenant's
    /// key of the day, made where there is none. Several may be given
    #[arg(long, value_name = "KEY")]
    pub(crate) wrap_key: Vec<PathBuf>,
    /// A public key (keygen hpke, keygen x-wing) whose holder shall be able to open the capsule: a KEY.pub
    /// file, or the key's text
    #[arg(long, value_name = "PUB")]
    recipient: Vec<String>,
    /// How long it is valid, from --not-before
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) ttl: u64,
    /// How long renewals may extend it, from --not-before [default: 30d from now]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    renewable_for: Option<u64>,
    /// When it begins to be valid [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    not_before: Option<u64>,
    /// Algorithms
    #[arg(long, value_parser = ["chacha20-poly1305", "aes-256-gcm"], default_value = "chacha20-poly1305")]
    suite: String,
    /// Who seals [default: the issuer that the signing key's file names]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Whose state it is
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// Who may restore it
    #[arg(long, value_name = "NAME", default_value = "local")]
    audience: String,
    /// The tenant it belongs to
    #[arg(long = "tenant", alias = "org", value_name = "NAME")]
    pub(crate) org: Option<String>,
    /// What it may be used for
    #[arg(long, value_name = "WORD", default_value = kvcap::RESTORE)]
    scope: Vec<String>,
    /// May be restored once only
    #[arg(long)]
    single_use: bool,
}

impl SealedFor {
    /// Reads the keys, and makes the terms as of now.
    ///
    /// # Errors
    /// 94x for keys, files and arguments.
    pub(crate) fn read(&self, passphrases: &Passphrases<'_>) -> Result<Parties> {
        if self.wrap_key.is_empty() && self.recipient.is_empty() {
            let what = "nobody could open the capsule: say whose key it is sealed for";
            return usage(what, "--wrap-key, --recipient");
        }
        let keys = SealingKeys {
            sign_key: self.sign_key.clone(),
            wrap_keys: self.wrap_key.clone(),
            recipients: self.recipient.clone(),
            issuer: self.issuer.clone(),
        };
        let sealer = keys.read(passphrases)?;
        let terms = self.terms(time::now(), &sealer)?;
        sealer.parties(terms, passphrases)
    }

    /// The algorithms.
    pub(crate) fn suite(&self) -> Suite {
        match self.suite.as_str() {
            "aes-256-gcm" => Suite::Aes256Gcm,
            _ => Suite::ChaCha20Poly1305,
        }
    }

    fn terms(&self, now: u64, sealer: &Sealer) -> Result<Terms> {
        let not_before = self.not_before.unwrap_or(now);
        let Some(expires) = not_before.checked_add(self.ttl).filter(|exp| *exp > now) else {
            return usage("the capsule would expire before it is sealed", "--ttl");
        };
        let renew_until = self
            .renewable_for
            .map(|more| not_before.saturating_add(more));
        if renew_until.is_some_and(|until| until < expires) {
            return usage(
                "renewals would end before the capsule does",
                "--renewable-for",
            );
        }
        let mut terms = sealer.terms(&self.audience, now, expires);
        terms.subject.clone_from(&self.subject);
        terms.tenant.clone_from(&self.org);
        terms.not_before = not_before;
        terms.scope = self.scope.join(" ");
        terms.single_use = self.single_use;
        // what is used once is rarely worth keeping for longer
        let cap = if self.single_use {
            expires
        } else {
            terms.renew_until
        };
        terms.renew_until = renew_until.unwrap_or(cap);
        Ok(terms)
    }
}
