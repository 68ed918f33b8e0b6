//! How a state is sealed: the flags of every verb that does, and what they come to.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kvcap::{
    CaptureFlags, Code, Error, PrefixValue, Result, SectionKind, SourceFile, Terms, binding::Digest,
};
use kvcap_codecs::{Codec, Guard, Preset};
use kvcap_models::{ModelProfile, RuntimeOptions};
use kvcap_states::{
    Capture, Encoding, Hints, Lineage, Prompt, RuntimeKind, SealReport, SealRequest, State, detect,
    parse, seal_state,
};
use kvcap_store::{Parties, Passphrases, input, output::Output};

use crate::{
    flags::{Budget, Common, Compress, ModelArgs, SealedFor, Threads, TokensArgs, preset},
    ui::progress,
};

/// How a state is sealed, for whom and until when.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// The model that computed the state: a model folder, GGUF file or .kvid file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    model_args: ModelArgs,
    #[command(flatten)]
    pub(crate) sealed_for: SealedFor,
    /// Which runtime saved the state
    #[arg(long, value_enum, default_value = "auto")]
    runtime: Runtime,
    /// The runtime's version or build commit
    #[arg(long, value_name = "V", default_value = "", hide_default_value = true)]
    runtime_version: String,
    /// How banks are encoded: exact keeps every bit; near, small and tiny take at most 5, 4 and 3 bits a
    /// value (measured on SmolLM2-135M: KL of 4e-4, 2e-3 and 1e-2 nats; with a profile of the model 6e-5, 2e-4
    /// and 9e-4), tc:RATE at most RATE, 0.25 to 16; auto:KL as many as --codec-profile promises to lose at
    /// most KL nats with. q8, k8v4, q4 and q4c are older, of 8.5 to 4.5 bits
    #[arg(long, value_name = "ENCODING", default_value = "exact", value_parser = preset())]
    encoding: Preset,
    /// Another codec for keys: exact, q3 to q8, q4c, or with its group, q8_g32
    #[arg(long, value_name = "CODEC", value_parser = codec)]
    keys: Option<Codec>,
    /// Another codec for values
    #[arg(long, value_name = "CODEC", value_parser = codec)]
    values: Option<Codec>,
    /// Take a finer codec for a bank whose measured error (centred key error, or relative RMSE of values) is over
    /// this limit, 0.175 for instance. Which banks these are, and their lengths, then depend on the prompt
    #[arg(long, value_name = "LIMIT", default_value = "off", value_parser = limit)]
    guard: f64,
    /// Keep a bank exact that holds infinities or NaN, instead of refusing to encode it with loss. Which banks
    /// these are then depends on the prompt
    #[arg(long)]
    keep_non_finite: bool,
    #[command(flatten)]
    pub(crate) compress: Compress,
    #[command(flatten)]
    tokens: TokensArgs,
    /// The prompt's prefix value alone, in hexadecimal: the ids are not sealed
    #[arg(long, value_name = "HEX", group = "prompt")]
    prefix_hash: Option<String>,
    /// Bind the capsule to no prompt: nothing will tell whether it is restored under another one
    #[arg(long, group = "prompt")]
    pub(crate) danger_no_prefix: bool,
    /// Let anyone recognise the prompt, for start states that everyone shares
    #[arg(long)]
    public_prefix: bool,
    /// What was unusual when the state was computed
    #[arg(long, value_enum, value_name = "WHAT")]
    captured_with: Vec<Unusual>,
    #[command(flatten)]
    pub(crate) budget: Budget,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    Auto,
    MlxLm,
    #[value(alias = "llama.cpp")]
    LlamaCpp,
    #[value(alias = "transformers")]
    Hf,
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unusual {
    SpeculativePrefill,
    MultiTokenPrediction,
    QuantizedAttention,
}

/// A state that is read, and all that it takes to seal it.
pub(crate) struct Prepared {
    pub(crate) state: State,
    pub(crate) source: SourceFile,
    pub(crate) profile: ModelProfile,
    pub(crate) parties: Parties,
    path: PathBuf,
    options: RuntimeOptions,
    /// What a rate is encoded with, where it is named.
    codec_profile: Option<Digest>,
}

impl Prepared {
    /// What is said of the state's capture, with these sections beside it.
    ///
    /// # Errors
    /// KVC-944 for tokens that are none.
    pub(crate) fn capture(
        &self,
        how: &How,
        sections: Vec<(SectionKind, Vec<u8>)>,
    ) -> Result<Capture> {
        how.capture(&self.state, &self.options, sections)
    }

    /// Seals the state into an output.
    ///
    /// # Errors
    /// As [`seal_state`].
    pub(crate) fn seal(
        &self,
        how: &How,
        capture: Capture,
        terms: Terms,
        output: &Output,
        common: &Common,
    ) -> Result<SealReport> {
        let plain = self.state.banks.iter().filter_map(|placed| {
            let bank = &placed.bank;
            bank.shape.plain_len(bank.dtype)
        });
        let bar = progress::bar(common.shows_progress(), "seal", plain.sum());
        let (state, source, signer) = (&self.state, &self.source, &self.parties.signer);
        let sealed = seal_state(
            output,
            SealRequest::new(state, source, &self.profile, capture, terms, signer)
                .to(&self.parties.recipients())
                .encoding(Encoding {
                    profile: self.codec_profile,
                    ..how.encoding()
                })
                .workers(how.threads.workers()),
            &mut |done| bar.inc(done),
        );
        bar.finish();
        let sealed = sealed.map_err(|error| output.at(input::at(error, &self.path)));
        sealed.map(|(_, report)| report)
    }
}

impl How {
    /// Reads the keys, the model and the state.
    ///
    /// # Errors
    /// 92x for the state, 93x for the model, 94x for keys, files and arguments.
    pub(crate) fn prepare(
        &self,
        path: &Path,
        passphrases: &Passphrases<'_>,
        common: &Common,
    ) -> Result<Prepared> {
        let parties = self.sealed_for.read(passphrases)?;
        let options = self.model_args.options()?;
        let profile = self.model_args.read(&self.model, common)?;
        let codec_profile = self.model_args.find_profiles(None)?;
        let source = input::file(path)?;
        let state = self
            .parse(&source, &profile)
            .map_err(|error| input::at(error, path))?;
        Ok(Prepared {
            state,
            source,
            profile,
            parties,
            path: path.to_owned(),
            options,
            codec_profile,
        })
    }

    /// The tenant and the subject that a session of it belongs to.
    pub(crate) fn owner(&self) -> (Option<String>, Option<String>) {
        (self.sealed_for.org.clone(), self.sealed_for.subject.clone())
    }

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
            profile: None,
            keys: self.keys,
            values: self.values,
            compress: self.compress.padding(),
            // an infinite limit measures nothing, unless values that are not finite are looked for
            guard: Some(guard).filter(|guard| guard.limit.is_finite() || self.keep_non_finite),
        }
    }

    fn capture(
        &self,
        state: &State,
        options: &RuntimeOptions,
        sections: Vec<(SectionKind, Vec<u8>)>,
    ) -> Result<Capture> {
        let unusual = |what| self.captured_with.contains(&what);
        Ok(Capture {
            suite: self.sealed_for.suite(),
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
            lineage: Lineage::default(),
        })
    }

    fn prompt(&self, state: &State) -> Result<Prompt> {
        if self.danger_no_prefix {
            return Ok(Prompt::DangerNone);
        }
        if let Some(ids) = self.tokens.read()? {
            return Ok(Prompt::Tokens(ids));
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
