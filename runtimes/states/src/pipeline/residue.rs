//! The residue: every byte of a state file that belongs to no bank (runtimes-v1 §1.3).

use std::{io, ops::Range};

use kvcap::{Bank, Code, Error, Result};

use crate::{
    adapters::RuntimeKind,
    state::{
        Hints, ReadAt, State, WriteAt,
        file::{file_error, overflow, read_at, size},
    },
};

/// Most segments: one before, between and after the regions of the most banks.
const MAX_SEGMENTS: usize = 3 * 4064 + 1;

/// Most bytes of residue: it is held in memory.
const MAX_BYTES: u64 = 256 << 20;

const HEADER: usize = 12;
const ENTRY: usize = 16;

/// The bytes of `file` outside its banks' regions, with their places:
/// `u64 file length ‖ u32 n ‖ n × (u64 offset, u64 length) ‖ the bytes`, little-endian.
///
/// # Errors
/// [`Code::StateLimit`] beyond 256 MiB, [`Code::StateMalformed`] or [`Code::LocalIo`] where the file
/// cannot be read.
pub fn residue(state: &State, file: &dyn ReadAt) -> Result<Vec<u8>> {
    let segments = segments(state);
    let total = segments
        .iter()
        .try_fold(0u64, |sum, s| sum.checked_add(s.end - s.start));
    let total = total.filter(|total| *total <= MAX_BYTES).ok_or_else(|| {
        Error::new(
            Code::StateLimit,
            "the state file holds too many bytes outside its banks",
        )
    })?;
    let count = u32::try_from(segments.len()).map_err(|_| overflow())?;
    let head = HEADER + ENTRY * segments.len();
    let mut out = Vec::with_capacity(head.saturating_add(size(total)?));
    out.extend_from_slice(&state.file_len.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    for segment in &segments {
        out.extend_from_slice(&segment.start.to_le_bytes());
        out.extend_from_slice(&(segment.end - segment.start).to_le_bytes());
    }
    for segment in &segments {
        let start = out.len();
        out.resize(start.saturating_add(size(segment.end - segment.start)?), 0);
        read_at(file, segment.start, &mut out[start..])?;
    }
    Ok(out)
}

/// The complement of the state's regions, ascending, without empty or adjacent ranges.
fn segments(state: &State) -> Vec<Range<u64>> {
    let mut at = 0;
    let mut segments = Vec::new();
    for (start, end) in state.regions() {
        if at < start {
            segments.push(at..start);
        }
        at = at.max(end);
    }
    if at < state.file_len {
        segments.push(at..state.file_len);
    }
    segments
}

/// A state file with holes where its banks were: reads zeros there.
///
/// An adapter parses it like the whole file, and so says where the banks' frames go.
#[derive(Clone, Debug)]
pub struct Skeleton<'a> {
    len: u64,
    /// Ascending, and never adjacent.
    segments: Vec<(Range<u64>, &'a [u8])>,
}

impl<'a> Skeleton<'a> {
    /// The skeleton that [`residue`] wrote.
    ///
    /// # Errors
    /// [`Code::StateMalformed`] where the bytes are not in the one canonical form,
    /// [`Code::StateLimit`] where they hold too many segments.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let malformed =
            || Error::new(Code::StateMalformed, "the residue is malformed").at("residue");
        let (head, mut rest) = bytes.split_at_checked(HEADER).ok_or_else(malformed)?;
        let (len, count) = head.split_at(8);
        let len = u64_le(len).ok_or_else(malformed)?;
        let count = u32::from_le_bytes(count.try_into().map_err(|_| malformed())?);
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= MAX_SEGMENTS);
        let count =
            count.ok_or_else(|| Error::new(Code::StateLimit, "too many segments").at("residue"))?;
        let table = rest.split_at_checked(count * ENTRY).ok_or_else(malformed)?;
        rest = table.1;
        let mut segments = Vec::with_capacity(count);
        let mut floor = None;
        for entry in table.0.chunks_exact(ENTRY) {
            let (offset, length) = entry.split_at(8);
            let start = u64_le(offset).ok_or_else(malformed)?;
            let length = u64_le(length).ok_or_else(malformed)?;
            let end = start.checked_add(length).ok_or_else(malformed)?;
            if length == 0 || end > len || floor.is_some_and(|floor| start <= floor) {
                return Err(malformed());
            }
            floor = Some(end);
            let (data, tail) = rest.split_at_checked(size(length)?).ok_or_else(malformed)?;
            rest = tail;
            segments.push((start..end, data));
        }
        if !rest.is_empty() {
            return Err(malformed());
        }
        Ok(Self { len, segments })
    }

    /// The state whose file this is the skeleton of, with the banks where their frames go.
    ///
    /// # Errors
    /// As [`crate::parse`]; [`Code::StateContradiction`] where the banks are not `banks`, or where
    /// the holes are not exactly their regions.
    pub fn state(&self, kind: RuntimeKind, banks: &[Bank]) -> Result<State> {
        let state = crate::parse(kind, self, Hints::Banks(banks))?;
        let contradiction = |what| Err(Error::new(Code::StateContradiction, what).at("residue"));
        if !state.banks.iter().map(|placed| &placed.bank).eq(banks) {
            return contradiction("the residue does not describe the banks of the capsule");
        }
        if !segments(&state)
            .iter()
            .eq(self.segments.iter().map(|segment| &segment.0))
        {
            return contradiction("the residue does not leave out the regions of its banks");
        }
        Ok(state)
    }

    /// Writes every segment to its place in `file`, which is [`ReadAt::len`] zeros before.
    ///
    /// # Errors
    /// [`Code::LocalIo`].
    pub fn write(&self, file: &dyn WriteAt) -> Result<()> {
        self.segments.iter().try_for_each(|(range, data)| {
            file.write_all_at(range.start, data)
                .map_err(|error| file_error(&error))
        })
    }
}

impl ReadAt for Skeleton<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let wanted = u64::try_from(buf.len())
            .ok()
            .and_then(|n| offset.checked_add(n));
        let end = wanted
            .filter(|end| *end <= self.len)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.fill(0);
        let first = self
            .segments
            .partition_point(|(range, _)| range.end <= offset);
        for (range, data) in &self.segments[first..] {
            let (from, to) = (range.start.max(offset), range.end.min(end));
            if from >= to {
                break;
            }
            let at = |base: u64, place: u64| {
                usize::try_from(place - base)
                    .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
            };
            buf[at(offset, from)?..at(offset, to)?]
                .copy_from_slice(&data[at(range.start, from)?..at(range.start, to)?]);
        }
        Ok(())
    }
}

fn u64_le(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
