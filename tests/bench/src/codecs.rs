//! `kvcap-bench codecs`: what each codec costs and saves on this machine.

use std::{
    hint::black_box,
    path::PathBuf,
    time::{Duration, Instant},
};

use kvcap::{Code, Error, Result, Role, SourceFile, binding::Rope};
use kvcap_codecs::{
    BankShape, Codec, Content, Dtype, FrameContext, Pairing, Positions, Profile, Rotation, Scratch,
};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions, inverse_frequencies};
use kvcap_states::{Hints, State, detect, parse};
use kvcap_testkit::{Normal, profile, push};
use serde_json::json;

use super::{
    memcpy, number,
    report::{self, Report},
    speed,
};

/// Plain bytes that are measured at most.
const MOST: usize = 64 << 20;

/// Times each codec on a state's banks, or on made ones, beside memcpy in the same process
///
/// One core. Every frame's least time of several rounds counts; GB/s are of plain bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A saved state whose keys and values are measured; made ones where it is left out
    state: Option<PathBuf>,
    /// The model that computed the state, where its file does not tell heads
    #[arg(long, value_name = "PATH", requires = "state")]
    model: Option<PathBuf>,
    /// Heads of a made bank
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    heads: u64,
    /// Elements of a head of a made bank
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=1024))]
    dim: u64,
    /// Tokens of a made bank
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    tokens: u64,
    /// Element type of a made bank
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = ["f16", "bf16", "f32"])]
    dtype: String,
    /// Rounds; more are less noisy
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Frames of banks of one element type and one kind of content.
struct Sample {
    shape: BankShape,
    dtype: Dtype,
    content: Content,
    /// How the keys were rotated, where that is known.
    rotation: Option<(Pairing, Vec<f64>)>,
    frames: Vec<(u64, Vec<u8>)>,
}

/// Least times over all frames, and bytes.
struct StreamDigest {
    plain: usize,
    encoded: usize,
    encode: Duration,
    decode: Duration,
}

/// # Errors
/// 92x for the state, 93x for the model; 922 where the state holds no bank of floats.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let samples = match &args.state {
        Some(path) => args.of_state(path)?,
        None => vec![args.made()],
    };
    let frames = || samples.iter().flat_map(|sample| &sample.frames);
    let total: usize = frames().map(|(_, frame)| frame.len()).sum();
    if total == 0 {
        return Err(Error::new(
            Code::StateUnsupported,
            "the state holds no bank of f16, bf16 or f32",
        ));
    }
    let mut to = Vec::new();
    let memcpy: f64 = frames()
        .map(|(_, frame)| memcpy(frame, &mut to, args.rounds))
        .sum();
    let mut rows = Vec::new();
    let mut facts = Vec::new();
    let affine = |bits| Codec::Affine { bits, group: 64 };
    let exact = [Codec::Raw, Codec::Planes16, Codec::Planes32];
    let lossy = [8, 6, 5, 4, 3]
        .map(affine)
        .into_iter()
        .chain([Codec::KeyChannel])
        .chain([192, 256].map(|rate| Codec::Transform { transform: 0, rate }))
        .chain([1, 2].map(|transform| Codec::Transform {
            transform,
            rate: 192,
        }));
    for codec in exact.into_iter().chain(lossy) {
        let Some(measured) = measure(codec, &samples, args.rounds)? else {
            continue;
        };
        let plain = number(measured.plain);
        let copied = speed(plain, memcpy * plain / number(total));
        let [encode, decode] =
            [measured.encode, measured.decode].map(|time| speed(plain, time.as_secs_f64()));
        let ratio = plain / number(measured.encoded);
        rows.push(vec![
            codec.name(),
            format!("{ratio:.3}"),
            format!("{encode:.2}"),
            format!("{:.2}", encode / copied),
            format!("{decode:.2}"),
            format!("{:.2}", decode / copied),
        ]);
        facts.push(json!({
            "codec": codec.name(),
            "ratio": ratio,
            "encode_gb_s": encode,
            "encode_memcpy": encode / copied,
            "decode_gb_s": decode,
            "decode_memcpy": decode / copied,
        }));
    }
    let mut report = Report::new();
    let memcpy = speed(number(total), memcpy);
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    report.row("measured", report::bytes(total));
    report.row("path", Scratch::default().path());
    report.row("memcpy", format!("{memcpy:.2} GB/s"));
    report.line("");
    let head = [
        ("codec", '<'),
        ("ratio", '>'),
        ("encode GB/s", '>'),
        ("× memcpy", '>'),
        ("decode GB/s", '>'),
        ("× memcpy", '>'),
    ];
    report.table(&head, &rows);
    report.fact("bytes", total);
    report.fact("path", Scratch::default().path());
    report.fact("memcpy_gb_s", memcpy);
    report.fact("codecs", facts);
    Ok(report)
}

impl Args {
    /// The float banks of a state, until there are enough bytes.
    fn of_state(&self, path: &std::path::Path) -> Result<Vec<Sample>> {
        let source = SourceFile::open(path)?;
        let read = |model: &PathBuf| {
            let options = RuntimeOptions::default();
            ModelProfile::read(model, &[], &options, &HashCache::user(), &|_, _| {})
        };
        let profile = self.model.as_ref().map(read).transpose()?;
        let hints = profile
            .as_ref()
            .map_or(Hints::None, |profile| Hints::Model(&profile.geometry));
        let state: State = detect(&source)
            .and_then(|kind| parse(kind, &source, hints))
            .map_err(|error| error.at(path.display()))?;
        let mut samples = Vec::new();
        let mut left = MOST;
        for placed in &state.banks {
            let bank = &placed.bank;
            let content = match bank.role {
                Role::Key => Content::Keys,
                Role::Value => Content::Values,
                _ => continue,
            };
            if !matches!(bank.dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32) {
                continue;
            }
            let mut frames = Vec::new();
            for index in 0..bank.shape.frames(bank.dtype).unwrap_or(0) {
                let mut frame = Vec::new();
                placed.read_frame(&source, index, &mut frame)?;
                if frame.len() > left {
                    break;
                }
                left -= frame.len();
                frames.push((index, frame));
            }
            let rotation = profile.as_ref().and_then(|profile| {
                let ropes = profile.rope_in(state.runtime);
                rotation(&ropes, bank.layer, &bank.shape)
            });
            samples.push(Sample {
                shape: bank.shape.clone(),
                dtype: bank.dtype,
                content,
                rotation: rotation.filter(|_| content == Content::Keys),
                frames,
            });
        }
        Ok(samples)
    }

    /// A bank of numbers that are spread like a normal distribution's.
    fn made(&self) -> Sample {
        let dtype = match self.dtype.as_str() {
            "f16" => Dtype::F16,
            "f32" => Dtype::F32,
            _ => Dtype::Bf16,
        };
        let shape = BankShape::Tokens {
            heads: self.heads,
            tokens: self.tokens,
            dim: self.dim,
        };
        let mut normal = Normal::default();
        let mut left = MOST;
        let mut frames = Vec::new();
        for index in 0..shape.frames(dtype).unwrap_or(0) {
            let len = shape.frame_plain_len(dtype, index).unwrap_or(0);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if len > left {
                break;
            }
            left -= len;
            let mut frame = Vec::with_capacity(len);
            while frame.len() < len {
                push(dtype, normal.deviate(), &mut frame);
            }
            frames.push((index, frame));
        }
        // theta 10,000 over the whole head
        let pairs = u32::try_from(self.dim / 2).unwrap_or(0);
        let turn = |pair| 1e4_f64.powf(-f64::from(pair) / f64::from(pairs));
        Sample {
            shape,
            dtype,
            content: Content::Keys,
            rotation: Some((Pairing::Half, (0..pairs).map(turn).collect())),
            frames,
        }
    }
}

/// How a layer's keys are rotated.
pub(super) fn rotation(
    ropes: &[Rope],
    layer: u32,
    shape: &BankShape,
) -> Option<(Pairing, Vec<f64>)> {
    let BankShape::Tokens { dim, .. } = shape else {
        return None;
    };
    let rope = ropes.iter().find(|rope| rope.layers.contains(&layer))?;
    let pairing = rope.pairing;
    Some((pairing, inverse_frequencies(rope, *dim)?))
}

/// A profile for a bank, out of made numbers: speed does not depend on them.
fn made_profile(codec: Codec, shape: &BankShape) -> Option<Profile> {
    let Codec::Transform {
        transform: transform @ 1..,
        ..
    } = codec
    else {
        return None;
    };
    let BankShape::Tokens { heads, dim, .. } = *shape else {
        return None;
    };
    let (heads, dim) = (u16::try_from(heads).ok()?, u16::try_from(dim).ok()?);
    let entry = profile::Entry::new(0, 0, transform, heads, dim);
    Profile::parse(&profile::made([0; 32], &[entry], &[])).ok()
}

/// A codec on every sample that it serves; `None` where it serves none.
fn measure(codec: Codec, samples: &[Sample], rounds: u32) -> Result<Option<StreamDigest>> {
    let mut scratch = Scratch::default();
    let mut sum = StreamDigest {
        plain: 0,
        encoded: 0,
        encode: Duration::ZERO,
        decode: Duration::ZERO,
    };
    let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
    for sample in samples {
        let applies = codec.applies(sample.dtype, &sample.shape, sample.content);
        if applies.is_err() || (codec == Codec::KeyChannel && sample.rotation.is_none()) {
            continue;
        }
        let profile = made_profile(codec, &sample.shape);
        for (index, plain) in &sample.frames {
            let refused = |error: kvcap_codecs::CodecError| {
                let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
                Error::new(code, error.to_string())
            };
            let mut frame =
                FrameContext::new(&sample.shape, sample.dtype, *index).map_err(refused)?;
            if let Some((pairing, inv_freq)) = &sample.rotation {
                let rotation = Rotation {
                    pairing: *pairing,
                    inv_freq,
                };
                frame = frame.with_rotation(rotation, Positions::From(0));
            }
            if let Some(bank) = profile.as_ref().and_then(|profile| profile.bank(0, 0)) {
                frame = frame.with_profile(bank);
            }
            decoded.resize(plain.len(), 0);
            let mut least = [Duration::MAX; 2];
            for _ in 0..rounds {
                let start = Instant::now();
                codec
                    .encode_frame(&frame, plain, &mut encoded, &mut scratch)
                    .map_err(refused)?;
                let middle = Instant::now();
                codec
                    .decode_frame(&frame, black_box(&encoded), &mut decoded, &mut scratch)
                    .map_err(refused)?;
                let end = Instant::now();
                black_box(&decoded);
                least[0] = least[0].min(middle - start);
                least[1] = least[1].min(end - middle);
            }
            sum.plain += plain.len();
            sum.encoded += encoded.len();
            sum.encode += least[0];
            sum.decode += least[1];
        }
    }
    Ok((sum.plain > 0).then_some(sum))
}
