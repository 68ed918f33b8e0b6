//! The rules over the interface of S3, at a server of the test's own over a folder (s3s-fs): signatures, put-once, parts,
//! ranges, lists. Other servers hold the same under `tests/scale/run` (SeaweedFS).

use std::{env, fs, net::SocketAddr, path::Path, process::Command, thread};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, runtime::Runtime};

const BUCKET: &str = "KVCAP_SCALE_BUCKET";
const KEY: &str = "kvcap";
const SECRET: &str = "kvcap-of-a-test";

/// Runs the tests of what many servers share once more, in a process that is told of the server: who one is to a bucket
/// is the environment's to say.
#[test]
fn a_bucket_of_s3_keeps_the_rules() {
    // that process is in this test too
    if env::var_os(BUCKET).is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let objects = folder.path().join("capsules");
    fs::create_dir(&objects).unwrap();
    let address = server(folder.path());
    let again = Command::new(env::current_exe().unwrap())
        .args(["shared::", "--skip", "a_server_that_is_cut_off"])
        .env(BUCKET, "s3://capsules")
        .env("AWS_ENDPOINT", format!("http://{address}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success(), "{said}");
    // and it was this server that they used
    assert!(fs::read_dir(&objects).unwrap().next().is_some());
}

/// Begins a server over a folder, in which each folder is a bucket. It ends with the process.
fn server(folder: &Path) -> SocketAddr {
    let mut service = S3ServiceBuilder::new(FileSystem::new(folder).unwrap());
    service.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = service.build();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let served = http.serve_connection(TokioIo::new(connection), service);
                let _broken_off = served.await;
            });
        }
    };
    thread::spawn(move || runtime.block_on(serve));
    address
}
