//! What a header shows: two prompts of one length, sealed alike, have headers that differ in keys, ids, times,
//! salts and digests alone (capsule-v1 §12).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails"
)]

use std::{fs, sync::Mutex};

use kvcap::{
    Context, Expected, Limits, Policy, Prefix, RecipientKind, SigningKey, Suite, Terms, Trust,
    TrustedKey, Untrusted, Verified, WrappingKey,
    binding::{Digest, labelled_hasher},
};
use kvcap_codecs::{Guard, Padding, Preset};
use kvcap_states::{
    Encoding, Hints, Prompt, RuntimeKind, SealRequest, offer_profile, parse, seal_state,
};
use kvcap_testkit::{
    fixture, model,
    profile::{Entry, made},
};

const NOW: u64 = 1_800_000_000;

/// A saved state, and another of the same form: finite numbers that have nothing in common with it, a
/// hundredth of them far out.
fn states() -> [Vec<u8>; 2] {
    let first = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let mut second = first.clone();
    let header = usize::try_from(u64::from_le_bytes(first[..8].try_into().unwrap())).unwrap();
    let mut noise = labelled_hasher("another prompt").finalize_xof();
    for number in second[8 + header..].as_chunks_mut::<2>().0 {
        let mut random = [0; 2];
        noise.fill(&mut random);
        // exponents of 2^-14 to 2^0, or 2^9
        let outlier = random[0] < 3;
        random[1] = if outlier {
            0x60 | random[1] & 0x80
        } else {
            random[1] & 0xBB
        };
        *number = random;
    }
    [first, second]
}

/// Seals a state, and gives the whole file and its verified header.
fn sealed(state: &[u8], prompt: u32, encoding: Encoding, suite: Suite) -> (Vec<u8>, Verified) {
    let kind = RuntimeKind::HuggingFace;
    let profile = model(&fixture("model")).unwrap();
    let parsed = parse(kind, &state, Hints::Model(&profile.geometry)).unwrap();
    let tokens = (prompt..prompt + 16).collect();
    let capture = kvcap_testkit::capture(suite, Prompt::Tokens(tokens));
    let (signer, wrap) = (
        SigningKey::generate().unwrap(),
        WrappingKey::generate().unwrap(),
    );
    let terms = Terms::new(&signer.issuer(), "tests", NOW, NOW + 3600);
    let (out, _) = seal_state(
        Mutex::new(Vec::new()),
        SealRequest::new(&parsed, &state, &profile, capture, terms, &signer)
            .to(&[&wrap])
            .encoding(encoding),
        &mut |_| {},
    )
    .unwrap();
    let file = out.into_inner().unwrap();
    let trust = Trust::from(TrustedKey::from(&signer));
    let policy = Policy::new(&trust, NOW, "tests", Expected::danger_any_model());
    let header = Untrusted::read_at(&file, &Limits::default()).unwrap();
    let verified = header.verify(&policy).unwrap();
    (file, verified)
}

/// A header without what is random or follows from what is.
#[derive(Debug, PartialEq)]
struct Shown {
    prologue: Vec<u8>,
    context: Context,
    lengths: Vec<u64>,
    recipients: Vec<RecipientKind>,
}

fn shown((file, verified): &(Vec<u8>, Verified)) -> Shown {
    let manifest = verified.manifest();
    let mut context = manifest.context.clone();
    if let Prefix::Keyed {
        key, commitment, ..
    } = &mut context.prefix
    {
        key.0.fill(0);
        *commitment = Digest([0; 32]);
    }
    Shown {
        prologue: file[..64].to_vec(),
        context,
        lengths: manifest.measured.iter().map(|m| m.encoded_len).collect(),
        recipients: verified.recipients().map(|(_, kind)| kind).collect(),
    }
}

fn alike(encoding: Encoding, suite: Suite) -> bool {
    let [first, second] = states();
    let first = sealed(&first, 1, encoding, suite);
    let second = sealed(&second, 1000, encoding, suite);
    shown(&first) == shown(&second)
}

#[test]
fn no_encoding_shows_what_was_sealed_unless_asked_to() {
    let rates = [40, 192].map(|rate| (Preset::Rate(rate), "tc"));
    for (preset, name) in Preset::ALL.into_iter().chain(rates) {
        for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
            assert!(alike(Encoding::of(preset), suite), "{name}, {suite:?}");
        }
    }
}

/// A profile gives each bank a rate of its own, and that shows no more of a prompt.
#[test]
fn nor_does_a_rate_with_a_profile() {
    let id = model(&fixture("model")).unwrap().model.id;
    let entries: Vec<Entry> = (0..6)
        .flat_map(|layer| [(0, 1), (1, 2)].map(|(role, by)| Entry::new(layer, role, by, 2, 64)))
        .collect();
    let own = |least: u16| (0..12).map(|at| least + 16 * at).collect();
    let points = [(1_000_000, own(64)), (100_000, own(256))];
    let profile = offer_profile(&made(id.0, &entries, &points)).unwrap();
    for preset in [Preset::Rate(192), Preset::Promise(1_000_000)] {
        let encoding = Encoding {
            profile: Some(profile.digest()),
            ..Encoding::of(preset)
        };
        let [first, _] = states();
        let (_, header) = sealed(&first, 1, encoding, Suite::ChaCha20Poly1305);
        assert_eq!(header.manifest().context.profile, Some(profile.digest()));
        assert!(alike(encoding, Suite::ChaCha20Poly1305), "{preset:?}");
    }
}

/// The same comparison tells apart what the sealer lets be seen.
#[test]
fn what_is_asked_for_by_name_shows() {
    let guarded = Encoding {
        guard: Some(Guard::default()),
        ..Encoding::of(Preset::Q4)
    };
    let compressed = Encoding {
        compress: Some(Padding::Padme),
        ..Encoding::EXACT
    };
    for encoding in [guarded, compressed] {
        assert!(!alike(encoding, Suite::ChaCha20Poly1305), "{encoding:?}");
    }
}
