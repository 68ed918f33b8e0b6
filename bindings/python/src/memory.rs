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
    exceptions::PyBufferError,
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyByteArray, PyBytes, PyCapsule, PyMemoryView},
};

/// Bytes of an object of Python's, contiguous.
pub(crate) enum Shared {
    /// By the buffer protocol.
    Buffer(PyBuffer<u8>),
    /// By DLPack.
    Tensor(Exported),
}

impl Shared {
    /// Takes any contiguous buffer as bytes, or a tensor that the processor reads.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let view = match PyMemoryView::from(object) {
            Ok(view) => view,
            Err(_) if object.hasattr("__dlpack__")? => {
                return Ok(Self::Tensor(Exported::by(object)?));
            }
            Err(error) => return Err(error),
        };
        let bytes = view.call_method1("cast", ("B",))?;
        Ok(Self::Buffer(PyBuffer::get(&bytes)?))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Buffer(buffer) => buffer.item_count(),
            Self::Tensor(tensor) => tensor.len,
        }
    }

    /// Copies what lies at `at`. Whoever calls holds the interpreter.
    pub(crate) fn copy(&self, _: Python<'_>, at: usize, to: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(to.len()).filter(|end| *end <= self.len());
        let bytes = match self {
            Self::Buffer(buffer) => buffer
                .as_slice_ptr()
                .map(|bytes| bytes.as_ptr().cast::<u8>().cast_const()),
            Self::Tensor(tensor) => Some(tensor.start),
        };
        let (Some(bytes), Some(_)) = (bytes, end) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // SAFETY: the object is held, so that its memory stays; `at` and what follows lie in it, and `to` is nobody
        // else's. Whoever calls holds the interpreter, so that no other thread of Python's writes there.
        #[expect(
            unsafe_code,
            reason = "there is no safe call that copies a part of a buffer"
        )]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.add(at), to.as_mut_ptr(), to.len());
        }
        Ok(())
    }
}

impl ReadAt for Shared {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = index(offset)?;
        Python::attach(|py| self.copy(py, at, buf))
    }
}

pub(crate) fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// A tensor's memory, exported by DLPack (<https://dmlc.github.io/dlpack/latest/python_spec.html>).
///
/// The capsule is held and never renamed, so that the library that made it gives the tensor up when the capsule goes.
pub(crate) struct Exported {
    start: *const u8,
    len: usize,
    _capsule: Py<PyCapsule>,
}

// SAFETY: the memory is the tensor's, which the capsule keeps, and is only read, by whoever holds the interpreter.
#[expect(unsafe_code, reason = "a pointer says nothing of threads")]
unsafe impl Send for Exported {}

// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer says nothing of threads")]
unsafe impl Sync for Exported {}

/// `DLTensor` of DLPack, which begins a `DLManagedTensor`.
#[repr(C)]
struct Tensor {
    data: *const u8,
    device_type: i32,
    device_id: i32,
    dimensions: i32,
    /// Kind of number.
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    /// In elements; none for rows without a gap.
    strides: *const i64,
    /// From `data` to the first element, in bytes.
    offset: u64,
}

/// `kDLCPU`, and the processor's memory that CUDA and ROCm have pinned.
const PROCESSORS: [i32; 3] = [1, 3, 11];

impl Exported {
    /// Asks a tensor for its memory. `BufferError` where the processor does not read it, or where it has gaps.
    fn by(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let device = object.call_method0("__dlpack_device__")?;
        let (device, _) = device.extract::<(i32, i32)>()?;
        if !PROCESSORS.contains(&device) {
            let refused = format!(
                "the tensor lies in a device's memory (DLPack's type {device}): copy it to the CPU"
            );
            return Err(PyBufferError::new_err(refused));
        }
        let capsule = object
            .call_method0("__dlpack__")?
            .cast_into::<PyCapsule>()?;
        let tensor = capsule.pointer_checked(Some(c"dltensor"))?.cast::<Tensor>();
        // SAFETY: a capsule of this name holds a `DLManagedTensor`, which the capsule keeps; `shape` has as many numbers
        // as the tensor has dimensions, and so has `strides` where it is not null.
        #[expect(unsafe_code, reason = "DLPack is an interface of C")]
        let (tensor, shape, strides) = unsafe {
            let tensor = tensor.as_ref();
            let dimensions = usize::try_from(tensor.dimensions)?;
            let numbers = |at: *const i64| match dimensions {
                0 => &[][..],
                _ => std::slice::from_raw_parts(at, dimensions),
            };
            let strides = (!tensor.strides.is_null()).then(|| numbers(tensor.strides));
            (tensor, numbers(tensor.shape), strides)
        };
        let len = tensor.bytes(shape, strides).ok_or_else(|| {
            PyBufferError::new_err(
                "the tensor's elements do not lie one after the other in whole bytes",
            )
        })?;
        Ok(Self {
            start: tensor.data.wrapping_add(index(tensor.offset)?),
            len,
            _capsule: capsule.unbind(),
        })
    }
}

impl Tensor {
    /// Length in bytes, if the elements lie one after the other.
    fn bytes(&self, shape: &[i64], strides: Option<&[i64]>) -> Option<usize> {
        let mut elements = 1_i64;
        for (number, count) in shape.iter().enumerate().rev() {
            let stride = strides.and_then(|strides| strides.get(number));
            let follows = *count <= 1 || stride.is_none_or(|stride| *stride == elements);
            // an empty tensor has no element that could lie elsewhere
            if !follows && !shape.contains(&0) {
                return None;
            }
            elements = elements.checked_mul(*count)?;
        }
        let bits = usize::from(self.bits) * usize::from(self.lanes);
        let bytes = (bits % 8 == 0).then_some(bits / 8)?;
        usize::try_from(elements).ok()?.checked_mul(bytes)
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
