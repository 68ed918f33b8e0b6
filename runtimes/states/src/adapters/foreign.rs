//! What a file is that no adapter recognises, and what to do with it.

use kvcap::{Code, Error, Result};
use kvcap_models::safetensors::Header;

use crate::state::ReadAt;

/// First bytes, what begins with them, and what a user can do.
const KINDS: [(&[u8], &str); 13] = [
    (
        b"GGUF",
        "this is a GGUF file: the weights of a model, and no state",
    ),
    (
        b"\x93NUMPY",
        "this is a NumPy array: save the cache as safetensors",
    ),
    (
        b"SQLite format 3\0",
        "this is a database (LlamaDiskCache): save the state with llama_state_seq_save_file",
    ),
    (b"\x89KVC\r\n", "this is a capsule already"),
    (b"\x1f\x8b", "this is compressed by gzip: decompress it"),
    (
        b"\x28\xb5\x2f\xfd",
        "this is compressed by zstd: decompress it",
    ),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"(dp0\n", PICKLE),
    (b"(lp0\n", PICKLE),
    (b"{", "this is text, and no state file"),
];

const PICKLE: &str = "this is a pickle (torch.save, LlamaState), which can run code when it is loaded: save the cache's tensors as safetensors, or the state with llama_state_seq_save_file";

/// Bytes of the file that are looked at: a zip file's first name begins at byte 30.
const START: usize = 256;

/// The refusal of a file that no adapter recognises.
pub(super) fn unrecognised(file: &dyn ReadAt) -> Error {
    let start = match start(file) {
        Ok(start) => start,
        Err(error) => return error,
    };
    let what = match (named(&start), start.get(8)) {
        (Some(what), _) => what,
        (None, Some(b'{')) => match Header::read(file) {
            Ok(_) => {
                "the tensors of this safetensors file are no runtime's that is known; the runtime raw carries them as they are"
            }
            Err(error) => return error,
        },
        _ => "no adapter recognises the state file",
    };
    Error::new(Code::StateUnrecognised, what)
}

/// The refusal of a file by the adapter that was asked for: where the file is something else, it is not
/// damaged, and named for what it is; an empty one may be either.
pub(super) fn instead(error: Error, file: &dyn ReadAt) -> Error {
    let start = match error.code() {
        Code::StateMalformed | Code::StateUnrecognised => start(file).ok(),
        _ => None,
    };
    match start.map(|start| (named(&start), start.is_empty())) {
        Some((Some(what), true)) => Error::new(error.code(), what),
        Some((Some(what), false)) => Error::new(Code::StateUnrecognised, what),
        _ => error,
    }
}

fn start(file: &dyn ReadAt) -> Result<Vec<u8>> {
    let len = usize::try_from(file.len()).map_or(START, |len| len.min(START));
    let mut start = vec![0; len];
    match file.read_exact_at(0, &mut start) {
        Ok(()) => Ok(start),
        Err(error) => Err(Error::source(&error, "state file")),
    }
}

/// What the file is that begins so, where that is known.
fn named(start: &[u8]) -> Option<&'static str> {
    match start {
        [] => Some("the file is empty: save the state again"),
        // of safetensors, the length of whose header may begin as anything else does
        [_, _, _, _, _, _, _, _, b'{', ..] => None,
        [b'P', b'K', 3, 4, ..] => match start.windows(4).any(|bytes| bytes == b".npy") {
            true => Some("this is a NumPy archive (npz): save the cache as safetensors"),
            false => Some(PICKLE),
        },
        _ => {
            let known = KINDS.iter().find(|(first, _)| start.starts_with(first));
            known.map(|(_, what)| *what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hints, RuntimeKind, parse};

    #[test]
    fn files_are_named_for_what_they_are() {
        let header = b"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
        let tensors = [
            &[u8::try_from(header.len()).unwrap(), 0, 0, 0, 0, 0, 0, 0][..],
            header,
            b"x",
        ]
        .concat();
        let zip = |name: &[u8]| [b"PK\x03\x04", &[0; 26][..], name].concat();
        for (bytes, code, says) in [
            (Vec::new(), Code::StateUnrecognised, "empty"),
            (b"\x80\x02}q".to_vec(), Code::StateUnrecognised, "pickle"),
            (b"\x80\x05\x95".to_vec(), Code::StateUnrecognised, "pickle"),
            (
                b"(dp0\nVinput_ids\n".to_vec(),
                Code::StateUnrecognised,
                "pickle",
            ),
            (zip(b"cache/data.pkl"), Code::StateUnrecognised, "pickle"),
            (zip(b"keys.npy"), Code::StateUnrecognised, "npz"),
            (
                b"\x93NUMPY\x01\0".to_vec(),
                Code::StateUnrecognised,
                "NumPy",
            ),
            (
                b"GGUF\x03\0\0\0".to_vec(),
                Code::StateUnrecognised,
                "weights",
            ),
            (b"{\"a\": 1}".to_vec(), Code::StateUnrecognised, "text"),
            (tensors.clone(), Code::StateUnrecognised, "raw"),
            (
                tensors[..tensors.len() - 1].to_vec(),
                Code::StateMalformed,
                "",
            ),
            // no pickle, though its header is 640 bytes long
            (
                [b"\x80\x02\0\0\0\0\0\0{".as_slice(), &[b' '; 640]].concat(),
                Code::StateMalformed,
                "",
            ),
            (
                b"anything else".to_vec(),
                Code::StateUnrecognised,
                "no adapter",
            ),
        ] {
            let error = unrecognised(&bytes);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(says), "{error}");
            // an adapter that is asked for by name says the same
            if named(&bytes).is_some() {
                for kind in RuntimeKind::ALL {
                    let asked = parse(kind, &bytes, Hints::None).unwrap_err();
                    let empty = bytes.is_empty() && asked.code() == Code::StateMalformed;
                    assert!(empty || asked.code() == code, "{kind:?}: {asked}");
                    assert!(asked.to_string().contains(says), "{kind:?}: {asked}");
                }
            }
        }
    }
}
