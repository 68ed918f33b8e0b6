//! Each stage of sealing and opening alone: their sum is the limit of a pass that does them all.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use kvcap::{Bank, Buffer, ChunkSteps, Code, Error, ReadAt, Result, Role, Suite, Workers, WriteAt};
use kvcap_codecs::{
    Codec, CodecError, Content, FrameContext, FrameQuality, Padding, Positions, Preset, Rotation,
    Scratch, aligned,
};
use kvcap_runtimes::Encoding;

use super::{codecs::rotation, number, passes::Bench, suites, timed};

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

/// Seconds a byte of every stage.
pub(super) struct Stages {
    pub(super) memcpy: f64,
    /// Frames out of the state.
    pub(super) gather: f64,
    /// Frames into the state.
    pub(super) scatter: f64,
    /// By their length.
    pub(super) chunks: Vec<(usize, Chunks)>,
    pub(super) codings: Vec<(Encode, Coding)>,
}

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
    /// Each stage once over the whole state, for chunks of these lengths; what works in cache, on a few
    /// frames.
    ///
    /// # Errors
    /// None that a made state should give.
    pub(super) fn measure(bench: &mut Bench, chunk_lens: &[usize]) -> Result<Self> {
        let codings = Encode::all().map(|encode| Ok((encode, coding(bench, encode)?)));
        let codings = codings.collect::<Result<_>>()?;
        let (gather, scatter) = frames(bench)?;
        let chunks = chunk_lens
            .iter()
            .map(|len| Ok((*len, chunks(bench, *len)?)));
        let chunks = chunks.collect::<Result<_>>()?;
        Ok(Self {
            memcpy: copy(bench),
            gather,
            scatter,
            chunks,
            codings,
        })
    }

    pub(super) fn chunks(&self, len: usize) -> Option<&Chunks> {
        let mut chunks = self.chunks.iter();
        chunks.find(|(of, _)| *of == len).map(|(_, chunks)| chunks)
    }

    /// Keeps the least of each.
    pub(super) fn least(&mut self, other: &Self) {
        let keep = |ours: &mut f64, theirs: f64| *ours = ours.min(theirs);
        keep(&mut self.memcpy, other.memcpy);
        keep(&mut self.gather, other.gather);
        keep(&mut self.scatter, other.scatter);
        for ((_, ours), (_, theirs)) in self.chunks.iter_mut().zip(&other.chunks) {
            keep(&mut ours.check, theirs.check);
            keep(&mut ours.write, theirs.write);
            keep(&mut ours.leaf, theirs.leaf);
            for ((_, ours), (_, theirs)) in ours.ciphers.iter_mut().zip(&theirs.ciphers) {
                keep(&mut ours.seal, theirs.seal);
                keep(&mut ours.open, theirs.open);
            }
        }
        for ((_, ours), (_, theirs)) in self.codings.iter_mut().zip(&other.codings) {
            keep(&mut ours.encode, theirs.encode);
            keep(&mut ours.decode, theirs.decode);
            keep(&mut ours.receipt, theirs.receipt);
        }
    }
}

fn copy(bench: &mut Bench) -> f64 {
    let start = Instant::now();
    bench.restored.copy_from_slice(black_box(&bench.plain));
    start.elapsed().as_secs_f64() / bench.bytes()
}

/// Gathering and scattering every frame of the state.
fn frames(bench: &mut Bench) -> Result<(f64, f64)> {
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
    Ok((gather, scatter))
}

/// Ciphers on one chunk; hashing and writing as many bytes as the state has.
fn chunks(bench: &mut Bench, len: usize) -> Result<Chunks> {
    let mut chunk = vec![0x5A; len];
    let per_chunk = 1.0 / number(len);
    let ciphers = Suite::ALL.into_iter().map(|suite| {
        let cipher = suites::cipher(suite, &mut chunk, 50)?;
        let per_byte = suites::Cipher {
            seal: cipher.seal * per_chunk,
            open: cipher.open * per_chunk,
        };
        Ok((suite, per_byte))
    });
    let ciphers = ciphers.collect::<Result<_>>()?;
    let step = u64::try_from(len).unwrap_or(u64::MAX);
    let state = ReadAt::len(&bench.plain);
    let places = || (0..state.div_ceil(step)).map(|index| index * step);
    let failed = |error: std::io::Error| Error::io(&error, "memory");
    // there is room for a chunk more than the state
    let capsule = bench.capsule.chunks_exact(len).take(places().count());
    let ((), check) = timed(|| {
        for chunk in capsule {
            black_box(ChunkSteps::leaf(chunk));
        }
        Ok(())
    })?;
    let out = Buffer::new(&mut bench.capsule);
    let ((), write) =
        timed(|| places().try_for_each(|at| out.write_all_at(at, &chunk).map_err(failed)))?;
    let bytes = number(len) * number(places().count());
    Ok(Chunks {
        check: check.as_secs_f64() / bytes,
        write: write.as_secs_f64() / bytes,
        leaf: suites::leaf(&chunk, 50) * per_chunk,
        ciphers,
    })
}

/// A codec on the first frames of keys and of values, in cache.
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
            let mut least = [Duration::MAX; 3];
            for _ in 0..5 {
                let mut step = |at: usize, work: &mut dyn FnMut() -> Result<()>| {
                    let ((), took) = timed(work)?;
                    if let Some(least) = least.get_mut(at) {
                        *least = took.min(*least);
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
                step(2, &mut || {
                    let done = FrameQuality::measure(&ctx, &plain, decoded, &mut scratch);
                    done.map(|quality| drop(black_box(quality)))
                        .map_err(refused)
                })?;
            }
            if codec.is_exact() {
                least[2] = Duration::ZERO;
            } else {
                least[2] += least[1];
            }
            bytes += plain.len();
            for (total, least) in total.iter_mut().zip(least) {
                *total += least;
            }
        }
    }
    let [encode, decode, receipt] = total.map(|t| t.as_secs_f64() / number(bytes.max(1)));
    Ok(Coding {
        encode,
        decode,
        receipt,
    })
}

fn refused(error: CodecError) -> Error {
    let code = Code::from_number(error.code()).unwrap_or(Code::CodecMalformed);
    Error::new(code, error.to_string())
}
