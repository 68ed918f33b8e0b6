//! A short measurement of this machine, for predictions and for the choice of a suite.

use std::{hint::black_box, time::Instant};

use kvcap::{
    CaptureFlags, Expected, Limits, Policy, Result, SigningKey, Suite, Terms, Trust, Untrusted,
    Workers, WrappingKey,
    binding::{Digest, F64Bits, KeyBasis, Model, Pairing, Rope, Scaling, Tokenizer},
};
use kvcap_models::{Geometry, LayerGeometry, ModelProfile};
use kvcap_states::{
    Buffer, Capture, Encoding, Hints, Lineage, Prompt, RuntimeKind, SealRequest, State, open_state,
    parse, seal_state,
};
use serde_json::{Map, Value, json};

/// The shape of Llama 3.2 1B in bf16.
const LAYERS: u32 = 16;
const HEADS: u64 = 8;
const DIM: u32 = 64;
/// Bytes that a layer has of keys, or of values, for each token.
const ROW: u64 = HEADS * 64 * 2;
const TOKEN: u64 = 16 * 2 * ROW;

/// Shortest state to measure on, in bytes: one token and its header.
pub(crate) const LEAST: u64 = 8192 + TOKEN;

const NOW: u64 = 1_800_000_000;

/// Cost of sealing and of opening in memory, in seconds a plain byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) seal: f64,
    pub(crate) open: f64,
}

/// A made prompt cache of mlx-lm, and room for its capsule and its copy.
pub(crate) struct Calibration {
    plain: Vec<u8>,
    state: State,
    profile: ModelProfile,
    capsule: Vec<u8>,
    restored: Vec<u8>,
    signer: SigningKey,
    wrap: WrappingKey,
}

impl Calibration {
    /// A state of as many whole tokens as `len` bytes hold.
    ///
    /// # Errors
    /// KVC-940 where the system gives no randomness.
    pub(crate) fn new(len: u64) -> Result<Self> {
        let plain = plain((len / TOKEN).max(1));
        let profile = profile();
        let state = parse(RuntimeKind::MlxLm, &plain, Hints::Model(&profile.geometry))?;
        Ok(Self {
            // tables and header are far below a sixteenth; not zeros, which would be pages yet to come
            capsule: vec![1; plain.len() + plain.len() / 16 + (1 << 20)],
            restored: vec![1; plain.len()],
            plain,
            state,
            profile,
            signer: SigningKey::generate()?,
            wrap: WrappingKey::generate()?,
        })
    }

    /// The least of `rounds`.
    ///
    /// # Errors
    /// None that a made state should give.
    pub(crate) fn rate(
        &mut self,
        suite: Suite,
        encoding: Encoding,
        workers: Workers,
        rounds: u32,
    ) -> Result<Rate> {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let bytes = self.plain.len() as f64;
        let mut least = [f64::MAX; 2];
        for _ in 0..rounds {
            let start = Instant::now();
            let sealed = self.seal(suite, encoding, workers)?;
            let middle = Instant::now();
            self.open(sealed, workers)?;
            let times = [middle - start, middle.elapsed()];
            for (least, time) in least.iter_mut().zip(times) {
                *least = least.min(time.as_secs_f64() / bytes);
            }
        }
        let [seal, open] = least;
        Ok(Rate { seal, open })
    }

    /// Gives the capsule's length.
    fn seal(&mut self, suite: Suite, encoding: Encoding, workers: Workers) -> Result<usize> {
        let capture = Capture {
            suite,
            prompt: Prompt::DangerNone,
            public_prefix: false,
            lineage: Lineage::default(),
            sections: Vec::new(),
            runtime_version: String::new(),
            facts: Vec::new(),
            hadamard: None,
            flags: CaptureFlags::default(),
            context_length: 0,
        };
        let terms = Terms::new(&self.signer.issuer(), "calibration", NOW, NOW + 3600);
        let (_, report) = seal_state(
            Buffer::new(&mut self.capsule),
            SealRequest::new(
                &self.state,
                &self.plain,
                &self.profile,
                capture,
                terms,
                &self.signer,
            )
            .to(&[&self.wrap])
            .encoding(encoding)
            .workers(workers),
            &mut |_| {},
        )?;
        Ok(usize::try_from(report.sealed.file_len).unwrap_or(usize::MAX))
    }

    fn open(&mut self, sealed: usize, workers: Workers) -> Result<()> {
        let source = self.capsule.get(..sealed).unwrap_or_default();
        let trust = Trust::from(&self.signer);
        let policy = Policy::new(&trust, NOW, "calibration", Expected::danger_any_model());
        let verified = Untrusted::read_at(source, &Limits::default())?.verify(&policy)?;
        let opened = verified.open(source, &self.wrap)?.release()?;
        open_state(
            &opened,
            &Buffer::new(&mut self.restored),
            workers,
            &mut |_| {},
        )?;
        black_box(&self.restored);
        Ok(())
    }
}

/// A prompt cache in the layout of mlx-lm 0.31, of elements from ±0.5 to ±2.
fn plain(tokens: u64) -> Vec<u8> {
    let len = usize::try_from(tokens * TOKEN).unwrap_or(usize::MAX);
    let header = header(tokens).to_string().into_bytes();
    let mut plain = Vec::with_capacity(8 + header.len() + len);
    plain.extend_from_slice(&u64::try_from(header.len()).unwrap_or(0).to_le_bytes());
    plain.extend_from_slice(&header);
    // xorshift64: two elements of bf16 a step, whose exponents are 126 or 127
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..len / 4 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let [a, b, c, d, ..] = random.to_le_bytes();
        plain.extend_from_slice(&[a, 0x3F | b & 0x80, c, 0x3F | d & 0x80]);
    }
    plain
}

fn header(tokens: u64) -> Value {
    let (mut entries, mut metadata) = (Map::new(), Map::new());
    for (at, name) in (0_u64..).zip((0..LAYERS).flat_map(|layer| [(layer, 0), (layer, 1)])) {
        let start = at * tokens * ROW;
        let entry = json!({
            "dtype": "BF16",
            "shape": [1, HEADS, tokens, DIM],
            "data_offsets": [start, start + tokens * ROW],
        });
        entries.insert(format!("{}.{}", name.0, name.1), entry);
        metadata.insert(format!("0.{}", name.0), json!(""));
        metadata.insert(format!("2.{}", name.0), json!("KVCache"));
    }
    metadata.insert("1.model".to_owned(), json!("made"));
    entries.insert("__metadata__".to_owned(), Value::Object(metadata));
    Value::Object(entries)
}

/// A model of that shape, which has no weights.
fn profile() -> ModelProfile {
    let none = Digest::labelled("kvcap calibration", &[]);
    ModelProfile {
        model: Model {
            id: none,
            weights: none,
            config: none,
            adapters: Vec::new(),
            name: "made".to_owned(),
        },
        weights: Vec::new(),
        tokenizer: Tokenizer {
            vocab: none,
            vocab_size: 128_256,
            version: "made".to_owned(),
            pre_tokenizer: "made".to_owned(),
            specials: Vec::new(),
            chat_template: None,
        },
        rope: vec![Rope {
            layers: (0..LAYERS).collect(),
            pairing: Pairing::Half,
            rotary_dims: DIM,
            theta: F64Bits(500_000_f64.to_bits()),
            scaling: Scaling::None,
            offset: 0,
            keys: KeyBasis::PostRope,
        }],
        geometry: Geometry {
            layers: vec![
                LayerGeometry::Attention {
                    kv_heads: HEADS,
                    key_dim: DIM.into(),
                    value_dim: DIM.into(),
                    window: 0,
                };
                usize::try_from(LAYERS).unwrap_or(0)
            ],
            context_length: 1 << 20,
            architecture: None,
        },
    }
}
