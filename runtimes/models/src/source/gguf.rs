//! A strict reader of GGUF headers: metadata and where the tensors lie, without their data.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, Result};

use crate::{
    json::{
        list::{Number, Packed},
        value::{Map, Value, printable},
    },
    source::file::unreadable,
};

/// Longest key or tensor name.
const NAME: u64 = 1 << 16;
/// Longest text (chat templates, grammars).
const TEXT: u64 = 16 << 20;
/// Bytes of a list that are read at a time: it grows as its elements come, whatever its count says.
const STEP: usize = 1 << 16;
/// Most elements of a tensor that is read.
const FACTORS: u64 = 1 << 12;

/// Element types by code: elements a block, bytes a block (`ggml.h`, `ggml-common.h`).
const TYPES: [(u32, u64, u64); 35] = [
    (0, 1, 4),
    (1, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (9, 32, 36),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (15, 256, 292),
    (16, 256, 66),
    (17, 256, 74),
    (18, 256, 98),
    (19, 256, 50),
    (20, 32, 18),
    (21, 256, 110),
    (22, 256, 82),
    (23, 256, 136),
    (24, 1, 1),
    (25, 1, 2),
    (26, 1, 4),
    (27, 1, 8),
    (28, 1, 8),
    (29, 256, 56),
    (30, 1, 2),
    (34, 256, 54),
    (35, 256, 66),
    (39, 32, 17),
    (40, 64, 36),
    (41, 128, 18),
    (42, 64, 18),
];

const F32: u32 = 0;

/// What the headers of a model's splits may still take, all together.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes: the largest vocabularies with their merges take some 30 MiB.
    bytes: u64,
    /// Metadata keys.
    keys: u64,
    tensors: u64,
    /// Elements of lists.
    elements: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            keys: 1 << 16,
            tensors: 1 << 17,
            elements: 1 << 23,
        }
    }
}

/// What a GGUF file says before its tensor data.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) path: PathBuf,
    pub(crate) metadata: Map,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) elements: u64,
    /// Elements of a row.
    pub(crate) row: u64,
    /// The element type's number.
    pub(crate) kind: u32,
    /// From the beginning of the file.
    pub(crate) offset: u64,
}

impl Header {
    /// Reads and checks a header, out of what the splits read before have left of `room`.
    ///
    /// # Errors
    ///
    /// 930 where the file is not a whole little-endian GGUF of version 2 or 3, holds a key or
    /// tensor twice, or is over a limit; 931 for an element type that this version does not know.
    pub(crate) fn read(path: &Path, room: &mut Room) -> Result<Self> {
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(|e| unreadable(&e, path))?;
        let mut cursor = Cursor {
            inner: BufReader::with_capacity(1 << 16, file),
            pos: 0,
            len,
            room,
        };
        let (metadata, tensors) =
            header(&mut cursor, len).map_err(|error| error.at(path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            metadata,
            tensors,
        })
    }

    /// The values of a small f32 tensor, `None` where there is no such tensor.
    pub(crate) fn factors(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(tensor) = self.tensors.iter().find(|tensor| tensor.name == name) else {
            return Ok(None);
        };
        if tensor.kind != F32 || tensor.elements > FACTORS {
            return Err(Error::new(
                Code::ModelUnsupported,
                format!("tensor {name} is not a short list of f32"),
            )
            .at(self.path.display()));
        }
        let mut content = Vec::new();
        let mut read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(tensor.offset))?;
            file.take(tensor.elements * 4).read_to_end(&mut content)
        };
        read().map_err(|e| unreadable(&e, &self.path))?;
        let (words, _) = content.as_chunks::<4>();
        Ok(Some(
            words
                .iter()
                .map(|w| f64::from(f32::from_le_bytes(*w)))
                .collect(),
        ))
    }
}

fn malformed(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::ModelMalformed, what)
}

fn header(cursor: &mut Cursor<'_, impl Read>, len: u64) -> Result<(Map, Vec<Tensor>)> {
    if cursor.array::<4>()? != *b"GGUF" {
        return Err(malformed("the magic of a gguf file is missing"));
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => {
            return Err(malformed("big-endian gguf files are not read"));
        }
        version => {
            return Err(malformed("the gguf version is not known").sides("2 or 3", version));
        }
    }
    let tensor_count = cursor.count("tensors", cursor.room.tensors)?;
    cursor.room.tensors -= tensor_count;
    let key_count = cursor.count("metadata keys", cursor.room.keys)?;
    cursor.room.keys -= key_count;
    let mut metadata = Map::new();
    for _ in 0..key_count {
        let key = cursor.text(NAME)?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind).map_err(|e| e.at(printable(&key)))?;
        if let Some(_twice) = metadata.insert(key.clone(), value) {
            return Err(malformed("the metadata hold a key twice").at(printable(&key)));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(value) => value
            .as_u64()
            .filter(|a| a.is_power_of_two() && (8..=1 << 20).contains(a))
            .ok_or_else(|| malformed("general.alignment is not a power of two from 8 to 2^20"))?,
    };
    let tensors = tensors(cursor, tensor_count, alignment, len)?;
    Ok((metadata, tensors))
}

/// The tensors' names and places. As the runtime demands, each begins where the one before ends,
/// padded to the alignment, so that no byte belongs to two and a cut file is found out.
fn tensors(
    cursor: &mut Cursor<'_, impl Read>,
    count: u64,
    alignment: u64,
    len: u64,
) -> Result<Vec<Tensor>> {
    let overflow = || malformed("a tensor's size overflows");
    let mut sizes = Vec::new();
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut expected = 0_u64;
    for _ in 0..count {
        let name = cursor.text(NAME)?;
        let rank = cursor.u32()?;
        if rank > 4 {
            return Err(malformed("a tensor has more than four axes").at(printable(&name)));
        }
        let mut dims = [1_u64; 4];
        for dim in dims.iter_mut().take(usize::try_from(rank).unwrap_or(4)) {
            *dim = cursor.u64()?;
        }
        let kind = cursor.u32()?;
        let offset = cursor.u64()?;
        let &(_, block, block_bytes) =
            TYPES
                .iter()
                .find(|(code, _, _)| *code == kind)
                .ok_or_else(|| {
                    Error::new(
                        Code::ModelUnsupported,
                        format!("element type {kind} is not known"),
                    )
                    .at(printable(&name))
                })?;
        let elements = dims
            .iter()
            .try_fold(1_u64, |product, dim| product.checked_mul(*dim))
            .ok_or_else(overflow)?;
        if dims[0] % block != 0 || offset != expected {
            return Err(
                malformed("a tensor's rows or place are not as they must be")
                    .at(printable(&name))
                    .sides(format!("offset {expected}"), format!("offset {offset}")),
            );
        }
        let bytes = (elements / block)
            .checked_mul(block_bytes)
            .ok_or_else(overflow)?;
        expected = bytes
            .checked_next_multiple_of(alignment)
            .and_then(|padded| offset.checked_add(padded))
            .ok_or_else(overflow)?;
        sizes.push(bytes);
        tensors.push(Tensor {
            name,
            elements,
            row: dims[0],
            kind,
            offset,
        });
    }
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(malformed("the file holds a tensor twice").at(printable(twice)));
    }
    let data = cursor
        .pos
        .checked_next_multiple_of(alignment)
        .ok_or_else(overflow)?;
    for (tensor, bytes) in tensors.iter_mut().zip(sizes) {
        tensor.offset = tensor.offset.checked_add(data).ok_or_else(overflow)?;
        let end = tensor.offset.checked_add(bytes).ok_or_else(overflow)?;
        if end > len {
            return Err(malformed("the file ends before its tensors do").sides(end, len));
        }
    }
    Ok(tensors)
}

struct Cursor<'a, R> {
    inner: R,
    pos: u64,
    /// Bytes of the file.
    len: u64,
    room: &'a mut Room,
}

impl<R: Read> Cursor<'_, R> {
    /// Says that `len` more bytes are wanted, before anything is allocated for them.
    fn claim(&mut self, len: u64) -> Result<()> {
        let pos = self.pos.checked_add(len).filter(|pos| *pos <= self.len);
        self.pos = pos.ok_or_else(|| malformed("the file ends inside its header"))?;
        let left = self.room.bytes.checked_sub(len);
        self.room.bytes =
            left.ok_or_else(|| malformed("the header, or those of all splits, is over its limit"))?;
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        self.inner
            .read_exact(buf)
            .map_err(|error| Error::new(Code::LocalIo, error.to_string()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.claim(u64::try_from(N).unwrap_or(u64::MAX))?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str, limit: u64) -> Result<u64> {
        match self.u64()? {
            count if count <= limit => Ok(count),
            count => Err(malformed(format!("the number of {what} is over its limit"))
                .sides(format!("at most {limit}"), count)),
        }
    }

    fn text(&mut self, limit: u64) -> Result<String> {
        let mut bytes = Vec::new();
        self.append_text(limit, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| malformed("a text is not utf-8"))
    }

    /// Appends the bytes of a text.
    fn append_text(&mut self, limit: u64, out: &mut Vec<u8>) -> Result<()> {
        let len = self.count("bytes of a text", limit)?;
        self.append(len, out)
    }

    /// Appends `len` bytes, piece by piece.
    fn append(&mut self, len: u64, out: &mut Vec<u8>) -> Result<()> {
        self.claim(len)?;
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        while left > 0 {
            let (start, piece) = (out.len(), left.min(STEP));
            out.resize(start + piece, 0);
            self.fill(out.get_mut(start..).unwrap_or_default())?;
            left -= piece;
        }
        Ok(())
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        match kind {
            8 => self.text(TEXT).map(Value::Text),
            9 => self.list().map(Value::List),
            kind => {
                let kind = number(kind)?;
                let mut bytes = Vec::new();
                self.append(u64::try_from(kind.len()).unwrap_or(0), &mut bytes)?;
                kind.read(&bytes).map(Value::from).ok_or_else(not_a_truth)
            }
        }
    }

    fn list(&mut self) -> Result<Packed> {
        let kind = self.u32()?;
        if kind == 9 {
            return Err(malformed("the metadata nest lists"));
        }
        let len = self.count("list elements", self.room.elements)?;
        self.room.elements -= len;
        if kind == 8 {
            let (mut text, mut ends) = (Vec::new(), Vec::new());
            for _ in 0..len {
                let start = text.len();
                self.append_text(TEXT, &mut text)?;
                let added = text.get(start..).unwrap_or_default();
                std::str::from_utf8(added).map_err(|_| malformed("a text is not utf-8"))?;
                let end = u32::try_from(text.len());
                ends.push(end.map_err(|_| malformed("a list of texts is too long"))?);
            }
            let text = String::from_utf8(text).map_err(|_| malformed("a text is not utf-8"))?;
            return Ok(Packed::Texts { text, ends });
        }
        let kind = number(kind)?;
        let mut bytes = Vec::new();
        let size = u64::try_from(kind.len()).unwrap_or(u64::MAX);
        self.append(len.saturating_mul(size), &mut bytes)?;
        if !bytes
            .chunks_exact(kind.len())
            .all(|b| kind.read(b).is_some())
        {
            return Err(not_a_truth());
        }
        Ok(Packed::Numbers { kind, bytes })
    }
}

fn number(kind: u32) -> Result<Number> {
    Number::of(kind).ok_or_else(|| malformed("the type of a metadata value is not known"))
}

fn not_a_truth() -> Error {
    malformed("a truth value is neither 0 nor 1")
}
