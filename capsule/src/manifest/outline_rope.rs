//! A rotary embedding's statements as words and numbers for people.

use crate::binding::{F64Bits, KeyBasis, Pairing, Rope, Scaling};

/// Rotary embedding of an [`Outline`](super::Outline).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlineRope {
    /// Number of layers that use it.
    pub layers: usize,
    /// Elements of a head that form a pair: `half`, `interleaved`.
    pub pairing: &'static str,
    /// Elements of a head that are rotated.
    pub rotary_dims: u32,
    /// Bits of the base.
    pub theta: u64,
    /// Name of the scaling: `none`, `linear`, `yarn`, `llama3`, `longrope`, `factors`, `proportional`, `multi`.
    pub scaling: &'static str,
    /// Parameters of the scaling by name, in the order of capsule-v1 §6.4.
    pub parameters: Vec<(&'static str, OutlineValue)>,
    /// Added to each position before rotation.
    pub offset: i64,
    /// True if the keys are sealed after rotation.
    pub rotated: bool,
}

/// Parameter of an [`OutlineRope`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutlineValue {
    /// Bits of a 64-bit float.
    Float(u64),
    /// Bits of several.
    Floats(Vec<u64>),
    /// A count.
    Count(u64),
    /// Several counts.
    Counts(Vec<u32>),
    /// Yes or no.
    Flag(bool),
}

impl OutlineRope {
    pub(super) fn of(rope: &Rope) -> Self {
        let (scaling, parameters) = scaling(&rope.scaling);
        Self {
            layers: rope.layers.len(),
            pairing: match rope.pairing {
                Pairing::Half => "half",
                Pairing::Interleaved => "interleaved",
            },
            rotary_dims: rope.rotary_dims,
            theta: rope.theta.0,
            scaling,
            parameters,
            offset: rope.offset,
            rotated: rope.keys == KeyBasis::PostRope,
        }
    }
}

fn scaling(scaling: &Scaling) -> (&'static str, Vec<(&'static str, OutlineValue)>) {
    use OutlineValue::{Count, Counts, Flag, Float, Floats};
    let bits = |numbers: &[F64Bits]| Floats(numbers.iter().map(|number| number.0).collect());
    match scaling {
        Scaling::None => ("none", Vec::new()),
        Scaling::Linear { factor } => ("linear", vec![("factor", Float(factor.0))]),
        Scaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            attention_factor,
            truncate,
        } => (
            "yarn",
            vec![
                ("factor", Float(factor.0)),
                ("original", Count(*original)),
                ("beta_fast", Float(beta_fast.0)),
                ("beta_slow", Float(beta_slow.0)),
                ("mscale", Float(mscale.0)),
                ("mscale_all_dim", Float(mscale_all_dim.0)),
                ("attention_factor", Float(attention_factor.0)),
                ("truncate", Flag(*truncate)),
            ],
        ),
        Scaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => (
            "llama3",
            vec![
                ("factor", Float(factor.0)),
                ("low", Float(low_freq_factor.0)),
                ("high", Float(high_freq_factor.0)),
                ("original", Count(*original)),
            ],
        ),
        Scaling::LongRope {
            short,
            long,
            original,
            attention_factor,
            long_used,
        } => (
            "longrope",
            vec![
                ("short", bits(short)),
                ("long", bits(long)),
                ("original", Count(*original)),
                ("attention_factor", Float(attention_factor.0)),
                ("long_used", Flag(*long_used)),
            ],
        ),
        Scaling::Factors { factors } => ("factors", vec![("factors", bits(factors))]),
        Scaling::Proportional { factor } => ("proportional", vec![("factor", Float(factor.0))]),
        Scaling::Multi {
            sections,
            interleaved,
        } => (
            "multi",
            vec![
                ("sections", Counts(sections.clone())),
                ("interleaved", Flag(*interleaved)),
            ],
        ),
    }
}
