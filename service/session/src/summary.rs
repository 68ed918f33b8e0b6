//! The plain summarizer (session-v1 §5).

use crate::event::{Event, Kind};

/// Most characters of a line's text.
const LINE: usize = 200;
/// Most bytes of a plain summary.
const MOST: usize = 16_384;

/// Returns a summary without a model: the beginnings of what was said, and the oldest lines dropped.
#[must_use]
pub fn plain_summary(summary: &str, leaving: &[Event]) -> String {
    let mut text = summary.to_owned();
    for event in leaving
        .iter()
        .filter(|event| matches!(event.kind, Kind::User | Kind::Assistant))
    {
        let line: String = event.text().chars().take(LINE).collect();
        let line = line.replace(['\n', '\r'], " ");
        text = format!("{text}{}: {line}\n", event.kind.name());
    }
    let mut rest = text.as_str();
    while rest.len() > MOST {
        match rest.split_once('\n') {
            Some((_, after)) if !after.is_empty() => rest = after,
            _ => {
                rest = rest
                    .get(..rest.floor_char_boundary(MOST))
                    .unwrap_or_default()
            }
        }
    }
    rest.to_owned()
}
