//! Digests of files, and the model id made of them (model-id-v1 §3, §4).

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use kvcap::{
    Code, Error, Result,
    binding::{Adapter, Digest},
};

mod adapters;
mod cache;

pub(crate) use self::adapters::adapter_digest;
pub use self::cache::HashCache;
use self::cache::Stamp;
use crate::{
    json::canonical::{array, bytes, text, uint},
    source::file::{Source, unreadable},
};

/// Bytes read at a time; two such buffers are the memory that hashing takes.
const BUFFER: usize = 8 << 20;

/// Told how many bytes of how many are hashed.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// One file of a model's weights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeightsFile {
    /// Its name inside the model, without a path (model-id-v1 §3).
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// BLAKE3 of its content.
    pub digest: Digest,
}

/// The digest over a model's weights files, which must be sorted by name.
#[must_use]
pub fn weights_digest(files: &[WeightsFile]) -> Digest {
    let mut out = Vec::new();
    canonical_files(&mut out, files);
    Digest::labelled("kvcap v1 weights", &[&out])
}

/// The model id: the digest over weights files (sorted by name), config digest and adapters.
#[must_use]
pub fn model_id(files: &[WeightsFile], config: Digest, adapters: &[Adapter]) -> Digest {
    let mut out = Vec::new();
    array(&mut out, 3);
    canonical_files(&mut out, files);
    bytes(&mut out, &config.0);
    array(&mut out, adapters.len());
    for adapter in adapters {
        array(&mut out, 2);
        bytes(&mut out, &adapter.digest.0);
        bytes(&mut out, &adapter.scale.0.to_be_bytes());
    }
    Digest::labelled("kvcap v1 model id", &[&out])
}

/// Appends `[[name, length, digest], …]`.
pub(crate) fn canonical_files(out: &mut Vec<u8>, files: &[WeightsFile]) {
    array(out, files.len());
    for file in files {
        array(out, 3);
        text(out, &file.name);
        uint(out, file.length);
        bytes(out, &file.digest.0);
    }
}

/// Hashes files one after the other, each on all cores, and sorts the result by name.
pub(crate) fn hash_all(
    sources: &[Source],
    cache: &HashCache,
    progress: Progress<'_>,
) -> Result<Vec<WeightsFile>> {
    let stamps = sources
        .iter()
        .map(|source| Stamp::of(&source.path).map_err(|e| unreadable(&e, &source.path)))
        .collect::<Result<Vec<_>>>()?;
    let total = stamps
        .iter()
        .fold(0_u64, |sum, stamp| sum.saturating_add(stamp.length));
    let mut done = 0;
    let mut files = Vec::with_capacity(sources.len());
    for (source, stamp) in sources.iter().zip(stamps) {
        let digest = match cache.load(&source.path, &stamp) {
            Some(digest) => digest,
            None => {
                let digest = hash_file(&source.path, &stamp, &|here| progress(done + here, total))?;
                cache.store(&source.path, &stamp, digest);
                digest
            }
        };
        done += stamp.length;
        progress(done, total);
        files.push(WeightsFile {
            name: source.name.clone(),
            length: stamp.length,
            digest,
        });
    }
    files.sort();
    Ok(files)
}

/// BLAKE3 of a file's content; the next part is read while the last is hashed.
fn hash_file(path: &Path, stamp: &Stamp, progress: &(dyn Fn(u64) + Sync)) -> Result<Digest> {
    let failed = |error: &io::Error| unreadable(error, path);
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    let mut hasher = blake3::Hasher::new();
    let mut ready = vec![0; BUFFER];
    let mut next = vec![0; BUFFER];
    let mut len = fill(&mut file, &mut ready).map_err(|e| failed(&e))?;
    let mut done = 0;
    while len > 0 {
        let part = ready.get(..len).unwrap_or(&ready);
        let (read, ()) = rayon_core::join(
            || fill(&mut file, &mut next),
            || {
                hasher.update_rayon(part);
            },
        );
        done += u64::try_from(len).unwrap_or(0);
        progress(done);
        len = read.map_err(|e| failed(&e))?;
        std::mem::swap(&mut ready, &mut next);
    }
    // The length was promised to the id, and a cached digest must belong to the stamp.
    if done != stamp.length || Stamp::of(path).ok().as_ref() != Some(stamp) {
        return Err(
            Error::new(Code::LocalIo, "the file changed while it was read").at(path.display()),
        );
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Fills `buf` as far as the file goes.
fn fill(file: &mut File, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = buf.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
