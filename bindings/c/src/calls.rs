//! The calls: seal, verify, open, inspect, model ids and keys.

use std::{
    ffi::{CStr, c_char},
    path::Path,
    sync::{Mutex, PoisonError},
};

use kvcap_calls as library;

use crate::{
    facts::{Facts, kvcap_facts},
    given::{
        counted, kvcap_output, kvcap_part, kvcap_progress, kvcap_seal_options, kvcap_setting,
        kvcap_source, list, needed, settings, some_text, telling, text,
    },
    output::Place,
    status::{Out, ending, kvcap_error},
    terms::{kvcap_terms, terms},
};

/// A capsule that is verified as its bytes come. One thread at a time.
pub struct kvcap_verifying(library::Verifying);

/// A capsule that was verified and whose key was unwrapped.
pub struct kvcap_opened(Mutex<library::Opened>);

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// Returns the library's version.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_version() -> *const c_char {
    VERSION.as_ptr()
}

/// Seals a runtime's saved state. `length` becomes that of the capsule, also where the output's memory is too short
/// (KVC-944) or there is none.
///
/// Facts: id, length, state_length, positions (first, and the one after the last), expires, notes.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_seal(
    state: Option<&kvcap_source>,
    on: Option<&kvcap_terms>,
    options: Option<&kvcap_seal_options>,
    output: Option<&kvcap_output>,
    progress: Option<&kvcap_progress>,
    length: Option<&mut std::mem::MaybeUninit<u64>>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let source = needed(state, "state")?.open()?;
        let said = options.map(kvcap_seal_options::said).transpose()?;
        let (terms, said) = (terms(on)?, said.unwrap_or_default());
        let place = Place::of(output)?;
        let sealed = telling(progress, |progress| {
            let sealed = match &place {
                Place::File(path, replace) => {
                    library::seal_to_file(&source, &terms, said, (path, *replace), progress)
                }
                Place::Memory(room) => library::seal(&source, &terms, said, room, progress),
                Place::Function(write) => library::seal(&source, &terms, said, write, progress),
            };
            Ok(sealed?)
        })?;
        counted(length, sealed.length);
        if let Place::Memory(room) = &place {
            room.check()?;
        }
        Facts::from(sealed).put(facts);
        Ok(())
    })
}

/// Verifies a capsule with public keys alone: header, then every byte of the body and of its ancestors.
///
/// Facts of a verdict: id, key, issuer, audience, tenant, subject, expires, judged_at, model_id, model_name, runtime,
/// runtime_version, positions, chain, session, session_version, replay_cursor, unchecked (names of the checks that were left
/// out), unaccepted (those of them that the caller has not accepted), body (chunks and bytes that were checked).
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_verify(
    capsule: Option<&kvcap_source>,
    on: Option<&kvcap_terms>,
    header_only: bool,
    progress: Option<&kvcap_progress>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (source, terms) = (needed(capsule, "capsule")?.open()?, terms(on)?);
        let verdict = telling(progress, |progress| {
            Ok(library::verify(source, &terms, header_only, progress)?)
        })?;
        Facts::from(verdict).put(facts);
        Ok(())
    })
}

/// Begins to verify a capsule as its bytes come.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_verifying_new(
    on: Option<&kvcap_terms>,
    verifying: Out<'_, kvcap_verifying>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let out = needed(verifying, "verifying")?;
        let begun = library::Verifying::new(terms(on)?)?;
        out.write(Some(Box::new(kvcap_verifying(begun))));
        Ok(())
    })
}

/// Takes the next bytes. `facts` become the header's verdict once it is judged, and are NULL before.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_verifying_feed(
    verifying: Option<&mut kvcap_verifying>,
    data: *const u8,
    length: usize,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let verifying = needed(verifying, "verifying")?;
        let judged = verifying.0.feed(list(data, length))?;
        match judged {
            Some(verdict) => Facts::from(verdict).put(facts),
            None => {
                if let Some(facts) = facts {
                    facts.write(None);
                }
            }
        }
        Ok(())
    })
}

/// Says that no more bytes come, and accepts the capsule, if it still may be. Facts of a verdict.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_verifying_finish(
    verifying: Option<&mut kvcap_verifying>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let verdict = needed(verifying, "verifying")?.0.finish()?;
        Facts::from(verdict).put(facts);
        Ok(())
    })
}

/// Frees what verifies.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_verifying_free(verifying: Option<Box<kvcap_verifying>>) {
    drop(verifying);
}

/// Verifies a capsule and opens it; one for single use is used up. `tokens` are the ids of the prompt, or NULL. What lies
/// in memory must stay until the handle is freed.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_open(
    capsule: Option<&kvcap_source>,
    on: Option<&kvcap_terms>,
    tokens: *const u32,
    token_count: usize,
    opened: Out<'_, kvcap_opened>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let out = needed(opened, "opened")?;
        let (source, terms) = (needed(capsule, "capsule")?.open()?, terms(on)?);
        let tokens = (!tokens.is_null()).then(|| list(tokens, token_count));
        let opened = library::open(source, terms, tokens)?;
        out.write(Some(Box::new(kvcap_opened(Mutex::new(opened)))));
        Ok(())
    })
}

impl kvcap_opened {
    fn with<T>(&self, act: impl FnOnce(&library::Opened) -> T) -> T {
        act(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the judgement of an opened capsule: facts of a verdict.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_opened_facts(
    opened: Option<&kvcap_opened>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let verdict = needed(opened, "opened")?.with(|opened| opened.verdict().clone());
        Facts::from(verdict).put(facts);
        Ok(())
    })
}

/// Tells the length of the whole state.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_opened_length(
    opened: Option<&kvcap_opened>,
    length: Option<&mut std::mem::MaybeUninit<u64>>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        counted(
            length,
            needed(opened, "opened")?.with(library::Opened::state_len)?,
        );
        Ok(())
    })
}

/// Copies the token ids that were sealed beside the state to `tokens`, at most `capacity` of them; `count` becomes how many
/// there are.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_opened_tokens(
    opened: Option<&kvcap_opened>,
    tokens: *mut u32,
    capacity: usize,
    count: Option<&mut std::mem::MaybeUninit<u64>>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let ids = needed(opened, "opened")?.with(library::Opened::tokens)?;
        let ids = ids.unwrap_or_default();
        crate::given::copy(&ids, tokens, capacity);
        counted(count, u64::try_from(ids.len()).unwrap_or(u64::MAX));
        Ok(())
    })
}

/// Writes the state that was opened; with `part`, that part of it as plain tensors (safetensors). `length` becomes that of
/// what is written, also where the output's memory is too short (KVC-944) or there is none.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_opened_write(
    opened: Option<&kvcap_opened>,
    part: Option<&kvcap_part>,
    output: Option<&kvcap_output>,
    progress: Option<&kvcap_progress>,
    length: Option<&mut std::mem::MaybeUninit<u64>>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let opened = needed(opened, "opened")?;
        let part = part.map(kvcap_part::selection);
        let place = Place::of(output)?;
        let written = telling(progress, |progress| {
            opened.with(|opened| {
                let written = match &place {
                    Place::File(path, replace) => {
                        opened.write_to_file(part.as_ref(), (path, *replace), progress)
                    }
                    Place::Memory(room) => opened.write(part.as_ref(), room, progress),
                    Place::Function(write) => opened.write(part.as_ref(), write, progress),
                };
                Ok(written?)
            })
        })?;
        counted(length, written);
        if let Place::Memory(room) = &place {
            room.check()?;
        }
        Ok(())
    })
}

/// Frees an opened capsule.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_opened_free(opened: Option<Box<kvcap_opened>>) {
    drop(opened);
}

/// Reads what a capsule says of itself: its header alone, no key. UNVERIFIED: nobody has vouched for any of it.
///
/// Facts: id, key, issuer, audience, tenant, subject, scope, issued_at, expires, renew_until, single_use, session,
/// session_version, replay_cursor, model_id, model_name, runtime, runtime_version, format, positions, prompt_tokens, prompt,
/// layers, recipients, recipient_kinds, parent, length.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_inspect(
    capsule: Option<&kvcap_source>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let source = needed(capsule, "capsule")?.open()?;
        Facts::from(library::inspect(&source)?).put(facts);
        Ok(())
    })
}

/// Reads a model's identity: a folder, a GGUF file or a .kvid file. Facts: id, weights, config, name, vocabulary.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_model_id(
    model: *const c_char,
    given: *const kvcap_setting,
    count: usize,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let model = text(model, "model")?;
        let read = library::model_id(Path::new(&model), settings(given, count)?)?;
        Facts::from(read).put(facts);
        Ok(())
    })
}

/// Makes a signing key in the file `path` and its public key in `path.pub`. Facts of a key: id, public, issuer, public_path.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_new_signing_key(
    path: *const c_char,
    issuer: *const c_char,
    passphrase: *const c_char,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (path, issuer) = (text(path, "path")?, some_text(issuer, "issuer")?);
        let passphrase = some_text(passphrase, "passphrase")?;
        let key = library::new_signing_key(Path::new(&path), issuer.as_deref(), passphrase)?;
        Facts::from(key).put(facts);
        Ok(())
    })
}

/// Makes a wrapping key in the file `path`: `symmetric` where `kind` is NULL, or `x25519` or `x-wing`, whose public key goes
/// to `path.pub`. Facts of a key.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_new_wrapping_key(
    path: *const c_char,
    kind: *const c_char,
    passphrase: *const c_char,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (path, kind) = (text(path, "path")?, some_text(kind, "kind")?);
        let kind = kind.as_deref().unwrap_or("symmetric");
        let passphrase = some_text(passphrase, "passphrase")?;
        let key = library::new_wrapping_key(Path::new(&path), kind, passphrase)?;
        Facts::from(key).put(facts);
        Ok(())
    })
}

/// Reads a public signing key: a file, or the key's text. Facts of a key.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_read_public_key(
    key: *const c_char,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let key = library::read_public_key(&text(key, "key")?)?;
        Facts::from(key).put(facts);
        Ok(())
    })
}
