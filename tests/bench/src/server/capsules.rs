//! Capsules to upload.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use kvcap::{
    Context, Draft, Result, Sealer, Section, SectionKind, SigningKey, Terms, WrappingKey, WriteAt,
    binding::{Digest, Model, Runtime, Tokenizer},
};

use super::failed;

pub(crate) const AUDIENCE: &str = "bench.example.com";

/// Makes them, in a folder.
pub(crate) struct Maker<'a> {
    folder: &'a Path,
    signer: &'a SigningKey,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(folder: &'a Path, signer: &'a SigningKey) -> Self {
        Self { folder, signer }
    }

    /// A file of about so many bytes, and the path at which a relay keeps it.
    pub(crate) fn file(&self, len: u64) -> Result<(PathBuf, String)> {
        let part = self.folder.join("part");
        let file = File::create(&part).map_err(failed(&part))?;
        let id = self.seal(file, len, 3600)?;
        let path = self.folder.join(format!("{id}.kvcap"));
        fs::rename(&part, &path).map_err(failed(&path))?;
        Ok((path, format!("/v1/capsules/{id}")))
    }

    /// The same in memory.
    pub(super) fn bytes(&self, len: u64) -> Result<Vec<u8>> {
        let file = Mutex::new(Vec::new());
        self.seal(&file, len, 3600)?;
        Ok(file.into_inner().unwrap_or_default())
    }

    /// A capsule that nobody accepts any more.
    pub(super) fn expired(&self) -> Result<Vec<u8>> {
        let file = Mutex::new(Vec::new());
        self.seal(&file, 1 << 20, 0)?;
        Ok(file.into_inner().unwrap_or_default())
    }

    fn seal(&self, to: impl WriteAt, len: u64, lifetime: u64) -> Result<kvcap::CapsuleId> {
        let of = |what: &str| Digest::labelled("a bench's digest", &[what.as_bytes()]);
        let model = Model::new(of("model"), of("weights"), of("config"));
        let tokenizer = Tokenizer::new(of("vocabulary"), 32_000);
        let streams = vec![Section::new(SectionKind::AgentState, len).into()];
        let runtime = Runtime::new("raw", "safetensors");
        let context = Context::new(model, tokenizer, runtime, 0..1, 1, streams);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let issuer = self.signer.issuer();
        let terms = Terms::new(&issuer, AUDIENCE, now - 7200, now - 3600 + 2 * lifetime);
        let key = WrappingKey::generate()?;
        let sealer = Sealer::new(to, Draft::new(terms, context), self.signer, &[&key])?;
        let piece = vec![0x5a; 1 << 20];
        let mut left = len;
        while left > 0 {
            let step = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            sealer.write(piece.get(..step).unwrap_or_default())?;
            left -= step as u64;
        }
        sealer.end_stream()?;
        Ok(sealer.finish()?.1.id)
    }
}

/// The header of a capsule: what stands before its tables.
pub(super) fn header(file: &[u8]) -> &[u8] {
    let length = file.get(12..16).and_then(|bytes| bytes.first_chunk());
    let length = length.map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let end = usize::try_from(length).map_or(0, |length| (64 + length).next_multiple_of(4096));
    file.get(..end).unwrap_or_default()
}
