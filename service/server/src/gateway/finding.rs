//! Finding the session that a request without a name goes on from (http-v1 HTTP-E-9): by hashes of blocks of token ids
//! under a key of the owner's, among his own sessions alone.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvcap::{Code, Error, Result, binding::Digest};
use kvcap_store::{
    output::{self, Readers},
    private,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Tokens of a block.
const BLOCK: usize = 32;
/// Least blocks in common for which another's state is copied.
const LEAST: usize = 2;
/// Longest index of an owner that is read, in bytes.
const LONGEST: u64 = 256 << 20;
/// Beginning of the names of sessions that nobody has named.
pub(super) const AUTO: &str = "auto-";

/// The indices of all owners.
#[derive(Debug)]
pub(super) struct Finding {
    folder: PathBuf,
    owners: Mutex<HashMap<Digest, Arc<Mutex<Index>>>>,
}

/// What an owner's sessions hold.
struct Index {
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// Hashes of each session's blocks, each over all before it.
    sessions: HashMap<String, Vec<Digest>>,
    /// The session that had the block last.
    blocks: HashMap<Digest, String>,
    lines: usize,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index of {} sessions", self.sessions.len())
    }
}

/// What was found for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It goes on from all that a session holds.
    GoesOn(String),
    /// It begins as a session does, and leaves it.
    Leaves(String),
    /// Nothing.
    Nothing,
}

impl Finding {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self {
            folder,
            owners: Mutex::default(),
        }
    }

    /// Finds the session whose tokens a request of this owner begins with for the longest.
    ///
    /// # Errors
    /// KVC-94x for the index's files.
    pub(super) fn find(&self, owner: Digest, tokens: &[u32]) -> Result<Found> {
        let index = self.index(owner)?;
        let index = lock(&index);
        let blocks = index.hashes(tokens);
        let same = |block: &Digest| index.blocks.get(block);
        let mut last = blocks.iter().enumerate().rev();
        let found = last.find_map(|(before, block)| Some((same(block)?, before + 1)));
        let Some((session, count)) = found else {
            return Ok(Found::Nothing);
        };
        let all = index.sessions.get(session).map_or(0, Vec::len);
        Ok(match count {
            count if count == all => Found::GoesOn(session.clone()),
            count if count >= LEAST => Found::Leaves(session.clone()),
            _ => Found::Nothing,
        })
    }

    /// Notes what a session holds now.
    ///
    /// # Errors
    /// KVC-94x for the index's files.
    pub(super) fn note(&self, owner: Digest, session: &str, tokens: &[u32]) -> Result<()> {
        let index = self.index(owner)?;
        let mut index = lock(&index);
        let blocks = index.hashes(tokens);
        if index.sessions.get(session) == Some(&blocks) {
            return Ok(());
        }
        let line = entry(session, &blocks);
        index.put(session, blocks);
        index.lines += 1;
        let mut options = OpenOptions::new();
        let failed = |error: std::io::Error| Error::sink(&error, index.path.display());
        let file = private::open(&index.path, options.create(true).append(true));
        let mut file = file.map_err(failed)?;
        file.write_all(line.as_bytes()).map_err(failed)
    }

    /// Forgets a session.
    ///
    /// # Errors
    /// KVC-94x for the index's files.
    pub(super) fn forget(&self, owner: Digest, session: &str) -> Result<()> {
        self.note(owner, session, &[])
    }

    fn index(&self, owner: Digest) -> Result<Arc<Mutex<Index>>> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = owners.get(&owner) {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(Mutex::new(Index::open(
            &self.folder.join(owner.to_string()),
        )?));
        owners.insert(owner, Arc::clone(&index));
        Ok(index)
    }
}

impl Index {
    fn open(folder: &Path) -> Result<Self> {
        private::folder(folder)?;
        let mut index = Self {
            path: folder.join("blocks.jsonl"),
            key: key(&folder.join("key"))?,
            sessions: HashMap::new(),
            blocks: HashMap::new(),
            lines: 0,
        };
        let length = fs::metadata(&index.path).map_or(0, |about| about.len());
        let text = match length {
            0 => String::new(),
            length if length > LONGEST => String::new(),
            _ => {
                let read = fs::read_to_string(&index.path);
                read.map_err(|error| Error::source(&error, index.path.display()))?
            }
        };
        // a line that is torn is found again when its session goes on
        for (session, blocks) in text.lines().filter_map(read_entry) {
            index.put(&session, blocks);
            index.lines += 1;
        }
        if index.lines > 2 * index.sessions.len() || length > LONGEST {
            let all = index.sessions.iter();
            let text: String = all
                .map(|(session, blocks)| entry(session, blocks))
                .collect();
            output::write(&index.path, true, Readers::Owner, text.as_bytes())?;
            index.lines = index.sessions.len();
        }
        Ok(index)
    }

    fn put(&mut self, session: &str, blocks: Vec<Digest>) {
        if let Some(before) = self.sessions.remove(session) {
            for block in before {
                if self.blocks.get(&block).is_some_and(|own| own == session) {
                    self.blocks.remove(&block);
                }
            }
        }
        if blocks.is_empty() {
            return;
        }
        for block in &blocks {
            self.blocks.insert(*block, session.to_owned());
        }
        self.sessions.insert(session.to_owned(), blocks);
    }

    /// Hashes of the whole blocks, each over all before it too.
    fn hashes(&self, tokens: &[u32]) -> Vec<Digest> {
        let mut before = Digest([0; 32]);
        let blocks = tokens.chunks_exact(BLOCK);
        let hashed = blocks.map(|block| {
            let ids: Vec<u8> = block.iter().flat_map(|id| id.to_le_bytes()).collect();
            let parts: [&[u8]; 3] = [self.key.as_slice(), &before.0, &ids];
            before = Digest::labelled("kvcap v1 prefix block", &parts);
            before
        });
        hashed.collect()
    }
}

/// The owner of sessions, as their index is named.
pub(super) fn owner(tenant: Option<&str>, subject: Option<&str>) -> Digest {
    let name = |name: Option<&str>| json!(name).to_string();
    let (tenant, subject) = (name(tenant), name(subject));
    Digest::labelled(
        "kvcap v1 prefix owner",
        &[tenant.as_bytes(), subject.as_bytes()],
    )
}

/// The key in a file, which is made where there is none. Without it an index tells nothing.
fn key(path: &Path) -> Result<Zeroizing<[u8; 32]>> {
    let failed = |error: std::io::Error| Error::io(&error, path.display());
    let mut key = Zeroizing::new([0; 32]);
    match private::open(path, OpenOptions::new().read(true)) {
        Ok(mut file) => {
            private::check(&file, path)?;
            file.read_exact(key.as_mut()).map_err(failed)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let none = |_| Error::new(Code::LocalIo, "the system's random generator gives nothing");
            getrandom::fill(key.as_mut()).map_err(none)?;
            output::write(path, false, Readers::Owner, key.as_slice())?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(key)
}

fn entry(session: &str, blocks: &[Digest]) -> String {
    let blocks: Vec<String> = blocks.iter().map(Digest::to_string).collect();
    format!("{}\n", json!({"session": session, "blocks": blocks}))
}

fn read_entry(line: &str) -> Option<(String, Vec<Digest>)> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let blocks = entry["blocks"].as_array()?.iter();
    let blocks = blocks.map(|block| Digest::from_hex(block.as_str()?));
    Some((
        entry["session"].as_str()?.to_owned(),
        blocks.collect::<Option<_>>()?,
    ))
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_longest_beginning_is_found_among_ones_own_and_after_a_restart() {
        let home = TempDir::new().unwrap();
        let (ana, bob) = (owner(Some("a"), Some("ana")), owner(Some("a"), Some("bob")));
        let tokens: Vec<u32> = (0..200).collect();
        let other: Vec<u32> = (0..100).chain(900..1000).collect();
        let finding = Finding::at(home.path().join("index"));
        finding.note(ana, "auto-1", &tokens).unwrap();
        finding.note(ana, "auto-2", &other[..40]).unwrap();
        for finding in [finding, Finding::at(home.path().join("index"))] {
            let find = |owner, tokens: &[u32]| finding.find(owner, tokens).unwrap();
            let more: Vec<u32> = (0..300).collect();
            assert_eq!(find(ana, &more), Found::GoesOn("auto-1".to_owned()));
            // 96 in common: three blocks
            assert_eq!(find(ana, &other), Found::Leaves("auto-1".to_owned()));
            assert_eq!(find(ana, &tokens[1..]), Found::Nothing);
            assert_eq!(find(bob, &more), Found::Nothing);
        }
        let finding = Finding::at(home.path().join("index"));
        for (gone, left) in [
            ("auto-1", Found::GoesOn("auto-2".to_owned())),
            ("auto-2", Found::Nothing),
        ] {
            finding.forget(ana, gone).unwrap();
            assert_eq!(finding.find(ana, &tokens).unwrap(), left);
        }
    }

    #[test]
    fn without_its_key_an_index_tells_nothing() {
        let home = TempDir::new().unwrap();
        let ana = owner(None, Some("ana"));
        let tokens: Vec<u32> = (0..64).collect();
        Finding::at(home.path().to_owned())
            .note(ana, "s", &tokens)
            .unwrap();
        fs::remove_file(home.path().join(ana.to_string()).join("key")).unwrap();
        let found = Finding::at(home.path().to_owned())
            .find(ana, &tokens)
            .unwrap();
        assert_eq!(found, Found::Nothing);
    }
}
