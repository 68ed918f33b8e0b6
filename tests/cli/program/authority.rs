//! An authority of a test's own, and a server's certificate by it.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::support::Folder;

/// Puts `ca.pem`, the authority's own certificate, into a folder, and `tls.pem` with its key for a server on this machine.
pub(super) fn certify(folder: &Folder) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // two of one name would differ in their keys alone
    let name = folder.path("").display().to_string();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    folder.write("ca.pem", issuer.pem().as_bytes());
    folder.write("tls.pem", certificate.pem().as_bytes());
    folder.write("tls.key", key.serialize_pem().as_bytes());
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.path("tls.key"), private).unwrap();
}
