//! Between unwrapping and reading: the use of a capsule is recorded before anything that it holds is given
//! out (registry-v1 §5, REG-U-3 and REG-U-4).

use crate::{
    error::{Code, Error, Result},
    io::ReadAt,
    manifest::Manifest,
    open::opened::Opened,
    text::show_instant,
    trust::ledger::Ledger,
};

/// A capsule whose content key is unwrapped and the one committed to. It gives nothing out before
/// somebody has answered for its use: consumed by that, it becomes an [`Opened`].
///
/// ```compile_fail,E0599
/// fn peek(capsule: &kvcap::Unlocked<Vec<u8>>) { capsule.prompt(); }
/// ```
///
/// ```compile_fail,E0599
/// fn ask(capsule: &kvcap::Unlocked<Vec<u8>>) { capsule.check_prompt(&[1]); }
/// ```
pub struct Unlocked<S>(pub(super) Opened<S>);

impl<S: ReadAt> Unlocked<S> {
    /// Returns what the issuer has signed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.0.manifest()
    }

    /// Remembers that the capsule is used, and gives it to be read. What happens afterwards does not give
    /// the use back.
    ///
    /// # Errors
    /// KVC-402 where it has expired by now; as [`Ledger::record`].
    pub fn record(self, ledger: &Ledger, now: u64) -> Result<Opened<S>> {
        record(&self.0, ledger, now)?;
        Ok(self.0)
    }

    /// Gives it to be read without a memory.
    ///
    /// # Errors
    /// KVC-410 where it is for one use.
    pub fn release(self) -> Result<Opened<S>> {
        check_unlimited(&self.0)?;
        Ok(self.0)
    }

    /// Gives it to be read, and leaves it to the caller that a capsule for one use is not used again: for tests,
    /// and for callers that have recorded the use by other means than [`Self::record`].
    #[must_use]
    pub fn danger_unrecorded(self) -> Opened<S> {
        self.0
    }
}

pub(super) fn record<S: ReadAt>(opened: &Opened<S>, ledger: &Ledger, now: u64) -> Result<()> {
    let expires = opened.manifest().claims.terms.expires;
    if now >= expires {
        return Err(
            Error::new(Code::ClaimsExpired, "the capsule has expired").sides(
                format_args!("an end after {}", show_instant(now)),
                show_instant(expires),
            ),
        );
    }
    ledger.record(&opened.verified.usage(now))
}

pub(super) fn check_unlimited<S: ReadAt>(opened: &Opened<S>) -> Result<()> {
    match opened.manifest().claims.terms.single_use {
        false => Ok(()),
        true => Err(Error::new(
            Code::ClaimsReplayed,
            "a capsule for one use opens only where its use is recorded",
        )),
    }
}
