//! Any safetensors file as opaque banks, for runtimes without an adapter (runtimes-v1 §5).

use crate::adapters::tensors::whole;
use kvcap::{Bank, Result, Role, Rows};

use kvcap_models::safetensors::Header;

use crate::state::{Hints, Placed, ReadAt, State};

/// Every tensor with data is one opaque bank of layer 0, in the order of the data.
pub(crate) fn parse(file: &dyn ReadAt, _: Hints<'_>) -> Result<State> {
    let header = Header::read(file)?;
    let filled = header.tensors.iter().filter(|tensor| tensor.len > 0);
    let banks = (0..)
        .zip(filled)
        .map(|(index, tensor)| {
            let (shape, region) = whole(tensor);
            Placed {
                bank: Bank {
                    role: Role::Opaque,
                    layer: 0,
                    index,
                    dtype: tensor.dtype,
                    shape,
                    rows: Rows::None,
                    window: 0,
                },
                parts: vec![region],
                hadamard: None,
            }
        })
        .collect();
    Ok(State {
        runtime: "raw",
        format: "safetensors",
        facts: Vec::new(),
        banks,
        layers: 1,
        stateless: Vec::new(),
        positions: 0..0,
        tokens: None,
        notes: vec![
            "the tensors are carried as they are; nothing about them was checked".to_owned(),
        ],
        file_len: file.len(),
    })
}
