//! The ancestors of a capsule: given, or found by their lineage digest (capsule-v1 §9).

use std::{
    fs,
    path::{Path, PathBuf},
};

use kvcap::{Chain, Code, Error, Limits, Policy, Result, SourceFile, Untrusted, binding::Digest};

use crate::input;

/// Most capsules that a folder is searched for.
const MOST: usize = 4096;

/// Where the ancestors of a capsule are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Ancestors<'a> {
    /// The capsule's own path, beside which they are looked for where nothing is given.
    pub tip: &'a Path,
    /// Ancestors in any order, each of which has to be one; or folders that may hold them.
    pub given: &'a [PathBuf],
}

/// A capsule's file, and the digest by which a child would name it.
struct Candidate {
    path: PathBuf,
    lineage: Digest,
    /// Given by itself, so that it has to be an ancestor.
    given: bool,
}

impl Ancestors<'_> {
    /// Adds what ancestors are found to the chain of `tip`.
    ///
    /// # Errors
    /// As [`Chain::extend`]; 702 for a capsule that is given and no ancestor; those of its header.
    pub(crate) fn complete<S>(
        &self,
        mut chain: Chain<S>,
        policy: &Policy<'_>,
        source: impl Fn(SourceFile) -> S,
    ) -> Result<Chain<S>> {
        if chain.wanted().is_none() && self.given.is_empty() {
            return Ok(chain);
        }
        let mut shelf = self.candidates()?;
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
            let file = SourceFile::open(&found.path)?;
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

    fn candidates(&self) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for path in self.given {
            match path.is_dir() {
                true => search(path, &mut found)?,
                false => found.push(Candidate {
                    lineage: lineage(path)?,
                    path: path.clone(),
                    given: true,
                }),
            }
        }
        if self.given.is_empty() && !input::is_stdin(self.tip) {
            let folder = self.tip.parent().filter(|folder| *folder != Path::new(""));
            search(folder.unwrap_or(Path::new(".")), &mut found)?;
        }
        Ok(found)
    }
}

/// Returns the paths of the capsules of a folder (`*.kvcap`), by name.
///
/// # Errors
/// KVC-940; 944 where there are too many.
pub fn capsules_in(folder: &Path) -> Result<Vec<PathBuf>> {
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
    for path in capsules_in(folder)? {
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
    let file = SourceFile::open(path)?;
    Untrusted::read_at(&file, &Limits::default())
        .and_then(|untrusted| untrusted.lineage())
        .map_err(|error| input::at(error, path))
}
