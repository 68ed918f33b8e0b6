//! How a llama-server is started.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use kvcap::{Code, Error, Result};
use kvcap_models::{RuntimeOptions, ScalingKind};

/// Settings of a llama-server of one's own.
#[derive(Clone, Debug)]
pub struct LlamaServerSettings {
    /// Program: a path, or a name to be found on the path.
    pub program: PathBuf,
    /// GGUF file.
    pub model: PathBuf,
    /// Sequences that it holds at once.
    pub slots: usize,
    /// Tokens that a slot has room for.
    pub context: u64,
    /// Options that change states.
    pub options: RuntimeOptions,
    /// Further arguments, of those that change neither what a state is nor who sees it.
    pub arguments: Vec<String>,
    /// File to which its output is appended; it has no prompts.
    pub log: Option<PathBuf>,
    /// Folder in which the private one is made; one in memory where `None`.
    pub folder: Option<PathBuf>,
    /// Longest time until the model is loaded.
    pub patience: Duration,
}

impl LlamaServerSettings {
    /// Returns settings with one slot of 4,096 tokens, on ten minutes' patience.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, model: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            model: model.into(),
            slots: 1,
            context: 4096,
            options: RuntimeOptions::default(),
            arguments: Vec::new(),
            log: None,
            folder: None,
            patience: Duration::from_secs(600),
        }
    }

    /// Options that change states, with the context that they depend on.
    pub(super) fn told(&self) -> RuntimeOptions {
        let mut options = self.options.clone();
        options.ctx_size = options.ctx_size.or(Some(self.context));
        options
    }

    /// Checks what the program is not asked about.
    pub(super) fn check(&self) -> Result<()> {
        if self.slots == 0 || self.context == 0 {
            return Err(usage(
                "an engine has at least one slot, and a slot at least one token",
            ));
        }
        let mut rest = self.arguments.iter();
        while let Some(argument) = rest.next() {
            let known = |known: &[&str]| known.contains(&argument.as_str());
            if known(VALUED) {
                if rest.next().is_none() {
                    return Err(usage("an argument of llama-server lacks its value").at(argument));
                }
            } else if !known(PLAIN) {
                return Err(usage(
                    "an argument of llama-server is not known to leave states and promises as they are",
                )
                .at(argument));
            }
        }
        Ok(())
    }

    /// The whole command line after the program, with the socket and the folder of states.
    pub(super) fn command_line(&self, socket: &OsString, states: &OsString) -> Vec<OsString> {
        let total = u64::try_from(self.slots)
            .unwrap_or(u64::MAX)
            .saturating_mul(self.context);
        let mut line: Vec<OsString> = vec!["-m".into(), self.model.clone().into()];
        let mut add = |words: &[&str]| line.extend(words.iter().map(OsString::from));
        add(&["-np", &self.slots.to_string(), "-c", &total.to_string()]);
        // nothing but a slot is reused: its own store of prompts, of whoever asked, is off
        add(&[
            "--cache-ram",
            "0",
            "--no-ui",
            "--no-context-shift",
            "--jinja",
        ]);
        let options = &self.options;
        if let Some(base) = options.rope_freq_base {
            add(&["--rope-freq-base", &base.to_string()]);
        }
        if let Some(scale) = options.rope_freq_scale {
            add(&["--rope-freq-scale", &scale.to_string()]);
        }
        match options.rope_scaling {
            Some(ScalingKind::None) => add(&["--rope-scaling", "none"]),
            Some(ScalingKind::Linear) => add(&["--rope-scaling", "linear"]),
            Some(ScalingKind::Yarn) => add(&["--rope-scaling", "yarn"]),
            // the model's own
            Some(ScalingKind::LongRope) | None => {}
        }
        line.extend(self.arguments.iter().map(OsString::from));
        line.extend(["--host".into(), socket.clone()]);
        // it puts a file's name behind this as it is
        let mut folder = states.clone();
        folder.push("/");
        line.extend(["--slot-save-path".into(), folder]);
        line
    }
}

fn usage(what: &'static str) -> Error {
    Error::new(Code::LocalUsage, what)
}

/// Arguments with a value. All others are refused: adapters, drafts, images, addresses, logs of prompts and whatever is
/// new.
const VALUED: &[&str] = &[
    // where it computes
    "-t",
    "--threads",
    "-tb",
    "--threads-batch",
    "-ngl",
    "--n-gpu-layers",
    "-dev",
    "--device",
    "-sm",
    "--split-mode",
    "-ts",
    "--tensor-split",
    "-mg",
    "--main-gpu",
    "-b",
    "--batch-size",
    "-ub",
    "--ubatch-size",
    "--numa",
    "--prio",
    "--poll",
    "-ncmoe",
    "--n-cpu-moe",
    // what a state shows itself
    "-fa",
    "--flash-attn",
    "-ctk",
    "--cache-type-k",
    "-ctv",
    "--cache-type-v",
    "-ctxcp",
    "--ctx-checkpoints",
    // what a prompt's ids show
    "--chat-template",
    "--chat-template-file",
    "--chat-template-kwargs",
    // how an answer looks
    "-a",
    "--alias",
    "--reasoning-format",
    "--reasoning-budget",
    "-n",
    "--predict",
    "--temp",
    "--top-k",
    "--top-p",
    "--min-p",
    "-s",
    "--seed",
];

const PLAIN: &[&str] = &[
    "--swa-full",
    "--no-mmap",
    "--mlock",
    "--no-warmup",
    "--cpu-moe",
    "--no-kv-offload",
    "--no-repack",
    "--cont-batching",
];
