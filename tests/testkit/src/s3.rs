//! An S3 server of a test's own, over a folder (s3s-fs).

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot begin its server fails"
)]

use std::{net::SocketAddr, path::Path, thread};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, runtime::Runtime};

/// Whom it knows.
pub const KEY: &str = "kvcap";

/// That one's secret.
pub const SECRET: &str = "kvcap-of-a-test";

/// Begins a server over a folder, in which each folder is a bucket. It ends with the process.
pub fn server(folder: &Path) -> SocketAddr {
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
