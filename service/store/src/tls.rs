//! Certificates in files.

use std::path::Path;

use kvcap::{Code, Error, Result};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::profile::read_unchanged;

/// Longest file of certificates, in bytes.
const LONGEST: u64 = 1 << 20;

/// Returns the certificates of a file in PEM, in their order: one or more.
///
/// # Errors
/// KVC-945 where it has none, is a link, or can be changed by others; 940.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read_unchanged(path, LONGEST)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => {
            let what = "this is no file of certificates in PEM";
            Err(Error::new(Code::LocalConfig, what).at(path.display()))
        }
    }
}
