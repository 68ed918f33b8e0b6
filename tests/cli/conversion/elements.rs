//! mlx-lm's plain caches as its quantized ones, and back.

use serde_json::Value;

use crate::support::{Folder, KEYS, TRUST};

const SEALED: &str = "--model model --ttl 1h --tokens prompt.json";

/// Seals `state` as `capsule`.
fn seal(folder: &Folder, state: &str, capsule: &str, more: &str) {
    folder.ok(&format!(
        "seal {state} -f -o {capsule} {SEALED} {KEYS} {more}"
    ));
}

fn open(folder: &Folder, capsule: &str, out: &str, more: &str) -> Vec<u8> {
    folder.ok(&format!(
        "open {capsule} -f -o {out} {TRUST} --model model --wrap-key reader.key {more}"
    ));
    folder.read(out)
}

#[test]
fn an_exact_bank_opens_into_a_quantized_cache_as_a_quantized_one_does() {
    let folder = Folder::new();
    for layout in ["mlx031", "mlx032"] {
        folder.take(&format!("{layout}_f16.safetensors"), "plain.st");
        seal(&folder, "plain.st", "exact.kvcap", "");
        for kind in ["q8_g64", "q8_g32", "q4_g64", "q4_g32", "q6_g32"] {
            let codec = format!("--keys {kind} --values {kind} --guard off");
            seal(&folder, "plain.st", "lossy.kvcap", &codec);
            let as_kind = format!("--kv-type {kind}");
            // encoded at opening, and taken as it was sealed: the same file
            let encoded = open(&folder, "exact.kvcap", "q.st", &as_kind);
            assert!(encoded == open(&folder, "lossy.kvcap", "v.st", &as_kind));
            // the runtime's own quantized cache is carried as it is
            seal(&folder, "q.st", "verbatim.kvcap", "");
            let inspected = folder.json("inspect verbatim.kvcap").to_string();
            assert!(
                inspected.contains(&format!("mlx_{kind}_f16")),
                "{inspected}"
            );
            assert!(encoded == open(&folder, "verbatim.kvcap", "back.st", ""));
            // and its numbers are those that the lossy capsule gives
            let floats = open(&folder, "verbatim.kvcap", "floats.st", "--kv-type f16");
            assert!(floats == open(&folder, "lossy.kvcap", "l.st", "--kv-type f16"));
        }
        // every bit of an exact capsule comes back from a float type that holds it
        open(&folder, "exact.kvcap", "wide.st", "--kv-type f32");
        seal(&folder, "wide.st", "wide.kvcap", "");
        let narrow = open(&folder, "wide.kvcap", "narrow.st", "--kv-type f16");
        assert!(narrow == open(&folder, "exact.kvcap", "same.st", "--kv-type f16"));
    }
}

#[test]
fn a_cache_that_mlx_quantized_becomes_plain_and_any_other() {
    let folder = Folder::new();
    for theirs in ["mlx032_q4", "mlx031_q8"] {
        folder.take(&format!("{theirs}.safetensors"), "theirs.st");
        seal(&folder, "theirs.st", "theirs.kvcap", "");
        let plain = open(&folder, "theirs.kvcap", "plain.st", "--kv-type f16");
        seal(&folder, "plain.st", "plain.kvcap", "");
        let direct = open(&folder, "theirs.kvcap", "direct.st", "--kv-type q8_g32");
        assert!(direct == open(&folder, "plain.kvcap", "steps.st", "--kv-type q8_g32"));
        assert!(plain == open(&folder, "plain.kvcap", "same.st", ""));
    }
}

#[test]
fn what_has_no_such_form_is_refused_by_name() {
    let folder = Folder::new();
    let refused = |line: &str, code, what: &str| {
        let exit = if code == 944 { 2 } else { 1 };
        let ran = folder.refused(
            &format!("open a.kvcap --accept-unchecked model -o x {TRUST} --wrap-key reader.key --kv-type {line}"),
            code,
            exit,
        );
        assert!(ran.err.contains(what), "{}", ran.err);
    };
    folder.take("mlx032_f16.safetensors", "plain.st");
    seal(&folder, "plain.st", "a.kvcap", "");
    refused("q8_g128", 922, "whole groups");
    refused("q8_0", 922, "no cache of this element type");
    refused("q9_g64", 944, "no such element type");
    // a model whose layers are of unknown kinds, so that it may have kept anything
    folder.ok("model-id model -o any.kvid");
    let mut kvid: Value = serde_json::from_slice(&folder.read("any.kvid")).unwrap();
    let unknown = serde_json::json!({"kind": "unknown"});
    kvid["geometry"]["layers"] = vec![unknown; 64].into();
    folder.write("any.kvid", kvid.to_string().as_bytes());
    for (fixture, what) in [
        ("mlx032_hybrid", "recurrent or convolution"),
        ("mlx032_rotating", "sliding window"),
    ] {
        folder.take(&format!("{fixture}.safetensors"), "plain.st");
        folder.ok(&format!(
            "seal plain.st -f -o a.kvcap --model any.kvid --ttl 1h {KEYS} --danger-no-prefix"
        ));
        refused("f16", 922, what);
    }
}
