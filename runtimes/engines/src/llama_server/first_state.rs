//! What a server writes, shown by a first state.

use kvcap_models::ModelProfile;
use kvcap_states::{Hints, RuntimeKind, parse};

use crate::{error::EngineError, http::Client, layout::Layout, state_file::StateFolder};

/// Ids that every vocabulary has.
pub(super) const PROBE: [u32; 4] = [1, 2, 1, 2];

/// Evaluates a few tokens in a slot and reads their state, as the model's; the slot is empty afterwards.
pub(super) async fn show(
    client: &Client,
    states: &StateFolder,
    profile: &ModelProfile,
    slot: usize,
) -> Result<Layout, EngineError> {
    let state = states.create().map_err(EngineError::Io)?;
    client.erase(slot).await?;
    client.evaluate(slot, &PROBE).await?;
    client.save(slot, state.name()).await?;
    client.erase(slot).await?;
    let source = state.source().map_err(EngineError::Io)?;
    let shown = parse(
        RuntimeKind::LlamaCpp,
        &source,
        Hints::Model(&profile.geometry),
    );
    let layout = |state| Layout::of(RuntimeKind::LlamaCpp, state);
    shown.map(layout).map_err(EngineError::Unsuitable)
}
