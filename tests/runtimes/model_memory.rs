//! What a model's files may ask for: a constant, and a small multiple of the bytes that are read (model-id-v1
//! §2): counted by the allocator.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with the tests of profiles")]
#[path = "profile/support.rs"]
mod support;

use kvcap::Code;
use kvcap_models::ModelProfile;
use peak_alloc::PeakAlloc;
use support::{Folder, Gguf, config, folder, read};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Two buffers of weights that are hashed, trees of small files, and the profile.
const CONSTANT: usize = 24 << 20;

/// Reads a model, and holds what it took against `times` the `len` bytes of its file.
fn within(times: usize, len: usize, path: &std::path::Path) -> kvcap::Result<ModelProfile> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let found = read(path);
    let peak = MEMORY.peak_usage() - before;
    let most = CONSTANT + times * len;
    assert!(peak <= most, "{peak} bytes for a file of {len}");
    found
}

fn with_tokenizer(text: &str) -> Folder {
    let folder = folder(&config("llama", ""));
    folder.write("tokenizer.json", text);
    folder
}

/// A list of `count` elements of a GGUF type.
fn list(kind: u32, count: u64, element: &[u8]) -> Vec<u8> {
    let mut out = kind.to_le_bytes().to_vec();
    out.extend(count.to_le_bytes());
    for _ in 0..count {
        out.extend(element);
    }
    out
}

/// One test: the allocator counts for the whole process.
#[test]
fn hostile_model_files_ask_for_a_small_multiple_of_their_bytes() {
    // values that nobody asks for: 48 bytes each and a map's node in a tree
    let tiny = vec![r#"{"a":0}"#; 200_000].join(",");
    let bomb = format!(r#"{{"model":{{"vocab":{{"a":0}},"x":[{tiny}]}}}}"#);
    within(8, bomb.len(), &with_tokenizer(&bomb).0).unwrap();
    // tokens, half of them with an escape
    let tokens: Vec<_> = (0..100_000)
        .map(|id| match id % 2 {
            0 => format!("\"{id}\":{id}"),
            _ => format!("\"\\n{id}\":{id}"),
        })
        .collect();
    let many = format!(r#"{{"model":{{"vocab":{{{}}}}}}}"#, tokens.join(","));
    let profile = within(8, many.len(), &with_tokenizer(&many).0).unwrap();
    assert_eq!(profile.tokenizer.vocab_size, 100_000);
    // the shortest tokens of tekken and tiktoken
    let bytes = with_tokenizer("{}");
    std::fs::remove_file(bytes.0.join("tokenizer.json")).unwrap();
    let lines: String = (0..200_000).map(|id| format!("YQ== {id}\n")).collect();
    bytes.write("tiktoken.model", &lines);
    let profile = within(8, lines.len(), &bytes.0).unwrap();
    assert_eq!(profile.tokenizer.vocab_size, 200_000);
    let vocab: Vec<_> = (0..200_000)
        .map(|rank| format!(r#"{{"rank":{rank},"token_bytes":"YQ=="}}"#))
        .collect();
    let tekken = format!(
        r#"{{"config":{{"pattern":"","default_vocab_size":200000,"default_num_special_tokens":0,"version":""}},
            "special_tokens":[],"vocab":[{}]}}"#,
        vocab.join(",")
    );
    bytes.write("tekken.json", &tekken);
    let profile = within(8, tekken.len(), &bytes.0).unwrap();
    assert_eq!(profile.tokenizer.vocab_size, 200_000);
    // a file whose members are looked up by name holds fewer values
    let folder = folder(&config(
        "llama",
        &format!(r#""x": [{}]"#, "0,".repeat(1 << 20) + "0"),
    ));
    let refused = within(8, 2 << 20, &folder.0).unwrap_err();
    assert_eq!(refused.code(), Code::ModelMalformed);

    let folder = Folder::new();
    let lists = [
        list(0, 1 << 21, &[7]),
        list(7, 1 << 21, &[1]),
        list(8, 1 << 19, &[1, 0, 0, 0, 0, 0, 0, 0, b'x']),
    ];
    for value in lists {
        // one that the config digest covers, one that it leaves out
        for key in ["llama.x", "tokenizer.x"] {
            let file = Gguf::new("llama").raw(key, 9, &value).bytes();
            within(4, file.len(), &folder.write("model.gguf", &file)).unwrap();
        }
    }
    // factors of a rope that thousands of layers share
    let factors = vec!["1"; 1 << 15].join(",");
    let members = format!(
        r#""num_hidden_layers": 4096, "head_dim": 65536, "original_max_position_embeddings": 4096,
            "rope_scaling": {{"type": "longrope", "short_factor": [{factors}], "long_factor": [{factors}]}}"#
    );
    let text = config("phi3", &members).replacen(r#""num_hidden_layers": 4, "#, "", 1);
    let long = support::folder(&text);
    let profile = within(8, text.len(), &long.0).unwrap();
    assert_eq!(profile.rope[0].layers.len(), 4096);
    let ones = vec![1.0; 1 << 12];
    let file = Gguf::bare()
        .text("general.architecture", "phi3")
        .u32("phi3.block_count", 4096)
        .u32("phi3.context_length", 8192)
        .u32("phi3.attention.head_count", 1)
        .u32("phi3.attention.head_count_kv", 1)
        .u32("phi3.embedding_length", 8192)
        .u32("phi3.rope.dimension_count", 8192)
        .u32("phi3.rope.scaling.original_context_length", 4096)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", &["<s>", "a", "b"])
        .i32s("tokenizer.ggml.token_type", &[3, 1, 1])
        .tensor("rope_factors_long.weight", &ones)
        .tensor("rope_factors_short.weight", &ones)
        .bytes();
    let profile = within(8, file.len(), &folder.write("long.gguf", &file)).unwrap();
    assert_eq!(profile.rope[0].layers.len(), 4096);
    // each split is within the limit, all of them are not
    let value = list(0, 3 << 20, &[7]);
    for number in 0..4_u16 {
        let file = match number {
            0 => Gguf::new("llama"),
            _ => Gguf::bare().tensor("x", &[0.0; 8]),
        };
        let file = file
            .raw("split.no", 2, &number.to_le_bytes())
            .raw("split.count", 2, &4_u16.to_le_bytes())
            .raw("tokenizer.x", 9, &value);
        let name = format!("m-{:05}-of-00004.gguf", number + 1);
        folder.write(&name, file.bytes());
    }
    let refused = within(4, 4 * value.len(), &folder.0.join("m-00001-of-00004.gguf"));
    assert_eq!(refused.unwrap_err().code(), Code::ModelMalformed);
}
