//! Model profiles: what is read from model folders, GGUF and kvid files, and the ids over it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod profile {
    mod contradictions;
    mod geometry;
    mod gguf;
    mod identity;
    mod options;
    mod rope;
    mod support;
    mod tokenizer;
}
