//! The check of the binding (capsule-v1 §3.2, step 10).

use std::ops::Range;

use crate::{
    binding::{Model, Rope, Tokenizer, prefix},
    digest::Digest,
    error::{Code, Error, Result},
    manifest::{Context, Manifest, Role},
    verify::policy::{Expected, Needs, Policy, Ropes},
};

/// Step 10.
pub(crate) fn check_binding(policy: &Policy<'_>, manifest: &Manifest) -> Result<()> {
    let (expected, context) = (&policy.expected, &manifest.context);
    if let Some(id) = expected.capsule
        && id != manifest.claims.id
    {
        return Err(
            Error::new(Code::ManifestInconsistent, "this is another capsule")
                .sides(id, manifest.claims.id),
        );
    }
    let mut needs = Needs::default();
    if let Some((model, tokenizer, ropes)) = expected.model {
        check_model(model, &context.model)?;
        check_tokenizer(tokenizer, &context.tokenizer)?;
        match ropes {
            Ropes::Fixed(rope) => check_rope(rope, context)?,
            Ropes::ByRuntime(by) => {
                needs = by.needs(&context.runtime.name);
                check_rope(&needs.rope, context)?;
            }
        }
    }
    if expected.ancestor {
        needs = Needs::default();
    }
    check_layout(expected, context)?;
    if let Some(positions) = &expected.positions
        && *positions != context.positions
    {
        let shown = |range: &Range<u64>| format!("{} to {}", range.start, range.end);
        return Err(
            Error::new(Code::BindingPositions, "the capsule holds other positions")
                .sides(shown(positions), shown(&context.positions)),
        );
    }
    if let Some((value, key)) = &expected.prefix {
        match context.prefix.names(&value.value, Some(key)) {
            Some(true) => {}
            Some(false) => return Err(prefix::mismatch("the capsule is of another prompt")),
            None => {
                return Err(prefix::mismatch(
                    "the capsule does not name its prompt under this key",
                ));
            }
        }
    }
    for (role, layer) in expected.banks.iter().chain(&needs.banks) {
        let held = context
            .banks()
            .any(|(_, bank)| bank.role == *role && bank.layer == *layer);
        if !held {
            return Err(Error::new(
                Code::BindingBankMissing,
                "a bank that the model needs is not in the capsule",
            )
            .at(format_args!("{} of layer {layer}", role.name())));
        }
    }
    for layer in expected.layers.iter().chain(&needs.layers) {
        if !context.banks().any(|(_, bank)| bank.layer == *layer) {
            return Err(Error::new(
                Code::BindingBankMissing,
                "a layer that the model needs has no bank in the capsule",
            )
            .at(format_args!("layer {layer}")));
        }
    }
    let plain = context
        .streams
        .iter()
        .try_fold(0_u64, |sum, stream| sum.checked_add(stream.plain_len()?))
        .unwrap_or(u64::MAX);
    if plain > policy.limits.budget {
        return Err(Error::new(
            Code::ResourceBudget,
            "the capsule is larger than the caller allows",
        )
        .sides(
            format_args!("at most {} bytes", policy.limits.budget),
            plain,
        ));
    }
    Ok(())
}

fn check_model(expected: &Model, found: &Model) -> Result<()> {
    if expected.id == found.id {
        return Ok(());
    }
    let part = [
        ("weights", expected.weights != found.weights),
        ("config", expected.config != found.config),
        ("adapters", expected.adapters != found.adapters),
    ];
    let differ: Vec<&str> = part.into_iter().filter(|p| p.1).map(|p| p.0).collect();
    let shown = |model: &Model| format!("{} ({:?})", short(&model.id), model.name);
    Err(Error::new(
        Code::BindingModel,
        format!(
            "the capsule was made by another model: {} differ",
            differ.join(", ")
        ),
    )
    .sides(shown(expected), shown(found)))
}

fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(16).collect()
}

fn check_tokenizer(expected: &Tokenizer, found: &Tokenizer) -> Result<()> {
    let template = |t: &Tokenizer| t.chat_template.map_or("none".to_owned(), |d| short(&d));
    let parts = [
        ("vocabulary", short(&expected.vocab), short(&found.vocab)),
        (
            "vocabulary size",
            expected.vocab_size.to_string(),
            found.vocab_size.to_string(),
        ),
        (
            "pre-tokenizer",
            expected.pre_tokenizer.clone(),
            found.pre_tokenizer.clone(),
        ),
        (
            "special tokens",
            format!("{:?}", expected.specials),
            format!("{:?}", found.specials),
        ),
        ("chat template", template(expected), template(found)),
    ];
    match parts
        .into_iter()
        .find(|(_, expected, found)| expected != found)
    {
        None => Ok(()),
        Some((place, expected, found)) => {
            let what = "the capsule was made with another tokenizer";
            let error = Error::new(Code::BindingTokenizer, what).at(place);
            Err(match place {
                "pre-tokenizer" => error.names(&[&expected], Some(&found)),
                _ => error.sides(expected, found),
            })
        }
    }
}

/// Rope as far as it is the model's, for every layer that has keys.
fn check_rope(expected: &[Rope], context: &Context) -> Result<()> {
    let of = |ropes: &'_ [Rope], layer| ropes.iter().find(|r| r.layers.contains(&layer)).cloned();
    for (_, bank) in context.banks() {
        if !matches!(bank.role, Role::Key | Role::RopeKey) {
            continue;
        }
        let (want, found) = (of(expected, bank.layer), of(&context.rope, bank.layer));
        let facts = |rope: &Option<Rope>| {
            rope.as_ref()
                .map(|r| (r.pairing, r.rotary_dims, r.theta, r.scaling.clone()))
        };
        if facts(&want) != facts(&found) {
            let shown = |rope: Option<Rope>| {
                rope.map_or("none".to_owned(), |rope| {
                    format!(
                        "{:?} pairs, {} dims, theta {:#x}, {:?}",
                        rope.pairing, rope.rotary_dims, rope.theta.0, rope.scaling
                    )
                })
            };
            return Err(
                Error::new(Code::BindingRope, "the rotary position embedding differs")
                    .at(format_args!("layer {}", bank.layer))
                    .sides(shown(want), shown(found)),
            );
        }
    }
    Ok(())
}

fn check_layout(expected: &Expected<'_>, context: &Context) -> Result<()> {
    let runtime = &context.runtime;
    let layout = |place: String, expected: &str, found: &str| {
        Err(
            Error::new(Code::BindingLayout, "the state's layout differs")
                .at(place)
                .names(&[expected], Some(found)),
        )
    };
    if let Some((format, facts)) = &expected.layout {
        if *format != runtime.format {
            return layout("state format".to_owned(), format, &runtime.format);
        }
        for (name, value) in facts {
            let found = runtime.facts.iter().find(|fact| fact.0 == *name);
            let found = found.map_or("", |fact| fact.1.as_str());
            if found != value {
                return layout(name.clone(), value, found);
            }
        }
    }
    if let Some((keys, values)) = &expected.dtypes {
        for (_, bank) in context.banks() {
            let want = match bank.role {
                Role::Key => keys,
                Role::Value => values,
                _ => continue,
            };
            if *want != bank.dtype.name() {
                let place = format!("element type, layer {}", bank.layer);
                return layout(place, want, &bank.dtype.name());
            }
        }
    }
    if let Some((name, version)) = &expected.runtime {
        let stated = version.as_ref().filter(|_| !runtime.version.is_empty());
        let version_differs = stated.is_some_and(|version| *version != runtime.version);
        if *name != runtime.name || version_differs {
            let shown = |name: &str, version: &str| match version {
                "" => name.to_owned(),
                version => format!("{name} {version}"),
            };
            return Err(Error::new(
                Code::BindingRuntime,
                "the capsule was made by another runtime or version",
            )
            .sides(
                shown(name, version.as_deref().unwrap_or_default()),
                shown(&runtime.name, &runtime.version),
            ));
        }
    }
    Ok(())
}
