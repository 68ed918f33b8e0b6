//! The way past the cipher: saved states, sealed and opened again into a draft and the bytes of its
//! streams, which a script changes before they are sealed anew.

use std::{
    path::Path,
    sync::{LazyLock, Mutex},
};

use kvcap::{
    CaptureFlags, Context, Draft, Expected, Limits, Opened, Policy, Result, Sealer, SectionKind,
    SigningKey, Suite, Terms, Trust, TrustedKey, Untrusted, Workers, WrappingKey, hazmat::Entropy,
};
use kvcap_codecs::{BankShape, Padding, Preset};
use kvcap_models::{Geometry, ModelProfile};
use kvcap_states::{
    Capture, Encoding, Hints, Lineage, Prompt, RuntimeKind, SealRequest, detect, open_state, parse,
    seal_state,
};
use kvcap_testvectors::fixture::{self, SIGN_SEED, WRAP_KEY};

use crate::{read_model, scratch_file};

/// The states that seeds are made of, beside each other in `tests/fixtures`.
pub const FIXTURES: [&str; 5] = [
    "mlx032_tiny.safetensors",
    "mlx031_list.safetensors",
    "mlx032_rotating.safetensors",
    "llama_ggsq3_q4_0.bin",
    "mlx032_hybrid.safetensors",
];

/// A sealed state before encryption.
#[derive(Clone)]
pub struct Seed {
    /// Statements of the capsule.
    pub context: Context,
    /// The encoded bytes of each stream.
    pub streams: Vec<Vec<u8>>,
}

/// Function that [`Seed::open`] calls with the opened capsule.
pub type Opening<'a> = &'a mut dyn FnMut(&Opened<&[u8]>);

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"))
}

/// The profile of the fixtures' model.
pub fn fixture() -> &'static ModelProfile {
    static PROFILE: LazyLock<ModelProfile> =
        LazyLock::new(|| read_model(&folder().join("model")).expect("the fixture is lawful"));
    &PROFILE
}

/// Terms that the policy of [`Seed::open`] accepts.
pub fn terms() -> Terms {
    let mut terms = fixture::terms();
    (terms.subject, terms.tenant) = (None, None);
    terms
}

/// Seals `state`. Its model has a rotary embedding in every layer, as wide as the first bank's rows.
pub fn seal(state: &[u8], kind: RuntimeKind, encoding: Encoding, suite: Suite) -> Result<Vec<u8>> {
    let parsed = parse(kind, &state, Hints::None)?;
    let dim = parsed
        .banks
        .iter()
        .find_map(|placed| match placed.bank.shape {
            BankShape::Tokens { dim, .. } => Some(dim),
            BankShape::Whole { .. } => None,
        });
    let mut rope = fixture::rope_of(&[], kvcap::binding::Scaling::None);
    rope.layers = (0..parsed.layers.min(4096)).collect();
    rope.rotary_dims = u32::try_from(dim.unwrap_or(64).min(64)).unwrap_or(64) & !1;
    let profile = ModelProfile {
        model: fixture::model(),
        weights: Vec::new(),
        tokenizer: fixture::tokenizer(),
        rope: vec![rope],
        geometry: Geometry::default(),
    };
    let tokens = u32::try_from(parsed.positions.end.min(4096)).unwrap_or(0);
    let capture = Capture {
        suite,
        prompt: match parsed.tokens {
            Some(_) => Prompt::FromState,
            None if u64::from(tokens) == parsed.positions.end && tokens > 0 => {
                Prompt::Tokens((0..tokens).collect())
            }
            None => Prompt::DangerNone,
        },
        public_prefix: false,
        sections: vec![(SectionKind::History, b"user: hello".to_vec())],
        runtime_version: String::new(),
        facts: Vec::new(),
        hadamard: None,
        flags: CaptureFlags::default(),
        context_length: 0,
        lineage: Lineage::default(),
    };
    let (out, _) = seal_state(
        Mutex::new(Vec::new()),
        SealRequest::new(
            &parsed,
            &state,
            &profile,
            capture,
            terms(),
            &SigningKey::from_seed(&SIGN_SEED),
        )
        .to(&[&WrappingKey::from_bytes(WRAP_KEY)])
        .encoding(encoding)
        .workers(Workers::new(2)),
        &mut |_| {},
    )?;
    Ok(out.into_inner().unwrap())
}

/// Every fixture, sealed raw, compressed and in four bits.
pub fn seeds() -> &'static [Seed] {
    static SEEDS: LazyLock<Vec<Seed>> = LazyLock::new(|| {
        let mut seeds = Vec::new();
        for name in FIXTURES {
            let state = std::fs::read(folder().join(name)).expect("a fixture");
            let kind = detect(&state).expect("an adapter's own file");
            for (preset, compress) in [
                (Preset::Exact, None),
                (Preset::Exact, Some(Padding::Padme)),
                (Preset::Q4c, None),
            ] {
                let encoding = Encoding {
                    compress,
                    guard: None,
                    ..Encoding::of(preset)
                };
                let file = seal(&state, kind, encoding, Suite::ChaCha20Poly1305);
                let seed = Seed::of(&file.expect("a fixture can be sealed"));
                let mut reached = false;
                let opened = seed.open(&mut |opened| {
                    let out = scratch_file();
                    open_state(opened, &out, Workers::new(2), &mut |_| {})
                        .expect("an unchanged capsule opens");
                    reached = true;
                });
                assert!(
                    opened.is_ok() && reached,
                    "{name} does not come back: {opened:?}"
                );
                seeds.push(seed);
            }
        }
        seeds
    });
    &SEEDS
}

impl Seed {
    /// A capsule of [`seal`] before encryption.
    fn of(file: &[u8]) -> Self {
        let mut seed = None;
        let opened = open(file, &mut |opened| {
            let manifest = opened.manifest();
            let streams = 0..manifest.context.streams.len();
            seed = Some(Self {
                context: manifest.context.clone(),
                streams: streams
                    .map(|index| opened.stream_bytes(index).expect("it is our own"))
                    .collect(),
            });
        });
        opened.expect("an unchanged capsule opens");
        seed.expect("it has been called")
    }

    /// Gives the section of receipts the length that the banks call for, or takes it away.
    pub fn fit_receipts(&mut self) {
        let wanted: u64 = self
            .context
            .banks()
            .map(|(_, bank)| bank.receipt_len())
            .sum();
        let found = self
            .context
            .section(&SectionKind::Receipts)
            .map(|(at, _)| at);
        let at = match (found, wanted) {
            (None, 0) => return,
            (Some(at), 0) => {
                self.context.streams.remove(at);
                self.streams.remove(at);
                return;
            }
            (Some(at), _) => at,
            (None, _) => {
                self.context
                    .streams
                    .push(fixture::section(SectionKind::Receipts, 0));
                self.streams.push(Vec::new());
                self.streams.len() - 1
            }
        };
        self.streams[at].resize(wanted as usize, 0);
        self.fit_sections();
    }

    /// Gives each section the length of its bytes.
    pub fn fit_sections(&mut self) {
        for (stream, bytes) in self.context.streams.iter_mut().zip(&self.streams) {
            if let kvcap::Stream::Section(section) = stream {
                section.len = bytes.len() as u64;
            }
        }
    }

    /// Seals it as it now is, verifies, and hands the opened capsule to `then`.
    ///
    /// # Errors
    /// As the sealer and the verifier; what is refused here never reaches `then`.
    pub fn open(&self, then: Opening<'_>) -> Result<()> {
        let signer = SigningKey::from_seed(&SIGN_SEED);
        let key = WrappingKey::from_bytes(WRAP_KEY);
        let draft = Draft::new(terms(), self.context.clone());
        let out = Mutex::new(Vec::new());
        let entropy = Entropy::danger_chosen(b"fuzz");
        let sealer = Sealer::danger_with_entropy(out, draft, &signer, &[&key], entropy)?;
        for bytes in &self.streams {
            sealer.write(bytes)?;
            sealer.end_stream()?;
        }
        let (out, _) = sealer.finish()?;
        open(&out.into_inner().unwrap(), then)
    }
}

/// Verifies a file of [`seal`] or [`Seed::open`], and hands the opened capsule to `then`.
///
/// # Errors
/// As the verifier.
pub fn open(file: &[u8], then: Opening<'_>) -> Result<()> {
    let trust = Trust::from(TrustedKey::new(
        SigningKey::from_seed(&SIGN_SEED).public(),
        fixture::ISSUER,
    ));
    let expected = Expected::danger_any_model();
    let policy = Policy::new(&trust, fixture::NOW, fixture::AUDIENCE, expected);
    let mut reader = file;
    let verified = Untrusted::read(&mut reader, &Limits::default())?.verify(&policy)?;
    verified
        .check_body(&mut reader, Workers::new(2), &mut |_| {})
        .expect("our own body is whole");
    then(
        &verified
            .open(file, &WrappingKey::from_bytes(WRAP_KEY))?
            .release()?,
    );
    Ok(())
}
