//! What a capsule and its parent must have in common, by their headers (LIN-L-4 … LIN-L-8).

use kvcap::{Needs, binding::F64Bits};

use super::*;

/// Of an ancestor a policy asks for the model and the runtime, and for nothing that only the tip can have.
#[test]
fn what_is_expected_of_one_capsule_is_expected_of_the_tip() {
    let root = root();
    let first = child("first", &root, 1, as_is);
    let taps = child("taps", &root, 1, |_, context, _| {
        let taps = fixture::whole(Role::Convolution, 0, 0, Dtype::F16, &[4]);
        context.streams.insert(2, Stream::Bank(taps));
    });
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY)
        .prefix_key()
        .unwrap()
        .unwrap();
    let (model, tokenizer, trust) = (fixture::model(), fixture::tokenizer(), trust());
    let needs = |_: &str| Needs {
        rope: fixture::rope(),
        banks: vec![(Role::Convolution, 0)],
        layers: Vec::new(),
    };
    let by_runtime = Expected::by_runtime(&model, &tokenizer, &needs);
    let mut named = Expected::danger_any_model();
    named.banks = vec![(Role::Convolution, 0)];
    // banks that the tip has and its parent lacks are the lineage's fault, and not the parent's own
    for (tip, mut expected, extended) in [
        (&first, Expected::danger_any_model(), Ok(2)),
        (&taps, by_runtime, Err(Code::LineageBinding)),
        (&taps, named, Err(Code::LineageBinding)),
    ] {
        expected.positions = Some(10..20);
        expected.prefix = Some((PrefixValue::of(&ids(2, 0)), &key));
        expected.capsule = Some(read(tip).claims().id);
        let policy = policy(&trust, expected);
        let chain = Chain::new(read(tip).verify(&policy).unwrap(), ());
        let chain = chain.extend(read(&root), (), &policy);
        let members = chain.map(|chain| chain.members().count());
        assert_eq!(members.map_err(|error| error.code()), extended);
    }
}

#[test]
fn positions_that_do_not_continue() {
    let root = root();
    // the named parent ends where the child begins, but the real one does not
    let longer = seal("longer", fixture::terms(), context(1, 0), &ids(2, 0));
    let gap = child("gap", &root, 2, |_, context, _| {
        context.parent.as_mut().unwrap().positions = 10..20;
    });
    assert_eq!(code(opened(&[&gap, &root])), Code::LineagePositions);
    let overlap = child("overlap", &longer, 1, |_, context, _| {
        context.parent.as_mut().unwrap().positions = 0..10;
    });
    assert_eq!(code(opened(&[&overlap, &longer])), Code::LineagePositions);
    // what is named ends where the parent ends, and begins elsewhere
    let within = child("within", &root, 1, |_, context, _| {
        context.parent.as_mut().unwrap().positions = 5..10;
    });
    let refused = chain(&[&within, &root], |_| {}).err().unwrap();
    assert_eq!(refused.code(), Code::LineagePositions);
    assert_eq!(refused.expected(), Some("0 to 10"));
    assert_eq!(refused.found(), Some("5 to 10"));
}

/// Nothing is opened for it: headers say how long the prompts are, and which fact differs.
#[test]
fn what_headers_say_is_compared_and_named() {
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY)
        .prefix_key()
        .unwrap()
        .unwrap();
    let of = |len: usize, context: &mut Context, tokens: &mut Vec<u32>| {
        tokens.truncate(len);
        context.prefix = PrefixValue::of(tokens).keyed(&key);
        context.streams[2] = fixture::section(SectionKind::Tokens, 4 * len);
    };
    let none = |context: &mut Context| {
        context.prefix = kvcap::Prefix::None;
        context.streams.truncate(2);
    };
    let refused = |tip: &Capsule, parent: &Capsule| {
        let refused = chain(&[tip, parent], |_| {}).err()?;
        assert_eq!(refused.code(), Code::LineageBinding);
        let side = |side: Option<&str>| side.unwrap_or_default().to_owned();
        Some([side(refused.expected()), side(refused.found())])
    };
    let sides = |expected: &str, found: &str| Some([expected, found].map(str::to_owned));
    let root = root();
    let as_long = child("as long", &root, 1, |_, context, ids| of(10, context, ids));
    assert_eq!(refused(&as_long, &root), None);
    let shorter = child("shorter", &root, 1, |_, context, ids| of(9, context, ids));
    assert_eq!(refused(&shorter, &root), sides("at least 10", "9"));
    let unnamed = child("unnamed", &root, 1, |_, context, _| none(context));
    assert_eq!(refused(&unnamed, &root), sides("named", "not named"));
    let mut context = context(0, 0);
    none(&mut context);
    let root = seal("root without", fixture::terms(), context, &ids(1, 0));
    let named = child("named", &root, 1, as_is);
    assert_eq!(refused(&named, &root), sides("not named", "named"));
    // what a layout's fact is, of both
    let root = self::root();
    let other = child("other", &root, 1, |_, context, _| {
        context.runtime.facts[0].1 = "bthd".to_owned();
    });
    assert_eq!(refused(&other, &root), sides("layout=bhtd", "layout=bthd"));
}

#[test]
fn bindings_that_differ() {
    let differs = [
        pair(|_, context, _| context.model.id = fixture::digest("another model")),
        pair(|_, context, _| context.tokenizer.vocab_size += 1),
        pair(|_, context, _| context.tokenizer.chat_template = None),
        pair(|_, context, _| context.rope[0].theta = F64Bits(10_000.0_f64.to_bits())),
        pair(|_, context, _| context.rope[0].offset = 1),
        pair(|_, context, _| context.runtime.name = "transformers".to_owned()),
        pair(|_, context, _| context.runtime.format = "mlx-lm-0.31".to_owned()),
        pair(|_, context, _| context.runtime.facts[0].1 = "bthd".to_owned()),
        pair(|_, context, _| context.runtime.facts.clear()),
        pair(|_, context, _| {
            context.layers = 2;
            context.stateless = vec![1];
        }),
        pair(|_, context, _| {
            for stream in &mut context.streams {
                if let Stream::Bank(bank) = stream {
                    bank.dtype = Dtype::Bf16;
                }
            }
        }),
        pair(|_, context, _| {
            for stream in &mut context.streams {
                if let Stream::Bank(bank) = stream
                    && let BankShape::Tokens { heads, .. } = &mut bank.shape
                {
                    *heads = 2;
                }
            }
        }),
        pair(|_, context, _| {
            for stream in &mut context.streams {
                if let Stream::Bank(bank) = stream {
                    bank.index = 1;
                }
            }
        }),
        // another prompt of the same length, a shorter one, none
        pair(|_, context, tokens| {
            tokens[3] += 1;
            let key = WrappingKey::from_bytes(fixture::WRAP_KEY)
                .prefix_key()
                .unwrap()
                .unwrap();
            context.prefix = PrefixValue::of(tokens).keyed(&key);
        }),
        pair(|_, context, tokens| {
            tokens.truncate(9);
            let key = WrappingKey::from_bytes(fixture::WRAP_KEY)
                .prefix_key()
                .unwrap()
                .unwrap();
            context.prefix = PrefixValue::of(tokens).keyed(&key);
            context.streams[2] = fixture::section(SectionKind::Tokens, 36);
        }),
        pair(|_, context, _| {
            context.prefix = kvcap::Prefix::None;
            context.streams.truncate(2);
        }),
        // a prompt whose ids nobody can compare
        pair(|_, context, _| {
            context.streams.remove(2);
        }),
    ];
    assert_eq!(differs, [Code::LineageBinding; 17]);
}

#[test]
fn claims_that_are_more_than_the_parents() {
    let more = [
        pair(|terms, _, _| terms.scope = "kv:inspect kv:restore kv:train".to_owned()),
        pair(|terms, _, _| terms.subject = None),
        pair(|terms, _, _| terms.tenant = None),
    ];
    assert_eq!(more, [Code::LineageScope; 3]);
    let root = root();
    let narrower = child("narrower", &root, 1, |terms, _, _| {
        terms.scope = "kv:restore".to_owned();
    });
    assert_eq!(opened(&[&narrower, &root]).unwrap(), 2);
    // whom a parent names nobody leaves, and only a base image that names nobody is for anybody
    let named = |base: bool, parents: Option<&str>, own: Option<&str>| {
        let mut parents_terms = fixture::terms();
        parents_terms.tenant = parents.map(str::to_owned);
        if base {
            parents_terms.subject = None;
        }
        let mut context = context(0, 0);
        context.base = base;
        let parent = seal("parent", parents_terms, context, &ids(1, 0));
        let tip = child("tip", &parent, 1, |terms, _, _| {
            terms.tenant = own.map(str::to_owned);
        });
        let members = chain(&[&tip, &parent], |_| {});
        members
            .map(|chain| chain.members().count())
            .map_err(|error| error.code())
    };
    let (acme, scope) = (Some(fixture::TENANT), Err(Code::LineageScope));
    assert_eq!(named(true, None, acme), Ok(2));
    assert_eq!(named(false, None, acme), scope);
    assert_eq!(named(true, acme, None), scope);
    assert_eq!(named(false, acme, acme), Ok(2));
    // each member is for this verifier: another's subject is refused before it is compared
    let mut terms = fixture::terms();
    terms.subject = Some("eve".to_owned());
    let eves = seal("eve", terms, context(0, 0), &ids(1, 0));
    let stolen = child("stolen", &eves, 1, as_is);
    assert_eq!(code(opened(&[&stolen, &eves])), Code::ClaimsSubject);
}
