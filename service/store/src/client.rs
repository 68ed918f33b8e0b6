//! Asking over HTTP: whose certificates are accepted, and what is said where nobody answers.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use kvcap::{Code, Error, Result};
use rustls::{CertificateError, RootCertStore};
use ureq::tls::{Certificate, TlsConfig};

use crate::tls::certificates;

/// Returns how TLS is spoken to who is at a URL: certificates of the authorities in a file of PEM are accepted and no other;
/// without one, those of the web's.
///
/// # Errors
/// KVC-944 where a URL with authorities is not one of HTTPS; 945 where the file is none of certificates; 940.
pub fn tls(url: &str, authorities: Option<&Path>) -> Result<TlsConfig> {
    let Some(path) = authorities else {
        return Ok(TlsConfig::default());
    };
    if !url.starts_with("https://") {
        let what = "whose certificate is looked at is asked over https://";
        return Err(Error::new(Code::LocalUsage, what).at(url));
    }
    let found = certificates(path)?;
    let mut roots = RootCertStore::empty();
    for authority in &found {
        let added = roots.add(authority.clone());
        added
            .map_err(|error| Error::new(Code::LocalConfig, error.to_string()).at(path.display()))?;
    }
    let roots = found
        .iter()
        .map(|authority| Certificate::from_der(authority).to_owned());
    Ok(TlsConfig::builder().root_certs(roots.into()).build())
}

/// Returns the error of a request that has no answer. That of a certificate which is not accepted says so.
#[must_use]
pub fn unanswered(what: &'static str, address: &str, error: impl Into<ureq::Error>) -> Error {
    let error = error.into();
    let place = format!("{address}: {error}");
    let error = error.into_io();
    match certificate(&error) {
        Some(CertificateError::UnknownIssuer) => {
            let what = "the certificate is of an authority that is not known here";
            Error::peer(what, ErrorKind::InvalidData, place)
        }
        Some(_) => {
            let what = "the certificate is not accepted";
            Error::peer(what, ErrorKind::InvalidData, place)
        }
        None => Error::peer(what, error.kind(), place),
    }
}

/// What is wrong with a certificate, where that is what an error says.
fn certificate(error: &io::Error) -> Option<&CertificateError> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}
