//! Connections that nobody else reads: TLS 1.3 by rustls (http-v1 HTTP-O-5).

use std::{fmt, fs::OpenOptions, io::Read, path::Path, sync::Arc};

use kvcap::{Code, Error, Result};
use kvcap_store::{private, tls::certificates};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};

/// Longest file of a key, in bytes.
const LONGEST: u64 = 1 << 20;

/// A certificate with its key, and whose certificates clients have to have. Its `Debug` shows none of them.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads a chain of certificates, the server's first, and its key; and the authorities of clients, if a
    /// certificate is asked of them. All are PEM.
    ///
    /// # Errors
    /// KVC-945 for what is no such file, and for a key that is not the certificate's; KVC-943 where others may read
    /// the key; 940.
    pub fn read(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<Self> {
        let chain = certificates(certificate)?;
        let provider = Arc::new(ring::default_provider());
        let wrong = |path: &Path, error: &dyn fmt::Display| config(error).at(path.display());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| config(&error))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| wrong(path, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build().map_err(|error| wrong(path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, private_key(key)?)
            .map_err(|error| wrong(certificate, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn config(error: &dyn fmt::Display) -> Error {
    Error::new(Code::LocalConfig, error.to_string())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let failed = |error: std::io::Error| Error::io(&error, path.display());
    let file = private::open(path, OpenOptions::new().read(true)).map_err(failed)?;
    private::check(&file, path)?;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(failed)?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| config(&"this is no private key in PEM").at(path.display()))
}
