//! What many servers share: the same rules, and those that only they need.

use std::{
    env,
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use kvcap::{
    CapsuleId, Context, Draft, Limits, Sealer, Section, SectionKind, SigningKey, Terms, Usage,
    WrappingKey,
    binding::{Digest, Model, Runtime, Tokenizer},
};
use kvcap_store::{CapsuleStore, Entry, LedgerSource, Shared, Space, Version, VersionPut};
use kvcap_testkit::Postgres;

use super::{
    claim, code, content, entry, keeps_the_rules, name, new, put, read, soon,
    versions::keeps_the_order,
};

pub(super) struct Place {
    home: tempfile::TempDir,
    postgres: Postgres,
}

impl Place {
    pub(super) fn new() -> Self {
        let (home, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
        std::fs::create_dir(home.path().join("bucket")).unwrap();
        postgres.write_address(&home.path().join("database"));
        Self { home, postgres }
    }

    /// A folder, or a place of its own in the bucket that `KVCAP_SCALE_BUCKET` names.
    fn bucket(&self) -> String {
        let home = self.home.path().display();
        let own = self.home.path().file_name().unwrap().to_str().unwrap();
        let of_server = |url| format!("{url}/{}", own.trim_start_matches('.'));
        env::var("KVCAP_SCALE_BUCKET").map_or(format!("file://{home}/bucket"), of_server)
    }

    /// One server's own connections.
    pub(super) fn connect(&self) -> Shared {
        Shared::connect(&self.home.path().join("database"), &self.bucket()).unwrap()
    }

    fn store(&self) -> Arc<dyn CapsuleStore> {
        self.connect().store()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(super) fn objects(&self) -> u64 {
        self.connect().objects().unwrap()
    }
}

#[test]
fn a_bucket_and_a_database_keep_the_rules() {
    let place = Place::new();
    keeps_the_rules(&place.store());
    let store = place.store();
    soon("no object is left", || {
        store.sweep().unwrap();
        place.objects() == 0
    });
    let left = "SELECT count(*) FROM kvcap_claim";
    assert_eq!(place.postgres.sql(left), "0");
    // once more, after an hour, garbage is removed and forgotten
    let _older = place
        .postgres
        .sql("UPDATE kvcap_garbage SET since = since - interval '2 hours'");
    store.sweep().unwrap();
    assert_eq!(
        place.postgres.sql("SELECT count(*) FROM kvcap_garbage"),
        "0"
    );
    assert_eq!(
        place
            .postgres
            .sql("SELECT count(*) FROM kvcap_tenant WHERE kept <> 0 OR coming <> 0"),
        "0"
    );
}

#[test]
fn a_database_keeps_the_order_of_versions() {
    let place = Place::new();
    keeps_the_order(&place.store(), &place.connect().versions());
    for table in ["kvcap_session", "kvcap_session_version"] {
        let left = format!("SELECT count(*) FROM {table}");
        assert_eq!(place.postgres.sql(&left), "0", "{table}");
    }
}

#[test]
fn servers_see_at_once_what_another_keeps() {
    let place = Place::new();
    let (one, other) = (place.store(), place.store());
    let kept = entry(1, 1000);
    put(&*one, name(1), &kept);
    assert_eq!(other.get(name(1)).unwrap(), Some(kept.clone()));
    assert_eq!(read(&*other, name(1)), content(&kept));
    assert_eq!(code(claim(&*other, name(1), &entry(2, 10), 10_000)), 941);
    assert!(other.remove(name(1)).unwrap());
    assert_eq!(one.get(name(1)).unwrap(), None);
}

#[test]
fn a_lease_that_ended_is_another_s_and_its_holder_keeps_nothing() {
    let place = Place::new();
    let (slow, other) = (place.store(), place.store());
    let (lost, won) = (entry(1, 60), entry(2, 60));
    let mut slow_one = new(claim(&*slow, name(1), &lost, 100));
    slow_one.append(&content(&lost)).unwrap();
    assert_eq!(code(claim(&*other, name(1), &won, 100)), 947);
    let _late = place
        .postgres
        .sql("UPDATE kvcap_claim SET until = now() - interval '1 second'");
    // its room is free with it
    let mut arriving = new(claim(&*other, name(1), &won, 100));
    arriving.append(&content(&won)).unwrap();
    assert_eq!(slow_one.keep(lost).unwrap_err().code().number(), 947);
    arriving.keep(won.clone()).unwrap();
    assert_eq!(read(&*slow, name(1)), content(&won));
    assert_eq!(other.counts().unwrap(), (1, 60));
    soon("the object of who lost is removed", || {
        other.sweep().unwrap();
        place.objects() == 1
    });
    assert_eq!(read(&*slow, name(1)), content(&won));
}

#[test]
fn what_a_killed_server_was_doing_is_swept() {
    let place = Place::new();
    let store = place.store();
    let entry = entry(1, 60);
    let mut arriving = new(claim(&*store, name(1), &entry, 100));
    arriving.append(&content(&entry)).unwrap();
    // a server that is killed drops nothing
    std::mem::forget(arriving);
    let _late = place
        .postgres
        .sql("UPDATE kvcap_claim SET until = now() - interval '1 second'");
    store.sweep().unwrap();
    assert_eq!(place.postgres.sql("SELECT count(*) FROM kvcap_claim"), "0");
    assert_eq!(
        place.postgres.sql("SELECT sum(coming) FROM kvcap_tenant"),
        "0"
    );
    put(&*store, name(1), &entry);
}

#[test]
fn a_server_that_is_cut_off_in_a_transaction_does_not_hold_others_up() {
    let place = Place::new();
    let way = place.path("way");
    let cut = way_that_is_cut(&way, place.postgres.address());
    let address = place.path("by-way");
    std::fs::write(&address, place.postgres.address_at(way.to_str().unwrap())).unwrap();
    std::fs::set_permissions(&address, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = Shared::connect(&address, &place.bucket()).unwrap().store();
    put(&*store, name(1), &entry(1, 60));
    cut.store(true, Ordering::SeqCst);
    // it never hears of anything again
    let (begun, has_begun) = mpsc::channel();
    let cut_off = thread::spawn(move || {
        begun.send(()).unwrap();
        drop(claim(&*store, name(2), &entry(2, 60), u64::MAX));
    });
    has_begun.recv().unwrap();
    let has_the_tenant = "SELECT count(*) > 0 FROM pg_stat_activity
                          WHERE state = 'idle in transaction' AND query LIKE '%INTO kvcap_tenant%'";
    soon("it has the tenant's row in hand", || {
        place.postgres.sql(has_the_tenant) == "t"
    });
    let (other, (done, is_done)) = (place.store(), mpsc::channel());
    thread::spawn(move || {
        put(&*other, name(3), &entry(3, 60));
        done.send(()).unwrap();
    });
    let in_time = is_done.recv_timeout(Duration::from_secs(30));
    assert!(in_time.is_ok(), "another waits for it");
    assert!(!cut_off.is_finished(), "it was not cut off");
}

/// A folder with a socket that leads to the database's, until it is cut: then no more transaction is ended over it, and
/// nothing comes back.
fn way_that_is_cut(way: &Path, address: String) -> Arc<AtomicBool> {
    std::fs::create_dir(way).unwrap();
    let socket = |folder: &Path| folder.join(".s.PGSQL.5432");
    let host = address.split_once("host=").unwrap().1;
    let database = socket(Path::new(host.split(' ').next().unwrap()));
    let (listener, cut) = (
        UnixListener::bind(socket(way)).unwrap(),
        Arc::new(AtomicBool::new(false)),
    );
    let is_cut = Arc::clone(&cut);
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = UnixStream::connect(&database).unwrap();
            let both = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let lost = Arc::new(AtomicBool::new(false));
            for (mut from, mut to, is_asking) in [(client, server, true), (both.1, both.0, false)] {
                let (is_cut, lost) = (Arc::clone(&is_cut), Arc::clone(&lost));
                thread::spawn(move || {
                    let mut bytes = [0; 65_536];
                    while let Ok(len @ 1..) = from.read(&mut bytes) {
                        let bytes = &bytes[..len];
                        let ends = is_asking && bytes.windows(6).any(|word| word == b"COMMIT");
                        if ends && is_cut.load(Ordering::SeqCst) {
                            lost.store(true, Ordering::SeqCst);
                        }
                        if !lost.load(Ordering::SeqCst) && to.write_all(bytes).is_err() {
                            return;
                        }
                    }
                    // neither end is told
                    while lost.load(Ordering::SeqCst) {
                        thread::park();
                    }
                });
            }
        }
    });
    cut
}

#[test]
fn the_index_is_made_again_from_the_bucket() {
    let place = Place::new();
    let (shared, file) = (
        place.connect(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join(CAPSULE),
    );
    let (store, bytes) = (shared.store(), std::fs::read(file).unwrap());
    let limits = Limits::default();
    let kept = Entry::read(&bytes[..], &limits).unwrap();
    let id = (Space::of(None, None), CapsuleId([5; 16]));
    let mut arriving = new(claim(&*store, id, &kept, u64::MAX));
    arriving.append(&bytes).unwrap();
    arriving.keep(kept.clone()).unwrap();
    // what is no capsule is no row
    put(&*store, name(1), &entry(1, 60));
    let _lost = place.postgres.sql("TRUNCATE kvcap_capsule, kvcap_tenant");
    assert_eq!(store.get(id).unwrap(), None);
    assert_eq!(shared.rebuild(&limits).unwrap(), 1);
    assert_eq!(shared.rebuild(&limits).unwrap(), 0);
    assert_eq!(store.get(id).unwrap(), Some(kept.clone()));
    assert_eq!(read(&*store, id), bytes);
    assert_eq!(store.counts().unwrap(), (1, kept.bytes));
}

/// A sealed version, as its header shows it.
fn sealed_version(session: &str, version: u64) -> (CapsuleId, Vec<u8>) {
    let none = Digest([0; 32]);
    let kinds = [SectionKind::History, SectionKind::Other("log".to_owned())];
    let context = Context::new(
        Model::new(none, none, none),
        Tokenizer::new(none, 1),
        Runtime::new("kvcap", "history"),
        0..1,
        1,
        kinds.map(|kind| Section::new(kind, 0).into()).to_vec(),
    );
    let mut terms = Terms::new("acme", "a", 1_800_000_000, 1_800_000_100);
    terms.session = Some(kvcap::Session {
        id: session.to_owned(),
        version,
        replay_cursor: version,
    });
    let signer = SigningKey::generate()
        .unwrap()
        .speaking_for("acme")
        .unwrap();
    let key = WrappingKey::generate().unwrap();
    let out = Mutex::new(Vec::new());
    let sealer = Sealer::new(out, Draft::new(terms, context), &signer, &[&key]).unwrap();
    for _ in 0..2 {
        sealer.end_stream().unwrap();
    }
    let (out, sealed) = sealer.finish().unwrap();
    (sealed.id, out.into_inner().unwrap())
}

#[test]
fn the_order_of_versions_is_made_again_up_to_where_it_is_not_known() {
    let place = Place::new();
    let (shared, space) = (place.connect(), Space::of(None, None));
    let (store, limits) = (shared.store(), Limits::default());
    let mut ids = Vec::new();
    // the third was put by two devices, of which one has lost
    for version in [1, 2, 3, 3, 4] {
        let (id, bytes) = sealed_version("s", version);
        let kept = Entry::read(&bytes[..], &limits).unwrap();
        let mut arriving = new(claim(&*store, (space, id), &kept, u64::MAX));
        arriving.append(&bytes).unwrap();
        arriving.keep(kept).unwrap();
        ids.push(id);
    }
    let tables = "kvcap_capsule, kvcap_tenant, kvcap_session, kvcap_session_version";
    let _lost = place.postgres.sql(&format!("TRUNCATE {tables}"));
    assert_eq!(shared.rebuild(&limits).unwrap(), 5);
    let told = |after| shared.versions().versions(space, "s", after, 9).unwrap();
    let known: Vec<CapsuleId> = told(0).iter().map(|version| version.capsule).collect();
    assert_eq!(known, ids[..2]);
    // whoever has what follows puts it, and another rebuild keeps that
    let next = Version {
        version: 3,
        cursor: 3,
        ..told(1)[0].clone()
    };
    let next = Version {
        capsule: ids[3],
        ..next
    };
    let put = shared.versions().put_version(space, "s", &next, 2);
    assert_eq!(put.unwrap(), VersionPut::New);
    assert_eq!(shared.rebuild(&limits).unwrap(), 0);
    assert_eq!(told(2)[0].capsule, ids[3]);
}

/// A capsule of the frozen vectors.
const CAPSULE: &str = "../../testvectors/vectors/exact_multiple.kvcap";

#[test]
fn of_sixteen_servers_one_uses_a_capsule_for_one_use() {
    let place = Place::new();
    let begin = Arc::new(Barrier::new(16));
    let servers: Vec<_> = (0..16_u64)
        .map(|_| {
            let (shared, begin) = (place.connect(), Arc::clone(&begin));
            thread::spawn(move || {
                begin.wait();
                let mut terms = Terms::new("acme", "a", 1_800_000_000, 1_800_000_100);
                terms.single_use = true;
                let usage = Usage::of(&Digest([1; 32]), &terms, 1_800_000_000);
                shared.open().unwrap().record(&usage)
            })
        })
        .collect();
    let used: Vec<bool> = servers
        .into_iter()
        .map(|server| server.join().unwrap().is_ok())
        .collect();
    assert_eq!(used.iter().filter(|used| **used).count(), 1);
}

#[test]
fn a_file_of_an_address_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let path = place.home.path().join("database");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Shared::connect(&path, &place.bucket()).unwrap_err();
    assert_eq!(refused.code().number(), 943);
    place.postgres.write_address(&path);
    let refused = Shared::connect(&path, "ftp://somewhere/else").unwrap_err();
    assert_eq!(refused.code().number(), 945);
    let secret = "postgres://kvcap:geheim@:x/";
    std::fs::write(&path, secret).unwrap();
    let refused = Shared::connect(&path, &place.bucket()).unwrap_err();
    assert_eq!(refused.code().number(), 945);
    assert!(!refused.to_string().contains("geheim"), "{refused}");
}
