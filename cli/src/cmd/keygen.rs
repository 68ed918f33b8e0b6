//! `kvcap keygen`: fresh keys.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kvcap::{Result, SigningKey, WrappingKey};
use zeroize::Zeroizing;

use crate::{
    output::{self, Readers},
    report::{Report, usage},
};

/// Makes a signing key or a wrapping key
///
/// A signing key seals: its public half, KEY.pub, is for everyone who verifies (--trust). A wrapping
/// key opens: capsules are sealed for it, and it stays with who may restore them. KEY is readable by
/// its owner alone (0600); the secret is never printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the key is for
    kind: Kind,
    /// Where the secret key goes; with `sign`, its public key goes to KEY.pub
    #[arg(short, long, value_name = "KEY")]
    output: PathBuf,
    /// Replace a key that is there: whatever needs the old one is lost
    #[arg(short, long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Ed25519: signs capsules
    Sign,
    /// Wraps the content keys of capsules
    Wrap,
}

/// # Errors
/// KVC-941 where a file exists; 940; 944 for `-`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let path = &args.output;
    if output::is_stdout(path) {
        return usage("a secret key is not printed: name a file", "-o -");
    }
    let mut report = Report::new();
    match args.kind {
        Kind::Sign => {
            let public_path = with_pub(path);
            output::check_absent(path, args.force)?;
            output::check_absent(&public_path, args.force)?;
            let key = SigningKey::generate()?;
            let public = key.public();
            let id = public.id();
            write_secret(args, "signing", &id.to_string(), &key.to_secret_text())?;
            let text = format!("# kvcap public signing key {id}\n{}\n", public.to_text());
            output::write(&public_path, args.force, Readers::Umask, text.as_bytes())?;
            report.row("signing key", id);
            report.row(
                "secret",
                format_args!("{} (keep it; mode 0600)", path.display()),
            );
            report.row(
                "public",
                format_args!("{} (for --trust)", public_path.display()),
            );
            report.fact("kind", "sign");
            report.fact("id", id.to_string());
            report.fact("secret", path.display().to_string());
            report.fact("public", public_path.display().to_string());
            report.fact("public_key", public.to_text());
        }
        Kind::Wrap => {
            let key = WrappingKey::generate()?;
            let id = key.id();
            write_secret(args, "wrapping", &id.to_string(), &key.to_secret_text())?;
            report.row("wrapping key", id);
            report.row(
                "secret",
                format_args!("{} (keep it; mode 0600)", path.display()),
            );
            report.fact("kind", "wrap");
            report.fact("id", id.to_string());
            report.fact("secret", path.display().to_string());
        }
    }
    Ok(report)
}

fn write_secret(args: &Args, kind: &str, id: &str, line: &str) -> Result<()> {
    let text = Zeroizing::new(format!(
        "# kvcap secret {kind} key {id}: share it with nobody\n{line}\n"
    ));
    output::write(&args.output, args.force, Readers::Owner, text.as_bytes())
}

fn with_pub(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
