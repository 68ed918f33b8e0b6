//! States larger than the memory that the program may have.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    process::Command,
};

use super::support::{Folder, KEYS, TRUST};

/// Bytes of the state: a sparse file. `KVCAP_LARGE` is another number of MiB (`tests/cli/large`).
fn state_len() -> u64 {
    let asked = std::env::var("KVCAP_LARGE").ok();
    asked.map_or(768, |mib| mib.parse::<u64>().unwrap()) << 20
}

/// Address space that the program gets, in KiB: threads' stacks and arenas, the program itself, and
/// far from the state.
const MEMORY: u64 = 448 << 10;

/// Runs a line of the shell in the folder; `kvcap` is the program, under the limit.
fn limited(folder: &Folder, line: &str) -> String {
    let script = format!(
        "set -eu -o pipefail; kvcap() (ulimit -v {MEMORY}; exec {} \"$@\"); {line}",
        env!("CARGO_BIN_EXE_kvcap")
    );
    let mut bash = Command::new("bash");
    let ran = kvcap_testkit::isolated(&mut bash, folder.home())
        .args(["-c", &script])
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{line}\n{err}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn memory_does_not_grow_with_the_state() {
    let folder = Folder::new();
    let len = state_len();
    let header =
        format!(r#"{{"state":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
    let header = format!("{header:width$}", width = header.len().next_multiple_of(8));
    let head = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let file = File::create(folder.path("state")).unwrap();
    file.set_len(head.len() as u64 + len).unwrap();
    file.write_all_at(&head, 0).unwrap();
    // something that is not zero, here and there
    for at in (0..len).step_by(7 << 20) {
        file.write_all_at(&at.to_le_bytes()[..7], head.len() as u64 + at)
            .unwrap();
    }
    let seal = format!(
        "kvcap seal state -o a.kvcap --model model --runtime raw --danger-no-prefix --ttl 1h {KEYS} \
         --suite aes-256-gcm --threads 2"
    );
    limited(&folder, &seal);
    let threads = ["--threads 1", "--threads 2"];
    for threads in threads {
        limited(&folder, &format!("kvcap verify a.kvcap {TRUST} {threads}"));
        limited(
            &folder,
            &format!("cat a.kvcap | kvcap verify - {TRUST} {threads}"),
        );
    }
    limited(
        &folder,
        &format!(
            "kvcap open a.kvcap --accept-unchecked model {TRUST} --wrap-key reader.key -o back --threads 2"
        ),
    );
    fs::remove_file(folder.path("a.kvcap")).unwrap();
    assert!(
        Command::new("cmp")
            .args(["state", "back"])
            .current_dir(folder.0.path())
            .status()
            .unwrap()
            .success()
    );
}
