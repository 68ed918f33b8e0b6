//! A capsule or chain opened as another state than the one that was sealed: keys and values of another element
//! type, or another runtime's state of the same weights (runtimes-v1 §7).

mod basis;
mod elements;
mod header;
mod hf;
mod layers;
mod llama_cpp;
mod mlx_lm;

use std::sync::Mutex;

use kvcap::{
    Bank, Code, Context, Error, Members, Opened, Part, ReadAt, Result, SectionKind, Workers,
    WriteAt, binding::Rope,
};
use kvcap_codecs::{BankShape, Codec, Dtype, Scratch};

pub use elements::Elements;
use elements::{Recast, Stages, floats};
use layers::{Layer, refused};

use crate::{
    adapters::{RuntimeKind, parse},
    pipeline::{
        frames::{Frame, Wanted, each_frame, lock},
        hadamard,
        open::OpenReport,
        plan,
        residue::Skeleton,
        whole::rows_of,
    },
    state::{Hints, Placed, State, template::Template},
};

use kvcap_models::{Change, ModelProfile};

use kvcap_models::safetensors::Header;

/// The state that a capsule becomes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Element type of keys and values; the sealed floats where `None`.
    pub elements: Option<Elements>,
    /// Another runtime, or another copy of the model; the sealed one where `None`.
    pub runtime: Option<TargetRuntime<'a>>,
    /// The state's format by its adapter's name; the sealed or the newest one where `None`.
    pub format: Option<&'a str>,
    /// llama.cpp without flash attention keeps values by channel; as it was sealed where `None`, with
    /// flash attention where it was another runtime.
    pub v_trans: Option<bool>,
}

/// A runtime and the model that it runs. That the model has the weights that the capsule is bound to
/// is for the caller to know ([`kvcap::Equivalence`]).
#[derive(Clone, Copy, Debug)]
pub struct TargetRuntime<'a> {
    /// Kind of the runtime.
    pub kind: RuntimeKind,
    /// Its model.
    pub profile: &'a ModelProfile,
    /// True if llama.cpp rotates its quantized cache; its own rule where `None`.
    pub hadamard: Option<bool>,
    /// Context length that the runtime is set to, 0 if unknown.
    pub context_length: u64,
}

/// Writes the state of a capsule or chain as `target` into `out`, which is empty. What is encoded so
/// already is not encoded again.
///
/// # Errors
/// KVC-922 naming what has no such form; 602, 603 and 923 where the target's model has another
/// vocabulary, rotary embedding or shape; 925 where llama.cpp needs a prompt and the capsule has none;
/// 905 for a number that the type cannot hold; otherwise as [`crate::open_state`].
pub fn open_as<M: Members>(
    opened: &M,
    target: &Target<'_>,
    out: &dyn WriteAt,
    workers: Workers,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<OpenReport> {
    let context = &opened.tip().manifest().context;
    let layers = Layer::all(opened)?;
    if context.runtime.facts.iter().any(|fact| fact.0 == "media") {
        return Err(refused("images or sounds among the tokens"));
    }
    if let Some(runtime) = &target.runtime {
        same_vocabulary(context, runtime.profile)?;
    }
    let pairs = layers
        .iter()
        .map(|layer| {
            let [keys, values] = layer.banks().map(|held| recast_bank(&held.bank, target));
            Ok([keys?, values?])
        })
        .collect::<Result<Vec<_>>>()?;
    let rotated = rotates(context, target);
    let (kind, template) = template(opened.tip(), target, &pairs, rotated)?;
    let state = parsed(&template, kind, target, &pairs)?;
    template.write(out)?;
    let ropes = target_ropes(context, target, &state);
    let mut pieces = Vec::new();
    for (layer, pair) in layers.iter().zip(&pairs) {
        for (held, bank) in layer.banks().into_iter().zip(pair) {
            let undo = held.parts.first().map_or(0, |part| part.bank.hadamard);
            let placed = find(&state, bank)?;
            let blocks = [undo, hadamard::block(placed, state.runtime, rotated)?];
            let change = change(context, target, &held.bank, &ropes, blocks)?;
            let mut first = 0;
            for part in &held.parts {
                let rows = rows_of(part.bank);
                pieces.push(RecastPart {
                    part: *part,
                    placed: placed.rows(first, rows)?,
                    change,
                });
                first += rows;
            }
        }
    }
    let wanted: Vec<_> = pieces.iter().map(|piece| Wanted::all(piece.part)).collect();
    let done = Mutex::new((0_u64, progress));
    each_frame(
        &wanted,
        workers,
        <(Plain, Stages)>::default,
        |buffers, frame| {
            let Some(piece) = pieces.get(frame.bank) else {
                return Ok(());
            };
            let len = piece.write(buffers, frame, out)?;
            let mut done = lock(&done);
            done.0 += len;
            (done.1)(len);
            Ok(())
        },
    )?;
    let plain_len = lock(&done).0;
    Ok(OpenReport {
        state_len: template.len,
        banks: 2 * layers.len(),
        plain_len,
    })
}

/// What happens to the rows of a bank between the two ropes and Hadamard blocks.
fn change(
    context: &Context,
    target: &Target<'_>,
    bank: &Bank,
    ropes: &[Rope],
    blocks: [u32; 2],
) -> Result<Change> {
    let of = |ropes: &[Rope]| ropes.iter().position(|r| r.layers.contains(&bank.layer));
    let before = of(&context.rope).and_then(|at| context.rope.get(at));
    let after = of(ropes).and_then(|at| ropes.get(at));
    let length = context.context_length;
    let contexts = [length, target.runtime.map_or(length, |r| r.context_length)];
    Change::between(bank.role, dim(&bank.shape), before, after, contexts, blocks)
        .map_err(|error| error.at(format_args!("layer {}", bank.layer)))
}

/// Token ids mean the same to both models.
fn same_vocabulary(context: &Context, profile: &ModelProfile) -> Result<()> {
    let (sealed, target) = (&context.tokenizer, &profile.tokenizer);
    if sealed.vocab == target.vocab {
        return Ok(());
    }
    Err(Error::new(
        Code::BindingTokenizer,
        "the target's model has another vocabulary",
    )
    .sides(sealed.vocab, target.vocab))
}

/// What a bank becomes.
fn recast_bank(sealed: &Bank, target: &Target<'_>) -> Result<Bank> {
    let place = |error: Error| error.at(format_args!("layer {}", sealed.layer));
    let floats = floats(sealed.dtype).map_err(place)?;
    let elements = target.elements.unwrap_or(Elements::Float(floats));
    let bank = Bank {
        dtype: elements.dtype(floats).map_err(place)?,
        ..sealed.clone()
    };
    match bank.shape.plain_len(bank.dtype) {
        Some(_) => Ok(bank),
        None => Err(place(
            refused("a row is not whole groups or blocks of the element type")
                .at(bank.dtype.name()),
        )),
    }
}

/// The target's file without rows, in the format that was asked for or sealed.
fn template<S: ReadAt>(
    opened: &Opened<S>,
    target: &Target<'_>,
    pairs: &[[Bank; 2]],
    rotated: Option<bool>,
) -> Result<(RuntimeKind, Template)> {
    let runtime = &opened.manifest().context.runtime;
    let sealed = RuntimeKind::from_runtime(&runtime.name);
    let kind = match target.runtime {
        Some(runtime) => runtime.kind,
        None => sealed.ok_or_else(|| refused("the capsule is of a runtime that is not known"))?,
    };
    let same = sealed == Some(kind);
    let format = target.format.or(same.then_some(runtime.format.as_str()));
    let blank = match (kind, format) {
        (RuntimeKind::MlxLm, None | Some("mlx-lm-0.32")) => mlx_lm::template(
            pairs,
            user(opened, mlx_lm::Layout::New)?,
            mlx_lm::Layout::New,
        ),
        (RuntimeKind::MlxLm, Some("mlx-lm-0.31")) => mlx_lm::template(
            pairs,
            user(opened, mlx_lm::Layout::Old)?,
            mlx_lm::Layout::Old,
        ),
        (RuntimeKind::HuggingFace, None | Some("dynamic-cache")) => hf::template(pairs),
        (RuntimeKind::LlamaCpp, None | Some("ggsq-4" | "ggsq-3" | "ggsq-2")) => {
            let fact = |name, value| runtime.facts.iter().any(|f| f.0 == name && f.1 == value);
            let layout = llama_cpp::Layout {
                version: match format {
                    Some("ggsq-2") => 2,
                    Some("ggsq-3") => 3,
                    _ => 4,
                },
                rotated: rotated != Some(false),
                v_trans: target.v_trans.unwrap_or(same && fact("v_trans", "1")),
            };
            let tokens = opened.tokens()?.ok_or_else(|| {
                Error::new(
                    Code::StateUnknownPrefix,
                    "llama.cpp needs the prompt, and the capsule does not hold its tokens",
                )
            })?;
            llama_cpp::template(pairs, &tokens, layout)
        }
        (_, format) => Err(refused("no state of this runtime and format is written")
            .at(kind.name())
            .sides(
                "mlx-lm-0.32, mlx-lm-0.31, ggsq-4, ggsq-3, ggsq-2 or dynamic-cache",
                format.unwrap_or_default().escape_debug(),
            )),
    };
    Ok((kind, blank?))
}

/// The metadata that the user had saved with an mlx-lm cache, under its keys of the same layout.
fn user<S: ReadAt>(opened: &Opened<S>, layout: mlx_lm::Layout) -> Result<Vec<(String, String)>> {
    let sealed = match opened.manifest().context.runtime.format.as_str() {
        "mlx-lm-0.32" => mlx_lm::Layout::New,
        "mlx-lm-0.31" => mlx_lm::Layout::Old,
        _ => return Ok(Vec::new()),
    };
    let residue = opened.section(&SectionKind::Residue)?.unwrap_or_default();
    let metadata = Header::read(&Skeleton::parse(&residue)?.outside())?.metadata;
    let kept = metadata.into_iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(sealed.user())?;
        Some((format!("{}{name}", layout.user()), value))
    });
    Ok(kept.collect())
}

/// The ropes of the written state.
fn target_ropes(context: &Context, target: &Target<'_>, state: &State) -> Vec<Rope> {
    let ropes = match target.runtime {
        Some(runtime) => runtime.profile.rope_in(state.runtime),
        None => context.rope.clone(),
    };
    plan::of_layers(ropes, state.layers)
}

/// Whether the target rotates quantized caches, where that is known: of the runtime that was sealed, its
/// quantized banks tell.
fn rotates(context: &Context, target: &Target<'_>) -> Option<bool> {
    match target.runtime {
        Some(runtime) => runtime.hadamard,
        None => {
            let mut quantized = context.banks().map(|(_, bank)| bank).filter(|bank| {
                matches!(bank.dtype, Dtype::GgmlQ8_0 | Dtype::GgmlQ4_0)
                    && dim(&bank.shape).is_multiple_of(64)
            });
            let first = quantized.next()?;
            Some(first.hadamard > 0 || quantized.any(|bank| bank.hadamard > 0))
        }
    }
}

fn dim(shape: &BankShape) -> u64 {
    match shape {
        BankShape::Tokens { dim, .. } => *dim,
        BankShape::Whole { .. } => 0,
    }
}

fn find<'a>(state: &'a State, bank: &Bank) -> Result<&'a Placed> {
    let found = state.banks.iter().find(|placed| placed.bank == *bank);
    found.ok_or_else(|| {
        Error::new(
            Code::StateContradiction,
            "the written state does not hold a bank as it should",
        )
        .at(format_args!("layer {}", bank.layer))
    })
}

/// Bytes that a state file of `pairs` holds beside its banks, with the places of its segments.
pub(crate) fn residue_len(kind: RuntimeKind, pairs: &[[Bank; 2]], tokens: &[u32]) -> Result<usize> {
    let layout = llama_cpp::Layout {
        version: 4,
        v_trans: false,
        rotated: true,
    };
    let template = match kind {
        RuntimeKind::LlamaCpp => llama_cpp::template(pairs, tokens, layout),
        RuntimeKind::HuggingFace => hf::template(pairs),
        _ => mlx_lm::template(pairs, Vec::new(), mlx_lm::Layout::New),
    }?;
    let pieces = template.pieces.iter().map(|(_, bytes)| 16 + bytes.len());
    Ok(pieces.fold(12, usize::saturating_add))
}

/// Reads a template with the target's own parser: what is written is what will be read.
fn parsed(
    template: &Template,
    kind: RuntimeKind,
    target: &Target<'_>,
    pairs: &[[Bank; 2]],
) -> Result<State> {
    let banks: Vec<Bank> = match kind {
        // in the order of its file
        RuntimeKind::LlamaCpp => (0..2)
            .flat_map(|slot| pairs.iter().map(move |pair| pair[slot].clone()))
            .collect(),
        _ => pairs.iter().flatten().cloned().collect(),
    };
    let hints = match &target.runtime {
        Some(runtime) => Hints::Model(&runtime.profile.geometry),
        None => Hints::Banks(&banks),
    };
    parse(kind, template, hints)
}

/// Where a frame is decoded.
type Plain = (Vec<u8>, Scratch);

/// One capsule's rows of a bank, their place in the written state and what happens on the way.
struct RecastPart<'a, S> {
    part: Part<'a, S>,
    placed: Placed,
    change: Change,
}

impl<S> RecastPart<'_, S> {
    /// Writes one frame; gives its bytes in the state.
    fn write(
        &self,
        (plain, stages): &mut (Plain, Stages),
        frame: &Frame<'_, '_>,
        out: &dyn WriteAt,
    ) -> Result<u64> {
        let (sealed, dtype) = (self.part.bank, self.placed.bank.dtype);
        let recast = Recast {
            shape: &sealed.shape,
            from: sealed.dtype,
            to: dtype,
            change: self.change,
        };
        let bytes = match (sealed.codec, dtype) {
            // an affine frame has the form of a triplet
            (Codec::Affine { bits, group }, Dtype::MlxAffine(to))
                if (bits, group, sealed.dtype) == (to.bits, to.group, to.params.dtype())
                    && self.change.is_none() =>
            {
                frame.encoded
            }
            _ => {
                let (plain, scratch) = plain;
                let plain = frame
                    .codec
                    .plain(frame.index, frame.encoded, plain, scratch)?;
                let written = recast.frame(stages, frame.index, plain);
                written.map_err(|error| error.at(frame.codec.name()))?
            }
        };
        self.placed.write_frame(out, frame.index, bytes)?;
        Ok(u64::try_from(bytes.len()).unwrap_or(0))
    }
}
