//! Lengths of time in configurations.

use std::time::Duration;

use kvcap_store::time::parse_duration;
use serde::{Deserialize, Deserializer, de::Error as _};

/// A length of time as it is written elsewhere: `90s`, `15m`, `24h`, `7d`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(value)?;
    match parse_duration(&text) {
        Some(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(D::Error::custom(
            "a length of time is written as 90s, 15m, 24h or 7d",
        )),
    }
}
