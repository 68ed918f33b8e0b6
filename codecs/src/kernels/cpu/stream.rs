//! Stores past the cache.

#[cfg(target_arch = "x86_64")]
use std::{
    arch::x86_64::{__m128i, _mm_sfence, _mm_stream_si128},
    mem::transmute,
};
use std::{marker::PhantomData, slice::IterMut};

use super::isa::{Isa, Line, Place};

/// Copies `from`, which is as long, into `to`, which is not read again soon: the cache is left to
/// others, and memory is not read to be overwritten. Elsewhere than on x86-64 a plain copy.
///
/// # Panics
/// Where the lengths differ.
pub fn copy_streaming(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "a copy has one length");
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: any bits are a vector, and a vector's bits are bytes.
        let (head, vectors, tail) = unsafe { to.align_to_mut::<__m128i>() };
        let (first, rest) = from.split_at(head.len());
        let (bytes, last) = rest.as_chunks::<16>();
        head.copy_from_slice(first);
        tail.copy_from_slice(last);
        for (vector, bytes) in vectors.iter_mut().zip(bytes) {
            // SAFETY: SSE2 is part of x86-64, and the vector is aligned, being one.
            unsafe { _mm_stream_si128(vector, transmute::<[u8; 16], __m128i>(*bytes)) };
        }
        fence();
    }
}

/// Other threads see what was streamed before in order with what is stored later.
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        _mm_sfence();
    }
}

/// Writes 64 bytes after 64 bytes to memory that begins anywhere, in whole lines past the cache.
pub(super) struct Lines<'a, I> {
    isa: PhantomData<I>,
    /// Bytes before the first line, until they are written.
    head: Option<&'a mut [u8]>,
    lines: IterMut<'a, Place>,
    tail: &'a mut [u8],
    /// How many bytes of [`Self::held`] are written.
    shift: usize,
    held: Line,
}

impl<'a, I: Isa> Lines<'a, I> {
    /// None where the instruction set does not gain by it, or the place begins within a word.
    #[inline(always)]
    pub(super) fn of(out: &'a mut [u8]) -> Option<Self> {
        // SAFETY: any bits are a line, and a line's bits are bytes.
        let (head, lines, tail) = unsafe { out.align_to_mut::<Place>() };
        let shift = head.len();
        (I::STREAMS && shift < 64 && shift.is_multiple_of(4) && !lines.is_empty()).then_some(Self {
            isa: PhantomData,
            head: Some(head),
            lines: lines.iter_mut(),
            tail,
            shift,
            held: [0; 64],
        })
    }

    /// The next 64 bytes.
    #[inline(always)]
    pub(super) fn push(&mut self, bytes: Line) {
        if let Some(head) = self.head.take() {
            start_of(bytes, head);
        } else if let Some(line) = self.lines.next() {
            I::stream(I::join(self.held, bytes, self.shift), line);
        }
        self.held = bytes;
    }

    /// What is left, when all are pushed.
    #[inline(always)]
    pub(super) fn finish(self) {
        match self.lines.into_slice().first_mut() {
            Some(line) => I::stream(self.held, line),
            None => end_of(self.held, self.tail),
        }
        fence();
    }
}

// Apart, so that lines stay in registers where every one passes.
#[inline(never)]
fn start_of(line: Line, to: &mut [u8]) {
    to.copy_from_slice(&line[..to.len()]);
}

#[inline(never)]
fn end_of(line: Line, to: &mut [u8]) {
    to.copy_from_slice(&line[64 - to.len()..]);
}

#[cfg(test)]
mod tests {
    use super::{super::isa::Portable, *};

    #[test]
    fn copies_all_and_nothing_else() {
        let from: Vec<u8> = (0..=255).cycle().take(300).collect();
        for start in 0..33 {
            for len in (0..70).chain(200..230) {
                let mut to = vec![0xee; 300];
                copy_streaming(&from[7..][..len], &mut to[start..][..len]);
                assert_eq!(to[start..][..len], from[7..][..len]);
                to[start..][..len].fill(0xee);
                assert_eq!(to, [0xee; 300]);
            }
        }
    }

    #[test]
    fn lines_are_joined_as_they_lie() {
        let both: Vec<u8> = (0..128).collect();
        let (lines, _) = both.as_chunks::<64>();
        for from in (0..64).step_by(4) {
            assert_eq!(Portable::join(lines[0], lines[1], from), both[from..][..64]);
        }
    }
}
