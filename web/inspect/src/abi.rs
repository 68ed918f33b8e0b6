//! What the page's worker calls: numbers in and out, and two areas of memory that it reads and writes.
//!
//! `input(len)` gives the address of `len` bytes to fill, which the next call takes. `report_len()` makes the
//! report as UTF-8, and `report_at()` says where it lies until the next call.

#![allow(unsafe_code)] // `no_mangle` needs the word; there is no unsafe block

use std::cell::RefCell;

use crate::{inspector::Inspector, request::Request};

#[derive(Default)]
struct Shared {
    input: Vec<u8>,
    registry: Vec<u8>,
    report: Vec<u8>,
    inspector: Option<Inspector>,
}

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::default();
}

fn with<T>(call: impl FnOnce(&mut Shared) -> T) -> T {
    SHARED.with_borrow_mut(call)
}

/// Makes room for `len` bytes of input, and returns where they are.
#[unsafe(no_mangle)]
extern "C" fn input(len: usize) -> *mut u8 {
    with(|shared| {
        shared.input.resize(len, 0);
        shared.input.as_mut_ptr()
    })
}

/// Takes the input as the registry for the next capsule.
#[unsafe(no_mangle)]
extern "C" fn registry() {
    with(|shared| shared.registry = std::mem::take(&mut shared.input));
}

/// Begins a capsule; the input is the request in JSON.
#[unsafe(no_mangle)]
extern "C" fn begin() {
    with(|shared| {
        let json = serde_json::from_slice(&shared.input).unwrap_or_default();
        let registry = std::mem::take(&mut shared.registry);
        shared.inspector = Some(Inspector::new(Request::of(&json, registry)));
    });
}

/// Begins with another file; returns 1 where an ancestor is wanted that it may be, else 0.
#[unsafe(no_mangle)]
extern "C" fn ancestor() -> u32 {
    with(|shared| {
        shared
            .inspector
            .as_mut()
            .is_some_and(Inspector::ancestor)
            .into()
    })
}

/// Takes the input as the next bytes of the file; returns 1 where more are wanted, else 0.
#[unsafe(no_mangle)]
extern "C" fn feed() -> u32 {
    with(|shared| {
        let Shared {
            input, inspector, ..
        } = shared;
        inspector
            .as_mut()
            .is_some_and(|inspector| inspector.feed(input))
            .into()
    })
}

/// Says that the file ends here.
#[unsafe(no_mangle)]
extern "C" fn finish() {
    with(|shared| {
        if let Some(inspector) = &mut shared.inspector {
            inspector.finish();
        }
    });
}

/// Makes the report, and returns its length.
#[unsafe(no_mangle)]
extern "C" fn report_len() -> usize {
    with(|shared| {
        let report = shared.inspector.as_ref().map(Inspector::report);
        shared.report = report.unwrap_or_default().into_bytes();
        shared.report.len()
    })
}

/// Returns where the report is.
#[unsafe(no_mangle)]
extern "C" fn report_at() -> *const u8 {
    with(|shared| shared.report.as_ptr())
}
