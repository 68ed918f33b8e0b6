//! Metrics by their formulas.

use kvcap::Code;
use kvcap_session::{Coverage, Metrics, Names, Observation, Rung, SessionFigures};

fn resumed(rung: Rung, code: Option<u64>, milliseconds: u64, evaluated: u64) -> Observation {
    Observation {
        at: 1000,
        rung,
        code,
        milliseconds,
        asked: 100,
        restored: 100 - evaluated,
        evaluated,
        device: None,
    }
}

#[test]
fn figures_are_those_of_the_formulas() {
    let covered = |turns, checkpoint| Coverage { turns, checkpoint };
    let metrics = Metrics::of(
        vec![
            resumed(Rung::Exact, None, 20, 1),
            resumed(Rung::Exact, None, 40, 1),
            resumed(Rung::Shorter, Some(960), 500, 48),
            resumed(Rung::HistoryOnly, Some(601), 2000, 100),
        ],
        vec![
            covered(10, Some((8, 900))),
            covered(10, Some((7, 950))),
            covered(1, None),
            covered(0, None),
        ],
    );
    assert_eq!(metrics.replay_overhead(), Some(150.0 / 400.0));
    assert_eq!(metrics.share(Rung::Shorter), Some(0.25));
    assert_eq!(metrics.coverage(), Some(1.0 / 3.0));
    let json = metrics.to_json(1000);
    assert_eq!(json["tokens_restored"], 250);
    assert_eq!(json["tokens_evaluated"], 150);
    assert_eq!(json["checkpoint_age_seconds"], serde_json::json!([100, 50]));
    assert_eq!(json["recovery_milliseconds"]["exact"]["most"], 40);
    assert_eq!(json["degradation_ratio"]["history-only"], 0.25);
    let text = metrics.to_prometheus(1000);
    for line in [
        "kvcap_recovery_seconds_bucket{rung=\"exact\",le=\"0.030\"} 1",
        "kvcap_recovery_seconds_sum{rung=\"exact\"} 0.060",
        "kvcap_recovery_seconds_count{rung=\"shorter\"} 1",
        "kvcap_open_outcome_total{rung=\"shorter\",code=\"960\"} 1",
        "kvcap_open_outcome_total{rung=\"exact\",code=\"0\"} 2",
        "kvcap_replay_overhead_ratio 0.375",
        "kvcap_degradation_ratio{rung=\"shorter\"} 0.25",
        "kvcap_checkpoint_age_seconds 100",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// A session that is measured alone stands under its name, whatever that is.
#[test]
fn a_session_alone_has_figures_of_its_own() {
    let alone = |name: &str, device: Option<&str>| {
        let mut observation = resumed(Rung::Exact, None, 20, 1);
        observation.device = device.map(str::to_owned);
        SessionFigures {
            names: Names::of(name),
            coverage: Coverage {
                turns: 4,
                checkpoint: None,
            },
            seconds: 60,
            messages: 9,
            positions: 100,
            capsule_bytes: 4096,
            observations: vec![observation],
        }
    };
    let named = Metrics::alone(alone("a\"b\\c\nd", Some("laptop")));
    let text = named.to_prometheus(0);
    let label = "{session=\"a\\\"b\\\\c\\nd\"}";
    for (name, value) in [
        ("duration_seconds", 60),
        ("turns", 4),
        ("tokens", 100),
        ("capsule_bytes", 4096),
        ("devices", 1),
    ] {
        let line = format!("kvcap_session_{name}{label} {value}");
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let two = Metrics::over(vec![alone("a", None), alone("b", None)]);
    assert!(!two.to_prometheus(0).contains("kvcap_session_"));
    let json = two.to_json(0);
    assert_eq!(json["each"][1]["session"], "b");
    assert_eq!(json["each"][1].get("devices"), None);
    assert_eq!(json["tokens_restored"], 198);
}

#[test]
fn a_ratio_of_nothing_is_left_out() {
    let metrics = Metrics::default();
    let json = metrics.to_json(0);
    for name in ["replay_overhead_ratio", "checkpoint_coverage_ratio"] {
        assert!(json.get(name).is_none(), "{name}");
        assert!(!metrics.to_prometheus(0).contains(name), "{name}");
    }
    assert_eq!(metrics.share(Rung::Exact), None);
}

#[test]
fn an_observation_is_a_line() {
    let one = resumed(Rung::HistoryOnly, Some(601), 7, 100);
    let line = one.to_json().unwrap();
    assert_eq!(Observation::from_json(line.as_bytes()).unwrap(), one);
    assert!(line.contains("\"rung\":\"history-only\""), "{line}");
    // the longest that is written is read again, in whatever its device's name is escaped to
    let named = |length| Observation {
        device: Some("\u{1}".repeat(length)),
        ..one.clone()
    };
    let longest = (1..5000)
        .rev()
        .find(|length| named(*length).to_json().is_ok());
    let longest = named(longest.unwrap());
    let line = longest.to_json().unwrap();
    assert_eq!(Observation::from_json(line.as_bytes()).unwrap(), longest);
    let refused = named(5000).to_json().unwrap_err();
    assert_eq!(refused.code(), Code::SessionLimit);
}
