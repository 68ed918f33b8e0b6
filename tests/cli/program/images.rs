//! Base images in registries of containers: Debian's own, and one that lies.

#![cfg(feature = "server")]
#![allow(clippy::panic, reason = "a test that cannot begin its server fails")]

mod referrers;

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::{
    authority::certify,
    support::{Folder, KEYS, TRUST},
};

/// A docker-registry of a test's own.
struct Registry {
    server: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// `ana` and "secret of a test", as htpasswd writes it.
const USER: &str = "ana:$2b$04$GwVKiO6A.vGo6ZvkktJqu.y2lcSdO68IQT6ywIN/McSoRNwY6evKy\n";

impl Registry {
    fn start(has_user: bool) -> Self {
        let auth =
            |home: &str| format!("auth: {{htpasswd: {{realm: test, path: {home}/htpasswd}}}}\n");
        Self::with(if has_user { &auth } else { &|_| String::new() }, "")
    }

    /// One with lines of its own in its configuration, and beside its address.
    fn with(lines: &dyn Fn(&str) -> String, beside: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (home, config) = (folder.path().display(), folder.path().join("config.yml"));
        let mut text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {home}/images}}}}\n"
        );
        fs::write(folder.path().join("htpasswd"), USER).unwrap();
        text += &lines(&home.to_string());
        let begun = Instant::now();
        loop {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            fs::write(
                &config,
                format!("{text}http: {{addr: \"{address}\"{beside}}}\n"),
            )
            .unwrap();
            let server = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(mut server) = server else {
                panic!("no docker-registry is installed: apt-get install docker-registry");
            };
            while server.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self {
                        server,
                        address,
                        _folder: folder,
                    };
                }
                thread::sleep(Duration::from_millis(20));
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it does not begin"
            );
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ended = self.server.kill();
        let _reaped = self.server.wait();
    }
}

/// A folder with a base image, and another of the same state.
fn with_bases() -> Folder {
    let folder = Folder::new();
    for name in ["base", "other"] {
        folder.ok(&format!(
            "seal state.bin -o {name}.kvcap --base --public-prefix --tokens prompt.json --model model --ttl 1h {KEYS}"
        ));
    }
    folder
}

fn text(told: &serde_json::Value, name: &str) -> String {
    told[name].as_str().unwrap().to_owned()
}

#[test]
fn a_base_image_goes_through_a_registry_of_containers_and_comes_back_verified() {
    let (folder, registry) = (with_bases(), Registry::start(false));
    let image = format!("{}/bases/agent", registry.address);
    let policy = format!("{TRUST} --model model");
    let pushed = folder.json(&format!("base push base.kvcap {image}:v1"));
    let digest = text(&pushed, "digest");
    let again = folder.json(&format!("base push base.kvcap {image}:v1"));
    assert_eq!(again, pushed, "the same bytes have one digest");
    let pulled = folder.json(&format!("base pull {image}:v1 -o back.kvcap {policy}"));
    assert_eq!(text(&pulled, "digest"), digest);
    assert_eq!(folder.read("back.kvcap"), folder.read("base.kvcap"));
    folder.refused(
        &format!("base pull {image}:v1 -o back.kvcap {policy}"),
        941,
        4,
    );
    // the tag is moved; the digest is not
    let moved = folder.json(&format!("base push other.kvcap {image}:v1"));
    assert_ne!(text(&moved, "digest"), digest);
    let pulled = folder.json(&format!("base pull {image}:v1 -o moved.kvcap {policy}"));
    assert_eq!(pulled["digest"], moved["digest"]);
    assert_eq!(folder.read("moved.kvcap"), folder.read("other.kvcap"));
    for pinned in [format!("{image}@{digest}"), format!("{image}:v1@{digest}")] {
        folder.json(&format!("base pull {pinned} -o pinned.kvcap -f {policy}"));
        assert_eq!(folder.read("pinned.kvcap"), folder.read("base.kvcap"));
    }
    let piped = folder.run(&format!("base pull {image}@{digest} -o - {policy}"));
    assert_eq!(piped.stdout, folder.read("base.kvcap"));
    // what is pushed is what its digest says, and a base image
    folder.refused(
        &format!("base push other.kvcap {image}:v2@{digest}"),
        944,
        2,
    );
    folder.ok(&format!(
        "seal state.bin -o own.kvcap --tokens prompt.json --model model --ttl 1h {KEYS}"
    ));
    folder.refused(&format!("base push own.kvcap {image}:v2"), 944, 2);
    // who is not trusted has pushed in vain
    folder.ok("keygen sign -o stranger.key --issuer lab");
    for (line, code, exit) in [
        (format!("{image}:v1 {policy} --audience elsewhere"), 405, 1),
        (
            format!("{image}:v1 --trust stranger.key.pub --model model"),
            301,
            1,
        ),
        (format!("{image}:v9 {policy}"), 940, 4),
        (
            format!("{image}@sha256:{} {policy}", "0".repeat(64)),
            940,
            4,
        ),
        (format!("{image} {policy}"), 944, 2),
    ] {
        folder.refused(&format!("base pull -o no.kvcap {line}"), code, exit);
        assert!(!folder.has("no.kvcap"), "{line}");
    }
}

#[test]
fn a_registry_that_asks_is_told_who_it_is_and_from_a_private_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, registry) = (with_bases(), Registry::start(true));
    let image = format!("{}/bases/agent:v1", registry.address);
    folder.refused(&format!("base push base.kvcap {image}"), 940, 4);
    let write = |password: &str| {
        let auth = format!(r#"{{"username": "ana", "password": "{password}"}}"#);
        let file = format!(
            r#"{{"auths": {{"{}": {auth}}}, "credsStore": "x"}}"#,
            registry.address
        );
        folder.write("config.json", file.as_bytes());
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.path("config.json"), private).unwrap();
    };
    write("another");
    let push = format!("base push base.kvcap {image} --auth-file config.json");
    let refused = folder.refused(&push, 940, 4);
    assert!(!refused.err.contains("another"), "{}", refused.err);
    write("secret of a test");
    folder.ok(&push);
    let pull = format!("base pull {image} -o back.kvcap {TRUST} --model model");
    folder.refused(&pull, 940, 4);
    folder.ok(&format!("{pull} --auth-file config.json"));
    assert_eq!(folder.read("back.kvcap"), folder.read("base.kvcap"));
    folder.write("config.json", br#"{"auths": {"secret": 1}}"#);
    folder.refused(&push, 945, 2);
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path("config.json"), open).unwrap();
    folder.refused(&push, 943, 2);
}

/// Answers by method and path: status, headers and body.
type Answers = HashMap<String, (u16, Vec<(&'static str, String)>, Vec<u8>)>;

/// A registry that answers the requests of `answers`, each named after what it brings in small letters for its
/// authorization, if it brings something; any other by 404.
fn lying(answers: impl FnOnce(SocketAddr) -> Answers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Arc::new(answers(address));
    let _for_as_long_as_the_tests = thread::spawn(move || {
        for stream in listener.incoming() {
            let answers = Arc::clone(&answers);
            thread::spawn(move || answer(stream.unwrap(), &answers));
        }
    });
    address
}

fn answer(stream: TcpStream, answers: &Answers) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let line = lines.next()?.ok()?;
    let mut authorization = String::new();
    for line in lines.by_ref() {
        let line = line.ok()?.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("authorization: ") {
            authorization = format!("{value} ");
        }
        if line.is_empty() {
            break;
        }
    }
    let asked = line.strip_suffix(" HTTP/1.1")?;
    // who comes with a secret that is not looked for finds nothing
    let found = answers.get(&format!("{authorization}{asked}"));
    let nothing = (404, Vec::new(), Vec::new());
    let (status, headers, body) = found.unwrap_or(&nothing);
    let mut head = format!("HTTP/1.1 {status} told\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "content-length") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    (&stream).write_all((head + "\r\n").as_bytes()).ok()?;
    (&stream).write_all(body).ok()?;
    // who still sends is not cut off before it has read this
    stream.shutdown(Shutdown::Write).ok()?;
    io::copy(&mut &stream, &mut io::sink()).ok().map(drop)
}

fn sha256(bytes: &[u8]) -> String {
    let digits: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{}", digits.concat())
}

fn manifest(layer: &str, size: usize) -> Vec<u8> {
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let config = format!(
        r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}}"#
    );
    let layer =
        format!(r#"{{"mediaType":"application/vnd.kvcap","digest":"{layer}","size":{size}}}"#);
    let types = r#""mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.kvcap""#;
    format!(r#"{{"schemaVersion":2,{types},"config":{config},"layers":[{layer}]}}"#).into_bytes()
}

#[test]
fn nothing_appears_of_what_a_registry_should_not_give() {
    let folder = with_bases();
    let (good, other) = (folder.read("base.kvcap"), folder.read("other.kvcap"));
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let digest = sha256(&good);
    let whole = manifest(&digest, good.len());
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let address = lying(|_| {
        let mut answers = Answers::new();
        let mut image = |name: &str, manifest: &[u8], layer: &str, blob: &[u8], headers| {
            let path = |what: &str| format!("GET /v2/{name}/{what}");
            answers.insert(path("manifests/v1"), (200, Vec::new(), manifest.to_vec()));
            let pinned = path(&format!("manifests/{}", sha256(b"another")));
            answers.insert(pinned, (200, Vec::new(), manifest.to_vec()));
            answers.insert(
                path(&format!("blobs/{layer}")),
                (200, headers, blob.to_vec()),
            );
        };
        let none = Vec::new;
        image("good", &whole, &digest, &good, none());
        image("bytes", &whole, &digest, &damaged, none());
        image("short", &whole, &digest, &good[..good.len() - 1], none());
        let cut = vec![("content-length", good.len().to_string())];
        image("cut", &whole, &digest, &good[..5000], cut);
        image("long", &whole, &digest, &[&good[..], b"x"].concat(), none());
        image("index", index, &digest, &good, none());
        image("nothing", b"", &digest, &good, none());
        image("missing", &whole, "elsewhere", &good, none());
        // a registry may name what it likes: this is not what was sealed
        let own = sha256(&damaged);
        image(
            "signed",
            &manifest(&own, damaged.len()),
            &own,
            &damaged,
            none(),
        );
        let swapped = sha256(&other);
        image(
            "huge",
            &manifest(&swapped, usize::MAX / 2),
            &swapped,
            &other,
            none(),
        );
        answers
    });
    let pull =
        |name: &str| format!("base pull {address}/{name} -o got.kvcap {TRUST} --model model");
    folder.ok(&pull("good:v1"));
    fs::remove_file(folder.path("got.kvcap")).unwrap();
    let pinned = format!("good:v1@{}", sha256(b"another"));
    for (name, code, exit) in [
        (&*pinned, 940, 4),
        ("bytes:v1", 940, 4),
        ("short:v1", 940, 4),
        ("cut:v1", 940, 4),
        ("long:v1", 940, 4),
        ("index:v1", 940, 4),
        ("nothing:v1", 940, 4),
        ("missing:v1", 940, 4),
        ("huge:v1", 910, 3),
    ] {
        folder.refused(&pull(name), code, exit);
        assert!(!folder.has("got.kvcap"), "{name}");
    }
    let damaged = folder.run(&pull("signed:v1"));
    assert!(damaged.exit == 1 || damaged.exit == 3, "{}", damaged.err);
    assert!(!folder.has("got.kvcap"));
    let left: Vec<String> = folder.names();
    assert!(
        !left.iter().any(|name| name.contains("got.kvcap")),
        "{left:?}"
    );
}

#[test]
fn a_token_is_asked_for_where_a_registry_says_and_no_secret_goes_elsewhere() {
    let folder = with_bases();
    let good = folder.read("base.kvcap");
    let digest = sha256(&good);
    let elsewhere = lying(|_| {
        let blob = (200, Vec::new(), good.clone());
        Answers::from([("GET /moved".to_owned(), blob)])
    });
    let address = lying(|address| {
        let realm = |host: String| {
            let asked = format!(
                "Bearer realm=\"http://{host}/token\",service=\"a b\",scope=\"repository:x:pull\""
            );
            (401, vec![("www-authenticate", asked)], Vec::new())
        };
        let query = "/token?service=a%20b&scope=repository%3Ax%3Apull";
        let token = br#"{"token": "short-lived"}"#.to_vec();
        let moved = vec![("location", format!("http://{elsewhere}/moved"))];
        let blob = format!("GET /v2/x/blobs/{digest}");
        Answers::from([
            (
                "GET /v2/x/manifests/v1".to_owned(),
                realm(address.to_string()),
            ),
            (
                "GET /v2/far/manifests/v1".to_owned(),
                realm("auth.example.com".to_owned()),
            ),
            (
                format!("basic yw5honnly3jlda== GET {query}"),
                (200, Vec::new(), token),
            ),
            (
                "bearer short-lived GET /v2/plain/manifests/v1".to_owned(),
                (200, Vec::new(), manifest(&digest, good.len())),
            ),
            (
                format!("bearer short-lived GET /v2/plain/blobs/{digest}"),
                (
                    302,
                    vec![("location", "http://blobs.example.com/x".to_owned())],
                    Vec::new(),
                ),
            ),
            (
                "GET /v2/plain/manifests/v1".to_owned(),
                realm(address.to_string()),
            ),
            (
                "bearer short-lived GET /v2/x/manifests/v1".to_owned(),
                (200, Vec::new(), manifest(&digest, good.len())),
            ),
            (
                format!("bearer short-lived {blob}"),
                (307, moved, Vec::new()),
            ),
        ])
    });
    // "ana:secret"
    let file = format!(r#"{{"auths": {{"{address}": {{"auth": "YW5hOnNlY3JldA=="}}}}}}"#);
    folder.write("config.json", file.as_bytes());
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(folder.path("config.json"), private).unwrap();
    let pull = |image: &str| {
        format!(
            "base pull {address}/{image} -o got.kvcap --auth-file config.json {TRUST} --model model"
        )
    };
    folder.ok(&pull("x:v1"));
    assert_eq!(folder.read("got.kvcap"), good);
    fs::remove_file(folder.path("got.kvcap")).unwrap();
    for image in ["far:v1", "plain:v1"] {
        let refused = folder.refused(&pull(image), 940, 4);
        assert!(refused.err.contains("plain HTTP"), "{}", refused.err);
        assert!(!folder.has("got.kvcap"), "{image}");
    }
    // without the file there is no token
    folder.refused(
        &format!("base pull {address}/x:v1 -o got.kvcap {TRUST} --model model"),
        940,
        4,
    );
}

#[test]
fn a_registry_s_certificate_is_of_an_authority_that_the_caller_names() {
    let (folder, others) = (with_bases(), Folder::empty());
    certify(&folder);
    certify(&others);
    folder.write("others.pem", &others.read("ca.pem"));
    let files = ["tls.pem", "tls.key"].map(|name| folder.path(name).display().to_string());
    let tls = format!(", tls: {{certificate: {}, key: {}}}", files[0], files[1]);
    let registry = Registry::with(&|_| String::new(), &tls);
    let push = format!("base push base.kvcap {}/bases/agent:v1", registry.address);
    folder.refused(&push, 940, 4);
    let refused = folder.refused(&format!("{push} --ca others.pem"), 940, 4);
    assert!(
        refused.err.contains("an authority that is not known"),
        "{}",
        refused.err
    );
    folder.refused(&format!("{push} --ca tls.key"), 945, 2);
    folder.ok(&format!("{push} --ca ca.pem"));
}
