//! A model folder: `config.json`, safetensors weights and the tokenizer's files (model-id-v1 §3).

use std::{collections::BTreeSet, path::Path};

use kvcap::{
    Code, Error, Result,
    binding::{Digest, Rope, Tokenizer, labelled_hasher},
};

use crate::{
    geometry::Geometry,
    json,
    json::{
        document::Document,
        value::{Fields, Map, Value, printable},
    },
    source::{
        config::Config,
        file::{Source, read_small},
    },
    tokenizer,
};

/// Longest `config.json`, `tokenizer_config.json`, template or index.
const SMALL: u64 = 16 << 20;
/// Longest `tokenizer.json`.
const TOKENIZER: u64 = 256 << 20;
/// Most values of a `tokenizer.json`.
const VALUES: u32 = 1 << 23;

/// Members of a `config.json` that do not change what is computed.
const IRRELEVANT: [&str; 7] = [
    "_commit_hash",
    "_name_or_path",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "transformers_version",
    "use_cache",
];

/// A model's facts and the files that its weights are in.
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) weights: Vec<Source>,
    pub(crate) config: Digest,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) rope: Vec<Rope>,
    pub(crate) geometry: Geometry,
}

/// Reads a model folder; the weights are only named.
pub(crate) fn read(folder: &Path) -> Result<Facts> {
    let config = object(folder, "config.json")?;
    let tokenizer_config = match folder.join("tokenizer_config.json").exists() {
        true => object(folder, "tokenizer_config.json")?,
        false => Map::new(),
    };
    let template = folder.join("chat_template.jinja");
    let template = match template.exists() {
        true => Some(
            String::from_utf8(read_small(&template, SMALL)?)
                .map_err(|_| malformed("the text is not utf-8").at("chat_template.jinja"))?,
        ),
        false => None,
    };
    let facts = Config::new(&config)?;
    Ok(Facts {
        name: folder
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default(),
        weights: weights(folder)?,
        tokenizer: tokenizer(folder, &tokenizer_config, template)?,
        rope: facts.ropes()?,
        geometry: facts.geometry()?,
        config: config_digest(config),
    })
}

/// The tokenizer, of the first of the files that say it; `tokenizer.json` where the folder has none of them.
fn tokenizer(folder: &Path, config: &Map, template: Option<String>) -> Result<Tokenizer> {
    let json = |name: &str| {
        let content = read_small(&folder.join(name), TOKENIZER)?;
        let len = content.len();
        let document =
            Document::parse(content, VALUES).map_err(|error| error.at(name.to_owned()))?;
        Ok::<_, Error>((document, len))
    };
    let has = |name: &str| folder.join(name).exists();
    if !has("tokenizer.json") && has("tekken.json") {
        let (file, len) = json("tekken.json")?;
        return tokenizer::tekken::read(file.root(), len, config, template);
    }
    if !has("tokenizer.json") && has("tiktoken.model") {
        let module = tokenizer::tiktoken::module(config).map(|module| format!("{module}.py"));
        let module = module.filter(|name| is_file_name(name) && has(name));
        let code = module.map(|name| read_small(&folder.join(name), SMALL));
        let code = code.transpose()?;
        let file = read_small(&folder.join("tiktoken.model"), TOKENIZER)?;
        return tokenizer::tiktoken::read(&file, config, code.as_deref(), template);
    }
    let (file, _) = json("tokenizer.json")?;
    tokenizer::from_folder(file.root(), config, template)
}

/// A file of the folder that holds one JSON object.
pub(crate) fn object(folder: &Path, name: &str) -> Result<Map> {
    let content = read_small(&folder.join(name), SMALL)?;
    match json::parse(content).map_err(|error| error.at(name))? {
        Value::Map(members) => Ok(members),
        _ => Err(malformed("the file is not an object").at(name)),
    }
}

fn malformed(what: &'static str) -> Error {
    Error::new(Code::ModelMalformed, what)
}

fn config_digest(mut config: Map) -> Digest {
    fn relevant(members: &mut Map) {
        members.retain(|name, _| !IRRELEVANT.contains(&name.as_str()));
        for value in members.values_mut() {
            if let Value::Map(members) = value {
                relevant(members);
            }
        }
    }
    relevant(&mut config);
    let mut hasher = labelled_hasher("kvcap v1 config");
    Value::Map(config).canonical(&mut hasher);
    Digest(*hasher.finalize().as_bytes())
}

/// The shards that the index names, or the one file.
pub(crate) fn weights(folder: &Path) -> Result<Vec<Source>> {
    let index = "model.safetensors.index.json";
    let names: BTreeSet<String> = if folder.join(index).exists() {
        let members = object(folder, index)?;
        let fields = Fields::new(&members, index);
        let map = fields
            .map("weight_map")?
            .ok_or_else(|| fields.missing("weight_map"))?;
        map.values()
            .map(|name| {
                name.as_text()
                    .filter(|name| is_file_name(name))
                    .map(str::to_owned)
                    .ok_or_else(|| {
                        fields.error("weight_map", "names something that is no file name")
                    })
            })
            .collect::<Result<_>>()?
    } else {
        BTreeSet::from(["model.safetensors".to_owned()])
    };
    if names.is_empty() {
        return Err(malformed("the index names no file").at(index));
    }
    names
        .into_iter()
        .map(|name| {
            let path = folder.join(&name);
            if !path.is_file() {
                return Err(Error::new(
                    Code::ModelMissing,
                    format!("the model folder lacks {}", printable(&name)),
                )
                .at(folder.display()));
            }
            Ok(Source { name, path })
        })
        .collect()
}

/// A name of a file in the folder itself, whatever the system's separators.
pub(crate) fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 255
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control)
}
