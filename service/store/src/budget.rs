//! How much memory opening a capsule may take (capsule-v1 §10).

use std::{fs, path::Path};

use kvcap::{Code, Error, Manifest, Result, SectionKind, Stream};

/// Where the machine does not say how much memory it has: half of 8 GiB.
const UNKNOWN: u64 = 4 << 30;

/// Most memory that a byte of what is held may take while it is parsed (runtimes-v1 RUN-R-13).
const TIMES: u64 = 16;

/// Returns the memory that opening may take by default: half of the machine's, or of the control group's where
/// that is less; 4 GiB where neither is known.
#[must_use]
pub fn default_budget() -> u64 {
    let machine = fs::read_to_string(Path::new("/proc/meminfo")).ok();
    let machine = machine.as_deref().and_then(total);
    let group = fs::read_to_string(Path::new("/sys/fs/cgroup/memory.max")).ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    let least = [machine, group].into_iter().flatten().min();
    least.map_or(UNKNOWN, |bytes| bytes / 2)
}

/// The first line of `/proc/meminfo`: `MemTotal: 1024 kB`.
fn total(text: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Refuses a state of `len` bytes that is to be opened into memory and takes more than `budget` of it.
///
/// # Errors
/// KVC-910.
pub(crate) fn check_state(len: u64, budget: u64) -> Result<()> {
    if len <= budget {
        return Ok(());
    }
    let what = "the state takes more memory than it may: open it into a file";
    Err(Error::new(Code::ResourceBudget, what).sides(format_args!("at most {budget} bytes"), len))
}

/// Refuses a capsule that may take more than `budget` bytes to open. Banks pass through, whatever their
/// number and length; the sections that tell where they go are held.
///
/// # Errors
/// KVC-910.
pub(crate) fn check(manifest: &Manifest, budget: u64) -> Result<()> {
    let held = manifest
        .context
        .streams
        .iter()
        .filter_map(|stream| match stream {
            Stream::Section(section) => match section.kind {
                SectionKind::Tokens
                | SectionKind::Prefix
                | SectionKind::Residue
                | SectionKind::Positions => Some(section.len),
                _ => None,
            },
            Stream::Bank(_) => None,
        });
    let needed = held.fold(0_u64, u64::saturating_add).saturating_mul(TIMES);
    if needed <= budget {
        return Ok(());
    }
    let what = "opening the capsule may take more memory than allowed";
    Err(Error::new(Code::ResourceBudget, what)
        .sides(format_args!("at most {budget} bytes"), needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_it_has() {
        let text = "MemTotal:       16384 kB\nMemFree:  1 kB\n";
        assert_eq!(total(text), Some(16 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: 99999999999999999999 kB\n"), None);
        assert!(default_budget() > 0);
    }
}
