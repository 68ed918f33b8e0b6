//! Model files of a few megabytes, made of one piece many times, under a tight cap: reading them holds a
//! constant and a small multiple of their bytes (model-id-v1 MOD-V-4).

#![no_main]

use std::{cell::LazyCell, fs, path::Path};

use kvcap_fuzz::{Input, capped, read_model, tokenizer_json};
use libfuzzer_sys::fuzz_target;

/// Two buffers of weights that are hashed, the tree of a small file, and the profile.
const CONSTANT: usize = 64 << 20;

const TIMES: usize = 8;

/// Longest list that is made: of JSON, which costs more time than memory here, and of GGUF.
const LONGEST_JSON: usize = 512 << 10;
const LONGEST_GGUF: usize = 2 << 20;

const CONFIG: &str = r#"{"model_type":"llama","num_hidden_layers":4,"num_attention_heads":4,"num_key_value_heads":2,"hidden_size":64,"max_position_embeddings":8192}"#;

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| tempfile::tempdir().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let folder = FOLDER.with(|folder| folder.path().to_owned());
    let put = |name: &str, content: &[u8]| fs::write(folder.join(name), content).unwrap();
    match script.byte() % 4 {
        0 => {
            let many = json(&mut script);
            put("config.json", CONFIG.as_bytes());
            put("model.safetensors", b"weights");
            put("tokenizer.json", many.as_bytes());
            read(&folder, many.len());
        }
        1 => {
            let many = json(&mut script);
            put(
                "config.json",
                many.replacen('{', &CONFIG.replace('}', ","), 1).as_bytes(),
            );
            put("model.safetensors", b"weights");
            put("tokenizer.json", tokenizer_json().as_bytes());
            read(&folder, many.len());
        }
        2 => {
            let file = gguf(&mut script, None);
            put("model.gguf", &file);
            read(&folder.join("model.gguf"), file.len());
        }
        _ => {
            let count = script.byte() % 4 + 2;
            let name = |number: u8| format!("m-{:05}-of-{count:05}.gguf", number + 1);
            let mut len = 0;
            for number in 0..count {
                let file = gguf(&mut script, Some((number, count)));
                len += file.len();
                put(&name(number), &file);
            }
            read(&folder.join(name(0)), len);
        }
    }
});

fn read(path: &Path, len: usize) {
    capped(CONSTANT + TIMES * len, || {
        let _ = read_model(path);
    });
}

/// A piece of the script's, as often as it says.
fn many(script: &mut Input<'_>, between: &[u8], longest: usize) -> (Vec<u8>, u64) {
    let piece = [script.short(), between].concat();
    let count = 1_usize << (script.byte() % 22);
    let count = count.min(longest / piece.len().max(1));
    (piece.repeat(count), count as u64)
}

/// An object whose members are a tokenizer's, with one list of many items.
fn json(script: &mut Input<'_>) -> String {
    let (items, _) = many(script, b",", LONGEST_JSON);
    let items = String::from_utf8_lossy(&items).into_owned();
    let items = items.trim_end_matches(',');
    match script.byte() % 3 {
        0 => format!(r#"{{"model":{{"vocab":{{"a":0}},"x":[{items}]}}}}"#),
        1 => format!(r#"{{"model":{{"vocab":[{items}]}}}}"#),
        _ => format!(r#"{{"model":{{"vocab":{{"a":0}}}},"added_tokens":[{items}]}}"#),
    }
}

/// A header of one list, and where it is a split its number.
fn gguf(script: &mut Input<'_>, split: Option<(u8, u8)>) -> Vec<u8> {
    let mut keys: Vec<(&str, u32, Vec<u8>)> = vec![("general.architecture", 8, text("llama"))];
    if let Some((number, count)) = split {
        keys.push(("split.no", 0, vec![number]));
        keys.push(("split.count", 0, vec![count]));
    }
    let kind = u32::from(script.byte() % 13);
    let (elements, pieces) = many(script, b"", LONGEST_GGUF);
    const SIZES: [u64; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
    let whole = (elements.len() as u64).checked_div(SIZES[kind as usize]);
    let count = whole.unwrap_or(pieces);
    // sometimes a count that the file does not hold
    let count = match script.byte() {
        0 => script.edge(),
        _ => count,
    };
    let list = [&kind.to_le_bytes()[..], &count.to_le_bytes(), &elements].concat();
    keys.push(("llama.x", 9, list));
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend(0_u64.to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    for (key, kind, value) in keys {
        out.extend(text(key));
        out.extend(kind.to_le_bytes());
        out.extend(value);
    }
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
