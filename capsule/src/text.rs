//! Texts out of files, shown so that they steer no terminal and are taken for nobody else's words.

use std::borrow::Cow;

/// Returns the text with every character that is not seen, or that steers a terminal or the direction of
/// writing, as an escape `\u{…}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| match is_unseen(c) {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    });
    Cow::Owned(escaped.collect())
}

/// Returns whether a character is a control, has no width, changes the direction of writing or is a tag.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

const DAY: u64 = 86_400;

/// The last day of the year 9999.
const LAST_DAY: u64 = 2_932_896;

/// Renders a time as `2026-11-21T00:32:13Z`; as seconds where the year has more than four digits.
#[must_use]
pub fn show_instant(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    if days > LAST_DAY {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_escaped() {
        for c in [
            '\0',
            '\n',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0000}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            let shown = printable(&format!("a{c}b")).into_owned();
            assert_eq!(shown, format!("a{}b", c.escape_unicode()));
        }
        assert!(matches!(
            printable("2 heads × 64, ключ 鍵"),
            Cow::Borrowed(_)
        ));
    }
}
