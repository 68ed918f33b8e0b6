//! `kvcap serve`: a relay that keeps capsules for others (http-v1). Its rules are kvcap-server's.

use std::path::PathBuf;

use kvcap::Result;

use crate::ui::Report;

/// Keeps capsules that others upload, and verifies every byte of them while it arrives
///
/// A relay over HTTP that has no secret: spec/http-v1.md says what it is asked and what it answers. It runs until it
/// is told to end (SIGTERM, SIGINT), and then ends what it has begun; a second signal ends it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration; docs/howto/relay.md has one
    #[arg(required_unless_present = "new_token", value_name = "CONFIG")]
    config: Option<PathBuf>,
    /// Read the configuration and load whom it trusts, and keep nothing
    #[arg(long)]
    check: bool,
    /// Print a new token, and the digest by which the configuration knows it
    #[arg(long, conflicts_with_all = ["config", "check"])]
    new_token: bool,
}

/// # Errors
/// KVC-944: this program was built without the server.
#[cfg(not(feature = "server"))]
pub(crate) fn run(_args: &Args) -> Result<Report> {
    let what =
        "this program was built without the server: cargo build -p kvcap-cli --features server";
    Err(kvcap::Error::new(kvcap::Code::LocalUsage, what))
}

/// # Errors
/// KVC-945 for the configuration, 3xx for whom it trusts, 940 and 947 for folder and address.
#[cfg(feature = "server")]
pub(crate) fn run(args: &Args) -> Result<Report> {
    use kvcap_server::{NewToken, Server, Settings};

    let mut report = Report::new();
    let Some(config) = &args.config else {
        let token = NewToken::generate()?;
        report.row("token", token.text());
        report.row("digest", token.digest());
        report.fact("token", token.text());
        report.fact("digest", token.digest().to_string());
        return Ok(report);
    };
    let settings = Settings::read(config)?;
    let tokens = settings.tokens.len();
    report.row("folder", settings.folder.display());
    report.row("tokens", tokens);
    report.fact("folder", settings.folder.display().to_string());
    report.fact("tokens", tokens);
    if args.check {
        let keys = settings.check()?;
        report.row("trusted keys", keys);
        report.row("address", settings.listen);
        report.fact("trusted_keys", keys);
        report.fact("address", settings.listen.to_string());
        return Ok(report);
    }
    let running = Server::bind(settings)?.start()?;
    let (address, stop) = (running.address(), running.stop());
    kvcap_store::output::at_first_signal(move || stop.now());
    crate::ui::listening(address);
    running.wait()?;
    report.row("address", address);
    report.fact("address", address.to_string());
    Ok(report)
}
