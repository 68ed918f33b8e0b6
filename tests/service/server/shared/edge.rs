//! What callers see of an edge: nothing but how many requests they have left, and an operator its figures.

use std::{fs, thread::sleep, time::Duration};

use kvcap_server::{NewToken, Place, Settings};
use kvcap_store::EdgeSettings;
use kvcap_testkit::{Postgres, Valkey};

use super::{BUCKET, BURST, DATABASE, EDGE, TOKEN, capsule};
use crate::support::{Client, own_process::OwnProcess, path, signer};

/// Database, bucket and edge of relays.
struct Behind {
    home: tempfile::TempDir,
    _postgres: Postgres,
    valkey: Valkey,
    token: NewToken,
}

impl Behind {
    fn start() -> Self {
        let (home, postgres, valkey) = (
            tempfile::tempdir().unwrap(),
            Postgres::start(),
            Valkey::start(),
        );
        fs::create_dir(home.path().join("bucket")).unwrap();
        postgres.write_address(&home.path().join("database"));
        valkey.write_address(&home.path().join("edge"));
        Self {
            home,
            _postgres: postgres,
            valkey,
            token: NewToken::generate().unwrap(),
        }
    }

    /// A relay that lets a tenant's first requests through, or all.
    fn relay(&self, burst: u32) -> OwnProcess {
        let at = |name| self.home.path().join(name).display().to_string();
        let variables = [
            (DATABASE, at("database")),
            (BUCKET, format!("file://{}", at("bucket"))),
            (EDGE, at("edge")),
            (TOKEN, self.token.digest().to_string()),
            (BURST, burst.to_string()),
        ];
        OwnProcess::start("shared::a_relay_of_several", variables)
    }

    fn ask(&self, relay: &OwnProcess, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut client = Client::connect(relay.address);
        let reply = client.ask(self.token.text(), method, path, &[], body);
        (reply.status, reply.body)
    }

    /// The figure of an outcome.
    fn figure(&self, relay: &OwnProcess, outcome: &str) -> u64 {
        let (status, text) = self.ask(relay, "GET", "/metrics", &[]);
        assert_eq!(status, 200);
        let name = format!("kvcap_edge_total{{outcome=\"{outcome}\"}} ");
        let text = String::from_utf8(text).unwrap();
        let mut found = text.lines().filter_map(|line| line.strip_prefix(&name));
        found.next().unwrap().parse().unwrap()
    }
}

#[test]
fn what_one_relay_lets_through_another_counts() {
    let behind = Behind::start();
    let mut relays = [behind.relay(200), behind.relay(200)];
    let file = path(&capsule(1, 0));
    for _ in 0..150 {
        assert_eq!(behind.ask(&relays[0], "GET", &file, &[]).0, 404);
    }
    // the other would let 200 through if it counted alone; it hears of them with its first request, or a later one
    let let_through = (0..200).find(|_| {
        sleep(Duration::from_millis(20));
        behind.ask(&relays[1], "GET", &file, &[]).0 == 429
    });
    assert!(let_through.is_some_and(|count| count >= 1));
    // without the edge each counts alone, and what is used up stays so
    relays[0].kill();
    let mut third = behind.relay(200);
    behind.valkey.stop();
    let alone = (0..200).all(|_| behind.ask(&third, "GET", &file, &[]).0 == 404);
    assert!(alone);
    assert_eq!(behind.ask(&third, "GET", &file, &[]).0, 429);
    behind.valkey.go_on();
    third.kill();
    relays[1].kill();
}

#[test]
fn an_edge_is_configured_beside_bucket_and_database() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let read = |lines: &str| {
        let file = home.path().join("relay.toml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\naudiences = [\"a\"]\ntrust = [\"{}\"]\n[shared]\n\
             database = \"database\"\nbucket = \"s3://capsules\"\n{lines}",
            signer().public().to_text()
        );
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let settings = Settings::read(&file).map_err(|error| error.code().number())?;
        match settings.place {
            Place::Shared { edge, .. } => Ok(edge),
            Place::Folder(_) => Err(0),
        }
    };
    let usual = EdgeSettings::at(home.path().join("edge"));
    assert_eq!(read(""), Ok(None));
    assert_eq!(read("edge = \"edge\""), Ok(Some(usual.clone())));
    let own = EdgeSettings {
        bytes: 1_000_000,
        capsules: 3,
        ..usual
    };
    let lines = "edge = \"edge\"\nedge-bytes = 1_000_000\nedge-capsules = 3";
    assert_eq!(read(lines), Ok(Some(own)));
    assert_eq!(read("edge-bytes = 1_000_000"), Err(945));
    assert_eq!(read("edge = 1"), Err(945));
}

#[test]
fn an_operator_sees_what_the_edge_does() {
    let behind = Behind::start();
    let (mut relay, file) = (behind.relay(u32::MAX), capsule(1, 0));
    assert_eq!(behind.ask(&relay, "POST", "/v1/capsules", &file).0, 201);
    let get = || {
        let (status, body) = behind.ask(&relay, "GET", &path(&file), &[]);
        assert!(status == 200 && body == file);
    };
    let until = |outcome, meanwhile: &dyn Fn()| {
        let before = behind.figure(&relay, outcome);
        let mut figures = std::iter::repeat_with(|| {
            meanwhile();
            get();
            sleep(Duration::from_millis(20));
            behind.figure(&relay, outcome)
        })
        .take(3000);
        let grown = figures.any(|now| now > before);
        assert!(grown, "{outcome} stays at {before}");
    };
    let nothing = || ();
    until("hit", &nothing);
    // what an earlier request has missed may be brought later than the edge is emptied
    until("miss", &|| drop(behind.valkey.ask(&["FLUSHALL"])));
    until("hit", &nothing);
    behind.valkey.stop();
    // what fails first may be what a request has left to be brought: nothing is asked from then on
    until("passed", &nothing);
    assert!(behind.figure(&relay, "failed") > 0);
    behind.valkey.go_on();
    until("hit", &nothing);
    relay.kill();
}
