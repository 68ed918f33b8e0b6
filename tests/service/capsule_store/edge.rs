//! An edge before bucket and database: the same rules, and that it decides nothing but how long an answer takes.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use kvcap_store::{CapsuleStore, Edge, EdgeOutcomes, EdgeSettings, Entry, Name, Space};
use kvcap_testkit::Valkey;

use super::{content, entry, keeps_the_rules, name, put, read, shared::Place, soon};
use crate::{claim, new};

/// A bucket, a database and an edge.
struct Front {
    place: Place,
    valkey: Valkey,
}

/// One server of them.
struct Server {
    store: Arc<dyn CapsuleStore>,
    edge: Arc<dyn Edge>,
}

impl Front {
    fn new() -> Self {
        let (place, valkey) = (Place::new(), Valkey::start());
        valkey.write_address(&place.path("edge"));
        Self { place, valkey }
    }

    fn settings(&self) -> EdgeSettings {
        EdgeSettings::at(self.place.path("edge"))
    }

    fn server(&self) -> Server {
        Server::of(&self.place, &self.settings())
    }

    /// Names of objects that the edge has something of.
    fn held(&self) -> Vec<String> {
        let mut held = self.valkey.ask(&["KEYS", "kvcap:*.kvcap"]);
        held.retain(|name| !name.is_empty());
        held
    }

    /// Takes the bucket away: what is read now is read at the edge.
    fn hide_bucket(&self) -> Hidden {
        let (bucket, away) = (self.place.path("bucket"), self.place.path("away"));
        fs::rename(&bucket, &away).unwrap();
        Hidden { bucket, away }
    }
}

struct Hidden {
    bucket: PathBuf,
    away: PathBuf,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        fs::rename(&self.away, &self.bucket).unwrap();
    }
}

impl Server {
    fn of(place: &Place, settings: &EdgeSettings) -> Self {
        let shared = place.connect().with_edge(settings).unwrap();
        Self {
            store: shared.store(),
            edge: shared.edge().unwrap(),
        }
    }

    fn outcomes(&self) -> EdgeOutcomes {
        self.edge.outcomes()
    }

    /// Reads until the edge has had all of it.
    fn read_hot(&self, name: Name, expected: &Entry) {
        soon("the edge has it", || {
            let before = self.outcomes();
            assert!(read(&*self.store, name) == content(expected));
            let after = self.outcomes();
            after.hits > before.hits
                && EdgeOutcomes {
                    hits: before.hits,
                    ..after
                } == before
        });
    }
}

#[test]
fn a_bucket_and_a_database_behind_an_edge_keep_the_rules() {
    let front = Front::new();
    let server = front.server();
    keeps_the_rules(&server.store);
    soon("no object is left", || {
        server.store.sweep().unwrap();
        front.place.objects() == 0
    });
    assert!(server.outcomes().hits + server.outcomes().misses > 0);
}

#[test]
fn what_was_put_is_read_at_the_edge_alone() {
    let front = Front::new();
    let (one, other) = (front.server(), front.server());
    let kept = entry(1, 1_000_000);
    put(&*one.store, name(1), &kept);
    other.read_hot(name(1), &kept);
    for key in front.valkey.ask(&["KEYS", "kvcap:*"]) {
        let seconds: u32 = front.valkey.ask(&["TTL", &key])[0].parse().unwrap();
        assert!((1..=3600).contains(&seconds), "{key} stays {seconds} s");
    }
    let hidden = front.hide_bucket();
    assert!(read(&*other.store, name(1)) == content(&kept));
    drop(hidden);
    // and what was flushed comes again with who reads it
    let _flushed = front.valkey.ask(&["FLUSHALL"]);
    let before = other.outcomes().misses;
    assert!(read(&*other.store, name(1)) == content(&kept));
    assert!(other.outcomes().misses > before);
    one.read_hot(name(1), &kept);
}

#[test]
fn what_was_removed_or_replaced_is_not_found_at_the_edge() {
    let front = Front::new();
    let (one, other) = (front.server(), front.server());
    let old = entry(1, 300_000);
    put(&*one.store, name(1), &old);
    other.read_hot(name(1), &old);
    let renewed = Entry {
        expires: 200,
        ..entry(2, 300_000)
    };
    // all that the edge has of the old one stays where it is
    let left = front.held();
    let mut arriving = new(claim(&*one.store, name(1), &renewed, u64::MAX));
    arriving.append(&content(&renewed)).unwrap();
    arriving.keep(renewed.clone()).unwrap();
    assert_eq!(other.store.open(name(1)).unwrap().unwrap().0, renewed);
    assert!(read(&*other.store, name(1)) == content(&renewed));
    assert!(left.iter().all(|object| front.held().contains(object)));
    other.read_hot(name(1), &renewed);
    assert!(one.store.remove(name(1)).unwrap());
    assert!(other.store.open(name(1)).unwrap().is_none());
    let held = |object: &String| !left.contains(object);
    soon("and it is told to forget what was removed", || {
        !front.held().iter().any(held)
    });
}

#[test]
fn what_no_server_has_brought_is_not_believed() {
    let front = Front::new();
    let server = front.server();
    let (one, other) = (entry(1, 500), entry(2, 500));
    put(&*server.store, name(1), &one);
    put(&*server.store, name(2), &other);
    server.read_hot(name(1), &one);
    server.read_hot(name(2), &other);
    let is_of = |id: u8, object: &&String| object.contains(&format!("/{}-", name(id).1));
    let held = front.held();
    let mine = held.iter().find(|object| is_of(1, object)).unwrap();
    let theirs = held.iter().find(|object| is_of(2, object)).unwrap();
    // another's piece, a made one, one that is cut off, nothing at all
    let copied = "redis.call('HSET', KEYS[1], '0', redis.call('HGET', KEYS[2], '0'))";
    let cut = "redis.call('HSET', KEYS[1], '0', string.sub(redis.call('HGET', KEYS[1], '0'), 2))";
    for poison in [
        vec!["EVAL", copied, "2", mine, theirs],
        vec!["HSET", mine, "0", &"x".repeat(532)],
        vec!["EVAL", cut, "1", mine],
        vec!["HSET", mine, "0", ""],
    ] {
        server.read_hot(name(1), &one);
        let before = server.outcomes().wrong;
        let _poisoned = front.valkey.ask(&poison);
        assert!(read(&*server.store, name(1)) == content(&one));
        assert_eq!(server.outcomes().wrong, before + 1, "{poison:?}");
    }
}

#[test]
fn the_newest_of_a_space_are_kept_and_the_beginning_of_what_is_long() {
    let front = Front::new();
    let settings = EdgeSettings {
        bytes: 300_000,
        capsules: 2,
        ..front.settings()
    };
    let server = Server::of(&front.place, &settings);
    for id in 1..=3 {
        let kept = entry(id, 300_000);
        put(&*server.store, name(id), &kept);
        server.read_hot(name(id), &kept);
    }
    let held = front.held();
    assert_eq!(held.len(), 2, "{held:?}");
    let first = name(1).1.to_string();
    assert!(!held.iter().any(|object| object.contains(&first)));
    // of another space there is room
    let (elsewhere, kept) = (
        (Space::of(Some("other"), None), name(4).1),
        entry(4, 300_001),
    );
    put(&*server.store, elsewhere, &kept);
    soon("its beginning is there", || front.held().len() == 3);
    let beginning = |server: &Server| {
        let (_, file) = server.store.open(elsewhere).unwrap().unwrap();
        let mut header = vec![0; 4096];
        file.read_exact_at(0, &mut header).unwrap();
        assert!(header == content(&kept)[..4096]);
    };
    let hidden = front.hide_bucket();
    beginning(&server);
    let (_, file) = server.store.open(elsewhere).unwrap().unwrap();
    assert!(file.read_exact_at(300_000, &mut [0]).is_err());
    drop(hidden);
    assert!(read(&*server.store, elsewhere) == content(&kept));
}

#[test]
fn an_edge_that_dies_stalls_or_forgets_changes_no_answer() {
    let mut front = Front::new();
    let server = front.server();
    let works = |id: u8| {
        let kept = entry(id, 700_000);
        put(&*server.store, name(id), &kept);
        assert_eq!(server.store.get(name(id)).unwrap(), Some(kept.clone()));
        assert!(read(&*server.store, name(id)) == content(&kept));
        assert!(server.store.remove(name(id)).unwrap());
        assert!(server.store.open(name(id)).unwrap().is_none());
    };
    let hot = entry(1, 700_000);
    put(&*server.store, name(1), &hot);
    server.read_hot(name(1), &hot);
    front.valkey.stop();
    let before = server.outcomes();
    // nobody waits for what has not answered once: were it asked each time, this would be counted
    for id in 2..5 {
        works(id);
        assert!(read(&*server.store, name(1)) == content(&hot));
    }
    assert!(server.outcomes().failed > before.failed);
    assert!(server.outcomes().passed > before.passed);
    front.valkey.go_on();
    server.read_hot(name(1), &hot);
    front.valkey.kill();
    works(2);
    assert!(read(&*server.store, name(1)) == content(&hot));
    front.valkey.start_again();
    // it has lost all, and gets it again
    server.read_hot(name(1), &hot);
    // one that has no room says so, and is let be
    let _full = front.valkey.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let _flushed = front.valkey.ask(&["FLUSHALL"]);
    works(2);
    assert!(read(&*server.store, name(1)) == content(&hot));
    let _room = front.valkey.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    server.read_hot(name(1), &hot);
}

#[test]
fn a_server_begins_and_works_without_its_edge() {
    let place = Place::new();
    let write = |address: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = place.path("edge");
        fs::write(&path, address).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        EdgeSettings::at(path)
    };
    // nobody listens; nobody answers a connection; somebody does who speaks otherwise
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = full.local_addr().unwrap();
    let _waiting: Vec<_> = (0..5).map(|_| TcpStream::connect(at).unwrap()).collect();
    for address in [
        format!("unix://{}", place.path("nothing").display()),
        format!("redis://{at}"),
        format!("rediss://{at}"),
    ] {
        let server = Server::of(&place, &write(&address));
        let kept = entry(1, 1000);
        put(&*server.store, name(1), &kept);
        assert!(read(&*server.store, name(1)) == content(&kept));
        assert!(server.store.remove(name(1)).unwrap());
        let none = EdgeOutcomes {
            passed: server.outcomes().passed,
            ..EdgeOutcomes::default()
        };
        assert_eq!(server.outcomes(), none, "{address}");
    }
    let refused = |settings: &EdgeSettings| {
        let refused = place.connect().with_edge(settings).unwrap_err();
        assert!(!refused.to_string().contains("geheim"), "{refused}");
        refused.code().number()
    };
    assert_eq!(refused(&write("https://:geheim@somewhere/else")), 945);
    assert_eq!(refused(&write(" ")), 945);
    let open = write("redis://127.0.0.1");
    fs::set_permissions(
        &open.address,
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    assert_eq!(refused(&open), 943);
}
