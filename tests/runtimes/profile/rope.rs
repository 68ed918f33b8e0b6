//! Ropes of model folders: scalings, pairings, frequencies.

use kvcap::{
    Code, Role,
    binding::{Pairing, Scaling},
};
use kvcap_codecs::Dtype;
use kvcap_models::{attention_factor, hadamard_block, inverse_frequencies};

use super::support::{Gguf, all, attention, bits, code, profile, scaling};

#[test]
fn every_scaling_is_read() {
    let llama = |members: &str| scaling("llama", members);
    assert_eq!(llama(""), Scaling::None);
    assert_eq!(
        llama(r#""rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 8.0}"#),
        Scaling::Linear { factor: bits(8.0) }
    );
    assert_eq!(
        llama(
            r#""rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4, "mscale": 0.7,
            "mscale_all_dim": 0.9, "original_max_position_embeddings": 2048, "truncate": false}"#
        ),
        Scaling::Yarn {
            factor: bits(4.0),
            original: 2048,
            beta_fast: bits(32.0),
            beta_slow: bits(1.0),
            mscale: bits(0.7),
            mscale_all_dim: bits(0.9),
            attention_factor: bits(0.0),
            truncate: false,
        }
    );
    assert_eq!(
        llama(
            r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 4096}"#
        ),
        Scaling::Llama3 {
            factor: bits(8.0),
            low_freq_factor: bits(1.0),
            high_freq_factor: bits(4.0),
            original: 4096,
        }
    );
    assert_eq!(
        scaling(
            "phi3",
            r#""original_max_position_embeddings": 4096, "rope_scaling": {"type": "su",
            "short_factor": [1, 1, 1, 1, 1, 1, 1, 1.5], "long_factor": [2, 2, 2, 2, 2, 2, 2, 3]}"#
        ),
        Scaling::LongRope {
            short: all(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5]),
            long: all(&[2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0]),
            original: 4096,
            attention_factor: bits(0.0),
            long_used: true,
        }
    );
    assert_eq!(
        scaling(
            "qwen2_vl",
            r#""rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}"#
        ),
        Scaling::Multi {
            sections: vec![2, 3, 3],
            interleaved: false
        }
    );
    let gemma4 = profile(
        "gemma4_text",
        r#""head_dim": 16, "global_head_dim": 16, "layer_types": ["full_attention", "full_attention", "full_attention",
            "full_attention"], "rope_parameters": {"full_attention": {"rope_type": "proportional", "rope_theta": 1e6,
            "partial_rotary_factor": 0.25}}"#,
    );
    let rope = gemma4.unwrap().rope.remove(0);
    assert_eq!(rope.scaling, Scaling::Proportional { factor: bits(1.0) });
    assert_eq!(rope.rotary_dims, 4);
}

/// A profile with NaN would differ from itself, and could not be kept (a fuzzer's finding).
#[test]
fn every_number_of_a_rope_is_finite() {
    let original = r#""original_max_position_embeddings": 4096"#;
    let longrope = |short: &str, more: &str| {
        format!(
            r#"{original}, "rope_scaling": {{"type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, {short}],
            "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]{more}}}"#
        )
    };
    profile("phi3", &longrope("1.5", r#", "attention_factor": 1.5"#)).unwrap();
    for number in ["NaN", "Infinity", "-Infinity"] {
        let mut folders = vec![
            ("llama", format!(r#""rope_theta": {number}"#)),
            ("phi3", longrope(number, "")),
            (
                "phi3",
                longrope("1", &format!(r#", "attention_factor": {number}"#)),
            ),
        ];
        for (kind, name) in [
            ("linear", "factor"),
            ("yarn", "beta_fast"),
            ("yarn", "beta_slow"),
            ("yarn", "mscale"),
            ("yarn", "mscale_all_dim"),
            ("yarn", "attention_factor"),
            ("llama3", "low_freq_factor"),
        ] {
            let mut members = vec![
                format!(r#""type": "{kind}""#),
                original.to_owned(),
                format!(r#""{name}": {number}"#),
            ];
            let others = ["factor", "low_freq_factor", "high_freq_factor"];
            members.extend(
                others
                    .iter()
                    .filter(|other| **other != name)
                    .map(|other| format!(r#""{other}": 2.0"#)),
            );
            let scaling = format!(r#""rope_scaling": {{{}}}"#, members.join(", "));
            folders.push(("llama", scaling));
        }
        for (kind, members) in folders {
            assert_eq!(
                code(profile(kind, &members)),
                Code::ModelMalformed,
                "{members}"
            );
        }
    }
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in [
            "freq_base",
            "scaling.factor",
            "scaling.attn_factor",
            "scaling.yarn_beta_fast",
        ] {
            let file = Gguf::new("llama")
                .text("llama.rope.scaling.type", "yarn")
                .f32(&format!("llama.rope.{name}"), number);
            assert_eq!(code(file.read()), Code::ModelMalformed, "{name} {number}");
        }
    }
}

#[test]
fn pairings_and_partial_rotation() {
    let first = |kind: &str, members: &str| profile(kind, members).unwrap().rope.remove(0);
    assert_eq!(first("llama", "").pairing, Pairing::Half);
    assert_eq!(first("cohere", "").pairing, Pairing::Interleaved);
    assert_eq!(first("glm4", r#""head_dim": 16"#).rotary_dims, 8);
    assert_eq!(first("phi", "").rotary_dims, 8);
    assert_eq!(
        first("gpt_neox", r#""rotary_pct": 0.25, "rotary_emb_base": 500"#).theta,
        bits(500.0)
    );
    assert_eq!(
        first(
            "phi3",
            r#""rope_parameters": {"rope_theta": 2e4, "partial_rotary_factor": 0.5}"#
        )
        .rotary_dims,
        8
    );
    assert!(profile("gpt2", "").unwrap().rope.is_empty());
    assert!(
        profile("falcon", r#""alibi": true"#)
            .unwrap()
            .rope
            .is_empty()
    );
}

#[test]
fn gemmas_have_two_ropes() {
    let old = profile(
        "gemma3_text",
        r#""sliding_window": 512, "sliding_window_pattern": 2,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}"#,
    )
    .unwrap();
    let new = profile("gemma3_text", r#""sliding_window": 512,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}"#)
    .unwrap();
    assert_eq!(old.rope, new.rope);
    assert_eq!(old.geometry, new.geometry);
    let [local, global] = new.rope.as_slice() else {
        panic!("two groups");
    };
    assert_eq!((&*local.layers, local.theta), (&[0, 2][..], bits(1e4)));
    assert_eq!((&*global.layers, global.theta), (&[1, 3][..], bits(1e6)));
    assert_eq!(global.scaling, Scaling::Linear { factor: bits(8.0) });
    assert_eq!(local.scaling, Scaling::None);
    assert_eq!(
        new.geometry.layers[..2],
        [attention(2, 256, 512), attention(2, 256, 0)]
    );
}

#[test]
fn latents_are_interleaved_in_mlx() {
    let model = profile(
        "deepseek_v3",
        r#""kv_lora_rank": 512, "qk_rope_head_dim": 64"#,
    )
    .unwrap();
    assert_eq!(model.rope_in("transformers")[0].pairing, Pairing::Half);
    assert_eq!(model.rope_in("mlx-lm")[0].pairing, Pairing::Interleaved);
    let model = profile("llama", "").unwrap();
    assert_eq!(model.rope_in("mlx-lm"), model.rope);
}

#[test]
fn frequencies_follow_the_scaling() {
    let rope = |kind: &str, members: &str| profile(kind, members).unwrap().rope.remove(0);
    let near = |got: &[f64], want: &[f64]| {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= want.abs() * 1e-12, "{got} {want}");
        }
    };
    let plain = inverse_frequencies(&rope("llama", ""), 16).unwrap();
    let expected: Vec<_> = (0..8).map(|i| 10f64.powf(-f64::from(i) / 2.0)).collect();
    near(&plain, &expected);
    let linear = rope(
        "llama",
        r#""rope_scaling": {"type": "linear", "factor": 4}"#,
    );
    let quarter: Vec<_> = expected.iter().map(|f| f / 4.0).collect();
    near(&inverse_frequencies(&linear, 16).unwrap(), &quarter);
    let llama3 = rope(
        "llama",
        r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 100}"#,
    );
    let got = inverse_frequencies(&llama3, 16).unwrap();
    near(&got[..2], &expected[..2]);
    let turns = 100.0 * expected[2] / std::f64::consts::TAU;
    let smooth = (turns - 1.0) / 3.0;
    near(
        &got[2..3],
        &[(1.0 - smooth) * expected[2] / 8.0 + smooth * expected[2]],
    );
    near(
        &got[4..],
        &expected[4..].iter().map(|f| f / 8.0).collect::<Vec<_>>(),
    );
    let yarn = rope(
        "llama",
        r#""rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 2048}"#,
    );
    let got = inverse_frequencies(&yarn, 16).unwrap();
    // Correction range 8·ln(2048/(32·τ))/ln(1e4) → 2 and 8·ln(2048/τ)/ln(1e4) → 6 (rounded outwards).
    near(&got[..3], &expected[..3]);
    near(&got[6..], &quarter[6..]);
    near(&got[4..5], &[expected[4] * 0.5 + quarter[4] * 0.5]);
    assert!((attention_factor(&yarn, 8192) - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-15);
    let phi = rope(
        "phi3",
        r#""original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope",
        "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}"#,
    );
    let half: Vec<_> = expected.iter().map(|f| f / 2.0).collect();
    near(&inverse_frequencies(&phi, 16).unwrap(), &half);
    assert!((attention_factor(&phi, 8192) - (1.0 + 2f64.ln() / 4096f64.ln()).sqrt()).abs() < 1e-15);
    let spread = rope(
        "gemma4_text",
        r#""head_dim": 16, "global_head_dim": 16, "layer_types": ["full_attention", "full_attention", "full_attention",
        "full_attention"], "rope_parameters": {"full_attention": {"rope_type": "proportional",
        "rope_theta": 1e4, "partial_rotary_factor": 0.5}}"#,
    );
    let got = inverse_frequencies(&spread, 16).unwrap();
    near(&got[..4], &expected[..4]);
    assert_eq!(got[4..], [0.0; 4]);
    assert_eq!(inverse_frequencies(&spread, 4), None);
}

#[test]
fn hadamard_blocks_are_llama_cpps() {
    for (role, dim, dtype, block) in [
        (Role::Key, 64, Dtype::GgmlQ8_0, 64),
        (Role::Key, 128, Dtype::GgmlQ4_0, 128),
        (Role::Value, 128, Dtype::GgmlQ4_0, 64),
        (Role::Key, 192, Dtype::GgmlQ8_0, 64),
        (Role::Key, 96, Dtype::GgmlQ8_0, 0),
        (Role::Value, 32, Dtype::GgmlQ8_0, 0),
        (Role::Key, 64, Dtype::F16, 0),
        (Role::Recurrent, 64, Dtype::GgmlQ8_0, 0),
    ] {
        assert_eq!(hadamard_block(role, dim, dtype), block);
    }
}
