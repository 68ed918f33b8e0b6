//! What a family's own configuration class takes where a `config.json` is silent: one table, written by
//! the script that executes the classes (model-id-v1 §9).

use std::{collections::BTreeMap, sync::LazyLock};

/// Keys and values of each `model_type`.
static TABLE: LazyLock<BTreeMap<&str, BTreeMap<&str, &str>>> = LazyLock::new(|| {
    let lines = include_str!("transformers.tsv").lines();
    let mut table = BTreeMap::<_, BTreeMap<_, _>>::new();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let mut cells = line.splitn(3, '\t');
        if let (Some(family), Some(key), Some(value)) = (cells.next(), cells.next(), cells.next()) {
            table.entry(family).or_default().insert(key, value);
        }
    }
    table
});

/// The name in the table of a family that has several.
fn row_of(family: &str) -> &str {
    match family {
        "gemma3" => "gemma3_text",
        "llama4" => "llama4_text",
        "mistral3" => "mistral",
        "qwen2_vl" => "qwen2_vl_text",
        "qwen2_5_vl" => "qwen2_5_vl_text",
        "qwen3_vl" => "qwen3_vl_text",
        "qwen3_vl_moe" => "qwen3_vl_moe_text",
        "qwen3_5" => "qwen3_5_text",
        "qwen3_5_moe" => "qwen3_5_moe_text",
        other => other,
    }
}

/// The family of the language model inside a file whose inner `model_type` is absent.
pub(crate) fn inner(outer: &str) -> &str {
    row_of(outer)
}

/// Whether the table has the family: what it does not say of one that it has, the class does not know either.
pub(crate) fn known(family: &str) -> bool {
    TABLE.contains_key(row_of(family))
}

/// The class's value of `key`.
pub(crate) fn text(family: &str, key: &str) -> Option<&'static str> {
    TABLE.get(row_of(family))?.get(key).copied()
}

/// The class's value of `key`, where it is a number.
pub(crate) fn number(family: &str, key: &str) -> Option<f64> {
    text(family, key)?.parse().ok()
}

/// The class's value of `key`, where it is a count.
pub(crate) fn count(family: &str, key: &str) -> Option<u64> {
    text(family, key)?.parse().ok()
}

/// The class's list of counts under `key`.
pub(crate) fn counts(family: &str, key: &str) -> Option<Vec<u32>> {
    let items = text(family, key)?.trim_matches(['[', ']']).split(", ");
    items.map(|item| item.parse().ok()).collect()
}

/// The whole table.
#[cfg(test)]
pub(super) fn table() -> &'static BTreeMap<&'static str, BTreeMap<&'static str, &'static str>> {
    &TABLE
}
