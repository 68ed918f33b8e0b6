//! GGUF headers: what is read, and what is refused.

use kvcap::{
    ByRuntime, Code,
    binding::{F64Bits, Pairing, Rope, Scaling},
};
use kvcap_models::{LayerGeometry, ModelProfile};

use super::support::{Folder, Gguf, code, read, read_bytes};

fn bits(value: f64) -> F64Bits {
    F64Bits(value.to_bits())
}

fn ropes(file: &Gguf) -> Vec<Rope> {
    file.read().unwrap().rope
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = Gguf::new("llama").bytes();
    read_bytes(&whole).unwrap();
    let folder = Folder::new();
    for end in 0..whole.len() {
        let cut = folder.write("cut.gguf", &whole[..end]);
        let error = read(&cut).unwrap_err();
        assert_eq!(error.code(), Code::ModelMalformed, "cut at {end}: {error}");
    }
}

#[test]
fn a_flipped_bit_never_panics_and_never_keeps_the_id() {
    let whole = Gguf::new("llama").bytes();
    let id = read_bytes(&whole).unwrap().model.id;
    let folder = Folder::new();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        if let Ok(profile) = read(&folder.write("flipped.gguf", &flipped)) {
            assert_ne!(profile.model.id, id);
        }
    }
}

#[test]
fn malformed_headers() {
    let good = Gguf::new("llama");
    let mut version2 = good.clone();
    version2.version = 2;
    version2.read().unwrap();
    for version in [0, 1, 4, 3_u32.swap_bytes()] {
        let mut bad = good.clone();
        bad.version = version;
        assert_eq!(code(bad.read()), Code::ModelMalformed, "{version}");
    }
    let nested = [
        9_u32.to_le_bytes().as_slice(),
        &1_u64.to_le_bytes(),
        &4_u32.to_le_bytes(),
        &[0; 8],
    ]
    .concat();
    let endless = [4_u32.to_le_bytes().as_slice(), &u64::MAX.to_le_bytes()].concat();
    for bad in [
        good.clone().text("general.architecture", "llama"),
        good.clone().raw("x", 9, &nested),
        good.clone().raw("x", 9, &endless),
        good.clone().raw("x", 8, &u64::MAX.to_le_bytes()),
        good.clone().raw("x", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        good.clone().raw("x", 7, &[2]),
        good.clone().raw("x", 13, &[0; 8]),
        good.clone().u32("general.alignment", 0),
        good.clone().u32("general.alignment", 48),
        good.clone().tensor("token_embd.weight", &[0.0; 8]),
        Gguf::bare(),
        Gguf::bare().text("general.architecture", "llama"),
        good.clone().u32("llama.nextn_predict_layers", 4),
        good.clone().text("llama.rope.freq_base", "x"),
    ] {
        assert_eq!(code(bad.read()), Code::ModelMalformed);
    }
    // Counts that no file can hold, and a tensor of an unknown type.
    for (at, value) in [(8, u64::MAX), (16, u64::MAX), (8, 1 << 17), (16, 1 << 16)] {
        let mut bytes = good.bytes();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert_eq!(code(read_bytes(&bytes)), Code::ModelMalformed);
    }
    let mut bytes = good.bytes();
    let name = bytes
        .windows(17)
        .position(|w| w == b"token_embd.weight")
        .unwrap();
    bytes[name + 17 + 12] = 4;
    assert_eq!(code(read_bytes(&bytes)), Code::ModelUnsupported);
    assert_eq!(code(Gguf::new("martian").read()), Code::ModelUnsupported);
}

#[test]
fn every_scaling_is_read() {
    let llama = || Gguf::new("llama");
    let one = |file: Gguf| ropes(&file).remove(0).scaling;
    assert_eq!(one(llama()), Scaling::None);
    assert_eq!(
        one(llama().f32("llama.rope.scaling.factor", 2.0)),
        Scaling::Linear { factor: bits(2.0) }
    );
    assert_eq!(
        one(llama().f32("llama.rope.scale_linear", 4.0)),
        Scaling::Linear { factor: bits(4.0) }
    );
    let yarn = llama()
        .text("llama.rope.scaling.type", "yarn")
        .f32("llama.rope.scaling.factor", 4.0)
        .u32("llama.rope.scaling.original_context_length", 2048)
        .f32("llama.rope.scaling.attn_factor", 1.5);
    assert_eq!(
        one(yarn),
        Scaling::Yarn {
            factor: bits(4.0),
            original: 2048,
            beta_fast: bits(32.0),
            beta_slow: bits(1.0),
            mscale: bits(0.0),
            mscale_all_dim: bits(0.0),
            attention_factor: bits(1.5),
            truncate: true,
        }
    );
    assert_eq!(
        one(llama().tensor(
            "rope_freqs.weight",
            &[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 8.0, 8.0]
        )),
        Scaling::Factors {
            factors: [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 8.0, 8.0].map(bits).to_vec()
        }
    );
    let long = Gguf::new("phi3")
        .u32("phi3.rope.scaling.original_context_length", 4096)
        .tensor("rope_factors_long.weight", &[2.0; 8])
        .tensor("rope_factors_short.weight", &[1.0; 8]);
    assert_eq!(
        one(long),
        Scaling::LongRope {
            short: vec![bits(1.0); 8],
            long: vec![bits(2.0); 8],
            original: 4096,
            attention_factor: bits(0.0),
            long_used: true,
        }
    );
    let multi = Gguf::new("qwen3vl").i32s("qwen3vl.rope.dimension_sections", &[3, 3, 2, 0]);
    assert_eq!(
        one(multi),
        Scaling::Multi {
            sections: vec![3, 3, 2],
            interleaved: true
        }
    );
    // the class's, which a converter writes whatever the heads are; there are eight pairs
    let of_class = Gguf::new("qwen3vl").i32s("qwen3vl.rope.dimension_sections", &[24, 20, 20, 0]);
    assert_eq!(
        one(of_class),
        Scaling::Multi {
            sections: vec![24, 20, 20],
            interleaved: true
        }
    );
    for (bad, expected) in [
        (
            llama().text("llama.rope.scaling.type", "dynamic"),
            Code::ModelUnsupported,
        ),
        (
            llama().f32("llama.rope.scaling.alpha", 1000.0),
            Code::ModelUnsupported,
        ),
        (
            llama().f32("llama.rope.scaling.factor", -1.0),
            Code::ModelMalformed,
        ),
        (
            llama().tensor("rope_freqs.weight", &[1.0; 7]),
            Code::ModelMalformed,
        ),
        (
            llama().tensor("rope_freqs.weight", &[0.0; 8]),
            Code::ModelMalformed,
        ),
        (
            llama()
                .tensor("rope_freqs.weight", &[1.0; 8])
                .f32("llama.rope.scaling.factor", 2.0),
            Code::ModelUnsupported,
        ),
        (
            llama().tensor("rope_factors_long.weight", &[1.0; 8]),
            Code::ModelUnsupported,
        ),
        (Gguf::new("qwen3vl"), Code::ModelMalformed),
        // of eight pairs
        (
            Gguf::new("qwen3vl").i32s("qwen3vl.rope.dimension_sections", &[3, 3, 3, 0]),
            Code::ModelUnsupported,
        ),
        (
            Gguf::new("qwen2vl").i32s("qwen2vl.rope.dimension_sections", &[3, 3]),
            Code::ModelUnsupported,
        ),
        (
            llama().i32s("llama.rope.dimension_sections", &[3, 3, 2, 0]),
            Code::ModelUnsupported,
        ),
        (
            llama().u32("llama.rope.dimension_count", 17),
            Code::ModelUnsupported,
        ),
    ] {
        assert_eq!(code(bad.read()), expected);
    }
}

#[test]
fn pairings_follow_the_architecture() {
    assert_eq!(ropes(&Gguf::new("llama"))[0].pairing, Pairing::Interleaved);
    assert_eq!(ropes(&Gguf::new("qwen2"))[0].pairing, Pairing::Half);
    assert!(ropes(&Gguf::new("gpt2")).is_empty());
    assert!(ropes(&Gguf::new("mamba")).is_empty());
    assert_eq!(ropes(&Gguf::new("smollm3"))[0].layers, [0, 1, 2]);
    let granite = Gguf::new("granite").flag("granite.rope.scaling.finetuned", false);
    assert!(ropes(&granite).is_empty());
}

#[test]
fn windows_and_their_ropes() {
    let gemma = Gguf::new("gemma3")
        .u32("gemma3.attention.sliding_window", 512)
        .u32("gemma3.attention.sliding_window_pattern", 2)
        .f32("gemma3.rope.freq_base", 1e6)
        .f32("gemma3.rope.scaling.factor", 8.0)
        .read()
        .unwrap();
    let [local, global] = gemma.rope.as_slice() else {
        panic!("two groups");
    };
    assert_eq!((&*local.layers, local.theta), (&[0, 2][..], bits(1e4)));
    assert_eq!(local.scaling, Scaling::None);
    assert_eq!((&*global.layers, global.theta), (&[1, 3][..], bits(1e6)));
    assert_eq!(global.scaling, Scaling::Linear { factor: bits(8.0) });
    let olmo = Gguf::new("olmo2")
        .u32("olmo2.attention.sliding_window", 256)
        .flags(
            "olmo2.attention.sliding_window_pattern",
            &[true, true, true, false],
        )
        .f32("olmo2.rope.freq_base", 5e5)
        .read()
        .unwrap();
    assert_eq!(olmo.rope.len(), 1);
    assert_eq!(olmo.rope[0].theta, bits(5e5));
    let windows: Vec<_> = olmo
        .geometry
        .layers
        .iter()
        .map(|layer| match layer {
            LayerGeometry::Attention { window, .. } => *window,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(windows, [256, 256, 256, 0]);
    let cohere = Gguf::new("cohere2").u32("cohere2.attention.sliding_window", 256);
    assert_eq!(ropes(&cohere)[0].layers, [0, 1, 2]);
}

#[test]
fn geometries() {
    use LayerGeometry::{Attention, Latent, Recurrent, Shared, Unknown};
    let layers = |file: Gguf| file.read().unwrap().geometry.layers;
    let attention = Attention {
        kv_heads: 2,
        key_dim: 24,
        value_dim: 16,
        window: 0,
    };
    let file = Gguf::new("qwen2").u32("qwen2.attention.key_length", 24);
    assert_eq!(layers(file), vec![attention; 4]);
    let hybrid = Gguf::new("qwen3next").u32("qwen3next.full_attention_interval", 2);
    assert_eq!(layers(hybrid)[..1], [Recurrent]);
    let named = Gguf::new("qwen3next").flags(
        "qwen3next.attention.recurrent_layers",
        &[false, true, true, true],
    );
    assert_eq!(layers(named)[1..], [Recurrent, Recurrent, Recurrent]);
    let bare = |arch: &str| {
        Gguf::bare()
            .text("general.architecture", arch)
            .u32(&format!("{arch}.block_count"), 4)
            .u32(&format!("{arch}.embedding_length"), 64)
            .u32(&format!("{arch}.attention.head_count"), 4)
            .texts("tokenizer.ggml.tokens", &["a"])
    };
    let lfm = bare("lfm2").i32s("lfm2.attention.head_count_kv", &[0, 0, 2, 0]);
    assert_eq!(layers(lfm.clone())[3..], [Recurrent]);
    // and only the layer that attends rotates
    for arch in ["lfm2", "lfm2moe", "granitehybrid", "plamo2"] {
        let heads = format!("{arch}.attention.head_count_kv");
        let file = bare(arch).i32s(&heads, &[0, 0, 2, 0]).read().unwrap();
        assert_eq!(file.rope[0].layers, [2], "{arch}");
        assert_eq!(file.geometry.layers[0], Recurrent);
    }
    // nothing rotates in Kimi Linear, and in Baichuan's larger models
    let kimi = bare("kimi-linear").i32s("kimi-linear.attention.head_count_kv", &[0, 0, 2, 0]);
    let kimi = kimi.read().unwrap();
    assert!(kimi.rope.is_empty());
    assert_eq!(kimi.geometry.layers[0], Recurrent);
    let baichuan = |layers| {
        let file = Gguf::bare()
            .text("general.architecture", "baichuan")
            .u32("baichuan.block_count", layers)
            .u32("baichuan.embedding_length", 64)
            .u32("baichuan.attention.head_count", 4)
            .texts("tokenizer.ggml.tokens", &["a"]);
        file.read().unwrap().rope.len()
    };
    assert_eq!((baichuan(32), baichuan(40)), (1, 0));
    // in any family a layer without key heads has no key to rotate
    let deci = bare("deci").i32s("deci.attention.head_count_kv", &[2, 0, 2, 2]);
    assert_eq!(deci.read().unwrap().rope[0].layers, [0, 2, 3]);
    let nemotron = bare("nemotron_h").i32s("nemotron_h.attention.head_count_kv", &[0, 2, 2, 0]);
    assert_eq!(layers(nemotron)[..1], [Unknown]);
    let short = bare("lfm2").i32s("lfm2.attention.head_count_kv", &[0, 2]);
    assert_eq!(code(short.read()), Code::ModelMalformed);
    let mla = bare("deepseek2")
        .u32("deepseek2.attention.head_count_kv", 1)
        .u32("deepseek2.attention.kv_lora_rank", 512)
        .u32("deepseek2.attention.key_length", 576)
        .u32("deepseek2.attention.key_length_mla", 192)
        .u32("deepseek2.rope.dimension_count", 64);
    assert_eq!(
        layers(mla),
        vec![
            Latent {
                rank: 512,
                rope_dim: 64
            };
            4
        ]
    );
    let shared = Gguf::new("gemma4")
        .u32("gemma4.attention.sliding_window", 8)
        .flags("gemma4.attention.sliding_window_pattern", &[true; 4])
        .u32("gemma4.attention.shared_kv_layers", 2);
    assert_eq!(layers(shared)[2..], [Shared, Shared]);
    let predicting = Gguf::new("llama").u32("llama.nextn_predict_layers", 1);
    assert_eq!(layers(predicting).len(), 3);
}

#[test]
fn names_do_not_make_the_id_of_a_file() {
    let file = Gguf::new("llama");
    let folder = Folder::new();
    let a = read(&folder.write("a.gguf", file.bytes())).unwrap();
    let b = read(&folder.write("b.bin", file.bytes())).unwrap();
    assert_eq!(a, b);
    let longer = Gguf::new("llama").tensor("more", &[1.0; 8]).read().unwrap();
    assert_eq!(longer.model.config, a.model.config);
    assert_ne!(longer.model.id, a.model.id);
    let labelled = Gguf::new("llama")
        .text("general.author", "x")
        .read()
        .unwrap();
    assert_eq!(labelled.model.config, a.model.config);
    let other = Gguf::new("llama")
        .f32("llama.rope.freq_base", 7.0)
        .read()
        .unwrap();
    assert_ne!(other.model.config, a.model.config);
}

fn u16_key(file: Gguf, key: &str, value: u16) -> Gguf {
    file.raw(key, 2, &value.to_le_bytes())
}

#[test]
fn splits_are_read_together() {
    let folder = Folder::new();
    let split = |file: Gguf, number: u16| {
        u16_key(u16_key(file, "split.no", number), "split.count", 2).bytes()
    };
    let first = split(Gguf::new("llama"), 0);
    let one = folder.write("m-00001-of-00002.gguf", &first);
    assert_eq!(code(read(&one)), Code::ModelMissing);
    let second = split(Gguf::bare().tensor("rope_freqs.weight", &[2.0; 8]), 1);
    let two = folder.write("m-00002-of-00002.gguf", &second);
    let profile = read(&one).unwrap();
    assert_eq!(read(&two).unwrap(), profile);
    let names: Vec<_> = profile.weights.iter().map(|file| &*file.name).collect();
    assert_eq!(
        names,
        ["model-00001-of-00002.gguf", "model-00002-of-00002.gguf"]
    );
    assert!(matches!(profile.rope[0].scaling, Scaling::Factors { .. }));
    // Renamed, a split is not the one that its name says.
    folder.write("m-00002-of-00002.gguf", &first);
    assert_eq!(code(read(&one)), Code::ModelMalformed);
    assert_eq!(
        code(read(&folder.write("odd.gguf", &first))),
        Code::ModelMalformed
    );
}

#[test]
fn runtimes_of_classes_keep_the_keys_of_a_gguf_in_halves() {
    let pairings = |profile: &ModelProfile, runtime| {
        let ropes = profile.rope_in(runtime);
        ropes.iter().map(|rope| rope.pairing).collect::<Vec<_>>()
    };
    let llama = Gguf::new("llama").read().unwrap();
    assert_eq!(pairings(&llama, "llama.cpp"), [Pairing::Interleaved]);
    assert_eq!(pairings(&llama, "transformers"), [Pairing::Half]);
    assert_eq!(pairings(&llama, "mlx-lm"), [Pairing::Half]);
    // what a reader expects of a capsule is the same
    assert_eq!(
        llama.needs("transformers").rope,
        llama.rope_in("transformers")
    );
    let qwen = Gguf::new("qwen2").read().unwrap();
    for runtime in ["llama.cpp", "transformers", "mlx-lm"] {
        assert_eq!(pairings(&qwen, runtime), [Pairing::Half]);
    }
}
