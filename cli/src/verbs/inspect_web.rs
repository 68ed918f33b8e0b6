//! `kvcap inspect --web`: the inspector in a browser of this machine.

use std::path::{Path, PathBuf};

use kvcap::Result;
use kvcap_server::{Inspector, Viewer};
use kvcap_store::{TrustSources, input};

use crate::ui::{self, Report, usage};

/// Longest file of a public key, in bytes.
const LONGEST: u64 = 4 << 10;

/// Shows a capsule, and files that may be its ancestors, until it is told to end.
///
/// # Errors
/// KVC-944 where this program has no page and none is named; 94x for files.
pub(super) fn run(
    capsule: &Path,
    ancestors: &[PathBuf],
    page: Option<&Path>,
    sources: &TrustSources,
) -> Result<Report> {
    if !sources.registries.is_empty() || !sources.roots.is_empty() {
        return usage(
            "the page takes a registry and its root itself: choose them there",
            "--web, --registry",
        );
    }
    let inspector = match page {
        Some(page) => Inspector::read(page)?,
        None => match Inspector::built_in() {
            Some(inspector) => inspector,
            None => {
                return usage(
                    "this program was built without the page: --web=PAGE names the one that web/inspect/build makes",
                    "--web",
                );
            }
        },
    };
    let keys: Result<Vec<String>> = sources.keys.iter().map(|key| text(key)).collect();
    let viewing = Viewer {
        inspector,
        keys: keys?.concat(),
        files: std::iter::once(capsule.to_owned())
            .chain(ancestors.iter().cloned())
            .collect(),
    }
    .start()?;
    let stop = viewing.stop();
    kvcap_store::output::at_first_signal(move || stop.now());
    let url = viewing.url().to_owned();
    ui::viewing(&url);
    // who has no browser has the address
    let _none = open::that_detached(&url);
    viewing.wait()?;
    let mut report = Report::new();
    report.fact("url", url);
    Ok(report)
}

/// The text of a public key, or of its file.
fn text(key: &str) -> Result<String> {
    let path = Path::new(key);
    match path.is_file() {
        true => Ok(String::from_utf8_lossy(&input::small(path, LONGEST)?).into_owned() + "\n"),
        false => Ok(format!("{key}\n")),
    }
}
