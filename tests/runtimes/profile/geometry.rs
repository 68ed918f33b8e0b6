//! Layers of model folders: heads, dimensions, windows.

use kvcap::{
    Code,
    binding::{Pairing, Scaling},
};
use kvcap_models::{LayerGeometry, attention_factor};

use super::support::{attention, bits, code, config, folder, profile, read_with, scaling};

#[test]
fn geometries() {
    use LayerGeometry::{Latent, Recurrent, Shared, Unknown};
    let layers = |kind: &str, members: &str| profile(kind, members).unwrap().geometry.layers;
    assert_eq!(layers("llama", ""), vec![attention(2, 16, 0); 4]);
    assert_eq!(
        layers("mistral", r#""sliding_window": 4096"#),
        vec![attention(2, 16, 4096); 4]
    );
    assert_eq!(
        layers("mistral", r#""sliding_window": null"#),
        vec![attention(2, 16, 0); 4]
    );
    assert_eq!(
        layers(
            "qwen2",
            r#""use_sliding_window": true, "sliding_window": 9, "max_window_layers": 3"#
        ),
        [
            attention(2, 16, 0),
            attention(2, 16, 0),
            attention(2, 16, 0),
            attention(2, 16, 9)
        ]
    );
    let hybrid = profile("qwen3_5_text", r#""head_dim": 64"#).unwrap();
    assert_eq!(
        hybrid.geometry.layers[..3],
        [Recurrent, Recurrent, Recurrent]
    );
    assert_eq!(hybrid.rope[0].layers, [3]);
    assert_eq!(hybrid.rope[0].rotary_dims, 16);
    assert_eq!(
        layers(
            "deepseek_v3",
            r#""kv_lora_rank": 512, "qk_rope_head_dim": 64"#
        ),
        vec![
            Latent {
                rank: 512,
                rope_dim: 64
            };
            4
        ]
    );
    assert_eq!(
        layers(
            "gemma3n_text",
            r#""num_kv_shared_layers": 2, "head_dim": 8"#
        )[2..],
        [Shared, Shared]
    );
    assert_eq!(
        layers(
            "llama",
            r#""layer_types": ["full_attention", "conv", "odd", "full_attention"]"#
        )[1..3],
        [Recurrent, Unknown]
    );
    let nested = format!(
        r#"{{"model_type": "gemma3", "text_config": {}}}"#,
        config("gemma3_text", "")
    );
    let nested = read_with(&folder(&nested).0, &[], &[]).unwrap();
    assert_eq!(nested.geometry.layers.len(), 4);
    let sparse = profile("smollm3", r#""no_rope_layers": [1, 1, 0, 1]"#).unwrap();
    assert_eq!(sparse.rope[0].layers, [0, 1, 3]);
}

#[test]
fn newer_families() {
    use LayerGeometry::{Latent, Recurrent};
    let latent = Latent {
        rank: 32,
        rope_dim: 16,
    };
    let widths =
        r#""kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16"#;
    for kind in ["deepseek_v32", "glm4_moe_lite"] {
        let model = profile(kind, widths).unwrap();
        assert_eq!(model.geometry.layers, vec![latent.clone(); 4], "{kind}");
        assert_eq!(model.rope[0].rotary_dims, 16);
        assert_eq!(model.rope[0].pairing, Pairing::Half);
    }
    let expanded = profile(
        "minicpm3",
        &widths.replace("\"v_head_dim\": 16", "\"v_head_dim\": 8"),
    )
    .unwrap();
    assert_eq!(
        expanded.geometry.layers[0],
        LayerGeometry::Attention {
            kv_heads: 4,
            key_dim: 32,
            value_dim: 8,
            window: 0
        }
    );
    assert_eq!(expanded.rope[0].rotary_dims, 16);
    assert_eq!(expanded.rope_in("mlx-lm"), expanded.rope);
    // two attentions a layer: 28 layers with two caches each
    let longcat = format!(
        r#"{{"model_type": "longcat_flash", "num_layers": 3, "num_attention_heads": 4, {widths}}}"#
    );
    let longcat = read_with(&folder(&longcat).0, &[], &[]).unwrap();
    assert_eq!(longcat.geometry.layers, vec![latent.clone(); 3]);
    assert_eq!(longcat.rope[0].theta, bits(1e7));
    // layers are counted from 1, and nothing rotates
    let kimi = profile(
        "kimi_linear",
        &format!(r#"{widths}, "linear_attn_config": {{"kda_layers": [1, 2, 4], "full_attn_layers": [3]}}"#),
    )
    .unwrap();
    assert_eq!(
        kimi.geometry.layers,
        [Recurrent, Recurrent, latent, Recurrent]
    );
    assert!(kimi.rope.is_empty());
    let twice = r#""linear_attn_config": {"kda_layers": [1, 2, 3], "full_attn_layers": [3]}"#;
    assert_eq!(code(profile("kimi_linear", twice)), Code::ModelMalformed);
    // a static stretch of the base, in binary32
    let hunyuan = profile(
        "hunyuan_v1_dense",
        r#""head_dim": 128, "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}"#,
    )
    .unwrap();
    assert_eq!(hunyuan.rope[0].theta, bits(11_158_840.0));
    assert_eq!(hunyuan.rope[0].scaling, Scaling::None);
    // what acts on queries alone changes no key
    let ministral = |beta: &str| {
        let text = format!(
            r#""head_dim": 16, "rope_parameters": {{"rope_type": "yarn", "rope_theta": 1e6, "factor": 4,
            "original_max_position_embeddings": 64{beta}}}"#
        );
        profile("ministral3", &text).unwrap().rope
    };
    assert_eq!(ministral(r#", "llama_4_scaling_beta": 0.1"#), ministral(""));
    // a card's scaling beside sections
    let card = profile(
        "qwen3_5_moe_text",
        r#""head_dim": 16, "rope_parameters": {"mrope_interleaved": true, "mrope_section": [1, 1, 0],
        "partial_rotary_factor": 0.25, "rope_theta": 1e7, "rope_type": "yarn", "factor": 4.0,
        "original_max_position_embeddings": 256}"#,
    )
    .unwrap();
    assert!(
        matches!(card.rope[0].scaling, Scaling::Yarn { factor, original: 256, .. } if factor == bits(4.0))
    );
    let moe = profile(
        "phimoe",
        r#""original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope", "short_mscale": 1.2,
        "long_mscale": 1.2, "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}"#,
    )
    .unwrap();
    assert_eq!(
        attention_factor(&moe.rope[0], 8192).to_bits(),
        1.2_f64.to_bits()
    );
    let old = scaling(
        "llama",
        r#""rope_scaling": {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "finetuned": true}"#,
    );
    assert!(matches!(old, Scaling::Yarn { .. }));
}
