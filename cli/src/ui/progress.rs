//! Progress bars: on stderr, only where it is a terminal, and only where it takes long.

use std::{
    fmt::Write,
    io::{IsTerminal, stderr},
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use kvcap_store::output::before_signal_ends;

/// Work that is done sooner shows no bar.
const LONG: Duration = Duration::from_secs(1);

/// The bar that is shown: cleared also where a signal ends the process.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn clear() {
    let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// A bar that counts bytes.
pub(crate) struct Bar {
    bar: ProgressBar,
    shown: bool,
    begun: Once,
}

/// A bar that counts bytes of `total`; hidden where it is not to be `shown`, and away from a terminal.
pub(crate) fn bar(shown: bool, verb: &'static str, total: u64) -> Bar {
    let style = "{msg:8} {wide_bar} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {left:>6}";
    let style = ProgressStyle::with_template(style);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden())
        .with_style(style.with_key("left", left))
        .with_message(verb);
    Bar {
        bar,
        shown: shown && stderr().is_terminal(),
        begun: Once::new(),
    }
}

/// The time that is left at the pace of all that was done: the pace of the last moment leaps.
fn left(state: &ProgressState, out: &mut dyn Write) {
    let (done, total) = (state.pos(), state.len().unwrap_or(0));
    let elapsed = u64::try_from(state.elapsed().as_millis()).unwrap_or(u64::MAX);
    let left = elapsed.saturating_mul(total.saturating_sub(done)) / done.max(1);
    let _told = write!(out, "{} s", left.div_ceil(1000));
}

impl Bar {
    pub(crate) fn inc(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.begin();
    }

    pub(crate) fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.begin();
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn begin(&self) {
        if self.shown && self.bar.elapsed() >= LONG {
            self.begun.call_once(|| {
                *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.bar.clone());
                before_signal_ends(clear);
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
            });
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
