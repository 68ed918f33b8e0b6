//! Flags that many verbs take.

use clap::ValueEnum;
use kvcap::Workers;
use kvcap_codecs::Padding;

/// What every verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// The profile of the configuration to go by; none for no profile [default: KVCAP_PROFILE, or the
    /// configuration's own]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Everywhere",
        display_order = 899
    )]
    pub(crate) profile: Option<String>,
    /// Print one JSON object instead of text
    #[arg(long, global = true, help_heading = "Everywhere", display_order = 900)]
    pub(crate) json: bool,
    /// Print nothing but errors and data that was asked for
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Everywhere",
        display_order = 901
    )]
    pub(crate) quiet: bool,
}

impl Common {
    /// Whether progress may be shown: not with `--json` and `--quiet`.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.json && !self.quiet
    }
}

/// How many threads share the work.
#[derive(Debug, clap::Args)]
pub(crate) struct Threads {
    /// Threads that share the work, which gives the same bytes whatever their number [default: all
    /// cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Threads {
    pub(crate) fn workers(&self) -> Workers {
        self.threads
            .map_or_else(Workers::all, |threads| Workers::new(threads.into()))
    }
}

/// Whether and how exact banks are compressed.
#[derive(Debug, clap::Args)]
pub(crate) struct Compress {
    /// Compress exact banks without loss. Their padded lengths then depend on the prompt; padme if not
    /// said otherwise
    #[arg(
        long,
        value_enum,
        value_name = "PADDING",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "padme"
    )]
    compress: Option<Ladder>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ladder {
    /// Lengths tell how repetitive the state is, and hardly more
    Padme,
    /// About 1 % smaller, and lengths can tell known prompts apart
    Fine,
}

impl Compress {
    pub(crate) fn padding(&self) -> Option<Padding> {
        self.compress.map(|ladder| match ladder {
            Ladder::Padme => Padding::Padme,
            Ladder::Fine => Padding::Fine,
        })
    }
}
