//! Fixtures, and the way of a file to frames and back.

use std::{io, sync::Mutex};

use kvcap::{Bank, Code};
use kvcap_states::{Hints, RuntimeKind, Skeleton, State, WriteAt, parse, residue};

pub(super) const FIXTURES: [(&str, RuntimeKind, &str); 11] = [
    ("hf_f16", RuntimeKind::HuggingFace, "dynamic-cache"),
    ("mlx031_f16", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx031_q8", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx031_list", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx031_tiny", RuntimeKind::MlxLm, "mlx-lm-0.31"),
    ("mlx032_f16", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_q4", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_rotating", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_hybrid", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_list", RuntimeKind::MlxLm, "mlx-lm-0.32"),
    ("mlx032_tiny", RuntimeKind::MlxLm, "mlx-lm-0.32"),
];

pub(super) fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    std::fs::read(format!("{folder}/{name}.safetensors")).unwrap()
}

pub(super) struct Memory(pub(super) Mutex<Vec<u8>>);

impl WriteAt for Memory {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + buf.len()].copy_from_slice(buf);
        Ok(())
    }
}

pub(super) fn banks(state: &State) -> Vec<Bank> {
    state
        .banks
        .iter()
        .map(|placed| placed.bank.clone())
        .collect()
}

/// Takes the file apart into frames and residue, and builds it again from these alone.
pub(super) fn rebuild(
    kind: RuntimeKind,
    file: &[u8],
    hints: Hints<'_>,
) -> Result<Vec<u8>, kvcap::Error> {
    let state = parse(kind, &file, hints)?;
    let rest = residue(&state, &file)?;
    let skeleton = Skeleton::parse(&rest)?;
    let again = skeleton.state(kind, &banks(&state))?;
    assert_eq!(again.positions, state.positions);
    assert_eq!((again.format, &again.facts), (state.format, &state.facts));
    let out = Memory(Mutex::new(vec![0; file.len()]));
    skeleton.write(&out)?;
    let mut frame = Vec::new();
    for (from, to) in state.banks.iter().zip(&again.banks) {
        for index in 0..from.bank.shape.frames(from.bank.dtype).unwrap() {
            from.read_frame(&file, index, &mut frame)?;
            to.write_frame(&out, index, &frame)?;
        }
    }
    Ok(out.0.into_inner().unwrap())
}

pub(super) fn refused(kind: RuntimeKind, file: &[u8]) -> Code {
    let error = parse(kind, &file, Hints::None).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
    error.code()
}

/// A safetensors file of this header and that many bytes of data.
pub(super) fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

/// The fixture with the 0-d tensor `name` set to `value`.
pub(super) fn with_scalar(fixture: &[u8], name: &str, value: i32) -> Vec<u8> {
    let len = usize::try_from(u64::from_le_bytes(fixture[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&fixture[8..8 + len]).unwrap();
    let tensor = &header[name];
    assert_eq!(
        (tensor["dtype"].as_str(), &tensor["shape"]),
        (Some("I32"), &serde_json::json!([]))
    );
    let start = usize::try_from(tensor["data_offsets"][0].as_u64().unwrap()).unwrap();
    let mut file = fixture.to_vec();
    file[8 + len + start..][..4].copy_from_slice(&value.to_le_bytes());
    file
}

/// The fixture with `from` replaced in its header by `to`.
pub(super) fn with_text(fixture: &[u8], from: &str, to: &str) -> Vec<u8> {
    let len = usize::try_from(u64::from_le_bytes(fixture[..8].try_into().unwrap())).unwrap();
    let header = String::from_utf8(fixture[8..8 + len].to_vec()).unwrap();
    assert!(header.contains(from), "{from} in {header}");
    let mut file = file(&header.replacen(from, to, 1), 0);
    file.extend_from_slice(&fixture[8 + len..]);
    file
}
