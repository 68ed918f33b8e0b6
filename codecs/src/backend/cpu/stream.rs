//! Copies past the cache.

#[cfg(target_arch = "x86_64")]
use std::{
    arch::x86_64::{__m128i, _mm_sfence, _mm_stream_si128},
    mem::transmute,
};

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
        // SAFETY: SSE is part of x86-64. Other threads see these stores in order with later ones.
        unsafe { _mm_sfence() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
