//! `kvcap base`: start states that many conversations begin with, made by a gateway (http-v1 HTTP-E-7), and in
//! registries of containers (oci-v1).

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kvcap::Result;

use crate::{
    flags::{AuthoritiesArgs, Common, EngineArgs},
    ui::Report,
    verbs::base_images as images,
};

/// Makes and shows start states that many conversations begin with
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Evaluates a prompt once, and seals its state as a base image
    ///
    /// Every conversation that begins with it is restored from it then, and evaluates only what is its own. Nothing is
    /// generated.
    Create {
        /// The prompt, a file of text, or `-`; a JSON object with `messages`, and `tools` where there are some, is the
        /// beginning of a chat
        prompt: PathBuf,
        /// Its name: small letters, digits and hyphens [default: the file's]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        at: AtArgs,
        #[command(flatten)]
        authorities: AuthoritiesArgs,
    },
    /// Lists base images, or those that are attached to an image in a registry of containers
    List {
        /// The image that they are attached to: HOST/NAME:TAG, or HOST/NAME@sha256:DIGEST
        #[arg(conflicts_with_all = ["server", "model", "engine"])]
        image: Option<String>,
        #[command(flatten)]
        who: images::WhoArgs,
        #[command(flatten)]
        at: AtArgs,
        #[command(flatten)]
        authorities: AuthoritiesArgs,
    },
    /// Shows a base image
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        at: AtArgs,
        #[command(flatten)]
        authorities: AuthoritiesArgs,
    },
    Push(images::PushArgs),
    Pull(Box<images::PullArgs>),
}

/// The gateway that is asked: one that runs, or one that is begun for this alone.
#[derive(Debug, clap::Args)]
struct AtArgs {
    /// A gateway that runs: HOST:PORT or a URL [default: the one of `kvcap serve --model` on this machine]; with
    /// --model one is begun for this, and ended
    #[arg(long, value_name = "URL", conflicts_with_all = ["model", "engine"])]
    server: Option<String>,
    /// The file of a token that it knows, one that may "admin" to make one [default: that gateway's own]
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

impl Args {
    /// The file that is written, if one is.
    pub(crate) fn output(&self) -> Option<&Path> {
        match &self.verb {
            Verb::Pull(args) => Some(args.output()),
            _ => None,
        }
    }
}

/// # Errors
/// KVC-944: this program was built without the server.
#[cfg(not(feature = "server"))]
pub(crate) fn run(_args: &Args, _common: &Common) -> Result<Report> {
    super::serve::unbuilt()
}

/// # Errors
/// Those of the gateway; KVC-940 where none answers; 941 for a name that is there; 944 for a prompt.
#[cfg(feature = "server")]
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    match &args.verb {
        Verb::Create {
            prompt,
            name,
            at,
            authorities,
        } => {
            let (name, body) = (named(name.as_deref(), prompt)?, asked(prompt)?);
            let path = format!("/v1/bases/{name}");
            let made = at.ask(common, authorities, "PUT", &path, Some(&body))?;
            Ok(shown(&made))
        }
        Verb::List {
            image: Some(image),
            who,
            authorities,
            ..
        } => images::list(image, who, authorities),
        Verb::List {
            at, authorities, ..
        } => {
            let listed = at.ask(common, authorities, "GET", "/v1/bases", None)?;
            let mut report = Report::new();
            let all = listed["bases"].as_array().cloned().unwrap_or_default();
            for base in &all {
                let text = |name: &str| base[name].to_string();
                let name = base["base"].as_str().unwrap_or_default();
                let (positions, bytes) = (text("positions"), text("bytes"));
                report.line(format_args!("{name}  {positions} tokens, {bytes} bytes"));
            }
            report.fact("bases", all);
            Ok(report)
        }
        Verb::Show {
            name,
            at,
            authorities,
        } => {
            let path = format!("/v1/bases/{}", checked(name)?);
            Ok(shown(&at.ask(common, authorities, "GET", &path, None)?))
        }
        Verb::Push(args) => images::push(args),
        Verb::Pull(args) => images::pull(args, common),
    }
}

#[cfg(feature = "server")]
fn shown(base: &serde_json::Value) -> Report {
    let mut report = Report::new();
    for name in ["base", "id", "positions", "bytes", "expires"] {
        let value = match (name, &base[name]) {
            ("expires", value) => {
                kvcap_store::time::show_instant(value.as_u64().unwrap_or_default()).to_string()
            }
            (_, serde_json::Value::String(text)) => text.clone(),
            (_, value) => value.to_string(),
        };
        report.row(name, value);
        report.fact(name, base[name].clone());
    }
    report
}

/// The name, or the file's; as the gateway has names.
#[cfg(feature = "server")]
fn named(name: Option<&str>, prompt: &Path) -> Result<String> {
    let stem = prompt
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let name = name.map(str::to_owned).or(stem).unwrap_or_default();
    checked(&name).map(str::to_owned)
}

#[cfg(feature = "server")]
fn checked(name: &str) -> Result<&str> {
    match kvcap_server::is_base_name(name) {
        true => Ok(name),
        false => crate::ui::usage(
            "a base image's name has 1 to 64 small letters, digits and hyphens",
            "--name",
        ),
    }
}

/// What the gateway is asked to evaluate.
#[cfg(feature = "server")]
fn asked(prompt: &Path) -> Result<serde_json::Value> {
    /// Longest prompt, in bytes.
    const LONGEST: u64 = 32 << 20;
    let bytes = kvcap_store::input::small(prompt, LONGEST)?;
    let text = String::from_utf8_lossy(&bytes);
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(chat) if chat["messages"].is_array() => Ok(chat),
        _ if text.trim().is_empty() => crate::ui::usage("the prompt is empty", "PROMPT"),
        _ => Ok(serde_json::json!({ "prompt": text })),
    }
}

#[cfg(feature = "server")]
impl AtArgs {
    fn ask(
        &self,
        common: &Common,
        authorities: &AuthoritiesArgs,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value> {
        use kvcap_server::{Remote, Server};

        let Some(engine) = self.engine.setup(1) else {
            let (own, token) = super::serve::running()?;
            let address = self.server.clone().unwrap_or(own);
            let token = self.token_file.clone().unwrap_or(token);
            let remote = Remote::at(&address, &token, authorities.file())?;
            let reply = remote.ask(method, path, None, body)?;
            return Ok(reply.body);
        };
        let here = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let own = super::serve::own(common, here, engine)?;
        let running = Server::bind(own.settings)?.start()?;
        let remote = Remote::at(&running.address().to_string(), &own.token, None)?;
        let told = remote.ask(method, path, None, body);
        running.stop().now();
        running.wait()?;
        Ok(told?.body)
    }
}
