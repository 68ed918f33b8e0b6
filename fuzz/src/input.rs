//! An input read as a script: small numbers first, bytes last. Past its end it reads zeros, so that
//! every input is a script and the empty one changes nothing.

/// A cursor over an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The script in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns true if nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that are left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The next `len` bytes, or fewer at the end.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.number();
        byte
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.number())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.number())
    }

    /// One of `all`, by a byte.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// A place below `count` (0 where there is none), by two bytes.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.u16()) % count.max(1)
    }

    /// A run of bytes with its length in a byte before it.
    pub fn short(&mut self) -> &'a [u8] {
        let len = self.byte().into();
        self.take(len)
    }

    /// A number that is often at the edge of something.
    pub fn edge(&mut self) -> u64 {
        const BITS: [u32; 13] = [0, 1, 3, 5, 7, 8, 12, 16, 24, 31, 32, 53, 63];
        match self.byte() {
            0 => self.u64(),
            1 => u64::MAX,
            2 => u64::MAX - u64::from(self.byte()),
            3 => self.byte().into(),
            4 => self.u16().into(),
            kind => (1_u64 << BITS[usize::from(kind) % BITS.len()])
                .wrapping_add_signed(i64::from(self.byte() % 3) - 1),
        }
    }
}
