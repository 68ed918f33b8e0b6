//! Sources of a chain's bytes: what is asked of them, and what they are told.

use std::{io, ops::Range, sync::Mutex};

use kvcap::{ReadAt, Seekable};
use kvcap_testvectors::parts::regions;

use super::*;

#[test]
fn whatever_reads_and_seeks_is_a_source() {
    let trust = trust();
    let policy = policy(&trust, Expected::danger_any_model());
    let root = root();
    let first = child("first", &root, 1, as_is);
    let source = |capsule: &Capsule| Seekable::new(Cursor::new(capsule.file.clone())).unwrap();
    let tip = Untrusted::read_at(&source(&first), &Limits::default()).unwrap();
    let chain = Chain::new(tip.verify(&policy).unwrap(), source(&first));
    let chain = chain.extend(read(&root), source(&root), &policy).unwrap();
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let opened = chain.open(&[key]).unwrap().release().unwrap();
    let (_, bank) = opened.tip().manifest().context.banks().next().unwrap();
    let before = opened.bytes_read();
    let part = opened.parts(bank).unwrap()[0];
    let mut bytes = Vec::new();
    let mut reader = part.capsule.stream(part.stream).unwrap();
    reader.read(3..40, &mut bytes).unwrap();
    assert_eq!(bytes, &root.plain[part.stream][3..40]);
    // one chunk, and the table's one row
    let chunk = root.plain[part.stream].len().min(4096);
    assert_eq!(
        opened.bytes_read() - before,
        u64::try_from(chunk).unwrap() + 48
    );
}

/// A source that keeps what it is told of.
struct Told<'f> {
    file: &'f [u8],
    next: Mutex<Vec<Range<u64>>>,
}

impl ReadAt for Told<'_> {
    fn len(&self) -> u64 {
        self.file.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(offset, buf)
    }

    fn will_read(&self, range: Range<u64>) {
        self.next.lock().unwrap().push(range);
    }
}

#[test]
fn a_source_is_told_which_bytes_are_read_next_and_no_others() {
    let file = fixture::base().file;
    let source = Told {
        file: &file,
        next: Mutex::default(),
    };
    let trust = trust();
    let policy = policy(&trust, Expected::danger_any_model());
    let untrusted = Untrusted::read_at(&source, &Limits::default()).unwrap();
    let verified = untrusted.verify(&policy).unwrap();
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let opened = verified.open(&source, &key).unwrap().release().unwrap();
    // three chunks, of which the last is short
    let keys = opened.stream(0).unwrap();
    assert_eq!((keys.len(), keys.chunk_len()), (8320, fixture::CHUNK));
    for chunks in [0..1, 0..2, 1..9, 2..3, 2..2, 3..4] {
        keys.will_read(chunks);
    }
    let at = regions(&file).1 as u64;
    let told = [(0, 4096), (0, 8192), (4096, 8320), (8192, 8320)];
    let told = told.map(|(start, end)| at + start..at + end);
    assert_eq!(*source.next.lock().unwrap(), told);
}
