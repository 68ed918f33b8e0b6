//! What every adapter must keep, whatever the file.

use kvcap::Bank;
use kvcap_models::ModelProfile;
use kvcap_states::{Hints, RuntimeKind, Skeleton, detect, parse, residue};

use crate::{Memory, fixture};

/// Parses `file` as `kind`; where that succeeds, takes it apart into residue and frames and puts it
/// together again.
///
/// # Panics
/// Where the way back refuses what the way there accepted, or gives another file.
pub fn parse_state(kind: RuntimeKind, file: &[u8]) {
    let _ = detect(&file);
    let profile: &ModelProfile = fixture();
    let _ = parse(kind, &file, Hints::Model(&profile.geometry));
    let Ok(state) = parse(kind, &file, Hints::None) else {
        return;
    };
    assert_eq!(state.file_len, file.len() as u64);
    let Ok(kept) = residue(&state, &file) else {
        return;
    };
    let banks: Vec<Bank> = state
        .banks
        .iter()
        .map(|placed| placed.bank.clone())
        .collect();
    let skeleton = Skeleton::parse(&kept).expect("our own residue is canonical");
    let back = skeleton
        .state(kind, &banks)
        .expect("the residue describes the state that it is of");
    let out = Memory::zeros(file.len());
    skeleton.write(&out).expect("its segments lie in the file");
    let mut frame = Vec::new();
    for (from, to) in state.banks.iter().zip(&back.banks) {
        let frames = from.bank.shape.frames(from.bank.dtype).unwrap_or(0);
        for index in 0..frames {
            from.read_frame(&file, index, &mut frame)
                .expect("rows lie in the file");
            to.write_frame(&out, index, &frame)
                .expect("rows lie in the file");
        }
    }
    let leftovers = state
        .padding_nonzero(&file)
        .expect("regions lie in the file");
    assert_eq!(
        out.0.lock().unwrap().as_slice() == file,
        leftovers.is_empty(),
        "the file comes back byte for byte exactly where its padding is zero"
    );
}
