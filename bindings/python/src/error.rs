//! Refusals as exceptions.

use pyo3::{
    create_exception,
    exceptions::{PyException, PyValueError},
    prelude::*,
};

create_exception!(
    kvcap,
    KvcapError,
    PyException,
    "A capsule, key, state or setting was refused; `code` never changes its meaning (spec/errors.md)."
);

/// Makes the exception of an error: its sentence with the code, and its parts as attributes.
fn raised(error: &kvcap::Error) -> PyErr {
    let code = error.code();
    let made = KvcapError::new_err(format!("KVC-{} {}: {error}", code.number(), code.slug()));
    let described = Python::attach(|py| -> PyResult<()> {
        let value = made.value(py);
        value.setattr("code", code.number())?;
        value.setattr("name", code.slug())?;
        value.setattr("where", error.place())?;
        value.setattr("expected", error.expected())?;
        value.setattr("found", error.found())?;
        value.setattr("public", error.public().to_string())
    });
    match described {
        Ok(()) => made,
        Err(failed) => failed,
    }
}

/// Turns a library's result into Python's.
pub(crate) trait OrRaise<T> {
    fn or_raise(self) -> PyResult<T>;

    /// A ValueError where it is an argument that is refused (KVC-944).
    fn or_value_error(self) -> PyResult<T>;
}

impl<T> OrRaise<T> for kvcap::Result<T> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(|error| raised(&error))
    }

    fn or_value_error(self) -> PyResult<T> {
        self.map_err(|error| match error.code() {
            kvcap::Code::LocalUsage => PyValueError::new_err(error.to_string()),
            _ => raised(&error),
        })
    }
}
