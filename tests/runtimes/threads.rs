//! Any number of threads gives the bytes and the refusals of one (capsule-v1 §3.5).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeSet,
    io::{Read, Seek},
    sync::{LazyLock, Mutex},
};

use kvcap::{
    Cut, Draft, Error, Expected, Limits, Opened, Policy, Role, Sealer, Suite, Terms, Trust,
    TrustedKey, Untrusted, Verified, Workers, hazmat::Entropy,
};
use kvcap_codecs::{Guard, Padding, Preset};
use kvcap_models::ModelProfile;
use kvcap_states::{
    Encoding, Hints, Prompt, RuntimeKind, SealRequest, layers, open_layer, open_state, parse,
    seal_state,
};
use kvcap_testkit::{capture, fixture, model, signer, wrapping};

const NOW: u64 = 1_790_000_000;
const THREADS: [usize; 3] = [2, 3, 8];
const TOKENS: usize = 1900;
/// Bytes of a bank.
const BANK: usize = 2 * TOKENS * 64 * 2;
const KIND: RuntimeKind = RuntimeKind::HuggingFace;

/// Numbers that look random (splitmix64).
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(seed: &mut u64, end: usize) -> usize {
    usize::try_from(random(seed) % end as u64).unwrap()
}

fn terms() -> Terms {
    kvcap_testkit::terms(NOW)
}

static PROFILE: LazyLock<ModelProfile> = LazyLock::new(|| model(&fixture("model")).unwrap());

/// A cache of the fixture's model, of so many tokens that banks have several chunks, the last ones
/// short.
fn state() -> Vec<u8> {
    let mut seed = 1;
    let len = BANK;
    let (mut header, mut data) = (String::from("{"), Vec::new());
    for layer in 0..6 {
        for name in ["keys", "values"] {
            let comma = if data.is_empty() { "" } else { "," };
            let (start, end) = (data.len(), data.len() + len);
            header += &format!(
                "{comma}\"layers.{layer}.{name}\":{{\"dtype\":\"F16\",\"shape\":[1,2,{TOKENS},64],\
                 \"data_offsets\":[{start},{end}]}}"
            );
            while data.len() < end {
                // finite, of few magnitudes
                let bits = random(&mut seed);
                for part in [bits, bits >> 16, bits >> 32, bits >> 48] {
                    let number = u16::try_from(part & 0x83ff).unwrap() | 0x3800;
                    data.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &data,
    ]
    .concat()
}

fn seal(state: &[u8], encoding: Encoding, workers: Workers) -> kvcap::Result<Vec<u8>> {
    let profile = &*PROFILE;
    let parsed = parse(KIND, &state, Hints::Model(&profile.geometry))?;
    let capture = capture(Suite::ChaCha20Poly1305, Prompt::Tokens((0..1900).collect()));
    let mut told = 0;
    let (out, report) = seal_state(
        Mutex::new(Vec::new()),
        SealRequest::new(&parsed, &state, profile, capture, terms(), &signer())
            .to(&[&wrapping()])
            .encoding(encoding)
            .workers(workers),
        &mut |done| told += done,
    )?;
    let file = out.into_inner().unwrap();
    assert_eq!(report.sealed.file_len, file.len() as u64);
    assert_eq!(told, 12 * 2 * 1900 * 64 * 2);
    Ok(file)
}

fn verified(file: &[u8]) -> Verified {
    let trust = Trust::from(TrustedKey::new(signer().public(), "tests"));
    let policy = Policy::new(&trust, NOW, "tests", Expected::danger_any_model());
    Untrusted::read_at(file, &Limits::default())
        .unwrap()
        .verify(&policy)
        .unwrap()
}

/// Bytes before the body.
fn header_len(file: &[u8]) -> usize {
    let verified = verified(file);
    let streams = verified.manifest().measured.iter();
    let body: u64 = streams.map(|stream| stream.encoded_len).sum();
    file.len() - usize::try_from(body).unwrap()
}

fn opened(file: &[u8]) -> kvcap::Result<Opened<&[u8]>> {
    verified(file).open(file, &wrapping())?.release()
}

fn restored(opened: &Opened<&[u8]>, workers: Workers) -> kvcap::Result<Vec<u8>> {
    let mut out = tempfile::tempfile().unwrap();
    open_state(opened, &out, workers, &mut |_| {})?;
    let mut bytes = Vec::new();
    out.rewind().unwrap();
    out.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

fn encodings() -> [Encoding; 4] {
    let compressed = Encoding {
        compress: Some(Padding::Padme),
        ..Encoding::EXACT
    };
    let guarded = Encoding {
        guard: Some(Guard::default()),
        ..Encoding::of(Preset::Q4c)
    };
    [
        Encoding::EXACT,
        compressed,
        Encoding::of(Preset::Q8),
        guarded,
    ]
}

/// What a capsule holds: the plain text and description of each stream.
fn content(file: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let opened = opened(file).unwrap();
    let measured = &opened.manifest().measured;
    measured
        .iter()
        .enumerate()
        .map(|(index, m)| (opened.stream_bytes(index).unwrap(), m.encoded_len))
        .collect()
}

#[test]
fn every_number_of_threads_seals_and_opens_the_same() {
    let state = state();
    for encoding in encodings() {
        let one = seal(&state, encoding, Workers::ONE).unwrap();
        let expected = content(&one);
        let back = restored(&opened(&one).unwrap(), Workers::ONE).unwrap();
        assert_eq!(
            back == state,
            encoding.guard.is_none() && encoding.preset == Preset::Exact
        );
        for threads in THREADS {
            let workers = Workers::new(threads);
            let file = seal(&state, encoding, workers).unwrap();
            assert!(
                content(&file) == expected,
                "{encoding:?}, {threads} threads"
            );
            let opened = opened(&file).unwrap();
            assert!(
                restored(&opened, workers).unwrap() == back,
                "{threads} threads"
            );
            let all = (file.len() - header_len(&file)) as u64;
            assert!(
                opened.bytes_read() <= all + all / 4,
                "{encoding:?}: chunks are read again"
            );
        }
    }
}

#[test]
fn the_first_refusal_is_the_same() {
    let state = state();
    for encoding in &encodings()[..2] {
        let file = seal(&state, *encoding, Workers::new(2)).unwrap();
        let body = header_len(&file);
        let mut places = BTreeSet::new();
        for mut seed in 0..4 {
            let mut bad = file.clone();
            for _ in 0..1 + seed % 4 {
                // every bank but the sections, which come first, so that it can be opened
                let at = body + (64 << 10) + below(&mut seed, file.len() - body - (64 << 10));
                bad[at] ^= 1 << below(&mut seed, 8);
            }
            let check = |workers| verified(&bad).check_body_at(&bad, workers, &mut |_| {});
            let stream = |workers| {
                let mut reader = &bad[..];
                let trust = Trust::from(TrustedKey::new(signer().public(), "tests"));
                let policy = Policy::new(&trust, NOW, "tests", Expected::danger_any_model());
                Untrusted::read(&mut reader, &Limits::default())?
                    .verify(&policy)?
                    .check_body(&mut reader, workers, &mut |_| {})
            };
            let open = |workers| opened(&bad).and_then(|opened| restored(&opened, workers));
            let refused = check(Workers::ONE).unwrap_err();
            let unopened = open(Workers::ONE).unwrap_err();
            places.insert(refused.place().map(str::to_owned));
            for threads in THREADS {
                let workers = Workers::new(threads);
                assert_eq!(check(workers).as_ref(), Err(&refused), "{threads} threads");
                assert_eq!(stream(workers).as_ref(), Err(&refused), "{threads} threads");
                assert_eq!(open(workers).as_ref(), Err(&unopened), "{threads} threads");
            }
        }
        assert!(places.len() > 2, "the faults are in few places");
    }
}

#[test]
fn layers_come_one_after_the_other() {
    let state = state();
    let data = &state[state.len() - 12 * BANK..];
    for encoding in &encodings()[..2] {
        let file = seal(&state, *encoding, Workers::new(2)).unwrap();
        let opened = opened(&file).unwrap();
        for workers in [Workers::ONE, Workers::new(3)] {
            let before = opened.bytes_read();
            let mut all = layers(&opened, workers);
            let first = all.next().unwrap().unwrap();
            let read = usize::try_from(opened.bytes_read() - before).unwrap();
            assert!(read < file.len() / 4, "the first layer alone is read");
            let rest: Vec<_> = all.map(Result::unwrap).collect();
            assert_eq!(rest.len(), 5);
            let banks = [&first].into_iter().chain(&rest).flat_map(|layer| {
                let roles: Vec<Role> = layer.banks.iter().map(|(bank, _)| bank.role).collect();
                assert_eq!(roles, [Role::Key, Role::Value]);
                &layer.banks
            });
            for ((_, bytes), expected) in banks.zip(data.chunks_exact(BANK)) {
                assert!(bytes[..] == *expected);
            }
            let (mut keys, mut values) = (vec![1; BANK], vec![1; BANK]);
            open_layer(&opened, 3, &mut [&mut keys, &mut values], workers).unwrap();
            assert!([keys, values].concat() == data[6 * BANK..8 * BANK]);
            let mut short = vec![0; BANK - 1];
            let refused = open_layer(&opened, 3, &mut [&mut short], workers).unwrap_err();
            assert_eq!(refused.code().number(), 944);
        }
    }
}

#[test]
fn the_first_value_that_cannot_be_sealed_is_the_same() {
    let mut state = state();
    let encoding = Encoding {
        guard: None,
        ..Encoding::of(Preset::Q8)
    };
    let header = state.len() - 12 * 2 * 1900 * 64 * 2;
    for mut seed in 0..4 {
        let clean = state.clone();
        for _ in 0..3 {
            let at = header + below(&mut seed, 12 * 2 * 1900 * 64) * 2;
            state[at..at + 2].copy_from_slice(&0x7c00_u16.to_le_bytes());
        }
        let refused = seal(&state, encoding, Workers::ONE).unwrap_err();
        assert_eq!(refused.code().number(), 905);
        for threads in THREADS {
            let found = seal(&state, encoding, Workers::new(threads));
            assert_eq!(found.as_ref(), Err(&refused), "{threads} threads");
        }
        state = clean;
    }
}

#[test]
fn chunks_may_be_sealed_in_any_order() {
    let sealed = seal(&state(), Encoding::EXACT, Workers::ONE).unwrap();
    let opened = opened(&sealed).unwrap();
    let context = &opened.manifest().context;
    let streams: Vec<Vec<u8>> = (0..context.streams.len())
        .map(|index| opened.stream_bytes(index).unwrap())
        .collect();
    let begin = || {
        let draft = Draft::new(terms(), context.clone());
        let (signer, entropy) = (signer(), Entropy::danger_chosen(b"threads"));
        // for as long as the sealer, which this closure gives back
        let (signer, wrap) = (Box::leak(Box::new(signer)), Box::leak(Box::new(wrapping())));
        let out = Mutex::new(Vec::new());
        Sealer::danger_with_entropy(out, draft, signer, &[&*wrap], entropy).unwrap()
    };
    let finish = |sealer: Sealer<'_, Mutex<Vec<u8>>>| -> Result<Vec<u8>, Error> {
        sealer.finish().map(|(out, _)| out.into_inner().unwrap())
    };
    let in_order = begin();
    for bytes in &streams {
        in_order.write(bytes).unwrap();
        in_order.end_stream().unwrap();
    }
    let expected = finish(in_order).unwrap();
    for mut seed in 0..4 {
        let sealer = begin();
        let mut held: Vec<Cut> = Vec::new();
        for bytes in &streams {
            for piece in bytes.chunks(1 + below(&mut seed, 300_000)) {
                held.extend(sealer.cut(&mut piece.to_vec()).unwrap());
                while held.len() > 5 {
                    let cut = held.swap_remove(below(&mut seed, held.len()));
                    sealer.seal(cut).unwrap();
                }
            }
            held.extend(sealer.cut_end().unwrap());
        }
        while !held.is_empty() {
            let cut = held.swap_remove(below(&mut seed, held.len()));
            sealer.seal(cut).unwrap();
        }
        assert!(finish(sealer).unwrap() == expected);
    }
    // a chunk that nobody sealed is noticed
    let sealer = begin();
    for bytes in &streams {
        let cuts = sealer.cut(&mut bytes.clone()).unwrap();
        drop(cuts);
        sealer.cut_end().unwrap();
    }
    assert_eq!(finish(sealer).unwrap_err().code().number(), 507);
}
