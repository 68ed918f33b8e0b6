//! Lengths of time as text.

const DAY: u64 = 86_400;

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
