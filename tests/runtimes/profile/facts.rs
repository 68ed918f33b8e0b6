//! Tokenizer, rope and geometry of model folders, run-time options, frequencies.

use kvcap::{
    Code, Role,
    binding::{F64Bits, Pairing, Scaling},
};
use kvcap_codecs::Dtype;
use kvcap_models::{
    LayerGeometry, RuntimeOptions, attention_factor, hadamard_block, inverse_frequencies,
};

use super::support::{Gguf, code, config, folder, profile, read_with};

fn bits(value: f64) -> F64Bits {
    F64Bits(value.to_bits())
}

fn all(values: &[f64]) -> Vec<F64Bits> {
    values.iter().copied().map(bits).collect()
}

fn scaling(kind: &str, members: &str) -> Scaling {
    profile(kind, members).unwrap().rope.remove(0).scaling
}

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
        r#""head_dim": 16, "rope_parameters": {"rope_type": "proportional", "rope_theta": 1e6,
            "partial_rotary_factor": 0.25}"#,
    );
    let rope = gemma4.unwrap().rope.remove(0);
    assert_eq!(rope.scaling, Scaling::Proportional { factor: bits(1.0) });
    assert_eq!(rope.rotary_dims, 4);
}

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
            "yarn",
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
            "llama",
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

fn attention(kv_heads: u64, dim: u64, window: u64) -> LayerGeometry {
    LayerGeometry::Attention {
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        window,
    }
}

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
fn vocabularies_are_the_same_in_both_formats() {
    let folder = profile("llama", "").unwrap().tokenizer;
    let gguf = Gguf::new("llama").read().unwrap().tokenizer;
    assert_eq!(folder.vocab, gguf.vocab);
    assert_eq!((folder.vocab_size, gguf.vocab_size), (3, 3));
    assert_eq!(folder.chat_template, gguf.chat_template);
    let specials = [("add_bos", 1), ("bos", 0), ("eos", 2)].map(|(n, id)| (n.to_owned(), id));
    assert_eq!(folder.specials, specials);
    assert_eq!(gguf.specials, specials);
    assert_eq!((&*gguf.version, &*gguf.pre_tokenizer), ("gpt2", "gpt-2"));
}

#[test]
fn tokenizers_that_contradict_themselves() {
    let model = folder(&config("llama", ""));
    let with = |vocab: &str, added: &str| {
        model.write(
            "tokenizer.json",
            format!(r#"{{"added_tokens": [{added}], "model": {{"vocab": {vocab}}}}}"#),
        );
        read_with(&model.0, &[], &[]).map(|profile| profile.tokenizer)
    };
    let hole = with(r#"{"a": 0, "b": 2}"#, "").unwrap();
    assert_eq!(hole.vocab_size, 3);
    assert_eq!(
        hole.vocab,
        with(r#"[["a", -1.5], ["", 0], ["b", 0.5]]"#, "")
            .unwrap()
            .vocab
    );
    let added = with(r#"{"a": 0, "x": 2}"#, r#"{"id": 2, "content": "b"}"#).unwrap();
    assert_eq!(added.vocab, hole.vocab);
    for (vocab, added) in [
        (r#"{"a": 0, "b": 0}"#, ""),
        (r#"{"a": -1}"#, ""),
        (r#"{"a": 4000000000}"#, ""),
        (r#"{"a": "0"}"#, ""),
        ("7", ""),
        ("[[1]]", ""),
        (
            r#"{"a": 0}"#,
            r#"{"id": 1, "content": "b"}, {"id": 1, "content": "c"}"#,
        ),
        (r#"{"a": 0}"#, r#"{"id": 1}"#),
    ] {
        assert_eq!(with(vocab, added).unwrap_err().code(), Code::ModelMalformed);
    }
}

#[test]
fn options_change_what_the_runtime_changed() {
    let model = folder(&config("llama", ""));
    let rope = |options: &[&str]| read_with(&model.0, &[], options).map(|mut p| p.rope.remove(0));
    assert_eq!(rope(&["rope-freq-base=500000"]).unwrap().theta, bits(5e5));
    assert_eq!(
        rope(&["rope-freq-scale=0.25"]).unwrap().scaling,
        Scaling::Linear { factor: bits(4.0) }
    );
    let yarn = rope(&["rope-scaling=yarn", "rope-freq-scale=0.5"]).unwrap();
    assert!(
        matches!(yarn.scaling, Scaling::Yarn { factor, original: 8192, .. } if factor == bits(2.0))
    );
    for bad in [
        "rope-freq-base",
        "rope-freq-base=0",
        "rope-freq-base=x",
        "rope-freq-base=inf",
        "colour=red",
        "ctx-size=-1",
        "hadamard=maybe",
        "rope-scaling=dynamic",
        "longrope=on",
        "rope-scaling=longrope",
    ] {
        assert_eq!(rope(&[bad]).unwrap_err().code(), Code::LocalUsage, "{bad}");
    }
    let twice = RuntimeOptions::parse(&["ctx-size=1", "ctx-size=1"]);
    assert_eq!(twice.unwrap_err().code(), Code::LocalUsage);
    assert_eq!(
        RuntimeOptions::parse(&["hadamard=off"]).unwrap().hadamard,
        Some(false)
    );

    let phi = folder(&config(
        "phi3",
        r#""original_max_position_embeddings": 4096, "rope_scaling": {
        "type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}"#,
    ));
    for (options, long) in [
        (&[][..], true),
        (&["ctx-size=4096"], false),
        (&["ctx-size=4097"], true),
        (&["longrope=short"], false),
        (&["ctx-size=1", "longrope=long"], true),
    ] {
        let used = read_with(&phi.0, &[], options)
            .unwrap()
            .rope
            .remove(0)
            .scaling;
        assert!(matches!(used, Scaling::LongRope { long_used, .. } if long_used == long));
    }
    // A window keeps its base: the group falls in two.
    let olmo = folder(&config(
        "olmo3",
        r#""sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention"]"#,
    ));
    let ropes = read_with(&olmo.0, &[], &["rope-freq-base=7"]).unwrap().rope;
    assert_eq!(ropes.len(), 2);
    assert_eq!((ropes[0].theta, ropes[1].theta), (bits(1e4), bits(7.0)));
    let mistral = folder(&config("mistral", r#""sliding_window": 8"#));
    let none = read_with(&mistral.0, &[], &["rope-freq-base=7"]);
    assert_eq!(none.unwrap_err().code(), Code::LocalUsage);
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
        r#""head_dim": 16, "rope_parameters": {"rope_type": "proportional",
        "rope_theta": 1e4, "partial_rotary_factor": 0.5}"#,
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
