//! `kvcap-bench edge`: how long a relay takes to give a capsule out, with and without an edge before its bucket.

use std::{env, fs, path::Path, thread::sleep, time::Duration};

use kvcap::{Code, Error, Result, SigningKey};
use kvcap_server::{NewToken, Running, Server, Settings};
use kvcap_store::output::{self, Readers};
use kvcap_testkit::{Postgres, Valkey};
use serde_json::{Value, json};

use super::{
    report::{Report, bytes},
    server::{
        capsules::{AUDIENCE, Maker},
        client::{Connection, upload},
        quantile,
    },
    timed,
};

/// Measures how long a relay takes to give a capsule out, its header judged, with and without an edge
///
/// PostgreSQL and Redis are started; the bucket is the one that KVCAP_SCALE_BUCKET names, or a folder. Relay and client are
/// in this process, and a connection is kept.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Lengths of capsules
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "20000,1000000,8000000"
    )]
    bytes: Vec<u64>,
    /// Times that each is read
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rounds: u16,
}

/// What is behind a relay.
struct Behind<'a> {
    home: &'a Path,
    bucket: String,
    token: NewToken,
    signer: SigningKey,
}

/// # Errors
/// KVC-940 for disk, network and servers; KVC-947 where a relay answers something else than it should.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let home = tempfile::tempdir().map_err(|error| Error::sink(&error, "a temporary folder"))?;
    let home = home.path();
    let (postgres, mut valkey) = (Postgres::start(), Valkey::start());
    postgres.write_address(&home.join("database"));
    valkey.write_address(&home.join("edge"));
    let local = home.join("bucket");
    fs::create_dir(&local).map_err(|error| Error::sink(&error, local.display()))?;
    let of_server = |url: String| format!("{url}/{}", std::process::id());
    let behind = Behind {
        home,
        bucket: env::var("KVCAP_SCALE_BUCKET")
            .map_or(format!("file://{}", local.display()), of_server),
        token: NewToken::generate()?,
        signer: SigningKey::generate()?,
    };
    let (plain, fronted) = (behind.relay(false)?, behind.relay(true)?);
    let maker = Maker::new(home, &behind.signer);
    let mut report = Report::new();
    let kind = behind.bucket.split(':').next().unwrap_or_default();
    report.row("bucket", kind);
    report.row("times", args.rounds);
    report.line("");
    let (mut table, mut facts) = (Vec::new(), Vec::<Value>::new());
    for length in &args.bytes {
        let (file, path) = maker.file(*length)?;
        upload(fronted.address(), behind.token.text(), &file)?;
        let mut add = |what: &str, relay: &Running| -> Result<()> {
            let mut times = behind.times(relay, &path, args.rounds)?;
            let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(&mut times, share) * 1e3);
            let shown = [p50, p99, most].map(|time| format!("{time:.2}"));
            table.push([vec![bytes(*length), what.to_owned()], shown.to_vec()].concat());
            facts.push(json!({ "bytes": length, "what": what, "ms": { "p50": p50, "p99": p99, "most": most } }));
            Ok(())
        };
        add("no edge", &plain)?;
        let pieces = (fs::metadata(&file).map_or(0, |file| file.len())).div_ceil(256 << 10);
        until_held(&valkey, pieces)?;
        add("at the edge", &fronted)?;
        valkey.stop();
        add("the edge stands still", &fronted)?;
        valkey.go_on();
        valkey.kill();
        add("the edge is gone", &fronted)?;
        valkey.start_again();
        // it is asked again after a while
        sleep(Duration::from_secs(3));
        behind.times(&fronted, &path, 3)?;
    }
    let head = [
        ("capsule", '>'),
        ("", '<'),
        ("ms", '>'),
        ("99 %, ms", '>'),
        ("most, ms", '>'),
    ];
    report.table(&head, &table);
    report.fact("bucket", kind);
    report.fact("rounds", args.rounds);
    report.fact("reads", facts);
    Ok(report)
}

/// Waits until the edge has so many pieces of one object.
fn until_held(valkey: &Valkey, pieces: u64) -> Result<()> {
    for _ in 0..1000 {
        let objects = valkey.ask(&["KEYS", "kvcap:*.kvcap"]);
        let has = |object: &String| valkey.ask(&["HLEN", object]) == [pieces.to_string()];
        if objects.iter().any(has) {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    Err(Error::new(Code::LocalIo, "the edge does not get it"))
}

impl Behind<'_> {
    fn relay(&self, has_edge: bool) -> Result<Running> {
        let file = self.home.join("relay.toml");
        let edge = if has_edge { "edge = \"edge\"\n" } else { "" };
        let text = format!(
            "listen = \"127.0.0.1:0\"\naudiences = [\"{AUDIENCE}\"]\ntrust = [\"{}\"]\nmax-lifetime = \"30d\"\n\
             [shared]\ndatabase = \"database\"\nbucket = \"{}\"\n{edge}[limits]\nrate = 4_000_000_000\n\
             burst = 4_000_000_000\n[[tokens]]\ndigest = \"{}\"\nmay = [\"capsule:put\", \"capsule:get\"]\n",
            self.signer.public().to_text(),
            self.bucket,
            self.token.digest(),
        );
        output::write(&file, true, Readers::Owner, text.as_bytes())?;
        let settings = Settings::read(&file)?;
        Server::bind(settings)?.start()
    }

    /// Seconds that each read takes, over one connection.
    fn times(&self, relay: &Running, path: &str, rounds: u16) -> Result<Vec<f64>> {
        let mut connection = Connection::open(relay.address())?;
        let mut get = || connection.get(path, self.token.text());
        let times = (0..rounds).map(|_| Ok(timed(&mut get)?.1.as_secs_f64()));
        times.collect()
    }
}
