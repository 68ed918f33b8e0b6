//! Predicted sizes beside those of states that were really sealed.

use kvcap_testkit::profile::{Entry, made};

use crate::support::{Folder, KEYS};

const QUICK: &str = "--calibrate 1048576";

/// Predicted bytes by encoding.
fn predicted(folder: &Folder, line: &str) -> Vec<(String, u64)> {
    let object = folder.json(&format!("scale {line} {QUICK}"));
    let rows = object["predicted"].as_array().unwrap();
    rows.iter()
        .map(|row| {
            for time in ["seal_seconds", "open_seconds"] {
                assert!(row[time].as_f64().unwrap() > 0.0, "{row}");
            }
            let name = row["encoding"].as_str().unwrap().to_owned();
            (name, row["file_bytes"].as_u64().unwrap())
        })
        .collect()
}

/// Every prediction is within 2 % of what sealing `state` makes.
fn check(folder: &Folder, state: &str, model: &str, scale: &str) {
    let predicted = predicted(folder, &format!("--model {model} {scale}"));
    assert_eq!(predicted.len(), 8);
    for (encoding, bytes) in predicted {
        folder.ok(&format!(
            "seal {state} -f -o a.kvcap --model {model} --ttl 1h --encoding {encoding} --guard off {KEYS} {}",
            if scale.contains("llama") { "" } else { "--tokens tokens.u32" }
        ));
        let real = u64::try_from(folder.read("a.kvcap").len()).unwrap();
        let off = (bytes.abs_diff(real) * 1000).div_ceil(real);
        assert!(
            off <= 20,
            "{state} {encoding}: {bytes} predicted, {real} real"
        );
    }
}

#[test]
fn predictions_are_within_two_percent_of_sealed_states() {
    let folder = Folder::new();
    folder.write("tokens.u32", &0_u32.to_le_bytes().repeat(16));
    for (fixture, scale) in [
        ("mlx032_f16.safetensors", "--runtime mlx-lm --kv-type f16"),
        ("mlx032_q4.safetensors", "--runtime mlx-lm --kv-type q4_g64"),
        ("hf_f16.safetensors", "--runtime hf --kv-type f16"),
        (
            "llama_ggsq3_f16_fa.bin",
            "--runtime llama-cpp --kv-type f16",
        ),
        ("llama_ggsq3_q4_0.bin", "--runtime llama-cpp --kv-type q4_0"),
    ] {
        folder.take(fixture, "state");
        check(&folder, "state", "model", &format!("{scale} --windows 16"));
    }
    // a made state of other geometry, with thousands of tokens
    let tokens = folder.made(16_777_216);
    folder.write(
        "tokens.u32",
        &0_u32.to_le_bytes().repeat(usize::try_from(tokens).unwrap()),
    );
    let scale = format!("--runtime mlx-lm --kv-type bf16 --windows {tokens}");
    check(&folder, "made", "made.kvid", &scale);
}

/// A profile beside the model gives each bank a rate of its own, in what is predicted as in what is sealed.
#[test]
fn predictions_know_the_profile() {
    let folder = Folder::new();
    folder.write("tokens.u32", &0_u32.to_le_bytes().repeat(16));
    folder.take("hf_f16.safetensors", "state");
    let scale = "--runtime hf --kv-type f16 --windows 16";
    let line = format!("--model model {scale}");
    let small = |predicted: Vec<(String, u64)>| {
        let found = predicted.into_iter().find(|(name, _)| name == "small");
        found.unwrap().1
    };
    let without = small(predicted(&folder, &line));
    let id = kvcap_testkit::model(&folder.path("model"))
        .unwrap()
        .model
        .id;
    let entries: Vec<Entry> = (0..6)
        .flat_map(|layer| [0, 1].map(|role| Entry::new(layer, role, 1, 2, 64)))
        .collect();
    // a profile whose only point has more for some banks than a short last frame of them can hold
    let rates = (0..12).map(|at| if at < 6 { 24 } else { 488 }).collect();
    folder.write(
        "model/own.kvtc",
        &made(id.0, &entries, &[(1_000_000, rates)]),
    );
    assert_ne!(small(predicted(&folder, &line)), without);
    check(&folder, "state", "model", scale);
}

#[test]
fn recurrent_layers_are_counted_as_a_saved_state_holds_them() {
    let folder = Folder::new();
    folder.ok("model-id model -o any.kvid");
    let mut kvid: serde_json::Value = serde_json::from_slice(&folder.read("any.kvid")).unwrap();
    let unknown = serde_json::json!({"kind": "unknown"});
    kvid["geometry"]["layers"] = vec![unknown; 64].into();
    folder.write("any.kvid", kvid.to_string().as_bytes());
    folder.take("mlx032_hybrid.safetensors", "state");
    folder.write("tokens.u32", &0_u32.to_le_bytes().repeat(9));
    let scale = "--runtime mlx-lm --kv-type f16";
    let without = format!("scale --model any.kvid {scale} --windows 9 {QUICK}");
    folder.refused(&without, 931, 1);
    let of = |windows: u64| format!("{scale} --windows {windows} --state state");
    check(&folder, "state", "any.kvid", &of(9));
    // attention grows with the tokens, what recurs does not
    let line = |windows| format!("--model any.kvid {}", of(windows));
    let [short, long, longer] =
        [1 << 14, 2 << 14, 3 << 14].map(|n| predicted(&folder, &line(n))[0].1);
    let (first, second) = (long - short, longer - long);
    assert!(
        first > 0 && first.abs_diff(second) * 100 < first,
        "{short} {long} {longer}"
    );
}

#[test]
fn a_table_and_what_is_refused() {
    let folder = Folder::new();
    let text = folder.ok(&format!("scale --model model {QUICK}")).out;
    for window in ["16,384", "24,576", "32,768", "65,536"] {
        assert_eq!(text.matches(window).count(), 8, "{text}");
    }
    let object = folder.json(&format!("scale --model model {QUICK} --windows 2K,1K"));
    let rows = object["predicted"].as_array().unwrap();
    let sizes = |tokens: u64| -> Vec<u64> {
        let of = rows.iter().filter(|row| row["tokens"] == tokens);
        of.map(|row| row["file_bytes"].as_u64().unwrap()).collect()
    };
    let (short, long) = (sizes(1024), sizes(2048));
    assert_eq!((short.len(), long.len()), (8, 8));
    assert!(short.iter().zip(&long).all(|(short, long)| short < long));
    folder.refused("scale --model model --windows 0", 944, 2);
    folder.refused(
        "scale --model model --runtime raw --calibrate 1048576",
        944,
        2,
    );
    folder.refused(
        "scale --model model --kv-type q8_0 --calibrate 1048576",
        922,
        1,
    );
    folder.refused("scale --model nowhere", 932, 4);
}
