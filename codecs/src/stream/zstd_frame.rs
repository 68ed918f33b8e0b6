//! One bounded zstd frame (RFC 8878) as planes hold it (codecs-v1 §5.3).
//!
//! The frame's header and the headers of its blocks are checked by hand before zstd sees a byte:
//! one frame, declared and expected sizes equal, no dictionary, no checksum, window within a cap,
//! no bytes before or after. The decompressor then has a destination of exactly the expected size.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, ParamSwitch};

use crate::layout::{CodecError, ErrorKind};

/// The fastest level: with it, no match is ever found, so only the entropy of literals is coded.
const LEVEL: i32 = -131_072;

/// The largest window that a frame may ask for: what RFC 8878 recommends every decoder to support.
const MAX_WINDOW: u64 = 8 << 20;

/// The largest block of the zstd format.
const MAX_BLOCK: u64 = 128 << 10;

const MAGIC: u32 = 0xfd2f_b528;

/// zstd's error number for a destination that is too small.
const DESTINATION_TOO_SMALL: usize = 70;

/// Compression contexts, made at first use and kept.
pub(crate) struct Zstd {
    encoder: Option<CCtx<'static>>,
    decoder: Option<DCtx<'static>>,
}

impl Zstd {
    pub(crate) const fn new() -> Self {
        Self {
            encoder: None,
            decoder: None,
        }
    }

    /// Compresses `plain` into the start of `out`, which has [`zstd::zstd_safe::compress_bound`] bytes;
    /// returns the length of the frame, or `None` where zstd fails.
    pub(crate) fn compress(&mut self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            empty => {
                let mut encoder = CCtx::try_create()?;
                for parameter in [
                    CParameter::CompressionLevel(LEVEL),
                    CParameter::LiteralCompressionMode(ParamSwitch::Enable),
                    CParameter::ContentSizeFlag(true),
                    CParameter::ChecksumFlag(false),
                ] {
                    encoder.set_parameter(parameter).ok()?;
                }
                empty.insert(encoder)
            }
        };
        encoder.compress2(out, plain).ok()
    }

    /// Decompresses the one frame that `frame` is into exactly the bytes of `out`.
    ///
    /// # Errors
    /// 902, 903, 904 as in codecs-v1 §5.3.
    pub(crate) fn decompress(&mut self, frame: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let expected = u64::try_from(out.len()).unwrap_or(u64::MAX);
        check_frame(frame, expected)?;
        let failed = CodecError::new(ErrorKind::Malformed, "the zstd frame is corrupt");
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            empty => empty.insert(DCtx::try_create().ok_or(failed)?),
        };
        match decoder.decompress(out, frame) {
            Ok(len) if len == out.len() => Ok(()),
            Ok(len) => Err(CodecError::new(
                ErrorKind::Length,
                "the zstd frame gives another length than it declares",
            )
            .sides(expected, len)),
            Err(code) if code.wrapping_neg() == DESTINATION_TOO_SMALL => Err(BOMB),
            Err(_) => Err(failed),
        }
    }
}

const BOMB: CodecError = CodecError::new(
    ErrorKind::Bounds,
    "the zstd frame gives more bytes than it declares",
);

/// A cursor over the frame's bytes.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], CodecError> {
        let cut = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(CodecError::new(
                ErrorKind::Malformed,
                "the zstd frame is cut short",
            ))?;
        self.0 = cut.1;
        Ok(cut.0)
    }

    /// A little-endian number of at most eight bytes.
    fn number(&mut self, len: u64) -> Result<u64, CodecError> {
        let bytes = self.take(len)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

/// Walks the headers of the frame and of its blocks.
fn check_frame(frame: &[u8], expected: u64) -> Result<(), CodecError> {
    let malformed = |what| Err(CodecError::new(ErrorKind::Malformed, what));
    let mut bytes = Bytes(frame);
    if bytes.number(4)? != u64::from(MAGIC) {
        return malformed("not a zstd frame: the magic number is another");
    }
    let descriptor = bytes.number(1)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 {
        return malformed("a reserved bit of the zstd frame is set");
    }
    if descriptor & 0x03 != 0 {
        return malformed("the zstd frame names a dictionary");
    }
    if descriptor & 0x04 != 0 {
        return malformed("the zstd frame has a checksum");
    }
    let window = if single_segment {
        None
    } else {
        let byte = bytes.number(1)?;
        let base = 1_u64 << (10 + (byte >> 3));
        Some(base + base / 8 * (byte & 7))
    };
    if window.is_some_and(|window| window > MAX_WINDOW) {
        return Err(CodecError::new(
            ErrorKind::Bounds,
            "the zstd frame's window is over its limit",
        ));
    }
    let declared = match descriptor >> 6 {
        0 if single_segment => bytes.number(1)?,
        0 => return malformed("the zstd frame does not declare its content size"),
        1 => bytes.number(2)? + 256,
        2 => bytes.number(4)?,
        _ => bytes.number(8)?,
    };
    if declared != expected {
        return Err(CodecError::new(
            ErrorKind::Length,
            "the zstd frame declares another content size than its plane has",
        )
        .sides(expected, usize::try_from(declared).unwrap_or(usize::MAX)));
    }
    let block_limit = window.unwrap_or(declared).min(MAX_BLOCK);
    // Raw and run blocks say what they give; of a compressed block only zstd knows.
    let mut given = 0_u64;
    loop {
        let header = bytes.number(3)?;
        let size = header >> 3;
        match header >> 1 & 3 {
            0 => {
                bytes.take(size)?;
                given += size;
            }
            1 => {
                bytes.take(1)?;
                given += size;
            }
            2 => {
                bytes.take(size)?;
            }
            _ => return malformed("a block of the zstd frame has the reserved type"),
        }
        if size > block_limit || given > declared {
            return Err(BOMB);
        }
        if header & 1 != 0 {
            break;
        }
    }
    if !bytes.0.is_empty() {
        return malformed("bytes follow the zstd frame");
    }
    Ok(())
}
