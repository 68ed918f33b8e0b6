//! The residue: every byte of a state file that belongs to no bank (runtimes-v1 §1.3).

use std::{io, ops::Range};

use kvcap::{Bank, Code, Error, Result};

use crate::{
    adapters::RuntimeKind,
    state::{
        Hints, ReadAt, State, WriteAt,
        file::{output_error, overflow, read_at, size},
    },
};

/// Most segments: one before, between and after the regions of the most banks.
const MAX_SEGMENTS: usize = MAX_PARTS * 4064 + 1;

/// Most regions of a bank: codes, scales and biases.
const MAX_PARTS: usize = 3;

/// Most bytes of residue, written or read: it is held in memory.
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

/// A state file with holes where its banks were.
///
/// An adapter parses it like the whole file, and so says where the banks' frames go. It reads nothing that lies
/// in a hole: only bytes that are here decide what is made of them, whatever length the file is said to have.
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
    /// [`Code::StateLimit`] where they hold too many segments or bytes.
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
        if u64::try_from(rest.len()).is_ok_and(|len| len > MAX_BYTES) {
            return Err(Error::new(Code::StateLimit, "too many bytes").at("residue"));
        }
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
    /// As [`crate::parse`], with [`Code::StateMalformed`] where it would read in a hole;
    /// [`Code::StateContradiction`] where the holes have not room for `banks`, or are more than these can
    /// leave, where the banks found are not these, or the holes not exactly their regions.
    pub fn state(&self, kind: RuntimeKind, banks: &[Bank]) -> Result<State> {
        let contradiction = |what| Err(Error::new(Code::StateContradiction, what).at("residue"));
        if !self.has_room(banks) {
            return contradiction(
                "the residue does not leave out as much as the capsule's banks are",
            );
        }
        let state = crate::parse(kind, &Outside(self), Hints::Banks(banks))?;
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

    /// Whether the holes are as long as the banks at least, and no more than their regions.
    fn has_room(&self, banks: &[Bank]) -> bool {
        let held =
            (self.segments.iter()).fold(0, |sum, (range, _)| sum + (range.end - range.start));
        let plain = banks.iter().try_fold(0_u64, |sum, bank| {
            sum.checked_add(bank.shape.plain_len(bank.dtype)?)
        });
        plain.is_some_and(|plain| plain <= self.len - held)
            && self.segments.len() <= MAX_PARTS.saturating_mul(banks.len()).saturating_add(1)
    }

    /// The file, of which only what lies outside the holes can be read.
    pub(crate) fn outside(&self) -> impl ReadAt {
        Outside(self)
    }

    /// Length of the file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// Writes every segment to its place in `file`, which is [`Self::file_len`] zeros before.
    ///
    /// # Errors
    /// [`Code::LocalIo`].
    pub fn write(&self, file: &dyn WriteAt) -> Result<()> {
        self.segments.iter().try_for_each(|(range, data)| {
            file.write_all_at(range.start, data)
                .map_err(|error| output_error(&error))
        })
    }
}

struct Outside<'a>(&'a Skeleton<'a>);

impl ReadAt for Outside<'_> {
    fn len(&self) -> u64 {
        self.0.len
    }

    /// `UnexpectedEof` for what lies in a hole, too.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let segments = &self.0.segments;
        let before = segments.partition_point(|(range, _)| range.end <= offset);
        let found = segments.get(before).and_then(|(range, data)| {
            let start = usize::try_from(offset.checked_sub(range.start)?).ok()?;
            data.get(start..start.checked_add(buf.len())?)
        });
        if !buf.is_empty() {
            buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        Ok(())
    }
}

fn u64_le(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
