//! Progress bars: on stderr, and only where it is a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Common;

/// A bar that counts bytes of `total`; hidden with `--json`, `--quiet` and away from a terminal.
pub(crate) fn bar(common: &Common, verb: &'static str, total: u64) -> ProgressBar {
    if common.json || common.quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = "{msg:8} {wide_bar} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {eta:>4}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message(verb);
    bar
}
