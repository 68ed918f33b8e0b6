//! Statements that two models are one (model-id-v1 §13): who may make them, until when, and in which order they are
//! judged.

use ciborium::Value as Cbor;
use kvcap::{Equivalence, PublicKey, Result, Trust, binding::Digest};
use serde_json::{Value, json};

use super::Case;
use crate::{
    context::Trusted,
    fixture::{ISSUER, NOW, OTHER_SEED, SIGN_SEED},
    hex::{hex, unhex, unhex_any},
    parts,
    raw::{encode, int, text},
    roots::sign1,
};

const MODELS: [[u8; 32]; 2] = [[3; 32], [9; 32]];
const ANOTHER: &str = "another";

/// What a statement says, and by whose key.
#[derive(Clone)]
struct Says {
    issuer: &'static str,
    issued: u64,
    expires: Option<Cbor>,
    models: [[u8; 32]; 2],
    more: Vec<(Cbor, Cbor)>,
    typ: &'static str,
    seed: [u8; 32],
}

fn says() -> Says {
    Says {
        issuer: ISSUER,
        issued: NOW - 10,
        expires: None,
        models: MODELS,
        more: Vec::new(),
        typ: "application/vnd.kvcap.equivalence",
        seed: SIGN_SEED,
    }
}

/// Until a time.
fn until(end: u64) -> Says {
    Says {
        expires: Some(Cbor::from(end)),
        ..says()
    }
}

fn bytes_of(says: &Says) -> Vec<u8> {
    let bytes = |part: &[u8]| Cbor::Bytes(part.to_vec());
    let models = says.models.iter().map(|id| bytes(id)).collect();
    let mut entries = vec![
        (int(1), int(1)),
        (int(2), text(says.issuer)),
        (int(3), Cbor::from(says.issued)),
        (int(4), Cbor::Array(models)),
    ];
    entries.extend(says.expires.clone().map(|end| (int(5), end)));
    entries.extend(says.more.clone());
    let payload = encode(&Cbor::Map(entries));
    let key = PublicKey::from_bytes(&parts::public(&says.seed)).unwrap();
    let content = "application/vnd.kvcap.models+cbor";
    sign1(&says.seed, [content, says.typ], &key.id().0, &payload)
}

/// The key, trusted with statements of its issuer.
fn trusted() -> Trusted {
    Trusted {
        for_capsules: false,
        ..Trusted::of(&parts::public(&SIGN_SEED))
    }
}

fn given(file: &[u8], trust: &Trusted, now: u64, models: [[u8; 32]; 2]) -> Value {
    json!({
        "file": hex(file),
        "trust": [trust],
        "now": now,
        "models": models.map(|id| hex(&id)),
    })
}

/// A statement at [`NOW`], by a verifier who trusts the key so.
fn case(name: &str, what: &'static str, says: &Says, trust: &Trusted, code: u16) -> Case {
    let input = given(&bytes_of(says), trust, NOW, MODELS);
    Case::new(name, what, rules(code), ("equivalence", input), code)
}

fn rules(code: u16) -> &'static [&'static str] {
    match code {
        402 => &["MOD-E-6", "MOD-E-8"],
        216 | 610 => &["MOD-E-5"],
        609 => &["MOD-E-7"],
        _ => &["MOD-E-6"],
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = who_and_when();
    all.extend(order());
    all.extend(form());
    all
}

fn who_and_when() -> Vec<Case> {
    let own = trusted();
    let other = |change: &dyn Fn(&mut Trusted)| {
        let mut trust = trusted();
        change(&mut trust);
        trust
    };
    let reversed = given(&bytes_of(&says()), &own, NOW, [MODELS[1], MODELS[0]]);
    let one_twice = given(&bytes_of(&says()), &own, NOW, [MODELS[0], MODELS[0]]);
    vec![
        case("statement", "a statement without an end", &says(), &own, 0),
        Case::new(
            "statement_other_way",
            "its two models the other way round",
            &["MOD-E-7"],
            ("equivalence", reversed),
            0,
        ),
        Case::new(
            "statement_other_models",
            "one of its models twice",
            &["MOD-E-7"],
            ("equivalence", one_twice),
            609,
        ),
        Case {
            rules: &["MOD-E-8"],
            ..case(
                "statement_second_before_end",
                "expires = now + 1",
                &until(NOW + 1),
                &own,
                0,
            )
        },
        case("statement_ended", "expires = now", &until(NOW), &own, 402),
        case(
            "statement_within_skew",
            "it was issued 60 s after now",
            &Says {
                issued: NOW + 60,
                ..says()
            },
            &own,
            0,
        ),
        case(
            "statement_future",
            "it was issued 61 s after now",
            &Says {
                issued: NOW + 61,
                ..says()
            },
            &own,
            403,
        ),
        case(
            "statement_other_issuer",
            "the key is trusted for another issuer",
            &says(),
            &other(&|key| ANOTHER.clone_into(&mut key.issuer)),
            312,
        ),
        case(
            "statement_capsules_key",
            "the key is trusted with capsules",
            &says(),
            &other(&|key| key.for_capsules = true),
            302,
        ),
        case(
            "statement_unknown_key",
            "a key that nobody trusts",
            &Says {
                seed: OTHER_SEED,
                ..says()
            },
            &own,
            301,
        ),
        case(
            "statement_compromised_key",
            "the key is marked compromised",
            &says(),
            &other(&|key| key.compromised = true),
            304,
        ),
        case(
            "statement_before_window",
            "it was issued a second before the key's window",
            &says(),
            &other(&|key| key.not_before = NOW - 9),
            303,
        ),
        case(
            "statement_after_window",
            "it was issued when the key's window ended",
            &says(),
            &other(&|key| key.sign_until = Some(NOW - 10)),
            303,
        ),
        case(
            "statement_verified_no_more",
            "the key verifies nothing from now on",
            &says(),
            &other(&|key| key.verify_until = Some(NOW)),
            303,
        ),
    ]
}

/// Two faults each: the one that is judged first has its code.
fn order() -> Vec<Case> {
    let own = trusted();
    let other = |change: &dyn Fn(&mut Trusted)| {
        let mut trust = trusted();
        change(&mut trust);
        trust
    };
    let elsewhere = other(&|key| ANOTHER.clone_into(&mut key.issuer));
    let future = Says {
        issued: NOW + 61,
        expires: Some(Cbor::from(NOW + 99)),
        ..says()
    };
    let malformed = Says {
        models: [MODELS[1], MODELS[0]],
        ..says()
    };
    let mut changed = bytes_of(&malformed);
    let last = changed.len() - 40;
    changed[last] ^= 1;
    let altered = |name, what, trust: &Trusted, code| {
        let input = given(&changed, trust, NOW, MODELS);
        Case::new(name, what, &["MOD-E-6"], ("equivalence", input), code)
    };
    vec![
        case(
            "statement_ended_and_other_issuer",
            "expires = now, and the key is trusted for another issuer",
            &until(NOW),
            &elsewhere,
            402,
        ),
        case(
            "statement_future_and_other_issuer",
            "it was issued 61 s after now, and the key is trusted for another issuer",
            &future,
            &elsewhere,
            403,
        ),
        case(
            "statement_ended_and_outside_window",
            "expires = now, and it was issued before the key's window",
            &until(NOW),
            &other(&|key| key.not_before = NOW - 9),
            303,
        ),
        case(
            "statement_outside_window_and_capsules_key",
            "it was issued before the window of a key that is trusted with capsules",
            &until(NOW),
            &other(&|key| {
                key.not_before = NOW - 9;
                key.for_capsules = true;
            }),
            302,
        ),
        case(
            "statement_malformed_and_capsules_key",
            "its models do not ascend, and the key is trusted with capsules",
            &malformed,
            &other(&|key| key.for_capsules = true),
            610,
        ),
        altered(
            "statement_bitflip_and_malformed",
            "one bit of the signature, and its models do not ascend",
            &own,
            307,
        ),
        altered(
            "statement_bitflip_and_compromised_key",
            "one bit of the signature, and the key is marked compromised",
            &other(&|key| key.compromised = true),
            304,
        ),
    ]
}

fn form() -> Vec<Case> {
    let own = trusted();
    let wrong = |name, what, says: &Says| case(name, what, says, &own, 610);
    let mut long = bytes_of(&says());
    long.resize(4097, 0);
    let long = given(&long, &own, NOW, MODELS);
    vec![
        Case::new(
            "statement_too_long",
            "4,097 bytes",
            &["MOD-E-5", "MOD-E-6"],
            ("equivalence", long),
            610,
        ),
        case(
            "statement_typ",
            "the type of a capsule",
            &Says {
                typ: "application/vnd.kvcap",
                ..says()
            },
            &own,
            216,
        ),
        wrong(
            "statement_one_model_twice",
            "its models are one",
            &Says {
                models: [MODELS[0]; 2],
                ..says()
            },
        ),
        wrong(
            "statement_issuer_empty",
            "an issuer of no name",
            &Says {
                issuer: "",
                ..says()
            },
        ),
        wrong(
            "statement_ends_when_issued",
            "expires = issued at",
            &until(says().issued),
        ),
        wrong(
            "statement_end_is_text",
            "its end is a text",
            &Says {
                expires: Some(text("tomorrow")),
                ..says()
            },
        ),
        wrong(
            "statement_field_unknown",
            "a field that nobody knows",
            &Says {
                more: vec![(int(6), int(0))],
                ..says()
            },
        ),
    ]
}

/// Verifies a statement, and compares its models.
pub(super) fn equivalence(input: &Value) -> Result<Value> {
    let keys: Vec<Trusted> = serde_json::from_value(input["trust"].clone()).unwrap();
    let mut trust = Trust::none();
    for key in &keys {
        trust.add(key.key()?)?;
    }
    let file = unhex_any(input["file"].as_str().unwrap());
    let now = input["now"].as_u64().unwrap();
    let read = Equivalence::verify(&file, &trust, now)?;
    let model = |at: usize| Digest(unhex(input["models"][at].as_str().unwrap()));
    read.check(model(0), model(1))?;
    Ok(json!({
        "issuer": read.issuer(),
        "issued_at": read.issued_at(),
        "expires": read.expires(),
        "key": hex(&read.key().0),
    }))
}
