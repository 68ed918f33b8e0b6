//! Key registries that are written.

use std::path::Path;

use kvcap::{Code, Error};
use kvcap_calls::{self as library, Edit, Root};
use napi_derive::napi;

use crate::{
    call::{Calling, calling, natural, whole},
    results::{Key, Registry},
};

/// A change, as index.js makes it of lists.
#[napi(object)]
pub struct Change {
    pub kind: String,
    pub what: String,
    pub issuer: Option<String>,
}

impl Change {
    fn edit(self) -> kvcap::Result<Edit> {
        Ok(match self.kind.as_str() {
            "add" => Edit::Add(self.what, self.issuer),
            "retire" => Edit::Retire(self.what),
            "compromise" => Edit::Compromise(self.what),
            "revoke" => Edit::Revoke(self.what),
            _ => {
                let known = "a change is add, retire, compromise or revoke";
                return Err(Error::new(Code::LocalUsage, known).at(self.kind));
            }
        })
    }
}

fn root(path: &str, passphrase: Option<String>) -> Root<'_> {
    Root {
        path: Path::new(path),
        passphrase,
    }
}

#[napi(ts_return_type = "Promise<Key | Refused>")]
pub fn new_root_key(path: String, passphrase: Option<String>) -> Calling<Key> {
    calling(move || library::new_root_key(Path::new(&path), passphrase).map(Key::from))
}

#[napi(ts_return_type = "Promise<Registry | Refused>")]
pub fn create_registry(
    path: String,
    root_key: String,
    passphrase: Option<String>,
    ttl: i64,
) -> Calling<Registry> {
    calling(move || {
        let ttl = natural(ttl, "ttl")?;
        library::create_registry(Path::new(&path), root(&root_key, passphrase), ttl)
            .map(Registry::from)
    })
}

#[napi(ts_return_type = "Promise<Registry | Refused>")]
pub fn change_registry(
    path: String,
    root_key: String,
    passphrase: Option<String>,
    changes: Vec<Change>,
    ttl: Option<i64>,
) -> Calling<Registry> {
    calling(move || {
        let ttl = whole(ttl, "ttl")?;
        let edits = changes.into_iter().map(Change::edit);
        let edits = edits.collect::<kvcap::Result<Vec<_>>>()?;
        library::change_registry(Path::new(&path), root(&root_key, passphrase), &edits, ttl)
            .map(Registry::from)
    })
}
