//! What a call returns, and errors that tell more.

use std::{
    ffi::{CString, c_char},
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use kvcap::{Code, Error};

/// Everything was done.
pub const KVCAP_OK: i32 = 0;
/// The library is at fault: a call ended where none may, and did nothing that can be seen. Handles stay good to free.
pub const KVCAP_PANIC: i32 = -1;
/// The caller's own progress function has ended the call; nothing appears.
pub const KVCAP_ENDED: i32 = -2;

/// Reason that a call returned another value than KVCAP_OK.
pub struct kvcap_error {
    code: i32,
    name: CString,
    text: CString,
    place: Option<CString>,
    expected: Option<CString>,
    found: Option<CString>,
    public: CString,
}

/// Where a caller wants a handle.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<Option<Box<T>>>>;

/// How a call ends that does not do what it is asked for.
pub(crate) enum Failed {
    Refused(Error),
    Ended,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Refuses what a caller hands over.
pub(crate) fn usage(what: &'static str, which: &str) -> Failed {
    Failed::Refused(Error::new(Code::LocalUsage, what).at(which))
}

/// Runs a call, and turns its end into a status and an error.
pub(crate) fn ending(error: Out<'_, kvcap_error>, act: impl FnOnce() -> Result<(), Failed>) -> i32 {
    let made = match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(())) => None,
        Ok(Err(failed)) => Some(kvcap_error::of(&failed)),
        Err(_) => Some(kvcap_error {
            code: KVCAP_PANIC,
            name: text("panic"),
            text: text("the library is at fault: please report it"),
            place: None,
            expected: None,
            found: None,
            public: text("failed"),
        }),
    };
    let status = made.as_ref().map_or(KVCAP_OK, |made| made.code);
    if let Some(out) = error {
        out.write(made.map(Box::new));
    }
    status
}

impl kvcap_error {
    fn of(failed: &Failed) -> Self {
        let error = match failed {
            Failed::Refused(error) => error,
            Failed::Ended => {
                return Self {
                    code: KVCAP_ENDED,
                    name: text("ended"),
                    text: text("the caller has ended the call"),
                    place: None,
                    expected: None,
                    found: None,
                    public: text("failed"),
                };
            }
        };
        let code = error.code();
        Self {
            code: code.number().into(),
            name: text(code.slug()),
            text: text(&format!("KVC-{} {}: {error}", code.number(), code.slug())),
            place: error.place().map(text),
            expected: error.expected().map(text),
            found: error.found().map(text),
            public: text(&error.public().to_string()),
        }
    }
}

/// A text for C, which ends with a zero and has none before.
pub(crate) fn text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

pub(crate) fn lent(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

/// Returns the number of the code, as the call did: KVC-402 is 402. Its meaning never changes (spec/errors.md).
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_code(error: Option<&kvcap_error>) -> i32 {
    error.map_or(KVCAP_OK, |error| error.code)
}

/// Returns the code's name, such as `time.expired`.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_name(error: Option<&kvcap_error>) -> *const c_char {
    lent(error.map(|error| &error.name))
}

/// Returns a sentence for the person in front.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_text(error: Option<&kvcap_error>) -> *const c_char {
    lent(error.map(|error| &error.text))
}

/// Returns what the error is about, a path or a setting, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_where(error: Option<&kvcap_error>) -> *const c_char {
    lent(error.and_then(|error| error.place.as_ref()))
}

/// Returns what was expected, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_expected(error: Option<&kvcap_error>) -> *const c_char {
    lent(error.and_then(|error| error.expected.as_ref()))
}

/// Returns what was found, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_found(error: Option<&kvcap_error>) -> *const c_char {
    lent(error.and_then(|error| error.found.as_ref()))
}

/// Returns all that a stranger may hear.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_public(error: Option<&kvcap_error>) -> *const c_char {
    lent(error.map(|error| &error.public))
}

/// Frees an error.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_error_free(error: Option<Box<kvcap_error>>) {
    drop(error);
}
