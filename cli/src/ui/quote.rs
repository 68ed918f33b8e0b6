//! Texts that come out of files, beside words of ours.

use kvcap::text::printable;

/// Shows a text out of a file: a single plain word as it is, anything else in quotes, so that no name ends
/// before it ends and goes on with words of ours.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-/".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", printable(&escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        assert_eq!(quoted("Qwen/Qwen2.5-0.5B"), "Qwen/Qwen2.5-0.5B");
        assert_eq!(
            quoted("tiny): the expected one"),
            "\"tiny): the expected one\""
        );
        assert_eq!(quoted("a\" \\b"), "\"a\\\" \\\\b\"");
        assert_eq!(quoted("a\u{200b}b"), "\"a\\u{200b}b\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
