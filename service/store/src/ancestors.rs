//! The ancestors of a capsule: given, or found by their lineage digest (lineage-v1 §2).
//!
//! What lies in a folder is a stranger's until a trusted key's signature says otherwise. It is looked at
//! cheaply, verified before it is chosen, and skipped where it is not what is wanted.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
};

use kvcap::{
    Chain, Code, Error, Fed, Limits, Parent, Policy, PushHeader, ReadAt, Result, SourceFile, Trust,
    Untrusted, binding::Digest,
};

use crate::input;

/// Most capsules under trusted signatures that a folder is searched for.
const MOST: usize = 4096;

/// Most bytes of headers that are read and hashed in a search: some tenths of a second. Short headers come
/// first, so that long ones of a stranger keep none out.
const MOST_BYTES: u64 = 64 << 20;

/// Bytes of a file's prologue.
const PROLOGUE: usize = 64;

/// Places in which the ancestors of a capsule are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Ancestors<'a> {
    /// The capsule's own path, beside which they are looked for where nothing is given.
    pub tip: &'a Path,
    /// Ancestors in any order, each of which has to be one; or folders that may hold them. Whether a path
    /// is a folder raises no trust: what is found in one is verified as what is given.
    pub given: &'a [PathBuf],
}

/// A capsule whose header a trusted key has signed.
struct Candidate {
    path: PathBuf,
    /// The digest by which a child names it.
    lineage: Digest,
    expires: u64,
    /// Given by itself, so that it has to be an ancestor.
    given: bool,
}

/// What was found, and whether all that is there was looked at.
struct Shelf {
    candidates: Vec<Candidate>,
    whole: bool,
}

impl Ancestors<'_> {
    /// Adds what ancestors are found to the chain of `tip`. Of several copies of one, which renewals make,
    /// it is the one that passes and expires last.
    ///
    /// # Errors
    /// As [`Chain::extend`]; 702 for a capsule that is given and no ancestor; those of its header; 944 where
    /// there is more to search than is searched, and a parent was not found.
    pub(crate) fn complete<S>(
        &self,
        mut chain: Chain<S>,
        policy: &Policy<'_>,
        source: impl Fn(SourceFile) -> S,
    ) -> Result<Chain<S>> {
        if chain.wanted().is_none() && self.given.is_empty() {
            return Ok(chain);
        }
        let mut shelf = self.shelf(policy.trust)?;
        while let Some(wanted) = chain.wanted() {
            let copies = shelf.take(wanted.digest);
            let Some(first) = copies.first() else {
                break;
            };
            let read = |copy: &Candidate| {
                let file = SourceFile::open(&copy.path).ok()?;
                let untrusted = Untrusted::read_at(&file, &policy.limits).ok()?;
                Some((untrusted, source(file)))
            };
            chain = chain
                .extend_with_one_of(copies.iter().filter_map(read), policy)
                .map_err(|error| input::at(error, &first.path))?;
        }
        if let Some(left) = shelf.candidates.iter().find(|left| left.given) {
            return Err(no_ancestor(chain.wanted(), left.lineage).at(left.path.display()));
        }
        match chain.wanted() {
            Some(_) if !shelf.whole => {
                let what =
                    "the folder holds too much to search for an ancestor: name the ancestors";
                Err(Error::new(Code::LocalUsage, what).sides(
                    format_args!("at most {MOST} capsules and {MOST_BYTES} bytes of headers"),
                    "more",
                ))
            }
            _ => Ok(chain),
        }
    }

    fn shelf(&self, trust: &Trust) -> Result<Shelf> {
        let (mut candidates, mut headers) = (Vec::new(), Vec::new());
        for path in self.given {
            match path.is_dir() {
                true => list(path, &mut headers)?,
                false => candidates.push(Candidate::read(path, trust, true)?),
            }
        }
        if self.given.is_empty() && !input::is_stdin(self.tip) {
            let folder = self.tip.parent().filter(|folder| *folder != Path::new(""));
            list(folder.unwrap_or(Path::new(".")), &mut headers)?;
        }
        headers.sort();
        let (mut left, mut found) = (MOST_BYTES, 0);
        for (len, path) in headers {
            let Some(rest) = left.checked_sub(len).filter(|_| found < MOST) else {
                let whole = false;
                return Ok(Shelf { candidates, whole });
            };
            left = rest;
            // what is no capsule of somebody trusted is not looked for
            if let Ok(candidate) = Candidate::read(&path, trust, false) {
                candidates.push(candidate);
                found += 1;
            }
        }
        let whole = true;
        Ok(Shelf { candidates, whole })
    }
}

/// What is said of a capsule that was given as an ancestor and is none.
pub(crate) fn no_ancestor(wanted: Option<&Parent>, given: Digest) -> Error {
    let what = match wanted {
        Some(_) => "the capsule is not the parent that is meant",
        None => "the capsule is not an ancestor",
    };
    let error = Error::new(Code::LineageParentDigest, what);
    match wanted {
        Some(wanted) => error.sides(wanted.digest, given),
        None => error,
    }
}

impl Shelf {
    /// Takes the copies of one capsule, the last to expire first: one alone where one is given.
    fn take(&mut self, lineage: Digest) -> Vec<Candidate> {
        let all = std::mem::take(&mut self.candidates);
        let (mut copies, others): (Vec<Candidate>, Vec<Candidate>) =
            all.into_iter().partition(|found| found.lineage == lineage);
        self.candidates = others;
        copies.sort_by_key(|copy| (!copy.given, Reverse(copy.expires), copy.path.clone()));
        if copies.first().is_some_and(|copy| copy.given) {
            // what is given twice is no ancestor the second time
            let again = copies.split_off(1).into_iter().filter(|copy| copy.given);
            self.candidates.extend(again);
        }
        copies
    }
}

impl Candidate {
    fn read(path: &Path, trust: &Trust, given: bool) -> Result<Self> {
        let file = SourceFile::open(path)?;
        let read = || {
            let untrusted = Untrusted::read_at(&file, &Limits::default())?;
            // a stranger can make a header without its body of any capsule that he has seen
            if !given && file.len() != untrusted.file_len() {
                return Err(Error::new(Code::FramingLength, "the file is not whole"));
            }
            Ok(Self {
                path: path.to_owned(),
                lineage: untrusted.signed_lineage(trust)?,
                expires: untrusted.claims().terms.expires,
                given,
            })
        };
        read().map_err(|error| input::at(error, path))
    }
}

/// Returns the paths of the capsules of a folder (`*.kvcap`), by name.
///
/// # Errors
/// KVC-940; 944 where there are too many.
pub fn capsules_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in named_so(folder)? {
        found.push(path?);
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

/// The files of a folder that are named `*.kvcap`.
fn named_so(folder: &Path) -> Result<impl Iterator<Item = Result<PathBuf>>> {
    let place = folder.to_owned();
    let failed = move |error: std::io::Error| Error::source(&error, place.display());
    let entries = fs::read_dir(folder).map_err(&failed)?;
    let is_capsule =
        |path: &PathBuf| path.extension().is_some_and(|name| name == "kvcap") && path.is_file();
    Ok(entries
        .map(move |entry| entry.map(|entry| entry.path()).map_err(&failed))
        .filter(move |path| path.as_ref().map_or(true, is_capsule)))
}

/// Adds the files of a folder that begin as capsules do, with the lengths of their headers: 64 bytes of
/// each are read.
fn list(folder: &Path, headers: &mut Vec<(u64, PathBuf)>) -> Result<()> {
    for path in named_so(folder)? {
        let path = path?;
        if let Some(len) = header_len(&path) {
            headers.push((len, path));
        }
    }
    Ok(())
}

fn header_len(path: &Path) -> Option<u64> {
    let file = SourceFile::open(path).ok()?;
    let mut prologue = [0; PROLOGUE];
    file.read_exact_at(0, &mut prologue).ok()?;
    match PushHeader::new(&Limits::default()).feed(&mut &prologue[..]) {
        Ok(Fed::More(header)) => header.header_len().filter(|len| *len <= file.len()),
        _ => None,
    }
}
