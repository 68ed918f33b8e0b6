//! Which layers of a `config.json` attend to everything, slide, or keep a recurrent state (model-id-v1 §8, §9).

use kvcap::{Error, Result};

use super::Config;
use crate::{families::defaults, json::value::Value, rope::unsupported};

/// What a layer does with the positions before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Full,
    Sliding,
    Chunked,
    Recurrent,
    Unknown,
}

/// Names under which a file says that every n-th layer is one of full attention, where the others slide.
const SLIDING: &[&str] = &["sliding_window_pattern", "_sliding_window_pattern"];
/// The name where they keep a recurrent state.
const RECURRENT: &[&str] = &["full_attention_interval"];

impl<'a> Config<'a> {
    /// The kind of each layer: as the file lists them, or as its family's class says.
    pub(super) fn kinds(self) -> Result<Vec<Kind>> {
        let layers = self.layers()?;
        let listed = match self.fields.array("layer_types")? {
            Some(types) => Some(("layer_types", types)),
            None => self
                .fields
                .array("layers_block_type")?
                .map(|types| ("layers_block_type", types)),
        };
        let Some((name, types)) = listed else {
            return self.kinds_of_class(layers);
        };
        let mut kinds: Vec<_> = types.iter().map(kind_of).collect();
        if u64::try_from(kinds.len()) != Ok(layers) {
            return Err(self
                .fields
                .error(name, "does not name every layer")
                .sides(layers, kinds.len()));
        }
        if self.kind == "gemma4_text"
            && let Some(last) = kinds.last_mut()
        {
            *last = Kind::Full;
        }
        if kinds.contains(&Kind::Sliding) && !self.may_slide()? {
            return Err(unsupported(
                "layer_types lists layers that slide, and use_sliding_window is off",
            )
            .at(self.fields.place));
        }
        self.patterns_agree(&kinds)?;
        Ok(kinds)
    }

    /// A pattern beside a list must be the list's.
    fn patterns_agree(self, kinds: &[Kind]) -> Result<()> {
        let listed = |(index, kind): (usize, &Kind)| match self.every_stated() {
            Ok(Some(Pattern::Every(n))) => n == 0 || full_at(index, n) == (*kind == Kind::Full),
            Ok(Some(Pattern::Letters(letters))) => {
                letter_at(letters, index) == Some(*kind == Kind::Full)
            }
            _ => true,
        };
        self.every_stated()?;
        // without a window, no layer slides whatever the pattern
        let windowed = kinds.contains(&Kind::Sliding) || kinds.contains(&Kind::Recurrent);
        if windowed && !kinds.iter().enumerate().all(listed) {
            return Err(unsupported(
                "layer_types and a pattern of layers state two orders; runtimes differ in which they use",
            )
            .at(self.fields.place));
        }
        Ok(())
    }

    /// The pattern that the file states.
    fn every_stated(self) -> Result<Option<Pattern<'a>>> {
        let mut found = None;
        let names = match self.kind.starts_with("qwen3_") {
            true => RECURRENT,
            false => SLIDING,
        };
        for name in names {
            let next = match self.fields.find(name) {
                None => continue,
                Some(Value::Text(letters)) => Pattern::Letters(letters),
                Some(value) => Pattern::Every(
                    value
                        .as_u64()
                        .ok_or_else(|| self.fields.error(name, "is neither a count nor a text"))?,
                ),
            };
            if found.is_some_and(|found| found != next) {
                return Err(self.two(name));
            }
            found = Some(next);
        }
        Ok(found)
    }

    /// The layers of a family whose every n-th layer is full, the others `rest`.
    fn every(self, layers: u64, rest: Kind) -> Result<Vec<Kind>> {
        let own = defaults::count(self.kind, "full_every");
        let pattern = match (self.every_stated()?, own) {
            (Some(pattern), _) => pattern,
            (None, Some(n)) => Pattern::Every(n),
            (None, None) => return Err(self.fields.missing("layer_types")),
        };
        // these classes have no such member: a file that says otherwise states what they do not do
        let fixed = matches!(
            self.kind,
            "gemma2" | "gemma3n_text" | "gemma4_text" | "gpt_oss" | "olmo3"
        );
        if fixed && own.is_some_and(|n| pattern != Pattern::Every(n)) {
            return Err(unsupported(
                "the order of layers is not the family's, and no layer_types say which stands",
            )
            .at(self.fields.place));
        }
        let kind = |full| if full { Kind::Full } else { rest };
        let mut kinds = Vec::new();
        for index in 0..usize::try_from(layers).unwrap_or(0) {
            kinds.push(match pattern {
                Pattern::Every(0) => Kind::Full,
                Pattern::Every(n) => kind(full_at(index, n)),
                Pattern::Letters(letters) => kind(letter_at(letters, index).ok_or_else(|| {
                    self.fields
                        .error(SLIDING[0], "is not a pattern of the letters L and G")
                })?),
            });
        }
        Ok(kinds)
    }

    /// The window that the family uses: `use_sliding_window` may say that it does not.
    fn windowed(self) -> Result<bool> {
        if let Some(value) = self.fields.members.get("sliding_window")
            && (*value == Value::Null || value.as_u64() == Some(0))
        {
            return Ok(false);
        }
        Ok(self.may_slide()? && self.count(&["sliding_window"])?.is_some())
    }

    /// Whether `use_sliding_window`, which some families have, leaves the window on.
    fn may_slide(self) -> Result<bool> {
        match defaults::known(self.kind)
            && defaults::text(self.kind, "use_sliding_window").is_none()
        {
            true => Ok(true),
            false => Ok(self.flag("use_sliding_window")?.unwrap_or(true)),
        }
    }

    fn kinds_of_class(self, layers: u64) -> Result<Vec<Kind>> {
        let all = |kind: Kind| (0..layers).map(|_| kind).collect();
        let by = |kind: &dyn Fn(u64) -> Kind| (0..layers).map(kind).collect();
        let or = |yes: bool, kind: Kind| if yes { kind } else { Kind::Full };
        let windowed = self.windowed()?;
        Ok(match self.kind {
            "exaone4" if !windowed => all(Kind::Full),
            "cohere2" | "exaone4" | "gemma2" | "gemma3_text" | "gemma3n_text" | "gpt_oss"
            | "olmo3" => self.every(layers, Kind::Sliding)?,
            "gemma4_text" => {
                let mut kinds = self.every(layers, Kind::Sliding)?;
                if let Some(last) = kinds.last_mut() {
                    *last = Kind::Full;
                }
                kinds
            }
            "llama4_text" => {
                let chunked = self.fields.members.get("attention_chunk_size") != Some(&Value::Null);
                let rotated = self.rotated_by_list()?;
                rotated
                    .into_iter()
                    .map(|rotated| or(rotated && chunked, Kind::Chunked))
                    .collect()
            }
            "smollm3" => {
                // the class has no window of its own
                let rotated = self.rotated_by_list()?;
                rotated
                    .into_iter()
                    .map(|rotated| or(windowed && !rotated, Kind::Sliding))
                    .collect()
            }
            "qwen3_next" | "qwen3_5_text" | "qwen3_5_moe_text" => {
                self.every(layers, Kind::Recurrent)?
            }
            "qwen2" | "qwen3" | "qwen2_vl_text" | "qwen2_5_vl_text" | "dots1" if windowed => {
                let from = self.needed_or_zero("max_window_layers")?;
                by(&|i| or(i >= from, Kind::Sliding))
            }
            "qwen2_moe" if windowed => {
                let until = self.needed_or_zero("max_window_layers")?;
                by(&|i| or(i % 2 == 0 && i < until, Kind::Sliding))
            }
            "mistral" | "mixtral" | "ministral" | "ministral3" | "phi3" | "phimoe"
            | "qwen3_moe" | "starcoder2"
                if windowed =>
            {
                all(Kind::Sliding)
            }
            "jamba" => {
                let period = self.needed(&["attn_layer_period"])?;
                let offset = self.needed_or_zero("attn_layer_offset")?;
                by(&|i| or(i % period != offset, Kind::Recurrent))
            }
            "lfm2" | "lfm2_moe" => match self.fields.array("full_attn_idxs")? {
                Some(full) => by(&|i| {
                    let full = full.iter().any(|index| index.as_u64() == Some(i));
                    or(!full, Kind::Recurrent)
                }),
                None if self.kind == "lfm2" => all(Kind::Full),
                None => return Err(self.silent("which of its layers attend")),
            },
            "kimi_linear" => self.kimi(layers)?,
            "minimax" => by(&|i| or(i % 2 == 1, Kind::Recurrent)),
            "granitemoehybrid" | "falcon_mamba" | "mamba" | "mamba2" | "rwkv" => {
                all(Kind::Recurrent)
            }
            "falcon_h1" | "nemotron_h" => all(Kind::Unknown),
            _ => all(Kind::Full),
        })
    }

    /// Kimi Linear lists its layers from 1; the class has an order of its own where it does not.
    fn kimi(self, layers: u64) -> Result<Vec<Kind>> {
        let name = "linear_attn_config";
        let lists = self.fields.map(name)?;
        let list = |member: &str| lists.and_then(|lists| lists.get(member)?.as_array());
        let (Some(full), Some(linear)) = (list("full_attn_layers"), list("kda_layers")) else {
            let kind = |i| match i != 0 && i % 4 == 0 {
                true => Kind::Full,
                false => Kind::Recurrent,
            };
            return Ok((0..layers).map(kind).collect());
        };
        let has = |list: &[Value], layer| list.iter().any(|item| item.as_u64() == Some(layer));
        (1..=layers)
            .map(|layer| match (has(full, layer), has(linear, layer)) {
                (true, false) => Ok(Kind::Full),
                (false, true) => Ok(Kind::Recurrent),
                _ => Err(self.fields.error(name, "does not name every layer once")),
            })
            .collect()
    }

    /// Which layers rotate, where a list or an interval says it.
    pub(super) fn rotated_by_list(self) -> Result<Vec<bool>> {
        let layers = usize::try_from(self.layers()?).unwrap_or(0);
        let listed = self
            .fields
            .array("no_rope_layers")?
            .filter(|list| !list.is_empty());
        let stated = self.fields.u64("no_rope_layer_interval")?;
        let own = if matches!(self.kind, "llama4_text" | "smollm3") {
            defaults::count(self.kind, "full_every")
        } else if listed.is_some() || stated.is_some() {
            let what = "the file names layers without rope, which the family does not know";
            return Err(unsupported(what).at(self.fields.place));
        } else {
            None
        };
        let every = stated.or(own).unwrap_or(0);
        let by_interval = |index| every == 0 || !full_at(index, every);
        let Some(listed) = listed else {
            return Ok((0..layers).map(by_interval).collect());
        };
        if listed.len() != layers {
            return Err(self
                .fields
                .error("no_rope_layers", "does not name every layer")
                .sides(layers, listed.len()));
        }
        let rotated: Vec<_> = listed.iter().map(|one| one.as_u64() != Some(0)).collect();
        let differs = |(index, rotated): (usize, &bool)| *rotated != by_interval(index);
        if stated.is_some() && rotated.iter().enumerate().any(differs) {
            return Err(self.two("no_rope_layers"));
        }
        Ok(rotated)
    }

    fn needed_or_zero(self, name: &'static str) -> Result<u64> {
        self.count(&[name])?
            .ok_or_else(|| self.fields.missing(name))
    }

    /// The error for a fact that neither the file nor its family's class states.
    pub(super) fn silent(self, what: &str) -> Error {
        unsupported(format!(
            "the file does not say {what}, and no class of {} that would is known",
            crate::json::value::printable(self.kind)
        ))
        .at(self.fields.place)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Pattern<'a> {
    /// Every n-th layer is full; none slides where n is 0.
    Every(u64),
    /// L for a layer that slides, G for a full one, over and over (EXAONE 4).
    Letters(&'a str),
}

fn full_at(index: usize, every: u64) -> bool {
    u64::try_from(index).is_ok_and(|index| every != 0 && (index + 1) % every == 0)
}

/// Whether the letter at a layer says that it is full.
fn letter_at(letters: &str, index: usize) -> Option<bool> {
    let letter = letters.as_bytes().get(index % letters.len().max(1))?;
    match letter {
        b'L' => Some(false),
        b'G' => Some(true),
        _ => None,
    }
}

fn kind_of(value: &Value) -> Kind {
    match value.as_text() {
        Some(
            "full_attention" | "attention" | "indexed_attention" | "deepseek_sparse_attention",
        ) => Kind::Full,
        Some("sliding_attention") => Kind::Sliding,
        Some("chunked_attention") => Kind::Chunked,
        Some("linear_attention" | "mamba" | "conv" | "recurrent") => Kind::Recurrent,
        _ => Kind::Unknown,
    }
}
