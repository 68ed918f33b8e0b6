//! Tokenizers of model folders, whatever form they have.

use kvcap::Code;

use super::support::{Folder, Gguf, code, config, folder, profile, read_with};

#[test]
fn vocabularies_are_the_same_in_both_formats() {
    let folder = profile("llama", "").unwrap().tokenizer;
    let gguf = Gguf::new("llama").read().unwrap().tokenizer;
    assert_eq!(folder.vocab, gguf.vocab);
    assert_eq!((folder.vocab_size, gguf.vocab_size), (3, 3));
    assert_eq!(folder.chat_template, gguf.chat_template);
    let specials = [("add_bos", 1), ("bos", 0), ("eos", 2)].map(|(n, id)| (n.to_owned(), id));
    assert_eq!(folder.specials, specials);
    assert_eq!(gguf.specials, specials);
    assert_eq!((&*gguf.version, &*gguf.pre_tokenizer), ("gpt2", "gpt-2"));
}

#[test]
fn tokenizers_that_contradict_themselves() {
    let model = folder(&config("llama", ""));
    let with = |vocab: &str, added: &str| {
        model.write(
            "tokenizer.json",
            format!(r#"{{"added_tokens": [{added}], "model": {{"vocab": {vocab}}}}}"#),
        );
        read_with(&model.0, &[], &[]).map(|profile| profile.tokenizer)
    };
    let hole = with(r#"{"a": 0, "b": 2}"#, "").unwrap();
    assert_eq!(hole.vocab_size, 3);
    assert_eq!(
        hole.vocab,
        with(r#"[["a", -1.5], ["", 0], ["b", 0.5]]"#, "")
            .unwrap()
            .vocab
    );
    let added = with(r#"{"a": 0, "x": 2}"#, r#"{"id": 2, "content": "b"}"#).unwrap();
    assert_eq!(added.vocab, hole.vocab);
    for (vocab, added) in [
        (r#"{"a": 0, "b": 0}"#, ""),
        (r#"{"a": -1}"#, ""),
        (r#"{"a": 4000000000}"#, ""),
        (r#"{"a": "0"}"#, ""),
        ("7", ""),
        ("[[1]]", ""),
        (
            r#"{"a": 0}"#,
            r#"{"id": 1, "content": "b"}, {"id": 1, "content": "c"}"#,
        ),
        (r#"{"a": 0}"#, r#"{"id": 1}"#),
    ] {
        assert_eq!(with(vocab, added).unwrap_err().code(), Code::ModelMalformed);
    }
}

/// `a`, `b` and the byte ff in Base64.
const TEKKEN: &str = r#"{"config": {"pattern": "x+", "num_vocab_tokens": 4, "default_vocab_size": 6,
    "default_num_special_tokens": 3, "version": "v3"}, "special_tokens": [{"rank": 1, "token_str": "<s>", "is_control": true},
    {"rank": 0, "token_str": "<unk>", "is_control": true}], "vocab": [{"rank": 0, "token_bytes": "YQ==", "token_str": "a"},
    {"rank": 2, "token_bytes": "/w==", "token_str": null}, {"rank": 1, "token_bytes": "Yg==", "token_str": "b"},
    {"rank": 3, "token_bytes": "Yw==", "token_str": "c"}]}"#;

fn without_tokenizer_json() -> Folder {
    let model = folder(&config("llama", ""));
    std::fs::remove_file(model.0.join("tokenizer.json")).unwrap();
    model
}

#[test]
fn a_tekken_has_an_identity() {
    let model = without_tokenizer_json();
    assert_eq!(code(read_with(&model.0, &[], &[])), Code::ModelMissing);
    let read = |text: &str| {
        model.write("tekken.json", text);
        read_with(&model.0, &[], &[]).map(|profile| profile.tokenizer)
    };
    let found = read(TEKKEN).unwrap();
    // two special tokens, one made up, and three of the four ranks
    assert_eq!(found.vocab_size, 6);
    assert_eq!(found.version, "tekken/v3");
    let id = |name: &str| found.specials.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!((id("bos"), id("unk")), (1, 0));
    // what is not in the tokenizer is not in its identity, and all else is
    for same in [
        TEKKEN.replace("\"c\"", "\"d\"").replace("Yw==", "ZA=="),
        TEKKEN.replace("null", "\"?\""),
        TEKKEN.replace("true", "false"),
    ] {
        assert_eq!(read(&same).unwrap(), found);
    }
    for other in [
        TEKKEN.replace("x+", "y+"),
        TEKKEN.replace("/w==", "/Q=="),
        TEKKEN.replace("\"v3\"", "\"v7\""),
        TEKKEN.replace("size\": 6", "size\": 5"),
    ] {
        assert_ne!(read(&other).unwrap(), found, "{other}");
    }
    for bad in [
        TEKKEN.replace("/w==", "/x=="),
        TEKKEN.replace("/w==", "/w="),
        TEKKEN.replace("{\"rank\": 2", "{\"rank\": 1"),
        TEKKEN.replace("{\"rank\": 0", "{\"rank\": 1"),
        TEKKEN.replace("size\": 6", "size\": 2"),
        TEKKEN.replace("pattern", "p"),
        "[]".to_owned(),
    ] {
        assert_eq!(
            read(&bad).unwrap_err().code(),
            Code::ModelMalformed,
            "{bad}"
        );
    }
    let old = TEKKEN.replace("special_tokens\": [", "old\": [");
    assert_eq!(read(&old).unwrap_err().code(), Code::ModelUnsupported);
    // tokenizer.json counts before
    model.write("tekken.json", TEKKEN);
    model.write("tokenizer.json", r#"{"model": {"vocab": {"a": 0}}}"#);
    let first = read_with(&model.0, &[], &[]).unwrap();
    assert_eq!(first.tokenizer.vocab_size, 1);
}

#[test]
fn a_tiktoken_has_an_identity() {
    let model = without_tokenizer_json();
    let config = r#"{"tokenizer_class": "TikTokenTokenizer", "bos_token": "[BOS]", "auto_map": {"AutoTokenizer":
        ["tokenization_x.TikTokenTokenizer", null]}, "added_tokens_decoder": {"5": {"content": "[BOS]"}}}"#;
    model.write("tokenizer_config.json", config);
    let read = |text: &str| {
        model.write("tiktoken.model", text);
        read_with(&model.0, &[], &[]).map(|profile| profile.tokenizer)
    };
    let found = read("YQ== 0\nYg== 1\n/w== 2\n").unwrap();
    assert_eq!(found.vocab_size, 6);
    assert_eq!(found.version, "TikTokenTokenizer/tiktoken");
    assert_eq!(found.specials, [("bos".to_owned(), 5)]);
    // the order of lines and their ends say nothing
    assert_eq!(read("Yg== 1\r\nYQ== 0\r\n\n\r\n/w== 2").unwrap(), found);
    assert_ne!(read("Yg== 0\nYQ== 1\n/w== 2\n").unwrap(), found);
    for bad in [
        "YQ==",
        "YQ== x\n",
        "YQ== +0\n",
        "YQ== 0\nYg== 0\n",
        "YQ= 0\n",
        "YQ==  0\n",
        "YQ== 9999999\n",
    ] {
        assert_eq!(read(bad).unwrap_err().code(), Code::ModelMalformed, "{bad}");
    }
    for id in ["+5", " 5", "5x", ""] {
        model.write(
            "tokenizer_config.json",
            config.replace("\"5\"", &format!("\"{id}\"")),
        );
        let error = read("YQ== 0\n").unwrap_err();
        assert_eq!(error.code(), Code::ModelMalformed, "{id:?}");
    }
    model.write("tokenizer_config.json", config);
    // the pattern stands in code
    model.write("tokenization_x.py", "pat = 'x'");
    let coded = read("YQ== 0\nYg== 1\n/w== 2\n").unwrap();
    assert_eq!(coded.vocab, found.vocab);
    assert_ne!(coded.pre_tokenizer, found.pre_tokenizer);
    model.write("tokenization_x.py", "pat = 'y'");
    let other = read("YQ== 0\nYg== 1\n/w== 2\n").unwrap();
    assert_ne!(other.pre_tokenizer, coded.pre_tokenizer);
}
