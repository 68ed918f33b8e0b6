//! Planes (codecs-v1 §5.2): loops that every compiler vectorizes.

#[inline(always)]
pub(in super::super) fn split(width: usize, plain: &[u8], low: &mut [u8], top: &mut [u8]) {
    if width == 2 {
        let elements = plain.as_chunks::<2>().0;
        for ((element, low), top) in elements.iter().zip(low).zip(top) {
            [*low, *top] = u16::from_le_bytes(*element).rotate_left(1).to_le_bytes();
        }
        return;
    }
    let (a, rest) = low.split_at_mut(top.len());
    let (b, c) = rest.split_at_mut(top.len());
    let elements = plain.as_chunks::<4>().0;
    for ((((element, a), b), c), top) in elements.iter().zip(a).zip(b).zip(c).zip(top) {
        [*a, *b, *c, *top] = u32::from_le_bytes(*element).rotate_left(1).to_le_bytes();
    }
}

#[inline(always)]
pub(in super::super) fn merge(width: usize, low: &[u8], top: &[u8], out: &mut [u8]) {
    if width == 2 {
        for ((element, low), top) in out.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(top) {
            *element = u16::from_le_bytes([*low, *top])
                .rotate_right(1)
                .to_le_bytes();
        }
        return;
    }
    let (a, rest) = low.split_at(top.len());
    let (b, c) = rest.split_at(top.len());
    let elements = out.as_chunks_mut::<4>().0.iter_mut();
    for ((((element, a), b), c), top) in elements.zip(a).zip(b).zip(c).zip(top) {
        *element = u32::from_le_bytes([*a, *b, *c, *top])
            .rotate_right(1)
            .to_le_bytes();
    }
}
