//! TLS: who speaks it, whose certificate he has, and another certificate while it runs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kvcap_server::{Settings, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

use crate::support::{Relay, capsule, path, relay_by};

/// An authority of one test, and what it has certified.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    home: TempDir,
}

/// A certificate and its key, as files.
#[derive(Clone)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let home = TempDir::new().unwrap();
        write(&home.path().join("ca"), issuer.pem().as_bytes());
        Self { issuer, home }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("ca")
    }

    fn certify(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            certificate: self.home.path().join(name),
            key: self.home.path().join(format!("{name}.key")),
        };
        write(&pair.certificate, certificate.pem().as_bytes());
        write(&pair.key, key.serialize_pem().as_bytes());
        pair
    }

    fn client(&self, own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::from_pem_file(&pair.certificate).unwrap();
                let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        }
    }
}

/// Writes a file that its user alone may read.
fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: ClientConfig) -> Stream {
    let name = "relay.example".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    StreamOwned::new(connection, stream)
}

fn ask(stream: &mut Stream, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let length = body.len();
    let head = format!("{head}\r\nhost: relay.example\r\ncontent-length: {length}\r\n");
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
    stream.write_all(body)?;
    stream.flush()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn health(relay: &Relay, config: ClientConfig) -> std::io::Result<bool> {
    let mut stream = connect(relay.running().address(), config);
    let answer = ask(&mut stream, "GET /healthz HTTP/1.1", &[])?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

fn settings(pair: &Pair, clients: Option<&Path>) -> Tls {
    Tls::read(&pair.certificate, &pair.key, clients).unwrap()
}

#[test]
fn capsules_come_and_go_by_tls() {
    let authority = Authority::new();
    let tls = settings(&authority.certify("relay"), None);
    let relay = relay_by(|settings| settings.tls = Some(tls));
    let file = capsule();
    let token = &relay.ana;
    let authorized = |line: &str| format!("{line} HTTP/1.1\r\nauthorization: Bearer {token}");
    let mut stream = connect(relay.running().address(), authority.client(None));
    let put = ask(&mut stream, &authorized("POST /v1/capsules"), &file).unwrap();
    assert!(
        put.starts_with(b"HTTP/1.1 201"),
        "{}",
        String::from_utf8_lossy(&put)
    );
    let mut stream = connect(relay.running().address(), authority.client(None));
    let got = ask(
        &mut stream,
        &authorized(&format!("GET {}", path(&file))),
        &[],
    )
    .unwrap();
    assert!(got.ends_with(&file));
    // HTTP/1.1 is what both agree on, and who offers another protocol alone is not answered
    let mut one = authority.client(None);
    one.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    assert!(health(&relay, one).unwrap());
    let mut two = authority.client(None);
    two.alpn_protocols = vec![b"h2".to_vec()];
    assert!(health(&relay, two).is_err());
}

#[test]
fn who_does_not_speak_tls_is_not_answered() {
    let authority = Authority::new();
    let tls = settings(&authority.certify("relay"), None);
    let relay = relay_by(|settings| {
        settings.tls = Some(tls);
        settings.limits.head = Duration::from_millis(300);
    });
    let mut plain = relay.client();
    plain.head(&relay.ana, "GET", "/healthz", &[], None);
    assert!(plain.try_reply("GET").is_none());
    // slow in the handshake, and slow in the head behind it
    let mut silent = TcpStream::connect(relay.running().address()).unwrap();
    assert_eq!(
        silent.read(&mut [0; 8]).unwrap_or(0),
        0,
        "the connection ends"
    );
    let mut slow = connect(relay.running().address(), authority.client(None));
    slow.write_all(b"GET /hea").unwrap();
    let mut rest = Vec::new();
    let _ended = slow.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    assert!(health(&relay, authority.client(None)).unwrap());
}

#[test]
fn a_certificate_is_asked_of_clients_where_it_is_said() {
    let (authority, others) = (Authority::new(), Authority::new());
    let tls = settings(&authority.certify("relay"), Some(&authority.file()));
    let relay = relay_by(|settings| settings.tls = Some(tls));
    let own = authority.certify("client");
    assert!(health(&relay, authority.client(Some(&own))).unwrap());
    assert!(health(&relay, authority.client(None)).is_err(), "none");
    let strange = others.certify("client");
    assert!(
        health(&relay, authority.client(Some(&strange))).is_err(),
        "another's"
    );
}

#[test]
fn another_certificate_is_taken_while_connections_go_on() {
    let (first, second) = (Authority::new(), Authority::new());
    let tls = settings(&first.certify("relay"), None);
    let relay = relay_by(|settings| settings.tls = Some(tls));
    let mut open = connect(relay.running().address(), first.client(None));
    open.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let mut some = [0; 12];
    open.read_exact(&mut some).unwrap();
    let next = Settings {
        tls: Some(settings(&second.certify("relay"), None)),
        ..relay.settings.clone()
    };
    relay.running().reload().with(Ok(next)).unwrap();
    assert!(health(&relay, second.client(None)).unwrap());
    assert!(health(&relay, first.client(None)).is_err());
    let answer = ask(&mut open, "GET /healthz HTTP/1.1", &[]).unwrap();
    assert!(
        String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"),
        "it goes on"
    );
    let plain = Settings {
        tls: None,
        ..relay.settings.clone()
    };
    let refused = relay.running().reload().with(Ok(plain)).unwrap_err();
    assert_eq!(refused.code().number(), 945);
}

#[test]
fn files_that_are_no_certificate_and_key_are_refused() {
    let authority = Authority::new();
    let (one, two) = (authority.certify("one"), authority.certify("two"));
    let refused = |certificate: &Path, key: &Path, clients: Option<&Path>| {
        let refused = Tls::read(certificate, key, clients).unwrap_err();
        assert!(!refused.to_string().contains("PRIVATE"));
        refused.code().number()
    };
    assert_eq!(
        refused(&one.certificate, &two.key, None),
        945,
        "another's key"
    );
    assert_eq!(refused(&one.key, &one.key, None), 945);
    assert_eq!(refused(&one.certificate, &one.certificate, None), 945);
    assert_eq!(refused(&one.certificate, &one.key, Some(&two.key)), 945);
    assert_eq!(
        refused(&authority.home.path().join("none"), &one.key, None),
        940
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&one.key, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(refused(&one.certificate, &one.key, None), 943);
    }
    let tls = settings(&two, None);
    assert_eq!(format!("{tls:?}"), "Tls");
}
