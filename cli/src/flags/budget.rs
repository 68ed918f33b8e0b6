//! How much memory a verb that opens may take.

use kvcap_store::Verifier;

use super::byte_count;

/// How much memory opening may take.
#[derive(Debug, clap::Args)]
pub(crate) struct Budget {
    /// Refuse a capsule that may take more memory than this to open: 512M, 8G. Banks pass through whatever
    /// their size; its residue, tokens and positions are held [default: half of the machine's memory]
    #[arg(long, value_name = "BYTES", value_parser = byte_count)]
    budget: Option<u64>,
}

impl Budget {
    /// The verifier with this budget.
    pub(crate) fn of(&self, verifier: Verifier) -> Verifier {
        Verifier {
            budget: self.budget.unwrap_or(verifier.budget),
            ..verifier
        }
    }
}
