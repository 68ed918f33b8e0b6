//! States of every runtime through seal, verify and open.

use super::support::{Folder, KEYS, SEAL, TRUST};

const STATES: [(&str, &str); 9] = [
    ("llama_ggsq3_f16_fa.bin", "llama.cpp"),
    ("llama_ggsq3_f16_vtrans.bin", "llama.cpp"),
    ("llama_ggsn10_q8_0.bin", "llama.cpp"),
    ("llama_ggsq3_q4_0.bin", "llama.cpp"),
    ("mlx031_f16.safetensors", "mlx-lm"),
    ("mlx031_q8.safetensors", "mlx-lm"),
    ("mlx032_f16.safetensors", "mlx-lm"),
    ("mlx032_q4.safetensors", "mlx-lm"),
    ("hf_f16.safetensors", "transformers"),
];

#[test]
fn exact_states_come_back_byte_for_byte() {
    let folder = Folder::new();
    for (name, runtime) in STATES {
        for extra in ["", "--compress", "--compress=fine", "--suite aes-256-gcm"] {
            folder.take(name, "state");
            let prompt = match runtime {
                "llama.cpp" => "",
                _ => "--tokens prompt.json",
            };
            let sealed = folder.json(&format!("seal state -f {SEAL} {prompt} {extra}"));
            assert_eq!(sealed["runtime"], runtime, "{name}");
            let verified = folder.json(&format!("verify a.kvcap {TRUST} --model model"));
            assert_eq!(verified["body_checked"], true);
            assert_eq!(verified["model_compared"], true);
            assert_eq!(verified["capsule_id"], sealed["capsule_id"]);
            folder.ok(&format!(
                "open a.kvcap -f -o back {TRUST} --wrap-key reader.key --model model --tokens prompt.json"
            ));
            // scales that a quantizer leaves in empty rows are not content
            if sealed["padding_nonzero"]["scales"] == 0 {
                assert!(
                    folder.read("back") == folder.read("state"),
                    "{name} {extra}"
                );
            } else {
                assert!(name.starts_with("mlx032_q"), "{name}");
                assert_eq!(folder.read("back").len(), folder.read("state").len());
                folder.ok(&format!("seal back -f {SEAL} {prompt}"));
                folder.ok(&format!(
                    "open a.kvcap --accept-unchecked model -f -o again {TRUST} --wrap-key reader.key"
                ));
                assert!(folder.read("again") == folder.read("back"), "{name}");
            }
        }
    }
}

#[test]
fn the_padding_of_compressed_banks_is_chosen() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "state");
    let seal = format!("seal state -f {SEAL} --tokens prompt.json");
    let [exact, default, padme, fine] = [
        ("", ""),
        ("--compress", "hardly more"),
        ("--compress=padme", "hardly more"),
        ("--compress=fine", "known prompts"),
    ]
    .map(|(compress, note)| {
        assert!(folder.ok(&format!("{seal} {compress}")).out.contains(note));
        folder.read("a.kvcap").len()
    });
    assert!(fine < padme && padme < exact, "{fine}, {padme}, {exact}");
    assert_eq!(default, padme);
    // what is sealed again is padded as it is asked for then
    for (compress, len) in [
        ("", exact),
        ("--compress", padme),
        ("--compress=fine", fine),
    ] {
        folder.ok(&format!(
            "compact a.kvcap -f -o b.kvcap {KEYS} --trust issuer.key.pub {compress}"
        ));
        let again = folder.read("b.kvcap").len();
        assert_eq!(again, len, "{compress}");
    }
    for verb in [&seal, "compact a.kvcap -o c.kvcap"] {
        folder.refused(&format!("{verb} --compress=other"), 944, 2);
    }
}

#[test]
fn lossy_states_are_smaller_and_carry_receipts() {
    let folder = Folder::new();
    folder.take("mlx031_f16.safetensors", "state");
    let exact = inspect_total(&folder, "exact");
    for (encoding, at_most) in [("q8", 0.54), ("k8v4", 0.42), ("q4", 0.29), ("q4c", 0.34)] {
        let sealed = inspect_total(&folder, encoding);
        assert!(sealed <= exact * at_most, "{encoding}: {sealed} of {exact}");
        // what was lost is for those who can open it
        let seen = folder.json(&format!("inspect a.kvcap {TRUST}")).to_string();
        assert!(!seen.contains("rmse"), "{seen}");
        let opening =
            format!("open a.kvcap -f -o back {TRUST} --wrap-key reader.key --model model");
        let worst = &folder.json(&opening)["worst_receipt"];
        let rmse = worst["relative_rmse"].as_f64().unwrap();
        assert!(rmse > 0.0 && rmse < 0.2, "{encoding}: {worst}");
        assert!(
            worst["cosine"].as_f64().unwrap() > 0.98,
            "{encoding}: {worst}"
        );
        folder.ok(&format!(
            "open a.kvcap --accept-unchecked model -f -o back {TRUST} --wrap-key reader.key"
        ));
        assert_eq!(folder.read("back").len(), folder.read("state").len());
        assert!(folder.read("back") != folder.read("state"));
        let open = format!("open a.kvcap --accept-unchecked model {TRUST} --wrap-key reader.key");
        let checked = folder.json(&format!("{open} -f -o back --check-quality state"));
        assert_eq!(checked["receipts_checked"], 12);
        folder.refused(&format!("{open} -o x --check-quality back"), 906, 1);
    }
}

fn inspect_total(folder: &Folder, encoding: &str) -> f64 {
    folder.ok(&format!(
        "seal state -f {SEAL} --tokens prompt.json --encoding {encoding}"
    ));
    let seen = folder.json("inspect a.kvcap");
    seen["unverified"]["banks_total"]["encoded_bytes"]
        .as_f64()
        .unwrap()
}

#[test]
fn any_safetensors_file_is_carried_raw() {
    let folder = Folder::new();
    folder.take("mlx032_hybrid.safetensors", "state");
    folder.ok(&format!(
        "seal state {SEAL} --runtime raw --danger-no-prefix"
    ));
    folder.ok(&format!(
        "open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key"
    ));
    assert!(folder.read("back") == folder.read("state"));
}

#[test]
fn sections_travel_beside_the_state() {
    let folder = Folder::new();
    folder.write("history.json", b"[{\"role\": \"user\"}]");
    folder.write("agent.bin", &[0, 255, 10]);
    folder.ok(&format!(
        "seal state.bin {SEAL} --history history.json --agent-state agent.bin"
    ));
    let open = format!("open a.kvcap --accept-unchecked model {TRUST} --wrap-key reader.key");
    folder.ok(&format!("{open} --section history -o h"));
    folder.ok(&format!("{open} --section agent-state -o s"));
    folder.ok(&format!("{open} --section tokens -o t.u32"));
    assert_eq!(folder.read("h"), folder.read("history.json"));
    assert_eq!(folder.read("s"), folder.read("agent.bin"));
    // the tokens come out in a form that --tokens takes
    folder.ok(&format!("{open} --tokens t.u32 -o back"));
    assert_eq!(folder.read("back"), folder.read("state.bin"));
    folder.refused(&format!("{open} --section nonsense -o n"), 810, 1);
}

#[test]
fn streams_are_inputs_and_outputs() {
    let folder = Folder::new();
    let state = folder.read("state.bin");
    let seal = SEAL.replace("a.kvcap", "-");
    let sealed = folder.pipe(&format!("seal - {seal}"), &state);
    assert_eq!(sealed.exit, 0, "{}", sealed.err);
    let capsule = sealed.stdout;
    let verified = folder.pipe(&format!("verify - {TRUST} --json"), &capsule);
    assert_eq!(verified.json()["body_checked"], true);
    // the header is enough for these, and nothing after it is waited for
    let header = folder.pipe(
        &format!("verify - {TRUST} --header-only --json"),
        &capsule[..8192],
    );
    assert_eq!(header.json()["body_checked"], false);
    assert_eq!(folder.pipe("inspect -", &capsule[..8192]).exit, 0);
    let opened = folder.pipe(
        &format!("open - -o - --accept-unchecked model {TRUST} --wrap-key reader.key"),
        &capsule,
    );
    assert_eq!(opened.exit, 0, "{}", opened.err);
    assert!(opened.stdout == state);
    assert!(opened.err.contains("written"), "the report goes to stderr");

    for (end, code) in [(capsule.len() - 1, 807), (100, 106), (10, 101)] {
        let line = format!("verify - {TRUST}");
        let exit = if code == 807 { 1 } else { 3 };
        folder
            .pipe(&line, &capsule[..end])
            .check_refused(&line, code, exit);
        let line = format!("open - -o - --accept-unchecked model {TRUST} --wrap-key reader.key");
        let cut = folder.pipe(&line, &capsule[..end]);
        cut.check_refused(&line, code, exit);
        assert!(cut.stdout.is_empty());
    }
    // stdout is the output's alone, whatever is asked for on it
    let line = format!("open - -o - --accept-unchecked model {TRUST} --wrap-key reader.key --json");
    let refused = folder.pipe(&line, &capsule[..capsule.len() - 1]);
    assert!(
        refused.stdout.is_empty() && refused.err.contains("\"code\":807"),
        "{}",
        refused.err
    );
    let longer = [&capsule[..], b"x"].concat();
    for line in [
        format!("verify - {TRUST}"),
        format!("open - -o - --accept-unchecked model {TRUST} --wrap-key reader.key"),
    ] {
        folder.pipe(&line, &longer).check_refused(&line, 108, 3);
    }
}

#[test]
fn several_recipients_each_open() {
    let folder = Folder::new();
    folder.ok("keygen wrap -o second.key");
    folder.ok(&format!("seal state.bin {SEAL} --wrap-key second.key"));
    for key in ["reader.key", "second.key"] {
        folder.ok(&format!(
            "open a.kvcap --accept-unchecked model -o {key}.out {TRUST} --wrap-key {key}"
        ));
        assert_eq!(folder.read(&format!("{key}.out")), folder.read("state.bin"));
    }
}

#[test]
fn a_model_may_be_a_kvid() {
    let folder = Folder::new();
    let id = folder.json("model-id model -o model.kvid");
    assert_eq!(
        folder.json("model-id model.kvid")["model_id"],
        id["model_id"]
    );
    let printed = folder.run("model-id model -o -");
    assert_eq!(
        (printed.exit, printed.stdout),
        (0, folder.read("model.kvid"))
    );
    folder.ok(&format!(
        "seal state.bin -o a.kvcap --model model.kvid --ttl 1h {KEYS}"
    ));
    folder.ok(&format!("verify a.kvcap {TRUST} --model model"));
    folder.ok(&format!("verify a.kvcap {TRUST} --model model.kvid"));
    // a profile in a model's place is not taken at its word
    folder.write("model.gguf", &folder.read("model.kvid"));
    folder.refused(
        &format!("verify a.kvcap {TRUST} --model model.gguf"),
        930,
        3,
    );
}

#[test]
fn tokens_are_json_or_binary() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "state");
    folder.ok(&format!("seal state {SEAL} --tokens prompt.json"));
    let ids: Vec<u32> = serde_json::from_slice(&folder.read("prompt.json")).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    folder.write("prompt.u32", &bytes);
    let open =
        format!("open a.kvcap --accept-unchecked model -f -o back {TRUST} --wrap-key reader.key");
    folder.ok(&format!("{open} --tokens prompt.u32"));
    folder.write("prompt.u32", &bytes[..bytes.len() - 4]);
    folder.refused(&format!("{open} --tokens prompt.u32"), 605, 1);
    folder.write("prompt.u32", &bytes[..bytes.len() - 1]);
    folder.refused(&format!("{open} --tokens prompt.u32"), 944, 2);
    folder.write("prompt.u32", b"");
    folder.refused(&format!("{open} --tokens prompt.u32"), 944, 2);
    folder.write("prompt.u32", b"[1, 2");
    folder.refused(&format!("{open} --tokens prompt.u32"), 944, 2);
    // a name that does not say the format, and a flag that does; the bytes do not
    folder.write("prompt", &bytes);
    folder.refused(&format!("{open} --tokens prompt"), 944, 2);
    folder.ok(&format!("{open} --tokens prompt --tokens-format u32"));
    folder.refused(
        &format!("{open} --tokens prompt --tokens-format json"),
        944,
        2,
    );
    folder.refused(
        &format!("{open} --tokens prompt.json --tokens-format u32"),
        944,
        2,
    );
    // text is never ids of four bytes, whatever its name
    folder.write("eight.u32", b"[123456]");
    folder.refused(&format!("{open} --tokens eight.u32"), 944, 2);
}

#[test]
fn layers_and_positions_come_out_as_plain_tensors() {
    let folder = Folder::sealed();
    let open = format!("open a.kvcap --accept-unchecked model {TRUST} --wrap-key reader.key");
    let whole = folder.json(&format!("{open} -o whole"));
    let part = folder.json(&format!("{open} -o part --layers 1..3 --positions 4..16"));
    let content = folder.read("part");
    let header = u64::from_le_bytes(content[..8].try_into().unwrap());
    let header = &content[8..8 + usize::try_from(header).unwrap()];
    let tensors: serde_json::Value = serde_json::from_slice(header).unwrap();
    let tensors: Vec<_> = tensors
        .as_object()
        .unwrap()
        .iter()
        .filter(|t| t.0 != "__metadata__")
        .collect();
    assert_eq!(tensors.len(), 4, "keys and values of two layers");
    for (name, tensor) in tensors {
        assert!(
            name.starts_with("layer.1.") || name.starts_with("layer.2."),
            "{name}"
        );
        assert_eq!(tensor["shape"].to_string(), "[2,12,64]");
    }
    assert!(part["read_bytes"].as_u64() < whole["read_bytes"].as_u64());
    for wrong in ["--layers 1..7", "--positions 4..17", "--layers 6..7"] {
        folder.refused(&format!("{open} -o x {wrong}"), 810, 1);
    }
    for wrong in [
        "--layers 3..1",
        "--layers 1",
        "--layers a..b",
        "--layers 0..1 --section tokens",
    ] {
        folder.refused(&format!("{open} -o x {wrong}"), 944, 2);
    }
}

#[test]
fn keys_and_values_may_have_codecs_of_their_own() {
    let folder = Folder::new();
    folder.ok(&format!(
        "seal state.bin {SEAL} --encoding q4 --keys q8_g32 --values exact --compress"
    ));
    let seen = folder.json("inspect a.kvcap");
    let banks = seen["unverified"]["banks"].as_array().unwrap();
    let codecs: Vec<_> = banks
        .iter()
        .map(|bank| (bank["kind"].clone(), bank["codec"].clone()))
        .collect();
    assert_eq!(
        codecs,
        [
            ("key".into(), "q8_g32".into()),
            ("value".into(), "planes16".into())
        ]
    );
    folder.refused(&format!("seal state.bin -f {SEAL} --keys q9"), 944, 2);
}

#[test]
fn the_guard_and_values_that_are_not_finite() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "hf.safetensors");
    let seal = format!("seal hf.safetensors {SEAL} --tokens prompt.json -f --encoding q4");
    let inspected = |line: &str| {
        folder.ok(line);
        folder.json("inspect a.kvcap").to_string()
    };
    let q4 = r#""codec":"q4_g64""#;
    let asked = inspected(&seal);
    assert!(asked.contains(q4), "{asked}");
    let finer = inspected(&format!("{seal} --guard 0.000001"));
    assert!(!finer.contains(q4), "{finer}");
    folder.refused(&format!("{seal} --guard -1"), 944, 2);

    // an infinity in the last bank
    let mut state = folder.read("hf.safetensors");
    let last = state.len() - 1;
    state[last - 1..].copy_from_slice(&0x7C00_u16.to_le_bytes());
    folder.write("hf.safetensors", &state);
    folder.refused(&seal, 905, 3);
    folder.ok(&format!("{seal} --keep-non-finite"));
}
