//! The interface as it is described for programs, and the operator's page.

use std::{fs, path::Path};

use kvcap_server::{Inspector, Viewer};
use serde_json::Value;

use crate::support::{
    Client, capsule, relay, relay_by,
    resources::{DESCRIPTION, described, specified},
};

fn served() -> String {
    let reply = relay().ask_as("", "GET", "/openapi.json", &[], &[]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("content-type"), Some("application/json"));
    String::from_utf8(reply.body).unwrap()
}

#[test]
fn the_description_that_is_served_is_that_of_a_gateway_without_its_own_resources() {
    let served: Value = serde_json::from_str(&served()).unwrap();
    let kept = fs::read_to_string(DESCRIPTION).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    for (path, operations) in served["paths"].as_object().unwrap() {
        assert_eq!(*operations, kept["paths"][path], "{path}");
    }
    for (name, shape) in served["components"]["schemas"].as_object().unwrap() {
        assert_eq!(*shape, kept["components"]["schemas"][name], "{name}");
    }
}

#[test]
fn the_description_has_every_resource_of_the_specification_and_no_other() {
    // a gateway's own are in its description
    let specified = specified("A gateway has");
    assert_eq!(described(&served()), specified);
    let relay = relay();
    for (path, method) in &specified {
        let path = path
            .replace("{id}", &"0".repeat(32))
            .replace("{upload}", &"0".repeat(32));
        let status = relay.ask(&method.to_uppercase(), &path, &[], &[]).status;
        assert_ne!(status, 405, "{method} {path}");
    }
}

#[test]
fn the_page_has_nothing_from_elsewhere() {
    let relay = relay_by(|_| {});
    let reply = relay.ask_as("", "GET", "/", &[], &[]);
    assert_eq!(reply.status, 200);
    let policy = reply.field("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(reply.field("referrer-policy"), Some("no-referrer"));
    let page = String::from_utf8(reply.body).unwrap();
    for outside in [
        "http:", "https:", "src=", "<link", "@import", "url(", "Storage", "cookie", "style=",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// As much of an inspector as a relay looks at.
const INSPECTOR: &str = "<html><textarea id=\"keys\"></textarea></html>";

fn inspector(folder: &Path) -> Inspector {
    let path = folder.join("inspect.html");
    fs::write(&path, INSPECTOR).unwrap();
    Inspector::read(&path).unwrap()
}

#[test]
fn an_inspector_is_served_where_there_is_one_and_framed_by_nobody() {
    let home = tempfile::tempdir().unwrap();
    let inspector = inspector(home.path());
    let without = relay_by(|settings| settings.inspector = None);
    assert_eq!(without.ask_as("", "GET", "/inspect", &[], &[]).status, 404);
    let relay = relay_by(|settings| settings.inspector = Some(inspector));
    let reply = relay.ask_as("", "GET", "/inspect", &[], &[]);
    assert_eq!(reply.status, 200);
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(reply.field(name), Some(value));
    }
    assert_eq!(reply.body, INSPECTOR.as_bytes());
    assert_eq!(relay.ask_as("", "POST", "/inspect", &[], &[]).status, 405);
    fs::write(home.path().join("other.html"), "<html></html>").unwrap();
    let refused = Inspector::read(&home.path().join("other.html")).unwrap_err();
    assert_eq!(refused.code().number(), 945);
}

#[test]
fn a_capsule_is_shown_at_an_address_that_nobody_guesses() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.kvcap");
    let content = capsule();
    fs::write(&file, &content).unwrap();
    let viewing = Viewer {
        inspector: inspector(home.path()),
        keys: "issuer: </textarea>&\n".to_owned(),
        files: vec![file.clone(), file.clone()],
    }
    .start()
    .unwrap();
    let (address, links) = viewing.url().split_once('#').unwrap();
    let (host, path) = address["http://".len()..].split_once('/').unwrap();
    let secret = path.strip_suffix("/inspect").unwrap();
    assert_eq!(secret.len(), 32);
    assert_eq!(links, format!("/{secret}/0&/{secret}/1"));
    assert!(host.starts_with("127.0.0.1:"));
    let ask = |path: &str| Client::connect(host.parse().unwrap()).ask("", "GET", path, &[], &[]);
    let page = String::from_utf8(ask(&format!("/{path}")).body).unwrap();
    let keys = "<textarea id=\"keys\">issuer: &lt;/textarea>&amp;\n</textarea>";
    assert!(page.contains(keys), "{page}");
    let whole = ask(&format!("/{secret}/1"));
    assert!(whole.body == content);
    assert_eq!(whole.field("content-type"), Some("application/vnd.kvcap"));
    for elsewhere in [
        "/",
        "/inspect",
        "/0",
        &format!("/{secret}/2"),
        &format!("/{secret}/..%2f0"),
    ] {
        assert!([400, 404].contains(&ask(elsewhere).status), "{elsewhere}");
    }
    viewing.stop().now();
    viewing.wait().unwrap();
    fs::remove_file(&file).unwrap();
    let gone = Viewer {
        inspector: inspector(home.path()),
        keys: String::new(),
        files: vec![file],
    };
    assert_eq!(gone.start().unwrap_err().code().number(), 940);
}
