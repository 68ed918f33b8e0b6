//! A folder that goes away, model folders and GGUF files made by code.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use kvcap::{
    Code, Result,
    binding::{F64Bits, Scaling},
};
use kvcap_models::{HashCache, LayerGeometry, ModelProfile, RuntimeOptions};

/// A temporary folder.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("kvcap-profile-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/model")
}

pub(super) fn read(path: &Path) -> Result<ModelProfile> {
    read_with(path, &[], &[])
}

pub(super) fn read_with(
    path: &Path,
    adapters: &[(PathBuf, f64)],
    options: &[&str],
) -> Result<ModelProfile> {
    let options = RuntimeOptions::parse(options)?;
    ModelProfile::read(path, adapters, &options, &HashCache::off(), &|_, _| {})
}

/// A model folder with this `config.json` and three tokens.
pub(super) fn folder(config: &str) -> Folder {
    let folder = Folder::new();
    folder.write("config.json", config);
    folder.write("model.safetensors", b"weights");
    folder.write(
        "tokenizer.json",
        r#"{"version": "1.0", "added_tokens": [{"id": 0, "content": "<s>"}],
            "normalizer": null, "pre_tokenizer": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "é": 2}, "merges": []}}"#,
    );
    folder.write(
        "tokenizer_config.json",
        r#"{"tokenizer_class": "T", "bos_token": {"content": "<s>"}, "eos_token": "é",
            "pad_token": "absent", "add_bos_token": true, "chat_template": "{{ x }}"}"#,
    );
    folder
}

/// A llama-like `config.json` of four layers with these further members.
pub(super) fn config(kind: &str, members: &str) -> String {
    format!(
        r#"{{"model_type": "{kind}", "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "hidden_size": 64, "max_position_embeddings": 8192{}{members}}}"#,
        if members.is_empty() { "" } else { ", " }
    )
}

/// The profile of a folder with such a config.
pub(super) fn profile(kind: &str, members: &str) -> Result<ModelProfile> {
    read(&folder(&config(kind, members)).0)
}

pub(super) fn code(result: Result<ModelProfile>) -> Code {
    result.unwrap_err().code()
}

/// A GGUF file in the making.
#[derive(Clone)]
pub(super) struct Gguf {
    pub(super) version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<(String, Vec<f32>)>,
}

impl Gguf {
    /// An empty one.
    pub(super) fn bare() -> Self {
        Self {
            version: 3,
            keys: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// A model of four layers with three tokens, of which the last pads.
    pub(super) fn new(arch: &str) -> Self {
        Self::bare()
            .text("general.architecture", arch)
            .text("general.name", "tiny")
            .u32(&format!("{arch}.block_count"), 4)
            .u32(&format!("{arch}.context_length"), 8192)
            .u32(&format!("{arch}.embedding_length"), 64)
            .u32(&format!("{arch}.attention.head_count"), 4)
            .u32(&format!("{arch}.attention.head_count_kv"), 2)
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts("tokenizer.ggml.tokens", &["<s>", "a", "é", "[PAD3]"])
            .i32s("tokenizer.ggml.token_type", &[3, 1, 1, 5])
            .u32("tokenizer.ggml.bos_token_id", 0)
            .u32("tokenizer.ggml.eos_token_id", 2)
            .flag("tokenizer.ggml.add_bos_token", true)
            .text("tokenizer.chat_template", "{{ x }}")
            .tensor("token_embd.weight", &[0.5; 16])
    }

    pub(super) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let mut out = string(key);
        out.extend(kind.to_le_bytes());
        out.extend(value);
        self.keys.push(out);
        self
    }

    pub(super) fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(super) fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub(super) fn flag(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[value.into()])
    }

    pub(super) fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, 8, &string(value))
    }

    pub(super) fn texts(self, key: &str, values: &[&str]) -> Self {
        let items: Vec<_> = values.iter().map(|value| string(value)).collect();
        self.list(key, 8, &items)
    }

    pub(super) fn i32s(self, key: &str, values: &[i32]) -> Self {
        let items: Vec<_> = values.iter().map(|v| v.to_le_bytes().to_vec()).collect();
        self.list(key, 5, &items)
    }

    pub(super) fn flags(self, key: &str, values: &[bool]) -> Self {
        let items: Vec<_> = values.iter().map(|v| vec![u8::from(*v)]).collect();
        self.list(key, 7, &items)
    }

    pub(super) fn list(self, key: &str, kind: u32, items: &[Vec<u8>]) -> Self {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend((items.len() as u64).to_le_bytes());
        out.extend(items.concat());
        self.raw(key, 9, &out)
    }

    pub(super) fn tensor(mut self, name: &str, values: &[f32]) -> Self {
        self.tensors.push((name.to_owned(), values.to_vec()));
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        out.extend(self.keys.concat());
        let mut data = Vec::new();
        for (name, values) in &self.tensors {
            out.extend(string(name));
            out.extend(1_u32.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            out.extend(0_u32.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }

    pub(super) fn read(&self) -> Result<ModelProfile> {
        read_bytes(&self.bytes())
    }
}

pub(super) fn read_bytes(bytes: &[u8]) -> Result<ModelProfile> {
    let folder = Folder::new();
    read(&folder.write("model.gguf", bytes))
}

fn string(value: &str) -> Vec<u8> {
    let mut out = (value.len() as u64).to_le_bytes().to_vec();
    out.extend(value.as_bytes());
    out
}

pub(super) fn bits(value: f64) -> F64Bits {
    F64Bits(value.to_bits())
}

pub(super) fn all(values: &[f64]) -> Vec<F64Bits> {
    values.iter().copied().map(bits).collect()
}

pub(super) fn scaling(kind: &str, members: &str) -> Scaling {
    profile(kind, members).unwrap().rope.remove(0).scaling
}

pub(super) fn attention(kv_heads: u64, dim: u64, window: u64) -> LayerGeometry {
    LayerGeometry::Attention {
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        window,
    }
}
