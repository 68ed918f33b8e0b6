//! A pool of connections to PostgreSQL, and transactions that are tried again where that is safe.

use std::{future::Future, pin::Pin, time::Duration};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Transaction,
};
use kvcap::{Code, Error, Result};
use tokio_postgres::{Config, NoTls, Row, config::SslMode, error::SqlState, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::blocking::Blocking;

/// Connections at most.
const CONNECTIONS: usize = 16;

/// Time for a connection: to be made, or to become free.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest silence of the other side. The database ends a transaction in whose middle nothing comes, so that the rows which
/// a server had in hand that died or was cut off are free for the others: a tenant's row is in hand at each upload. A
/// connection on which the database does not even acknowledge is given up, so that nobody waits for an answer for hours.
const SILENCE: Duration = Duration::from_secs(10);

/// Times that a transaction is tried.
const TRIES: u32 = 5;

/// The tables as they are made, one step a version: each adds, so that servers of the version before go on beside it.
const MIGRATIONS: &[&str] = &[
    include_str!("tables.sql"),
    include_str!("edge.sql"),
    include_str!("versions.sql"),
];

/// Number under which servers that begin at once wait for each other ("kvcap" in ASCII).
const MIGRATING: i64 = 0x6b_76_63_61_70;

/// A database.
pub(super) struct Database {
    pool: Pool,
    pub(super) blocking: Blocking,
}

/// Why a step of a transaction ended it.
#[derive(Debug)]
pub(super) enum Failed {
    /// The database said so, or could not be reached.
    Database(tokio_postgres::Error),
    /// A rule of the caller's said so.
    Rule(Error),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Rule(error)
    }
}

/// A step of a transaction.
pub(super) type Step<'a, T> =
    Pin<Box<dyn Future<Output = std::result::Result<T, Failed>> + Send + 'a>>;

impl Database {
    pub(super) fn connect(address: &str, blocking: Blocking) -> Result<Self> {
        // what is wrong in it may be its password
        let mut config: Config = address
            .parse()
            .map_err(|_| Error::new(Code::LocalConfig, "the address of the database is none"))?;
        // an address may say otherwise
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        config.keepalives_idle(SILENCE.min(config.get_keepalives_idle()));
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match config.get_ssl_mode() {
            SslMode::Disable => Manager::from_config(config, NoTls, recycling),
            _ => Manager::from_config(config, tls()?, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .post_create(Hook::async_fn(|connection, _| {
                Box::pin(async move {
                    let silence = SILENCE.as_millis();
                    let sql = format!("SET idle_in_transaction_session_timeout = {silence}");
                    let set = connection.batch_execute(&sql).await;
                    set.map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|error| failed(&error))?;
        let database = Self { pool, blocking };
        database.migrate()?;
        Ok(database)
    }

    fn migrate(&self) -> Result<()> {
        self.run(|transaction| {
            Box::pin(async move {
                // one server at a time; let go at the end of the transaction
                transaction
                    .execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATING])
                    .await?;
                transaction
                    .batch_execute(
                        "CREATE TABLE IF NOT EXISTS kvcap_version (version integer NOT NULL)",
                    )
                    .await?;
                let row = transaction
                    .query_one("SELECT coalesce(max(version), 0) FROM kvcap_version", &[])
                    .await?;
                let version: i32 = row.get(0);
                let done = usize::try_from(version).unwrap_or(usize::MAX);
                if done > MIGRATIONS.len() {
                    let what = "the database was made for a later version of this program";
                    return Err(Error::new(Code::LocalConfig, what).into());
                }
                for (number, step) in (1_i32..).zip(MIGRATIONS).skip(done) {
                    transaction.batch_execute(step).await?;
                    transaction
                        .execute("INSERT INTO kvcap_version VALUES ($1)", &[&number])
                        .await?;
                }
                Ok(())
            })
        })
    }

    /// The key by which relays know what they have brought to an edge.
    pub(super) fn edge_key(&self) -> Result<[u8; 32]> {
        let found = self.run(|transaction| {
            Box::pin(async move {
                let row = query_opt(transaction, "SELECT key FROM kvcap_edge", &[]).await?;
                Ok(row.map(|row| row.get::<_, Vec<u8>>(0)))
            })
        })?;
        let lost = || failed(&std::io::Error::other("the edge's key is lost"));
        found.and_then(|key| key.try_into().ok()).ok_or_else(lost)
    }

    /// A connection.
    pub(super) async fn connection(&self) -> Result<Object> {
        self.pool.get().await.map_err(|error| failed(&error))
    }

    /// Runs `step` in a transaction, from a thread that may wait.
    pub(super) fn run<T>(
        &self,
        step: impl for<'a> Fn(&'a Transaction<'a>) -> Step<'a, T>,
    ) -> Result<T> {
        self.blocking.wait(self.transact(step))
    }

    /// Runs `step` in a transaction; again where the database ended it, or the connection broke, before anything could
    /// have been kept of it.
    ///
    /// # Errors
    /// Those of a rule; KVC-940, after which the transaction may have been kept or not.
    pub(super) async fn transact<T>(
        &self,
        step: impl for<'a> Fn(&'a Transaction<'a>) -> Step<'a, T>,
    ) -> Result<T> {
        let mut tried = 0;
        loop {
            tried += 1;
            let mut connection = self.connection().await?;
            let error = match connection.transaction().await {
                Err(error) => error,
                Ok(transaction) => match step(&transaction).await {
                    Err(Failed::Rule(error)) => return Err(error),
                    Err(Failed::Database(error)) => error,
                    Ok(value) => match transaction.commit().await {
                        Ok(()) => return Ok(value),
                        // the database says that it has kept nothing; all else may have been kept
                        Err(error) if is_collision(&error) => error,
                        Err(error) => return Err(failed(&error)),
                    },
                },
            };
            if tried == TRIES || !(is_collision(&error) || error.is_closed() || is_ending(&error)) {
                return Err(failed(&error));
            }
            tokio::time::sleep(Duration::from_millis(5 << tried)).await;
        }
    }
}

/// Parameters of a statement.
type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

type Said<T> = std::result::Result<T, tokio_postgres::Error>;

// statements are prepared once in the life of a connection

pub(super) async fn execute(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: Parameters<'_>,
) -> Said<u64> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, parameters).await
}

pub(super) async fn query(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: Parameters<'_>,
) -> Said<Vec<Row>> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction.query(&statement, parameters).await
}

pub(super) async fn query_opt(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: Parameters<'_>,
) -> Said<Option<Row>> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction.query_opt(&statement, parameters).await
}

fn tls() -> Result<MakeRustlsConnect> {
    let no_roots = |_| {
        Error::new(
            Code::LocalConfig,
            "no certificates of authorities are installed",
        )
    };
    super::tls::use_ring();
    Ok(MakeRustlsConnect::with_native_certs().map_err(no_roots)?.0)
}

/// Another transaction was in the way.
fn is_collision(error: &tokio_postgres::Error) -> bool {
    let code = error.code();
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ]
    .iter()
    .any(|known| code == Some(known))
}

/// The server ends, or has just begun.
fn is_ending(error: &tokio_postgres::Error) -> bool {
    let code = error.code();
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .iter()
    .any(|known| code == Some(known))
}

/// Says that the database failed. Its own words may hold values of a row, and are left out but for their kind.
pub(super) fn failed(error: &(dyn std::error::Error + 'static)) -> Error {
    let own = error.downcast_ref::<tokio_postgres::Error>();
    let said = match own.and_then(|error| error.as_db_error()) {
        Some(said) => format!("{} {}", said.code().code(), said.message()),
        None => error.to_string(),
    };
    Error::source(&std::io::Error::other(said), "the shared database")
}

#[cfg(test)]
mod tests {
    use kvcap::binding::Digest;

    use super::MIGRATIONS;

    /// A database that an earlier version has made took them as they were: what changes is a step more, and a line here.
    #[test]
    fn steps_that_databases_have_taken_stay_as_they_are() {
        let digest = |step: &&str| Digest::labelled("a step", &[step.as_bytes()]).to_string();
        let digests: Vec<String> = MIGRATIONS.iter().map(digest).collect();
        assert_eq!(
            digests,
            [
                "50dbb39a4e651f5029e0bf46cfb5e83716c8b2abc2936636ef18435fb64b026f",
                "8aa7e99624a29e4765df0aa8de5941b24081cfa2c35a955f19f1a890ba31a39c",
                "f464c59a578b811f05caba6f29c732584daa63aa7161952f9a5dacf5d892d74b",
            ]
        );
    }
}
