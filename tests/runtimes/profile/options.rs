//! What the runtime is told when it runs.

use kvcap::{Code, binding::Scaling};
use kvcap_models::RuntimeOptions;

use super::support::{bits, config, folder, read_with};

#[test]
fn options_change_what_the_runtime_changed() {
    let model = folder(&config("llama", ""));
    let rope = |options: &[&str]| read_with(&model.0, &[], options).map(|mut p| p.rope.remove(0));
    assert_eq!(rope(&["rope-freq-base=500000"]).unwrap().theta, bits(5e5));
    assert_eq!(
        rope(&["rope-freq-scale=0.25"]).unwrap().scaling,
        Scaling::Linear { factor: bits(4.0) }
    );
    let yarn = rope(&["rope-scaling=yarn", "rope-freq-scale=0.5"]).unwrap();
    assert!(
        matches!(yarn.scaling, Scaling::Yarn { factor, original: 8192, .. } if factor == bits(2.0))
    );
    for bad in [
        "rope-freq-base",
        "rope-freq-base=0",
        "rope-freq-base=x",
        "rope-freq-base=inf",
        "colour=red",
        "ctx-size=-1",
        "hadamard=maybe",
        "rope-scaling=dynamic",
        "longrope=on",
        "rope-scaling=longrope",
    ] {
        assert_eq!(rope(&[bad]).unwrap_err().code(), Code::LocalUsage, "{bad}");
    }
    let twice = RuntimeOptions::parse(&["ctx-size=1", "ctx-size=1"]);
    assert_eq!(twice.unwrap_err().code(), Code::LocalUsage);
    assert_eq!(
        RuntimeOptions::parse(&["hadamard=off"]).unwrap().hadamard,
        Some(false)
    );

    let phi = folder(&config(
        "phi3",
        r#""original_max_position_embeddings": 4096, "rope_scaling": {
        "type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}"#,
    ));
    for (options, long) in [
        (&[][..], true),
        (&["ctx-size=4096"], false),
        (&["ctx-size=4097"], true),
        (&["longrope=short"], false),
        (&["ctx-size=1", "longrope=long"], true),
    ] {
        let used = read_with(&phi.0, &[], options)
            .unwrap()
            .rope
            .remove(0)
            .scaling;
        assert!(matches!(used, Scaling::LongRope { long_used, .. } if long_used == long));
    }
    // A window keeps its base: the group falls in two.
    let olmo = folder(&config(
        "olmo3",
        r#""sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention"]"#,
    ));
    let ropes = read_with(&olmo.0, &[], &["rope-freq-base=7"]).unwrap().rope;
    assert_eq!(ropes.len(), 2);
    assert_eq!((ropes[0].theta, ropes[1].theta), (bits(5e5), bits(7.0)));
    let mistral = folder(&config("mistral", r#""sliding_window": 8"#));
    let none = read_with(&mistral.0, &[], &["rope-freq-base=7"]);
    assert_eq!(none.unwrap_err().code(), Code::LocalUsage);
}
