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

#[test]
#[cfg(not(feature = "server"))]
fn a_program_without_the_server_shows_none() {
    let folder = Folder::new();
    folder.refused("demo --server --model model.gguf", 944, 2);
    folder.refused("base list", 944, 2);
    let help = folder.ok("demo --help").out;
    assert!(
        !help.contains("--server") && !help.contains("--model"),
        "{help}"
    );
}

#[test]
#[cfg(feature = "server")]
fn a_server_that_cannot_be_shown_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let ran = folder.refused("demo --server", 944, 2);
    assert!(ran.err.contains("--model"), "{}", ran.err);
    folder.refused("demo --model model.gguf", 944, 2);
    folder.write("model.gguf", b"no model, but nobody comes to read it");
    for line in [
        "demo --server --model model.gguf --engine no/llama-server",
        "base list --model model.gguf --engine no/llama-server",
        "serve --model model.gguf --engine no/llama-server --listen 127.0.0.1:0",
    ] {
        let ran = folder.run(line);
        assert_eq!(ran.exit, 2, "{line}: {}", ran.err);
        assert!(ran.err.contains("KVC-944"), "{line}: {}", ran.err);
        assert!(ran.err.contains("install it"), "{line}: {}", ran.err);
    }
    // as the path finds it, and as a variable names it
    let line = "demo --server --model model.gguf";
    let named = folder
        .command(line)
        .env("KVCAP_LLAMA_SERVER", "/no/such")
        .output();
    let said = String::from_utf8(named.unwrap().stderr).unwrap();
    assert!(said.contains("/no/such"), "{said}");
    let unnamed = folder.command(line).env("PATH", "").output();
    let said = String::from_utf8(unnamed.unwrap().stderr).unwrap();
    assert!(said.contains("llama-server"), "{said}");
}

/// A request as a gateway has heard it.
#[cfg(feature = "server")]
struct Heard {
    line: String,
    token: String,
    body: String,
}

/// A gateway that says what it is told to, once for each answer, and gives what it was asked.
#[cfg(feature = "server")]
fn gateway(
    answers: Vec<(&'static str, &'static str)>,
) -> (String, std::thread::JoinHandle<Vec<Heard>>) {
    use std::io::{BufRead, BufReader, Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answering = move |(status, body): (&str, &str)| {
        let mut stream = listener.accept().unwrap().0;
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let field = |name: &str| {
            let found = lines.iter().find_map(|line| {
                let (own, value) = line.split_once(": ")?;
                own.eq_ignore_ascii_case(name).then(|| value.to_owned())
            });
            found.unwrap_or_default()
        };
        let mut asked = vec![0; field("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut asked).unwrap();
        write!(
            stream,
            "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Heard {
            line: lines[0].clone(),
            token: field("authorization"),
            body: String::from_utf8(asked).unwrap(),
        }
    };
    let thread = std::thread::spawn(move || answers.into_iter().map(answering).collect());
    (address, thread)
}

#[test]
#[cfg(feature = "server")]
fn base_images_are_made_listed_and_shown_by_a_gateway() {
    use serde_json::{Value, json};

    const BASE: &str = r#"{"base":"careful","id":"00112233445566778899aabbccddeeff","positions":180,"bytes":4096,"expires":1800000000}"#;
    let folder = Folder::new();
    let token = folder.json("serve --new-token")["token"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.write("token", token.as_bytes());
    #[cfg(unix)]
    std::fs::set_permissions(
        folder.path("token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    folder.write("careful.txt", b"You are careful.");
    folder.write(
        "chat.json",
        br#"{"messages":[{"role":"system","content":"You are careful."}]}"#,
    );
    folder.write("empty.txt", b" \n");
    let list = r#"{"bases":[{"base":"careful","id":"00112233445566778899aabbccddeeff","positions":180,"bytes":4096,"expires":1800000000}]}"#;
    let there = r#"{"type":"urn:kvcap:KVC-941","title":"it exists","status":409,"code":941,"name":"local.exists"}"#;
    let (address, gateway) = gateway(vec![
        ("201", BASE),
        ("201", BASE),
        ("200", list),
        ("200", list),
        ("200", BASE),
        ("409", there),
        ("409", there),
        (
            "404",
            r#"{"type":"about:blank","title":"Not Found","status":404}"#,
        ),
    ]);
    let at = format!("--server {address} --token-file token");
    let made = folder.json(&format!("base create careful.txt {at}"));
    assert_eq!(
        (&made["base"], &made["positions"]),
        (&json!("careful"), &json!(180))
    );
    folder.ok(&format!("base create chat.json --name a-chat {at}"));
    let listed = folder.ok(&format!("base list {at}")).out;
    assert_eq!(listed.trim(), "careful  180 tokens, 4096 bytes");
    assert_eq!(
        folder.json(&format!("base list {at}"))["bases"][0]["base"],
        "careful"
    );
    let shown = folder.ok(&format!("base show careful {at}")).out;
    assert!(
        shown.contains("00112233445566778899aabbccddeeff"),
        "{shown}"
    );
    assert!(shown.contains("2027-01-15"), "{shown}");
    folder.refused(&format!("base create careful.txt {at}"), 941, 4);
    let gone = folder.run(&format!("base show none {at}"));
    assert!(gone.err.contains("Not Found"), "{}", gone.err);
    // what is refused here has asked nobody
    for line in [
        format!("base create empty.txt {at}"),
        format!("base create careful.txt --name Careful {at}"),
        format!("base show ../careful {at}"),
    ] {
        folder.refused(&line, 944, 2);
    }
    let asked = gateway.join().unwrap();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "PUT /v1/bases/careful HTTP/1.1",
            "PUT /v1/bases/a-chat HTTP/1.1",
            "GET /v1/bases HTTP/1.1",
            "GET /v1/bases HTTP/1.1",
            "GET /v1/bases/careful HTTP/1.1",
            "PUT /v1/bases/careful HTTP/1.1",
            "PUT /v1/bases/careful HTTP/1.1",
            "GET /v1/bases/none HTTP/1.1",
        ]
    );
    assert!(
        asked
            .iter()
            .all(|asked| asked.token == format!("Bearer {token}"))
    );
    let body = |at: usize| serde_json::from_str::<Value>(&asked[at].body).unwrap();
    assert_eq!(body(0), json!({"prompt": "You are careful."}));
    assert_eq!(body(1)["messages"][0]["role"], "system");
    // nobody listens any more
    folder.refused(&format!("base list {at}"), 940, 4);
}
