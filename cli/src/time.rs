//! Points and lengths of time as text. Whole seconds since 1970, without leap seconds (capsule-v1 §1).

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// Now, or 0 where the clock stands before 1970 (no capsule is valid then).
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// `2026-11-21T00:32:13Z`; seconds where the year has more than four digits.
pub(crate) fn show_instant(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    if days > 2_932_896 {
        return format!("{seconds} s after 1970");
    }
    // days from 0000-03-01, in eras of 400 years (H. Hinnant, chrono-compatible date algorithms)
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `in 23 h 59 min`, `3 days ago`: the two largest units.
pub(crate) fn show_distance(now: u64, then: u64) -> String {
    let text = show_duration(now.abs_diff(then));
    match then > now {
        true => format!("in {text}"),
        false => format!("{text} ago"),
    }
}

/// `23 h 59 min`: the two largest units.
pub(crate) fn show_duration(seconds: u64) -> String {
    let units = [(DAY, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (length, name) in units {
        if left >= length && parts.len() < 2 {
            parts.push(format!("{} {name}", left / length));
            left %= length;
        }
    }
    if parts.is_empty() {
        return "0 s".to_owned();
    }
    parts.join(" ")
}

/// Seconds of `90s`, `15m`, `24h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Option<u64> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', DAY)];
    let (letter, seconds) = units.iter().find(|unit| text.ends_with(unit.0))?;
    number(text.strip_suffix(*letter)?)?.checked_mul(*seconds)
}

/// Seconds of `2026-11-21T00:32:13Z` (RFC 3339, with `Z` or an offset) or of a whole number.
pub(crate) fn parse_instant(text: &str) -> Option<u64> {
    if let Some(seconds) = number(text) {
        return Some(seconds);
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
            "99999999999999999999",
        ] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
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
        assert_eq!(show_duration(86_399), "23 h 59 min");
        assert_eq!(show_distance(100, 40), "1 min ago");
    }
}
