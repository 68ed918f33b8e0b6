//! What a model's family tells that its files do not: the tables of model-id-v1 §9. A family that is
//! not listed is refused, never guessed.

pub(crate) mod defaults;

/// `model_type`s whose keys rotate `(i, i + n/2)` in transformers.
pub(crate) const HALF: &[&str] = &[
    "apertus",
    "arcee",
    "baichuan",
    "bitnet",
    "dbrx",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "dream",
    "exaone4",
    "falcon",
    "falcon_h1",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma3n_text",
    "gemma4_text",
    "glm4_moe",
    "glm4_moe_lite",
    "gpt_neox",
    "gpt_oss",
    "granite",
    "granitemoe",
    "granitemoehybrid",
    "granitemoeshared",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "internlm2",
    "internlm3",
    "kimi_k2",
    "lfm2",
    "lfm2_moe",
    "llama",
    "longcat_flash",
    "minicpm",
    "minicpm3",
    "minimax",
    "minimax_m2",
    "ministral",
    "ministral3",
    "mistral",
    "mistral3",
    "mistral4",
    "mixtral",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "orion",
    "persimmon",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_5_vl",
    "qwen2_5_vl_text",
    "qwen2_moe",
    "qwen2_vl",
    "qwen2_vl_text",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_vl_moe_text",
    "qwen3_vl_text",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "xverse",
];

/// `model_type`s whose keys rotate `(2i, 2i + 1)` in transformers.
pub(crate) const INTERLEAVED: &[&str] = &[
    "codegen",
    "cohere",
    "cohere2",
    "deepseek_v2",
    "ernie4_5",
    "ernie4_5_moe",
    "glm",
    "glm4",
    "gptj",
    "helium",
    "llama4_text",
];

/// `model_type`s without a rotary embedding.
pub(crate) const WITHOUT: &[&str] = &[
    "bloom",
    "falcon_mamba",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "jamba",
    "kimi_linear",
    "mamba",
    "mamba2",
    "mpt",
    "nemotron_h",
    "opt",
    "rwkv",
];

/// `model_type`s whose cache is the latent of multi-head latent attention.
pub(crate) const LATENT: &[&str] = &[
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "glm4_moe_lite",
    "kimi_k2",
    "kimi_linear",
    "longcat_flash",
    "mistral4",
];

/// `model_type`s whose multi-axis positions take their frequencies in turns.
pub(crate) const INTERLEAVED_SECTIONS: &[&str] = &[
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_vl_moe_text",
    "qwen3_vl_text",
];

/// GGUF architectures that rotate `(2i, 2i + 1)` (`LLAMA_ROPE_TYPE_NORM`).
pub(crate) const GGUF_INTERLEAVED: &[&str] = &[
    "arcee",
    "arctic",
    "baichuan",
    "bailingmoe",
    "chameleon",
    "chatglm",
    "cohere2",
    "command-r",
    "deci",
    "deepseek",
    "deepseek2",
    "deepseek2-ocr",
    "ernie4_5",
    "ernie4_5-moe",
    "glm4",
    "granite",
    "granitehybrid",
    "granitemoe",
    "internlm2",
    "llada",
    "llama",
    "llama4",
    "maincoder",
    "minicpm",
    "mistral3",
    "mistral4",
    "nanbeige",
    "olmo",
    "plm",
    "smollm3",
    "starcoder",
    "xverse",
];

/// GGUF architectures that rotate `(i, i + n/2)` (`LLAMA_ROPE_TYPE_NEOX`).
pub(crate) const GGUF_HALF: &[&str] = &[
    "apertus",
    "bailingmoe2",
    "bitnet",
    "codeshell",
    "cogvlm",
    "dbrx",
    "dots1",
    "dream",
    "exaone",
    "exaone4",
    "falcon",
    "falcon-h1",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "glm4moe",
    "gpt-oss",
    "gptneox",
    "grok",
    "grovemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "jais2",
    "lfm2",
    "lfm2moe",
    "llada-moe",
    "minicpm3",
    "minimax-m2",
    "nemotron",
    "olmo2",
    "olmoe",
    "openelm",
    "orion",
    "pangu-embedded",
    "phi2",
    "phi3",
    "phimoe",
    "plamo",
    "plamo2",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "qwen3next",
    "rnd1",
    "seed_oss",
    "stablelm",
    "starcoder2",
];

/// GGUF architectures with multi-axis positions, which rotate `(i, i + n/2)`. Of those whose sections are
/// interleaved (`LLAMA_ROPE_TYPE_IMROPE`), the family whose class's sections a converter writes where the
/// `config.json` is silent.
pub(crate) const GGUF_MULTI: &[(&str, Option<&str>)] = &[
    ("paddleocr", None),
    ("qwen2vl", None),
    ("qwen35", Some("qwen3_5_text")),
    ("qwen35moe", Some("qwen3_5_moe_text")),
    ("qwen3vl", Some("qwen3_vl_text")),
    ("qwen3vlmoe", Some("qwen3_vl_moe_text")),
];

/// GGUF architectures without a rotary embedding.
pub(crate) const GGUF_WITHOUT: &[&str] = &[
    "arwkv7",
    "bloom",
    "gpt2",
    "gptj",
    "jais",
    "jamba",
    "kimi-linear",
    "mamba",
    "mamba2",
    "mpt",
    "nemotron_h",
    "nemotron_h_moe",
    "refact",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
];

/// GGUF architectures of which no layer attends.
pub(crate) const GGUF_RECURRENT: &[&str] =
    &["arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"];

/// GGUF architectures in which a layer without key heads keeps a recurrent state.
pub(crate) const GGUF_HYBRID: &[&str] = &[
    "granitehybrid",
    "jamba",
    "kimi-linear",
    "lfm2",
    "lfm2moe",
    "plamo2",
];

/// How llama.cpp runs the sliding-window layers of an architecture.
pub(crate) struct Sliding {
    pub(crate) arch: &'static str,
    /// Every n-th layer is a full one, unless the file lists them; 0 where it must.
    pub(crate) period: u64,
    /// Window where the file states none, 0 for none.
    pub(crate) window: u64,
    /// Whether sliding layers take the rope base of the others where the file states none; 10,000
    /// otherwise.
    pub(crate) same_base: bool,
    /// Whether sliding layers take the rope scaling of the others; none otherwise.
    pub(crate) same_scaling: bool,
}

/// The architectures that have such layers; in all others the window is not used.
pub(crate) const GGUF_SLIDING: &[Sliding] = &[
    sliding("cohere2", 4, 0, true, true),
    sliding("exaone4", 4, 4096, true, true),
    sliding("gemma2", 2, 4096, true, true),
    sliding("gemma3", 6, 0, false, false),
    sliding("gemma3n", 5, 0, false, false),
    sliding("gemma4", 0, 0, false, false),
    sliding("gpt-oss", 2, 0, true, true),
    sliding("llama4", 4, 8192, true, true),
    sliding("olmo2", 4, 0, true, false),
];

const fn sliding(
    arch: &'static str,
    period: u64,
    window: u64,
    same_base: bool,
    same_scaling: bool,
) -> Sliding {
    Sliding {
        arch,
        period,
        window,
        same_base,
        same_scaling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of a row of the specification's tables.
    fn row(first: &str) -> Vec<&'static str> {
        let spec = include_str!("../../../spec/model-id-v1.md");
        let rows = spec.lines().filter(|line| line.starts_with("| "));
        let cells = rows.map(|line| line.trim_matches('|').split('|').map(str::trim));
        let mut found = cells.filter(|cells| cells.clone().next() == Some(first));
        found.next().map(Iterator::collect).unwrap_or_default()
    }

    #[test]
    fn the_specification_lists_the_same_families() {
        let multi = |wanted: bool| -> Vec<&str> {
            let listed = GGUF_MULTI
                .iter()
                .filter(|(_, interleaved)| interleaved.is_some() == wanted);
            listed.map(|(arch, _)| *arch).collect()
        };
        for (title, families) in [
            ("`model_type`, half pairs", HALF.to_vec()),
            ("`model_type`, interleaved pairs", INTERLEAVED.to_vec()),
            ("`model_type`, no rotary embedding", WITHOUT.to_vec()),
            ("`model_type`, latent attention", LATENT.to_vec()),
            (
                "`model_type`, sections interleaved",
                INTERLEAVED_SECTIONS.to_vec(),
            ),
            ("GGUF architecture, half pairs", GGUF_HALF.to_vec()),
            (
                "GGUF architecture, interleaved pairs",
                GGUF_INTERLEAVED.to_vec(),
            ),
            (
                "GGUF architecture, multi-axis in sections (half pairs)",
                multi(false),
            ),
            (
                "GGUF architecture, multi-axis interleaved (half pairs)",
                multi(true),
            ),
            (
                "GGUF architecture, no rotary embedding",
                GGUF_WITHOUT.to_vec(),
            ),
            ("GGUF architecture, no attention", GGUF_RECURRENT.to_vec()),
            (
                "GGUF architecture, recurrent where a layer has no key heads",
                GGUF_HYBRID.to_vec(),
            ),
        ] {
            assert_eq!(
                row(title).get(1),
                Some(&families.join(", ").as_str()),
                "{title}"
            );
        }
        let spec = include_str!("../../../spec/model-id-v1.md");
        for (family, values) in defaults::table() {
            let first = format!("| {family} | `hidden_size`");
            let told = spec.lines().find(|line| line.starts_with(&first));
            for (key, value) in values {
                let quote = if value.starts_with('{') { "`" } else { "" };
                let cell = format!("`{key}` {quote}{value}{quote}");
                assert!(
                    told.is_some_and(|told| told.contains(&cell)),
                    "{family}: {cell}"
                );
            }
        }
        let yes = |truth| if truth { "yes" } else { "no" };
        for s in GGUF_SLIDING {
            let line = format!(
                "| {} | {} | {} | {} | {} |",
                s.arch,
                s.period,
                s.window,
                yes(s.same_base),
                yes(s.same_scaling)
            );
            assert!(spec.lines().any(|l| l == line), "{line}");
        }
    }
}
