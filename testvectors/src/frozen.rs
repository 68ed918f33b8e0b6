//! Capsules that every later reader of version 1 opens: `frozen/`, a folder for each time that some were added.
//!
//! A folder is written once and never again. It holds accepted vectors in the form of `vectors/`, each with the
//! whole of its context, so that nothing which is generated today decides what was frozen then.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::{Value, json};

use crate::{
    context::Context,
    generate::{FOLDER, load, manifest, sha256, store},
};

/// Folder of the frozen sets.
pub const FROZEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/frozen");

/// The folders, and the SHA-256 of the index of each.
pub const FOLDERS: [(&str, &str); 1] = [(
    "v1.0",
    "ec3a4571168ea1798d45b039452c6db208337dc9222d3053b65ca38c5dff2a6b",
)];

/// Kinds in `v1.0`: something of every kind that the format has.
pub const KINDS: [&str; 35] = [
    "base",
    "suite_2",
    "session",
    "single_use",
    "hadamard",
    "extension_not_critical",
    "prefix_none",
    "prefix_public",
    "element_types",
    "bank_roles",
    "section_kinds",
    "rope_scalings",
    "window_last",
    "rows_listed",
    "positions_unknown",
    "bank_indices",
    "planes16_bf16",
    "padding_fine",
    "planes32",
    "q8_f16",
    "q4_bf16",
    "q6_f32",
    "q5_f16",
    "q3_f16",
    "q4k_f16",
    "asked_infinite",
    "chain_three_deep",
    "chain_of_base_image",
    "registry_successor",
    "hpke_alone",
    "xwing_alone",
    "secret_beside_xwing",
    "renewed_twice",
    "renewed_single_use",
    "rewrapped",
];

/// Freezes the accepted vectors of these names, as they are now, in a folder that is not there yet.
///
/// # Errors
/// As the file system.
pub fn freeze(folder: &Path, names: &[&str]) -> io::Result<()> {
    fs::create_dir(folder)?;
    let index = manifest();
    let mut files = BTreeMap::new();
    let mut vectors = Vec::new();
    for vector in index["vectors"].as_array().into_iter().flatten() {
        if !names.iter().any(|name| vector["name"] == *name) {
            continue;
        }
        assert_eq!(vector["code"], 0, "{}", vector["name"]);
        let mut frozen = vector.clone();
        let context = &mut frozen["context"];
        let mut rename = |name: &Value| {
            let old = name.as_str().unwrap().to_owned();
            // as long as they are, most of them is padding
            let new = match old.strip_suffix(".kvcap") {
                Some(stem) => format!("{stem}.kvcap.gz"),
                None => old.clone(),
            };
            files.insert(new.clone(), load(&Path::new(FOLDER).join(old)));
            json!(new)
        };
        for list in [
            ["parents"].as_slice(),
            &["memory", "opened"],
            &["registry", "files"],
        ] {
            let at = list
                .iter()
                .try_fold(&mut *context, |at, key| at.get_mut(*key));
            if let Some(Value::Array(names)) = at {
                for name in names {
                    *name = rename(name);
                }
            }
        }
        frozen["file"] = rename(&vector["file"]);
        vectors.push(frozen.to_string());
    }
    assert_eq!(vectors.len(), names.len(), "a name is not there");
    let index = format!(
        "{{\n\"format\": 1,\n\"default_context\": {},\n\"vectors\": [\n{}\n]\n}}\n",
        index["default_context"],
        vectors.join(",\n"),
    );
    files.insert("manifest.json".to_owned(), index.into_bytes());
    files
        .iter()
        .try_for_each(|(name, bytes)| store(&folder.join(name), bytes))
}

/// The index of a frozen folder.
#[must_use]
pub fn index(folder: &str) -> (String, Value) {
    let bytes = load(&Path::new(FROZEN).join(folder).join("manifest.json"));
    (sha256(&bytes), serde_json::from_slice(&bytes).unwrap())
}

/// The context of a frozen vector, with the files that it names.
#[must_use]
pub fn context(folder: &str, index: &Value, vector: &Value) -> Context {
    // what today's context has beyond that time's is not stated
    let then = Context::merged(&Context::default(), &index["default_context"]);
    let mut context = Context::merged(&then, &vector["context"]);
    let memory = context.memory.iter().flat_map(|memory| &memory.opened);
    let registry = context.registry.iter().flat_map(|registry| &registry.files);
    let names: Vec<String> = context
        .parents
        .iter()
        .chain(memory)
        .chain(registry)
        .cloned()
        .collect();
    for name in names {
        let bytes = load(&Path::new(FROZEN).join(folder).join(&name));
        context.held.insert(name, bytes);
    }
    context
}
