//! The `.kvid` file: a model profile as a small JSON file (model-id-v1 §10).

use std::path::Path;

use kvcap::{
    Code, Error, Result,
    binding::{Adapter, KeyBasis, Model, Pairing, Rope, Tokenizer},
};

mod fields;
mod scaling;

use self::fields::{Object, bits, int, ints, list, object, text};
use crate::{
    geometry::{Geometry, LayerGeometry},
    json::{self, value::Value},
    model_id::{WeightsFile, weights_digest},
    profile::ModelProfile,
    source::{
        config::{LAYERS, check_factors},
        file::read_small,
        folder::is_file_name,
    },
};

/// Longest file.
const LIMIT: u64 = 16 << 20;

/// Version of the file's schema.
const SCHEMA: u64 = 1;

impl ModelProfile {
    /// The content of a `.kvid` file that holds this profile (model-id-v1 §10).
    #[must_use]
    pub fn to_kvid(&self) -> String {
        write(self)
    }
}

fn write(profile: &ModelProfile) -> String {
    let ModelProfile {
        model,
        weights,
        tokenizer,
        rope,
        geometry,
    } = profile;
    let root = object([
        ("kvid", int(SCHEMA)),
        (
            "model",
            object([
                ("id", text(model.id)),
                ("weights", text(model.weights)),
                ("config", text(model.config)),
                ("name", text(&model.name)),
                ("files", list(weights, write_file)),
                ("adapters", list(&model.adapters, write_adapter)),
            ]),
        ),
        ("tokenizer", write_tokenizer(tokenizer)),
        ("rope", list(rope, write_rope)),
        (
            "geometry",
            object([
                ("context_length", int(geometry.context_length)),
                ("layers", list(&geometry.layers, write_layer)),
            ]),
        ),
    ]);
    json::write(&root)
}

/// Reads and checks a `.kvid` file.
///
/// # Errors
///
/// 930 where a field is unknown, missing, given twice or of the wrong type, or where weights digest
/// or model id are not those of the parts.
pub(crate) fn read(path: &Path) -> Result<ModelProfile> {
    let content = read_small(path, LIMIT)?;
    json::parse(content)
        .and_then(|root| profile(&root))
        .map_err(|error| error.at(path.display()))
}

fn profile(root: &Value) -> Result<ModelProfile> {
    let schema = root.as_map().and_then(|members| members.get("kvid"));
    if schema.and_then(Value::as_u64) != Some(SCHEMA) {
        return Err(malformed("this is not a kvid file of schema 1"));
    }
    let root = Object::new(
        root,
        "kvid",
        &["kvid", "model", "tokenizer", "rope", "geometry"],
    )?;
    let geometry = root.of("geometry", read_geometry)?;
    let (model, weights) = root.of("model", read_model)?;
    let profile = ModelProfile {
        model,
        weights,
        tokenizer: root.of("tokenizer", read_tokenizer)?,
        rope: root.list("rope", read_rope)?,
        geometry,
    };
    check_layers(&profile.rope, profile.geometry.layers.len())?;
    for (name, stated, computed) in [
        (
            "model.weights",
            profile.model.weights,
            weights_digest(&profile.weights),
        ),
        ("model.id", profile.model.id, profile.id()),
    ] {
        if stated != computed {
            return Err(malformed("the digest is not that of its parts")
                .at(name)
                .sides(computed, stated));
        }
    }
    Ok(profile)
}

fn malformed(what: &'static str) -> Error {
    Error::new(Code::ModelMalformed, what)
}

/// Groups of layers must be ascending, inside the model and disjoint.
fn check_layers(ropes: &[Rope], layers: usize) -> Result<()> {
    let mut seen = vec![false; layers];
    for rope in ropes {
        let mut next = 0;
        if rope.layers.is_empty() {
            return Err(malformed("a rope has no layers"));
        }
        for layer in &rope.layers {
            let slot = usize::try_from(*layer)
                .ok()
                .and_then(|layer| seen.get_mut(layer))
                .filter(|taken| *layer >= next && !**taken)
                .ok_or_else(|| {
                    malformed("the layers of the ropes are not ascending, or overlap")
                })?;
            *slot = true;
            next = layer + 1;
        }
        if rope.rotary_dims == 0 || !rope.rotary_dims.is_multiple_of(2) {
            return Err(malformed("a rope does not rotate pairs"));
        }
        check_factors(&rope.scaling, rope.rotary_dims)?;
    }
    Ok(())
}

fn write_file(file: &WeightsFile) -> Value {
    object([
        ("name", text(&file.name)),
        ("length", int(file.length)),
        ("digest", text(file.digest)),
    ])
}

fn write_adapter(adapter: &Adapter) -> Value {
    object([
        ("digest", text(adapter.digest)),
        ("scale", bits(adapter.scale)),
    ])
}

fn read_model(value: &Value) -> Result<(Model, Vec<WeightsFile>)> {
    let model = Object::new(
        value,
        "model",
        &["id", "weights", "config", "name", "files", "adapters"],
    )?;
    let files = model.list("files", |value| {
        let file = Object::new(value, "file", &["name", "length", "digest"])?;
        Ok(WeightsFile {
            name: file.text("name")?.to_owned(),
            length: file.int("length")?,
            digest: file.digest("digest")?,
        })
    })?;
    if files.is_empty()
        || !files.iter().all(|file| is_file_name(&file.name))
        || !files.is_sorted_by(|a, b| a.name < b.name)
    {
        return Err(malformed("the weights files are not sorted names of files").at("model.files"));
    }
    let adapters = model.list("adapters", |value| {
        let adapter = Object::new(value, "adapter", &["digest", "scale"])?;
        Ok(Adapter {
            digest: adapter.digest("digest")?,
            scale: adapter.bits("scale")?,
        })
    })?;
    let model = Model {
        id: model.digest("id")?,
        weights: model.digest("weights")?,
        config: model.digest("config")?,
        adapters,
        name: model.text("name")?.to_owned(),
    };
    Ok((model, files))
}

fn write_tokenizer(tokenizer: &Tokenizer) -> Value {
    let specials = tokenizer
        .specials
        .iter()
        .map(|(name, id)| (name.clone(), int(u64::from(*id))))
        .collect();
    object([
        ("vocab", text(tokenizer.vocab)),
        ("vocab_size", int(u64::from(tokenizer.vocab_size))),
        ("version", text(&tokenizer.version)),
        ("pre_tokenizer", text(&tokenizer.pre_tokenizer)),
        ("specials", Value::Map(specials)),
        (
            "chat_template",
            tokenizer.chat_template.map_or(Value::Null, text),
        ),
    ])
}

fn read_tokenizer(value: &Value) -> Result<Tokenizer> {
    let names = [
        "vocab",
        "vocab_size",
        "version",
        "pre_tokenizer",
        "specials",
        "chat_template",
    ];
    let tokenizer = Object::new(value, "tokenizer", &names)?;
    let specials = tokenizer.of("specials", |value| {
        let members = value
            .as_map()
            .ok_or_else(|| malformed("specials is not an object"))?;
        members
            .iter()
            .map(|(name, id)| {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                Ok((
                    name.clone(),
                    id.ok_or_else(|| malformed("a special token is not an id"))?,
                ))
            })
            .collect()
    })?;
    Ok(Tokenizer {
        vocab: tokenizer.digest("vocab")?,
        vocab_size: tokenizer.int("vocab_size")?,
        version: tokenizer.text("version")?.to_owned(),
        pre_tokenizer: tokenizer.text("pre_tokenizer")?.to_owned(),
        specials,
        chat_template: match tokenizer.member("chat_template")? {
            Value::Null => None,
            _ => Some(tokenizer.digest("chat_template")?),
        },
    })
}

fn write_rope(rope: &Rope) -> Value {
    object([
        ("layers", ints(&rope.layers)),
        (
            "pairing",
            text(match rope.pairing {
                Pairing::Half => "half",
                Pairing::Interleaved => "interleaved",
            }),
        ),
        ("rotary_dims", int(u64::from(rope.rotary_dims))),
        ("theta", bits(rope.theta)),
        ("scaling", scaling::write(&rope.scaling)),
    ])
}

fn read_rope(value: &Value) -> Result<Rope> {
    let names = ["layers", "pairing", "rotary_dims", "theta", "scaling"];
    let rope = Object::new(value, "rope", &names)?;
    Ok(Rope {
        layers: rope.ints("layers")?,
        pairing: match rope.text("pairing")? {
            "half" => Pairing::Half,
            "interleaved" => Pairing::Interleaved,
            _ => return Err(malformed("the pairing is not known").at("rope")),
        },
        rotary_dims: rope.int("rotary_dims")?,
        theta: rope.bits("theta")?,
        scaling: rope.of("scaling", scaling::read)?,
        offset: 0,
        keys: KeyBasis::PostRope,
    })
}

fn write_layer(layer: &LayerGeometry) -> Value {
    let plain = |kind: &str| object([("kind", text(kind))]);
    match layer {
        LayerGeometry::Attention {
            kv_heads,
            key_dim,
            value_dim,
            window,
        } => object([
            ("kind", text("attention")),
            ("kv_heads", int(*kv_heads)),
            ("key_dim", int(*key_dim)),
            ("value_dim", int(*value_dim)),
            ("window", int(*window)),
        ]),
        LayerGeometry::Latent { rank, rope_dim } => object([
            ("kind", text("latent")),
            ("rank", int(*rank)),
            ("rope_dim", int(*rope_dim)),
        ]),
        LayerGeometry::Recurrent => plain("recurrent"),
        LayerGeometry::Shared => plain("shared"),
        LayerGeometry::Unknown => plain("unknown"),
    }
}

fn read_geometry(value: &Value) -> Result<Geometry> {
    let geometry = Object::new(value, "geometry", &["context_length", "layers"])?;
    let layers = geometry.list("layers", read_layer)?;
    if !u64::try_from(layers.len()).is_ok_and(|layers| (1..=LAYERS).contains(&layers)) {
        return Err(malformed("the number of layers is out of range").at("geometry"));
    }
    Ok(Geometry {
        layers,
        context_length: geometry.int("context_length")?,
        architecture: None,
    })
}

fn read_layer(value: &Value) -> Result<LayerGeometry> {
    let place = "layer";
    let kind = value
        .as_map()
        .and_then(|members| members.get("kind")?.as_text());
    let names: &[&str] = match kind {
        Some("attention") => &["kind", "kv_heads", "key_dim", "value_dim", "window"],
        Some("latent") => &["kind", "rank", "rope_dim"],
        _ => &["kind"],
    };
    let layer = Object::new(value, place, names)?;
    Ok(match kind {
        Some("attention") => LayerGeometry::Attention {
            kv_heads: layer.int("kv_heads")?,
            key_dim: layer.int("key_dim")?,
            value_dim: layer.int("value_dim")?,
            window: layer.int("window")?,
        },
        Some("latent") => LayerGeometry::Latent {
            rank: layer.int("rank")?,
            rope_dim: layer.int("rope_dim")?,
        },
        Some("recurrent") => LayerGeometry::Recurrent,
        Some("shared") => LayerGeometry::Shared,
        Some("unknown") => LayerGeometry::Unknown,
        _ => return Err(malformed("the kind of a layer is not known")),
    })
}
