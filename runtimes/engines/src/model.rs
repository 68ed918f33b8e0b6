//! The model as its files are, hashed once and remembered.

use std::path::Path;

use kvcap::{Code, Error, binding::Digest};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions};

use crate::error::EngineError;

pub(crate) async fn profile(
    path: &Path,
    options: &RuntimeOptions,
) -> Result<ModelProfile, EngineError> {
    // what its states are encoded with
    kvcap_states::look_for_profiles_beside(path);
    let (path, options) = (path.to_owned(), options.clone());
    let reading = move || ModelProfile::read(&path, &[], &options, &HashCache::user(), &|_, _| {});
    let read = tokio::task::spawn_blocking(reading).await;
    read.map_err(|_| EngineError::Lost)?
        .map_err(EngineError::Unsuitable)
}

/// Refuses a model whose files were exchanged since the engine was first started.
pub(crate) async fn is_still(
    id: Digest,
    path: &Path,
    options: &RuntimeOptions,
) -> Result<(), EngineError> {
    match profile(path, options).await?.model.id == id {
        true => Ok(()),
        false => {
            let what = "the engine's model is another one now";
            let error = Error::new(Code::BindingModel, what);
            Err(EngineError::Unsuitable(error.at(path.display())))
        }
    }
}
