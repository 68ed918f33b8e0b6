//! `kvcap init`: a profile, and keys of its own.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use kvcap::{Error, Result};
use kvcap_models::ModelProfile;
use kvcap_states::{RuntimeKind, installed_version};
use kvcap_store::profile::{DEFAULT, Made, NewProfile, Setting, default_issuer};

use super::open_target::parsed;
use crate::{
    flags::{Common, ModelArgs, duration},
    ui::{self, Asker, Report},
};

/// Makes a profile: keys, whom to trust, and settings that need no flag from then on
///
/// Writes config.toml in $XDG_CONFIG_HOME/kvcap, and beside it a signing key and a wrapping key. Asks on a terminal
/// for what no flag says, and takes the defaults elsewhere and with --yes. Replaces nothing: a profile that
/// exists is refused.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model that states are of: a model folder, GGUF file or .kvid file
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    model_args: ModelArgs,
    /// The issuer that the signing key speaks for [default: user@host]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Who may restore what is sealed, and the name under which this verifier is known
    #[arg(long, value_name = "NAME", default_value = "local")]
    audience: String,
    /// The tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Whose states they are
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// How long a capsule is valid
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    ttl: String,
    /// The runtime: mlx-lm, llama-cpp, hf or raw [default: the one that is installed and runs the model]
    #[arg(long, value_name = "NAME", value_parser = parsed::<RuntimeKind>)]
    runtime: Option<RuntimeKind>,
    /// Its version or build commit [default: as it says itself]
    #[arg(long, value_name = "V", requires = "runtime")]
    runtime_version: Option<String>,
    /// Seal for keys of a folder, one for each tenant and day, which kvcap shred can destroy
    #[arg(long, conflicts_with = "passphrase")]
    key_folder: bool,
    /// Put the keys under a passphrase: asked for on a terminal, or the first line of the file that
    /// KVCAP_PASSPHRASE_FILE names
    #[arg(long)]
    passphrase: bool,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

fn time(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

/// # Errors
/// As [`NewProfile::make`] and [`ModelProfile::read`]; KVC-946.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let env = |name: &str| env::var_os(name);
    let asker = Asker::new(args.yes || common.json);
    let issuer = match &args.issuer {
        Some(issuer) => issuer.clone(),
        None => asker.ask("who seals (issuer)", &default_issuer(&env))?,
    };
    let model = match &args.model {
        Some(path) => Some(path.clone()),
        None => {
            let path = asker.ask("model (folder, .gguf or .kvid; may be empty)", "")?;
            Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty())
        }
    };
    let facts = model
        .as_deref()
        .map(|path| args.model_args.read(path, common))
        .transpose()?;
    let runtime = match args.runtime {
        Some(kind) => Some(kind),
        None => asked_runtime(&asker, model.as_deref())?,
    };
    let version = args
        .runtime_version
        .clone()
        .or_else(|| runtime.and_then(installed_version));
    let settings = args.settings(
        model.as_deref(),
        facts.as_ref(),
        runtime,
        version.as_deref(),
    )?;
    let wanted =
        args.passphrase || (!args.key_folder && asker.agrees("a passphrase for the keys")?);
    let passphrase = wanted.then(ui::new_passphrase).transpose()?;
    let made = NewProfile {
        name: common.profile.as_deref().unwrap_or(DEFAULT),
        issuer: &issuer,
        settings,
        key_folder: args.key_folder,
        passphrase: passphrase.as_ref().map(|text| text.as_str()),
    }
    .make(&env)?;
    Ok(Story {
        args,
        common,
        issuer: &issuer,
        facts: facts.as_ref(),
        runtime,
        version: version.as_deref(),
        locked: passphrase.is_some(),
    }
    .report(&made))
}

/// The runtime that is installed and runs the model, or the one that is named instead.
fn asked_runtime(asker: &Asker, model: Option<&Path>) -> Result<Option<RuntimeKind>> {
    let fits: &[RuntimeKind] = match model {
        Some(path) if path.extension().is_some_and(|end| end == "gguf") => &[RuntimeKind::LlamaCpp],
        Some(path) if path.is_dir() => &[RuntimeKind::MlxLm, RuntimeKind::HuggingFace],
        _ => &[],
    };
    let installed = |kind: &&RuntimeKind| installed_version(**kind).is_some();
    let guess = fits.iter().find(installed).map_or("", |kind| kind.name());
    match asker
        .ask("runtime (mlx-lm, llama-cpp, hf; may be empty)", guess)?
        .as_str()
    {
        "" => Ok(None),
        name => name.parse().map(Some),
    }
}

impl Args {
    fn settings(
        &self,
        model: Option<&Path>,
        facts: Option<&ModelProfile>,
        runtime: Option<RuntimeKind>,
        version: Option<&str>,
    ) -> Result<BTreeMap<Setting, String>> {
        let mut settings = BTreeMap::from([
            (Setting::Audience, self.audience.clone()),
            (Setting::Ttl, self.ttl.clone()),
        ]);
        let mut set = |setting, text: Option<String>| settings.extend(text.map(|t| (setting, t)));
        set(Setting::Tenant, self.tenant.clone());
        set(Setting::Subject, self.subject.clone());
        let absolute = |path| std::path::absolute(path).map_err(|error| Error::io(&error, "model"));
        let model = model.map(absolute).transpose()?;
        set(Setting::Model, model.map(|path| path.display().to_string()));
        set(Setting::Runtime, runtime.map(|kind| kind.name().to_owned()));
        set(Setting::RuntimeVersion, version.map(str::to_owned));
        let context = self.context(facts)?;
        set(
            Setting::ContextSize,
            context.map(|tokens| tokens.to_string()),
        );
        Ok(settings)
    }

    /// The context size that is said, or the model's own.
    fn context(&self, facts: Option<&ModelProfile>) -> Result<Option<u64>> {
        let said = self.model_args.options()?.ctx_size;
        let own = facts.map(|facts| facts.geometry.context_length);
        Ok(said.or(own).filter(|tokens| *tokens > 0))
    }
}

/// What was done, and why.
struct Story<'a> {
    args: &'a Args,
    common: &'a Common,
    issuer: &'a str,
    facts: Option<&'a ModelProfile>,
    runtime: Option<RuntimeKind>,
    version: Option<&'a str>,
    locked: bool,
}

impl Story<'_> {
    fn report(&self, made: &Made) -> Report {
        let name = self.common.profile.as_deref().unwrap_or(DEFAULT);
        let context = self.args.context(self.facts).ok().flatten();
        let (runtime, version) = (self.runtime.map(RuntimeKind::name), self.version);
        let mut report = Report::new();
        report.row(
            "profile",
            format_args!("{name}, in {}", made.file.display()),
        );
        let how = if self.locked {
            ", under the passphrase"
        } else {
            ""
        };
        let (secret, public) = (made.sign_key.display(), made.public.display());
        report.row(
            "signing key",
            format_args!("{secret}{how}; public half {public}"),
        );
        report.row(
            "trusted",
            format_args!("key {} as issuer {:?}", made.key, self.issuer),
        );
        let wrap = made.wrap_key.display();
        report.row(
            "wrapping key",
            match self.args.key_folder {
                true => format!("{wrap}, a key for each tenant and day"),
                false => format!("{wrap}{how}"),
            },
        );
        report.row(
            "valid",
            format_args!("{}, for audience {:?}", self.args.ttl, self.args.audience),
        );
        match self.facts {
            Some(facts) => report.row(
                "model",
                format_args!(
                    "{} ({} tokens of context)",
                    ui::quoted(&facts.model.name),
                    context.unwrap_or(0)
                ),
            ),
            None => report.row("model", "none: say --model, or add it to the profile"),
        }
        report.row(
            "runtime",
            match (runtime, version) {
                (Some(runtime), Some(version)) => format!("{runtime} {version}"),
                (Some(runtime), None) => format!(
                    "{runtime}; it does not say its version: add runtime-version to the profile"
                ),
                (None, _) => "found out from each state; its version is not stated".to_owned(),
            },
        );
        let with = match made.meant {
            true => String::new(),
            false => format!(" --profile {name}"),
        };
        report.line("");
        report.line(format_args!(
            "kvcap seal STATE{with}           makes STATE.kvcap"
        ));
        report.line(format_args!(
            "kvcap verify STATE.kvcap{with}   checks every byte of it"
        ));
        report.line(format_args!(
            "kvcap open STATE.kvcap{with}     writes STATE again, where it is not there"
        ));
        report.fact("profile", name);
        report.fact("file", made.file.display().to_string());
        report.fact("issuer", self.issuer);
        report.fact("key_id", made.key.to_string());
        report.fact("sign_key", made.sign_key.display().to_string());
        report.fact("public_output", made.public.display().to_string());
        report.fact("wrap_key", made.wrap_key.display().to_string());
        report.fact(
            "ledger",
            made.ledger.as_ref().map(|path| path.display().to_string()),
        );
        report.fact(
            "model_id",
            self.facts.map(|facts| facts.model.id.to_string()),
        );
        report.fact("context_size", context);
        report.fact("runtime", runtime);
        report.fact("runtime_version", version);
        report.fact("passphrase", self.locked);
        report
    }
}
