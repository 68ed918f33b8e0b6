//! `kvcap seal`: a runtime's state file into a capsule.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use clap::ValueEnum;
use kvcap::{
    CaptureFlags, Code, Error, MAX_LIFETIME, OpenedChain, PrefixValue, Result, SectionKind,
    SigningKey, SourceFile, Suite, Terms, binding::Digest,
};
use kvcap_codecs::{Codec, Guard, Padding, Preset};
use kvcap_models::{ModelProfile, RuntimeOptions};
use kvcap_states::{
    Capture, Continued, Encoding, Hints, Lineage, Prompt, RuntimeKind, SealRequest, State, detect,
    parse, seal_state,
};
use kvcap_store::{
    TrustSources, Verifier, WrapKeys,
    input::{self, Capsule},
    key_file,
    output::{self, Output, Readers},
    time,
};

use crate::{
    flags::{ChainArgs, Common, Compress, ModelArgs, Threads, duration, instant, preset, tokens},
    ui::{Report, progress, usage},
    verbs::seal_report,
};

/// Longest section that is sealed beside the banks.
const LONGEST_SECTION: u64 = 1 << 30;

/// Seals a runtime's saved state into a capsule
///
/// STATE is an mlx-lm prompt cache, a llama.cpp sequence, session, slot or blob file, a Hugging Face
/// cache as safetensors, or (with --runtime raw) any safetensors file. With --encoding exact the file
/// comes back byte for byte, save for rows past the cache's offset, which come back as zeros.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The saved state; - for stdin
    state: PathBuf,
    /// The capsule to write; - for stdout
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
    /// The model that computed the state: a model folder, GGUF file or .kvid file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    model_args: ModelArgs,
    /// The secret signing key's file
    #[arg(long, value_name = "KEY")]
    sign_key: PathBuf,
    /// A secret wrapping key's file: who holds it can open the capsule. Of a key folder it is the tenant's
    /// key of the day, made where there is none. Several may be given
    #[arg(long, value_name = "KEY", required_unless_present = "recipient")]
    wrap_key: Vec<PathBuf>,
    /// A public key (keygen hpke, keygen x-wing) whose holder shall be able to open the capsule: a KEY.pub
    /// file, or the key's text
    #[arg(long, value_name = "PUB")]
    recipient: Vec<String>,
    /// How long it is valid, from --not-before
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ttl: u64,
    /// How long renewals may extend it, from --not-before [default: 30d from now]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    renewable_for: Option<u64>,
    /// When it begins to be valid [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    not_before: Option<u64>,
    /// Which runtime saved the state
    #[arg(long, value_enum, default_value = "auto")]
    runtime: Runtime,
    /// The runtime's version or build commit
    #[arg(long, value_name = "V", default_value = "", hide_default_value = true)]
    runtime_version: String,
    /// How banks are encoded: exact keeps every bit, q8 halves the size, q4 and q4c quarter it
    #[arg(long, value_name = "ENCODING", default_value = "exact", value_parser = preset())]
    encoding: Preset,
    /// Another codec for keys: exact, q3 to q8, q4c, or with its group, q8_g32
    #[arg(long, value_name = "CODEC", value_parser = codec)]
    keys: Option<Codec>,
    /// Another codec for values
    #[arg(long, value_name = "CODEC", value_parser = codec)]
    values: Option<Codec>,
    /// The largest measured error that a lossy bank may have (centred key error, or relative RMSE of
    /// values) before it gets a finer codec; off to take every bank as asked
    #[arg(long, value_name = "LIMIT", default_value = "0.175", value_parser = limit)]
    guard: f64,
    /// Keep a bank exact that holds infinities or NaN, instead of refusing to encode it with loss
    #[arg(long)]
    keep_non_finite: bool,
    #[command(flatten)]
    compress: Compress,
    /// Algorithms
    #[arg(long, value_parser = ["chacha20-poly1305", "aes-256-gcm"], default_value = "chacha20-poly1305")]
    suite: String,
    /// Who seals
    #[arg(long, value_name = "NAME", default_value = "local")]
    issuer: String,
    /// Whose state it is
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Who may restore it
    #[arg(long, value_name = "NAME", default_value = "local")]
    audience: String,
    /// The tenant it belongs to
    #[arg(long = "tenant", alias = "org", value_name = "NAME")]
    org: Option<String>,
    /// What it may be used for
    #[arg(long, value_name = "WORD", default_value = kvcap::RESTORE)]
    scope: Vec<String>,
    /// May be restored once only
    #[arg(long)]
    single_use: bool,
    /// Its number within a session
    #[arg(long, value_name = "N")]
    seq: Option<u64>,
    /// The prompt's token ids, where the state does not carry them: a JSON array, or u32
    /// little-endian. They are sealed too
    #[arg(long, value_name = "FILE", group = "prompt")]
    tokens: Option<PathBuf>,
    /// The prompt's prefix value alone, in hexadecimal: the ids are not sealed
    #[arg(long, value_name = "HEX", group = "prompt")]
    prefix_hash: Option<String>,
    /// Bind the capsule to no prompt: nothing will tell whether it is restored under another one
    #[arg(long, group = "prompt")]
    danger_no_prefix: bool,
    /// Let anyone recognise the prompt, for start states that everyone shares
    #[arg(long)]
    public_prefix: bool,
    /// A capsule that the state goes on from: only what is new is sealed, once the rest is seen to be
    /// the same. Its ancestors are found in its folder, or where --chain says
    #[arg(long, value_name = "CAPSULE")]
    parent: Option<PathBuf>,
    #[command(flatten)]
    chain: ChainArgs,
    /// Who else may have signed the parent: a KEY.pub file, the key's text, or a key registry (with
    /// --registry-root) [default: the signing key's own]
    #[arg(long, value_name = "PUB|REGISTRY", requires = "parent")]
    trust: Vec<String>,
    /// The root whose signature a registry must have: a ROOT.pub file, or its text
    #[arg(long, value_name = "PUB", requires = "trust")]
    registry_root: Vec<String>,
    /// A curated start state that many sessions continue: has no subject
    #[arg(long, conflicts_with = "subject")]
    base: bool,
    /// The conversation, sealed beside the state
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// The agent's own state, sealed beside the state
    #[arg(long, value_name = "FILE")]
    agent_state: Option<PathBuf>,
    /// What was unusual when the state was computed
    #[arg(long, value_enum, value_name = "WHAT")]
    captured_with: Vec<Unusual>,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    Auto,
    MlxLm,
    LlamaCpp,
    Hf,
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unusual {
    SpeculativePrefill,
    MultiTokenPrediction,
    QuantizedAttention,
}

/// # Errors
/// 92x for the state, 93x for the model, 94x for keys, files and arguments; 9xx for values that a
/// lossy encoding cannot carry; 401, 5xx for statements that a reader would refuse.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    output::check_absent(&args.output, args.force)?;
    let signer = key_file::signing(&args.sign_key)?;
    let wrapping = WrapKeys::read(&args.wrap_key)?;
    let public = key_file::recipients(&args.recipient)?;
    let terms = args.terms(time::now())?;
    let wrapping = wrapping.sealing(args.org.as_deref(), terms.issued_at)?;
    let options = args.model_args.options()?;
    let profile = args.model_args.read(&args.model, common)?;
    let source = input::file(&args.state)?;
    let state = args
        .parse(&source, &profile)
        .map_err(|error| input::at(error, &args.state))?;
    let mut capture = args.capture(&state, &options)?;
    if let Some(parent) = &args.parent {
        let opened = args.opened(parent, &terms, &signer)?;
        capture.lineage.continued = Some(Continued::check(
            &state,
            &source,
            &opened,
            args.threads.workers(),
            &mut |_| {},
        )?);
    }

    let output = Output::create(&args.output, args.force, Readers::Umask)?;
    let plain = state.banks.iter().filter_map(|placed| {
        let bank = &placed.bank;
        bank.shape.plain_len(bank.dtype)
    });
    let bar = progress::bar(common.shows_progress(), "seal", plain.sum());
    let started = Instant::now();
    let sealed = seal_state(
        &output,
        SealRequest::new(&state, &source, &profile, capture, terms.clone(), &signer)
            .to(&key_file::all(&wrapping, &public))
            .encoding(args.encoding())
            .workers(args.threads.workers()),
        &mut |done| bar.inc(done),
    );
    bar.finish_and_clear();
    let (_, sealed) = sealed.map_err(|error| input::at(error, &args.state))?;
    output.commit()?;
    let report = seal_report::of(&state, &sealed, &profile, &terms, started.elapsed());
    Ok(args.note(report, &terms))
}

impl Args {
    fn parse(&self, source: &SourceFile, profile: &ModelProfile) -> Result<State> {
        let kind = match self.runtime {
            Runtime::Auto => detect(source)?,
            Runtime::MlxLm => RuntimeKind::MlxLm,
            Runtime::LlamaCpp => RuntimeKind::LlamaCpp,
            Runtime::Hf => RuntimeKind::HuggingFace,
            Runtime::Raw => RuntimeKind::Raw,
        };
        parse(kind, source, Hints::Model(&profile.geometry))
    }

    fn encoding(&self) -> Encoding {
        let guard = Guard {
            limit: self.guard,
            exact_where_non_finite: self.keep_non_finite,
        };
        Encoding {
            preset: self.encoding,
            keys: self.keys,
            values: self.values,
            compress: self.compress.padding(),
            // an infinite limit measures nothing, unless values that are not finite are looked for
            guard: Some(guard).filter(|guard| guard.limit.is_finite() || self.keep_non_finite),
        }
    }

    fn terms(&self, now: u64) -> Result<Terms> {
        let not_before = self.not_before.unwrap_or(now);
        let Some(expires) = not_before.checked_add(self.ttl).filter(|exp| *exp > now) else {
            return usage("the capsule would expire before it is sealed", "--ttl");
        };
        let renew_until = self
            .renewable_for
            .map(|more| not_before.saturating_add(more));
        if renew_until.is_some_and(|until| until < expires) {
            return usage(
                "renewals would end before the capsule does",
                "--renewable-for",
            );
        }
        let mut terms = Terms::new(&self.issuer, &self.audience, now, expires);
        terms.subject.clone_from(&self.subject);
        terms.tenant.clone_from(&self.org);
        terms.not_before = not_before;
        terms.scope = self.scope.join(" ");
        terms.sequence = self.seq;
        terms.single_use = self.single_use;
        terms.renew_until = renew_until;
        Ok(terms)
    }

    /// The chain that the state goes on from, for whom the new capsule will be.
    fn opened(
        &self,
        parent: &Path,
        terms: &Terms,
        signer: &SigningKey,
    ) -> Result<OpenedChain<SourceFile>> {
        let (untrusted, body) = Capsule::read(parent)?.split();
        let sources = TrustSources {
            items: self.trust.clone(),
            roots: self.registry_root.clone(),
        };
        let verifier = Verifier {
            at: Some(terms.issued_at),
            ..Verifier::new(sources)
        };
        let judge = verifier.judge()?.trusting(signer.public())?;
        let judge = judge.danger_as_stated(terms);
        let of = |error| input::at(error, parent);
        let verdict = judge.verify(untrusted).map_err(of)?;
        let source = body.fetch(verdict.tip().file_len())?;
        let verdict = verdict.with_source(source);
        let verdict = judge.with_ancestors(verdict, &self.chain.of(parent), |file| file)?;
        let keys = WrapKeys::read(&self.wrap_key)?;
        let admitted = judge.open(verdict, keys, None, self.threads.workers());
        Ok(admitted.map_err(of)?.opened)
    }

    fn capture(&self, state: &State, options: &RuntimeOptions) -> Result<Capture> {
        let mut sections = Vec::new();
        for (kind, path) in [
            (SectionKind::History, &self.history),
            (SectionKind::AgentState, &self.agent_state),
        ] {
            if let Some(path) = path {
                sections.push((kind, input::small(path, LONGEST_SECTION)?));
            }
        }
        let unusual = |what| self.captured_with.contains(&what);
        Ok(Capture {
            suite: match self.suite.as_str() {
                "aes-256-gcm" => Suite::Aes256Gcm,
                _ => Suite::ChaCha20Poly1305,
            },
            prompt: self.prompt(state)?,
            public_prefix: self.public_prefix,
            sections,
            runtime_version: self.runtime_version.clone(),
            facts: Vec::new(),
            hadamard: options.hadamard,
            flags: CaptureFlags {
                speculative_prefill: unusual(Unusual::SpeculativePrefill),
                multi_token_prediction: unusual(Unusual::MultiTokenPrediction),
                quantized_attention: unusual(Unusual::QuantizedAttention),
            },
            context_length: options.ctx_size.unwrap_or(0),
            lineage: Lineage {
                continued: None,
                base: self.base,
            },
        })
    }

    fn prompt(&self, state: &State) -> Result<Prompt> {
        if self.danger_no_prefix {
            return Ok(Prompt::DangerNone);
        }
        if let Some(path) = &self.tokens {
            return tokens(path).map(Prompt::Tokens);
        }
        let Some(hex) = &self.prefix_hash else {
            return Ok(Prompt::FromState);
        };
        match Digest::from_hex(hex) {
            Some(value) => Ok(Prompt::Value(PrefixValue {
                value,
                tokens: state.positions.end,
            })),
            None => Err(
                Error::new(Code::LocalUsage, "a prefix value has 64 hexadecimal digits")
                    .at("--prefix-hash"),
            ),
        }
    }

    /// What the person who seals should hear of.
    fn note(&self, mut report: Report, terms: &Terms) -> Report {
        report.row("written", self.output.display());
        report.fact("output", self.output.display().to_string());
        if let Some(padding) = self.compress.padding() {
            report.row(
                "note",
                match padding {
                    Padding::Padme => {
                        "compressed, padded by Padmé: lengths tell how repetitive the state is, and hardly more"
                    }
                    Padding::Fine => {
                        "compressed, finely padded: lengths can tell known prompts apart"
                    }
                },
            );
        }
        if self.danger_no_prefix {
            report.row(
                "note",
                "bound to no prompt: nothing tells if it is restored under another one",
            );
        }
        if terms.expires - terms.issued_at > MAX_LIFETIME {
            report.row(
                "note",
                "lives longer than the 30 days that verifiers accept by default",
            );
        }
        report
    }
}

/// A bound of the guard: a positive number, or `off`.
fn limit(text: &str) -> Result<f64, String> {
    match (text, text.parse()) {
        ("off", _) => Ok(f64::INFINITY),
        (_, Ok(limit)) if limit > 0.0 && f64::is_finite(limit) => Ok(limit),
        _ => Err("a limit is a positive number, or off".to_owned()),
    }
}

/// A codec by its name; `q8` has groups of 64.
fn codec(name: &str) -> Result<Codec, String> {
    let named = match name {
        "exact" => Some(Codec::Raw),
        name => Codec::from_name(name).or_else(|| Codec::from_name(&format!("{name}_g64"))),
    };
    named.ok_or_else(|| {
        "a codec is exact, q3, q4, q5, q6, q8, q4c, or one with its group, q8_g32".to_owned()
    })
}
