//! `kvcap demo`: the whole story, told by the other verbs on a real state file.

mod forge;
#[cfg(feature = "server")]
mod server;

use self::forge::{other_weights, tampered};
use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use kvcap::{Code, Error, Limits, Result, Untrusted};
use serde_json::{Value, json};

use crate::{
    flags::{EngineArgs, UNBUILT},
    ui::{Report, error_json, grouped, table},
};

/// A prompt cache that mlx-lm 0.31.3 saved, the facts of its model, and the prompt's token ids.
const STATE: &[u8] = include_bytes!("../../demo/state.safetensors");
const MODEL: &str = include_str!("../../demo/model.kvid");
const PROMPT: &str = include_str!("../../demo/prompt.json");

/// Shows the whole story on a real saved state that comes with the program
///
/// Makes keys, seals, verifies, inspects and opens in a temporary folder, compares the result byte for
/// byte, and then shows what is refused. Every line is made by the verb that it names.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show instead a conversation with --model in llama-server that goes on after its server has ended
    #[arg(long, hide = UNBUILT)]
    server: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs a command line of the program.
pub(crate) type RunLine = fn(&[OsString]) -> Result<Report>;

/// The temporary folder, and what has been told so far.
struct Stage {
    verb: RunLine,
    folder: PathBuf,
    told: Vec<Vec<String>>,
    steps: Vec<Value>,
    refused: Vec<Vec<String>>,
    refusals: Vec<Value>,
}

/// # Errors
/// Whatever a verb answers other than the story has it.
pub(crate) fn run(args: &Args, verb: RunLine) -> Result<Report> {
    if args.server {
        return with_server(&args.engine);
    }
    if args.engine.model.is_some() {
        return crate::ui::usage("a model is shown in a server", "--server");
    }
    let folder = tempfile::tempdir().map_err(|error| Error::sink(&error, "temporary folder"))?;
    let mut stage = Stage {
        verb,
        folder: folder.path().to_owned(),
        told: Vec::new(),
        steps: Vec::new(),
        refused: Vec::new(),
        refusals: Vec::new(),
    };
    stage.story()?;
    stage.refusals()?;
    Ok(stage.report())
}

/// # Errors
/// As `server::run`.
#[cfg(feature = "server")]
fn with_server(engine: &EngineArgs) -> Result<Report> {
    server::run(engine)
}

/// # Errors
/// KVC-944: this program was built without the server.
#[cfg(not(feature = "server"))]
fn with_server(_: &EngineArgs) -> Result<Report> {
    super::serve::unbuilt()
}

impl Stage {
    fn story(&mut self) -> Result<()> {
        self.put("state.safetensors", STATE)?;
        self.put("model.kvid", MODEL.as_bytes())?;
        self.put("prompt.json", PROMPT.as_bytes())?;

        let (_, first) = self.run("keygen sign -o @issuer.key")?;
        let (_, second) = self.run("keygen wrap -o @reader.key")?;
        self.tell(
            "keygen",
            "one key to sign with, one to open with",
            String::new(),
            first + second,
        );

        let (sealed, took) = self.run(
            "seal @state.safetensors -o @state.kvcap --model @model.kvid --tokens @prompt.json \
             --sign-key @issuer.key --wrap-key @reader.key --ttl 24h",
        )?;
        let what = format!(
            "{} tokens of {}, every bit, encrypted and signed",
            sealed["tokens"],
            sealed["format"].as_str().unwrap_or_default()
        );
        let result = format!(
            "{} → {} bytes",
            grouped(number(&sealed, "state_bytes")),
            grouped(number(&sealed, "file_bytes")),
        );
        self.tell("seal", &what, result, took);

        let (verified, took) =
            self.run("verify @state.kvcap --trust @issuer.key.pub --model @model.kvid")?;
        let result = format!("accepted, {} chunks", verified["chunks"]);
        self.tell(
            "verify",
            "every byte, with the public key and no secret",
            result,
            took,
        );

        let (seen, took) = self.run("inspect @state.kvcap --trust @issuer.key.pub")?;
        let total = &seen["signed"]["banks_total"];
        let result = format!(
            "{} bytes a token",
            grouped(number(total, "bytes_per_token"))
        );
        self.tell(
            "inspect",
            "the header alone: whose, for whom, which model",
            result,
            took,
        );

        let (opened, took) = self.run(
            "open @state.kvcap -o @opened.safetensors --trust @issuer.key.pub --model @model.kvid \
             --wrap-key @reader.key --tokens @prompt.json",
        )?;
        let result = format!("{} bytes", grouped(number(&opened, "output_bytes")));
        self.tell("open", "back into the runtime's own file", result, took);

        match self.get("opened.safetensors")? == STATE {
            true => self.tell(
                "compare",
                "byte for byte with the original",
                "identical: yes".to_owned(),
                Duration::ZERO,
            ),
            false => return Err(faulty("the opened state is not the one that was sealed")),
        }
        self.steps
            .push(json!({"step": "compare", "identical": true}));
        Ok(())
    }

    fn refusals(&mut self) -> Result<()> {
        let capsule = self.get("state.kvcap")?;
        let expires = Untrusted::read_at(&capsule, &Limits::default())?
            .claims()
            .terms
            .expires;
        self.put(
            "other.kvid",
            other_weights(&self.path("model.kvid"))?.as_bytes(),
        )?;
        self.put("other.json", b"[0, 1820, 1890]")?;
        let (flipped, swapped) = tampered(&capsule)?;
        self.put("flipped.kvcap", &flipped)?;
        self.put("swapped.kvcap", &swapped)?;
        self.run("keygen sign -o @stranger.key")?;
        self.run("keygen wrap -o @other.key")?;

        let verify = "verify @state.kvcap --trust @issuer.key.pub";
        let open = "open @CAPSULE -o @leak --trust @issuer.key.pub --model @model.kvid";
        let open_it = open.replace("CAPSULE", "state.kvcap");
        for (case, code, line) in [
            ("a day later", 402, format!("{verify} --at {expires}")),
            (
                "other weights",
                601,
                format!("{verify} --model @other.kvid"),
            ),
            (
                "one bit flipped",
                805,
                format!(
                    "{} --wrap-key @reader.key",
                    open.replace("CAPSULE", "flipped.kvcap")
                ),
            ),
            (
                "two chunks swapped",
                805,
                "verify @swapped.kvcap --trust @issuer.key.pub".to_owned(),
            ),
            (
                "another issuer",
                301,
                "verify @state.kvcap --trust @stranger.key.pub".to_owned(),
            ),
            (
                "another reader",
                809,
                format!("{open_it} --wrap-key @other.key"),
            ),
            (
                "another prompt",
                605,
                format!("{open_it} --wrap-key @reader.key --tokens @other.json"),
            ),
        ] {
            self.expect(case, code, &line)?;
        }
        match self.path("leak").exists() {
            true => Err(faulty("a refused capsule left an output")),
            false => Ok(()),
        }
    }

    /// Runs a verb as the command line does; words with `@` are files of the folder.
    fn run(&self, line: &str) -> Result<(Value, Duration)> {
        let words = line
            .split_whitespace()
            .map(|word| match word.strip_prefix('@') {
                Some(name) => self.path(name).into_os_string(),
                None => word.into(),
            });
        let line: Vec<OsString> = [("kvcap").into(), "--quiet".into()]
            .into_iter()
            .chain(words)
            .collect();
        let started = Instant::now();
        let report = (self.verb)(&line)?;
        Ok((report.to_json(), started.elapsed()))
    }

    fn expect(&mut self, case: &'static str, code: u16, line: &str) -> Result<()> {
        let Err(error) = self.run(line) else {
            return Err(faulty("a capsule was accepted that must be refused").at(case));
        };
        if error.code().number() != code {
            return Err(error.at(case));
        }
        let verb = line.split(' ').next().unwrap_or_default();
        self.refused.push(vec![
            case.to_owned(),
            verb.to_owned(),
            error.code().to_string(),
            error.what().to_owned(),
        ]);
        let answer = error_json(&error);
        self.refusals
            .push(json!({"case": case, "verb": verb, "error": answer["error"]}));
        Ok(())
    }

    fn tell(&mut self, verb: &str, what: &str, result: String, took: Duration) {
        let time = match took.is_zero() {
            true => String::new(),
            false => format!("{:.1} ms", took.as_secs_f64() * 1e3),
        };
        self.told
            .push(vec![verb.to_owned(), what.to_owned(), result.clone(), time]);
        self.steps.push(
            json!({"step": verb, "what": what, "result": result, "seconds": took.as_secs_f64()}),
        );
    }

    fn report(self) -> Report {
        let mut report = Report::new();
        let mut lines = vec![
            "A model's attention state (KV cache) from mlx-lm: sealed, verified, opened."
                .to_owned(),
            String::new(),
        ];
        lines.extend(table::lines(
            &[
                ("step", '<'),
                ("what it does", '<'),
                ("result", '<'),
                ("took", '>'),
            ],
            &self.told,
        ));
        lines.extend([
            String::new(),
            "And what is refused, before a runtime sees a byte:".to_owned(),
            String::new(),
        ]);
        lines.extend(table::lines(
            &[
                ("what if", '<'),
                ("step", '<'),
                ("code", '<'),
                ("answer", '<'),
            ],
            &self.refused,
        ));
        lines.extend([
            String::new(),
            "Now yours:".to_owned(),
            "  kvcap init --model MODEL    a profile, with keys".to_owned(),
            "  kvcap seal STATE            makes STATE.kvcap".to_owned(),
            "  kvcap verify STATE.kvcap    checks every byte of it".to_owned(),
            "  kvcap open STATE.kvcap      writes STATE again".to_owned(),
        ]);
        for line in lines {
            report.line(line);
        }
        report.fact("identical", true);
        report.fact("steps", self.steps);
        report.fact("refusals", self.refusals);
        report
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        fs::write(self.path(name), content).map_err(|error| Error::sink(&error, name))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.path(name)).map_err(|error| Error::source(&error, name))
    }
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or(0)
}

pub(crate) fn faulty(what: &'static str) -> Error {
    Error::new(Code::LocalIo, what).at("this build is faulty")
}
