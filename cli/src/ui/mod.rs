//! What people and programs read: reports, errors and hints, tables, times, progress.

mod ask;
mod confirm;
pub(crate) mod hint;
mod passphrase;
pub(crate) mod progress;
pub(crate) mod quality;
mod quote;
mod report;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod verdict;
mod width;

pub(crate) use ask::Asker;
pub(crate) use confirm::confirm;
pub(crate) use passphrase::{new_passphrase, passphrases};
pub(crate) use quote::quoted;
pub(crate) use report::{
    Printer, Report, bytes, error_json, grouped, print_error, print_usage, usage, waiting,
};
#[cfg(feature = "server")]
pub(crate) use report::{listening, reloaded, serving, viewing};
