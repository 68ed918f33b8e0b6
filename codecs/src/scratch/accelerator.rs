//! Frames that are encoded and decoded elsewhere than on the CPU.

use std::sync::OnceLock;

use super::Scratch;
use crate::{frame::FrameContext, layout::Codec};

/// Another place where the arithmetic is done, such as a GPU. It gives the same bits as the CPU, or
/// declines.
///
/// Both calls return false where such frames are not served or anything was wrong: the CPU then does
/// the frame, so that a refusal has the same words and place on every machine.
pub trait Accelerator: Send + Sync {
    /// Its name, for reports.
    fn name(&self) -> &'static str;

    /// As [`Codec::encode_frame`]; `plain` has the frame's length.
    fn encode(
        &self,
        codec: Codec,
        ctx: &FrameContext<'_>,
        plain: &[u8],
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> bool;

    /// As [`Codec::decode_frame`]; `out` has the frame's length, `encoded` may have any.
    fn decode(
        &self,
        codec: Codec,
        ctx: &FrameContext<'_>,
        encoded: &[u8],
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> bool;
}

static CHOSEN: OnceLock<&dyn Accelerator> = OnceLock::new();

/// Makes every [`Scratch::new`] of this process from now on use `accelerator`; false where one was
/// chosen before.
pub fn accelerate(accelerator: &'static dyn Accelerator) -> bool {
    CHOSEN.set(accelerator).is_ok()
}

/// The accelerator of this process, if one was chosen.
#[must_use]
pub fn accelerator() -> Option<&'static dyn Accelerator> {
    CHOSEN.get().copied()
}
