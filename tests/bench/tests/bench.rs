//! Each bench on little, end to end: figures are there, and what is opened is what was made.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn run(line: &str, folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvcap-bench"));
    let words = line.split_whitespace();
    command.args(words).current_dir(folder).output().unwrap()
}

fn json(line: &str, folder: &Path) -> Value {
    let output = run(&format!("{line} --json"), folder);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn codecs_are_beside_memcpy() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    for (line, q4k) in [
        ("codecs --tokens 256 --rounds 1", true),
        ("codecs hf_f16.safetensors --rounds 1", false),
        ("codecs hf_f16.safetensors --model model --rounds 1", true),
    ] {
        let told = json(line, &fixtures);
        let codecs = told["codecs"].as_array().unwrap();
        assert_eq!(codecs.len(), 11 + usize::from(q4k), "{told}");
        for codec in codecs {
            assert!(codec["encode_memcpy"].as_f64().unwrap() > 0.0, "{codec}");
        }
    }
    assert!(
        !run("codecs hf_f16.safetensors --model nowhere", &fixtures)
            .status
            .success()
    );
}

#[test]
fn encodings_are_beside_the_exact_one() {
    let told = json("encodings --bytes 1048576 --rounds 2", Path::new("."));
    let encodings = told["encodings"].as_array().unwrap();
    assert_eq!(encodings.len(), 6, "{told}");
    for encoding in encodings {
        assert!(encoding["decode_gb_s"].as_f64().unwrap() > 0.0, "{told}");
        for ratio in ["open", "decode", "seal"] {
            let [median, low, high] = [0, 1, 2].map(|at| encoding[ratio][at].as_f64().unwrap());
            assert!(0.0 < low && low <= median && median <= high, "{told}");
        }
    }
    assert_eq!(encodings[0]["open"][0], 1.0);
}

#[test]
fn suites_are_measured_and_one_is_recommended() {
    let told = json("suites --rounds 2", Path::new("."));
    let suites = told["suites"].as_array().unwrap();
    assert_eq!(suites.len(), 2);
    for suite in suites {
        for rate in ["seal_gb_s", "open_gb_s", "hash_and_open_gb_s"] {
            assert!(suite[rate].as_f64().unwrap() > 0.0, "{told}");
        }
    }
    let recommended = suites
        .iter()
        .any(|suite| suite["suite"] == told["recommended"]);
    assert!(recommended, "{told}");
}

#[test]
fn a_stream_restores_what_it_made() {
    let folder = tempfile::tempdir().unwrap();
    let line = "stream --bytes 3000001 --folder .";
    for (encoding, shorter) in [("exact", false), ("compress", true), ("q4", true)] {
        let told = json(&format!("{line} --encoding {encoding}"), folder.path());
        let header = 3_000_001 % (1 << 15);
        assert!(
            told["written"].as_u64().unwrap() > 3_000_000 - header,
            "{told}"
        );
        let sealed = told["capsule_bytes"].as_u64().unwrap();
        assert_eq!(sealed < 3_000_000, shorter, "{told}");
    }
    let told = json("stream --bytes 3000000 --no-capsule", folder.path());
    assert!(
        told["capsule_bytes"].as_u64().unwrap() > 3_000_000,
        "{told}"
    );
    assert_eq!(told["verify_seconds"], Value::Null);
    assert!(
        !run("stream --bytes 3000000 --folder nowhere", folder.path())
            .status
            .success()
    );
}

#[test]
fn capsules_are_measured_in_every_pass_of_a_state_of_that_length() {
    let folder = tempfile::tempdir().unwrap();
    let told = json(
        "capsule --bytes 100000 --bytes 200001 --rounds 1 --encoding exact --encoding q8 --facts f",
        folder.path(),
    );
    let sizes = told["sizes"].as_array().unwrap();
    let lengths: Vec<_> = sizes.iter().map(|size| size["bytes"].as_f64()).collect();
    assert_eq!(lengths, [Some(100_000.0), Some(200_001.0)]);
    for size in sizes {
        let passes = size["passes"].as_array().unwrap();
        assert_eq!(passes.len(), 3 * 2 * 2);
        for pass in passes {
            for time in ["seconds_one_core", "seconds_all_cores", "seconds_of_stages"] {
                assert!(pass[time].as_f64().unwrap() > 0.0, "{pass}");
            }
            assert!(pass["stages"].as_array().unwrap().len() >= 2, "{pass}");
        }
    }
    let facts = std::fs::read(folder.path().join("f")).unwrap();
    assert!(serde_json::from_slice::<Value>(&facts).unwrap() == told);
}

#[test]
fn a_made_state_has_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let told = json(
        "state --bytes 123457 -o made --model made.kvid",
        folder.path(),
    );
    assert!(told["tokens"].as_u64().unwrap() > 0);
    assert_eq!(
        std::fs::metadata(folder.path().join("made")).unwrap().len(),
        123_457
    );
}

#[test]
fn sessions_are_beside_plain_work() {
    let folder = tempfile::tempdir().unwrap();
    let line = "sessions --count 20 --bytes 3000001 --events 50 --rounds 2 --folder .";
    let told = json(line, folder.path());
    let costs = told["costs"].as_array().unwrap();
    assert_eq!(costs.len(), 4, "{told}");
    for cost in costs {
        for fact in ["seconds", "plain_seconds", "ratio"] {
            assert!(cost[fact].as_f64().unwrap() > 0.0, "{cost}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let failing = format!("{line} --program /bin/false");
    assert!(!run(&failing, folder.path()).status.success());
}

#[test]
fn starts_are_beside_a_program_that_does_nothing() {
    let told = json("start --program /bin/true --rounds 3", Path::new("."));
    let starts = told["starts"].as_array().unwrap();
    assert_eq!(starts.len(), 3, "{told}");
    for start in starts {
        let [median, low, high] = [0, 1, 2].map(|at| start["seconds"][at].as_f64().unwrap());
        assert!(0.0 < low && low <= median && median <= high, "{told}");
    }
    let failing = run("start --program /bin/false", Path::new("."));
    assert!(!failing.status.success());
}

/// It fails where the comparison that was planted is not told apart.
#[test]
fn a_comparison_that_ends_early_is_found_by_its_times() {
    let told = json("timing --measurements 2000", Path::new("."));
    let subjects = told["subjects"].as_array().unwrap();
    assert_eq!(subjects.len(), 8, "{told}");
    let planted = subjects[0]["t"].as_f64().unwrap();
    assert!(planted.abs() > 10.0, "{told}");
    for subject in subjects {
        assert!(subject["t"].as_f64().unwrap().is_finite(), "{told}");
    }
}
