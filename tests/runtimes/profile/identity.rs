//! Ids: what changes them and what does not, kvid files, the cache.

use std::{
    fs::{self, File},
    time::{Duration, Instant, SystemTime},
};

use kvcap::Code;
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions, model_id, weights_digest};

use super::support::{Folder, Gguf, code, config, fixture, folder, read, read_with};

const SPEC: &str = include_str!("../../../spec/model-id-v1.md");

#[test]
fn the_specs_worked_example_is_fresh() {
    let profile = read(&fixture()).unwrap();
    let model = &profile.model;
    let file = &profile.weights[0];
    let mut rows = vec![
        ("model.safetensors", file.digest.to_string()),
        ("weights digest", model.weights.to_string()),
        ("config digest", model.config.to_string()),
        ("model id", model.id.to_string()),
        ("vocabulary digest", profile.tokenizer.vocab.to_string()),
        ("pre-tokenizer", profile.tokenizer.pre_tokenizer.clone()),
    ];
    let adapted = read_with(
        &fixture(),
        &[(fixture().join("tokenizer_config.json"), 0.5)],
        &[],
    )
    .unwrap();
    rows.push((
        "adapter digest",
        adapted.model.adapters[0].digest.to_string(),
    ));
    rows.push(("model id with the adapter", adapted.model.id.to_string()));
    for (name, digest) in rows {
        let row = format!("| {name} | `{digest}` |");
        assert!(SPEC.contains(&row), "model-id-v1.md lacks: {row}");
    }
    assert_eq!(file.length, 80);
}

#[test]
fn the_fixtures_facts() {
    let profile = read(&fixture()).unwrap();
    assert_eq!(profile.tokenizer.vocab_size, 4096);
    assert_eq!(
        profile.tokenizer.specials,
        [("bos".to_owned(), 0), ("eos".to_owned(), 1)]
    );
    assert_eq!(profile.tokenizer.version, "TokenizersBackend/1.0");
    assert_eq!(profile.rope.len(), 1);
    assert_eq!(profile.rope[0].layers, [0, 1, 2, 3, 4, 5]);
    assert_eq!(profile.rope[0].rotary_dims, 64);
    assert_eq!(profile.geometry.context_length, 2048);
    assert_eq!(profile.model.name, "model");
    assert_eq!(profile.weights, read(&fixture()).unwrap().weights);
    assert_eq!(profile.model.weights, weights_digest(&profile.weights));
    assert_eq!(
        profile.model.id,
        model_id(&profile.weights, profile.model.config, &[])
    );
}

#[test]
fn the_id_follows_weights_config_and_adapters() {
    let text = config("llama", r#""rms_norm_eps": 1e-05"#);
    let model = folder(&text);
    let id = || read(&model.0).unwrap().model.id;
    let before = id();

    model.write("model.safetensors", b"weightz");
    assert_ne!(id(), before);
    model.write("model.safetensors", b"weights");
    assert_eq!(id(), before);

    for other in [
        text.replace("1e-05", "0.00002"),
        text.replace("rms_norm_eps", "rms_norm_epz"),
        text.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4"),
        text.replace("8192", "8193"),
    ] {
        model.write("config.json", other);
        assert_ne!(id(), before);
    }
    // Order, spelling of numbers, and what does not change the result.
    for same in [
        text.replace("1e-05", "0.00001"),
        text.replace(
            "{\"model_type\"",
            "{\"use_cache\": true, \"transformers_version\": \"4\", \"model_type\"",
        ),
        r#"{"rms_norm_eps": 1e-05, "max_position_embeddings": 8192, "hidden_size": 64,
            "num_key_value_heads": 2, "num_attention_heads": 4, "num_hidden_layers": 4,
            "model_type": "llama"}"#
            .to_owned(),
    ] {
        model.write("config.json", same);
        assert_eq!(id(), before);
    }

    let adapters = Folder::new();
    let one = adapters.write("one.safetensors", b"1");
    let two = adapters.write("two.safetensors", b"2");
    let with = |list: &[(_, f64)]| read_with(&model.0, list, &[]).unwrap().model.id;
    let forth = with(&[(one.clone(), 1.0), (two.clone(), 1.0)]);
    let back = with(&[(two.clone(), 1.0), (one.clone(), 1.0)]);
    let half = with(&[(one.clone(), 1.0), (two, 0.5)]);
    let ids = [before, forth, back, half, with(&[(one, 1.0)])];
    for (index, id) in ids.iter().enumerate() {
        assert!(!ids[..index].contains(id));
    }
}

#[test]
fn an_adapters_folder_is_its_config_and_weights() {
    let model = folder(&config("llama", ""));
    let adapter = Folder::new();
    adapter.write("adapter_config.json", "{}");
    let digest = || {
        read_with(&model.0, &[(adapter.0.clone(), 1.0)], &[]).map(|p| p.model.adapters[0].digest)
    };
    assert_eq!(digest().unwrap_err().code(), Code::ModelMissing);
    adapter.write("adapters.safetensors", b"a");
    let before = digest().unwrap();
    adapter.write("0000100_adapters.safetensors", b"checkpoint");
    assert_eq!(digest().unwrap(), before);
    adapter.write("adapter_config.json", "{ }");
    assert_ne!(digest().unwrap(), before);
    adapter.write("adapter_model.safetensors", b"a");
    assert_eq!(digest().unwrap_err().code(), Code::ModelMissing);
    let infinite = read_with(&model.0, &[(adapter.0.clone(), f64::INFINITY)], &[]);
    assert_eq!(infinite.unwrap_err().code(), Code::LocalUsage);
}

#[test]
fn shards_are_those_of_the_index() {
    let model = folder(&config("llama", ""));
    let index = |files: &str| {
        model.write(
            "model.safetensors.index.json",
            format!(r#"{{"metadata": {{}}, "weight_map": {{{files}}}}}"#),
        );
        read(&model.0)
    };
    model.write("b.safetensors", b"b");
    model.write("a.safetensors", b"a");
    let profile = index(r#""x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors""#);
    let names: Vec<_> = profile
        .unwrap()
        .weights
        .into_iter()
        .map(|f| f.name)
        .collect();
    assert_eq!(names, ["a.safetensors", "b.safetensors"]);
    assert_eq!(code(index(r#""x": "c.safetensors""#)), Code::ModelMissing);
    for bad in ["../a.safetensors", "/etc/passwd", "", "..", "a\\\\b", "c:a"] {
        assert_eq!(
            code(index(&format!(r#""x": "{bad}""#))),
            Code::ModelMalformed,
            "{bad}"
        );
    }
    assert_eq!(code(index("")), Code::ModelMalformed);
}

#[test]
fn missing_files_are_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let model = folder(&config("llama", ""));
        fs::remove_file(model.0.join(name)).unwrap();
        let error = read(&model.0).unwrap_err();
        assert_eq!(error.code(), Code::ModelMissing);
        assert!(error.to_string().contains(name), "{error}");
    }
    let model = folder(&config("llama", ""));
    fs::remove_file(model.0.join("tokenizer_config.json")).unwrap();
    assert!(read(&model.0).unwrap().tokenizer.specials.is_empty());
    assert_eq!(code(read(&model.0.join("absent"))), Code::ModelMissing);
    assert_eq!(
        code(read(&model.0.join("model.safetensors"))),
        Code::ModelMalformed
    );
}

#[test]
fn a_template_file_outranks_the_configs() {
    let model = folder(&config("llama", ""));
    let digest = || read(&model.0).unwrap().tokenizer.chat_template;
    let stated = digest();
    model.write("chat_template.jinja", "{{ x }}");
    assert_eq!(digest(), stated);
    model.write("chat_template.jinja", "{{ y }}");
    assert_ne!(digest(), stated);
}

#[test]
fn kvid_files_come_back() {
    let yarn = r#""rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}"#;
    let llama3 = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 2048}"#;
    let mut profiles = vec![
        read(&fixture()).unwrap(),
        read(&folder(&config("llama", yarn)).0).unwrap(),
        read(&folder(&config("llama", llama3)).0).unwrap(),
        read(&folder(&config("qwen3_5_text", "")).0).unwrap(),
        read(&folder(&config("llama", r#""rope_scaling": {"type": "linear", "factor": 2}"#)).0).unwrap(),
        read(&folder(&config("gemma4_text", r#""head_dim": 16,
            "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"], "rope_parameters":
            {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e6}}"#)).0).unwrap(),
        read(&folder(&config("deepseek_v3", r#""kv_lora_rank": 8, "qk_rope_head_dim": 4, "num_kv_shared_layers": 1"#)).0).unwrap(),
        Gguf::new("phi3")
            .tensor("rope_factors_long.weight", &[2.0; 8])
            .tensor("rope_factors_short.weight", &[1.0; 8])
            .read()
            .unwrap(),
        Gguf::new("llama").tensor("rope_freqs.weight", &[1.5; 8]).read().unwrap(),
    ];
    let adapter = fixture().join("config.json");
    profiles.push(read_with(&fixture(), &[(adapter, 0.25)], &[]).unwrap());
    let folder = Folder::new();
    for mut profile in profiles {
        let path = folder.write("model.kvid", profile.to_kvid());
        profile.geometry.architecture = None; // a GGUF file's own, which a profile does not hold
        assert_eq!(read(&path).unwrap(), profile);
    }
}

#[test]
fn kvid_files_are_read_strictly() {
    let profile = read(&fixture()).unwrap();
    let text = profile.to_kvid();
    let folder = Folder::new();
    let file = |content: &str| read(&folder.write("m.kvid", content));
    let digest = profile.weights[0].digest.to_string();
    for (from, to) in [
        ("\"kvid\": 1", "\"kvid\": 2"),
        ("\"kvid\": 1", "\"kvid\": 1, \"more\": 0"),
        ("\"kvid\": 1", "\"kvid\": 1, \"rope\": []"),
        ("\"window\": 0", "\"windows\": 0"),
        ("\"window\": 0", "\"window\": -1"),
        ("\"window\": 0", "\"window\": 0.0"),
        ("\"pairing\": \"half\"", "\"pairing\": \"third\""),
        ("40c3880000000000", "40C3880000000000"),
        ("40c3880000000000", "40c388000000000"),
        ("40c3880000000000", "7ff0000000000000"),
        ("[0, 1, 2", "[0, 2, 1"),
        ("[0, 1, 2", "[0, 1, 99"),
        ("\"length\": 80", "\"length\": 81"),
        ("model.safetensors", "../model.safetensors"),
        ("\"vocab_size\"", "\"vocabsize\""),
        (digest.as_str(), &digest.to_uppercase()),
    ] {
        assert!(text.contains(from), "{from}");
        assert_eq!(
            code(file(&text.replacen(from, to, 1))),
            Code::ModelMalformed,
            "{from} → {to}"
        );
    }
    for end in (0..text.len()).step_by(7) {
        assert!(file(&text[..end]).is_err());
    }
    let other = Digest::flip(&profile);
    assert_eq!(
        code(file(&text.replace(&other.0, &other.1))),
        Code::ModelMalformed
    );
}

/// A statement about a model does not stand in the model's place (model-id-v1 MOD-K-4).
#[test]
fn a_profile_is_told_by_its_name_alone() {
    let folder = Folder::new();
    let text = read(&fixture()).unwrap().to_kvid();
    read(&folder.write("model.kvid", &text)).unwrap();
    for name in ["model.gguf", "model.json", "model", "kvid"] {
        let path = folder.write(name, &text);
        assert_eq!(code(read(&path)), Code::ModelMalformed, "{name}");
    }
    let gguf = folder.write("gguf.kvid", Gguf::new("llama").bytes());
    assert_eq!(code(read(&gguf)), Code::ModelMalformed);
}

#[test]
fn adapters_and_options_beside_a_kvid_come_after_its_own() {
    let [first, second] = ["config.json", "tokenizer.json"].map(|name| fixture().join(name));
    let both = [(first.clone(), 0.25), (second.clone(), 0.5)];
    let whole = read_with(&fixture(), &both, &[]).unwrap();
    let folder = Folder::new();
    let held = read_with(&fixture(), &both[..1], &[]).unwrap().to_kvid();
    let kvid = folder.write("model.kvid", held);
    assert_eq!(read_with(&kvid, &both[1..], &[]).unwrap(), whole);
    let back = read_with(&fixture(), &[(second, 0.5), (first, 0.25)], &[]).unwrap();
    assert_ne!(back.model.id, whole.model.id);
    let turned = ["rope-freq-base=500000"];
    let expected = read_with(&fixture(), &both[..1], &turned).unwrap();
    let found = read_with(&kvid, &[], &turned).unwrap();
    assert_eq!(found.rope, expected.rope);
    assert_ne!(found.rope, whole.rope);
}

/// The model id, and one with another last digit.
struct Digest;

impl Digest {
    fn flip(profile: &ModelProfile) -> (String, String) {
        let id = profile.model.id.to_string();
        let last = if id.ends_with('0') { '1' } else { '0' };
        let other = format!("{}{last}", &id[..63]);
        (id, other)
    }
}

#[test]
fn the_cache_spares_hashing_and_survives_damage() {
    let model = folder(&config("llama", ""));
    let place = Folder::new();
    let cache = HashCache::at(place.0.join("ids"));
    let id = |cache: &HashCache| {
        let options = RuntimeOptions::default();
        let profile = ModelProfile::read(&model.0, &[], &options, cache, &|_, _| {});
        profile.unwrap().model.id
    };
    let weights = model.0.join("model.safetensors");
    let past = SystemTime::now() - Duration::from_secs(3600);
    // what is kept of a change, if the machine did not meanwhile stand still for as long as one is young
    let kept = |change: &dyn Fn()| loop {
        let _absent = fs::remove_dir_all(place.0.join("ids"));
        let started = Instant::now();
        change();
        let found = id(&cache);
        let entries = fs::read_dir(place.0.join("ids")).map_or(0, Iterator::count);
        if started.elapsed() < Duration::from_millis(1_900) {
            break (found, entries);
        }
    };
    let set = |content: &[u8]| {
        fs::write(&weights, content).unwrap();
        File::options()
            .write(true)
            .open(&weights)
            .unwrap()
            .set_modified(past)
            .unwrap();
    };
    // A file that changed a moment ago is not kept, and the system knows when it changed.
    let (before, young) = kept(&|| fs::write(&weights, b"weights").unwrap());
    assert_eq!(young, 0);
    assert_eq!(kept(&|| set(b"weights")), (before, 0));
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(id(&cache), before);
    assert_eq!(fs::read_dir(place.0.join("ids")).unwrap().count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(place.0.join("ids"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    let entry = fs::read_dir(place.0.join("ids")).unwrap().next().unwrap();
    let entry = entry.unwrap().path();
    let kept = fs::read_to_string(&entry).unwrap();
    // Another digest in the entry is believed, which shows that it is used.
    let (digest, facts) = kept.split_once('\n').unwrap();
    fs::write(&entry, format!("{}\n{facts}", "0".repeat(digest.len()))).unwrap();
    assert_ne!(id(&cache), before);
    assert_eq!(id(&HashCache::off()), before);
    // A damaged entry is not.
    let cut = &facts[..facts.len() - 1];
    fs::write(&entry, format!("{}\n{cut}", "0".repeat(digest.len()))).unwrap();
    assert_eq!(id(&cache), before);
    fs::write(&entry, &kept).unwrap();
    // Other bytes in place, and the time set back: the system knows when the file was changed.
    #[cfg(unix)]
    {
        set(b"weightz");
        assert_ne!(id(&cache), before);
    }
    // Another time is another file.
    fs::write(&weights, b"weights").unwrap();
    assert_eq!(id(&cache), before);
}

#[test]
fn progress_ends_at_the_whole() {
    let model = folder(&config("llama", ""));
    model.write("model.safetensors", vec![7; 9 << 20]);
    let seen = std::sync::Mutex::new(Vec::new());
    let options = RuntimeOptions::default();
    ModelProfile::read(
        &model.0,
        &[],
        &options,
        &HashCache::off(),
        &|done, total| {
            seen.lock().unwrap().push((done, total));
        },
    )
    .unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted());
    assert!(seen.len() >= 2);
    assert_eq!(*seen.last().unwrap(), (9 << 20, 9 << 20));
}
