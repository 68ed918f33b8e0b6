//! Files of a model: small ones read whole, large ones to be hashed.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, Result};

/// A file to hash, and the name that it has in the model.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// The error for a model file that cannot be read.
pub(crate) fn unreadable(error: &io::Error, path: &Path) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        Error::new(Code::ModelMissing, "the file does not exist").at(path.display())
    } else {
        Error::source(error, path.display())
    }
}

/// A whole small file, of at most `limit` bytes.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| unreadable(&e, path))?;
    // of its real length, so that reading it leaves no room over
    let len = file.metadata().map_or(0, |found| found.len().min(limit));
    let mut content = Vec::with_capacity(usize::try_from(len).unwrap_or(0).saturating_add(32));
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|e| unreadable(&e, path))?;
    if u64::try_from(content.len()).is_ok_and(|len| len <= limit) {
        Ok(content)
    } else {
        Err(Error::new(
            Code::ModelMalformed,
            format!("the file is longer than {limit} bytes"),
        )
        .at(path.display()))
    }
}

/// The first four bytes of a file, or as many as it has.
pub(crate) fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut bytes))
        .map_err(|e| unreadable(&e, path))?;
    Ok(bytes)
}
