//! One small model written twice: as a folder, and as a GGUF file.

use serde_json::{Value, json};

use crate::support::{Folder, fixture};

const LAYERS: usize = 6;
const HIDDEN: usize = 8;
const HEAD: usize = 64;

/// A tensor: its name in a folder and in a GGUF file, rows, values.
pub(crate) struct Tensor {
    pub(crate) folder: String,
    pub(crate) gguf: String,
    rows: usize,
    pub(crate) values: Vec<f32>,
}

/// Weights by rule, with the heads of the fixtures' states.
pub(crate) fn tensors() -> Vec<Tensor> {
    let mut tensors = vec![
        tensor("model.embed_tokens.weight", "token_embd.weight", 4),
        tensor("model.norm.weight", "output_norm.weight", 1),
    ];
    for layer in 0..LAYERS {
        for (theirs, ours, rows) in [
            ("self_attn.q_proj", "attn_q", 8 * HEAD),
            ("self_attn.k_proj", "attn_k", 2 * HEAD),
            ("self_attn.v_proj", "attn_v", 2 * HEAD),
            ("self_attn.o_proj", "attn_output", HIDDEN),
            ("input_layernorm", "attn_norm", 1),
            ("post_attention_layernorm", "ffn_norm", 1),
            ("mlp.gate_proj", "ffn_gate", 4),
            ("mlp.up_proj", "ffn_up", 4),
            ("mlp.down_proj", "ffn_down", HIDDEN),
        ] {
            let folder = format!("model.layers.{layer}.{theirs}.weight");
            tensors.push(tensor(&folder, &format!("blk.{layer}.{ours}.weight"), rows));
        }
    }
    tensors
}

fn tensor(folder: &str, gguf: &str, rows: usize) -> Tensor {
    let seed: u32 = gguf
        .bytes()
        .fold(1, |sum, byte| sum * 31 % 65_521 + u32::from(byte));
    let value =
        |at: u32| f32::from(u16::try_from((seed + at * 7919) % 4001).unwrap()) / 512.0 - 4.0;
    Tensor {
        folder: folder.to_owned(),
        gguf: gguf.to_owned(),
        rows,
        values: (0..u32::try_from(rows * HIDDEN).unwrap())
            .map(value)
            .collect(),
    }
}

/// Rows of heads from halves to neighbours, as a converter to GGUF puts those of queries and keys.
pub(crate) fn interleave(values: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for head in values.chunks_exact(HEAD * HIDDEN) {
        for row in 0..HEAD {
            let from = row % 2 * (HEAD / 2) + row / 2;
            out.extend(&head[from * HIDDEN..][..HIDDEN]);
        }
    }
    out
}

/// The model folder `name`.
pub(crate) fn write_folder(folder: &Folder, name: &str, tensors: &[Tensor]) {
    std::fs::create_dir(folder.path(name)).unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let content = std::fs::read(fixture("model").join(file)).unwrap();
        folder.write(&format!("{name}/{file}"), &content);
    }
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for tensor in tensors {
        let start = data.len();
        data.extend(tensor.values.iter().flat_map(|x| x.to_le_bytes()));
        let shape = match tensor.rows {
            1 => json!([HIDDEN]),
            rows => json!([rows, HIDDEN]),
        };
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(tensor.folder.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let len = (header.len() as u64).to_le_bytes();
    let file = [&len[..], header.as_bytes(), &data].concat();
    folder.write(&format!("{name}/model.safetensors"), &file);
}

/// The GGUF file `name`, with keys and queries in neighbouring pairs and these further keys.
pub(crate) fn write_gguf(folder: &Folder, name: &str, tensors: &[Tensor], more: &[(&str, f32)]) {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let mut key = |name: &str, kind: u32, value: &[u8]| {
        keys.push([&string(name)[..], &kind.to_le_bytes(), value].concat());
    };
    key("general.architecture", 8, &string("llama"));
    for (name, value) in [
        ("block_count", 6),
        ("context_length", 2048),
        ("embedding_length", 256),
        ("attention.head_count", 8),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 64),
        ("attention.value_length", 64),
    ] {
        key(&format!("llama.{name}"), 4, &u32::to_le_bytes(value));
    }
    let epsilon = ("llama.attention.layer_norm_rms_epsilon", 1e-5);
    let replaced = more.iter().any(|(name, _)| *name == epsilon.0);
    for (name, value) in more
        .iter()
        .chain([&epsilon].into_iter().filter(|_| !replaced))
    {
        key(name, 6, &value.to_le_bytes());
    }
    key("tokenizer.ggml.model", 8, &string("gpt2"));
    key("tokenizer.ggml.pre", 8, &string("gpt-2"));
    let words = words(folder);
    let count = (words.len() as u64).to_le_bytes();
    let texts: Vec<u8> = words.iter().flat_map(|word| string(word)).collect();
    let list = |kind: u32, items: &[u8]| [&kind.to_le_bytes()[..], &count, items].concat();
    key("tokenizer.ggml.tokens", 9, &list(8, &texts));
    let kinds: Vec<u8> = words.iter().flat_map(|_| 1_i32.to_le_bytes()).collect();
    key("tokenizer.ggml.token_type", 9, &list(5, &kinds));

    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    out.extend(keys.concat());
    let mut data: Vec<u8> = Vec::new();
    for tensor in tensors {
        let dims: &[usize] = match tensor.rows {
            1 => &[HIDDEN],
            rows => &[HIDDEN, rows],
        };
        out.extend(string(&tensor.gguf));
        out.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        out.extend(dims.iter().flat_map(|dim| (*dim as u64).to_le_bytes()));
        out.extend(0_u32.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        let turned = tensor.gguf.contains("attn_q") || tensor.gguf.contains("attn_k");
        let values = match turned {
            true => interleave(&tensor.values),
            false => tensor.values.clone(),
        };
        data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    folder.write(name, &[out, data].concat());
}

/// The vocabulary of the fixtures' model by id.
fn words(folder: &Folder) -> Vec<String> {
    let tokenizer: Value = serde_json::from_slice(&folder.read("model/tokenizer.json")).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    let mut words: Vec<(u64, String)> = vocab
        .iter()
        .map(|(word, id)| (id.as_u64().unwrap(), word.clone()))
        .collect();
    words.sort();
    words.into_iter().map(|(_, word)| word).collect()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}
