//! What people and programs read: reports, errors and hints, tables, times, progress.

pub(crate) mod hint;
pub(crate) mod progress;
mod report;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod verdict;

pub(crate) use report::{
    Printer, Report, bytes, error_json, grouped, print_error, print_usage, usage,
};
