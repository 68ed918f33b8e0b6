//! `kvcap-bench encodings`: sealing, opening and decoding by each encoding, in rounds that take turns.

use std::{hint::black_box, path::PathBuf, time::Duration};

use kvcap::{Bank, Code, Error, Result, Role, Suite, Workers, binding::Digest};
use kvcap_codecs::{
    BankShape, Codec, CodecError, Content, FrameContext, Padding, Positions, Preset, Profile,
    Rotation, Scratch, aligned,
};
use kvcap_states::{Encoding, offer_profile};
use kvcap_testkit::{LEAST, profile};
use serde_json::json;

use super::{codecs::rotation, number, passes::Bench, report::Report};

/// Seals and opens a state by each encoding, beside the exact one in the same round
///
/// One core, suite 1, from memory into memory. Seconds are those that the processor computed for this process. Each round does
/// all encodings in turn, so that what else the machine does falls on all of them; a ratio is the median of the rounds'
/// ratios, with the quartiles. Profiles are made ones of
/// the state's shape: speed does not depend on their numbers, or those of the model, by their files.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A saved state [default: a made one of 16 layers, 8 heads of 64, bf16]
    #[arg(requires = "model")]
    state: Option<PathBuf>,
    /// The model that computed it
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// A profile of the model (.kvtc), instead of made ones; may be given again
    #[arg(long, value_name = "FILE", requires = "model")]
    codec_profile: Vec<PathBuf>,
    /// Length of a made state
    #[arg(long, value_name = "N", default_value_t = 16 << 20, value_parser = clap::value_parser!(u64).range(LEAST..=1 << 32))]
    bytes: u64,
    /// Rate of tc, in 1/64 bit a value
    #[arg(long, value_name = "N", default_value_t = 192, value_parser = clap::value_parser!(u16).range(16..=1024))]
    rate: u16,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Times that a frame is decoded in a round.
const TIMES: u32 = 8;

/// An encoding, and the seconds that it took in each round.
struct Measured {
    name: String,
    encoding: Encoding,
    /// Banks of the first two layers as it encodes them.
    frames: Vec<Frame>,
    bytes: u64,
    seal: Vec<f64>,
    open: Vec<f64>,
    decode: Vec<f64>,
}

/// A frame of a bank, encoded.
struct Frame {
    bank: Bank,
    codec: Codec,
    index: u64,
    encoded: Vec<u8>,
    plain_len: usize,
}

/// # Errors
/// 92x for the state, 93x for the model, 909 for a profile.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let mut bench = match (&args.state, &args.model) {
        (Some(state), Some(model)) => Bench::of(state, model)?,
        _ => Bench::new(args.bytes)?,
    };
    let mut all = vec![
        ("exact".to_owned(), Encoding::EXACT, None),
        (
            "exact --compress".to_owned(),
            Encoding {
                compress: Some(Padding::Padme),
                ..Encoding::EXACT
            },
            None,
        ),
        ("q8".to_owned(), Encoding::of(Preset::Q8), None),
    ];
    let tc = Encoding::of(Preset::Rate(args.rate));
    let bits = f64::from(args.rate) / 64.0;
    all.push((format!("tc:{bits}, transform 0"), tc, None));
    for (transform, digest, profile) in profiles(args, &bench)? {
        let encoding = Encoding {
            profile: Some(digest),
            ..tc
        };
        let name = format!("tc:{bits}, transform {transform}");
        all.push((name, encoding, Some(profile)));
    }
    let mut measured = Vec::new();
    let mut scratch = Scratch::default();
    for (name, encoding, profile) in &all {
        measured.push(Measured {
            name: name.clone(),
            encoding: *encoding,
            frames: frames(&bench, *encoding, profile.as_ref(), &mut scratch)?,
            bytes: 0,
            seal: Vec::new(),
            open: Vec::new(),
            decode: Vec::new(),
        });
    }
    // the first round finds nothing in its place, and does not count
    for round in 0..=args.rounds {
        for (one, (_, _, profile)) in measured.iter_mut().zip(&all) {
            let suite = Suite::ChaCha20Poly1305;
            let (sealed, seal) = computed(|| bench.seal(suite, one.encoding, Workers::ONE))?;
            let (sealed, _) = sealed;
            let (_, open) = computed(|| bench.open(sealed, Workers::ONE))?;
            let decode = one.decode(&bench, profile.as_ref(), &mut scratch)?;
            one.bytes = sealed.file_len;
            if round > 0 {
                one.seal.push(seal);
                one.open.push(open);
                one.decode.push(decode);
            }
        }
    }
    Ok(report(args, &bench, &measured))
}

/// Profiles by their transform: those that are given, or one of each that is made for the state's banks.
fn profiles(args: &Args, bench: &Bench) -> Result<Vec<(u8, Digest, Profile)>> {
    let mut files = Vec::new();
    for path in &args.codec_profile {
        files.push(std::fs::read(path).map_err(|error| Error::io(&error, path.display()))?);
    }
    if files.is_empty() {
        for transform in [1, 2] {
            let entries = bench.state.banks.iter().filter_map(|placed| {
                let (bank, role) = (&placed.bank, u8::from(placed.bank.role == Role::Value));
                let BankShape::Tokens { heads, dim, .. } = bank.shape else {
                    return None;
                };
                let (heads, dim) = (u16::try_from(heads).ok()?, u16::try_from(dim).ok()?);
                Some(profile::Entry::new(bank.layer, role, transform, heads, dim))
            });
            let entries: Vec<_> = entries.collect();
            files.push(profile::made(bench.profile.model.id.0, &entries, &[]));
        }
    }
    let known = files.into_iter().map(|file| {
        let digest = offer_profile(&file)?.digest();
        let profile = Profile::parse(&file).map_err(refused)?;
        let first = profile.banks().first();
        let transform = first.map_or(0, kvcap_codecs::BankProfile::transform);
        Ok((transform, digest, profile))
    });
    known.collect()
}

/// The frames of the first four banks, encoded.
fn frames(
    bench: &Bench,
    encoding: Encoding,
    profile: Option<&Profile>,
    scratch: &mut Scratch,
) -> Result<Vec<Frame>> {
    let mut found = Vec::new();
    let mut plain = Vec::new();
    for placed in bench.state.banks.iter().take(4) {
        let bank = &placed.bank;
        let codec = codec(encoding, bank, profile);
        for index in 0..bank.shape.frames(bank.dtype).unwrap_or(0) {
            placed.read_frame(&bench.plain, index, &mut plain)?;
            let mut encoded = Vec::new();
            with_frame(bench, bank, index, profile, |ctx| {
                codec.encode_frame(ctx, &plain, &mut encoded, scratch)
            })?;
            found.push(Frame {
                bank: bank.clone(),
                codec,
                index,
                encoded,
                plain_len: plain.len(),
            });
        }
    }
    Ok(found)
}

/// The codec of a bank, as sealing chooses it.
fn codec(encoding: Encoding, bank: &Bank, profile: Option<&Profile>) -> Codec {
    if encoding.compress.is_some() {
        return Codec::Planes16;
    }
    let codec = encoding
        .preset
        .codec(bank.dtype, &bank.shape, content(bank));
    let own = profile.and_then(|known| known.bank(bank.layer.into(), role(bank)));
    match (encoding.preset, own) {
        (Preset::Rate(rate), Some(own)) => {
            Codec::within(own.transform(), rate, bank.dtype, &bank.shape)
        }
        _ => codec,
    }
}

fn content(bank: &Bank) -> Content {
    match bank.role {
        Role::Key => Content::Keys,
        _ => Content::Values,
    }
}

fn role(bank: &Bank) -> u8 {
    u8::from(bank.role == Role::Value)
}

/// Does something with a frame of a bank, as its codec sees it.
fn with_frame(
    bench: &Bench,
    bank: &Bank,
    index: u64,
    profile: Option<&Profile>,
    work: impl FnOnce(&FrameContext<'_>) -> Result<(), CodecError>,
) -> Result<()> {
    let known = rotation(&bench.ropes(), bank.layer, &bank.shape);
    let mut ctx = FrameContext::new(&bank.shape, bank.dtype, index).map_err(refused)?;
    if let Some((pairing, inv_freq)) = known.as_ref().filter(|_| content(bank) == Content::Keys) {
        let rotation = Rotation {
            pairing: *pairing,
            inv_freq,
        };
        ctx = ctx.with_rotation(rotation, Positions::From(0));
    }
    if let Some(own) = profile.and_then(|profile| profile.bank(bank.layer.into(), role(bank))) {
        ctx = ctx.with_profile(own);
    }
    work(&ctx).map_err(refused)
}

fn refused(error: CodecError) -> Error {
    let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
    Error::new(code, error.to_string())
}

impl Measured {
    /// Decodes the frames into memory that is in cache, some times each: the clock has its own steps.
    fn decode(
        &self,
        bench: &Bench,
        profile: Option<&Profile>,
        scratch: &mut Scratch,
    ) -> Result<f64> {
        let mut decoded = Vec::new();
        let mut total = 0.0;
        for frame in &self.frames {
            let out = aligned(&mut decoded, frame.plain_len);
            with_frame(bench, &frame.bank, frame.index, profile, |ctx| {
                let (done, took) = computed(|| {
                    (0..TIMES).try_for_each(|_| {
                        let (codec, encoded) = (frame.codec, &frame.encoded);
                        codec.decode_frame(ctx, black_box(encoded), out, scratch)
                    })
                })?;
                total += took;
                Ok(done)
            })?;
        }
        Ok(total / f64::from(TIMES))
    }

    fn plain_len(&self) -> f64 {
        number(self.frames.iter().map(|frame| frame.plain_len).sum())
    }
}

/// Does something, and gives the seconds that the processor computed for this process meanwhile.
fn computed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let start = clock();
    let done = work()?;
    Ok((done, clock().saturating_sub(start).as_secs_f64()))
}

#[cfg(unix)]
fn clock() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Seconds by the clock, where the system's own are not asked for.
#[cfg(not(unix))]
fn clock() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// The median of a few numbers, and the quartiles.
pub(crate) fn quartiles(numbers: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |quarter: usize| sorted.get((sorted.len().saturating_sub(1)) * quarter / 4);
    [2, 1, 3].map(|quarter| at(quarter).copied().unwrap_or(f64::NAN))
}

fn ratios(of: &[f64], to: &[f64]) -> [f64; 3] {
    quartiles(of.iter().zip(to).map(|(one, other)| one / other))
}

fn shown([median, low, high]: [f64; 3]) -> String {
    format!("{median:.2} ({low:.2} to {high:.2})")
}

fn report(args: &Args, bench: &Bench, measured: &[Measured]) -> Report {
    let mut report = Report::new();
    let named = |name: &str| measured.iter().find(|one| one.name == name);
    let (mut rows, mut facts) = (Vec::new(), Vec::new());
    if let (Some(exact), Some(planes), Some(q8)) =
        (named("exact"), named("exact --compress"), named("q8"))
    {
        for one in measured {
            let open = ratios(&one.open, &exact.open);
            let decode = ratios(&one.decode, &planes.decode);
            let seal = ratios(&one.seal, &q8.seal);
            let [took, ..] = quartiles(one.decode.iter().copied());
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let bits = one.bytes as f64 * 16.0 / bench.bytes();
            let speed = one.plain_len() / took / 1e9;
            rows.push(vec![
                one.name.clone(),
                format!("{bits:.2}"),
                shown(open),
                shown(decode),
                format!("{speed:.2}"),
                shown(seal),
            ]);
            facts.push(json!({
                "encoding": one.name,
                "bits": bits,
                "open": open,
                "decode": decode,
                "decode_gb_s": speed,
                "seal": seal,
            }));
        }
    }
    report.row("provider", Suite::provider());
    report.row("path", Scratch::default().path());
    report.row("rounds", args.rounds);
    report.line("");
    let head = [
        ("encoding", '<'),
        ("bits", '>'),
        ("open / exact", '>'),
        ("decode / planes16", '>'),
        ("GB/s", '>'),
        ("seal / q8", '>'),
    ];
    report.table(&head, &rows);
    report.fact("provider", Suite::provider());
    report.fact("path", Scratch::default().path());
    report.fact("rounds", args.rounds);
    report.fact("encodings", facts);
    report
}
