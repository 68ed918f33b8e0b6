//! A GGUF model: one file, or all splits of one (model-id-v1 §3).

use std::path::{Path, PathBuf};

use kvcap::{
    Code, Error, Result,
    binding::{Digest, labelled_hasher},
};

use crate::{
    json::value::{Fields, Map, canonical_map},
    source::{
        file::Source,
        folder::Facts,
        gguf::{Header, Room},
        gguf_model::Arch,
    },
    tokenizer,
};

/// Most splits: the names have five digits, no published model has hundreds.
const SPLITS: u64 = 1024;

/// Members of `general.*` that change what is computed; the others are labels.
const RELEVANT: [&str; 5] = [
    "general.alignment",
    "general.architecture",
    "general.file_type",
    "general.quantization_version",
    "general.type",
];

/// Reads a GGUF file and its sibling splits; the weights are only named.
pub(crate) fn read(path: &Path) -> Result<Facts> {
    let (mut headers, weights) = headers(path)?;
    let metadata = metadata(&mut headers);
    let place = path.display().to_string();
    let fields = Fields::new(&metadata, &place);
    let arch = fields
        .text("general.architecture")?
        .ok_or_else(|| fields.missing("general.architecture"))?;
    let prefix = format!("{arch}.");
    let model = Arch::new(
        arch,
        Fields {
            prefix: &prefix,
            ..fields
        },
    )?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    Ok(Facts {
        name: fields
            .text("general.name")?
            .map_or_else(|| stem.unwrap_or_default().into_owned(), str::to_owned),
        weights,
        tokenizer: tokenizer::from_gguf(fields)?,
        rope: model.ropes(&headers)?,
        geometry: model.geometry()?,
        config: config_digest(&metadata),
    })
}

/// The header of each split, and what its file is called in the model.
pub(crate) fn headers(path: &Path) -> Result<(Vec<Header>, Vec<Source>)> {
    let given = Header::read(path, &mut Room::default())?;
    let place = path.display().to_string();
    let count = Fields::new(&given.metadata, &place)
        .u64("split.count")?
        .unwrap_or(0)
        .max(1);
    if count > 1 {
        // read again in its turn, from the room of all
        drop(given);
        return splits(path, count);
    }
    let source = Source {
        name: "model.gguf".to_owned(),
        path: path.to_owned(),
    };
    Ok((vec![given], vec![source]))
}

/// Takes the model's metadata out of the headers: those of the first split, the others hold only their number.
pub(crate) fn metadata(headers: &mut [Header]) -> Map {
    let mut metadata = Map::new();
    for header in headers {
        for (key, value) in std::mem::take(&mut header.metadata) {
            metadata.entry(key).or_insert(value);
        }
    }
    metadata
}

/// All splits by the names that llama.cpp gives them, each checked to be what its name says.
fn splits(path: &Path, count: u64) -> Result<(Vec<Header>, Vec<Source>)> {
    let wrong = |what: &'static str| Error::new(Code::ModelMalformed, what).at(path.display());
    if count > SPLITS {
        return Err(wrong("the number of splits is over its limit"));
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    // PREFIX-00001-of-00003.gguf
    let prefix = name
        .strip_suffix(&format!("-of-{count:05}.gguf"))
        .and_then(|rest| rest.get(..rest.len().checked_sub(6)?))
        .ok_or_else(|| wrong("a split's name is not PREFIX-nnnnn-of-nnnnn.gguf with its count"))?;
    let mut room = Room::default();
    let mut headers = Vec::new();
    let mut sources = Vec::new();
    for number in 0..count {
        let suffix = format!("-{:05}-of-{count:05}.gguf", number + 1);
        let path: PathBuf = path.with_file_name(format!("{prefix}{suffix}"));
        let header = Header::read(&path, &mut room)?;
        let place = path.display().to_string();
        let fields = Fields::new(&header.metadata, &place);
        if fields.u64("split.no")? != Some(number) || fields.u64("split.count")? != Some(count) {
            return Err(wrong("a split is not the one that its name says").at(place));
        }
        headers.push(header);
        sources.push(Source {
            name: format!("model{suffix}"),
            path,
        });
    }
    Ok((headers, sources))
}

fn config_digest(metadata: &Map) -> Digest {
    let relevant = |key: &str| {
        RELEVANT.contains(&key)
            || !["general.", "quantize.", "split.", "tokenizer."]
                .iter()
                .any(|prefix| key.starts_with(prefix))
    };
    let kept = metadata.iter().filter(|(key, _)| relevant(key));
    let mut hasher = labelled_hasher("kvcap v1 config");
    canonical_map(kept, &mut hasher);
    Digest(*hasher.finalize().as_bytes())
}
