//! `kvcap keygen`: fresh keys.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kvcap::{KeyId, RecipientKind, Result, RootKey, SigningKey, WrappingKey};
use kvcap_store::output::{self, Readers};
use zeroize::Zeroizing;

use crate::ui::{Report, usage};

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
    /// Replace a key that is there: whatever needs the old one is lost
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
    /// The same with X-Wing, ML-KEM-768 and X25519 together, against quantum computers that are to come
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
    let mut report = Report::new();
    match args.kind {
        Kind::Sign => {
            let key = SigningKey::generate()?;
            let pair = Pair {
                kind: "sign",
                name: "signing",
                id: key.public().id(),
                secret: key.to_secret_text(),
                public: key.public().to_text(),
                option: "--trust",
            };
            pair.write(args, &mut report)?;
        }
        Kind::Root => {
            let key = RootKey::generate()?;
            let pair = Pair {
                kind: "root",
                name: "root",
                id: key.public().id(),
                secret: key.to_secret_text(),
                public: key.public().to_text(),
                option: "--registry-root",
            };
            pair.write(args, &mut report)?;
        }
        Kind::Wrap => wrapping(args, &mut report, RecipientKind::Symmetric)?,
        Kind::Hpke => wrapping(args, &mut report, RecipientKind::X25519)?,
        Kind::XWing => wrapping(args, &mut report, RecipientKind::XWing)?,
    }
    Ok(report)
}

/// A key with a public half.
struct Pair {
    kind: &'static str,
    name: &'static str,
    id: KeyId,
    secret: Zeroizing<String>,
    public: String,
    /// What takes the public half.
    option: &'static str,
}

impl Pair {
    fn write(&self, args: &Args, report: &mut Report) -> Result<()> {
        let Self { name, id, .. } = self;
        let path = &args.output;
        let public_path = with_pub(path);
        output::check_absent(path, args.force)?;
        output::check_absent(&public_path, args.force)?;
        write_secret(args, name, &id.to_string(), &self.secret)?;
        let text = format!("# kvcap public {name} key {id}\n{}\n", self.public);
        output::write(&public_path, args.force, Readers::Umask, text.as_bytes())?;
        report.row(
            match *name {
                "root" => "root key",
                "wrapping" => "wrapping key",
                _ => "signing key",
            },
            id,
        );
        report.row(
            "secret",
            format_args!("{} (keep it; mode 0600)", path.display()),
        );
        report.row(
            "public",
            format_args!("{} (for {})", public_path.display(), self.option),
        );
        report.fact("kind", self.kind);
        report.fact("id", id.to_string());
        report.fact("secret", path.display().to_string());
        report.fact("public", public_path.display().to_string());
        report.fact("public_key", self.public.as_str());
        Ok(())
    }
}

fn wrapping(args: &Args, report: &mut Report, kind: RecipientKind) -> Result<()> {
    let path = &args.output;
    let key = WrappingKey::generate_of(kind)?;
    let (id, secret) = (key.id(), key.to_secret_text());
    if let Some(public) = key.public() {
        let pair = Pair {
            kind: kind.name(),
            name: "wrapping",
            id,
            secret,
            public: public.to_text(),
            option: "--recipient",
        };
        return pair.write(args, report);
    }
    write_secret(args, "wrapping", &id.to_string(), &secret)?;
    report.row("wrapping key", id);
    report.row(
        "secret",
        format_args!("{} (keep it; mode 0600)", path.display()),
    );
    report.fact("kind", kind.name());
    report.fact("id", id.to_string());
    report.fact("secret", path.display().to_string());
    Ok(())
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
