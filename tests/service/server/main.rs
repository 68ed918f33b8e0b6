//! The relay over real connections (http-v1).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails"
)]

mod asking;
mod attacks;
mod crowds;
mod deploy;
mod interface;
mod keeping;
mod killed;
mod operating;
mod parts;
mod putting;
mod reading;
#[cfg(all(unix, feature = "shared"))]
mod shared;
mod support;
mod tls;
mod versions;
