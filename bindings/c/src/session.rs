//! Sessions of agents (session-v1).

use std::{ffi::c_char, mem::MaybeUninit, ptr};

use kvcap_calls as library;

use crate::{
    facts::{Facts, kvcap_facts},
    given::{
        counted, kvcap_progress, kvcap_seal_options, kvcap_source, list, needed, some_text,
        telling, text,
    },
    profile::kvcap_profile,
    status::{Out, ending, kvcap_error},
};

/// Sessions of a profile's tenant, one subject or many.
pub struct kvcap_sessions(library::SessionManager);

/// A session: an append-only log, and checkpoints with states.
pub struct kvcap_session(library::Session);

/// A rung that a session was resumed on, and its state.
pub struct kvcap_resumed(library::Resumed);

/// Makes a handle on the sessions of a profile, the user's own where it is NULL, in `folder`, or where the program keeps
/// them.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_sessions_new(
    profile: Option<&kvcap_profile>,
    folder: *const c_char,
    sessions: Out<'_, kvcap_sessions>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (out, folder) = (needed(sessions, "sessions")?, some_text(folder, "folder")?);
        let profile = profile.map(kvcap_profile::shared);
        let made = library::SessionManager::new(profile, folder.map(Into::into))?;
        out.write(Some(Box::new(kvcap_sessions(made))));
        Ok(())
    })
}

/// Tells the ids of a user's sessions, the last written first. `user` stands for the profile's subject, which it is where it
/// is NULL. Facts: sessions.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_sessions_list(
    sessions: Option<&kvcap_sessions>,
    user: *const c_char,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let sessions = needed(sessions, "sessions")?;
        let mut made = Facts::default();
        made.texts("sessions", sessions.0.sessions(some_text(user, "user")?)?);
        made.put(facts);
        Ok(())
    })
}

/// Frees the handle. Sessions that were loaded with it stay good.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_sessions_free(sessions: Option<Box<kvcap_sessions>>) {
    drop(sessions);
}

/// Loads a session by its whole id, or makes it. `user` as above.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_load_or_create(
    sessions: Option<&kvcap_sessions>,
    id: *const c_char,
    user: *const c_char,
    session: Out<'_, kvcap_session>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (out, sessions) = (needed(session, "session")?, needed(sessions, "sessions")?);
        let (id, user) = (text(id, "id")?, some_text(user, "user")?);
        let loaded = sessions.0.load_or_create(&id, user)?;
        out.write(Some(Box::new(kvcap_session(loaded))));
        Ok(())
    })
}

/// Tells what a session has. Facts: id, versions, and those of its newest checkpoint.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_facts(
    session: Option<&kvcap_session>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let session = needed(session, "session")?;
        let mut made = Facts::from(session.0.current()?);
        made.texts("id", [session.0.id()]);
        made.numbers("versions", session.0.versions()?);
        made.put(facts);
        Ok(())
    })
}

/// Tells the events, from the first. Facts, each with a value an event: seq, kind, text.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_events(
    session: Option<&kvcap_session>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let events = needed(session, "session")?.0.events()?;
        let mut made = Facts::default();
        made.numbers("seq", events.iter().map(|(seq, _, _)| *seq));
        made.texts("kind", events.iter().map(|(_, kind, _)| kind));
        made.texts("text", events.iter().map(|(_, _, text)| text));
        made.put(facts);
        Ok(())
    })
}

/// Appends an event of a kind (user, assistant, tool, milestone, note), which is kept when this returns; `seq` becomes its
/// number.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_append(
    session: Option<&kvcap_session>,
    kind: *const c_char,
    said: *const c_char,
    seq: Option<&mut MaybeUninit<u64>>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let session = needed(session, "session")?;
        let (kind, said) = (text(kind, "kind")?, text(said, "said")?);
        counted(seq, session.0.append(&kind, &said)?);
        Ok(())
    })
}

/// Saves a version: the log so far, and `state` where it is not NULL, which is sealed as an increment where it can be. It is
/// kept when this returns.
///
/// Facts of a checkpoint: version, at, replay_cursor, turns, messages, capsule, token_count.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_save(
    session: Option<&kvcap_session>,
    state: Option<&kvcap_source>,
    options: Option<&kvcap_seal_options>,
    progress: Option<&kvcap_progress>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let session = needed(session, "session")?;
        let source = state.map(kvcap_source::open).transpose()?;
        let said = options.map(kvcap_seal_options::said).transpose()?;
        let said = said.unwrap_or_default();
        let saved = telling(progress, |progress| {
            Ok(session.0.save(source.as_ref(), said, progress)?)
        })?;
        Facts::from(saved).put(facts);
        Ok(())
    })
}

/// Takes back what came after a turn, and makes the next version there. Turn 0 is the beginning. Facts of a checkpoint.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_revert_to_turn(
    session: Option<&kvcap_session>,
    turn: u64,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let reverted = needed(session, "session")?.0.revert_to_turn(turn)?;
        Facts::from(reverted).put(facts);
        Ok(())
    })
}

/// Resumes: verifies and opens the best state that is left, or what it has in common with `tokens`, the request's, where they
/// are not NULL. `reserve` is how many tokens the context must still have room for.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_resume(
    session: Option<&kvcap_session>,
    tokens: *const u32,
    token_count: usize,
    reserve: u64,
    resumed: Out<'_, kvcap_resumed>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (out, session) = (needed(resumed, "resumed")?, needed(session, "session")?);
        let tokens = (!tokens.is_null()).then(|| list(tokens, token_count).to_vec());
        let taken = session.0.resume(tokens, reserve)?;
        out.write(Some(Box::new(kvcap_resumed(taken))));
        Ok(())
    })
}

/// Frees a session.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_session_free(session: Option<Box<kvcap_session>>) {
    drop(session);
}

/// Tells how a session was resumed. Facts: rung (exact, shorter, history-only, fresh), sentence, code (the number of the
/// reason that it is no better one), token_count, events_after (none where the state was cut).
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_resumed_facts(
    resumed: Option<&kvcap_resumed>,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let resumed = &needed(resumed, "resumed")?.0;
        let mut made = Facts::default();
        made.texts("rung", [resumed.rung]);
        made.texts("sentence", [&resumed.sentence]);
        made.numbers("code", resumed.code.map(u64::from));
        made.numbers("token_count", [resumed.token_count]);
        made.numbers("events_after", resumed.events_after);
        made.put(facts);
        Ok(())
    })
}

/// Returns the state file's bytes, and their number in `length`; NULL where there is no state. They belong to the handle.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_resumed_state(
    resumed: Option<&kvcap_resumed>,
    length: Option<&mut MaybeUninit<u64>>,
) -> *const u8 {
    let state = resumed.and_then(|resumed| resumed.0.state.as_ref());
    let bytes = state.map_or(0, Vec::len);
    counted(length, u64::try_from(bytes).unwrap_or(u64::MAX));
    state.map_or(ptr::null(), |state| state.as_ptr())
}

/// Frees what a session was resumed with.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_resumed_free(resumed: Option<Box<kvcap_resumed>>) {
    drop(resumed);
}
