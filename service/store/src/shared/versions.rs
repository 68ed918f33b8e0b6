//! The order of sessions' versions in the database.

use std::{collections::BTreeMap, fmt, sync::Arc};

use deadpool_postgres::Transaction;
use kvcap::{CapsuleId, Code, Error, Result, Untrusted};
use tokio_postgres::Row;

use super::{
    catalog::{self, signed},
    database::{Database, Failed, execute, query, query_opt},
};
use crate::{
    Name, Space,
    version_store::{Version, VersionPut, VersionStore, is_sealed_version, judge},
};

type Answer<T> = std::result::Result<T, Failed>;

/// The order of sessions' versions that servers of one database share.
pub(super) struct SharedOrder(pub(super) Arc<Database>);

impl fmt::Debug for SharedOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedOrder")
    }
}

impl VersionStore for SharedOrder {
    fn put_version(
        &self,
        space: Space,
        session: &str,
        version: &Version,
        after: u64,
    ) -> Result<VersionPut> {
        self.0.run(|transaction| {
            let (session, version) = (session.to_owned(), version.clone());
            Box::pin(async move { put(transaction, space, &session, &version, after).await })
        })
    }

    fn versions(
        &self,
        space: Space,
        session: &str,
        after: u64,
        most: usize,
    ) -> Result<Vec<Version>> {
        let (after, most) = (signed(after)?, i64::try_from(most).unwrap_or(i64::MAX));
        self.0.run(|transaction| {
            let (space, session) = (space.0.to_vec(), session.to_owned());
            Box::pin(async move {
                let sql = "SELECT v.version, v.cursor, v.put, v.capsule, v.states, c.expires
                           FROM kvcap_session_version v JOIN kvcap_capsule c ON c.space = v.space AND c.id = v.capsule
                           WHERE v.space = $1 AND v.session = $2 AND v.version > $3 ORDER BY v.version LIMIT $4";
                let rows = query(transaction, sql, &[&space, &session, &after, &most]).await?;
                Ok(rows.iter().map(read).collect::<Result<_>>()?)
            })
        })
    }

    fn newest_versions(
        &self,
        space: Space,
        after: &str,
        most: usize,
    ) -> Result<Vec<(String, Version)>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.0.run(|transaction| {
            let (space, after) = (space.0.to_vec(), after.to_owned());
            Box::pin(async move {
                let sql = "SELECT v.version, v.cursor, v.put, v.capsule, v.states, c.expires, s.session
                           FROM kvcap_session s
                           CROSS JOIN LATERAL (
                               SELECT * FROM kvcap_session_version v WHERE v.space = s.space AND v.session = s.session
                               ORDER BY v.version DESC LIMIT 1
                           ) v JOIN kvcap_capsule c ON c.space = v.space AND c.id = v.capsule
                           WHERE s.space = $1 AND s.session > $2 ORDER BY s.session LIMIT $3";
                let rows = query(transaction, sql, &[&space, &after, &most]).await?;
                let newest = rows.iter().map(|row| Ok((row.get(6), read(row)?)));
                Ok(newest.collect::<Result<_>>()?)
            })
        })
    }

    fn forget_versions(&self, space: Space, session: &str) -> Result<Option<Vec<CapsuleId>>> {
        self.0.run(|transaction| {
            let (space, session) = (space.0.to_vec(), session.to_owned());
            Box::pin(async move {
                let sql = "DELETE FROM kvcap_session_version WHERE space = $1 AND session = $2
                           RETURNING version, cursor, put, capsule, states, 0::bigint";
                let rows = query(transaction, sql, &[&space, &session]).await?;
                let sql = "DELETE FROM kvcap_session WHERE space = $1 AND session = $2";
                execute(transaction, sql, &[&space, &session]).await?;
                if rows.is_empty() {
                    return Ok(None);
                }
                let mut own: Vec<Vec<u8>> = Vec::new();
                for row in &rows {
                    own.extend(read(row)?.capsules().map(|id| id.0.to_vec()));
                }
                let sql = "SELECT id FROM unnest($2::bytea[]) AS own (id) EXCEPT
                           SELECT capsule FROM kvcap_session_version WHERE space = $1 EXCEPT
                           SELECT unnest(states) FROM kvcap_session_version WHERE space = $1";
                let rows = query(transaction, sql, &[&space, &own]).await?;
                let ids = rows
                    .iter()
                    .map(|row| catalog::id(row.get(0)).ok_or_else(damaged));
                Ok(Some(ids.collect::<Result<_>>()?))
            })
        })
    }
}

/// Sealed versions that are in the bucket, by their headers.
#[derive(Default)]
pub(super) struct Found(BTreeMap<(Space, String), BTreeMap<u64, Vec<Version>>>);

impl Found {
    pub(super) fn note(&mut self, (space, capsule): Name, untrusted: &Untrusted) -> Result<()> {
        let terms = &untrusted.claims().terms;
        let Some(of) = &terms.session else {
            return Ok(());
        };
        if is_sealed_version(&untrusted.outline()?) {
            let versions = self.0.entry((space, of.id.clone())).or_default();
            let versions = versions.entry(of.version).or_default();
            // a renewal beside the one whose place it has taken
            if versions.iter().all(|there| there.capsule != capsule) {
                versions.push(Version {
                    version: of.version,
                    cursor: of.replay_cursor,
                    at: terms.issued_at,
                    capsule,
                    expires: terms.expires,
                    states: Vec::new(),
                });
            }
        }
        Ok(())
    }

    /// Puts each session's versions in order again, where it has no order. Two of one number, of which one device had lost,
    /// end it: who has what follows puts it again.
    pub(super) fn put(self, order: &SharedOrder) -> Result<()> {
        for ((space, session), versions) in self.0 {
            if !order.versions(space, &session, 0, 1)?.is_empty() {
                continue;
            }
            let mut after = 0;
            for (number, versions) in versions {
                let [version] = &versions[..] else {
                    break;
                };
                match order.put_version(space, &session, version, after) {
                    Ok(VersionPut::New) => after = number,
                    Err(error) if error.code() == Code::LocalIo => return Err(error),
                    _ => break,
                }
            }
        }
        Ok(())
    }
}

/// Puts a version, alone among those of its session.
async fn put(
    transaction: &Transaction<'_>,
    space: Space,
    session: &str,
    version: &Version,
    after: u64,
) -> Answer<VersionPut> {
    let space = space.0.to_vec();
    let sql = "INSERT INTO kvcap_session AS s VALUES ($1, $2)
               ON CONFLICT (space, session) DO UPDATE SET session = s.session";
    execute(transaction, sql, &[&space, &session]).await?;
    let sql = "SELECT capsule FROM kvcap_session_version WHERE space = $1 AND session = $2 AND version = $3";
    let number = signed(version.version)?;
    let there = query_opt(transaction, sql, &[&space, &session, &number]).await?;
    let there = there.map(|row| catalog::id(row.get(0)).ok_or_else(damaged));
    let sql = "SELECT count(*), max(version), max(cursor) FROM kvcap_session_version WHERE space = $1 AND session = $2";
    let kept = query_opt(transaction, sql, &[&space, &session]).await?;
    let kept = kept.ok_or_else(damaged)?;
    let unsigned = |at: usize| kept.get::<_, Option<i64>>(at).map(u64::try_from);
    let newest = match (unsigned(1), unsigned(2)) {
        (Some(Ok(version)), Some(Ok(cursor))) => Some((version, cursor)),
        (None, None) => None,
        _ => return Err(damaged().into()),
    };
    let count = usize::try_from(kept.get::<_, i64>(0)).unwrap_or(usize::MAX);
    let put = judge(there.transpose()?, newest, count, version, after);
    let put = match put {
        Ok(VersionPut::New) => insert(transaction, &space, session, version).await?,
        put => put?,
    };
    if newest.is_none() && put != VersionPut::New {
        // nothing was begun
        let sql = "DELETE FROM kvcap_session WHERE space = $1 AND session = $2";
        execute(transaction, sql, &[&space, &session]).await?;
    }
    Ok(put)
}

async fn insert(
    transaction: &Transaction<'_>,
    space: &Vec<u8>,
    session: &str,
    version: &Version,
) -> Answer<VersionPut> {
    let mut ids: Vec<Vec<u8>> = version.capsules().map(|id| id.0.to_vec()).collect();
    ids.sort();
    ids.dedup();
    // whoever removes one of them waits until the version is there, and takes it along
    let sql =
        "SELECT id FROM kvcap_capsule WHERE space = $1 AND id = ANY($2) ORDER BY id FOR SHARE";
    let kept = query(transaction, sql, &[space, &ids]).await?;
    if kept.len() < ids.len() {
        return Ok(VersionPut::Missing);
    }
    let (number, cursor, at) = (
        signed(version.version)?,
        signed(version.cursor)?,
        signed(version.at)?,
    );
    let capsule = version.capsule.0.to_vec();
    let states: Vec<Vec<u8>> = version.states.iter().map(|id| id.0.to_vec()).collect();
    let sql = "INSERT INTO kvcap_session_version VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let row: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [space, &session, &number, &cursor, &at, &capsule, &states];
    execute(transaction, sql, &row).await?;
    Ok(VersionPut::New)
}

/// Lets versions go whose capsule has gone, and those after them.
pub(super) async fn cut(transaction: &Transaction<'_>, name: Name) -> Answer<()> {
    let (space, id) = catalog::keys(name);
    let sql = "DELETE FROM kvcap_session_version v USING kvcap_session_version gone
               WHERE gone.space = $1 AND gone.capsule = $2 AND v.space = gone.space AND v.session = gone.session
                   AND v.version >= gone.version
               RETURNING v.session";
    let rows = query(transaction, sql, &[&space, &id]).await?;
    let sessions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if sessions.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM kvcap_session s WHERE s.space = $1 AND s.session = ANY($2) AND NOT EXISTS (
                   SELECT 1 FROM kvcap_session_version v WHERE v.space = s.space AND v.session = s.session)";
    execute(transaction, sql, &[&space, &sessions]).await?;
    Ok(())
}

fn read(row: &Row) -> Result<Version> {
    let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).map_err(|_| damaged());
    let states: Vec<Vec<u8>> = row.get(4);
    let states = states
        .into_iter()
        .map(|id| catalog::id(id).ok_or_else(damaged));
    Ok(Version {
        version: number(0)?,
        cursor: number(1)?,
        at: number(2)?,
        capsule: catalog::id(row.get(3)).ok_or_else(damaged)?,
        expires: number(5)?,
        states: states.collect::<Result<_>>()?,
    })
}

fn damaged() -> Error {
    let error = std::io::Error::other("a row is damaged");
    Error::source(&error, "the shared database")
}
