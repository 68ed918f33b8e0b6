//! A state file without the rows of its banks: what an adapter parses, before rows are written.

use std::io;

use kvcap::{Error, ReadAt, Result, WriteAt};

/// Everything of a state file that belongs to no bank; regions of banks read as zeros.
#[derive(Debug)]
pub(crate) struct Template {
    /// Bytes and their places.
    pub(crate) pieces: Vec<(u64, Vec<u8>)>,
    /// Length of the file.
    pub(crate) len: u64,
}

impl Template {
    /// Writes it to `out`, which is empty.
    ///
    /// # Errors
    /// KVC-940.
    pub(crate) fn write(&self, out: &dyn WriteAt) -> Result<()> {
        let failed = |error: io::Error| Error::sink(&error, "output");
        out.trim(self.len).map_err(failed)?;
        for (at, bytes) in &self.pieces {
            out.write_all_at(*at, bytes).map_err(failed)?;
        }
        Ok(())
    }
}

impl ReadAt for Template {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.fill(0);
        for (at, bytes) in &self.pieces {
            let until = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            let (from, to) = (offset.max(*at), end.min(until));
            if from >= to {
                continue;
            }
            let place = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let ours = bytes.get(place(from - at)..place(to - at));
            let theirs = buf.get_mut(place(from - offset)..place(to - offset));
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                theirs.copy_from_slice(ours);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn reads_as_it_is_written() {
        let template = Template {
            pieces: vec![(2, vec![1, 2, 3]), (9, vec![4])],
            len: 12,
        };
        let out = Mutex::new(vec![0; 12]);
        template.write(&out).unwrap();
        let written = out.into_inner().unwrap();
        assert_eq!(written, [0, 0, 1, 2, 3, 0, 0, 0, 0, 4, 0, 0]);
        for start in 0..12_usize {
            for end in start..=12 {
                let mut read = vec![7; end - start];
                template
                    .read_exact_at(u64::try_from(start).unwrap(), &mut read)
                    .unwrap();
                assert_eq!(read, written[start..end]);
            }
        }
        assert!(template.read_exact_at(12, &mut [0]).is_err());
    }
}
