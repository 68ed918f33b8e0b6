//! `kvcap serve`: a relay that keeps capsules for others, and a gateway before a model (http-v1). Its rules are
//! kvcap-server's.

use std::{net::SocketAddr, path::PathBuf};

use kvcap::Result;

use crate::{
    flags::{Common, EngineArgs},
    ui::Report,
};

/// Address of a gateway for one person.
const OWN: &str = "127.0.0.1:8474";

/// Serves a model whose conversations outlive it, or keeps capsules that others upload
///
/// With --model it runs llama-server behind an OpenAI-compatible address on this machine: states of conversations
/// leave it sealed, and come back verified when a conversation goes on, hours or restarts later. Keys and names are the
/// profile's; where there is none, one is made as by kvcap init. With CONFIG it is what that file says: a relay that
/// verifies every byte of what others upload and has no secret, or a gateway. spec/http-v1.md says what it is asked and
/// what it answers. It runs until it is told to end (SIGTERM, SIGINT), and then ends what it has begun and saves what it
/// holds; a second signal ends it at once. At SIGHUP it reads CONFIG again; where that cannot be read, it goes on by the
/// one before.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration; docs/howto/relay.md and docs/howto/gateway.md have one
    #[arg(
        required_unless_present_any = ["new_token", "model", "upstream"],
        conflicts_with = "model",
        value_name = "CONFIG"
    )]
    config: Option<PathBuf>,
    /// Read the configuration and load whom it trusts, and keep nothing
    #[arg(long, requires = "config")]
    check: bool,
    /// Make the index of a bucket that relays share again, by the headers of its capsules, and end
    #[arg(long, requires = "config", conflicts_with = "check")]
    rebuild_index: bool,
    /// Print a new token, and the digest by which the configuration knows it
    #[arg(long, conflicts_with_all = ["config", "check", "model"])]
    new_token: bool,
    #[command(flatten)]
    own: OwnArgs,
}

/// A model for one person on one machine.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A model on this machine")]
struct OwnArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// A llama-server that runs already: HOST:PORT, a URL or a socket's path
    #[arg(long, value_name = "ADDRESS", requires = "slots", conflicts_with_all = ["config", "new_token", "engine"])]
    upstream: Option<String>,
    /// Its folder of slots, as it was told by --slot-save-path
    #[arg(long, value_name = "FOLDER", requires = "upstream")]
    slots: Option<PathBuf>,
    /// Conversations that it holds at once; others leave it sealed, and come back
    #[arg(long, value_name = "N", requires = "model", default_value = "1")]
    parallel: usize,
    /// Record turns of chats in their session's log, in clear in its folder: status, revert and export know them then
    #[arg(long, conflicts_with_all = ["config", "new_token"])]
    record: bool,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["config", "new_token"], default_value = OWN)]
    listen: SocketAddr,
}

/// # Errors
/// KVC-944: this program was built without the server.
#[cfg(not(feature = "server"))]
pub(crate) fn unbuilt<T>() -> Result<T> {
    let what =
        "this program was built without the server: cargo build -p kvcap-cli --features server";
    Err(kvcap::Error::new(kvcap::Code::LocalUsage, what))
}

/// # Errors
/// As [`unbuilt`].
#[cfg(not(feature = "server"))]
pub(crate) fn run(_args: &Args, _common: &Common) -> Result<Report> {
    unbuilt()
}

/// # Errors
/// KVC-945 for the configuration, 3xx for whom it trusts, 940 and 947 for folder and address; those of the engine and
/// its model.
#[cfg(feature = "server")]
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    use kvcap_server::{NewToken, Place, Server, Settings};

    let mut report = Report::new();
    if args.own.engine.model.is_some() || args.own.upstream.is_some() {
        let own = args.own.gateway(common)?;
        report.fact("token_file", own.token.display().to_string());
        let running = Server::bind(own.settings)?.start()?;
        let address = running.address();
        crate::ui::serving(address, &own.token);
        return finish(running, report);
    }
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
    let kind = match &settings.place {
        Place::Folder(_) => "folder",
        Place::Shared { .. } => "bucket",
    };
    report.row(kind, &settings.place);
    report.row("tokens", tokens);
    report.fact(kind, settings.place.to_string());
    report.fact("tokens", tokens);
    if args.check {
        let keys = settings.check()?;
        report.row("trusted keys", keys);
        report.row("address", settings.listen);
        report.fact("trusted_keys", keys);
        report.fact("address", settings.listen.to_string());
        return Ok(report);
    }
    if args.rebuild_index {
        let found = settings.place.rebuild(&settings.limits)?;
        report.row("capsules found", found);
        report.fact("capsules_found", found);
        return Ok(report);
    }
    // lines of JSON say it all
    let quiet = settings.log.is_some();
    let running = Server::bind(settings)?.start()?;
    let (reload, config) = (running.reload(), config.clone());
    kvcap_store::output::at_hangup(move || {
        let reloaded = reload.with(Settings::read(&config));
        if !quiet {
            crate::ui::reloaded(reloaded);
        }
    });
    if !quiet {
        crate::ui::listening(running.address());
    }
    finish(running, report)
}

/// Waits until it is told to end.
#[cfg(feature = "server")]
fn finish(running: kvcap_server::Running, mut report: Report) -> Result<Report> {
    let (address, stop) = (running.address(), running.stop());
    kvcap_store::output::at_first_signal(move || stop.now());
    running.wait()?;
    report.row("address", address);
    report.fact("address", address.to_string());
    Ok(report)
}

#[cfg(feature = "server")]
impl OwnArgs {
    fn gateway(&self, common: &Common) -> Result<kvcap_server::Own> {
        let engine = match (&self.upstream, &self.slots) {
            (Some(address), Some(slots)) => {
                let model = self.engine.model.clone();
                Some(kvcap_server::EngineSetup::attached(
                    address,
                    slots.clone(),
                    model,
                ))
            }
            _ => self.engine.setup(self.parallel),
        };
        let Some(engine) = engine else {
            return crate::ui::usage("no model is named", "--model");
        };
        let mut own = own(common, self.listen, engine)?;
        if let Some(gateway) = &mut own.settings.gateway {
            gateway.sessions.record = self.record;
        }
        Ok(own)
    }
}

/// A gateway for one person, by the profile that he has; where there is none, one is made.
#[cfg(feature = "server")]
pub(crate) fn own(
    common: &Common,
    listen: SocketAddr,
    engine: kvcap_server::EngineSetup,
) -> Result<kvcap_server::Own> {
    kvcap_store::profile::check_variables(std::env::vars_os().map(|(name, _)| name))?;
    let env = |name: &str| std::env::var_os(name);
    own_in(&env, common.profile.as_deref(), listen, engine)
}

/// The same in an environment.
#[cfg(feature = "server")]
pub(crate) fn own_in(
    env: kvcap_store::profile::Environment<'_>,
    choice: Option<&str>,
    listen: SocketAddr,
    engine: kvcap_server::EngineSetup,
) -> Result<kvcap_server::Own> {
    use std::collections::BTreeMap;

    use kvcap_store::profile::{DEFAULT, NewProfile, Setting, Settings, default_issuer};

    let load = || Settings::load(env, choice, BTreeMap::new());
    let mut profile = load()?;
    if profile.value(Setting::SignKey).is_none() && choice.is_none() {
        let issuer = default_issuer(env);
        let made = NewProfile {
            name: DEFAULT,
            issuer: &issuer,
            settings: BTreeMap::from([
                (Setting::Audience, "local".to_owned()),
                (Setting::Ttl, "7d".to_owned()),
            ]),
            key_folder: false,
            passphrase: None,
        };
        made.make(env)?;
        profile = load()?;
    }
    kvcap_server::Own::of(&profile, &states(env)?, listen, engine)
}

/// Folder of what is kept between runs.
#[cfg(feature = "server")]
fn states(env: kvcap_store::profile::Environment<'_>) -> Result<PathBuf> {
    match kvcap_store::profile::state_folder(env) {
        Some(folder) => Ok(folder),
        None => crate::ui::usage(
            "there is no home to keep sessions in",
            "XDG_STATE_HOME, HOME",
        ),
    }
}

/// Address of the gateway of `kvcap serve --model` where nothing else is said, and the file of its token.
#[cfg(feature = "server")]
pub(crate) fn running() -> Result<(String, PathBuf)> {
    Ok((
        OWN.to_owned(),
        kvcap_server::Own::token_file(&states(&|name| std::env::var_os(name))?),
    ))
}
