//! Each stage of sealing and opening alone: their sum is the limit of a pass that does them all.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use kvcap::{Bank, ChunkSteps, Code, Error, Result, Role, Suite, Workers, WriteAt};
use kvcap_codecs::{
    Codec, CodecError, Content, FrameContext, FrameQuality, Padding, Positions, Preset, Rotation,
    Scratch, aligned,
};
use kvcap_states::{Buffer, Encoding};

use super::{
    Least, codecs::rotation, in_a_row, least_of_each, number, passes::Bench, suites, timed,
};

/// How banks are encoded, by the name at the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encode {
    pub(super) name: &'static str,
    preset: Preset,
    compress: Option<Padding>,
}

impl Encode {
    /// Every encoding that is measured.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let encode = |(preset, name)| Self {
            name,
            preset,
            compress: None,
        };
        let compress = Self {
            name: "compress",
            preset: Preset::Exact,
            compress: Some(Padding::Padme),
        };
        let [exact, lossy @ ..] = Preset::ALL.map(encode);
        [exact, compress].into_iter().chain(lossy)
    }

    /// Without a guard, which would encode lossy banks twice.
    pub(super) fn encoding(self) -> Encoding {
        Encoding {
            preset: self.preset,
            compress: self.compress,
            ..Encoding::EXACT
        }
    }

    pub(super) fn is_exact(self) -> bool {
        self.preset == Preset::Exact
    }

    fn codec(self, bank: &Bank) -> (Codec, Content) {
        let content = match bank.role {
            Role::Key => Content::Keys,
            _ => Content::Values,
        };
        match self.compress {
            Some(_) => (Codec::Planes16, content),
            None => (self.preset.codec(bank.dtype, &bank.shape, content), content),
        }
    }
}

/// What a codec costs, in seconds a plain byte.
#[derive(Clone, Copy)]
pub(super) struct Coding {
    pub(super) encode: f64,
    pub(super) decode: f64,
    /// Decoding again and measuring the error, where it is lossy.
    pub(super) receipt: f64,
}

least_of_each!(Coding: encode, decode, receipt);

/// Seconds a byte of every stage.
pub(super) struct Stages {
    pub(super) memcpy: f64,
    pub(super) apart: Apart,
    pub(super) frames: Frames,
    /// By their length.
    pub(super) chunks: Vec<(usize, Chunks)>,
    pub(super) codings: Vec<(Encode, Coding)>,
}

least_of_each!(Stages: memcpy, apart, frames, chunks, codings);

/// Seconds a byte of work whose threads share nothing, neither memory nor order: what all cores gain
/// here at most.
pub(super) struct Apart {
    pub(super) one: f64,
    pub(super) all: f64,
}

least_of_each!(Apart: one, all);

/// Seconds a byte of moving frames.
pub(super) struct Frames {
    /// Out of the state.
    pub(super) gather: f64,
    /// Into the state.
    pub(super) scatter: f64,
}

least_of_each!(Frames: gather, scatter);

/// Seconds a byte of what is done to chunks of one length.
pub(super) struct Chunks {
    /// Hashing those of the capsule where they lie.
    pub(super) check: f64,
    /// Writing them into the capsule.
    pub(super) write: f64,
    /// Hashing one that is in cache.
    pub(super) leaf: f64,
    pub(super) ciphers: Vec<(Suite, suites::Cipher)>,
}

least_of_each!(Chunks: check, write, leaf, ciphers);

/// What longer chunks cost a byte, too.
const CHUNK: u64 = 256 << 10;

/// How long the chunks of a capsule are that has the state in this encoding: as long as a bank, where
/// that is short.
///
/// # Errors
/// None that a made state should give.
pub(super) fn chunk_len(bench: &mut Bench, encode: Encode) -> Result<usize> {
    let (sealed, _) = bench.seal(Suite::Aes256Gcm, encode.encoding(), Workers::ONE)?;
    let (verified, _) = bench.header(sealed)?;
    let manifest = verified.manifest();
    let mut banks = manifest.context.banks();
    let bank = banks.find_map(|(stream, entry)| {
        let encoded = manifest.measured.get(stream)?.encoded_len;
        Some(encoded.min(entry.chunk_len))
    });
    Ok(usize::try_from(bank.unwrap_or(CHUNK).min(CHUNK)).unwrap_or(1))
}

impl Stages {
    /// Each stage over as many bytes as the state has, `times` in a row: what moves memory on the whole
    /// state, what works in cache on a few frames, or a chunk of each of these lengths, again and again.
    ///
    /// # Errors
    /// None that a made state should give.
    pub(super) fn measure(
        bench: &mut Bench,
        encodings: &[Encode],
        chunk_lens: &[usize],
        times: u64,
    ) -> Result<Self> {
        let mut codings = Vec::new();
        for encode in encodings {
            codings.push((*encode, in_a_row(times, || coding(bench, *encode))?));
        }
        let mut of_lens = Vec::new();
        for len in chunk_lens {
            of_lens.push((*len, in_a_row(times, || chunks(bench, *len))?));
        }
        Ok(Self {
            memcpy: in_a_row(times, || Ok(copy(bench)))?,
            apart: in_a_row(times, || {
                Ok(Apart {
                    one: apart(bench, 1)?,
                    all: apart(bench, Workers::all().count())?,
                })
            })?,
            frames: in_a_row(times, || frames(bench))?,
            chunks: of_lens,
            codings,
        })
    }

    pub(super) fn chunks(&self, len: usize) -> Option<&Chunks> {
        let mut chunks = self.chunks.iter();
        chunks.find(|(of, _)| *of == len).map(|(_, chunks)| chunks)
    }
}

fn copy(bench: &mut Bench) -> f64 {
    let start = Instant::now();
    bench.restored.copy_from_slice(black_box(&bench.plain));
    start.elapsed().as_secs_f64() / bench.bytes()
}

/// As many bytes as the state has, encrypted on threads that each have a short piece in cache.
fn apart(bench: &Bench, threads: usize) -> Result<f64> {
    const PIECE: usize = 16 << 10;
    let count = bench.plain.len().div_ceil(PIECE);
    let steps = ChunkSteps::new(Suite::ChaCha20Poly1305)?;
    let mut pieces = vec![vec![0x5A; PIECE]; threads];
    let ((), time) = timed(|| {
        thread::scope(|scope| {
            let mut running = Vec::new();
            for (at, piece) in pieces.iter_mut().enumerate() {
                let (steps, times) = (&steps, (at..count).step_by(threads).count());
                let work = move || (0..times).try_for_each(|_| steps.seal(0, piece).map(drop));
                running.push(scope.spawn(work));
            }
            running.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    })?;
    Ok(time.as_secs_f64() / number(count * PIECE))
}

/// Gathering and scattering every frame of the state.
fn frames(bench: &mut Bench) -> Result<Frames> {
    let restored = Buffer::new(&mut bench.restored);
    let mut frame = Vec::new();
    let mut times = [Duration::ZERO; 2];
    for placed in &bench.state.banks {
        let frames = placed.bank.shape.frames(placed.bank.dtype).unwrap_or(0);
        // a bank after the other, so that neither finds the other's bytes in cache
        let ((), took) = timed(|| {
            (0..frames).try_for_each(|index| placed.read_frame(&bench.plain, index, &mut frame))
        })?;
        times[0] += took;
        for index in 0..frames {
            let len = placed.bank.shape.frame_plain_len(placed.bank.dtype, index);
            frame.resize(usize::try_from(len.unwrap_or(0)).unwrap_or(0), 1);
            let ((), took) = timed(|| placed.write_frame(&restored, index, &frame))?;
            times[1] += took;
        }
    }
    let [gather, scatter] = times.map(|time| time.as_secs_f64() / bench.bytes());
    Ok(Frames { gather, scatter })
}

/// As many chunks as the state has: ciphers and hashing on one that is in cache, hashing and writing
/// over all of the capsule's memory.
fn chunks(bench: &mut Bench, len: usize) -> Result<Chunks> {
    let mut chunk = vec![0x5A; len];
    let count = bench.plain.len().div_ceil(len);
    let bytes = number(len) * number(count);
    let mut ciphers = Vec::new();
    for suite in Suite::ALL {
        ciphers.push((suite, suites::cipher(suite, &mut chunk, count)?));
    }
    let ((), leaf) = timed(|| {
        for _ in 0..count {
            black_box(ChunkSteps::digest(black_box(&chunk)));
        }
        Ok(())
    })?;
    // there is room for a chunk more than the state
    let capsule = bench.capsule.chunks_exact(len).take(count);
    let ((), check) = timed(|| {
        for chunk in capsule {
            black_box(ChunkSteps::digest(chunk));
        }
        Ok(())
    })?;
    let out = Buffer::new(&mut bench.capsule);
    let step = u64::try_from(len).unwrap_or(u64::MAX);
    let mut places = (0..).map(|index| index * step).take(count);
    let failed = |error: std::io::Error| Error::io(&error, "memory");
    let ((), write) =
        timed(|| places.try_for_each(|at| out.write_all_at(at, &chunk).map_err(failed)))?;
    Ok(Chunks {
        check: check.as_secs_f64() / bytes,
        write: write.as_secs_f64() / bytes,
        leaf: leaf.as_secs_f64() / bytes,
        ciphers,
    })
}

/// A codec on the first frames of keys and of values, in cache, as often as makes the state's length.
fn coding(bench: &Bench, encode: Encode) -> Result<Coding> {
    let mut scratch = Scratch::default();
    let (mut plain, mut encoded, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    let mut total = [Duration::ZERO; 3];
    for placed in bench.state.banks.iter().take(2) {
        let bank = &placed.bank;
        let (codec, content) = encode.codec(bank);
        if codec == Codec::Raw {
            continue;
        }
        let known = rotation(&bench.profile.rope, bank.layer, &bank.shape);
        let frames = bank.shape.frames(bank.dtype).unwrap_or(0).min(2);
        for index in 0..frames {
            placed.read_frame(&bench.plain, index, &mut plain)?;
            let mut ctx = FrameContext::new(&bank.shape, bank.dtype, index).map_err(refused)?;
            if let Some((pairing, inv_freq)) = known.as_ref().filter(|_| content == Content::Keys) {
                let rotation = Rotation {
                    pairing: *pairing,
                    inv_freq,
                };
                ctx = ctx.with_rotation(rotation, Positions::From(0));
            }
            let decoded = aligned(&mut decoded, plain.len());
            // there are four: two of keys, two of values
            for _ in 0..bench.plain.len().div_ceil(4 * plain.len().max(1)) {
                let mut step = |at: usize, work: &mut dyn FnMut() -> Result<()>| {
                    let ((), took) = timed(work)?;
                    if let Some(total) = total.get_mut(at) {
                        *total += took;
                    }
                    Ok::<(), Error>(())
                };
                step(0, &mut || {
                    let done = codec.encode_frame(&ctx, &plain, &mut encoded, &mut scratch);
                    done.map_err(refused)
                })?;
                step(1, &mut || {
                    let done = codec.decode_frame(&ctx, &encoded, decoded, &mut scratch);
                    done.map_err(refused)
                })?;
                if !encode.is_exact() {
                    step(2, &mut || {
                        let done = FrameQuality::measure(&ctx, &plain, decoded, &mut scratch);
                        done.map(|quality| drop(black_box(quality)))
                            .map_err(refused)
                    })?;
                }
                bytes += plain.len();
            }
        }
    }
    let [encoding, decode, quality] = total.map(|t| t.as_secs_f64() / number(bytes.max(1)));
    let receipt = match encode.is_exact() {
        true => 0.0,
        false => decode + quality,
    };
    Ok(Coding {
        encode: encoding,
        decode,
        receipt,
    })
}

fn refused(error: CodecError) -> Error {
    let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
    Error::new(code, error.to_string())
}
