//! Values of flags: ranges, times, suites.

use std::{ffi::OsStr, ops::Range, str::FromStr};

use clap::{
    Arg, Command,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use kvcap::Suite;
use kvcap_codecs::Preset;
use kvcap_store::time::{parse_duration, parse_instant};

/// `A..B`, from A to before B.
pub(crate) fn range<T: FromStr + PartialOrd>(text: &str) -> Result<Range<T>, String> {
    let ends = text
        .split_once("..")
        .map(|(start, end)| (start.parse(), end.parse()));
    match ends {
        Some((Ok(start), Ok(end))) if start < end => Ok(start..end),
        _ => Err("a range is written A..B, with A below B".to_owned()),
    }
}

/// A length of time: `90s`, `15m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    parse_duration(text).ok_or_else(|| {
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match bare {
            true => format!("a length of time has a unit: {text}h or {text}s, for instance"),
            false => "a length of time is written 90s, 15m, 24h or 7d".to_owned(),
        }
    })
}

/// A point in time: `2026-11-21T00:32:13Z`, or seconds since 1970.
pub(crate) fn instant(text: &str) -> Result<u64, String> {
    parse_instant(text).ok_or_else(|| {
        "a time is written 2026-11-21T00:32:13Z, or as seconds since 1970".to_owned()
    })
}

/// A number of bytes: `4096`, `512M`, `8G`, in powers of 1,024.
pub(crate) fn byte_count(text: &str) -> Result<u64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(*unit)?, *shift)))
        .unwrap_or((text, 0));
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain
        .then(|| digits.parse::<u64>().ok()?.checked_mul(1 << shift))
        .flatten()
        .ok_or_else(|| "a number of bytes is written 4096, 512M or 8G".to_owned())
}

/// A preset by its name; for one version also by its old one.
pub(crate) fn preset() -> impl TypedValueParser<Value = Preset> {
    let named = Preset::ALL.map(|(preset, name)| match preset {
        Preset::Q4c => PossibleValue::new(name).alias("q4k"),
        _ => PossibleValue::new(name),
    });
    Named(PossibleValuesParser::new(named))
}

/// Presets by name, of which one has a number.
#[derive(Clone)]
struct Named(PossibleValuesParser);

impl TypedValueParser for Named {
    type Value = Preset;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Preset, clap::Error> {
        let known = value.to_str().and_then(Preset::from_name);
        if let Some(preset) = known {
            return Ok(preset);
        }
        let named = self.0.clone();
        let named = named.try_map(|name| Preset::from_name(&name).ok_or("this is no encoding"));
        named.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

/// A suite by its name.
pub(crate) fn suite(name: &str) -> Result<Suite, String> {
    let found = Suite::ALL.into_iter().find(|suite| suite.name() == name);
    found.ok_or_else(|| {
        let names = Suite::ALL.map(Suite::name);
        format!("a suite is {}", names.join(" or "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_have_units() {
        assert_eq!(byte_count("4096"), Ok(4096));
        assert_eq!(byte_count("512M"), Ok(512 << 20));
        assert_eq!(byte_count("8G"), Ok(8 << 30));
        for wrong in ["", "G", "-1", "+1", "1.5G", "8g", "8GB", "20000000T"] {
            assert!(byte_count(wrong).is_err(), "{wrong}");
        }
    }
}
