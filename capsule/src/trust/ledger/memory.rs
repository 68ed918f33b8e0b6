//! Where a ledger keeps its bytes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::error::Result;

/// A table of a [`Memory`]. Numbers in keys and values are big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemoryTable {
    /// No key, to the latest time seen (8 bytes).
    Clock,
    /// Root's key id (16 bytes) to version (8) and digest (32).
    Registries,
    /// Name of a use (32 bytes) to when it may be forgotten (8).
    Used,
    /// Time (8 bytes) and name (32), to nothing: entries to be forgotten, by time.
    Forget,
    /// Name of a session (32 bytes) to its highest number (8).
    Sessions,
    /// No key, to the latest time (8 bytes) of those in [`Self::Forget`] that have been forgotten.
    Forgotten,
    /// Id of the root that a registry began with (16 bytes) to version (8) and digest (32) of its statement about roots.
    Roots,
}

/// Bytes that outlive the process. Knows no rule: a [`super::Ledger`] has them all.
pub trait Memory: Send + Sync {
    /// Runs `step` once, alone among all threads and processes that share the memory. Where it returns
    /// `Ok`, what it changed is durable before this returns; where not, nothing has changed.
    ///
    /// # Errors
    /// That of `step`; KVC-940.
    fn transaction(&self, step: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()>;
}

/// The tables within one transaction, which sees its own changes. Every method: KVC-940.
pub trait Transaction {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// KVC-940.
    fn get(&self, table: MemoryTable, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Returns the least key of a table, by its bytes.
    ///
    /// # Errors
    /// KVC-940.
    fn first(&self, table: MemoryTable) -> Result<Option<Vec<u8>>>;

    /// Returns all keys of [`MemoryTable::Registries`]: a handful.
    ///
    /// # Errors
    /// KVC-940.
    fn registries(&self) -> Result<Vec<Vec<u8>>>;

    /// Sets the value of a key.
    ///
    /// # Errors
    /// KVC-940.
    fn put(&mut self, table: MemoryTable, key: &[u8], value: &[u8]) -> Result<()>;

    /// Removes a key, if it is there.
    ///
    /// # Errors
    /// KVC-940.
    fn remove(&mut self, table: MemoryTable, key: &[u8]) -> Result<()>;
}

type Rows = BTreeMap<(MemoryTable, Vec<u8>), Vec<u8>>;

/// A memory that ends with the process: for tests, and for who needs no protection beyond it.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<Rows>);

impl Memory for InMemory {
    fn transaction(&self, step: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = rows.clone();
        step(&mut changed)?;
        *rows = changed;
        Ok(())
    }
}

impl Transaction for Rows {
    fn get(&self, table: MemoryTable, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(BTreeMap::get(self, &(table, key.to_vec())).cloned())
    }

    fn first(&self, table: MemoryTable) -> Result<Option<Vec<u8>>> {
        let mut rows = self.range((table, Vec::new())..);
        let first = rows.next().filter(|row| row.0.0 == table);
        Ok(first.map(|row| row.0.1.clone()))
    }

    fn registries(&self) -> Result<Vec<Vec<u8>>> {
        let rows = self.keys().filter(|row| row.0 == MemoryTable::Registries);
        Ok(rows.map(|row| row.1.clone()).collect())
    }

    fn put(&mut self, table: MemoryTable, key: &[u8], value: &[u8]) -> Result<()> {
        self.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, table: MemoryTable, key: &[u8]) -> Result<()> {
        BTreeMap::remove(self, &(table, key.to_vec()));
        Ok(())
    }
}
