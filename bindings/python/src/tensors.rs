//! Tensors in memory as the file that they would be.

use std::io;

use kvcap::ReadAt;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::memory::{Shared, index};

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

/// What holds the bytes, offset of the first one, bytes of a row, and number and distance of rows by dimension.
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
        Python::attach(|py| {
            let mut rest = buf;
            while !rest.is_empty() {
                let (row, within) = (at / self.row, at % self.row);
                let len = rest.len().min(self.row - within);
                let (now, later) = rest.split_at_mut(len);
                self.bytes.copy(py, self.row_at(row) + within, now)?;
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

/// Tensors that a call holds.
pub(crate) struct Lent(pub(crate) Py<Tensors>);

impl ReadAt for Lent {
    fn len(&self) -> u64 {
        self.0.get().len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.get().read_exact_at(offset, buf)
    }
}
