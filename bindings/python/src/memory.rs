//! Memory of Python's as a source and as an output.
//!
//! It is copied from and to a piece at a time, straight into and out of the library's own buffers, with the
//! interpreter held: what another thread changes between two pieces is seen or not, and no more comes of it.

use std::io;

use kvcap::{ReadAt, SourceFile};
use pyo3::{buffer::PyBuffer, exceptions::PyValueError, prelude::*, types::PyBytes};

/// Bytes of an object with the buffer protocol, contiguous.
pub(crate) struct Shared(PyBuffer<u8>);

impl Shared {
    /// Takes any contiguous buffer as bytes.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let view = object
            .py()
            .import("builtins")?
            .getattr("memoryview")?
            .call1((object,))?;
        let bytes = view.call_method1("cast", ("B",))?;
        Ok(Self(PyBuffer::get(&bytes)?))
    }

    fn len(&self) -> usize {
        self.0.item_count()
    }

    /// Copies what lies at `at`.
    fn copy(&self, at: usize, to: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(to.len()).filter(|end| *end <= self.len());
        let bytes = self.0.as_slice_ptr();
        let (Some(bytes), Some(_)) = (bytes, end) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // SAFETY: the buffer is held, so that its memory stays; `at` and what follows lie in it, and `to` is nobody
        // else's. Whoever calls holds the interpreter, so that no other thread of Python's writes there.
        #[expect(
            unsafe_code,
            reason = "there is no safe call that copies a part of a buffer"
        )]
        unsafe {
            let from = bytes.as_ptr().cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len());
        }
        Ok(())
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

impl ReadAt for Shared {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = index(offset)?;
        Python::attach(|_| self.copy(at, buf))
    }
}

/// Tensors in memory as the safetensors file that they would be: its header, then each tensor where it lies.
///
/// A runtime's module makes it; a tensor's elements may lie anywhere in its buffer, by strides.
#[pyclass(frozen, module = "kvcap")]
pub(crate) struct Tensors {
    header: Vec<u8>,
    parts: Vec<Part>,
    len: u64,
}

/// A tensor's place in the file and in memory.
struct Part {
    at: u64,
    len: u64,
    bytes: Shared,
    /// Offset of the first row in the buffer.
    base: usize,
    /// Length of a row, which lies in one piece.
    row: usize,
    /// Number and distance of what is outside a row, outermost first.
    outer: Vec<(usize, usize)>,
}

/// Buffer, offset of the first byte, bytes of a row, and number and distance of rows by dimension.
type Given<'py> = (Bound<'py, PyAny>, usize, usize, Vec<(usize, usize)>);

#[pymethods]
impl Tensors {
    #[new]
    fn new(header: Vec<u8>, tensors: Vec<Given<'_>>) -> PyResult<Self> {
        let mut at = header.len() as u64;
        let mut parts = Vec::with_capacity(tensors.len());
        for (object, base, row, outer) in tensors {
            let bytes = Shared::of(&object)?;
            let part = Part::new(at, bytes, base, row, outer).ok_or_else(|| {
                PyValueError::new_err("a tensor's strides lead out of its buffer")
            })?;
            at += part.len;
            if part.len > 0 {
                parts.push(part);
            }
        }
        Ok(Self {
            header,
            parts,
            len: at,
        })
    }

    /// The length of the file that it stands for, in bytes.
    fn __len__(&self) -> PyResult<usize> {
        Ok(usize::try_from(self.len)?)
    }

    /// That file.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, usize::try_from(self.len)?, |bytes| {
            Ok(self.read_exact_at(0, bytes)?)
        })
    }
}

impl Part {
    fn new(
        at: u64,
        bytes: Shared,
        base: usize,
        row: usize,
        outer: Vec<(usize, usize)>,
    ) -> Option<Self> {
        let (mut rows, mut last) = (1_usize, base);
        for (count, stride) in &outer {
            rows = rows.checked_mul(*count)?;
            last = last.checked_add(count.saturating_sub(1).checked_mul(*stride)?)?;
        }
        let len = rows.checked_mul(row)?;
        (len == 0 || last.checked_add(row)? <= bytes.len()).then_some(Self {
            at,
            len: u64::try_from(len).ok()?,
            bytes,
            base,
            row,
            outer,
        })
    }

    /// Offset of a row in the buffer.
    fn row_at(&self, mut row: usize) -> usize {
        let mut at = self.base;
        for (count, stride) in self.outer.iter().rev() {
            at += row % count * stride;
            row /= count;
        }
        at
    }

    fn read(&self, from: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut at = index(from)?;
        Python::attach(|_| {
            let mut rest = buf;
            while !rest.is_empty() {
                let (row, within) = (at / self.row, at % self.row);
                let len = rest.len().min(self.row - within);
                let (now, later) = rest.split_at_mut(len);
                self.bytes.copy(self.row_at(row) + within, now)?;
                at += len;
                rest = later;
            }
            Ok(())
        })
    }
}

impl ReadAt for Tensors {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buf);
        let head = usize::try_from(at)
            .ok()
            .and_then(|at| self.header.get(at..));
        if let Some(head) = head {
            let (now, later) = rest.split_at_mut(rest.len().min(head.len()));
            let from = head.get(..now.len()).unwrap_or_default();
            now.copy_from_slice(from);
            at += now.len() as u64;
            rest = later;
        }
        let first = self.parts.partition_point(|part| part.at + part.len <= at);
        for part in self.parts.get(first..).unwrap_or_default() {
            if rest.is_empty() {
                break;
            }
            let left = usize::try_from(part.at + part.len - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(rest.len().min(left));
            part.read(at - part.at, now)?;
            at += now.len() as u64;
            rest = later;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Bytes of a capsule or a state: a file's, or memory's.
pub(crate) enum Bytes {
    File(SourceFile),
    Memory(Shared),
    Tensors(Py<Tensors>),
}

impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.len(),
            Self::Memory(memory) => ReadAt::len(memory),
            Self::Tensors(tensors) => tensors.get().len,
        }
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(offset, buf),
            Self::Memory(memory) => memory.read_exact_at(offset, buf),
            Self::Tensors(tensors) => tensors.get().read_exact_at(offset, buf),
        }
    }
}
