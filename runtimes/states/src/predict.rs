//! How large a capsule of a model will be, before there is a state: what sealing one would set aside.

use std::io;

use kvcap::{
    Bank, CaptureFlags, Code, Draft, Error, ReadAt, Result, Role, Rows, Sealer, SigningKey, Suite,
    Terms, Workers, WrappingKey, WriteAt,
};
use kvcap_codecs::{BankShape, ParamDtype};

use crate::{
    adapters::{RuntimeKind, parse},
    pipeline::{
        encoding::Encoding,
        plan,
        plan::{Capture, Chosen, Lineage, Plan, Prompt},
        residue::residue,
    },
    state::{Hints, Placed, State},
    transform::{convert, convert::Elements},
};

use kvcap_models::{LayerGeometry, ModelProfile};

/// A capsule that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Predicted {
    /// Tokens of the state.
    pub tokens: u64,
    /// Plain bytes of its banks.
    pub plain_len: u64,
    /// Bytes of the capsule.
    pub file_len: u64,
    /// Bytes of it before the body.
    pub header_len: u64,
    /// Layers whose state follows neither from the model's geometry nor from a sample, and is not counted.
    pub uncounted: usize,
}

/// A saved state of the model, of any length: what its geometry does not tell is taken from it.
#[derive(Debug)]
pub struct Sample {
    state: State,
    /// Bytes that the file holds for banks without tokens.
    more: usize,
}

impl Sample {
    /// Reads a state file of `runtime`; its banks are not read.
    ///
    /// # Errors
    /// As [`parse`] and [`residue`].
    pub fn read(profile: &ModelProfile, runtime: RuntimeKind, file: &dyn ReadAt) -> Result<Self> {
        let state = parse(runtime, file, Hints::Model(&profile.geometry))?;
        let whole = residue(&state, file)?.len();
        Ok(Self {
            more: whole.saturating_sub(residue_len(&state, runtime)?),
            state,
        })
    }
}

/// The capsule of a state of `tokens` tokens, of `elements` as keys' and values' type, in `encoding`
/// without compression, with its token ids and one recipient. Layers that the geometry does not size,
/// recurrent ones, are those of `sample`, of the same model and runtime.
///
/// # Errors
/// KVC-922 for elements that the runtime has not; 944 for compression, whose length depends on content, and
/// for no tokens; 931 and 503 where the model has no layers that count or too many.
pub fn predict(
    profile: &ModelProfile,
    runtime: RuntimeKind,
    elements: Elements,
    encoding: Encoding,
    suite: Suite,
    tokens: u64,
    sample: Option<&Sample>,
) -> Result<Predicted> {
    if encoding.compress.is_some() || !(1..=1 << 24).contains(&tokens) {
        return Err(Error::new(
            Code::LocalUsage,
            "nothing tells the size of a compressed capsule, or of one of no or over 2^24 tokens",
        ));
    }
    let encoding = Encoding {
        guard: None,
        ..encoding
    };
    let (state, uncounted) = state(
        profile,
        runtime,
        elements,
        tokens,
        sample.map(|sample| &sample.state),
    )?;
    let lens = state.banks.iter().map(|placed| {
        let bank = &placed.bank;
        bank.shape.plain_len(bank.dtype).unwrap_or(0)
    });
    let plain_len = lens.fold(0, u64::saturating_add);
    let more = sample.map_or(0, |sample| sample.more);
    let beside = residue_len(&state, runtime)?.saturating_add(more);
    let ropes = plan::rope(&state, profile);
    let context = profile.geometry.context_length;
    let nothing: &[u8] = &[];
    // no bank is read where nothing is measured
    let codec_profile = encoding.codec_profile(&profile.model.id)?;
    let codec_profile = codec_profile.as_ref();
    let (choices, _) = encoding.choices(
        &state,
        &nothing,
        &ropes,
        codec_profile,
        context,
        Workers::ONE,
    )?;
    let key = WrappingKey::generate()?;
    let plan = Plan::new(
        &state,
        vec![0; beside],
        profile,
        ropes,
        Chosen {
            choices: &choices,
            codec_profile: codec_profile.map(|known| known.digest()),
        },
        capture(suite, context),
        key.prefix_key()?.as_ref(),
    )?;
    let draft = Draft::new(terms(), plan.context);
    let signer = SigningKey::generate()?;
    let sealer = Sealer::new(Nowhere, draft, &signer, &[&key])?;
    let (file_len, header_len) = sealer.lengths();
    Ok(Predicted {
        tokens,
        plain_len,
        file_len,
        header_len,
        uncounted,
    })
}

/// What such a runtime would hold of such a model, without bytes; and how many layers are left out.
fn state(
    profile: &ModelProfile,
    runtime: RuntimeKind,
    elements: Elements,
    tokens: u64,
    sample: Option<&State>,
) -> Result<(State, usize)> {
    let (name, format, fact) = match runtime {
        RuntimeKind::MlxLm => ("mlx-lm", "mlx-lm-0.32", "KVCache*32"),
        RuntimeKind::LlamaCpp => ("llama.cpp", "ggsq-4", "attention"),
        RuntimeKind::HuggingFace => ("transformers", "dynamic-cache", "full*32"),
        RuntimeKind::Raw => {
            let what = "a raw state has no model's shape";
            return Err(Error::new(Code::LocalUsage, what));
        }
    };
    let float = match elements {
        Elements::Float(float) => float,
        _ => ParamDtype::F16,
    };
    let mut banks = Vec::new();
    let mut stateless = Vec::new();
    let mut uncounted = 0;
    for (layer, kept) in (0..).zip(&profile.geometry.layers) {
        let before = banks.len();
        let mut bank = |role, heads, dim, window: u64| -> Result<()> {
            let held = if window > 0 {
                tokens.min(window)
            } else {
                tokens
            };
            // latents are never quantized
            let dtype = match role {
                Role::Key | Role::Value => elements.dtype(float)?,
                _ => float.dtype(),
            };
            let shape = BankShape::Tokens {
                heads,
                tokens: held,
                dim,
            };
            let bank = Bank {
                role,
                layer,
                index: 0,
                dtype,
                shape,
                rows: Rows::From(tokens - held),
                window,
            };
            banks.push(Placed {
                bank,
                parts: Vec::new(),
                hadamard: None,
            });
            Ok(())
        };
        match kept {
            LayerGeometry::Attention {
                kv_heads,
                key_dim,
                value_dim,
                window,
            } => {
                bank(Role::Key, *kv_heads, *key_dim, *window)?;
                bank(Role::Value, *kv_heads, *value_dim, *window)?;
            }
            LayerGeometry::Latent { rank, rope_dim } => {
                bank(Role::Latent, 1, *rank, 0)?;
                bank(Role::RopeKey, 1, *rope_dim, 0)?;
            }
            LayerGeometry::Recurrent | LayerGeometry::Unknown => {
                banks.extend(sampled(sample, layer, tokens));
                uncounted += usize::from(banks.len() == before);
            }
            LayerGeometry::Shared => {}
        }
        if banks.len() == before {
            stateless.push(layer);
        }
    }
    if banks.is_empty() {
        let what = "no layer's state follows from the model's geometry";
        return Err(Error::new(Code::ModelUnsupported, what));
    }
    let layers = profile.geometry.layers.len();
    let ids = usize::try_from(tokens).unwrap_or(0);
    let state = State {
        runtime: name,
        format,
        facts: vec![("layout".to_owned(), fact.to_owned())],
        banks,
        layers: u32::try_from(layers)
            .map_err(|_| Error::new(Code::StateLimit, "too many layers"))?,
        stateless,
        positions: 0..tokens,
        tokens: Some(vec![0; ids]),
        notes: Vec::new(),
        file_len: 0,
    };
    Ok((state, uncounted))
}

/// What `sample` keeps of a layer, as it is after `tokens` tokens.
fn sampled(sample: Option<&State>, layer: u32, tokens: u64) -> Vec<Placed> {
    let banks = sample.into_iter().flat_map(|state| &state.banks);
    let of_layer = banks.filter(|placed| placed.bank.layer == layer);
    let grown = of_layer.map(|placed| {
        let mut bank = placed.bank.clone();
        if let BankShape::Tokens { tokens: held, .. } = &mut bank.shape {
            *held = match bank.window {
                0 => tokens,
                window => tokens.min(window),
            };
            bank.rows = Rows::From(tokens - *held);
        }
        Placed {
            bank,
            parts: Vec::new(),
            hadamard: None,
        }
    });
    grown.collect()
}

/// Bytes of what the runtime's file holds beside banks that have tokens.
fn residue_len(state: &State, runtime: RuntimeKind) -> Result<usize> {
    let by_token = |bank: &Bank| matches!(bank.shape, BankShape::Tokens { .. });
    let banks = state.banks.iter().map(|placed| placed.bank.clone());
    let mut banks = banks.filter(by_token);
    let mut pairs = Vec::new();
    while let (Some(first), Some(second)) = (banks.next(), banks.next()) {
        pairs.push([first, second]);
    }
    convert::residue_len(runtime, &pairs, state.tokens.as_deref().unwrap_or_default())
}

fn capture(suite: Suite, context_length: u64) -> Capture {
    Capture {
        suite,
        prompt: Prompt::FromState,
        public_prefix: false,
        lineage: Lineage::default(),
        sections: Vec::new(),
        runtime_version: String::new(),
        facts: Vec::new(),
        hadamard: None,
        flags: CaptureFlags::default(),
        context_length,
    }
}

fn terms() -> Terms {
    Terms::new("local", "local", 1 << 31, 1 << 32)
}

/// An output that nothing reaches: only its length is asked for.
struct Nowhere;

impl WriteAt for Nowhere {
    fn write_all_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
