//! What C hands over: texts, lists, memory, files and callbacks.

use std::{
    ffi::{CStr, c_char, c_void},
    io,
    mem::MaybeUninit,
    path::Path,
    slice,
    sync::{Mutex, PoisonError},
};

use kvcap::ReadAt;
use kvcap_calls::{Given, Progress, Said, Source};
use kvcap_states::Selection;

use crate::status::{Failed, usage};

/// A setting (docs/reference/config.md, with `_` for `-`); one that is a list is given once for each.
#[repr(C)]
pub struct kvcap_setting {
    /// Its name.
    pub name: *const c_char,
    /// Its value as text.
    pub value: *const c_char,
}

/// A capsule or a state: a file, memory, or a function that reads. The first that is not NULL counts.
#[repr(C)]
pub struct kvcap_source {
    /// Path of a file.
    pub path: *const c_char,
    /// Memory, which must not change while it is used: until the call returns, or the handle that it makes is freed.
    pub data: *const u8,
    /// Copies `length` bytes from `offset` to `to`, and returns 0; another value where it cannot. Called by one thread at a
    /// time, not always the same.
    pub read: Option<
        unsafe extern "C" fn(context: *mut c_void, offset: u64, to: *mut u8, length: usize) -> i32,
    >,
    /// Handed to `read`.
    pub context: *mut c_void,
    /// Bytes of memory, or of what `read` reads; not used for a file.
    pub length: u64,
}

/// Place for bytes: a file, memory, or a function that writes. The first that is not NULL counts; without one, bytes are
/// counted and go nowhere.
#[repr(C)]
pub struct kvcap_output {
    /// Path of a file, which appears whole or not at all.
    pub path: *const c_char,
    /// Memory.
    pub data: *mut u8,
    /// Takes `length` bytes for `offset`, and returns 0; another value where it cannot. Offsets come in any order, called by
    /// one thread at a time, not always the same.
    pub write: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            offset: u64,
            from: *const u8,
            length: usize,
        ) -> i32,
    >,
    /// Handed to `write`.
    pub context: *mut c_void,
    /// Bytes of memory that there are.
    pub capacity: u64,
    /// A file that exists is replaced.
    pub replace: bool,
}

/// Statements on a state that is sealed, beside what it says itself.
#[repr(C)]
pub struct kvcap_seal_options {
    /// Ids of the tokens that the state has seen, which bind the capsule to its prompt; NULL where the state has them.
    pub tokens: *const u32,
    /// Their number.
    pub token_count: usize,
    /// Binds the capsule to no prompt.
    pub danger_no_prefix: bool,
    /// Compresses what the encoding leaves.
    pub compress: bool,
    /// The capsule may be restored once only.
    pub single_use: bool,
    /// Name of the runtime, such as `llama-cpp`; found in the state where it is NULL.
    pub runtime: *const c_char,
    /// Its version.
    pub runtime_version: *const c_char,
    /// The conversation, sealed beside the state.
    pub history: *const u8,
    /// Its bytes.
    pub history_length: usize,
    /// The agent's own state, sealed beside the state.
    pub agent_state: *const u8,
    /// Its bytes.
    pub agent_state_length: usize,
    /// Id of the session that it is a checkpoint of, with the next two.
    pub session: *const c_char,
    /// Version of the checkpoint.
    pub session_version: u64,
    /// Number of the last event that the state has seen.
    pub replay_cursor: u64,
    /// Number within its session, or NULL.
    pub sequence: *const u64,
    /// Path of a capsule that the state goes on from.
    pub parent: *const c_char,
}

/// Function that a long call tells how far it is.
#[repr(C)]
pub struct kvcap_progress {
    /// Told bytes done and bytes in all, a hundred times or so; returns false to end the call. Called by one thread at a
    /// time, not always the same.
    pub told: Option<unsafe extern "C" fn(context: *mut c_void, done: u64, all: u64) -> bool>,
    /// Handed to `told`.
    pub context: *mut c_void,
}

/// A part of a state: layers, positions, or both, each from a first to one before the last.
#[repr(C)]
pub struct kvcap_part {
    /// First layer.
    pub first_layer: u32,
    /// The layer after the last; 0 for all layers.
    pub end_layer: u32,
    /// First position.
    pub first_position: u64,
    /// The position after the last; 0 for all positions.
    pub end_position: u64,
}

/// A caller's pointer, for the threads of a call.
#[derive(Clone, Copy)]
struct Context(*mut c_void);

// SAFETY: the header says that callbacks come from several threads, one at a time; the pointer is the caller's business.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// A method, so that closures take all of it and not the bare pointer.
    const fn pointer(self) -> *mut c_void {
        self.0
    }
}

/// An argument that must be there.
pub(crate) fn needed<T>(given: Option<T>, name: &str) -> Result<T, Failed> {
    given.ok_or_else(|| usage("an argument is NULL", name))
}

/// Tells a caller a number, if he wants it.
pub(crate) fn counted(place: Option<&mut MaybeUninit<u64>>, count: u64) {
    if let Some(place) = place {
        place.write(count);
    }
}

/// A text that may be missing.
pub(crate) fn some_text(given: *const c_char, name: &str) -> Result<Option<String>, Failed> {
    if given.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and the header says that texts end with a zero.
    let text = unsafe { CStr::from_ptr(given) };
    match text.to_str() {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(usage("a text is not UTF-8", name)),
    }
}

/// A text that must be there.
pub(crate) fn text(given: *const c_char, name: &str) -> Result<String, Failed> {
    some_text(given, name)?.ok_or_else(|| usage("a text is missing", name))
}

/// A list that may be missing.
pub(crate) fn list<'a, T>(given: *const T, count: usize) -> &'a [T] {
    if given.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: not NULL, the caller says how many there are, and they stay until the call returns.
    unsafe { slice::from_raw_parts(given, count) }
}

/// Memory of the caller's to be written to.
pub(crate) fn room<'a>(given: *mut u8, capacity: u64) -> Result<&'a mut [u8], Failed> {
    let capacity = usize::try_from(capacity)
        .map_err(|_| usage("the memory is longer than there is", "capacity"))?;
    if given.is_null() || capacity == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not NULL, as long as the caller says, and nobody else's until the call returns.
    Ok(unsafe { slice::from_raw_parts_mut(given, capacity) })
}

/// Copies as many as there is room for.
pub(crate) fn copy(ids: &[u32], to: *mut u32, capacity: usize) {
    if to.is_null() {
        return;
    }
    for (at, id) in ids.iter().take(capacity).enumerate() {
        // SAFETY: not NULL, and the caller has room for `capacity` of them.
        unsafe { to.add(at).write(*id) };
    }
}

/// A number that may be missing.
pub(crate) fn number(given: *const u64) -> Option<u64> {
    // SAFETY: NULL, or a number of the caller's.
    unsafe { given.as_ref() }.copied()
}

/// A list of texts.
pub(crate) fn texts(
    given: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<String>, Failed> {
    list(given, count)
        .iter()
        .map(|one| text(*one, name))
        .collect()
}

/// Settings as the library takes them.
pub(crate) fn settings(given: *const kvcap_setting, count: usize) -> Result<Given, Failed> {
    let mut named: Vec<(String, Vec<String>)> = Vec::new();
    for one in list(given, count) {
        let (name, value) = (text(one.name, "name")?, text(one.value, "value")?);
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => named.push((name, vec![value])),
        }
    }
    let mut settings = Given::default();
    for (name, values) in named {
        settings.set(&name, values)?;
    }
    Ok(settings)
}

impl kvcap_source {
    pub(crate) fn open(&self) -> Result<Source, Failed> {
        if let Some(path) = some_text(self.path, "path")? {
            return Ok(Source::file(Path::new(&path))?);
        }
        if !self.data.is_null() {
            let length = usize::try_from(self.length)
                .map_err(|_| usage("the memory is longer than there is", "length"))?;
            return Ok(Source::memory(Memory {
                data: self.data,
                length,
            }));
        }
        match self.read {
            Some(read) => Ok(Source::memory(Reader {
                read,
                context: Mutex::new(Context(self.context)),
                length: self.length,
            })),
            None => Err(usage(
                "a source has neither path, nor memory, nor function",
                "source",
            )),
        }
    }
}

/// Memory of the caller's.
struct Memory {
    data: *const u8,
    length: usize,
}

// SAFETY: the header says that the memory does not change while it is used; what does not change may be read by all.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn bytes(&self) -> &[u8] {
        list(self.data, self.length)
    }
}

impl ReadAt for Memory {
    fn len(&self) -> u64 {
        ReadAt::len(self.bytes())
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes().read_exact_at(offset, buf)
    }

    fn borrow(&self, offset: u64, len: usize) -> Option<&[u8]> {
        ReadAt::borrow(self.bytes(), offset, len)
    }
}

/// A function of the caller's that reads.
struct Reader {
    read: unsafe extern "C" fn(*mut c_void, u64, *mut u8, usize) -> i32,
    context: Mutex<Context>,
    length: u64,
}

impl ReadAt for Reader {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let length = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        if offset
            .checked_add(length)
            .is_none_or(|end| end > self.length)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller's function, with its own pointer and memory of ours that is as long as it hears.
        let status = unsafe { (self.read)(context.pointer(), offset, buf.as_mut_ptr(), buf.len()) };
        of_callback(status)
    }
}

/// A function of the caller's that writes.
pub(crate) struct Writer {
    write: unsafe extern "C" fn(*mut c_void, u64, *const u8, usize) -> i32,
    context: Mutex<Context>,
}

impl Writer {
    pub(crate) fn of(output: &kvcap_output) -> Option<Self> {
        output.write.map(|write| Self {
            write,
            context: Mutex::new(Context(output.context)),
        })
    }
}

impl kvcap::WriteAt for Writer {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller's function, with its own pointer and memory of ours that is as long as it hears.
        let status = unsafe { (self.write)(context.pointer(), offset, buf.as_ptr(), buf.len()) };
        of_callback(status)
    }
}

fn of_callback(status: i32) -> io::Result<()> {
    match status {
        0 => Ok(()),
        _ => Err(io::Error::other(format!(
            "the caller's function returned {status}"
        ))),
    }
}

impl kvcap_seal_options {
    pub(crate) fn said(&self) -> Result<Said, Failed> {
        let bytes =
            |data: *const u8, length| (!data.is_null()).then(|| list(data, length).to_vec());
        let session = some_text(self.session, "session")?;
        Ok(Said {
            tokens: (!self.tokens.is_null()).then(|| list(self.tokens, self.token_count).to_vec()),
            danger_no_prefix: self.danger_no_prefix,
            runtime: some_text(self.runtime, "runtime")?,
            runtime_version: some_text(self.runtime_version, "runtime_version")?,
            compress: self.compress,
            history: bytes(self.history, self.history_length),
            agent_state: bytes(self.agent_state, self.agent_state_length),
            session: session.map(|id| (id, self.session_version, self.replay_cursor)),
            sequence: number(self.sequence),
            single_use: self.single_use,
            parent: some_text(self.parent, "parent")?.map(Into::into),
        })
    }
}

/// Runs a call that tells the caller how far it is; what the caller ends is ended.
pub(crate) fn telling<T>(
    given: Option<&kvcap_progress>,
    act: impl FnOnce(&Progress<'_>) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let Some((told, context)) = given.and_then(|given| Some((given.told?, given.context))) else {
        return act(&Progress::none());
    };
    let context = Mutex::new(Context(context));
    let told = |done, all| {
        let context = context.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller's function with its own pointer.
        unsafe { told(context.pointer(), done, all) }
    };
    let progress = Progress::telling(&told);
    let done = act(&progress);
    match progress.ended() {
        true => Err(Failed::Ended),
        false => done,
    }
}

impl kvcap_part {
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            layers: (self.end_layer > 0).then_some(self.first_layer..self.end_layer),
            positions: (self.end_position > 0).then_some(self.first_position..self.end_position),
        }
    }
}
