//! `kvcap man`: manual pages.

use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;
use kvcap::{Error, Result};
use kvcap_store::output::{self, Readers};

use crate::ui::Report;

/// Writes manual pages into a folder
///
/// One page a verb: kvcap.1, kvcap-seal.1, kvcap-registry-add.1, …
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; made if it does not exist
    folder: PathBuf,
    /// Replace pages that exist
    #[arg(short, long)]
    force: bool,
}

/// # Errors
/// KVC-940, 941.
pub(crate) fn run(args: &Args, mut command: Command) -> Result<Report> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).map_err(|error| Error::sink(&error, folder.display()))?;
    command.build();
    let mut pages = Vec::new();
    let mut left = vec![command];
    while let Some(page) = left.pop() {
        let below = page.get_subcommands().filter(|verb| !verb.is_hide_set());
        left.extend(below.cloned());
        let name = page.get_display_name().unwrap_or("kvcap");
        pages.push((folder.join(format!("{name}.1")), page));
    }
    pages.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (path, _) in &pages {
        output::check_absent(path, args.force)?;
    }
    let mut report = Report::new();
    for (path, page) in &pages {
        let mut text = Vec::new();
        Man::new(page.clone())
            .render(&mut text)
            .map_err(|error| Error::sink(&error, path.display()))?;
        output::write(path, args.force, Readers::Umask, &text)?;
        report.row("written", path.display());
    }
    let names: Vec<String> = pages
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    report.fact("pages", names);
    Ok(report)
}
