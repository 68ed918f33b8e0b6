//! Where a model's facts are read from: folders, GGUF files, their configuration and tensors.

pub(crate) mod config;
pub(crate) mod file;
pub(crate) mod folder;
pub(crate) mod gguf;
pub(crate) mod gguf_model;
pub(crate) mod split;
pub(crate) mod tensors;
