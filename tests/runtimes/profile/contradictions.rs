//! Folders that cannot be bound, contradict themselves or say too little.

use kvcap::Code;
use kvcap_models::LayerGeometry;

use super::support::{code, config, folder, profile, read_with};

#[test]
fn what_cannot_be_bound_is_refused_by_name() {
    for (kind, members, name) in [
        (
            "llama",
            r#""rope_scaling": {"type": "dynamic", "factor": 2}"#,
            "dynamic",
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "ntk2", "factor": 2}"#,
            "ntk2",
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "linear", "factor": 2, "odd": 1}"#,
            "odd",
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "yarn", "factor": 2, "mrope_section": [4, 4]}"#,
            "several axes",
        ),
        ("strange", "", "strange"),
        ("llama", r#""head_dim": 15"#, "even"),
        (
            "llama",
            r#""rope_parameters": {"rope_theta": 1e6}, "rope_scaling": {"type": "linear", "factor": 2}"#,
            "two ropes",
        ),
    ] {
        let error = profile(kind, members).unwrap_err();
        assert_eq!(error.code(), Code::ModelUnsupported, "{members}");
        assert!(error.to_string().contains(name), "{error}");
    }
    for members in [
        r#""rope_scaling": {"type": "linear"}"#,
        r#""rope_scaling": {"type": "linear", "factor": 0}"#,
        r#""rope_scaling": {"type": "linear", "factor": "2"}"#,
        r#""rope_theta": -1"#,
        r#""rope_theta": "x""#,
        r#""rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}"#,
        r#""layer_types": ["full_attention"]"#,
        r#""num_hidden_layers": 4"#,
    ] {
        assert_eq!(
            code(profile("llama", members)),
            Code::ModelMalformed,
            "{members}"
        );
    }
    let huge =
        config("llama", "").replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 1000000");
    assert_eq!(
        code(read_with(&folder(&huge).0, &[], &[])),
        Code::ModelMalformed
    );
}

#[test]
fn two_statements_of_one_fact_must_agree() {
    for (kind, members) in [
        (
            "llama",
            r#""rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}"#,
        ),
        (
            "llama",
            r#""rope_theta": 1e4, "rope_scaling": {"rope_theta": 5e5, "rope_type": "default"}"#,
        ),
        ("gpt_neox", r#""rope_theta": 1e4, "rotary_emb_base": 500"#),
        (
            "gemma3_text",
            r#""rope_local_base_freq": 2e4, "rope_parameters": {"full_attention": {"rope_theta": 1e6},
            "sliding_attention": {"rope_theta": 1e4}}"#,
        ),
        (
            "glm4_moe",
            r#""partial_rotary_factor": 0.25, "rope_parameters": {"partial_rotary_factor": 0.5}"#,
        ),
        (
            "gpt_neox",
            r#""rotary_pct": 0.5, "partial_rotary_factor": 0.25"#,
        ),
        (
            "minimax_m2",
            r#""head_dim": 16, "rotary_dim": 8, "partial_rotary_factor": 1.0"#,
        ),
        (
            "deepseek_v3",
            r#""kv_lora_rank": 8, "qk_rope_head_dim": 8, "partial_rotary_factor": 0.5"#,
        ),
        (
            "llama",
            r#""original_max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4,
            "original_max_position_embeddings": 128}"#,
        ),
        (
            "gpt_oss",
            r#""initial_context_length": 64, "rope_scaling": {"rope_type": "yarn", "factor": 4,
            "original_max_position_embeddings": 128}"#,
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 4}"#,
        ),
        (
            "ministral3",
            r#""rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4, "max_position_embeddings": 7}"#,
        ),
        (
            "phi3",
            r#""original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope", "factor": 4,
            "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}"#,
        ),
        (
            "phimoe",
            r#""original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope", "short_mscale": 1.1,
            "long_mscale": 1.2, "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}"#,
        ),
        ("llama", r#""head_dim": 16, "attention_head_dim": 32"#),
        ("falcon", r#""multi_query": false, "num_kv_heads": 4"#),
        ("llama", r#""n_layer": 3"#),
        ("llama", r#""n_head": 2"#),
        ("llama", r#""n_embd": 128"#),
        (
            "qwen2_vl",
            r#""rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 4]}"#,
        ),
        (
            "qwen3_5_text",
            r#""head_dim": 64, "rope_parameters": {"mrope_section": [3, 3, 3], "partial_rotary_factor": 0.25}"#,
        ),
        (
            "qwen3_5_text",
            r#""rope_parameters": {"mrope_interleaved": false, "partial_rotary_factor": 0.25}"#,
        ),
        (
            "gemma3_text",
            r#""sliding_window_pattern": 2, "layer_types": ["sliding_attention", "full_attention",
            "full_attention", "full_attention"]"#,
        ),
        (
            "qwen3_next",
            r#""full_attention_interval": 2, "layer_types": ["linear_attention", "linear_attention",
            "linear_attention", "full_attention"]"#,
        ),
        (
            "smollm3",
            r#""no_rope_layer_interval": 2, "no_rope_layers": [1, 1, 1, 0]"#,
        ),
        ("longcat_flash", r#""num_layers": 3"#),
    ] {
        let error = profile(kind, members).unwrap_err();
        assert_eq!(error.code(), Code::ModelUnsupported, "{members}: {error}");
    }
    // the same said twice is no contradiction, by whatever name
    for (kind, members) in [
        (
            "llama",
            r#""rope_theta": 5e5, "rope_parameters": {"rope_theta": 500000, "type": "default"}"#,
        ),
        (
            "qwen2_vl",
            r#""rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3]}"#,
        ),
        (
            "minimax_m2",
            r#""head_dim": 16, "rotary_dim": 8, "partial_rotary_factor": 0.5"#,
        ),
        ("llama", r#""n_layer": 4, "n_head": 4, "n_embd": 64"#),
        (
            "phi3",
            r#""original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope", "factor": 2,
            "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}"#,
        ),
    ] {
        profile(kind, members).unwrap();
    }
}

#[test]
fn facts_that_no_class_states_are_not_guessed() {
    for (kind, members, name) in [
        // no class of this family is known
        ("baichuan", "", "base"),
        (
            "kimi_k2",
            r#""kv_lora_rank": 8, "qk_rope_head_dim": 4"#,
            "base",
        ),
        ("internlm2", "", "base"),
        ("lfm2_moe", "", "attend"),
        // a window, an order of layers or layers without rope of another family
        (
            "gemma2",
            r#""sliding_window": 8, "sliding_window_pattern": 3"#,
            "order",
        ),
        ("llama", r#""no_rope_layers": [1, 1, 1, 0]"#, "without rope"),
        (
            "qwen2",
            r#""sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "full_attention",
            "full_attention"]"#,
            "use_sliding_window",
        ),
        (
            "gemma3_text",
            r#""use_bidirectional_attention": true"#,
            "causal",
        ),
        (
            "olmo3",
            r#""rope_parameters": {"rope_type": "yarn", "factor": 2}"#,
            "kind of layer",
        ),
        (
            "qwen2",
            r#""rope_parameters": {"full_attention": {"rope_theta": 1e6}}"#,
            "kind of layer",
        ),
        ("llama", r#""partial_rotary_factor": 0.5"#, "whole heads"),
        ("deepseek_v3", r#""rope_interleave": false"#, "interleaved"),
        (
            "llama",
            r#""rope_scaling": {"type": "dynamic", "alpha": 1000, "factor": 1}"#,
            "alpha",
        ),
    ] {
        let error = profile(kind, members).unwrap_err();
        assert_eq!(error.code(), Code::ModelUnsupported, "{members}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn null_is_absent_and_types_are_exact() {
    let facts = |text: &str| {
        let found = read_with(&folder(text).0, &[], &[]).unwrap();
        (found.rope, found.geometry.layers)
    };
    let members =
        r#""head_dim": null, "rope_scaling": null, "rope_theta": null, "sliding_window": null"#;
    assert_eq!(
        facts(&config("llama", members)),
        facts(&config("llama", ""))
    );
    // the class's count stands in for one that is absent, and not for null
    let key_heads = |with: &str| {
        let text = config("mistral", "").replace("\"num_key_value_heads\": 2,", with);
        match facts(&text).1[0] {
            LayerGeometry::Attention { kv_heads, .. } => kv_heads,
            _ => 0,
        }
    };
    assert_eq!(key_heads(""), 8);
    assert_eq!(key_heads("\"num_key_value_heads\": null,"), 4);
    for wrong in [
        r#""head_dim": 16.0"#,
        r#""head_dim": -16"#,
        r#""head_dim": "16""#,
        r#""rope_theta": true"#,
        r#""rope_scaling": []"#,
        r#""text_config": 1"#,
    ] {
        let found = code(profile("llama", wrong));
        assert_eq!(found, Code::ModelMalformed, "{wrong}");
    }
}
