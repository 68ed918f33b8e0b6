//! The files for operators: what they name is there.

use std::{collections::BTreeSet, fs, path::Path};

use kvcap_server::Settings;
use rcgen::{CertificateParams, KeyPair};

use crate::support::signer;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names of metrics in a text, without the endings of a histogram.
fn metrics(text: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_lowercase() || c == '_');
    let names = text.split(word).filter(|name| name.starts_with("kvcap_"));
    names
        .map(|name| {
            let endings = ["_bucket", "_sum", "_count"];
            let whole = endings.iter().find_map(|ending| name.strip_suffix(ending));
            whole.unwrap_or(name)
        })
        .collect()
}

#[test]
fn every_metric_that_is_drawn_or_watched_is_one_of_the_specification() {
    let specified = read("../../spec/http-v1.md") + &read("../../spec/session-v1.md");
    let specified = metrics(&specified);
    for file in [
        "../deploy/grafana.json",
        "../deploy/alerts.yml",
        "src/page.html",
    ] {
        let text = read(file);
        let named = metrics(&text);
        assert!(named.len() >= 5, "{file}");
        let unknown: Vec<_> = named.difference(&specified).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn the_configuration_that_is_given_out_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    };
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
    write("tls.pem", &params.self_signed(&key).unwrap().pem());
    write("tls.key", &key.serialize_pem());
    write("root.key.pub", &signer().public().to_text());
    let text = read("../deploy/relay.toml");
    let credentials = "/run/credentials/kvcap-relay.service/";
    assert!(text.contains(credentials));
    let settings = write("relay.toml", &text.replace(credentials, ""));
    let settings = Settings::read(&settings).unwrap();
    assert!(settings.tls.is_some() && settings.log.is_some() && settings.audit.is_some());
    let unit = read("../deploy/kvcap-relay.service");
    for named in [
        "/etc/kvcap/relay.toml --check",
        "StateDirectory=kvcap",
        "kill -HUP",
    ] {
        assert!(unit.contains(named), "{named}");
    }
    assert!(
        settings.place.to_string().starts_with("/var/lib/kvcap/"),
        "the state folder of the unit"
    );
}
