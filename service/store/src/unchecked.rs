//! Names that a capsule has to have.

use kvcap::{Terms, Unchecked};

/// The name that a capsule lacks, of those that have to be there.
pub(crate) fn nobodys(tenant: bool, subject: bool, terms: &Terms) -> Option<Unchecked> {
    match (&terms.tenant, &terms.subject) {
        (None, _) if tenant => Some(Unchecked::Tenant),
        (_, None) if subject => Some(Unchecked::Subject),
        _ => None,
    }
}
