//! Recording the use of a capsule before it gives anything out (registry-v1 §5, U-3).

use crate::{
    error::{Code, Error, Result},
    io::ReadAt,
    open::{chain::OpenedChain, opened::Opened},
    trust::ledger::{Ledger, Usage},
};

impl<S: ReadAt> Opened<S> {
    /// Remembers that the capsule is used, before anything that it holds is given out. What happens
    /// afterwards does not give the use back.
    ///
    /// # Errors
    /// KVC-402 where it has expired by now; as [`Ledger::record`].
    pub fn record(mut self, ledger: &Ledger, now: u64) -> Result<Self> {
        let claims = &self.manifest().claims;
        let expires = claims.terms.expires;
        if now >= expires {
            return Err(Error::new(Code::ClaimsExpired, "the capsule has expired")
                .sides(format_args!("exp after now {now}"), expires));
        }
        ledger.record(&Usage::of(claims, now))?;
        self.release();
        Ok(self)
    }
}

impl<S: ReadAt> OpenedChain<S> {
    /// Remembers that the tip is used, as [`Opened::record`]. Its ancestors are not used up by that.
    ///
    /// # Errors
    /// As [`Opened::record`].
    pub fn record(self, ledger: &Ledger, now: u64) -> Result<Self> {
        self.map_tip(|tip| tip.record(ledger, now))
    }
}
