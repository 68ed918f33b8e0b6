//! Memory of Python's as a source and as an output.
//!
//! What may change is copied a piece at a time, straight into the library's own buffers, with the interpreter held: what
//! another thread changes between two pieces is seen or not, and no more comes of it. `bytes` never change: they are read
//! where they lie, and a capsule is written where it stays, in a `bytes` object that nobody has yet.

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use kvcap::{ReadAt, WriteAt};
use kvcap_states::Buffer;
use pyo3::{
    buffer::PyBuffer,
    exceptions::PyValueError,
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyByteArray, PyBytes},
};

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

/// A `bytes` object, which never changes.
pub(crate) struct Frozen(pub(crate) PyBackedBytes);

impl ReadAt for Frozen {
    fn len(&self) -> u64 {
        ReadAt::len(&self.0[..])
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0[..].read_exact_at(offset, buf)
    }

    fn borrow(&self, offset: u64, len: usize) -> Option<&[u8]> {
        ReadAt::borrow(&self.0[..], offset, len)
    }
}

/// Makes a `bytearray` of `len` zeros and fills it by `fill`.
pub(crate) fn filled<'py>(
    py: Python<'py>,
    len: u64,
    fill: impl FnOnce(&Buffer<'_>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let object = PyByteArray::new(py, &[]);
    object.resize(usize::try_from(len)?)?;
    // SAFETY: nobody else has the object before this function returns it, and the slice is gone by then.
    #[expect(
        unsafe_code,
        reason = "the safe call writes its zeros in one thread, which costs as much as a copy"
    )]
    let bytes = unsafe { object.as_bytes_mut() };
    // what lay in that memory before is nobody's business: a state's padding is zero
    py.detach(|| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let piece = bytes.len().div_ceil(threads).max(1);
        thread::scope(|all| {
            for piece in bytes.chunks_mut(piece) {
                all.spawn(|| piece.fill(0));
            }
        });
    });
    fill(&Buffer::new(bytes))?;
    Ok(object)
}

/// A `bytes` object that nobody has yet, as an output.
#[derive(Default)]
pub(crate) struct Fresh {
    room: OnceLock<Room>,
    used: AtomicUsize,
}

struct Room {
    out: Buffer<'static>,
    object: Py<PyBytes>,
}

impl Fresh {
    /// Gives the object, once all is written.
    pub(crate) fn into_bytes(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
        let Some(Room { out, object }) = self.room.into_inner() else {
            return Ok(PyBytes::new(py, &[]));
        };
        drop(out);
        let object = object.into_bound(py);
        let used = self.used.into_inner();
        match object.as_bytes().get(..used) {
            // what was compressed is shorter than the room for it
            Some(bytes) if bytes.len() < object.as_bytes().len() => Ok(PyBytes::new(py, bytes)),
            _ => Ok(object),
        }
    }
}

impl WriteAt for Fresh {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let room = self.room.get().ok_or(io::ErrorKind::OutOfMemory)?;
        room.out.write_all_at(offset, buf)
    }

    fn lend(&self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8], bool)) -> bool {
        let room = self.room.get();
        room.is_some_and(|room| room.out.lend(offset, len, fill))
    }

    /// Makes the object. Where there is no memory for it, writing fails.
    fn reserve(&self, len: u64) {
        let Ok(len) = usize::try_from(len) else {
            return;
        };
        // Python's own call: its zeros come from the system, and cost nothing before they are written over
        let made = Python::attach(|py| -> PyResult<_> {
            let object = py.get_type::<PyBytes>().call1((len,))?;
            let object = object.cast_into::<PyBytes>()?;
            Ok((object.as_bytes().as_ptr().cast_mut(), object.unbind()))
        });
        let Ok((start, object)) = made else { return };
        // SAFETY: the memory is the object's, which is held longer than this slice, and has `len` bytes, all zero; nobody
        // else has the object before `into_bytes`, which gives the slice up first.
        #[expect(
            unsafe_code,
            reason = "there is no safe call that fills an object later"
        )]
        let bytes = unsafe { std::slice::from_raw_parts_mut(start, len) };
        self.used.store(len, Ordering::Relaxed);
        let out = Buffer::new(bytes);
        self.room.get_or_init(|| Room { out, object });
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        let len = index(len)?;
        self.used.store(len, Ordering::Relaxed);
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
