//! `kvcap keygen`: fresh keys.

use std::path::PathBuf;

use clap::ValueEnum;
use kvcap::{RecipientKind, Result};
use kvcap_store::{
    FreshKey,
    output::{self, Readers},
};

use crate::ui::{self, Report, usage};

/// Makes a signing key or a wrapping key
///
/// A signing key seals: its public half, KEY.pub, is for everyone who verifies (--trust). A wrapping
/// key opens: capsules are sealed for it, and it stays with who may restore them; of the kinds hpke and
/// x-wing, the public half is enough to seal (--recipient). A root key signs key registries (kvcap
/// registry) and is best kept offline; KEY.pub is for --registry-root. KEY is readable by its owner
/// alone (0600); the secret is never printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the key is for
    kind: Kind,
    /// Where the secret key goes; the public key, of all kinds but `wrap`, goes to KEY.pub
    #[arg(short, long, value_name = "KEY")]
    output: PathBuf,
    /// The issuer that a signing key speaks for: both of its files name it, and capsules that it signs count for
    /// no other. Keys of one issuer follow each other [default: the key's own id, which no other key has]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Put the secret key under a passphrase: asked for on a terminal, or the first line of the file that
    /// KVCAP_PASSPHRASE_FILE names
    #[arg(long)]
    passphrase: bool,
    /// Replace a public key that is there; a secret key is never replaced
    #[arg(short, long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Ed25519: signs capsules
    Sign,
    /// Wraps the content keys of capsules, and unwraps them
    Wrap,
    /// X25519: who has KEY.pub can seal capsules for its holder, a hand-over between operators
    Hpke,
    /// Like hpke, with X-Wing: ML-KEM-768 and X25519 together, a post-quantum hybrid
    XWing,
    /// Ed25519: signs key registries
    Root,
}

/// # Errors
/// KVC-941 where a file exists; 940; 944 for `-`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let path = &args.output;
    if output::is_stdout(path) {
        return usage("a secret key is not printed: name a file", "-o -");
    }
    if args.issuer.is_some() && !matches!(args.kind, Kind::Sign) {
        return usage("only a signing key speaks for an issuer", "--issuer");
    }
    let (kind, key) = match args.kind {
        Kind::Sign => ("sign", FreshKey::signing(args.issuer.as_deref())?),
        Kind::Root => ("root", FreshKey::root()?),
        Kind::Wrap => wrapping(RecipientKind::Symmetric)?,
        Kind::Hpke => wrapping(RecipientKind::X25519)?,
        Kind::XWing => wrapping(RecipientKind::XWing)?,
    };
    let mut report = Report::new();
    write(args, &mut report, kind, &key)?;
    if let Some(issuer) = &key.issuer {
        report.row("issuer", format_args!("{issuer:?}"));
        report.fact("issuer", issuer.as_str());
    }
    Ok(report)
}

fn wrapping(kind: RecipientKind) -> Result<(&'static str, FreshKey)> {
    Ok((kind.name(), FreshKey::wrapping(kind)?))
}

/// Writes the key's files, and says what they are.
fn write(args: &Args, report: &mut Report, kind: &'static str, key: &FreshKey) -> Result<()> {
    let path = &args.output;
    let passphrase = args.passphrase.then(ui::new_passphrase).transpose()?;
    let passphrase = passphrase.as_ref().map(|text| text.as_str());
    let public = key.write(path, args.force, Readers::Umask, passphrase)?;
    let label = match key.name {
        "root" => "root key",
        "wrapping" => "wrapping key",
        _ => "signing key",
    };
    report.row(label, key.id);
    let how = match passphrase {
        Some(_) => "keep it, out of version control too; mode 0600, under the passphrase",
        None => "keep it, out of version control too; mode 0600",
    };
    report.row("secret", format_args!("{} ({how})", path.display()));
    report.fact("kind", kind);
    report.fact("key_id", key.id.to_string());
    report.fact("output", path.display().to_string());
    report.fact("passphrase", passphrase.is_some());
    if let (Some(public), Some(line)) = (public, &key.public) {
        let option = match key.name {
            "signing" => "--trust",
            "root" => "--registry-root",
            _ => "--recipient",
        };
        report.row(
            "public",
            format_args!("{} (for {option})", public.display()),
        );
        report.fact("public_output", public.display().to_string());
        report.fact("public_key", line.as_str());
    }
    Ok(())
}
