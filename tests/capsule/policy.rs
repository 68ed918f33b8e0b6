//! What a verifier states and a capsule says: each fact that differs is refused and named, and those that agree pass.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use kvcap::{
    Code, Context, Error, Expected, Limits, Needs, Policy, Role, SigningKey, Stream, Trust,
    TrustedKey, Unchecked, Untrusted,
    binding::{F64Bits, Model, Scaling, Tokenizer},
};
use kvcap_codecs::Dtype;
use kvcap_testvectors::fixture;

fn listed() -> TrustedKey {
    TrustedKey::new(
        SigningKey::from_seed(&fixture::SIGN_SEED).public(),
        fixture::ISSUER,
    )
}

/// Verifies a capsule of `context` with one key, by a policy that states `expected`.
fn verify(context: Context, key: TrustedKey, expected: Expected<'_>) -> Result<(), Error> {
    let capsule = fixture::seal_context("policy", context);
    let trust = Trust::from(key);
    let mut policy = Policy::new(&trust, fixture::NOW, fixture::AUDIENCE, expected);
    policy.subject = Some(fixture::SUBJECT.to_owned());
    policy.tenant = Some(fixture::TENANT.to_owned());
    let untrusted = Untrusted::read_at(capsule.file.as_slice(), &Limits::default())?;
    untrusted.verify(&policy).map(|_| ())
}

fn expecting(expected: Expected<'_>) -> Result<(), Error> {
    verify(fixture::context(), listed(), expected)
}

/// Expected facts are the vectors', changed.
fn expecting_model(change: impl Fn(&mut Model, &mut Tokenizer)) -> Result<(), Error> {
    let (mut model, mut tokenizer, rope) =
        (fixture::model(), fixture::tokenizer(), fixture::rope());
    change(&mut model, &mut tokenizer);
    expecting(Expected::of(&model, &tokenizer, &rope))
}

#[test]
fn the_parts_of_a_model_that_differ_are_named() {
    assert_eq!(expecting_model(|_, _| {}), Ok(()));
    type Part = fn(&mut Model);
    let parts: [(&str, Part); 3] = [
        ("weights", |model| model.weights.0[0] ^= 1),
        ("config", |model| model.config.0[0] ^= 1),
        ("adapters", |model| model.adapters.clear()),
    ];
    for (name, part) in parts {
        let refused = expecting_model(|model, _| {
            model.id.0[0] ^= 1;
            part(model);
        });
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::BindingModel);
        let said = format!("another model: {name} differ");
        assert!(refused.what().ends_with(&said), "{refused}");
    }
}

#[test]
fn the_part_of_a_tokenizer_that_differs_is_named() {
    type Part = fn(&mut Tokenizer);
    let parts: [(&str, Part); 5] = [
        ("vocabulary", |tokenizer| tokenizer.vocab.0[0] ^= 1),
        ("vocabulary size", |tokenizer| tokenizer.vocab_size += 1),
        ("pre-tokenizer", |tokenizer| {
            tokenizer.pre_tokenizer = "gpt-2".to_owned();
        }),
        ("special tokens", |tokenizer| tokenizer.specials.clear()),
        ("chat template", |tokenizer| tokenizer.chat_template = None),
    ];
    for (name, part) in parts {
        let refused = expecting_model(|_, tokenizer| part(tokenizer)).unwrap_err();
        assert_eq!(
            (refused.code(), refused.place()),
            (Code::BindingTokenizer, Some(name))
        );
    }
    // a name that somebody chose stands in quotes
    let refused = expecting_model(|_, tokenizer| tokenizer.pre_tokenizer = "gpt-2".to_owned());
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("\"gpt-2\"") && said.contains("\"llama-bpe\""),
        "{said}"
    );
}

#[test]
fn the_rotation_of_every_layer_of_keys_is_compared_and_of_no_other() {
    let (model, tokenizer) = (fixture::model(), fixture::tokenizer());
    let mut context = fixture::context();
    let state = fixture::whole(Role::Recurrent, 1, 0, Dtype::F32, &[4]);
    context.streams.insert(2, Stream::Bank(state));
    context.layers = 2;
    let with = |theta: [f64; 2]| {
        let mut rope = vec![
            fixture::rope_of(&[0], Scaling::None),
            fixture::rope_of(&[1], Scaling::None),
        ];
        for (rope, theta) in rope.iter_mut().zip(theta) {
            rope.theta = F64Bits(theta.to_bits());
        }
        let expected = Expected::of(&model, &tokenizer, &rope);
        verify(context.clone(), listed(), expected)
    };
    // the second layer's state is recurrent: no rotation is in it, and the capsule states none
    assert_eq!(with([500_000.0, 10_000.0]), Ok(()));
    let refused = with([10_000.0, 500_000.0]).unwrap_err();
    assert_eq!(
        (refused.code(), refused.place()),
        (Code::BindingRope, Some("layer 0"))
    );
}

#[test]
fn what_a_model_needs_may_follow_from_the_runtime() {
    let (model, tokenizer) = (fixture::model(), fixture::tokenizer());
    let needs = |bank| {
        move |runtime: &str| {
            assert_eq!(runtime, "mlx-lm");
            Needs {
                rope: fixture::rope(),
                banks: vec![bank],
                ..Needs::default()
            }
        }
    };
    let (has, has_not) = (needs((Role::Value, 0)), needs((Role::Value, 1)));
    let by_runtime = Expected::by_runtime(&model, &tokenizer, &has);
    assert!(by_runtime.names_model() && !Expected::danger_any_model().names_model());
    assert_eq!(expecting(by_runtime), Ok(()));
    let lacking = Expected::by_runtime(&model, &tokenizer, &has_not);
    let refused = expecting(lacking).unwrap_err();
    assert_eq!(
        (refused.code(), refused.place()),
        (Code::BindingBankMissing, Some("value of layer 1"))
    );
    let mut other = model.clone();
    other.id.0[0] ^= 1;
    let refused = expecting(Expected::by_runtime(&other, &tokenizer, &has));
    assert_eq!(refused.unwrap_err().code(), Code::BindingModel);
}

#[test]
fn banks_and_layers_that_are_needed_have_to_be_there() {
    let with = |banks: &[(Role, u32)], layers: &[u32]| {
        let mut expected = Expected::danger_any_model();
        (expected.banks, expected.layers) = (banks.to_vec(), layers.to_vec());
        expecting(expected).map_err(|error| error.code())
    };
    let missing = Err(Code::BindingBankMissing);
    assert_eq!(with(&[(Role::Key, 0), (Role::Value, 0)], &[0]), Ok(()));
    assert_eq!(with(&[(Role::Key, 1)], &[]), missing);
    assert_eq!(with(&[(Role::Latent, 0)], &[]), missing);
    assert_eq!(with(&[], &[1]), missing);
}

#[test]
fn element_types_are_those_of_keys_and_of_values() {
    let mut context = fixture::context();
    if let Stream::Bank(values) = &mut context.streams[1] {
        values.dtype = Dtype::Bf16;
    }
    let with = |keys: &str, values: &str| {
        let mut expected = Expected::danger_any_model();
        expected.dtypes = Some((keys.to_owned(), values.to_owned()));
        verify(context.clone(), listed(), expected)
    };
    let (f16, bf16) = (Dtype::F16.name(), Dtype::Bf16.name());
    assert_eq!(with(&f16, &bf16), Ok(()));
    for (keys, values) in [(&bf16, &bf16), (&f16, &f16)] {
        let refused = with(keys, values).unwrap_err();
        assert_eq!(
            (refused.code(), refused.place()),
            (Code::BindingLayout, Some("element type, layer 0"))
        );
    }
}

/// CAP-K-3: each end of a key's window, and none.
#[test]
fn a_key_signs_and_is_verified_within_its_window() {
    let within = |not_before, sign_until, verify_until| {
        let key = TrustedKey {
            not_before,
            sign_until,
            verify_until,
            ..listed()
        };
        let any = Expected::danger_any_model();
        verify(fixture::context(), key, any).map_err(|error| error.code())
    };
    let (issued, now, none) = (fixture::ISSUED, fixture::NOW, TrustedKey::NO_END);
    let outside = Err(Code::KeyWindow);
    assert_eq!(within(issued, issued + 1, now + 1), Ok(()));
    assert_eq!(within(0, none, none), Ok(()));
    assert_eq!(within(issued + 1, none, none), outside);
    assert_eq!(within(0, issued, none), outside);
    assert_eq!(within(0, none, now), outside);
}

#[test]
fn what_is_not_checked_is_named_and_found_by_its_name() {
    for check in Unchecked::ALL {
        assert_eq!(check.to_string().parse(), Ok(*check));
    }
    let unknown = "models".parse::<Unchecked>().unwrap_err();
    assert_eq!(unknown.code(), Code::LocalUsage);
}
