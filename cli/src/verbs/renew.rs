//! `kvcap renew`: new times and scope over the same body.

use std::path::Path;

use kvcap::{Renewal, Result};

use crate::{
    flags::{duration, instant},
    ui::{Report, passphrases, usage},
    verbs::reissue::{Ready, ReissueArgs},
};

/// Gives a capsule new times and scope
///
/// The issuer verifies the capsule's header, sets when it expires, and signs again; the body stays what
/// it is, and nothing is decrypted. Renewals never go past what the issuer allowed when sealing
/// (--renewable-for, by default 30 days from then), and what may be used once only is not extended.
/// Capsules that continue this one find it as before. The old file stays valid until it expires.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    reissue: ReissueArgs,
    /// How long it is valid, from now
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ttl: Option<u64>,
    /// When it expires
    #[arg(long, value_name = "TIME", value_parser = instant, conflicts_with = "ttl")]
    expires: Option<u64>,
    /// What it may be used for [default: as before]
    #[arg(long, value_name = "WORD")]
    scope: Vec<String>,
    /// Let the new scope hold words that the old one has not
    #[arg(long, requires = "scope")]
    widen_scope: bool,
}

impl Args {
    pub(crate) fn output(&self) -> &Path {
        &self.reissue.output
    }
}

/// # Errors
/// What capsule-v1 §3.2 refuses up to step 9; 404 past the issuer's cap; 408 for a wider scope.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let ready = args.reissue.ready(&passphrases())?;
    let from_now = args.ttl.and_then(|ttl| ready.now.checked_add(ttl));
    let Some(expires) = args.expires.or(from_now) else {
        return usage("say until when the capsule is valid", "--ttl, --expires");
    };
    let mut renewal = Renewal::until(expires);
    renewal.scope = (!args.scope.is_empty()).then(|| args.scope.join(" "));
    renewal.widen_scope = args.widen_scope;
    let header = ready.verified.renew(&renewal, &ready.by())?;
    let Ready { body, .. } = ready;
    args.reissue.write(&body, &header)
}
