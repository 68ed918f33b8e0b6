//! Files that are read and written at given places, and lengths as the machine counts them.

use std::io;

use kvcap::{Code, Error, Result};

use crate::state::ReadAt;

/// Fills `buf` from `offset` of a state file.
pub(crate) fn read_at(file: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<()> {
    file.read_exact_at(offset, buf)
        .map_err(|error| file_error(&error))
}

pub(crate) fn file_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::new(Code::StateMalformed, "the state file ends early")
    } else {
        Error::source(error, "state file")
    }
}

pub(crate) fn output_error(error: &io::Error) -> Error {
    Error::sink(error, "output")
}

pub(crate) fn product(a: u64, b: u64) -> Result<u64> {
    a.checked_mul(b).ok_or_else(overflow)
}

/// A length as the machine counts memory.
pub(crate) fn size(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| overflow())
}

pub(crate) fn overflow() -> Error {
    Error::new(Code::StateLimit, "a length of the state file overflows")
}
