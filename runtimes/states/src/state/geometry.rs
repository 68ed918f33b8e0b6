//! The state's banks against the model's shape (runtimes-v1 §1.5).

use kvcap::{Code, Error, Result, Role};
use kvcap_codecs::BankShape;

use kvcap_models::{Geometry, LayerGeometry};

use crate::state::{Placed, State};

/// Refuses a state whose layers, heads or head sizes are not the model's.
///
/// # Errors
/// [`Code::StateContradiction`], naming both sides.
pub(crate) fn check(state: &State, geometry: &Geometry) -> Result<()> {
    let stated = state.facts.iter().find(|fact| fact.0 == "arch");
    if let (Some((_, stated)), Some(own)) = (stated, &geometry.architecture)
        && stated != own
    {
        return Err(
            contradiction("the state is of another architecture than the model")
                .sides(own.escape_debug(), stated),
        );
    }
    let layers = u32::try_from(geometry.layers.len()).unwrap_or(u32::MAX);
    if state.layers > layers {
        return Err(
            contradiction("the state has more layers than the model").sides(layers, state.layers)
        );
    }
    for (number, layer) in (0..).zip(&geometry.layers) {
        check_layer(state, number, layer)
            .map_err(|error| error.at(format_args!("layer {number}")))?;
    }
    Ok(())
}

fn check_layer(state: &State, number: u32, layer: &LayerGeometry) -> Result<()> {
    let banks: Vec<_> = state
        .banks
        .iter()
        .filter(|p| p.bank.layer == number)
        .collect();
    let has = |role| banks.iter().any(|placed| placed.bank.role == role);
    match *layer {
        LayerGeometry::Attention {
            kv_heads,
            key_dim,
            value_dim,
            window: _,
        } => {
            for (role, dim) in [(Role::Key, key_dim), (Role::Value, value_dim)] {
                if !has(role) {
                    return Err(
                        contradiction("the state lacks what the model's layer keeps")
                            .sides(format_args!("a {} bank", role.name()), "none"),
                    );
                }
                for placed in banks.iter().filter(|placed| placed.bank.role == role) {
                    shape(placed, kv_heads, dim)?;
                }
            }
        }
        LayerGeometry::Latent { rank, rope_dim } => {
            // A cache may also hold the expanded keys and values, whose sizes this does not know.
            if !has(Role::Latent) && !has(Role::Key) {
                return Err(
                    contradiction("the state lacks what the model's layer keeps")
                        .sides("a latent bank", "none"),
                );
            }
            // llama.cpp keeps latent and rotated part in one row.
            let latent = if has(Role::RopeKey) {
                rank
            } else {
                rank.saturating_add(rope_dim)
            };
            for placed in &banks {
                match placed.bank.role {
                    Role::Latent => shape(placed, 1, latent)?,
                    Role::RopeKey => shape(placed, 1, rope_dim)?,
                    _ => {}
                }
            }
        }
        LayerGeometry::Recurrent => {
            if banks.is_empty() {
                return Err(
                    contradiction("the state lacks what the model's layer keeps")
                        .sides("recurrent state", "none"),
                );
            }
            if let Some(placed) = banks.iter().find(|p| attention(p.bank.role)) {
                return Err(
                    contradiction("the state has attention banks for a recurrent layer")
                        .sides("recurrent state", placed.name()),
                );
            }
        }
        LayerGeometry::Shared => {
            if let Some(placed) = banks.first() {
                return Err(
                    contradiction("the state has banks for a layer that shares another's")
                        .sides("none", placed.name()),
                );
            }
        }
        LayerGeometry::Unknown => {}
    }
    Ok(())
}

fn shape(placed: &Placed, want_heads: u64, want_dim: u64) -> Result<()> {
    let BankShape::Tokens { heads, dim, .. } = placed.bank.shape else {
        return Err(contradiction("an attention bank has no token axis").at(placed.name()));
    };
    // rows of a block type whose blocks run across heads are kept whole
    let whole = placed.bank.dtype.row_bytes(want_dim).is_none()
        && (heads, Some(dim)) == (1, want_heads.checked_mul(want_dim));
    if (heads, dim) != (want_heads, want_dim) && !whole {
        return Err(contradiction("heads and head size are not the model's")
            .at(placed.name())
            .sides(
                format_args!("{want_heads} × {want_dim}"),
                format_args!("{heads} × {dim}"),
            ));
    }
    Ok(())
}

fn attention(role: Role) -> bool {
    matches!(role, Role::Key | Role::Value | Role::Latent | Role::RopeKey)
}

fn contradiction(what: &'static str) -> Error {
    Error::new(Code::StateContradiction, what)
}
