//! `kvcap rewrap`: other recipients over the same body.

use std::path::{Path, PathBuf};

use kvcap::{Result, Rewrap};

use crate::{
    cmd::reissue::{Ready, ReissueArgs},
    keys,
    report::Report,
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
    /// The file of a secret wrapping key that opens the capsule now
    #[arg(long, value_name = "OLD")]
    wrap_key: PathBuf,
    /// A secret wrapping key's file: who holds it will be able to open the capsule. Several may be given
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
/// What capsule-v1 §11.2 refuses up to step 9; 809, 803, 804 for the old key; 808, 503 for the new.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let key = keys::wrapping_key(&args.wrap_key)?;
    let to = keys::wrapping(&args.to)?;
    let public = keys::recipients(&args.recipient)?;
    let ready = args.reissue.ready()?;
    let rewrap = Rewrap {
        to: &keys::all(&to, &public),
        keep: args.add,
        audience: args.audience.clone(),
    };
    let header = ready.verified.rewrap(&key, &rewrap, &ready.by())?;
    let Ready { body, .. } = ready;
    args.reissue.write(body, &header)
}
