//! Saved states of real runtimes through a capsule and back, byte for byte.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs::{self, File},
    path::Path,
    sync::Mutex,
};

use kvcap::{
    Bank, Code, Expected, Limits, Opened, Policy, SectionKind, SigningKey, Suite, Terms, Trust,
    TrustedKey, Untrusted, Workers, WrappingKey,
};
use kvcap_codecs::{Codec, Guard, Padding, Preset};
use kvcap_models::ModelProfile;
use kvcap_states::{
    Capture, Encoding, Hints, Prompt, RuntimeKind, SealReport, SealRequest, Selection, State,
    Target, TargetRuntime, check_quality, detect, extract, open_as, open_state, parse, receipts,
    seal_state,
};
use kvcap_testkit::{fixture, model};

const NOW: u64 = 1_800_000_000;

fn terms() -> Terms {
    kvcap_testkit::terms(NOW)
}

fn capture(prompt: Prompt) -> Capture {
    Capture {
        sections: vec![(SectionKind::History, b"user: hello".to_vec())],
        ..kvcap_testkit::capture(Suite::ChaCha20Poly1305, prompt)
    }
}

/// A sealed state with the keys to it.
struct Capsule {
    bytes: Vec<u8>,
    signer: SigningKey,
    wrap: WrappingKey,
    report: SealReport,
}

fn seal(
    state: &[u8],
    kind: RuntimeKind,
    profile: &ModelProfile,
    prompt: Prompt,
    encoding: Encoding,
) -> Capsule {
    let parsed = parse(kind, &state, Hints::Model(&profile.geometry)).unwrap();
    seal_parsed(&parsed, state, profile, prompt, encoding)
}

fn seal_parsed(
    parsed: &State,
    state: &[u8],
    profile: &ModelProfile,
    prompt: Prompt,
    encoding: Encoding,
) -> Capsule {
    let signer = SigningKey::generate().unwrap();
    let wrap = WrappingKey::generate().unwrap();
    let (out, report) = seal_state(
        Mutex::new(Vec::new()),
        SealRequest::new(parsed, &state, profile, capture(prompt), terms(), &signer)
            .to(&[&wrap])
            .encoding(encoding)
            .workers(Workers::new(3)),
        &mut |_| {},
    )
    .unwrap();
    Capsule {
        bytes: out.into_inner().unwrap(),
        signer,
        wrap,
        report,
    }
}

impl Capsule {
    /// Verifies every byte against the model, and opens.
    fn open(&self, profile: &ModelProfile, kind: RuntimeKind) -> Opened<&[u8]> {
        let trust = Trust::from(TrustedKey::new(self.signer.public(), "tests"));
        let runtime = match kind {
            RuntimeKind::MlxLm => "mlx-lm",
            _ => "",
        };
        let rope = profile.rope_in(runtime);
        let expected = Expected::of(&profile.model, &profile.tokenizer, &rope);
        let policy = Policy::new(&trust, NOW, "tests", expected);
        let mut reader = self.bytes.as_slice();
        let verified = Untrusted::read(&mut reader, &Limits::default())
            .unwrap()
            .verify(&policy)
            .unwrap();
        let checked = verified
            .check_body(&mut reader, Workers::new(2), &mut |_| {})
            .unwrap();
        assert_eq!(checked.chunks, self.report.sealed.chunks);
        verified
            .open(self.bytes.as_slice(), &self.wrap)
            .unwrap()
            .release()
            .unwrap()
    }
}

/// Seals `state`, verifies, opens, and gives the state file and the capsule's length.
fn round_trip(
    state: &[u8],
    kind: RuntimeKind,
    profile: &ModelProfile,
    prompt: Prompt,
    encoding: Encoding,
) -> (Vec<u8>, usize) {
    let capsule = seal(state, kind, profile, prompt, encoding);
    assert_eq!(capsule.report.sealed.file_len, capsule.bytes.len() as u64);
    let opened = capsule.open(profile, kind);
    let history = opened.section(&SectionKind::History).unwrap();
    assert_eq!(history.as_deref(), Some(&b"user: hello"[..]));
    let out = tempfile::tempfile().unwrap();
    open_state(&opened, &out, Workers::new(2), &mut |_| {}).unwrap();
    (read_all(out), capsule.bytes.len())
}

fn read_all(mut file: File) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A fixture, if it is a state of the model.
fn of_the_model(path: &Path, profile: &ModelProfile) -> Option<(Vec<u8>, RuntimeKind)> {
    let state = fs::read(path).ok()?;
    let kind = detect(&state).ok()?;
    parse(kind, &state, Hints::Model(&profile.geometry)).ok()?;
    Some((state, kind))
}

/// What a user would give where the state does not carry its tokens.
fn prompt(state: &[u8], kind: RuntimeKind, profile: &ModelProfile) -> Prompt {
    let parsed = parse(kind, &state, Hints::Model(&profile.geometry)).unwrap();
    match parsed.tokens {
        Some(_) => Prompt::FromState,
        None => Prompt::Tokens((0..u32::try_from(parsed.positions.end).unwrap()).collect()),
    }
}

#[test]
fn fixtures_come_back_byte_for_byte() {
    let profile = model(&fixture("model")).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        let Some((state, kind)) = of_the_model(&path, &profile) else {
            continue;
        };
        let prompt = prompt(&state, kind, &profile);
        for compress in [None, Some(Padding::Padme), Some(Padding::Fine)] {
            let encoding = Encoding {
                compress,
                ..Encoding::EXACT
            };
            let (back, _) = round_trip(&state, kind, &profile, prompt.clone(), encoding);
            let parsed = parse(kind, &state, Hints::Model(&profile.geometry)).unwrap();
            let leftovers = parsed.padding_nonzero(&state).unwrap();
            assert_eq!(back.len(), state.len(), "{}", path.display());
            assert_eq!(back == state, leftovers.is_empty(), "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} fixtures are of the model");
}

#[test]
fn a_raw_safetensors_file_comes_back() {
    let profile = model(&fixture("model")).unwrap();
    let state = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let (back, _) = round_trip(
        &state,
        RuntimeKind::Raw,
        &profile,
        Prompt::DangerNone,
        Encoding::EXACT,
    );
    assert!(back == state);
}

#[test]
fn lossy_encodings_are_smaller_and_keep_the_shape() {
    let profile = model(&fixture("model")).unwrap();
    let state = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let q8 = Codec::Affine { bits: 8, group: 64 };
    let q4 = Codec::Affine { bits: 4, group: 64 };
    let mut last = usize::MAX;
    // q4c pays from 64 tokens on; these are 16
    for (keys, values) in [(Codec::Raw, Codec::Raw), (q8, q8), (q8, q4), (q4, q4)] {
        let encoding = Encoding {
            keys: Some(keys),
            values: Some(values),
            ..Encoding::EXACT
        };
        let prompt = prompt(&state, RuntimeKind::HuggingFace, &profile);
        let kind = RuntimeKind::HuggingFace;
        let (back, len) = round_trip(&state, kind, &profile, prompt, encoding);
        assert_eq!(back.len(), state.len());
        assert!(len <= last, "{keys} {values}: {len} after {last}");
        last = len;
    }
}

#[test]
fn every_encoding_of_every_state_opens_into_its_runtimes_file() {
    let profile = model(&fixture("model")).unwrap();
    let compressed = Encoding {
        compress: Some(Padding::Padme),
        ..Encoding::of(Preset::K8V4)
    };
    let presets = Preset::ALL.map(|(preset, _)| Encoding::of(preset));
    let rate = Encoding::of(Preset::Rate(200));
    for entry in fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        let Some((state, kind)) = of_the_model(&path, &profile) else {
            continue;
        };
        let original = parse(kind, &state, Hints::Model(&profile.geometry)).unwrap();
        let prompt = prompt(&state, kind, &profile);
        for encoding in presets.into_iter().chain([compressed, rate]) {
            let (back, _) = round_trip(&state, kind, &profile, prompt.clone(), encoding);
            assert_eq!(back.len(), state.len());
            assert_eq!(detect(&back).unwrap(), kind);
            let again = parse(kind, &back, Hints::Model(&profile.geometry)).unwrap();
            let banks = |state: &State| -> Vec<Bank> {
                state
                    .banks
                    .iter()
                    .map(|placed| placed.bank.clone())
                    .collect()
            };
            assert_eq!(banks(&again), banks(&original), "{}", path.display());
            assert_eq!(again.tokens, original.tokens);
        }
    }
}

#[test]
fn receipts_are_checked_against_the_original() {
    let profile = model(&fixture("model")).unwrap();
    let kind = RuntimeKind::HuggingFace;
    let mut state = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let rate = Preset::Rate(256);
    for preset in [Preset::Q8, Preset::K8V4, Preset::Q4, Preset::Q4c, rate] {
        let encoding = Encoding {
            guard: None,
            ..Encoding::of(preset)
        };
        let prompt = prompt(&state, kind, &profile);
        let capsule = seal(&state, kind, &profile, prompt, encoding);
        let opened = capsule.open(&profile, kind);
        assert_eq!(check_quality(&opened, &state).unwrap(), 12, "{preset:?}");
        let last = state.len() - 1;
        state[last] ^= 0x40;
        let error = check_quality(&opened, &state).unwrap_err();
        assert_eq!(error.code(), Code::CodecReceipt, "{preset:?}");
        state[last] ^= 0x40;
    }
}

#[test]
fn a_guard_takes_a_finer_codec_and_says_why() {
    let profile = model(&fixture("model")).unwrap();
    let kind = RuntimeKind::HuggingFace;
    let state = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let prompt = prompt(&state, kind, &profile);
    let encoding = Encoding {
        guard: Some(Guard {
            limit: 1e-9,
            ..Guard::default()
        }),
        ..Encoding::of(Preset::Q4)
    };
    let capsule = seal(&state, kind, &profile, prompt, encoding);
    assert_eq!(capsule.report.fallbacks.len(), 12);
    let opened = capsule.open(&profile, kind);
    let receipts = receipts(&opened).unwrap();
    assert_eq!(receipts.len(), 12);
    for ((_, bank), receipt) in opened.manifest().context.banks().zip(receipts) {
        let asked = Codec::Affine { bits: 4, group: 64 };
        assert_eq!((bank.codec, bank.asked), (Codec::Raw, Some(asked)));
        let fallback = receipt.fallback.unwrap();
        assert_eq!((fallback.from, fallback.limit), (asked, 1e-9));
        assert!(fallback.seen > 1e-4);
    }
}

#[test]
fn a_state_with_media_stays_with_its_runtime() {
    let profile = model(&fixture("model")).unwrap();
    let path = fixture("mlx032_f16.safetensors");
    let (state, kind) = of_the_model(&path, &profile).unwrap();
    let target = Target {
        elements: None,
        runtime: Some(TargetRuntime {
            kind: RuntimeKind::HuggingFace,
            profile: &profile,
            hadamard: None,
            context_length: profile.geometry.context_length,
        }),
        format: None,
        v_trans: None,
    };
    let mut parsed = parse(kind, &state, Hints::Model(&profile.geometry)).unwrap();
    let convert = |parsed: &State| {
        let prompt = prompt(&state, kind, &profile);
        let capsule = seal_parsed(parsed, &state, &profile, prompt, Encoding::EXACT);
        let opened = capsule.open(&profile, kind);
        let out = tempfile::tempfile().unwrap();
        let done = open_as(&opened, &target, &out, Workers::ONE, &mut |_| {});
        done.map_or_else(|error| error.code().number(), |_| 0)
    };
    assert_eq!(convert(&parsed), 0);
    parsed.facts.push(("media".to_owned(), "1".to_owned()));
    assert_eq!(convert(&parsed), 922);
}

#[test]
fn a_cut_equals_the_same_cut_of_the_whole() {
    let profile = model(&fixture("model")).unwrap();
    let kind = RuntimeKind::HuggingFace;
    let state = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let prompt = prompt(&state, kind, &profile);
    let capsule = seal(&state, kind, &profile, prompt, Encoding::EXACT);
    let opened = capsule.open(&profile, kind);
    let tensors = |selection: &Selection| {
        let out = tempfile::tempfile().unwrap();
        extract(&opened, selection, &out, Workers::new(2), &mut |_| {}).unwrap();
        let bytes = read_all(out);
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        bytes[8 + usize::try_from(header).unwrap()..].to_vec()
    };
    let whole = tensors(&Selection::default());
    let cut = tensors(&Selection {
        layers: Some(2..4),
        positions: Some(3..9),
    });
    // 12 banks of 2 heads, 16 tokens, 64 elements of 2 bytes
    let mut want = Vec::new();
    for bank in 4..8 {
        for head in 0..2 {
            let start = (bank * 2 + head) * 16 * 128;
            want.extend_from_slice(&whole[start + 3 * 128..start + 9 * 128]);
        }
    }
    assert!(cut == want);
    let out = tempfile::tempfile().unwrap();
    for wrong in [(Some(0..7), None), (None, Some(0..17)), (Some(1..1), None)] {
        let selection = Selection {
            layers: wrong.0,
            positions: wrong.1,
        };
        let error = extract(&opened, &selection, &out, Workers::new(2), &mut |_| {}).unwrap_err();
        assert_eq!(error.code(), Code::BodyRange);
    }
}

/// The large samples lie beside the repository on the project's own machines; elsewhere the fixtures
/// above must do.
#[test]
fn samples_beside_the_repository_come_back() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
    if !samples.is_dir() {
        return;
    }
    let tiny = model(&samples.join("model/hf")).unwrap();
    let gguf = model(&samples.join("model/tiny-f16.gguf")).unwrap();
    let olmo = model(&samples.join("model/rand_olmo3.gguf")).unwrap();
    let qwen = model(&samples.join("model/rand_qwen35.gguf")).unwrap();
    let qwen_hf = model(&samples.join("model/rand_qwen35")).unwrap();
    for folder in ["llamacpp", "mlx", "hf", "tiny16"] {
        for entry in fs::read_dir(samples.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.ends_with(".json") {
                continue;
            }
            let state = fs::read(&path).unwrap();
            let kind = detect(&state).unwrap();
            let model = match (kind, name.as_str()) {
                (RuntimeKind::LlamaCpp, name) if name.contains("olmo3") => &olmo,
                (RuntimeKind::LlamaCpp, name) if name.contains("qwen35") => &qwen,
                (_, name) if name.contains("qwen35") => &qwen_hf,
                (RuntimeKind::LlamaCpp, _) => &gguf,
                _ => &tiny,
            };
            let prompt = prompt(&state, kind, model);
            let (back, _) = round_trip(&state, kind, model, prompt, Encoding::EXACT);
            let parsed = parse(kind, &state, Hints::Model(&model.geometry)).unwrap();
            let leftovers = parsed.padding_nonzero(&state).unwrap();
            assert_eq!(back.len(), state.len(), "{name}");
            assert_eq!(back == state, leftovers.is_empty(), "{name}");
        }
    }
}

/// RUN-R-16: a signer who binds another rotation than the file says.
#[test]
fn a_file_that_says_another_rotation_than_its_capsule_is_not_written() {
    let profile = model(&fixture("model")).unwrap();
    let file = fs::read(fixture("llama_cpp_b11434/q8_0.ggsq")).unwrap();
    let kind = RuntimeKind::LlamaCpp;
    for (bound, code) in [(64, None), (0, Some(Code::StateContradiction))] {
        let mut state = parse(kind, &file.as_slice(), Hints::None).unwrap();
        for placed in &mut state.banks {
            assert_eq!(placed.hadamard, Some(64));
            placed.hadamard = Some(bound);
        }
        let capsule = seal_parsed(&state, &file, &profile, Prompt::FromState, Encoding::EXACT);
        let opened = capsule.open(&profile, kind);
        let out = tempfile::tempfile().unwrap();
        let written = open_state(&opened, &out, Workers::new(1), &mut |_| {});
        assert_eq!(written.err().map(|error| error.code()), code, "{bound}");
    }
}
