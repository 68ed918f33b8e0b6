//! Valid capsules of another model, prompt or place (capsule-v1 §3.2 step 10, lineage-v1 §2).

use serde_json::{Value, json};

use crate::{
    case::{Made, given},
    cases,
    context::ExpectedPrefix,
    fixture::{self, TOKENS},
    hex::hex,
    model::model_json,
    raw::{Step, encode, int, put},
};
use kvcap::{
    Parent,
    binding::{F64Bits, Scaling},
};

/// The base capsule where a caller expects its model, changed.
fn of(change: impl FnOnce(&mut Value)) -> Made {
    given(|context| {
        let mut wanted = model_json(&fixture::model(), &fixture::tokenizer(), &fixture::rope());
        change(&mut wanted);
        context.expected.model = Some(wanted);
    })
}

fn other_digest() -> Value {
    json!(fixture::digest("another").to_string())
}

fn rope(scaling: Scaling) -> Made {
    of(|wanted| {
        let rope = [fixture::rope_of(&[0], scaling)];
        let all = model_json(&fixture::model(), &fixture::tokenizer(), &rope);
        wanted["rope"] = all["rope"].clone();
    })
}

/// The prefix key that belongs to a wrapping key by default.
fn prefix_key(key: [u8; 32]) -> String {
    hex(&crate::schedule::b3("kvcap v1 prefix key", &[&key]))
}

fn prompt(tokens: Vec<u32>, key: [u8; 32]) -> Made {
    given(|context| {
        context.expected.prefix = Some(ExpectedPrefix {
            tokens,
            key: prefix_key(key),
        });
    })
}

/// An increment with rows from 10 on whose positions begin at `start` and whose parent ends at `end`,
/// sealed over a lenient writer's head.
fn child(start: u64, end: u64) -> Made {
    let mut context = fixture::context();
    context.positions = 10..TOKENS + 10;
    for stream in &mut context.streams {
        if let kvcap::Stream::Bank(bank) = stream {
            bank.rows = kvcap::RowsEntry::From(10);
        }
    }
    context.parent = Some(Parent {
        digest: fixture::digest("parent"),
        positions: 0..10,
    });
    let capsule = fixture::seal_context("child", context);
    let mut parts = crate::parts::Parts::of(&capsule);
    let mut range = |path: &[i64], start, end| {
        let path: Vec<_> = path.iter().map(|key| Step::Key(*key)).collect();
        let range = ciborium::Value::Array(vec![int(start), int(end)]);
        put(&mut parts.payload, &path, &encode(&range));
    };
    range(&[2, 13, 2], 0, end);
    range(&[2, 7], start, TOKENS + 10);
    parts.reseal();
    parts.sign();
    Made::of(fixture::Capsule {
        file: parts.file(),
        plain: parts.plain,
    })
}

cases! {
    /// the caller's model is another
    model_mismatch: C 601 Verify ["CAP-V-9"] = of(|wanted| {
        wanted["id"] = other_digest();
        wanted["weights"] = other_digest();
    });
    /// another vocabulary
    tokenizer_mismatch: C 602 Verify ["CAP-V-9"] = of(|wanted| wanted["vocab"] = other_digest());
    /// another chat template
    template_mismatch: C 602 Verify ["CAP-V-9"] = of(|wanted| wanted["chat_template"] = Value::Null);
    /// another id for a special token
    specials_mismatch: C 602 Verify ["CAP-V-9"] = of(|wanted| wanted["specials"] = json!([["bos", 1], ["eos", 3]]));
    /// theta 10,000 where 500,000 is bound
    rope_theta: C 603 Verify ["CAP-V-9"] = of(|wanted| {
        wanted["rope"][0]["theta"] = json!(hex(&10_000.0_f64.to_le_bytes()));
    });
    /// linear scaling where none is bound
    rope_scaling: C 603 Verify ["CAP-V-9"] = rope(Scaling::Linear { factor: F64Bits(2.0_f64.to_bits()) });
    /// interleaved pairs where half pairs are bound
    rope_pairing: C 603 Verify ["CAP-V-9"] = of(|wanted| wanted["rope"][0]["pairing"] = json!(1));
    /// fewer rotary dimensions
    rope_dims: C 603 Verify ["CAP-V-9"] = of(|wanted| wanted["rope"][0]["rotary_dims"] = json!(32));
    /// no rope for the layer
    rope_missing: C 603 Verify ["CAP-V-9"] = of(|wanted| wanted["rope"] = json!([]));
    /// fp8 where f16 is sealed
    kv_dtype: C 604 Verify ["CAP-V-9"] = given(|context| {
        context.expected.dtypes = Some(("f8_e4m3".to_owned(), "f8_e4m3".to_owned()));
    });
    /// another layout
    kv_layout: C 604 Verify ["CAP-V-9"] = given(|context| {
        let facts = vec![("layout".to_owned(), "paged-16".to_owned())];
        context.expected.layout = Some(("mlx-lm-0.32".to_owned(), facts));
    });
    /// another state format
    kv_format: C 604 Verify ["CAP-V-9"] = given(|context| {
        context.expected.layout = Some(("mlx-lm-0.31".to_owned(), Vec::new()));
    });
    /// another runtime
    runtime_mismatch: C 608 Verify ["CAP-V-9"] = given(|context| {
        context.expected.runtime = Some(("llama.cpp".to_owned(), None));
    });
    /// another version of the runtime
    runtime_version: C 608 Verify ["CAP-V-9"] = given(|context| {
        context.expected.runtime = Some(("mlx-lm".to_owned(), Some("0.31.3".to_owned())));
    });
    /// another prompt
    prefix_mismatch: C 605 Verify ["CAP-P-1"] = prompt(vec![1, 2, 3], fixture::WRAP_KEY);
    /// the prompt without its last token
    prefix_shorter: C 605 Verify ["CAP-P-1"] = {
        let mut tokens = fixture::prompt();
        tokens.pop();
        prompt(tokens, fixture::WRAP_KEY)
    };
    /// the prompt under another tenant's key
    prefix_other_key: C 605 Verify ["CAP-P-1"] = prompt(fixture::prompt(), fixture::OTHER_WRAP);
    /// positions of another turn
    position_mismatch: C 606 Verify ["CAP-V-9"] = given(|context| {
        context.expected.positions = Some((TOKENS, 2 * TOKENS));
    });
    /// a bank of a layer that is not there
    bank_missing: C 607 Verify ["CAP-V-9"] = given(|context| context.expected.banks = vec![(0, 0), (4, 0)]);
    /// one byte less than the capsule's plain bytes
    budget_exceeded: C 910 Verify ["CAP-V-10"] = given(|context| {
        context.limits.insert("budget".to_owned(), 65 * 96 * 2 + 260 + 32 - 1);
    });
    /// an increment, opened without its parent
    parent_absent: C 701 Open ["LIN-L-2"] = child(10, 10);
    /// positions.start past the parent's end
    parent_gap: R 703 Verify ["LIN-L-1"] = child(10, 9);
    /// positions.start before the parent's end
    parent_overlap: R 703 Verify ["LIN-L-1"] = child(10, 11);
    /// a bank by position begins after positions.start: seen with the manifest, without the parent
    increment_rows_later: R 703 Verify ["LIN-L-4"] = child(9, 9);
    /// wrapped for another key
    kek_unknown: C 809 Open ["CAP-R-2"] = given(|context| {
        context.wrapping_key = Some(hex(&fixture::OTHER_WRAP));
    });
    /// the key was destroyed; the reader holds the next one
    kek_destroyed: C 809 Open ["CAP-R-2"] = given(|context| {
        context.wrapping_key = Some(hex(&[0x63; 32]));
    });
}
