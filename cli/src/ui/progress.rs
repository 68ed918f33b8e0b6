//! Progress bars: on stderr, and only where it is a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::flags::Common;

/// A bar that counts bytes of `total`; hidden with `--json`, `--quiet` and away from a terminal.
pub(crate) fn bar(common: &Common, verb: &'static str, total: u64) -> ProgressBar {
    if common.json || common.quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{msg:8} {wide_bar} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {eta:>4}";
    let style = ProgressStyle::with_template(style);
    // nothing is drawn before there is something to count
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(verb)
}
