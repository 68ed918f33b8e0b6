//! Progress bars: on stderr, and only where it is a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that counts bytes of `total`; hidden where it is not to be `shown`, and away from a terminal.
pub(crate) fn bar(shown: bool, verb: &'static str, total: u64) -> ProgressBar {
    if !shown || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{msg:8} {wide_bar} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {eta:>4}";
    let style = ProgressStyle::with_template(style);
    // nothing is drawn before there is something to count
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(verb)
}
