//! `kvcap-bench sink`: keeps whatever is uploaded, by the framework of the relay and with the syncs that make it
//! durable, and looks at nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::{Path as InPath, State},
    http::StatusCode,
    routing::{delete, post},
};
use http_body_util::BodyExt;
use kvcap::{Error, Result};

use crate::report::Report;

/// Keeps whatever is uploaded, unverified: what a relay is measured beside
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it is kept
    folder: PathBuf,
}

/// Bytes that are written at once, as a relay does.
const BATCH: usize = 64 << 10;

/// # Errors
/// KVC-940.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let failed = |error: std::io::Error| Error::io(&error, "sink");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let folder = Arc::new(args.folder.clone());
    runtime.map_err(failed)?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let _told = writeln!(std::io::stderr(), "listening at {address}");
        let router = Router::new()
            .route("/v1/capsules", post(put))
            .route("/v1/capsules/{id}", delete(remove))
            .with_state(folder);
        axum::serve(listener, router).await.map_err(failed)
    })?;
    Ok(Report::new())
}

async fn put(State(folder): State<Arc<PathBuf>>, mut body: Body) -> StatusCode {
    let kept = async {
        let making = folder.join("making");
        let mut file = File::create(&making)?;
        let mut batch = Vec::with_capacity(2 * BATCH);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(std::io::Error::other)?;
            batch.extend_from_slice(frame.data_ref().map_or(&[], |piece| &piece[..]));
            if batch.len() >= BATCH {
                (file, batch) = aside(move || {
                    file.write_all(&batch)?;
                    batch.clear();
                    Ok((file, batch))
                })
                .await?;
            }
        }
        aside(move || {
            file.write_all(&batch)?;
            file.sync_all()?;
            fs::rename(&making, folder.join("kept"))?;
            sync(&folder)
        })
        .await
    };
    match kept.await {
        Ok(()) => StatusCode::CREATED,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn remove(State(folder): State<Arc<PathBuf>>, InPath(_): InPath<String>) -> StatusCode {
    let removed = aside(move || {
        fs::remove_file(folder.join("kept"))?;
        sync(&folder)
    });
    match removed.await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::NOT_FOUND,
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)?
}
