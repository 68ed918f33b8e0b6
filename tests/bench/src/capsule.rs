//! `kvcap-bench capsule`: sealing, verifying and opening beside the sum of their stages.

use std::time::Duration;

use kvcap::{Result, Suite, Workers};
use kvcap_testkit::LEAST;
use serde_json::{Value, json};

use super::{
    Least,
    headers::{Header, Headers},
    passes::{Bench, Sealed},
    report::Report,
    stages::{Chunks, Encode, Stages, chunk_len},
};

/// Bytes that each pass goes over in all its rounds, at least.
const ENOUGH: u64 = 4 << 30;

/// A short pass runs several times in a row in each round, and so do its stages.
const MOST_REPEATS: u64 = 10;

/// Seals, verifies and opens made states, beside memcpy and the sum of the stages
///
/// From memory into memory, one core and all of them, nothing but a round's least time counted. The
/// limit of a pass is the sum of its stages, each measured alone on one core in the same run. Takes
/// three times the longest state of memory.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of a made state; several may be given
    #[arg(long, value_name = "N", default_values_t = [1 << 20, 146_846_456, 415_047_224], value_parser = clap::value_parser!(u64).range(LEAST..=1 << 40))]
    bytes: Vec<u64>,
    /// Encodings to measure: exact, compress, q8, k8v4, q4, q4c [default: all but k8v4]
    #[arg(long, value_name = "NAME", value_parser = encode)]
    encoding: Vec<Encode>,
    /// Rounds [default: as many as make 4 GiB, from 2 to 30]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: Option<u64>,
}

/// A pass of one capsule, in seconds.
struct Pass {
    name: &'static str,
    suite: Suite,
    encoding: &'static str,
    one: f64,
    all: f64,
    /// Its stages, in seconds.
    stages: Vec<(&'static str, f64)>,
}

impl Pass {
    fn limit(&self) -> f64 {
        self.stages.iter().map(|(_, seconds)| seconds).sum()
    }
}

/// All that was measured on a state of one length.
struct StreamDigest {
    bytes: f64,
    memcpy: f64,
    passes: Vec<Pass>,
    stages: Stages,
    headers: Vec<(Encode, Header)>,
}

/// # Errors
/// None that a made state should give.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let encodings: Vec<Encode> = match args.encoding.as_slice() {
        // k8v4 is a mixture of two others
        [] => Encode::all()
            .filter(|encode| encode.name != "k8v4")
            .collect(),
        some => some.to_vec(),
    };
    let mut sizes = args.bytes.clone();
    sizes.sort_unstable();
    let measured = sizes
        .iter()
        .map(|bytes| {
            let passes = ENOUGH / bytes;
            let rounds = args.rounds.unwrap_or(passes.clamp(2, 30));
            let repeats = (passes / rounds).clamp(1, MOST_REPEATS);
            measure(*bytes, &encodings, (rounds, repeats))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut report = Report::new();
    report.row("provider", Suite::provider());
    report.row("cores", Workers::all().count());
    for measured in &measured {
        measured.tell(&mut report);
    }
    slopes(&measured, &mut report);
    report.fact("provider", Suite::provider());
    report.fact("cores", Workers::all().count());
    let facts: Vec<Value> = measured.iter().map(StreamDigest::fact).collect();
    report.fact("sizes", facts);
    Ok(report)
}

fn measure(
    bytes: u64,
    encodings: &[Encode],
    (rounds, repeats): (u64, u64),
) -> Result<StreamDigest> {
    let mut bench = Bench::new(bytes)?;
    let mut chunk_lens = Vec::new();
    for encode in encodings {
        chunk_lens.push((*encode, chunk_len(&mut bench, *encode)?));
    }
    let mut lens: Vec<usize> = chunk_lens.iter().map(|(_, len)| *len).collect();
    lens.sort_unstable_by(|one, other| other.cmp(one));
    lens.dedup();
    let mut stages = Stages::measure(&mut bench, encodings, &lens, repeats)?;
    let mut headers = Headers::new(encodings)?;
    let cases = || {
        let suites = Suite::ALL.into_iter();
        suites.flat_map(|suite| encodings.iter().map(move |encode| (suite, *encode)))
    };
    // least seconds of seal, verify and open on one core and on all, and what was sealed
    let mut least: Vec<([[f64; 2]; 3], f64)> = cases().map(|_| ([[f64::MAX; 2]; 3], 0.0)).collect();
    for _ in 0..rounds {
        stages.least(&Stages::measure(&mut bench, encodings, &lens, repeats)?);
        headers.measure(repeats)?;
        for ((suite, encode), (least, stored)) in cases().zip(&mut least) {
            for (at, workers) in [Workers::ONE, Workers::all()].into_iter().enumerate() {
                let mut keep = |pass: usize, time: Duration| {
                    if let Some(least) = least.get_mut(pass).and_then(|pass| pass.get_mut(at)) {
                        *least = least.min(time.as_secs_f64());
                    }
                };
                let mut last = None;
                for _ in 0..repeats {
                    let (sealed, time) = bench.seal(suite, encode.encoding(), workers)?;
                    keep(0, time);
                    last = Some(sealed);
                }
                let Some(sealed) = last else { continue };
                *stored = body(sealed);
                for _ in 0..repeats {
                    keep(1, bench.verify(sealed, workers)?);
                }
                for _ in 0..repeats {
                    keep(2, bench.open(sealed, workers)?);
                }
            }
        }
    }
    let mut passes = Vec::new();
    for (at, name) in ["seal", "verify", "open"].into_iter().enumerate() {
        for ((suite, encode), (least, stored)) in cases().zip(&least) {
            let chunk_len = chunk_lens.iter().find(|(of, _)| *of == encode);
            let chunks = chunk_len.and_then(|(_, len)| stages.chunks(*len));
            let Some((header, chunks)) = headers.of(encode).zip(chunks) else {
                continue;
            };
            let [one, all] = least.get(at).copied().unwrap_or_default();
            passes.push(Pass {
                name,
                suite,
                encoding: encode.name,
                one,
                all,
                stages: parts(
                    name,
                    &stages,
                    (header, chunks),
                    suite,
                    encode,
                    (bench.bytes(), *stored),
                ),
            });
        }
    }
    Ok(StreamDigest {
        bytes: bench.bytes(),
        memcpy: stages.memcpy * bench.bytes(),
        passes,
        stages,
        headers: headers.least,
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn body(sealed: Sealed) -> f64 {
    sealed.body_len as f64
}

/// The stages of a pass, in seconds.
fn parts(
    pass: &str,
    stages: &Stages,
    (header, chunks): (Header, &Chunks),
    suite: Suite,
    encode: Encode,
    (plain, stored): (f64, f64),
) -> Vec<(&'static str, f64)> {
    let cipher = chunks.ciphers.iter().find(|(of, _)| *of == suite);
    let (seal, open) = cipher.map_or((0.0, 0.0), |(_, cipher)| (cipher.seal, cipher.open));
    let coding = stages.codings.iter().find(|(of, _)| *of == encode);
    let (code, decode, receipt) = coding.map_or((0.0, 0.0, 0.0), |(_, coding)| {
        (coding.encode, coding.decode, coding.receipt)
    });
    let leaf = ("leaf", chunks.leaf * stored);
    let check = ("leaf", chunks.check * stored);
    let mut parts = match pass {
        "seal" => vec![
            ("header", header.seal),
            ("gather", stages.frames.gather * plain),
            ("encode", code * plain),
            ("receipt", receipt * plain),
            ("cipher", seal * stored),
            leaf,
            ("write", chunks.write * stored),
        ],
        "verify" => vec![("header", header.verify), check],
        _ => vec![
            ("header", header.verify + header.unlock + header.skeleton),
            check,
            ("cipher", open * stored),
            ("decode", decode * plain),
            ("scatter", stages.frames.scatter * plain),
        ],
    };
    parts.retain(|(_, seconds)| *seconds > 0.0);
    parts
}

impl StreamDigest {
    /// How much faster all cores are than one where they share nothing.
    fn apart(&self) -> f64 {
        self.stages.apart.one / self.stages.apart.all
    }

    fn tell(&self, report: &mut Report) {
        let rate = |seconds: f64| format!("{:.2}", self.bytes / seconds / 1e9);
        report.line("");
        report.line(format_args!(
            "{:.0} bytes: memcpy {} GB/s; all cores, nothing shared, {:.2} × one",
            self.bytes,
            rate(self.memcpy),
            self.apart(),
        ));
        report.line("");
        let stage = |name: String, per_byte: f64| {
            let seconds = per_byte * self.bytes;
            let ratio = format!("{:.3}", self.memcpy / seconds);
            vec![name, rate(seconds), ratio]
        };
        let stages = &self.stages;
        let mut rows = vec![
            stage(
                "gather frames of the state".to_owned(),
                stages.frames.gather,
            ),
            stage(
                "scatter frames of the state".to_owned(),
                stages.frames.scatter,
            ),
        ];
        for (len, chunks) in &stages.chunks {
            rows.push(stage(format!("write chunks of {len} bytes"), chunks.write));
            let leaf = "leaf hash of them where they lie".to_owned();
            rows.push(stage(leaf, chunks.check));
            rows.push(stage("leaf hash".to_owned(), chunks.leaf));
            for (suite, cipher) in &chunks.ciphers {
                let name = suite.name();
                rows.push(stage(format!("{name} seal"), cipher.seal));
                rows.push(stage(format!("{name} open"), cipher.open));
            }
        }
        for (encode, coding) in &stages.codings {
            let steps = [
                ("encode", coding.encode),
                ("decode", coding.decode),
                ("receipt", coding.receipt),
            ];
            for (step, cost) in steps.into_iter().filter(|(_, cost)| *cost > 0.0) {
                rows.push(stage(format!("{} {step}", encode.name), cost));
            }
        }
        let head = [("stage, one core", '<'), ("GB/s", '>'), ("× memcpy", '>')];
        report.table(&head, &rows);
        report.line("");
        let head = [
            ("header, µs", '<'),
            ("seal", '>'),
            ("verify", '>'),
            ("unlock", '>'),
            ("state", '>'),
        ];
        let micros = |seconds: f64| format!("{:.0}", seconds * 1e6);
        let row = |(encode, header): &(Encode, Header)| {
            let Header {
                seal,
                verify,
                unlock,
                skeleton,
            } = *header;
            let mut row = vec![encode.name.to_owned()];
            row.extend([seal, verify, unlock, skeleton].map(micros));
            row
        };
        let rows: Vec<_> = self.headers.iter().map(row).collect();
        report.table(&head, &rows);
        report.line("");
        let head = [
            ("pass", '<'),
            ("suite", '<'),
            ("encoding", '<'),
            ("ms", '>'),
            ("GB/s", '>'),
            ("× memcpy", '>'),
            ("limit ms", '>'),
            ("of limit", '>'),
            ("all cores ms", '>'),
            ("GB/s", '>'),
            ("× one", '>'),
        ];
        let row = |pass: &Pass| {
            vec![
                pass.name.to_owned(),
                pass.suite.name().to_owned(),
                pass.encoding.to_owned(),
                format!("{:.2}", pass.one * 1e3),
                rate(pass.one),
                format!("{:.3}", self.memcpy / pass.one),
                format!("{:.2}", pass.limit() * 1e3),
                format!("{:.0} %", pass.limit() / pass.one * 100.0),
                format!("{:.2}", pass.all * 1e3),
                rate(pass.all),
                format!("{:.2}", pass.one / pass.all),
            ]
        };
        let rows: Vec<_> = self.passes.iter().map(row).collect();
        report.table(&head, &rows);
    }

    fn fact(&self) -> Value {
        let pass = |pass: &Pass| {
            json!({
                "pass": pass.name,
                "suite": pass.suite.name(),
                "encoding": pass.encoding,
                "seconds_one_core": pass.one,
                "seconds_all_cores": pass.all,
                "seconds_of_stages": pass.limit(),
                "memcpy": self.memcpy / pass.one,
                "stages": pass.stages,
            })
        };
        let header = |(encode, header): &(Encode, Header)| {
            json!({
                "encoding": encode.name,
                "seal_seconds": header.seal,
                "verify_seconds": header.verify,
                "unlock_seconds": header.unlock,
                "state_seconds": header.skeleton,
            })
        };
        json!({
            "bytes": self.bytes,
            "memcpy_seconds": self.memcpy,
            "all_cores_sharing_nothing": self.apart(),
            "headers": self.headers.iter().map(header).collect::<Vec<_>>(),
            "passes": self.passes.iter().map(pass).collect::<Vec<_>>(),
        })
    }
}

/// What a byte more costs, between neighbouring lengths.
fn slopes(measured: &[StreamDigest], report: &mut Report) {
    let mut rows = Vec::new();
    for pass in measured.first().map_or(&[][..], |first| &first.passes) {
        let same = |of: &StreamDigest| {
            let found = of.passes.iter().find(|other| {
                (other.name, other.suite, other.encoding) == (pass.name, pass.suite, pass.encoding)
            });
            (of.bytes, found.map_or(f64::NAN, |found| found.one))
        };
        let points: Vec<(f64, f64)> = measured.iter().map(same).collect();
        let mut row = vec![
            pass.name.to_owned(),
            pass.suite.name().to_owned(),
            pass.encoding.to_owned(),
        ];
        row.extend(points.windows(2).map(|pair| match pair {
            [from, to] => format!("{:.3}", (to.1 - from.1) / (to.0 - from.0) * 1e9),
            _ => String::new(),
        }));
        rows.push(row);
    }
    if measured.len() < 2 {
        return;
    }
    let names: Vec<String> = measured
        .iter()
        .skip(1)
        .map(|to| format!("to {:.0}", to.bytes))
        .collect();
    let mut head = vec![("pass", '<'), ("suite", '<'), ("encoding", '<')];
    head.extend(names.iter().map(|name| (name.as_str(), '>')));
    report.line("");
    report.line("ns a byte more, from each length to the next, one core");
    report.line("");
    report.table(&head, &rows);
}

/// An encoding by its name.
pub(super) fn encode(name: &str) -> std::result::Result<Encode, String> {
    let found = Encode::all().find(|encode| encode.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = Encode::all().map(|encode| encode.name).collect();
        format!("an encoding is {}", names.join(", "))
    })
}
