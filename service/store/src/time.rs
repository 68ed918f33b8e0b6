//! Points in time as text (RFC 3339). Whole seconds since 1970, without leap seconds (capsule-v1 §1).

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

pub use kvcap::text::show_instant;

const DAY: u64 = 86_400;

/// The last day of the year 9999.
const LAST_DAY: u64 = 2_932_896;

/// A day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u64);

impl Day {
    /// Returns the day of a time.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        Self((seconds / DAY).min(LAST_DAY))
    }

    /// Parses `2026-11-21`, and no other form of a date.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let midnight = parse_instant(&format!("{text}T00:00:00Z"))?;
        let day = Self::of(midnight);
        (day.to_string() == text).then_some(day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let midnight = show_instant(self.0 * DAY);
        f.write_str(midnight.get(..10).unwrap_or(&midnight))
    }
}

/// Returns the time now, in seconds since 1970; 0 where the clock stands before 1970 (no capsule is valid then).
#[must_use]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Returns the time now, in milliseconds since 1970; 0 where the clock stands before 1970.
#[must_use]
pub fn now_in_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Earliest time that digits alone may mean, in September 2001: `2027` and `28112026` are dates that somebody meant.
const EARLIEST: u64 = 1_000_000_000;

/// Parses seconds from `2026-11-21T00:32:13Z` (RFC 3339, with `Z` or an offset) or of a whole number of ten digits
/// or more.
#[must_use]
pub fn parse_instant(text: &str) -> Option<u64> {
    if let Some(seconds) = number(text) {
        return (seconds >= EARLIEST).then_some(seconds);
    }
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = fields(date, '-')?;
    let (clock, offset) = match clock.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => {
            let (clock, zone) = clock.split_at_checked(clock.len().checked_sub(6)?)?;
            let [hours, minutes] = fields(zone.get(1..)?, ':')?;
            let seconds = i64::try_from(hours * 3600 + minutes * 60).ok()?;
            match zone.get(..1)? {
                "+" => (clock, seconds),
                "-" => (clock, -seconds),
                _ => return None,
            }
        }
    };
    let [hour, minute, second] = fields(clock, ':')?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_era = y % 400 * 365 + y % 400 / 4 - y % 400 / 100 + (153 * m + 2) / 5 + day - 1;
    let days = (y / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    // a day that the month does not have would come back as another
    let whole = show_instant(seconds).starts_with(&format!("{year:04}-{month:02}-{day:02}T"));
    whole.then_some(seconds)?.checked_add_signed(-offset)
}

/// Parses the seconds of a length of time: `90s`, `15m`, `24h`, `7d`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<u64> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', DAY)];
    let (letter, seconds) = units.iter().find(|unit| text.ends_with(unit.0))?;
    number(text.strip_suffix(*letter)?)?.checked_mul(*seconds)
}

/// Two-digit numbers (four for a year) between separators, all of them.
fn fields<const N: usize>(text: &str, separator: char) -> Option<[u64; N]> {
    let mut values = [0; N];
    let mut parts = text.split(separator);
    for value in &mut values {
        *value = parts
            .next()
            .filter(|part| part.len() % 2 == 0)
            .and_then(number)?;
    }
    parts.next().is_none().then_some(values)
}

/// Digits and nothing else: no sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("24h"), Some(86_400));
        assert_eq!(parse_duration("15m"), Some(900));
        assert_eq!(parse_duration("90s"), Some(90));
        for text in [
            "",
            "h",
            "24",
            "0",
            "1.5h",
            "-1s",
            "1w",
            "99999999999999999d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn instants_round_trip() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2027-01-15T08:00:00Z", 1_800_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(show_instant(seconds), text);
            assert_eq!(parse_instant(text), Some(seconds));
        }
        for day in (0..1_000_000).step_by(97) {
            let seconds = day * DAY + day % DAY;
            assert_eq!(parse_instant(&show_instant(seconds)), Some(seconds));
        }
        assert_eq!(parse_instant("1800000000"), Some(1_800_000_000));
        assert_eq!(
            parse_instant("2027-01-15T10:00:00+02:00"),
            Some(1_800_000_000)
        );
    }

    #[test]
    fn a_day_has_one_form() {
        let day = Day::parse("2026-11-21").unwrap();
        assert_eq!(day, Day::of(1_795_257_133));
        assert_eq!(day.to_string(), "2026-11-21");
        assert!(day < Day::parse("2026-12-01").unwrap());
        assert_eq!(Day::of(u64::MAX).to_string(), "9999-12-31");
        for text in [
            "",
            "28.11.2026",
            "tomorrow",
            "2027",
            "2026-11-3",
            "2026-12-1",
            "2026-02-30",
            "7d",
            "+2026-11-21",
            "2026-11-21 ",
            "2026-11-21T00:00:00Z",
            "1795257133",
        ] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "-1",
            "+5",
            "2027-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-01-15",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:00:00",
            "2027-1-15T08:00:00Z",
            "tomorrow",
            "2027",
            "28112026",
            "0",
            "99999999999999999999",
        ] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }
}
