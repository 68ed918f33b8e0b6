//! The ancestors of a capsule: given, or found by their lineage digest.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use kvcap::{Chain, Code, Error, Limits, Policy, Result, Untrusted, binding::Digest};
use serde_json::json;

use crate::{
    input,
    report::{Report, grouped},
    time,
};

/// Most capsules that a folder is searched for.
const MOST: usize = 4096;

/// Where ancestors are.
#[derive(Debug, clap::Args)]
pub(crate) struct ChainArgs {
    /// The capsules that it continues, in any order, or folders to find them in [default: the
    /// capsule's own folder]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    chain: Vec<PathBuf>,
}

/// A capsule's file, and the digest by which a child would name it.
struct Candidate {
    path: PathBuf,
    lineage: Digest,
    /// Given by itself, so that it has to be an ancestor.
    given: bool,
}

impl ChainArgs {
    /// Whether somebody said where the ancestors are.
    pub(crate) fn given(&self) -> bool {
        !self.chain.is_empty()
    }

    /// Adds what ancestors are found to the chain of `tip`.
    ///
    /// # Errors
    /// As [`Chain::extend`]; 702 for a capsule that is given and no ancestor; those of its header.
    pub(crate) fn complete<S>(
        &self,
        tip: &Path,
        mut chain: Chain<S>,
        policy: &Policy<'_>,
        source: impl Fn(File) -> S,
    ) -> Result<Chain<S>> {
        if chain.wanted().is_none() && !self.given() {
            return Ok(chain);
        }
        let mut shelf = self.candidates(tip)?;
        while let Some(wanted) = chain.wanted() {
            let digest = wanted.digest;
            let Some(at) = shelf.iter().position(|found| found.lineage == digest) else {
                break;
            };
            let found = shelf.swap_remove(at);
            // a renewed copy has the same digest
            let alike = |other: &Candidate| other.lineage == digest && !other.given;
            shelf.retain(|other| !alike(other));
            let at = |error| input::at(error, &found.path);
            let file = File::open(&found.path).map_err(|e| Error::io(&e, found.path.display()))?;
            let parent = Untrusted::read_at(&file, &policy.limits).map_err(at)?;
            chain = chain.extend(parent, source(file), policy).map_err(at)?;
        }
        match shelf.iter().find(|left| left.given) {
            Some(left) => {
                let what = match chain.wanted() {
                    Some(_) => "the capsule is not the parent that is meant",
                    None => "the capsule is not an ancestor",
                };
                let error = Error::new(Code::LineageParentDigest, what).at(left.path.display());
                Err(match chain.wanted() {
                    Some(wanted) => error.sides(wanted.digest, left.lineage),
                    None => error,
                })
            }
            None => Ok(chain),
        }
    }

    fn candidates(&self, tip: &Path) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for path in &self.chain {
            match path.is_dir() {
                true => search(path, &mut found)?,
                false => found.push(Candidate {
                    lineage: lineage(path)?,
                    path: path.clone(),
                    given: true,
                }),
            }
        }
        if !self.given() && !input::is_stdin(tip) {
            let folder = tip.parent().filter(|folder| *folder != Path::new(""));
            search(folder.unwrap_or(Path::new(".")), &mut found)?;
        }
        Ok(found)
    }
}

/// The capsules of a folder, by name.
///
/// # Errors
/// KVC-940; 944 where there are too many.
pub(crate) fn capsules(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::io(&error, folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|name| name == "kvcap") && path.is_file() {
            found.push(path);
        }
        if found.len() > MOST {
            let what = "the folder holds too many capsules to search";
            return Err(Error::new(Code::LocalUsage, what)
                .at(folder.display())
                .sides(format_args!("at most {MOST}"), "more"));
        }
    }
    found.sort();
    Ok(found)
}

fn search(folder: &Path, found: &mut Vec<Candidate>) -> Result<()> {
    for path in capsules(folder)? {
        // what is no capsule is not looked for
        if let Ok(lineage) = lineage(&path) {
            found.push(Candidate {
                path,
                lineage,
                given: false,
            });
        }
    }
    Ok(())
}

fn lineage(path: &Path) -> Result<Digest> {
    let file = File::open(path).map_err(|error| Error::io(&error, path.display()))?;
    Untrusted::read_at(&file, &Limits::default())
        .and_then(|untrusted| untrusted.lineage())
        .map_err(|error| input::at(error, path))
}

/// Rows that say what a verified chain is.
pub(crate) fn describe<S>(chain: &Chain<S>, report: &mut Report) {
    let members: Vec<_> = chain.members().map(|(member, _)| member).collect();
    let end = members
        .first()
        .map_or(0, |m| m.manifest().context.positions.end);
    let start = members
        .last()
        .map_or(0, |m| m.manifest().context.positions.start);
    report.fact("positions", json!([start, end]));
    report.fact("chain", members.len());
    report.fact("chain_whole", chain.wanted().is_none());
    report.fact("chain_expires", chain.expires());
    let ids = members.iter().map(|m| m.manifest().claims.id.to_string());
    report.fact("chain_capsules", ids.collect::<Vec<_>>());
    if members.len() == 1 && chain.wanted().is_none() {
        return;
    }
    let range = format!("positions {}..{}", grouped(start), grouped(end));
    report.row(
        "chain",
        match chain.wanted() {
            None => format!(
                "{} capsules, {range}, valid until {}",
                members.len(),
                time::show_instant(chain.expires()),
            ),
            Some(parent) => format!(
                "{} capsules, {range}; parent {} is not at hand",
                members.len(),
                parent.digest
            ),
        },
    );
}
