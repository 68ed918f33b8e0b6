//! Rows of capsules, leases, tenants and garbage: each function is one step of a transaction.

use deadpool_postgres::Transaction;
use kvcap::{CapsuleId, Code, Error, Result, binding::Digest};
use tokio_postgres::{Row, types::ToSql};

use super::database::{Failed, execute, query_opt};
use crate::{Coming, Entry, Name, Tag};

type Answer<T> = std::result::Result<T, Failed>;

/// Seconds that a lease lasts without a sign of life.
const LEASE: i32 = 60;

/// A lease on a name. Its object's key is its own, so that it tells this lease from any other.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) name: Name,
    pub(super) object: String,
}

/// What came of asking for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leased {
    New,
    Kept,
    Full,
}

/// A capsule that is about to come, with what it borrows.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) tag: Tag,
    pub(super) lineage: Digest,
    pub(super) expires: u64,
    pub(super) tenant: Option<String>,
    pub(super) bytes: u64,
}

impl Wanted {
    pub(super) fn of(coming: Coming<'_>) -> Self {
        Self {
            tag: coming.tag,
            lineage: coming.lineage,
            expires: coming.expires,
            tenant: coming.tenant.map(ToOwned::to_owned),
            bytes: coming.bytes,
        }
    }

    fn coming(&self) -> Coming<'_> {
        Coming {
            tag: self.tag,
            lineage: self.lineage,
            expires: self.expires,
            tenant: self.tenant.as_deref(),
            bytes: self.bytes,
        }
    }
}

/// Asks for a lease. The row of the lease comes first: who has it sees all that was kept before.
pub(super) async fn lease(
    transaction: &Transaction<'_>,
    lease: &Lease,
    wanted: &Wanted,
    quota: u64,
) -> Answer<Leased> {
    let (space, id) = keys(lease.name);
    release_lost(transaction, lease.name).await?;
    let sql =
        "INSERT INTO kvcap_claim VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
               ON CONFLICT (space, id) DO NOTHING";
    let (tenant, bytes) = (tenant_key(wanted.tenant.as_deref()), signed(wanted.bytes)?);
    let seconds = f64::from(LEASE);
    let new = execute(
        transaction,
        sql,
        &[&space, &id, &lease.object, &tenant, &bytes, &seconds],
    )
    .await?;
    if let Some(kept) = entry(transaction, lease.name).await? {
        if kept.tag == wanted.tag {
            return Ok(Leased::Kept);
        }
        if !wanted.coming().renews(&kept) {
            return Err(another().into());
        }
    }
    if new == 0 {
        return Err(Error::new(Code::LocalBusy, "the capsule is being uploaded").into());
    }
    let quota = i64::try_from(quota).unwrap_or(i64::MAX);
    let sql = "INSERT INTO kvcap_tenant AS t (tenant, coming) VALUES ($1, $2)
               ON CONFLICT (tenant) DO UPDATE SET coming = t.coming + $2 WHERE t.kept + t.coming + $2 <= $3";
    let room = bytes <= quota && execute(transaction, sql, &[&tenant, &bytes, &quota]).await? == 1;
    Ok(if room { Leased::New } else { Leased::Full })
}

/// Lets a lease on a name go that was not renewed in time.
pub(super) async fn release_lost(transaction: &Transaction<'_>, name: Name) -> Answer<()> {
    let (space, id) = keys(name);
    let sql =
        "SELECT object FROM kvcap_claim WHERE space = $1 AND id = $2 AND until < now() FOR UPDATE";
    match query_opt(transaction, sql, &[&space, &id]).await? {
        None => Ok(()),
        Some(row) => {
            let object = row.get(0);
            release(transaction, &Lease { name, object })
                .await
                .map(drop)
        }
    }
}

/// Lets a lease go, and calls its object garbage; false where it was let go before.
pub(super) async fn release(transaction: &Transaction<'_>, lease: &Lease) -> Answer<bool> {
    let (space, id) = keys(lease.name);
    let sql = "DELETE FROM kvcap_claim WHERE space = $1 AND id = $2 AND object = $3 RETURNING tenant, bytes";
    let Some(row) = query_opt(transaction, sql, &[&space, &id, &lease.object]).await? else {
        return Ok(false);
    };
    let (tenant, bytes): (Vec<u8>, i64) = (row.get(0), row.get(1));
    let sql = "UPDATE kvcap_tenant SET coming = coming - $2 WHERE tenant = $1";
    execute(transaction, sql, &[&tenant, &bytes]).await?;
    discard(transaction, &lease.object).await?;
    Ok(true)
}

/// Renews a lease; false where it was lost.
pub(super) async fn renew(transaction: &Transaction<'_>, lease: &Lease) -> Answer<bool> {
    let (space, id) = keys(lease.name);
    let sql = "UPDATE kvcap_claim SET until = now() + make_interval(secs => $4)
               WHERE space = $1 AND id = $2 AND object = $3";
    let seconds = f64::from(LEASE);
    let parameters: [&(dyn ToSql + Sync); 4] = [&space, &id, &lease.object, &seconds];
    Ok(execute(transaction, sql, &parameters).await? == 1)
}

/// Ends a lease in a row.
pub(super) async fn keep(
    transaction: &Transaction<'_>,
    lease: &Lease,
    entry: &Entry,
) -> Answer<()> {
    let (space, id) = keys(lease.name);
    let sql = "DELETE FROM kvcap_claim WHERE space = $1 AND id = $2 AND object = $3 RETURNING tenant, bytes";
    let Some(row) = query_opt(transaction, sql, &[&space, &id, &lease.object]).await? else {
        return Err(lost().into());
    };
    let (tenant, claimed): (Vec<u8>, i64) = (row.get(0), row.get(1));
    let sql = "UPDATE kvcap_tenant SET coming = coming - $2 WHERE tenant = $1";
    execute(transaction, sql, &[&tenant, &claimed]).await?;
    if let Some(kept) = self::entry(transaction, lease.name).await? {
        let renews = kept.lineage == entry.lineage && kept.expires < entry.expires;
        if !renews {
            return Err(another().into());
        }
        take(transaction, lease.name).await?;
    }
    insert(transaction, lease, entry).await?;
    Ok(())
}

/// Makes a row; false where there is one.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    lease: &Lease,
    entry: &Entry,
) -> Answer<bool> {
    let (space, id) = keys(lease.name);
    let tenant = tenant_key(entry.tenant.as_deref());
    let (bytes, expires) = (signed(entry.bytes)?, signed(entry.expires)?);
    let (tag, lineage) = (&entry.tag.0[..], &entry.lineage.0[..]);
    let parent = entry.parent.map(|parent| parent.0.to_vec());
    let sql = "INSERT INTO kvcap_capsule VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL) ON CONFLICT DO NOTHING";
    let new = execute(
        transaction,
        sql,
        &[
            &space,
            &id,
            &lease.object,
            &tag,
            &bytes,
            &expires,
            &tenant,
            &lineage,
            &parent,
        ],
    )
    .await?;
    if new == 0 {
        return Ok(false);
    }
    let sql = "INSERT INTO kvcap_tenant AS t (tenant, capsules, kept) VALUES ($1, 1, $2)
               ON CONFLICT (tenant) DO UPDATE SET capsules = t.capsules + 1, kept = t.kept + $2";
    execute(transaction, sql, &[&tenant, &bytes]).await?;
    Ok(true)
}

/// Takes a capsule out, and calls its object garbage. Returns the object's key, if it was kept.
pub(super) async fn take(transaction: &Transaction<'_>, name: Name) -> Answer<Option<String>> {
    let (space, id) = keys(name);
    let sql =
        "DELETE FROM kvcap_capsule WHERE space = $1 AND id = $2 RETURNING object, tenant, bytes";
    let Some(row) = query_opt(transaction, sql, &[&space, &id]).await? else {
        return Ok(None);
    };
    let (object, tenant, bytes): (String, Vec<u8>, i64) = (row.get(0), row.get(1), row.get(2));
    let sql = "UPDATE kvcap_tenant SET capsules = capsules - 1, kept = kept - $2 WHERE tenant = $1";
    execute(transaction, sql, &[&tenant, &bytes]).await?;
    discard(transaction, &object).await?;
    Ok(Some(object))
}

/// Notes that nothing names an object any more.
async fn discard(transaction: &Transaction<'_>, object: &str) -> Answer<()> {
    let sql = "INSERT INTO kvcap_garbage (object) VALUES ($1) ON CONFLICT DO NOTHING";
    execute(transaction, sql, &[&object]).await?;
    Ok(())
}

/// What is known of a capsule that is kept.
pub(super) async fn entry(transaction: &Transaction<'_>, name: Name) -> Answer<Option<Entry>> {
    Ok(found(transaction, name).await?.map(|(entry, _)| entry))
}

/// What is known of a capsule that is kept, and its object's key.
pub(super) async fn found(
    transaction: &Transaction<'_>,
    name: Name,
) -> Answer<Option<(Entry, String)>> {
    let (space, id) = keys(name);
    let sql =
        "SELECT tag, bytes, expires, tenant, lineage, parent, sha256, object FROM kvcap_capsule
               WHERE space = $1 AND id = $2";
    let row = query_opt(transaction, sql, &[&space, &id]).await?;
    Ok(match row {
        None => None,
        Some(row) => Some((read(&row)?, row.get(7))),
    })
}

fn read(row: &Row) -> Result<Entry> {
    let damaged = || {
        Error::source(
            &std::io::Error::other("a row is damaged"),
            "the shared database",
        )
    };
    let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).map_err(|_| damaged());
    let tenant: Vec<u8> = row.get(3);
    let tenant = match tenant.split_first() {
        Some((0, [])) => None,
        Some((1, name)) => Some(String::from_utf8(name.to_vec()).map_err(|_| damaged())?),
        _ => return Err(damaged()),
    };
    let digest = |at: usize| fixed::<32>(row.get(at)).map(Digest).ok_or_else(damaged);
    let optional = |at: usize| row.get::<_, Option<Vec<u8>>>(at);
    Ok(Entry {
        tag: Tag(fixed(row.get(0)).ok_or_else(damaged)?),
        bytes: number(1)?,
        expires: number(2)?,
        tenant,
        lineage: digest(4)?,
        parent: optional(5).and_then(fixed).map(Digest),
        sha256: optional(6).and_then(fixed),
    })
}

/// A name in the columns `space` and `id`.
pub(super) fn keys((space, id): Name) -> (Vec<u8>, Vec<u8>) {
    (space.0.to_vec(), id.0.to_vec())
}

/// The name that two columns have.
pub(super) fn name(row: &Row) -> Option<Name> {
    let (space, id) = (fixed(row.get(0))?, fixed(row.get(1))?);
    Some((crate::Space(space), CapsuleId(id)))
}

/// The id that a column has.
pub(super) fn id(bytes: Vec<u8>) -> Option<CapsuleId> {
    fixed(bytes).map(CapsuleId)
}

fn fixed<const N: usize>(bytes: Vec<u8>) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn tenant_key(tenant: Option<&str>) -> Vec<u8> {
    match tenant {
        None => vec![0],
        Some(name) => [&[1], name.as_bytes()].concat(),
    }
}

/// A number as the database has it.
pub(super) fn signed(number: u64) -> Result<i64> {
    let too_large = |_| {
        Error::new(
            Code::ResourceBudget,
            "a number is larger than the database holds",
        )
    };
    i64::try_from(number).map_err(too_large)
}

/// A lease is held no more.
pub(super) fn lost() -> Error {
    let what = "the upload was not heard of for too long, and its place was given away";
    Error::new(Code::LocalBusy, what)
}

fn another() -> Error {
    Error::new(Code::LocalExists, "another capsule of this id is kept")
}
