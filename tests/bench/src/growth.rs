//! `kvcap-bench growth`: what an operation of relays that share costs, with how many capsules are kept already.

use std::{fs, path::Path, sync::Arc};

use kvcap::{CapsuleId, Error, Limits, Result, binding::Digest};
use kvcap_store::{
    CapsuleStore, Claimed, Coming, Entry, FolderStore, Name, Shared, Space, Tag, Wait,
};
use kvcap_testkit::Postgres;
use serde_json::{Value, json};

use super::{
    report::{Report, bytes},
    timed,
};

/// Measures operations of a store that relays share, with more and more capsules in its index
///
/// A PostgreSQL is started, and the bucket is a folder, so that the index is what grows. Rows are generated; operations
/// are real. Beside each the same operation of a folder of one relay that keeps nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Capsules that are kept already
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,100,10000,1000000"
    )]
    rows: Vec<u64>,
    /// Length of a capsule that is put
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    bytes: u64,
    /// Times that each operation is done, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rounds: u16,
}

/// What is measured of a store, in its order.
const OPERATIONS: [&str; 6] = [
    "put",
    "look up",
    "read the first page",
    "find 8 ancestors",
    "count",
    "delete",
];

/// # Errors
/// KVC-940 for disk and database.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let home = tempfile::tempdir().map_err(|error| Error::sink(&error, "a temporary folder"))?;
    let folder = FolderStore::open(
        &home.path().join("folder"),
        Wait::default(),
        &Limits::default(),
    )?;
    let plain = measure(&folder, args, &|| Written::default())?;
    let (postgres, store) = shared(home.path())?;
    let mut report = Report::new();
    report.row("capsule", bytes(args.bytes));
    report.row("times", args.rounds);
    report.line("");
    let (mut table, mut facts, mut sizes, mut kept) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for rows in &args.rows {
        fill(&postgres, kept, *rows);
        kept = kept.max(*rows);
        sizes.push((*rows, index_bytes(&postgres)));
        let ours = measure(&*store, args, &|| Written::now(&postgres))?;
        for ((what, (ours, written)), (plain, _)) in OPERATIONS.iter().zip(ours).zip(&plain) {
            let ratio = ours / plain.max(f64::MIN_POSITIVE);
            table.push(vec![
                rows.to_string(),
                (*what).to_owned(),
                format!("{:.3}", ours * 1e3),
                format!("{:.3}", plain * 1e3),
                format!("{ratio:.1}"),
                format!("{:.1}", written.transactions),
                format!("{:.0}", written.bytes),
            ]);
            facts.push(json!({
                "rows": rows, "what": what, "seconds": ours, "folder_seconds": plain, "ratio": ratio,
                "transactions": written.transactions, "log_bytes": written.bytes,
            }));
        }
    }
    let head = [
        ("kept", '>'),
        ("operation", '<'),
        ("ms", '>'),
        ("folder, ms", '>'),
        ("ratio", '>'),
        ("writes", '>'),
        ("log, bytes", '>'),
    ];
    report.table(&head, &table);
    report.line("");
    let rows = |(rows, bytes): &(u64, u64)| vec![rows.to_string(), bytes.to_string()];
    let head = [("kept", '>'), ("rows and indexes, bytes", '>')];
    report.table(&head, &sizes.iter().map(rows).collect::<Vec<_>>());
    report.fact("bytes", args.bytes);
    report.fact("rounds", args.rounds);
    let sizes = sizes
        .iter()
        .map(|(rows, bytes)| json!({ "rows": rows, "bytes": bytes }));
    report.fact("sizes", sizes.collect::<Vec<Value>>());
    report.fact("costs", facts.into_iter().collect::<Vec<Value>>());
    Ok(report)
}

fn shared(home: &Path) -> Result<(Postgres, Arc<dyn CapsuleStore>)> {
    let (postgres, bucket) = (Postgres::start(), home.join("bucket"));
    fs::create_dir(&bucket).map_err(|error| Error::sink(&error, bucket.display()))?;
    let address = home.join("database");
    postgres.write_address(&address);
    let shared = Shared::connect(&address, &format!("file://{}", bucket.display()))?;
    let store = shared.store();
    Ok((postgres, store))
}

/// Makes rows of capsules that nobody asks for, of a thousand tenants, as many as are missing.
fn fill(postgres: &Postgres, kept: u64, rows: u64) {
    let _made = postgres.sql(&format!(
        "INSERT INTO kvcap_capsule
         SELECT decode(md5('space' || n % 1000), 'hex'), decode(md5('id' || n), 'hex'), 'made/' || n,
                decode(md5('tag' || n), 'hex'), 20000, 4000000000 + n % 1000000, '\\x01' || ('t' || n % 1000)::bytea,
                sha256(n::text::bytea), NULL, NULL
         FROM generate_series({kept} + 1, {rows}) AS n;
         INSERT INTO kvcap_tenant
         SELECT tenant, count(*), sum(bytes), 0 FROM kvcap_capsule GROUP BY tenant
         ON CONFLICT (tenant) DO UPDATE SET capsules = excluded.capsules, kept = excluded.kept;
         ANALYZE"
    ));
}

/// Bytes of the table of capsules, as it is after a vacuum, with its indexes.
fn index_bytes(postgres: &Postgres) -> u64 {
    let _tidied = postgres.sql("VACUUM kvcap_capsule");
    number(&postgres.sql("SELECT pg_total_relation_size('kvcap_capsule')"))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// What a database has written: transactions, and bytes of its log.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    transactions: f64,
    bytes: f64,
}

impl Written {
    /// Since it began.
    fn now(postgres: &Postgres) -> Self {
        let count = |what: &str| {
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
            let count = number(&postgres.sql(&format!("SELECT ({what})::bigint"))) as f64;
            count
        };
        Self {
            transactions: count("pg_snapshot_xmax(pg_current_snapshot())::text"),
            bytes: count("pg_current_wal_insert_lsn() - '0/0'"),
        }
    }

    /// Of each of so many, since `before`.
    fn each(self, before: Self, times: u16) -> Self {
        let times = f64::from(times.max(1));
        Self {
            transactions: (self.transactions - before.transactions) / times,
            bytes: (self.bytes - before.bytes) / times,
        }
    }
}

fn name(id: u16) -> Name {
    let mut bytes = [7; 16];
    bytes[..2].copy_from_slice(&id.to_le_bytes());
    (Space::of(Some("measured"), None), CapsuleId(bytes))
}

fn entry(id: u16, bytes: u64) -> Entry {
    let lineage = |id: u16| Digest::labelled("a bench's lineage", &[&id.to_le_bytes()]);
    Entry {
        tag: Tag(name(id).1.0),
        bytes,
        expires: 3_900_000_000,
        tenant: Some("measured".to_owned()),
        lineage: lineage(id),
        parent: id.checked_sub(1).map(lineage),
        sha256: None,
    }
}

/// The median seconds of each of [`OPERATIONS`], and what each has the database write.
fn measure(
    store: &dyn CapsuleStore,
    args: &Args,
    written: &dyn Fn() -> Written,
) -> Result<Vec<(f64, Written)>> {
    let content = vec![1; usize::try_from(args.bytes).unwrap_or(0)];
    let put = |id| {
        let entry = entry(id, args.bytes);
        let coming = Coming {
            tag: entry.tag,
            lineage: entry.lineage,
            expires: entry.expires,
            tenant: entry.tenant.as_deref(),
            bytes: entry.bytes,
        };
        if let Claimed::New(mut arriving) = store.claim(name(id), coming, u64::MAX)? {
            arriving.append(&content)?;
            arriving.keep(entry)?;
        }
        Ok(())
    };
    let look_up = |id| store.get(name(id)).map(drop);
    let read = |id| {
        if let Some(file) = store.open(name(id))? {
            let mut page = vec![0; content.len().min(4096)];
            let read = file.read_exact_at(0, &mut page);
            read.map_err(|error| Error::source(&error, "capsule"))?;
        }
        Ok(())
    };
    let ancestors = |id| {
        store
            .ancestors(name(id).0, entry(id, 0).lineage, 8)
            .map(drop)
    };
    let count = |_| store.counts().map(drop);
    let delete = |id| store.remove(name(id)).map(drop);
    let operations: [&dyn Fn(u16) -> Result<()>; 6] =
        [&put, &look_up, &read, &ancestors, &count, &delete];
    let median = |operation: &&dyn Fn(u16) -> Result<()>| {
        let before = written();
        let times = (0..args.rounds).map(|id| Ok(timed(|| operation(id))?.1.as_secs_f64()));
        let mut times = times.collect::<Result<Vec<_>>>()?;
        times.sort_by(f64::total_cmp);
        let middle = times.get(times.len() / 2).copied().unwrap_or(0.0);
        Ok((middle, written().each(before, args.rounds)))
    };
    operations.iter().map(median).collect()
}
