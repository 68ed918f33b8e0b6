//! What the library holds while a state passes through it does not grow with the state (capsule-v1
//! §3.5): counted by the allocator.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{io, sync::Mutex};

use kvcap::{
    Expected, Limits, Policy, ReadAt, SourceFile, Suite, Trust, TrustedKey, Untrusted, Workers,
    WriteAt,
};
use kvcap_codecs::{Padding, Preset};
use kvcap_states::{
    Encoding, Hints, Prompt, RuntimeKind, SealRequest, open_state, parse, seal_state,
};
use kvcap_testkit::{capture, fixture, model, signer, wrapping};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const NOW: u64 = 1_790_000_000;

/// A cache of the fixture's model whose numbers repeat.
struct Made {
    header: Vec<u8>,
    numbers: Vec<u8>,
    len: u64,
}

impl Made {
    fn new(tokens: u64) -> Self {
        let bank = 2 * tokens * 64 * 2;
        let mut entries = Vec::new();
        for layer in 0..6 {
            for name in ["keys", "values"] {
                let start = entries.len() as u64 * bank;
                let end = start + bank;
                entries.push(format!(
                    "\"layers.{layer}.{name}\":{{\"dtype\":\"F16\",\"shape\":[1,2,{tokens},64],\
                     \"data_offsets\":[{start},{end}]}}"
                ));
            }
        }
        let json = format!("{{{}}}", entries.join(","));
        let json = format!("{json:width$}", width = json.len().next_multiple_of(8));
        let header = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
        // finite, of few magnitudes
        let number = |at: u32| (at.wrapping_mul(0x9e37_79b9) >> 16) as u16 & 0x03ff | 0x3800;
        Self {
            numbers: (0..8191).flat_map(|at| number(at).to_le_bytes()).collect(),
            len: header.len() as u64 + 12 * bank,
            header,
        }
    }
}

impl ReadAt for Made {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let header = self.header.get(start..).unwrap_or_default();
        let (head, mut data) = buf.split_at_mut(header.len().min(buf.len()));
        head.copy_from_slice(&header[..head.len()]);
        let mut at = (start + head.len()) % self.numbers.len();
        while !data.is_empty() {
            let piece = &self.numbers[at..];
            let (now, later) = data.split_at_mut(piece.len().min(data.len()));
            now.copy_from_slice(&piece[..now.len()]);
            (data, at) = (later, 0);
        }
        Ok(())
    }
}

/// An output that keeps nothing.
struct Nowhere;

impl WriteAt for Nowhere {
    fn write_all_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// The most that `work` held at a time beyond what was held before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = work();
    (done, MEMORY.peak_usage() - before)
}

/// The most that sealing, verifying from a file, from a pipe, and opening hold.
fn peaks(tokens: u64, encoding: Encoding, workers: Workers) -> [usize; 4] {
    let profile = model(&fixture("model")).unwrap();
    let made = Made::new(tokens);
    let state = parse(
        RuntimeKind::HuggingFace,
        &made,
        Hints::Model(&profile.geometry),
    )
    .unwrap();
    let (signer, wrap) = (signer(), wrapping());
    let file = tempfile::tempfile().unwrap();
    let capture = capture(Suite::ChaCha20Poly1305, Prompt::DangerNone);
    let terms = kvcap_testkit::terms(NOW);
    let (_, seal) = peak(|| {
        seal_state(
            &file,
            SealRequest::new(&state, &made, &profile, capture, terms, &signer)
                .to(&[&wrap])
                .encoding(encoding)
                .workers(workers),
            &mut |_| {},
        )
        .unwrap()
    });
    let file = SourceFile::new(file).unwrap();
    let trust = Trust::from(TrustedKey::new(signer.public(), "tests"));
    let policy = Policy::new(&trust, NOW, "tests", Expected::danger_any_model());
    let header = || Untrusted::read_at(&file, &Limits::default()).unwrap();
    let (verified, verify) = peak(|| {
        let verified = header().verify(&policy).unwrap();
        verified.check_body_at(&file, workers, &mut |_| {}).unwrap();
        verified
    });
    let ((), pipe) = peak(|| {
        let mut reader = io::BufReader::with_capacity(1, file.file());
        io::Seek::rewind(&mut reader).unwrap();
        let untrusted = Untrusted::read(&mut reader, &Limits::default()).unwrap();
        let verified = untrusted.verify(&policy).unwrap();
        verified
            .check_body(&mut reader, workers, &mut |_| {})
            .unwrap();
    });
    let (told, open) = peak(|| {
        let opened = verified.open(&file, &wrap).unwrap().release().unwrap();
        let told = Mutex::new(0);
        open_state(&opened, &Nowhere, workers, &mut |done| {
            *told.lock().unwrap() += done
        })
        .unwrap();
        told.into_inner().unwrap()
    });
    assert_eq!(told, 12 * 2 * tokens * 64 * 2);
    [seal, verify, pipe, open]
}

/// One test: the allocator counts for the whole process.
#[test]
fn what_is_held_does_not_grow_with_the_state() {
    const MIB: usize = 1 << 20;
    let compressed = Encoding {
        compress: Some(Padding::Padme),
        ..Encoding::EXACT
    };
    let lossy = Encoding {
        preset: Preset::Q4,
        ..Encoding::EXACT
    };
    for encoding in [Encoding::EXACT, compressed, lossy] {
        // one worker holds the same things in the same order each time, so that its peaks are compared
        let [small, large] = [3_000, 6_000].map(|tokens| peaks(tokens, encoding, Workers::new(1)));
        for (small, large) in small.into_iter().zip(large) {
            // the larger state is 9 MiB more
            assert!(
                large < small + MIB / 4,
                "{encoding:?}: {small} and {large} bytes"
            );
        }
        // of several it is chance how many hold their most at once: what all of them may is the bound
        for peak in peaks(6_000, encoding, Workers::new(2)) {
            assert!(peak < 6 * MIB, "{encoding:?}: {peak} bytes");
        }
    }
}
