//! Writes state files as llama.cpp does, in variants for which there is no sample.

/// Bytes of a file in the making.
#[derive(Clone, Default)]
pub(super) struct File(pub(super) Vec<u8>);

/// A cell: position, sequences.
pub(super) type Cell<'a> = (i32, &'a [u32]);

/// A cache without its cells.
#[derive(Clone)]
pub(super) struct Cache {
    /// ggml type and row bytes of the keys of each layer.
    pub(super) keys: Vec<(i32, u64)>,
    /// The same of the values, empty for none; row bytes must be whole elements where transposed.
    pub(super) values: Vec<(i32, u64)>,
    pub(super) v_trans: bool,
    /// Bytes of a cell's extension.
    pub(super) ext: usize,
    /// Write the number of streams.
    pub(super) n_stream: bool,
    /// Write these blocks of the rotation.
    pub(super) rotation: Option<[u32; 2]>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            keys: vec![(1, 16); 2],
            values: vec![(1, 16); 2],
            v_trans: false,
            ext: 0,
            n_stream: true,
            rotation: None,
        }
    }
}

impl File {
    pub(super) fn sequence(version: u32, tokens: &[i32]) -> Self {
        Self::default()
            .words(&[0x6767_7371, version])
            .tokens(tokens)
    }

    pub(super) fn session(version: u32, tokens: &[i32], arch: &str) -> Self {
        let file = Self::default()
            .words(&[0x6767_736e, version])
            .tokens(tokens);
        file.words(&[u32::try_from(arch.len()).unwrap()])
            .bytes(arch.as_bytes())
    }

    pub(super) fn words(mut self, words: &[u32]) -> Self {
        self.0
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn tokens(self, tokens: &[i32]) -> Self {
        let file = self.words(&[u32::try_from(tokens.len()).unwrap()]);
        file.words(
            &tokens
                .iter()
                .map(|token| token.cast_unsigned())
                .collect::<Vec<_>>(),
        )
    }

    /// An attention cache, one list of cells a stream.
    pub(super) fn cache(mut self, cache: &Cache, streams: &[&[Cell<'_>]]) -> Self {
        if cache.n_stream {
            self = self.words(&[u32::try_from(streams.len()).unwrap()]);
        }
        for cells in streams {
            self = self.words(&[u32::try_from(cells.len()).unwrap()]);
            if cells.is_empty() && cache.n_stream {
                continue;
            }
            self = self.cells(cells, cache.ext);
            let layers = u32::try_from(cache.keys.len()).unwrap();
            self = self.words(&[u32::from(cache.v_trans), layers]);
            self = self.words(cache.rotation.as_ref().map_or(&[], |blocks| &blocks[..]));
            for &(kind, row) in &cache.keys {
                self = self.rows(kind, row, cells.len());
            }
            for &(kind, row) in &cache.values {
                if cache.v_trans {
                    let element = if kind == 0 { 4 } else { 2 };
                    self = self.words(&[kind.cast_unsigned(), element]);
                    self = self.words(&[u32::try_from(row).unwrap() / element]);
                    self = self.noise(row * cells.len() as u64);
                } else {
                    self = self.rows(kind, row, cells.len());
                }
            }
        }
        self
    }

    /// Recurrent states of `layers` layers out of `n_layer`.
    pub(super) fn recurrent(
        self,
        cells: &[Cell<'_>],
        n_layer: u32,
        layers: usize,
        (r, s): (u64, u64),
    ) -> Self {
        let mut file = self
            .words(&[u32::try_from(cells.len()).unwrap()])
            .cells(cells, 0);
        file = file.words(&[0, n_layer]);
        for row in [r, s] {
            for _ in 0..layers {
                file = file.rows(0, row, cells.len());
            }
        }
        file
    }

    fn cells(mut self, cells: &[Cell<'_>], ext: usize) -> Self {
        for (position, sequences) in cells {
            self = self.words(&[
                position.cast_unsigned(),
                u32::try_from(sequences.len()).unwrap(),
            ]);
            let ext_words = [position.cast_unsigned(), position.cast_unsigned(), 77];
            self = self.words(&ext_words[..ext / 4]).words(sequences);
        }
        self
    }

    fn rows(self, kind: i32, row: u64, cells: usize) -> Self {
        let file = self
            .words(&[kind.cast_unsigned()])
            .bytes(&row.to_le_bytes());
        file.noise(row * cells as u64)
    }

    fn noise(mut self, len: u64) -> Self {
        for _ in 0..len {
            let at = self.0.len() as u64;
            self.0
                .push((at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]);
        }
        self
    }
}
