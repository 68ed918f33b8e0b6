//! Memory for banks, in huge pages where the system has them.

use std::{fmt, ops};

use kvcap::{Error, Result};
use memmap2::MmapMut;

/// Zeroed memory of its own pages. Fresh pages of the usual 4 KiB cost more than what is decoded into
/// them; Linux is asked for huge ones. Only memory: no file is mapped.
pub struct Arena(MmapMut);

impl Arena {
    /// `len` bytes.
    ///
    /// # Errors
    /// KVC-940 where the system has not so much.
    pub fn new(len: usize) -> Result<Self> {
        let map = MmapMut::map_anon(len).map_err(|error| Error::io(&error, "memory"))?;
        #[cfg(target_os = "linux")]
        {
            // a hint: a system without huge pages gives others
            let _taken = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self(map))
    }
}

impl ops::Deref for Arena {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl ops::DerefMut for Arena {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} bytes)", self.len())
    }
}
