//! The memory sections of a llama.cpp state: attention caches and recurrent states.

use kvcap::{Code, Error, Result};
use kvcap_codecs::Dtype;

use super::cursor::Cursor;

/// llama.cpp's own ceiling of sequences (`LLAMA_MAX_SEQ`), and so of streams.
const MAX_SEQUENCES: u32 = 256;
const MAX_CELLS: u32 = 1 << 24;
const MAX_LAYERS: u32 = 4096;
/// Largest block of a rotation: above every head size there is.
const MAX_ROTATION: u32 = 1 << 16;

/// What the version number of a file leaves open about its sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The attention cache starts with its number of streams.
    pub(super) n_stream: bool,
    /// Bytes of a cell's extension: 0, 8 (x, y), or 12 (x, y, token).
    pub(super) cell_ext: u32,
    /// Each stream of an attention cache says by which blocks its rows are rotated.
    pub(super) rotation: bool,
    /// The file holds one sequence, whose id its cells do not need.
    pub(super) single: bool,
}

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Attention(Attention),
    Recurrent(Recurrent),
}

/// An attention cache: one entry a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attention {
    pub(super) streams: Vec<Stream>,
}

/// One stream of an attention cache; one without cells has no tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) cells: Cells,
    pub(super) v_trans: bool,
    /// Blocks of the Hadamard rotation on keys and on values, 0 for none, where the file says them.
    pub(super) rotation: Option<[u32; 2]>,
    /// A tensor a layer that owns cells in this cache.
    pub(super) keys: Vec<Tensor>,
    /// As many, or none in a cache without values (MLA).
    pub(super) values: Vec<Tensor>,
}

/// The recurrent states, one cell a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recurrent {
    pub(super) cells: Cells,
    /// All layers of the model, those without state too.
    pub(super) n_layer: u32,
    pub(super) convolution: Vec<Tensor>,
    pub(super) state: Vec<Tensor>,
}

/// Cells in the order of their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) positions: Vec<i32>,
    /// One entry for each sequence of each cell.
    pub(super) members: Vec<Member>,
}

/// A cell as one sequence sees it. Cells of one image share a position and differ in x and y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    /// `None` where the file leaves the sequence out.
    pub(super) sequence: Option<u32>,
    pub(super) position: i32,
    pub(super) x: i32,
    pub(super) y: i32,
}

/// A tensor of one layer: `cells` rows of `elements`, at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) dtype: Dtype,
    pub(super) offset: u64,
    pub(super) cells: u64,
    /// Elements of one cell.
    pub(super) elements: u64,
    /// Bytes of one cell.
    pub(super) row_bytes: u64,
    /// Stored channel by channel instead of cell by cell.
    pub(super) transposed: bool,
}

impl Section {
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cells> {
        let (streams, recurrent) = match self {
            Self::Attention(attention) => (attention.streams.as_slice(), None),
            Self::Recurrent(recurrent) => (Default::default(), Some(&recurrent.cells)),
        };
        streams.iter().map(|stream| &stream.cells).chain(recurrent)
    }
}

impl Attention {
    /// The streams that hold cells.
    pub(super) fn used(&self) -> impl Iterator<Item = &Stream> {
        self.streams
            .iter()
            .filter(|stream| stream.cells.count() > 0)
    }

    /// Whether it holds keys and no values.
    pub(super) fn lacks_values(&self) -> bool {
        self.used()
            .any(|stream| stream.values.is_empty() && !stream.keys.is_empty())
    }

    /// Reads an attention cache, with or without values: the file does not say which.
    pub(super) fn read(cursor: &mut Cursor<'_>, layout: Layout, values: bool) -> Result<Self> {
        let count = if layout.n_stream {
            cursor.count("n_stream", 4, MAX_SEQUENCES)?
        } else {
            1
        };
        if count == 0 {
            return Err(malformed("an attention cache has no streams"));
        }
        let mut streams: Vec<Stream> = Vec::new();
        for _ in 0..count {
            let stream = Stream::read(cursor, layout, values)?;
            let same = |other: &Stream| {
                other.keys.len() == stream.keys.len()
                    && other.v_trans == stream.v_trans
                    && other.rotation == stream.rotation
            };
            let before = streams.iter().find(|other| other.cells.count() > 0);
            if stream.cells.count() > 0 && !before.is_none_or(same) {
                return Err(malformed(
                    "two streams of one cache differ in layers or layout",
                ));
            }
            streams.push(stream);
        }
        Ok(Self { streams })
    }
}

impl Stream {
    fn read(cursor: &mut Cursor<'_>, layout: Layout, with_values: bool) -> Result<Self> {
        let count = cursor.count("cell_count", 8, MAX_CELLS)?;
        if count == 0 && layout.n_stream {
            return Ok(Self::default());
        }
        let sequences = match (layout.single, layout.n_stream) {
            (true, true) => 1..=1,
            // before streams, a cell of a sequence file left its sequence out
            (true, false) => 0..=0,
            (false, _) => 1..=MAX_SEQUENCES,
        };
        let cells = Cells::read(cursor, count, layout.cell_ext, sequences)?;
        let v_trans = match cursor.u32("v_trans")? {
            0 => false,
            1 => true,
            other => return Err(malformed("v_trans is neither 0 nor 1").sides("0 or 1", other)),
        };
        let n_layer = cursor.count("n_layer", 12, MAX_LAYERS)?;
        let rotation = match layout.rotation {
            true => Some([block_of(cursor, "n_rot_k")?, block_of(cursor, "n_rot_v")?]),
            false => None,
        };
        cursor.count_structure();
        let rows = u64::from(count);
        let keys = (0..n_layer)
            .map(|_| Tensor::read_rows(cursor, rows, "keys").and_then(Tensor::not_empty))
            .collect::<Result<_>>()?;
        let values = (0..if with_values { n_layer } else { 0 })
            .map(|_| match v_trans {
                false => Tensor::read_rows(cursor, rows, "values"),
                true => Tensor::read_transposed(cursor, rows),
            })
            .map(|tensor| tensor.and_then(Tensor::not_empty))
            .collect::<Result<_>>()?;
        Ok(Self {
            cells,
            v_trans,
            rotation,
            keys,
            values,
        })
    }
}

impl Recurrent {
    /// Reads recurrent states, which are always the last section: how many layers have state is
    /// told only by the end of the file.
    pub(super) fn read(cursor: &mut Cursor<'_>, layout: Layout) -> Result<Self> {
        // a sequence keeps one recurrent cell
        let limit = if layout.single { 1 } else { MAX_SEQUENCES };
        let count = cursor.count("recurrent cell_count", 8, limit)?;
        let sequences = if layout.single {
            0..=0
        } else {
            1..=MAX_SEQUENCES
        };
        let cells = Cells::read(cursor, count, 0, sequences)?;
        let mut ids: Vec<_> = cells.members.iter().filter_map(|m| m.sequence).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(malformed("a sequence has two recurrent cells"));
        }
        if cursor.u32("s_trans")? != 0 {
            return Err(malformed("a recurrent state is transposed"));
        }
        let n_layer = cursor.count("recurrent n_layer", 0, MAX_LAYERS)?;
        cursor.count_structure();
        let mut tensors: Vec<Tensor> = Vec::new();
        while !cursor.at_end() && tensors.len() < 2 * usize::try_from(n_layer).unwrap_or(0) {
            tensors.push(Tensor::read_rows(
                cursor,
                u64::from(count),
                "recurrent rows",
            )?);
        }
        if tensors.is_empty() || !tensors.len().is_multiple_of(2) {
            return Err(
                malformed("recurrent layers do not come in pairs of R and S")
                    .at(format_args!("{} tensors", tensors.len())),
            );
        }
        let state = tensors.split_off(tensors.len() / 2);
        let convolution = tensors;
        let uniform = |half: &[Tensor]| half.windows(2).all(|pair| pair[0].row() == pair[1].row());
        let bytes = |half: &[Tensor]| half.first().map_or(0, |tensor| tensor.row_bytes);
        if !uniform(&convolution)
            || !uniform(&state)
            || bytes(&convolution).saturating_add(bytes(&state)) == 0
        {
            return Err(malformed("recurrent layers differ in type or size"));
        }
        Ok(Self {
            cells,
            n_layer,
            convolution,
            state,
        })
    }
}

impl Cells {
    pub(super) fn count(&self) -> usize {
        self.positions.len()
    }

    fn read(
        cursor: &mut Cursor<'_>,
        count: u32,
        ext: u32,
        sequences: std::ops::RangeInclusive<u32>,
    ) -> Result<Self> {
        let mut cells = Self::default();
        for _ in 0..count {
            let position = cursor.i32("cell metadata")?;
            let n_seq_id = cursor.u32("cell metadata")?;
            if !sequences.contains(&n_seq_id) {
                return Err(malformed("a cell has an impossible number of sequences")
                    .sides(format_args!("{sequences:?}"), n_seq_id));
            }
            let mut member = Member {
                sequence: None,
                position,
                x: 0,
                y: 0,
            };
            if ext >= 8 {
                member.x = cursor.i32("cell extension")?;
                member.y = cursor.i32("cell extension")?;
            }
            if ext >= 12 {
                cursor.i32("cell extension")?;
            }
            cells.positions.push(position);
            if n_seq_id == 0 {
                cells.members.push(member);
            }
            for _ in 0..n_seq_id {
                let id = cursor.u32("cell metadata")?;
                if id >= MAX_SEQUENCES || member.sequence.is_some_and(|before| before >= id) {
                    return Err(malformed(
                        "a cell's sequence ids are not ascending and below 256",
                    ));
                }
                member.sequence = Some(id);
                cells.members.push(member);
            }
        }
        Ok(cells)
    }
}

impl Tensor {
    /// Type and size of a row.
    pub(super) fn row(&self) -> (Dtype, u64) {
        (self.dtype, self.row_bytes)
    }

    /// `type, row bytes, rows`.
    fn read_rows(cursor: &mut Cursor<'_>, cells: u64, what: &'static str) -> Result<Self> {
        let dtype = ggml_type(cursor.i32(what)?)?;
        let row_bytes = cursor.u64(what)?;
        let (unit, unit_bytes) = block(dtype);
        if unit_bytes == 0 || !row_bytes.is_multiple_of(unit_bytes) {
            return Err(
                malformed("a row is not a whole number of its type's blocks").sides(
                    format_args!("a multiple of {unit_bytes} bytes ({})", dtype.name()),
                    row_bytes,
                ),
            );
        }
        let offset = cursor.skip(row_bytes.saturating_mul(cells), what)?;
        cursor.count_structure();
        Ok(Self {
            dtype,
            offset,
            cells,
            elements: (row_bytes / unit_bytes).saturating_mul(unit),
            row_bytes,
            transposed: false,
        })
    }

    /// `type, element bytes, channels, channels × cells elements`.
    fn read_transposed(cursor: &mut Cursor<'_>, cells: u64) -> Result<Self> {
        let what = "transposed values";
        let dtype = ggml_type(cursor.i32(what)?)?;
        let element = u64::from(cursor.u32(what)?);
        if dtype.row_bytes(1) != Some(element) {
            return Err(
                malformed("transposed values are not single elements of their type")
                    .sides(dtype.name(), format_args!("{element} bytes")),
            );
        }
        let elements = u64::from(cursor.u32(what)?);
        let row_bytes = elements.saturating_mul(element);
        let offset = cursor.skip(row_bytes.saturating_mul(cells), what)?;
        cursor.count_structure();
        Ok(Self {
            dtype,
            offset,
            cells,
            elements,
            row_bytes,
            transposed: true,
        })
    }

    fn not_empty(self) -> Result<Self> {
        if self.row_bytes == 0 {
            return Err(malformed("a layer's rows are empty"));
        }
        Ok(self)
    }
}

/// The block of a rotation: 0, or a power of two that llama.cpp has matrices of.
fn block_of(cursor: &mut Cursor<'_>, what: &'static str) -> Result<u32> {
    match cursor.u32(what)? {
        0 => Ok(0),
        block @ 64..=MAX_ROTATION if block.is_power_of_two() => Ok(block),
        other => Err(malformed("a rotation has an impossible block").sides(
            format_args!("0, or a power of two from 64 to {MAX_ROTATION}"),
            other,
        )),
    }
}

/// Elements and bytes of a type's smallest unit.
fn block(dtype: Dtype) -> (u64, u64) {
    dtype
        .row_bytes(1)
        .map_or((32, dtype.row_bytes(32).unwrap_or(0)), |bytes| (1, bytes))
}

fn ggml_type(number: i32) -> Result<Dtype> {
    Ok(match number {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::GgmlQ4_0,
        3 => Dtype::GgmlQ4_1,
        6 => Dtype::GgmlQ5_0,
        7 => Dtype::GgmlQ5_1,
        8 => Dtype::GgmlQ8_0,
        20 => Dtype::GgmlIq4Nl,
        30 => Dtype::Bf16,
        other => {
            return Err(Error::new(
                Code::StateUnsupported,
                format!("ggml type {other} is not one that a cache can have"),
            ));
        }
    })
}

fn malformed(what: &'static str) -> Error {
    Error::new(Code::StateMalformed, what)
}
