//! Verification in its steps: the same verdicts as verify and open, each step timed.

use std::fs::OpenOptions;

use crate::support::{Folder, KEYS, TRUST};

/// The names of the timed steps.
fn steps(object: &serde_json::Value) -> Vec<String> {
    let steps = object["steps"].as_array().unwrap();
    assert!(
        steps
            .iter()
            .all(|step| step["seconds"].as_f64().unwrap() >= 0.0)
    );
    let name = |step: &serde_json::Value| step["step"].as_str().unwrap().to_owned();
    steps.iter().map(name).collect()
}

#[test]
fn each_step_is_timed_against_a_folder_and_a_profile_file() {
    let folder = Folder::sealed();
    folder.ok("model-id model -o m.kvid");
    let header = ["parse", "signature", "manifest", "claims", "binding"];
    for model in ["model", "m.kvid"] {
        let line = format!("verify --timings a.kvcap {TRUST} --model {model}");
        let whole = folder.json(&format!("{line} --wrap-key reader.key"));
        assert_eq!(
            steps(&whole),
            [&header[..], &["tables", "body", "unwrap"]].concat()
        );
        assert_eq!(
            (&whole["body_checked"], &whole["unwrapped"]),
            (&true.into(), &true.into())
        );
        assert_eq!(whole["model_compared"], true);
        let least = whole["header_seconds"].as_f64().unwrap();
        assert!(whole["seconds"].as_f64().unwrap() >= least && least > 0.0);
        let short = folder.json(&format!("{line} --header-only"));
        assert_eq!(steps(&short), header);
        let text = folder.ok(&format!("{line} --header-only")).out;
        assert!(
            text.contains("signature") && text.contains("header accepted"),
            "{text}"
        );
    }
}

#[test]
fn a_header_costs_the_same_whatever_follows_it() {
    let folder = Folder::new();
    folder.made(33_554_432);
    folder.ok(&format!(
        "seal made -o big.kvcap --model made.kvid --ttl 1h --danger-no-prefix {KEYS}"
    ));
    // without its body the header is judged all the same: nothing of it is read
    let cut = OpenOptions::new()
        .write(true)
        .open(folder.path("big.kvcap"));
    cut.unwrap().set_len(1 << 16).unwrap();
    let line = format!("verify --timings big.kvcap {TRUST} --model made.kvid");
    let seen = folder.json(&format!("{line} --header-only"));
    assert!(seen["file_bytes"].as_u64().unwrap() > 33_000_000);
    assert!(seen["header_seconds"].as_f64().unwrap() > 0.0, "{seen}");
    folder.refused(&line, 807, 1);
}

#[test]
fn its_verdicts_are_those_of_verify_and_open() {
    let folder = Folder::sealed();
    folder.ok("keygen sign -o other.key");
    folder.ok("keygen wrap -o stranger.key");
    let whole = folder.read("a.kvcap");
    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    folder.write("flipped.kvcap", &flipped);
    folder.write("cut.kvcap", &whole[..last]);
    folder.write("empty.kvcap", b"");
    for (line, code, exit) in [
        ("flipped.kvcap --trust issuer.key.pub", 805, 1),
        ("cut.kvcap --trust issuer.key.pub", 807, 1),
        ("empty.kvcap --trust issuer.key.pub", 101, 3),
        ("a.kvcap --trust other.key.pub", 301, 1),
        ("a.kvcap --trust issuer.key.pub --audience other", 405, 1),
        ("a.kvcap --trust issuer.key.pub --at 4000000000", 402, 1),
    ] {
        folder.refused(&format!("verify --timings {line}"), code, exit);
        folder.refused(&format!("verify {line}"), code, exit);
    }
    let key = "a.kvcap --trust issuer.key.pub --wrap-key stranger.key";
    folder.refused(&format!("verify --timings {key}"), 809, 1);
}
