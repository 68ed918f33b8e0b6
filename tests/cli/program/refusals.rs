//! What is refused, with its code and exit status; `Folder::refused` also checks that nothing is left.

use std::fs;

use super::support::{Folder, KEYS, SEAL, TRUST, fixture};

#[test]
fn capsules_that_are_not_for_this_reader() {
    let folder = Folder::new();
    folder.ok(&format!(
        "seal state.bin {SEAL} --audience kv.example --subject ana --tenant acme --scope kv:restore"
    ));
    let full = "--audience kv.example --subject ana --tenant acme";
    let capsule = folder.json(&format!("verify a.kvcap {TRUST} {full}"));
    let expires = capsule["expires"].as_u64().unwrap();
    folder.ok("keygen sign -o stranger.key");
    folder.ok("keygen wrap -o other.key");
    for (line, code) in [
        (format!("{TRUST} {full} --at {expires}"), 402),
        (format!("{TRUST} {full} --at {}", expires - 3600 - 61), 403),
        (format!("{TRUST} {full} --at 1970-01-01T00:00:00Z"), 403),
        (format!("{TRUST} {full} --max-lifetime 59m"), 404),
        (format!("{TRUST} --subject ana --tenant acme"), 405),
        (
            format!("{TRUST} --audience kv.example.evil --subject ana --tenant acme"),
            405,
        ),
        (format!("{TRUST} --audience kv.example --tenant acme"), 406),
        (
            format!("{TRUST} --audience kv.example --subject eve --tenant acme"),
            406,
        ),
        (format!("{TRUST} --audience kv.example --subject ana"), 407),
        (format!("{TRUST} {full} --scope kv:inspect"), 408),
        (format!("--trust stranger.key.pub {full}"), 301),
    ] {
        folder.refused(&format!("verify a.kvcap {line}"), code, 1);
        folder.refused(&format!("verify a.kvcap --header-only {line}"), code, 1);
        folder.refused(
            &format!("open a.kvcap --accept-unchecked model -o back --wrap-key reader.key {line}"),
            code,
            1,
        );
    }
    folder.refused(
        &format!(
            "open a.kvcap --accept-unchecked model -o back {TRUST} {full} --wrap-key other.key"
        ),
        809,
        1,
    );
    // each side of a boundary
    folder.ok(&format!(
        "verify a.kvcap {TRUST} {full} --at {}",
        expires - 1
    ));
    folder.ok(&format!(
        "verify a.kvcap {TRUST} {full} --at {}",
        expires - 3600 - 60
    ));
}

#[test]
fn a_capsule_that_takes_more_memory_than_allowed() {
    let folder = Folder::sealed();
    let open = format!("open a.kvcap -o back {TRUST} --wrap-key reader.key --model model --budget");
    folder.refused(&format!("{open} 4K"), 910, 3);
    folder.refused(&format!("{open} 4KB"), 944, 2);
    folder.ok(&format!("{open} 1G"));
}

#[test]
fn states_of_another_model() {
    let folder = Folder::sealed();
    fs::create_dir(folder.path("other")).unwrap();
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ] {
        fs::copy(fixture("model").join(name), folder.path("other").join(name)).unwrap();
    }
    let config = fs::read_to_string(folder.path("other/config.json")).unwrap();
    let wider = config.replace(
        "\"max_position_embeddings\": 2048",
        "\"max_position_embeddings\": 4096",
    );
    assert_ne!(config, wider);
    fs::write(folder.path("other/config.json"), wider).unwrap();
    for line in ["--model other", "--model model --adapter prompt.json"] {
        let refused = folder.refused(&format!("verify a.kvcap {TRUST} {line}"), 601, 1);
        assert!(
            refused.err.contains("expected") && refused.err.contains("found"),
            "{}",
            refused.err
        );
        folder.refused(
            &format!(
                "open a.kvcap --accept-unchecked model -o back --wrap-key reader.key {TRUST} {line}"
            ),
            601,
            1,
        );
    }
    folder.refused(
        &format!("verify a.kvcap {TRUST} --model model --runtime-opt rope-freq-base=5e5"),
        603,
        1,
    );
    folder.ok(&format!("verify a.kvcap {TRUST} --model model"));
    // sealed with the adapter, it is that model's
    folder.ok(&format!(
        "seal state.bin -f {SEAL} --adapter prompt.json=0.5"
    ));
    folder.ok(&format!(
        "verify a.kvcap {TRUST} --model model --adapter prompt.json=0.5"
    ));
    folder.refused(
        &format!("verify a.kvcap {TRUST} --model model --adapter prompt.json"),
        601,
        1,
    );
    folder.refused(&format!("verify a.kvcap {TRUST} --model model"), 601, 1);
}

#[test]
fn a_model_that_is_not_compared_is_said() {
    let folder = Folder::sealed();
    let text = folder.ok(&format!("verify a.kvcap {TRUST}")).out;
    assert!(text.contains("not compared (no --model)"), "{text}");
    assert_eq!(
        folder.json(&format!("verify a.kvcap {TRUST}"))["model_compared"],
        false
    );
    let text = folder
        .ok(&format!(
            "open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key"
        ))
        .out;
    assert!(
        text.contains("not compared (no --model)") && text.contains("no --tokens"),
        "{text}"
    );
}

#[test]
fn damaged_capsules() {
    let folder = Folder::sealed();
    let good = folder.read("a.kvcap");
    let last = good.len() - 1;
    let verify = format!("verify b.kvcap {TRUST}");
    let open =
        format!("open b.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key");
    let both = |content: &[u8], code, exit| {
        folder.write("b.kvcap", content);
        folder.refused(&verify, code, exit);
        folder.refused(&open, code, exit);
    };
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    both(&[], 101, 3);
    both(&good[..63], 101, 3);
    both(&good[..4000], 106, 3);
    both(&good[..last], 807, 1);
    both(&[&good[..], b"\0"].concat(), 108, 3);
    both(&flipped(0), 102, 3);
    both(&flipped(8), 103, 3);
    both(&flipped(10), 104, 3);
    both(&flipped(last), 805, 1);
    folder.write(
        "b.kvcap",
        b"PK\x03\x04 this is something else, and it is long enough to have a prologue",
    );
    folder.refused("inspect b.kvcap", 102, 3);
    // the signature: last bytes of the envelope
    let envelope = u32::from_le_bytes(good[12..16].try_into().unwrap());
    both(
        &flipped(64 + usize::try_from(envelope).unwrap() - 40),
        307,
        1,
    );
}

#[test]
fn states_that_cannot_be_sealed() {
    let folder = Folder::new();
    let state = folder.read("state.bin");
    let seal = |extra: &str| format!("seal bad {SEAL} {extra}");
    for (content, code, exit) in [
        (&b""[..], 920, 3),
        (b"not a state at all", 920, 3),
        (&state[..state.len() - 1], 921, 3),
    ] {
        folder.write("bad", content);
        folder.refused(&seal(""), code, exit);
    }
    folder.take("hf_f16.safetensors", "bad");
    folder.refused(&seal(""), 925, 2);
    folder.refused(&seal("--prefix-hash 00"), 944, 2);
    folder.refused(&seal("--danger-no-prefix --runtime llama-cpp"), 920, 3);
    folder.write("few.json", b"[1]");
    folder.refused(&format!("seal state.bin {SEAL} --tokens few.json"), 923, 1);
    folder.ok(&seal("--danger-no-prefix"));
    folder.refused(
        &format!("open a.kvcap --accept-unchecked model -o back {TRUST} --wrap-key reader.key --tokens prompt.json"),
        605,
        1,
    );
}

#[test]
fn requests_that_are_not_usable() {
    let folder = Folder::sealed();
    for line in [
        "nonsense",
        "verify",
        "verify a.kvcap",
        "verify a.kvcap --trust issuer.key.pub --nonsense",
        "verify a.kvcap --trust issuer.key.pub --at tomorrow",
        "seal state.bin -o b.kvcap",
        "seal state.bin -o b.kvcap --model model --ttl 24 --sign-key issuer.key --wrap-key reader.key",
        "seal state.bin -o b.kvcap --model model --ttl 1w --sign-key issuer.key --wrap-key reader.key",
        "seal state.bin -o b.kvcap --model model --ttl 0s --sign-key issuer.key --wrap-key reader.key",
        "seal state.bin -o b.kvcap --model model --ttl 1h --encoding q3 --sign-key issuer.key --wrap-key reader.key",
        "seal state.bin -o b.kvcap --model model --ttl 1h --runtime-opt x=1 --sign-key issuer.key --wrap-key reader.key",
        "keygen sign -o -",
        "keygen other -o x",
    ] {
        let ran = folder.refused(line, 944, 2);
        let first = ran.err.lines().next().unwrap();
        let text = first.strip_prefix("kvcap: error[KVC-944]: ").unwrap();
        assert!(!text.starts_with(char::is_uppercase), "{text}");
    }
    for line in [
        "verify absent.kvcap --trust issuer.key.pub",
        "verify a.kvcap --trust absent.pub",
        "verify model --trust issuer.key.pub",
        "seal absent -o b.kvcap --model model --ttl 1h --sign-key issuer.key --wrap-key reader.key",
        "open a.kvcap --accept-unchecked model -o absent/x --trust issuer.key.pub --wrap-key reader.key",
    ] {
        folder.refused(line, 940, 4);
    }
    folder.refused(
        &format!("seal state.bin -o b.kvcap --model absent --ttl 1h {KEYS}"),
        932,
        4,
    );
    folder.refused("model-id prompt.json", 930, 3);
}

#[test]
fn a_bank_that_the_model_needs() {
    let folder = Folder::sealed();
    folder.ok("model-id model -o model.kvid");
    let mut kvid: serde_json::Value = serde_json::from_slice(&folder.read("model.kvid")).unwrap();
    let layers = kvid["geometry"]["layers"].as_array_mut().unwrap();
    layers.push(layers[0].clone());
    folder.write("longer.kvid", kvid.to_string().as_bytes());
    folder.ok(&format!("verify a.kvcap {TRUST} --model model.kvid"));
    for line in [
        "verify",
        "verify --header-only",
        "open -o b --wrap-key reader.key",
    ] {
        let line = format!("{line} a.kvcap {TRUST} --model longer.kvid");
        let ran = folder.refused(&line, 607, 1);
        assert!(ran.err.contains("layer 6"), "{}", ran.err);
    }

    // raw capsules name layers of their own
    folder.ok(&format!(
        "seal model/model.safetensors {SEAL} -o raw.kvcap --runtime raw --danger-no-prefix"
    )
    .replace("-o a.kvcap ", ""));
    folder.ok(&format!("verify raw.kvcap {TRUST} --model model"));
}

#[test]
fn another_runtime_or_version() {
    let folder = Folder::new();
    folder.ok(&format!("seal state.bin {SEAL} --runtime-version 0.3.36"));
    let verify = format!("verify a.kvcap {TRUST} --runtime");
    for same in ["llama-cpp", "llama-cpp=0.3.36"] {
        folder.ok(&format!("{verify} {same}"));
    }
    for other in ["mlx-lm", "hf=0.3.36", "llama-cpp=0.3.35", "llama-cpp="] {
        folder.refused(&format!("{verify} {other}"), 608, 1);
    }
    let open = format!(
        "open a.kvcap --accept-unchecked model -o b --wrap-key reader.key {TRUST} --runtime"
    );
    folder.refused(&format!("{open} llama-cpp=0.3.35"), 608, 1);
    folder.refused(&format!("{verify} vllm"), 944, 2);
    folder.ok(&format!("{open} llama-cpp=0.3.36"));
}

#[test]
fn a_runtime_that_does_not_rotate_its_cache() {
    let folder = Folder::new();
    let rotated = fs::read(fixture("llama_ggsq3_q4_0.bin")).unwrap();
    folder.write("q4.bin", &rotated);
    folder.ok(&format!("seal q4.bin {SEAL}"));
    let expected = format!("--model model {TRUST}");
    let (verify, open) = (
        format!("verify a.kvcap {expected}"),
        format!("open a.kvcap -o b --wrap-key reader.key {expected}"),
    );
    for verb in [&verify, &open] {
        folder.refused(&format!("{verb} --runtime-opt hadamard=off"), 604, 1);
    }
    folder.ok(&format!("{verify} --runtime-opt hadamard=on"));
    folder.ok(&open);
    assert_eq!(folder.read("b"), rotated);
}

#[test]
fn a_restore_that_saved_nothing() {
    let folder = Folder::sealed();
    let receipt = format!("check-restore a.kvcap {TRUST} --model model --prompt");
    let effective = folder.json(&format!("{receipt} 17 --evaluated 1"));
    assert_eq!(effective["claimed"], 16);
    assert_eq!(effective["reused"], 16);
    folder.ok(&format!("{receipt} 16 --evaluated 1"));
    let ran = folder.refused(&format!("{receipt} 17 --evaluated 17"), 926, 1);
    assert!(ran.err.contains("15 tokens reused, found 0"), "{}", ran.err);
    folder.refused(&format!("{receipt} 17 --evaluated 3"), 926, 1);
    // the last token of the state is evaluated again in a longer prompt; another prompt from the 11th on
    folder.ok(&format!("{receipt} 30 --evaluated 15"));
    folder.ok(&format!("{receipt} 30 --evaluated 20 --common 10"));
    folder.refused(&format!("{receipt} 30 --evaluated 22 --common 10"), 926, 1);
    folder.refused(&format!("{receipt} 0 --evaluated 0"), 944, 2);
    folder.ok("keygen sign -o stranger.key");
    // of an increment nothing but the tip is read, and that is said
    folder.ok(&format!(
        "truncate a.kvcap -o base.kvcap --tokens 7 {TRUST} {KEYS}"
    ));
    let seal = SEAL.replace("a.kvcap", "tip.kvcap");
    folder.ok(&format!(
        "seal state.bin {seal} --parent base.kvcap {TRUST}"
    ));
    let tip = format!("check-restore tip.kvcap -q {TRUST} --model model --prompt 17 --evaluated 1");
    assert!(folder.ok(&tip).err.contains("ancestors"));
    let accepted = folder.ok(&format!("{tip} --accept-unchecked ancestors"));
    assert!(!accepted.err.contains("ancestors"), "{}", accepted.err);
    let stranger = "check-restore a.kvcap --trust stranger.key.pub --prompt 17 --evaluated 1";
    folder.refused(stranger, 301, 1);
}
