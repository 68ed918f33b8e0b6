//! A model folder with one file of any bytes: its config, its tokenizer in one of three forms, the
//! tokenizer's config, or its weights.

#![no_main]

use std::{cell::LazyCell, fs};

use kvcap_fuzz::{Input, read_model, tokenizer_json};
use libfuzzer_sys::fuzz_target;

const CONFIG: &str = r#"{"model_type":"llama","num_hidden_layers":4,"num_attention_heads":4,"num_key_value_heads":2,"hidden_size":64,"max_position_embeddings":8192}"#;
const TOKENIZER_CONFIG: &str = r#"{"tokenizer_class":"T","bos_token":{"content":"<s>"},"eos_token":"a","chat_template":"{{ x }}"}"#;

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| tempfile::tempdir().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let chosen = usize::from(script.byte() % 6);
    let any = script.rest();
    let lawful = [
        ("config.json", CONFIG.as_bytes()),
        ("tokenizer.json", tokenizer_json().as_bytes()),
        ("tokenizer_config.json", TOKENIZER_CONFIG.as_bytes()),
        ("model.safetensors", b"weights"),
    ];
    let folder = FOLDER.with(|folder| folder.path().to_owned());
    for (number, (name, content)) in lawful.into_iter().enumerate() {
        let content = if number == chosen { any } else { content };
        fs::write(folder.join(name), content).unwrap();
    }
    // a tokenizer in a form of its own counts where there is no tokenizer.json
    for (number, name) in [(4, "tekken.json"), (5, "tiktoken.model")] {
        if number == chosen {
            fs::write(folder.join(name), any).unwrap();
            fs::remove_file(folder.join("tokenizer.json")).unwrap();
        } else {
            let _none = fs::remove_file(folder.join(name));
        }
    }
    if let Ok(profile) = read_model(&folder) {
        let path = folder.join("kept.kvid");
        fs::write(&path, profile.to_kvid()).unwrap();
        assert_eq!(
            read_model(&path).ok(),
            Some(profile),
            "what was read can be kept"
        );
        fs::remove_file(path).unwrap();
    }
});
