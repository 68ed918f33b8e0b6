//! A [`Memory`] that verifiers of many machines share: one transaction at a time, by a lock of the database's.

use std::sync::Arc;

use kvcap::{Memory, MemoryTable, Result, Transaction};

use tokio_postgres::types::ToSql;

use super::database::{Database, execute, failed, query, query_opt};

/// Number of the lock ("kvmem" in ASCII).
const REMEMBERING: i64 = 0x6b_76_6d_65_6d;

pub(super) struct SharedMemory(pub(super) Arc<Database>);

impl Memory for SharedMemory {
    fn transaction(&self, step: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let blocking = &self.0.blocking;
        let mut connection = blocking.wait(self.0.connection())?;
        let ours = |error: tokio_postgres::Error| failed(&error);
        let transaction = blocking.wait(connection.transaction()).map_err(ours)?;
        let lock = transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&REMEMBERING]);
        blocking.wait(lock).map_err(ours)?;
        let mut tables = Tables {
            transaction,
            database: &self.0,
        };
        // dropped without a commit, nothing has changed
        step(&mut tables)?;
        blocking.wait(tables.transaction.commit()).map_err(ours)
    }
}

struct Tables<'a> {
    transaction: deadpool_postgres::Transaction<'a>,
    database: &'a Database,
}

impl Tables<'_> {
    fn keys(&self, sql: &str, table: MemoryTable) -> Result<Vec<Vec<u8>>> {
        let number = number(table);
        let rows = self
            .database
            .blocking
            .wait(query(&self.transaction, sql, &[&number]));
        Ok(rows
            .map_err(|error| failed(&error))?
            .iter()
            .map(|row| row.get(0))
            .collect())
    }
}

impl Transaction for Tables<'_> {
    fn get(&self, table: MemoryTable, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let number = number(table);
        let sql = "SELECT value FROM kvcap_memory WHERE kind = $1 AND key = $2";
        let parameters: [&(dyn ToSql + Sync); 2] = [&number, &key];
        let row = self
            .database
            .blocking
            .wait(query_opt(&self.transaction, sql, &parameters));
        Ok(row.map_err(|error| failed(&error))?.map(|row| row.get(0)))
    }

    fn first(&self, table: MemoryTable) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT key FROM kvcap_memory WHERE kind = $1 ORDER BY key LIMIT 1";
        Ok(self.keys(sql, table)?.pop())
    }

    fn registries(&self) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT key FROM kvcap_memory WHERE kind = $1 ORDER BY key";
        self.keys(sql, MemoryTable::Registries)
    }

    fn put(&mut self, table: MemoryTable, key: &[u8], value: &[u8]) -> Result<()> {
        let sql = "INSERT INTO kvcap_memory VALUES ($1, $2, $3) ON CONFLICT (kind, key) DO UPDATE SET value = $3";
        let number = number(table);
        let parameters: [&(dyn ToSql + Sync); 3] = [&number, &key, &value];
        let done = execute(&self.transaction, sql, &parameters);
        self.database
            .blocking
            .wait(done)
            .map(drop)
            .map_err(|error| failed(&error))
    }

    fn remove(&mut self, table: MemoryTable, key: &[u8]) -> Result<()> {
        let number = number(table);
        let sql = "DELETE FROM kvcap_memory WHERE kind = $1 AND key = $2";
        let parameters: [&(dyn ToSql + Sync); 2] = [&number, &key];
        let done = execute(&self.transaction, sql, &parameters);
        self.database
            .blocking
            .wait(done)
            .map(drop)
            .map_err(|error| failed(&error))
    }
}

/// A table's number in the database.
fn number(table: MemoryTable) -> i16 {
    match table {
        MemoryTable::Clock => 1,
        MemoryTable::Registries => 2,
        MemoryTable::Used => 3,
        MemoryTable::Forget => 4,
        MemoryTable::Sessions => 5,
        MemoryTable::Forgotten => 6,
        MemoryTable::Roots => 7,
    }
}
