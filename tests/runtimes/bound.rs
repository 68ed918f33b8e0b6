//! What is bound is what was there: a state's own statements, and those of who seals it, against the model.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;

use kvcap::{Code, Context, Result, Suite};
use kvcap_codecs::Codec;
use kvcap_models::{LayerGeometry, ModelProfile};
use kvcap_states::{Capture, Choice, Chosen, Hints, Plan, Prompt, check_rotation, detect, parse};
use kvcap_testkit::{fixture, model};

/// The model of the files of llama.cpp's release, with another model's identity.
fn profile() -> ModelProfile {
    let mut profile = model(&fixture("model")).unwrap();
    let attention = LayerGeometry::Attention {
        kv_heads: 2,
        key_dim: 64,
        value_dim: 64,
        window: 0,
    };
    profile.geometry.layers = vec![attention; 2];
    profile.geometry.context_length = 256;
    profile.geometry.architecture = Some("llama".to_owned());
    profile
}

fn capture(prompt: Prompt) -> Capture {
    Capture {
        public_prefix: true,
        ..kvcap_testkit::capture(Suite::ChaCha20Poly1305, prompt)
    }
}

/// The Hadamard blocks of the banks that are planned.
fn plan(file: &[u8], profile: &ModelProfile, capture: Capture) -> Result<Vec<u32>> {
    let context = context(file, profile, capture)?;
    Ok(context.banks().map(|(_, bank)| bank.hadamard).collect())
}

/// What is bound of a state.
fn context(file: &[u8], profile: &ModelProfile, capture: Capture) -> Result<Context> {
    let state = parse(detect(&file)?, &file, Hints::Model(&profile.geometry))?;
    let exact = Choice {
        codec: Codec::Raw,
        fallback: None,
    };
    let choices = vec![exact; state.banks.len()];
    let plan = Plan::new(
        &state,
        Vec::new(),
        profile,
        Vec::new(),
        Chosen {
            choices: &choices,
            codec_profile: None,
        },
        capture,
        None,
    )?;
    Ok(plan.context)
}

fn release(name: &str) -> Vec<u8> {
    fs::read(fixture(&format!("llama_cpp_b11434/{name}"))).unwrap()
}

#[test]
fn the_rotation_that_a_file_says_is_bound_and_compared() {
    for (name, said, found) in [
        ("q8_0.ggsq", None, Ok(64)),
        ("q8_0.ggsq", Some(true), Ok(64)),
        ("q8_0.ggsq", Some(false), Err(Code::StateContradiction)),
        ("q8_0_unrotated.ggsq", None, Ok(0)),
        ("q8_0_unrotated.ggsq", Some(false), Ok(0)),
        (
            "q8_0_unrotated.ggsq",
            Some(true),
            Err(Code::StateContradiction),
        ),
        ("q8_0_unrotated.blob", None, Err(Code::StateUnknownPrefix)),
        ("f16.ggsq", Some(true), Ok(0)),
    ] {
        let capture = Capture {
            hadamard: said,
            ..capture(Prompt::FromState)
        };
        let blocks = plan(&release(name), &profile(), capture);
        let blocks = blocks.map_err(|error| error.code());
        assert_eq!(blocks, found.map(|block| vec![block; 4]), "{name} {said:?}");
    }
    // a file of before says nothing: the runtime's rule, or what the sealer says
    let before = fs::read(fixture("llama_ggsq3_q4_0.bin")).unwrap();
    let tiny = model(&fixture("model")).unwrap();
    for (said, block) in [(None, 64), (Some(false), 0)] {
        let capture = Capture {
            hadamard: said,
            ..capture(Prompt::FromState)
        };
        assert_eq!(plan(&before, &tiny, capture).unwrap(), vec![block; 12]);
    }
}

#[test]
fn the_rotation_of_a_capsule_is_compared_with_the_runtime_that_restores_it() {
    for (name, off, on) in [
        ("q8_0.ggsq", Some(Code::BindingLayout), None),
        ("q8_0_unrotated.ggsq", None, Some(Code::BindingLayout)),
        // never rotated, whatever the runtime is told
        ("f16.ggsq", None, None),
    ] {
        let sealed = context(&release(name), &profile(), capture(Prompt::FromState)).unwrap();
        for (said, code) in [(None, None), (Some(false), off), (Some(true), on)] {
            let found = check_rotation(&sealed, said).err();
            assert_eq!(found.map(|error| error.code()), code, "{name} {said:?}");
        }
    }
}

#[test]
fn a_llama_cpp_file_of_another_model_is_refused() {
    let code = |file: &[u8], profile: &ModelProfile, context_length| {
        let capture = Capture {
            context_length,
            ..capture(Prompt::FromState)
        };
        plan(file, profile, capture).err().map(|error| error.code())
    };
    let contradiction = Some(Code::StateContradiction);
    let (session, sequence) = (release("f16.ggsn"), release("f16.ggsq"));
    assert_eq!(code(&session, &profile(), 0), None);
    let mut other = profile();
    other.geometry.architecture = Some("qwen3".to_owned());
    assert_eq!(code(&session, &other, 0), contradiction);
    assert_eq!(
        code(&sequence, &other, 0),
        None,
        "a sequence file does not say its architecture"
    );
    other.geometry.architecture = None;
    assert_eq!(code(&session, &other, 0), None);

    let mut other = profile();
    other.tokenizer.vocab_size = 40;
    assert_eq!(code(&sequence, &other, 0), contradiction, "ids up to 63");

    // the last cell, at the end of the sequence's cells
    let mut far = sequence;
    let last = 12 + 4 * 12 + 4 + 4 + 11 * 12;
    assert_eq!(far[last..last + 4], [11, 0, 0, 0]);
    far[last..last + 4].copy_from_slice(&i32::MAX.to_le_bytes());
    assert_eq!(code(&far, &profile(), 0), contradiction);
    assert_eq!(code(&far, &profile(), 512), contradiction);
    assert_eq!(
        code(&far, &profile(), 1 << 31),
        None,
        "the runtime's context was stated"
    );
}

#[test]
fn token_ids_are_of_the_vocabulary_and_as_many_as_positions() {
    let tiny = model(&fixture("model")).unwrap();
    for name in [
        "mlx032_f16.safetensors",
        "mlx031_f16.safetensors",
        "hf_f16.safetensors",
    ] {
        let file = fs::read(fixture(name)).unwrap();
        let size = tiny.tokenizer.vocab_size;
        let sixteen = |last| (1..16).chain([last]).collect::<Vec<u32>>();
        for (ids, code) in [
            (sixteen(7), None),
            // the last of a prompt may be for the next step
            ([sixteen(7), vec![8]].concat(), None),
            (vec![1, 2, 3], Some(Code::LocalUsage)),
            (sixteen(7)[..15].to_vec(), Some(Code::LocalUsage)),
            (sixteen(size - 1), None),
            (sixteen(size), Some(Code::LocalUsage)),
            (sixteen(u32::MAX), Some(Code::LocalUsage)),
        ] {
            let found = plan(&file, &tiny, capture(Prompt::Tokens(ids.clone())));
            assert_eq!(
                found.err().map(|error| error.code()),
                code,
                "{name} {ids:?}"
            );
        }
    }
}
