//! One runtime's state as another's: mlx-lm, llama.cpp and transformers, of the same prompt and weights.

use std::fs;

use kvcap::Role;
use kvcap_codecs::to_f32;
use kvcap_states::{Hints, detect, parse};
use serde_json::Value;

use crate::support::{Folder, KEYS, Ran, TRUST, fixture};

/// The first frame of each bank, as numbers.
type Banks = Vec<((u32, Role), Vec<f32>)>;

/// Banks by layer and role, from a file of any runtime with the heads of the fixtures' model.
fn banks(folder: &Folder, file: &[u8]) -> Banks {
    let options = kvcap_models::RuntimeOptions::default();
    let cache = kvcap_models::HashCache::off();
    let model = folder.path("model");
    let profile = kvcap_models::ModelProfile::read(&model, &[], &options, &cache, &|_, _| {});
    let geometry = profile.unwrap().geometry;
    let state = parse(detect(&file).unwrap(), &file, Hints::Model(&geometry)).unwrap();
    let (mut frame, mut values) = (Vec::new(), Vec::new());
    let mut banks: Banks = state
        .banks
        .iter()
        .map(|placed| {
            placed.read_frame(&file, 0, &mut frame).unwrap();
            to_f32(placed.bank.dtype, &frame, &mut values).unwrap();
            ((placed.bank.layer, placed.bank.role), values.clone())
        })
        .collect();
    banks.sort_by_key(|bank| bank.0);
    banks
}

/// The largest relative RMSE between banks of two states.
fn distance(a: &Banks, b: &Banks) -> f32 {
    assert_eq!((a.len(), b.len()), (12, 12));
    let pairs = a.iter().zip(b).map(|((name, a), (other, b))| {
        assert_eq!((name, a.len()), (other, b.len()));
        let squares = |it: &mut dyn Iterator<Item = f32>| it.map(|x| x * x).sum::<f32>();
        let error = squares(&mut a.iter().zip(b).map(|(a, b)| a - b));
        (error / squares(&mut a.iter().copied())).sqrt()
    });
    pairs.fold(0.0, f32::max)
}

/// A folder with `gguf.kvid`, the model as a GGUF file would have it: pairs interleaved.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.ok("model-id model -o gguf.kvid");
    edit(&folder, "gguf.kvid", |kvid| {
        kvid["rope"][0]["pairing"] = "interleaved".into();
    });
    folder
}

fn edit(folder: &Folder, name: &str, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&folder.read(name)).unwrap();
    change(&mut value);
    folder.write(name, value.to_string().as_bytes());
}

/// Seals a state file as `a.kvcap`.
fn seal(folder: &Folder, state: &[u8], model: &str) {
    folder.write("state", state);
    let tokens = match detect(&state).unwrap().name() {
        "llama-cpp" => "",
        _ => "--tokens prompt.json",
    };
    folder.ok(&format!(
        "seal state -f -o a.kvcap --model {model} --ttl 1h {tokens} {KEYS}"
    ));
}

fn open(folder: &Folder, more: &str) -> Vec<u8> {
    folder.ok(&format!(
        "open a.kvcap --accept-unchecked model -f -o out {TRUST} --wrap-key reader.key {more}"
    ));
    folder.read("out")
}

fn refused(folder: &Folder, more: &str, code: u16) -> Ran {
    let exit = if code == 944 || code == 925 { 2 } else { 1 };
    let line =
        format!("open a.kvcap --accept-unchecked model -o x {TRUST} --wrap-key reader.key {more}");
    folder.refused(&line, code, exit)
}

#[test]
fn mlx_and_transformers_differ_in_their_files_alone() {
    let folder = folder();
    for name in ["mlx032_f16", "mlx031_f16"] {
        let mlx = fs::read(fixture(&format!("{name}.safetensors"))).unwrap();
        seal(&folder, &mlx, "model");
        let hf = open(&folder, "--to hf --target-model model");
        assert_eq!(detect(&hf).unwrap().name(), "hf");
        assert_eq!(distance(&banks(&folder, &mlx), &banks(&folder, &hf)), 0.0);
        seal(&folder, &hf, "model");
        for format in ["mlx-lm-0.32", "mlx-lm-0.31"] {
            let to = format!("--to mlx-lm --target-model model --target-format {format}");
            let back = open(&folder, &to);
            assert_eq!(distance(&banks(&folder, &mlx), &banks(&folder, &back)), 0.0);
        }
    }
    // and both are what transformers itself computed
    let theirs = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let mlx = fs::read(fixture("mlx032_f16.safetensors")).unwrap();
    assert!(distance(&banks(&folder, &theirs), &banks(&folder, &mlx)) < 0.002);
}

#[test]
fn mlx_becomes_what_llama_cpp_computed_and_comes_back() {
    let folder = folder();
    let mlx = fs::read(fixture("mlx032_f16.safetensors")).unwrap();
    seal(&folder, &mlx, "model");
    let to = "--to llama-cpp --target-model gguf.kvid";
    for (more, theirs, most) in [
        ("", "f16_fa", 0.002),
        ("--flash-attn off", "f16_vtrans", 0.002),
        // llama.cpp computed its later layers from the quantized ones before
        ("--kv-type q4_0", "q4_0", 0.15),
    ] {
        let newest = open(&folder, &format!("{to} {more}"));
        let ours = open(&folder, &format!("{to} --target-format ggsq-3 {more}"));
        // the newest version says how its rows are rotated, and is the same otherwise
        assert_eq!((newest[4], newest.len()), (4, ours.len() + 8));
        let rotation = if more.contains("q4_0") { 64_u32 } else { 0 };
        let at = 4 * (3 + 16) + 8 + 16 * 12 + 8;
        assert_eq!(newest[at..at + 8], rotation.to_le_bytes().repeat(2));
        assert_eq!(
            distance(&banks(&folder, &newest), &banks(&folder, &ours)),
            0.0
        );
        let theirs = fs::read(fixture(&format!("llama_ggsq3_{theirs}.bin"))).unwrap();
        // the same header, token ids, cells and layer headers: all but rows
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(ours[..296], theirs[..296]);
        // the stored rows themselves, in llama.cpp's pairs and rotation
        let found = distance(&banks(&folder, &theirs), &banks(&folder, &ours));
        assert!(found < most, "{more}: {found}");
    }
    let ours = open(&folder, to);
    let unpaired = distance(&banks(&folder, &mlx), &banks(&folder, &ours));
    assert!(unpaired > 0.5, "keys are in other pairs: {unpaired}");
    seal(&folder, &ours, "gguf.kvid");
    let back = open(&folder, "--to mlx-lm --target-model model");
    assert_eq!(distance(&banks(&folder, &mlx), &banks(&folder, &back)), 0.0);
    // without naming a runtime the state is that of the sealed one, with keys as they are
    assert!(open(&folder, "--flash-attn on") == ours);
    let channels = open(&folder, "--flash-attn off");
    seal(&folder, &channels, "gguf.kvid");
    assert!(open(&folder, "--flash-attn on") == ours);
}

#[test]
fn quantized_llama_cpp_caches_are_rotated_and_unrotated() {
    let folder = folder();
    let hf = fs::read(fixture("hf_f16.safetensors")).unwrap();
    let theirs = fs::read(fixture("llama_ggsq3_q4_0.bin")).unwrap();
    seal(&folder, &theirs, "gguf.kvid");
    let plain = open(&folder, "--to hf --target-model model");
    let found = distance(&banks(&folder, &hf), &banks(&folder, &plain));
    assert!(found < 0.12, "q4_0, un-rotated: {found}");
    let wrong = "--to hf --target-model model --target-opt hadamard=off";
    assert!(
        open(&folder, wrong) == plain,
        "an option of llama.cpp alone"
    );
    // from one quantization to another inside llama.cpp
    let floats = open(&folder, "--kv-type f32");
    let wide = open(&folder, "--kv-type q8_0");
    seal(&folder, &wide, "gguf.kvid");
    let back = open(&folder, "--kv-type f32");
    let found = distance(&banks(&folder, &floats), &banks(&folder, &back));
    assert!(found < 0.01, "q8_0: {found}");
    // a cache that was not rotated is not un-rotated, and stays so
    folder.write("state", &theirs);
    folder.ok(&format!(
        "seal state -f -o a.kvcap --model gguf.kvid --ttl 1h {KEYS} --runtime-opt hadamard=off"
    ));
    let stored = banks(&folder, &theirs);
    let as_floats = banks(&folder, &open(&folder, "--kv-type f32"));
    assert_eq!(distance(&stored, &as_floats), 0.0);
}

#[test]
fn a_chain_becomes_what_one_capsule_does() {
    let folder = folder();
    let to_llama = "--to llama-cpp --target-model gguf.kvid";
    let to_mlx = "--to mlx-lm --target-model model";
    let q8 = "--kv-type q8_g64";
    for (state, model, encoding, targets) in [
        (
            "mlx032_f16.safetensors",
            "model",
            "exact",
            &[
                to_llama.to_owned(),
                format!("{to_llama} --flash-attn off"),
                format!("{to_llama} --kv-type q8_0"),
                "--to hf --target-model model".to_owned(),
                q8.to_owned(),
            ][..],
        ),
        (
            "hf_f16.safetensors",
            "model",
            "q8",
            &[format!("{to_mlx} {q8}"), to_mlx.to_owned()],
        ),
        (
            "llama_ggsq3_f16_vtrans.bin",
            "gguf.kvid",
            "exact",
            &[to_mlx.to_owned(), "--flash-attn on".to_owned()],
        ),
        (
            "llama_ggsq3_q4_0.bin",
            "gguf.kvid",
            "exact",
            &[to_mlx.to_owned(), "--kv-type q8_0".to_owned()],
        ),
    ] {
        seal(&folder, &fs::read(fixture(state)).unwrap(), model);
        folder.ok(&format!(
            "truncate a.kvcap -f -o root.kvcap --tokens 7 --encoding {encoding} {TRUST} {KEYS}"
        ));
        let tokens = match state.starts_with("llama") {
            true => "",
            false => "--tokens prompt.json",
        };
        let again =
            format!("seal state -f --model {model} --ttl 1h {tokens} {KEYS} --encoding {encoding}");
        folder.ok(&format!("{again} -o a.kvcap"));
        let expected: Vec<_> = targets.iter().map(|to| open(&folder, to)).collect();
        folder.ok(&format!("{again} -o a.kvcap {TRUST} --parent root.kvcap"));
        for (to, expected) in targets.iter().zip(expected) {
            for threads in [1, 3] {
                let found = open(&folder, &format!("{to} --threads {threads}"));
                assert!(found == expected, "{state} {to}, {threads} threads");
            }
        }
    }
}

#[test]
fn another_model_is_refused_unless_danger_is_asked_for() {
    let folder = folder();
    let mlx = fs::read(fixture("mlx032_f16.safetensors")).unwrap();
    seal(&folder, &mlx, "model");
    let model = |name: &str, file: &str, change: &dyn Fn(&mut Value)| {
        let to = folder.path(name);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(folder.path("model")).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
        edit(&folder, &format!("{name}/{file}"), change);
    };
    model("longer", "config.json", &|c| {
        c["max_position_embeddings"] = 4096.into()
    });
    let ran = refused(&folder, "--to hf --target-model longer", 601);
    assert!(ran.err.contains("nobody vouches"), "{}", ran.err);
    let same = open(&folder, "--to hf --target-model model");
    let danger = "--danger-unequal-models";
    assert!(open(&folder, &format!("--to hf --target-model longer {danger}")) == same);
    // danger lifts the identity alone
    model("turned", "config.json", &|c| {
        c["rope_parameters"]["rope_theta"] = 20_000.0.into();
    });
    refused(
        &folder,
        &format!("--to hf --target-model turned {danger}"),
        603,
    );
    model("wider", "config.json", &|c| {
        c["num_key_value_heads"] = 4.into()
    });
    refused(
        &folder,
        &format!("--to hf --target-model wider {danger}"),
        923,
    );
    model("worded", "tokenizer.json", &|t| {
        let vocab = t["model"]["vocab"].as_object_mut().unwrap();
        let word = vocab.keys().next_back().unwrap().clone();
        let id = vocab.remove(&word).unwrap();
        vocab.insert("another word".to_owned(), id);
    });
    refused(
        &folder,
        &format!("--to hf --target-model worded {danger}"),
        602,
    );
    refused(&folder, "--to raw --target-model model", 922);
    refused(&folder, "--to hf --target-model model --kv-type q8_0", 922);
    refused(
        &folder,
        "--to llama-cpp --target-model gguf.kvid --target-format ggsn-10",
        922,
    );
    let vague = "--to llama-cpp --target-model gguf.kvid --kv-type q8_0 --flash-attn off";
    refused(&folder, vague, 922);
    refused(&folder, "--to hf", 944);
    refused(&folder, "--to hf --target-model model --layers 0..1", 944);
    // llama.cpp's file holds the prompt
    folder.ok(&format!(
        "seal state -f -o a.kvcap --model model --ttl 1h {KEYS} --danger-no-prefix"
    ));
    refused(&folder, "--to llama-cpp --target-model gguf.kvid", 925);
}
