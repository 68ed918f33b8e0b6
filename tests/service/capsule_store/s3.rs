//! The rules over the interface of S3, at a server of the test's own over a folder (s3s-fs): signatures, put-once, parts,
//! ranges, lists. Other servers hold the same under `tests/scale/run` (SeaweedFS).

use std::{env, fs, process::Command};

use kvcap_testkit::s3;

const BUCKET: &str = "KVCAP_SCALE_BUCKET";

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
    let address = s3::server(folder.path());
    let again = Command::new(env::current_exe().unwrap())
        .args(["shared::", "--skip", "a_server_that_is_cut_off"])
        .env(BUCKET, "s3://capsules")
        .env("AWS_ENDPOINT", format!("http://{address}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", s3::KEY)
        .env("AWS_SECRET_ACCESS_KEY", s3::SECRET)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success(), "{said}");
    // and it was this server that they used
    assert!(fs::read_dir(&objects).unwrap().next().is_some());
}
