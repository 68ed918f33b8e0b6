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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(show_duration(86_399), "23 h 59 min");
        assert_eq!(show_distance(100, 40), "1 min ago");
    }
}
