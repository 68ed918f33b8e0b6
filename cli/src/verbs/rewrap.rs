//! `kvcap rewrap`: other recipients over the same body.

use std::path::{Path, PathBuf};

use kvcap::{Code, Error, Result, Rewrap};
use kvcap_store::{WrapKeys, key_file};

use crate::{
    ui::{self, Report},
    verbs::reissue::{Ready, ReissueArgs},
};

/// Wraps a capsule for other keys
///
/// Who can open the capsule wraps its content key for others, and the issuer's key signs again; the body
/// stays what it is, and no byte of it is decrypted. Without --add the old recipients are left out, but
/// who has the old file and an old key can still open that one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    reissue: ReissueArgs,
    /// The file of a secret wrapping key that opens the capsule now, or a key folder. Several may be given
    #[arg(long, value_name = "OLD", required = true)]
    wrap_key: Vec<PathBuf>,
    /// A secret wrapping key's file: who holds it will be able to open the capsule. Of a key folder it is
    /// the tenant's key of the day. Several may be given
    #[arg(long, value_name = "NEW", required_unless_present = "recipient")]
    to: Vec<PathBuf>,
    /// A public key (keygen hpke, keygen x-wing) whose holder will be able to open the capsule: a KEY.pub
    /// file, or the key's text
    #[arg(long, value_name = "PUB")]
    recipient: Vec<String>,
    /// Keep the recipients that there are
    #[arg(long)]
    add: bool,
    /// Who may restore it, for a hand-over [default: as before]
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
}

impl Args {
    pub(crate) fn output(&self) -> &Path {
        &self.reissue.output
    }
}

/// # Errors
/// What capsule-v1 §3.2 refuses up to step 9; 809, 803, 804 for the old key; 808, 503 for the new.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let passphrases = ui::passphrases();
    let keys = WrapKeys::read(&args.wrap_key, &passphrases)?;
    let to = WrapKeys::read(&args.to, &passphrases)?;
    let public = key_file::recipients(&args.recipient)?;
    let ready = args.reissue.ready(&passphrases)?;
    let terms = &ready.verified.manifest().claims.terms;
    let to = to.sealing(terms.tenant.as_deref(), ready.now)?;
    let keys = keys.opening([&ready.verified])?;
    let Some(key) = keys.first() else {
        return Err(Error::new(
            Code::BodyNoKey,
            "the key folder has no key of this capsule",
        ));
    };
    let to = key_file::all(&to, &public);
    let mut rewrap = Rewrap::to(&to);
    rewrap.keep = args.add;
    rewrap.audience.clone_from(&args.audience);
    let header = ready.verified.rewrap(key, &rewrap, &ready.by())?;
    let Ready { body, .. } = ready;
    args.reissue.write(&body, &header)
}
