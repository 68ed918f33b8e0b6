//! The [`CapsuleStore`] of servers that share a bucket and a database.

use std::{sync::Arc, time::Duration};

use kvcap::{CapsuleId, Code, Limits, Result, binding::Digest};

use super::{
    bucket::{Bucket, Upload},
    catalog::{self, Lease, Leased, Wanted},
    database::{Database, execute, query, query_opt},
    edge::{AtEdge, ValkeyEdge},
    versions::{self, SharedOrder},
};
use tokio::task::JoinHandle;

use crate::{Arriving, CapsuleStore, Claimed, Coming, Entry, Name, Space, Stored, Tag, time::Day};

/// Time from one renewal of a lease to the next.
const BEAT: Duration = Duration::from_secs(15);

/// Names that are read at once.
const PAGE: i64 = 1000;

/// Age at which garbage is removed once more, and forgotten: who had lost its lease may have written it since.
const OLD: &str = "1 hour";

#[derive(Clone)]
pub(super) struct SharedStore {
    pub(super) bucket: Arc<Bucket>,
    pub(super) database: Arc<Database>,
    pub(super) edge: Option<Arc<ValkeyEdge>>,
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedStore")
    }
}

/// A capsule on its way, and its lease.
#[derive(Debug)]
struct Incoming {
    store: SharedStore,
    lease: Lease,
    upload: Option<Upload>,
    /// Renews the lease, and ends where it was lost.
    beat: JoinHandle<()>,
}

impl SharedStore {
    /// An object as the edge knows it, if there is one.
    fn at_edge(&self, (space, _): Name, object: &str, len: u64) -> Option<AtEdge> {
        let edge = self.edge.as_ref()?;
        Some(edge.object(space, object, len))
    }

    /// Removes objects that nothing names any more; what cannot be removed now, a sweep removes.
    async fn clear(&self, objects: &[String]) -> usize {
        let mut removed = 0;
        for object in objects {
            removed += usize::from(self.bucket.remove(object).await.is_ok());
        }
        removed
    }

    /// Renews a lease until it is lost. While the database cannot be reached it may still be held.
    async fn renew(self, lease: Lease) {
        loop {
            tokio::time::sleep(BEAT).await;
            let renewed = self.database.transact(|transaction| {
                let lease = lease.clone();
                Box::pin(async move { catalog::renew(transaction, &lease).await })
            });
            if renewed.await.is_ok_and(|held| !held) {
                return;
            }
        }
    }

    async fn release(self, lease: Lease) {
        let object = lease.object.clone();
        let released = self.database.transact(|transaction| {
            let lease = lease.clone();
            Box::pin(async move { catalog::release(transaction, &lease).await })
        });
        // a lease that cannot be let go ends by itself
        if released.await.is_ok_and(|released| released) {
            self.clear(&[object]).await;
        }
    }

    pub(super) fn rebuild(&self, limits: &Limits) -> Result<usize> {
        let (mut made, mut order) = (0, versions::Found::default());
        for (object, len) in self.bucket.list()? {
            let Some(name) = name_of(&object) else {
                continue;
            };
            let file = self.bucket.open(&object, len, None);
            let Ok(entry) = Entry::read(&file, limits) else {
                continue;
            };
            order.note(name, &kvcap::Untrusted::read_at(&file, limits)?)?;
            made += usize::from(self.adopt(name, object, &entry)?);
        }
        order.put(&SharedOrder(Arc::clone(&self.database)))?;
        Ok(made)
    }

    /// Makes a row for an object that has none, unless somebody is about to, or has thrown it away.
    fn adopt(&self, name: Name, object: String, entry: &Entry) -> Result<bool> {
        let (lease, entry) = (Lease { name, object }, entry.clone());
        self.database.run(|transaction| {
            let (lease, entry) = (lease.clone(), entry.clone());
            Box::pin(async move {
                let sql = "SELECT 1 FROM kvcap_claim WHERE object = $1 UNION ALL
                           SELECT 1 FROM kvcap_garbage WHERE object = $1 UNION ALL
                           SELECT 1 FROM kvcap_capsule WHERE object = $1";
                if !query(transaction, sql, &[&lease.object]).await?.is_empty() {
                    return Ok(false);
                }
                match catalog::entry(transaction, lease.name).await? {
                    // the one that lives longer had taken its place
                    Some(kept) if kept.expires >= entry.expires => return Ok(false),
                    Some(_) => drop(catalog::take(transaction, lease.name).await?),
                    None => {}
                }
                catalog::insert(transaction, &lease, &entry).await
            })
        })
    }
}

impl CapsuleStore for SharedStore {
    fn check(&self) -> Result<()> {
        self.counts()?;
        self.bucket.check()
    }

    fn get(&self, name: Name) -> Result<Option<Entry>> {
        self.database
            .run(|transaction| Box::pin(catalog::entry(transaction, name)))
    }

    fn claim(&self, name: Name, coming: Coming<'_>, quota: u64) -> Result<Claimed> {
        let wanted = Wanted::of(coming);
        let lease = Lease {
            name,
            object: new_object(name, wanted.expires)?,
        };
        let leased = self.database.run(|transaction| {
            let (lease, wanted) = (lease.clone(), wanted.clone());
            Box::pin(async move {
                let leased = catalog::lease(transaction, &lease, &wanted, quota).await?;
                if leased != Leased::New {
                    // nothing of it is to be kept
                    let sql = "DELETE FROM kvcap_claim WHERE object = $1";
                    execute(transaction, sql, &[&lease.object]).await?;
                }
                Ok(leased)
            })
        })?;
        match leased {
            Leased::Kept => Ok(Claimed::Kept),
            Leased::Full => Ok(Claimed::Full),
            Leased::New => {
                let beat = self.clone().renew(lease.clone());
                let mut incoming = Incoming {
                    store: self.clone(),
                    lease,
                    upload: None,
                    beat: self.database.blocking.task(beat),
                };
                incoming.upload = Some(self.bucket.begin(&incoming.lease.object)?);
                Ok(Claimed::New(Box::new(incoming)))
            }
        }
    }

    fn open(&self, name: Name) -> Result<Option<(Entry, Box<dyn Stored>)>> {
        // each time: the edge does not know what was removed or replaced
        let found = self
            .database
            .run(|transaction| Box::pin(catalog::found(transaction, name)))?;
        Ok(found.map(|(entry, object)| {
            let edge = self.at_edge(name, &object, entry.bytes);
            let file: Box<dyn Stored> = Box::new(self.bucket.open(&object, entry.bytes, edge));
            (entry, file)
        }))
    }

    fn remove(&self, name: Name) -> Result<bool> {
        let taken = self.database.run(|transaction| {
            Box::pin(async move {
                let taken = catalog::take(transaction, name).await?;
                versions::cut(transaction, name).await?;
                Ok(taken)
            })
        })?;
        if let Some(object) = &taken {
            if let Some(edge) = self.at_edge(name, object, 0) {
                edge.forget();
            }
            self.database
                .blocking
                .wait(self.clear(std::slice::from_ref(object)));
        }
        Ok(taken.is_some())
    }

    fn ancestors(&self, space: Space, parent: Digest, most: usize) -> Result<Vec<CapsuleId>> {
        let (space, most) = (space.0.to_vec(), most);
        self.database.run(|transaction| {
            let space = space.clone();
            Box::pin(async move {
                let sql =
                    "SELECT space, id, parent FROM kvcap_capsule WHERE space = $1 AND lineage = $2
                           ORDER BY expires DESC, id LIMIT 1";
                let (mut ids, mut wanted) = (Vec::new(), Some(parent.0.to_vec()));
                while let Some(lineage) = wanted.take()
                    && ids.len() < most
                    && let Some(row) = query_opt(transaction, sql, &[&space, &lineage]).await?
                {
                    ids.extend(catalog::name(&row).map(|(_, id)| id));
                    wanted = row.get(2);
                }
                Ok(ids)
            })
        })
    }

    fn expired(&self, now: u64) -> Result<Vec<Name>> {
        let now = catalog::signed(now)?;
        self.database.run(|transaction| {
            Box::pin(async move {
                let sql = "SELECT space, id FROM kvcap_capsule WHERE expires <= $1 ORDER BY expires LIMIT $2";
                let rows = query(transaction, sql, &[&now, &PAGE]).await?;
                Ok(rows.iter().filter_map(catalog::name).collect())
            })
        })
    }

    fn each(&self, each: &mut dyn FnMut(Name) -> Result<()>) -> Result<()> {
        let mut after = (Vec::new(), Vec::new());
        loop {
            let names: Vec<Name> = self.database.run(|transaction| {
                let (space, id) = after.clone();
                Box::pin(async move {
                    let sql = "SELECT space, id FROM kvcap_capsule WHERE (space, id) > ($1, $2)
                               ORDER BY space, id LIMIT $3";
                    let rows = query(transaction, sql, &[&space, &id, &PAGE]).await?;
                    Ok(rows.iter().filter_map(catalog::name).collect())
                })
            })?;
            let Some(last) = names.last() else {
                return Ok(());
            };
            after = catalog::keys(*last);
            names.into_iter().try_for_each(&mut *each)?;
        }
    }

    fn counts(&self) -> Result<(u64, u64)> {
        self.database.run(|transaction| {
            Box::pin(async move {
                let sql = "SELECT coalesce(sum(capsules), 0)::bigint, coalesce(sum(kept), 0)::bigint FROM kvcap_tenant";
                let rows = query(transaction, sql, &[]).await?;
                let number = |at: usize| {
                    let number = rows.first().map_or(0, |row| row.get::<_, i64>(at));
                    u64::try_from(number).unwrap_or(0)
                };
                Ok((number(0), number(1)))
            })
        })
    }

    fn set_sha256(&self, name: Name, tag: Tag, digest: [u8; 32]) -> Result<()> {
        let ((space, id), tag, digest) = (catalog::keys(name), tag.0.to_vec(), digest.to_vec());
        self.database.run(|transaction| {
            let (space, id, tag, digest) = (space.clone(), id.clone(), tag.clone(), digest.clone());
            Box::pin(async move {
                let sql = "UPDATE kvcap_capsule SET sha256 = $4 WHERE space = $1 AND id = $2 AND tag = $3";
                execute(transaction, sql, &[&space, &id, &tag, &digest]).await?;
                Ok(())
            })
        })
    }

    fn sweep(&self) -> Result<usize> {
        let database = &self.database;
        let lost: Vec<Lease> = database.run(|transaction| {
            Box::pin(async move {
                let sql = "SELECT space, id, object FROM kvcap_claim WHERE until < now() LIMIT $1";
                let rows = query(transaction, sql, &[&PAGE]).await?;
                let lease = |row| {
                    catalog::name(row).map(|name| Lease {
                        name,
                        object: row.get(2),
                    })
                };
                Ok(rows.iter().filter_map(lease).collect())
            })
        })?;
        for lease in lost {
            database.run(|transaction| {
                let lease = lease.clone();
                Box::pin(async move { catalog::release_lost(transaction, lease.name).await })
            })?;
        }
        let garbage: Vec<(String, bool)> = database.run(|transaction| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT object, since < now() - interval '{OLD}' FROM kvcap_garbage
                     WHERE NOT removed OR since < now() - interval '{OLD}' ORDER BY since LIMIT $1"
                );
                let rows = query(transaction, &sql, &[&PAGE]).await?;
                Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
            })
        })?;
        let mut removed = 0;
        for (object, old) in garbage {
            if database.blocking.wait(self.bucket.remove(&object)).is_err() {
                continue;
            }
            removed += 1;
            database.run(|transaction| {
                let object = object.clone();
                Box::pin(async move {
                    let sql = match old {
                        true => "DELETE FROM kvcap_garbage WHERE object = $1",
                        false => "UPDATE kvcap_garbage SET removed = true WHERE object = $1",
                    };
                    execute(transaction, sql, &[&object]).await?;
                    Ok(())
                })
            })?;
        }
        Ok(removed)
    }
}

impl Arriving for Incoming {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.upload {
            Some(upload) if !self.beat.is_finished() => upload.append(bytes),
            _ => Err(catalog::lost()),
        }
    }

    fn keep(mut self: Box<Self>, entry: Entry) -> Result<()> {
        let Some(mut upload) = self.upload.take() else {
            return Err(catalog::lost());
        };
        upload.finish()?;
        let bytes = entry.bytes;
        let lease = self.lease.clone();
        self.store
            .database
            .run(|transaction| {
                let (lease, entry) = (lease.clone(), entry.clone());
                Box::pin(async move { catalog::keep(transaction, &lease, &entry).await })
            })
            .inspect_err(|error| {
                // whose lease was lost was called garbage before it was whole
                if error.code() == Code::LocalBusy {
                    let object = std::slice::from_ref(&self.lease.object);
                    self.store.database.blocking.wait(self.store.clear(object));
                }
            })?;
        let edge = self
            .store
            .at_edge(self.lease.name, &self.lease.object, bytes);
        if let (Some(edge), Some(file)) = (edge, upload.into_file()) {
            edge.bring_file(file);
        }
        Ok(())
    }
}

/// The lease goes; where it has ended in a row there is none.
impl Drop for Incoming {
    fn drop(&mut self) {
        self.beat.abort();
        // the object in the making goes first
        drop(self.upload.take());
        let (store, lease) = (self.store.clone(), self.lease.clone());
        self.store
            .database
            .blocking
            .spawn(async move { store.release(lease).await });
    }
}

/// A key that no other object ever has, under the day on which it may go: `DAY/SPACE/ID-TOKEN.kvcap`.
fn new_object((space, id): Name, expires: u64) -> Result<String> {
    let mut token = [0; 16];
    let no_randomness = |error: getrandom::Error| {
        kvcap::Error::source(&std::io::Error::other(error.to_string()), "randomness")
    };
    getrandom::fill(&mut token).map_err(no_randomness)?;
    let (day, token) = (Day::of(expires), CapsuleId(token));
    Ok(format!("{day}/{}/{id}-{token}.kvcap", space.name()))
}

/// The name of a capsule by its object's key.
fn name_of(object: &str) -> Option<Name> {
    let mut parts = object.split('/').skip(1);
    let (space, file) = (Space::parse(parts.next()?)?, parts.next()?);
    let (id, _) = file.strip_suffix(".kvcap")?.split_once('-')?;
    Some((space, CapsuleId::from_hex(id)?))
}
