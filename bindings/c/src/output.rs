//! Outputs of a caller's: files, memory that says how much it lacks, functions.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use kvcap::{Code, Error, WriteAt};
use kvcap_states::Buffer;

use crate::{
    given::{Writer, kvcap_output, room, some_text},
    status::Failed,
};

/// Where bytes go.
pub(crate) enum Place<'a> {
    File(PathBuf, bool),
    Memory(Room<'a>),
    Function(Writer),
}

impl Place<'_> {
    pub(crate) fn of(output: Option<&kvcap_output>) -> Result<Self, Failed> {
        let nowhere = || Self::Memory(Room::new(&mut []));
        let Some(output) = output else {
            return Ok(nowhere());
        };
        if let Some(path) = some_text(output.path, "path")? {
            return Ok(Self::File(path.into(), output.replace));
        }
        if !output.data.is_null() {
            let room = Room::new(room(output.data, output.capacity)?);
            return Ok(Self::Memory(room));
        }
        Ok(Writer::of(output).map_or_else(nowhere, Self::Function))
    }
}

/// Memory of the caller's, which may be too short: then bytes are counted alone.
pub(crate) struct Room<'a> {
    capacity: u64,
    needed: AtomicU64,
    memory: Buffer<'a>,
}

impl<'a> Room<'a> {
    fn new(memory: &'a mut [u8]) -> Self {
        Self {
            capacity: u64::try_from(memory.len()).unwrap_or(u64::MAX),
            needed: AtomicU64::new(0),
            memory: Buffer::new(memory),
        }
    }

    /// Notes that bytes go to `offset`, and says whether there is room for them.
    fn has(&self, offset: u64, length: usize) -> bool {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let end = offset.saturating_add(length);
        self.needed.fetch_max(end, Ordering::Relaxed);
        end <= self.capacity
    }

    /// Refuses memory that was too short. No memory at all is a question for the length.
    pub(crate) fn check(&self) -> kvcap::Result<()> {
        let needed = self.needed.load(Ordering::Relaxed);
        if self.capacity == 0 || needed <= self.capacity {
            return Ok(());
        }
        let error = Error::new(Code::LocalUsage, "the memory for the output is too short");
        Err(error.sides(needed, self.capacity))
    }
}

impl WriteAt for Room<'_> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        match self.has(offset, buf.len()) {
            true => self.memory.write_all_at(offset, buf),
            false => Ok(()),
        }
    }

    fn lend(&self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8], bool)) -> bool {
        self.has(offset, len) && self.memory.lend(offset, len, fill)
    }
}
