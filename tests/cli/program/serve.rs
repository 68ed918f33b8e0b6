//! `kvcap serve`: what the verb says before it listens. How a relay answers is `tests/service/server`.

use super::support::Folder;

#[test]
#[cfg(not(feature = "server"))]
fn a_program_without_the_server_says_so() {
    let folder = Folder::new();
    let ran = folder.refused("serve relay.toml", 944, 2);
    assert!(ran.err.contains("--features server"), "{}", ran.err);
    assert!(!folder.ok("--help").out.contains("  serve"));
}

#[cfg(feature = "server")]
fn configuration(digest: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\nfolder = \"kept\"\naudiences = [\"cache.example.com\"]\n\
         trust = [\"issuer.key.pub\"]\n\n[limits]\nsilence = \"15s\"\n\n[[tokens]]\n\
         digest = \"{digest}\"\ntenant = \"acme\"\nsubject = \"ana\"\nmay = [\"capsule:put\"]\n"
    )
}

#[test]
#[cfg(feature = "server")]
fn a_configuration_is_checked_before_anybody_is_listened_to() {
    let folder = Folder::new();
    let token = folder.json("serve --new-token");
    let digest = token["digest"].as_str().unwrap();
    assert!(
        token["token"]
            .as_str()
            .unwrap()
            .starts_with("kvcap-token-1")
    );
    let right = configuration(digest);
    folder.write("relay.toml", right.as_bytes());
    let checked = folder.json("serve relay.toml --check");
    assert_eq!(
        (&checked["tokens"], &checked["trusted_keys"]),
        (&1.into(), &1.into())
    );
    assert!(!folder.has("kept"), "nothing is made");
    for (from, to, line) in [
        ("silence =", "silense =", "relay.toml:7"),
        ("\"15s\"", "15", "relay.toml:7"),
        ("listen =", "listen = \"nowhere\"\n# ", "relay.toml:1"),
        ("capsule:put", "capsule:putt", "tokens, number 1"),
        (digest, "1234", "tokens, number 1"),
        ("\"cache.example.com\"", "", "audiences"),
        ("trust = [\"issuer.key.pub\"]", "", "nobody is trusted"),
    ] {
        folder.write("relay.toml", right.replacen(from, to, 1).as_bytes());
        let ran = folder.refused("serve relay.toml --check", 945, 2);
        assert!(ran.err.contains(line), "{from}: {}", ran.err);
    }
    folder.write(
        "relay.toml",
        right.replace("issuer.key.pub", "no.pub").as_bytes(),
    );
    assert!(!folder.run("serve relay.toml --check").err.is_empty());
}

#[test]
#[cfg(all(feature = "server", unix))]
fn a_signal_ends_it_as_it_should() {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        process::Stdio,
    };
    let folder = Folder::new();
    let token = folder.json("serve --new-token");
    folder.write(
        "relay.toml",
        configuration(token["digest"].as_str().unwrap()).as_bytes(),
    );
    let mut child = folder
        .command("serve relay.toml")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    told.read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let signalled = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(signalled.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(String::from_utf8(ended.stdout).unwrap().contains(address));
}

#[test]
#[cfg(not(feature = "server"))]
fn a_program_without_the_server_shows_nothing_in_a_browser() {
    let folder = Folder::new();
    folder.refused("inspect a.kvcap --web", 944, 2);
}

#[test]
#[cfg(all(feature = "server", unix))]
fn a_capsule_is_shown_in_a_browser_until_a_signal() {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        process::Stdio,
    };
    let folder = Folder::new();
    let page = "<textarea id=\"keys\"></textarea>";
    folder.write("page.html", page.as_bytes());
    folder.write("a.kvcap", b"whatever it is, the page says so");
    let key = std::fs::read_to_string(folder.path("issuer.key.pub")).unwrap();
    folder.refused("inspect a.kvcap --web=issuer.key.pub", 945, 2);
    folder.refused("inspect no.kvcap --web=page.html", 940, 4);
    folder.refused(
        "inspect a.kvcap --web=page.html --registry a --registry-root b",
        944,
        2,
    );
    let mut child = folder
        .command("inspect a.kvcap --web=page.html --trust issuer.key.pub --json")
        .env("PATH", "") // no browser
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.next().unwrap().unwrap().contains("ctrl-c"));
    let url = told.next().unwrap().unwrap().trim().to_owned();
    let (page, capsule) = url.split_once('#').unwrap();
    let (host, page) = page["http://".len()..].split_once('/').unwrap();
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(host).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask(&format!("/{page}")).contains(key.trim()), "{url}");
    assert!(ask(capsule).ends_with("the page says so"));
    let signalled = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(signalled.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(String::from_utf8(ended.stdout).unwrap().contains(&url));
}
