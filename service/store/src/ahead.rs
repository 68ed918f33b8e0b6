//! Bytes that a reader has said that he will read, fetched in long pieces where each question costs a round trip.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Longest piece that is fetched at once, in bytes.
const PIECE: u64 = 2 << 20;

/// Ranges that are remembered: those of a bank that is read and of those next to it.
const RANGES: usize = 4;

/// Ranges of a source that are read next, and what has been fetched of it.
#[derive(Debug)]
pub struct Ahead<B>(Mutex<Fetched<B>>);

#[derive(Debug)]
struct Fetched<B> {
    announced: VecDeque<Announced<B>>,
    /// The newest piece that nobody had announced.
    other: Option<Piece<B>>,
}

/// A range that is read next: its two newest pieces, since several threads read about in order.
#[derive(Debug)]
struct Announced<B> {
    range: Range<u64>,
    newest: Option<Piece<B>>,
    before: Option<Piece<B>>,
}

impl<B> Default for Ahead<B> {
    fn default() -> Self {
        Self(Mutex::new(Fetched {
            announced: VecDeque::new(),
            other: None,
        }))
    }
}

/// Bytes that were fetched.
#[derive(Debug)]
pub struct Piece<B> {
    /// Place at which they begin.
    pub start: u64,
    /// The bytes.
    pub bytes: B,
}

impl<B: AsRef<[u8]>> Piece<B> {
    /// Copies the bytes from `offset` on; false where they are not all here.
    pub fn copy(&self, offset: u64, buf: &mut [u8]) -> bool {
        let from = offset.checked_sub(self.start);
        let from = from.and_then(|from| usize::try_from(from).ok());
        let found = from.and_then(|from| {
            let end = from.checked_add(buf.len())?;
            self.bytes.as_ref().get(from..end)
        });
        found.inspect(|found| buf.copy_from_slice(found)).is_some()
    }

    fn end(&self) -> u64 {
        let len = u64::try_from(self.bytes.as_ref().len()).unwrap_or(u64::MAX);
        self.start.saturating_add(len)
    }
}

impl<B: AsRef<[u8]>> Ahead<B> {
    /// Remembers that `range` is read next.
    pub fn will_read(&self, range: Range<u64>) {
        let announced = &mut self.fetched().announced;
        if announced.len() == RANGES {
            announced.pop_front();
        }
        announced.push_back(Announced {
            range,
            newest: None,
            before: None,
        });
    }

    /// Fills `buf` from `offset`. `fetch` is asked for a range, and told how far it may go on.
    ///
    /// # Errors
    /// As `fetch`; `UnexpectedEof` where it gives less than it was asked for.
    pub fn read(
        &self,
        offset: u64,
        buf: &mut [u8],
        fetch: impl FnOnce(Range<u64>, u64) -> io::Result<Piece<B>>,
    ) -> io::Result<()> {
        let ends = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let len = u64::try_from(buf.len()).map_err(|_| ends())?;
        let wanted = offset..offset.checked_add(len).ok_or_else(ends)?;
        let mut fetched = self.fetched();
        let pieces = fetched.announced.iter();
        let pieces = pieces.flat_map(|announced| [&announced.newest, &announced.before]);
        if (pieces.chain([&fetched.other]).flatten()).any(|piece| piece.copy(offset, buf)) {
            return Ok(());
        }
        let mut filled = |piece: &Piece<B>| piece.copy(offset, buf).then_some(()).ok_or_else(ends);
        let announced = fetched.announced.iter_mut().find(|announced| {
            announced.range.start <= wanted.start && wanted.end <= announced.range.end
        });
        let Some(announced) = announced else {
            drop(fetched);
            let piece = fetch(wanted.clone(), wanted.end)?;
            filled(&piece)?;
            self.fetched().other = Some(piece);
            return Ok(());
        };
        // what lies before the newest piece was passed already
        let goes_on = (announced.newest.as_ref()).is_none_or(|newest| newest.end() <= wanted.end);
        // a whole number of reads of this length, so that none is cut in two
        let long = (PIECE - PIECE % len.max(1)).max(len);
        let until = match goes_on {
            true => announced.range.end.min(offset.saturating_add(long)),
            false => wanted.end,
        };
        // who reads next to it waits for this piece, which has what he wants
        let piece = fetch(wanted, until)?;
        filled(&piece)?;
        if goes_on {
            announced.before = announced.newest.replace(piece);
        }
        Ok(())
    }

    fn fetched(&self) -> MutexGuard<'_, Fetched<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader got, and the ranges that were fetched for him.
    fn fetched(ahead: &Ahead<Vec<u8>>, reads: &[(u64, usize)]) -> Vec<Range<u64>> {
        let source: Vec<u8> = (0..10_u32 << 20)
            .map(|at| (at >> 3).to_le_bytes()[0])
            .collect();
        let mut asked = Vec::new();
        for (at, len) in reads {
            let (mut buf, from) = (vec![0; *len], usize::try_from(*at).unwrap());
            let fetch = |wanted: Range<u64>, until: u64| {
                assert!(wanted.end <= until);
                asked.push(wanted.start..until);
                let end = usize::try_from(until).unwrap();
                Ok(Piece {
                    start: wanted.start,
                    bytes: source[usize::try_from(wanted.start).unwrap()..end].to_vec(),
                })
            };
            ahead.read(*at, &mut buf, fetch).unwrap();
            assert!(buf == source[from..from + len], "{len} bytes at {at}");
        }
        asked
    }

    #[test]
    fn what_nobody_announced_is_fetched_alone() {
        let ahead = Ahead::default();
        let asked = fetched(&ahead, &[(0, 64), (64, 1000), (100, 10), (0, 64)]);
        assert_eq!(asked, [0..64, 64..1064, 0..64]);
    }

    #[test]
    fn what_was_announced_is_fetched_once_and_nothing_beside_it() {
        let ahead = Ahead::default();
        ahead.will_read(1000..5_001_000);
        let mut reads: Vec<(u64, usize)> =
            (0..50).map(|at| (1000 + at * 100_000, 100_000)).collect();
        // threads that are not quite in order
        reads.swap(3, 4);
        reads.swap(20, 21);
        let mut asked = fetched(&ahead, &reads);
        assert!(asked.len() < 6, "{asked:?}");
        asked.sort_by_key(|range| range.start);
        assert!(asked.windows(2).all(|two| two[0].end == two[1].start));
        assert_eq!(
            (asked[0].start, asked.last().unwrap().end),
            (1000, 5_001_000)
        );
    }

    #[test]
    fn ranges_are_read_beside_each_other() {
        let ahead = Ahead::default();
        ahead.will_read(0..300_000);
        ahead.will_read(300_000..600_000);
        let reads = [
            (0, 100_000),
            (300_000, 100_000),
            (900_000, 5),
            (100_000, 100_000),
            (400_000, 100_000),
        ];
        assert_eq!(
            fetched(&ahead, &reads),
            [0..300_000, 300_000..600_000, 900_000..900_005]
        );
    }

    #[test]
    fn a_source_that_gives_too_little_is_an_error() {
        let ahead = Ahead::default();
        ahead.will_read(0..100);
        for at in [0, 200] {
            let short = |wanted: Range<u64>, _| {
                Ok(Piece {
                    start: wanted.start,
                    bytes: vec![0; 9],
                })
            };
            let error = ahead.read(at, &mut [0; 10], short).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
