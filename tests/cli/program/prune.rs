//! What goes from a folder, and what stays.

use std::fs;

use super::support::{Folder, KEYS, TRUST};

/// A folder with expired and living capsules as of a day from now: `old`, which nothing continues, `root`, which the
/// living `child` continues, and `young`.
fn shelf() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("shelf")).unwrap();
    let many = folder.made(2 << 20);
    let tokens = format!("{:?}", (0..many).collect::<Vec<_>>());
    folder.write("prompt.json", tokens.as_bytes());
    let seal = |name: &str, more: &str| {
        folder.ok(&format!(
            "seal made -o {name}.kvcap --model made.kvid --tokens prompt.json {KEYS} {more}"
        ))
    };
    seal("shelf/young", "--ttl 7d");
    for name in ["old", "root"] {
        let half = many / 2;
        folder.ok(&format!(
            "truncate shelf/young.kvcap --tokens {half} -o shelf/{name}.kvcap --ttl 1h {TRUST} {KEYS}"
        ));
    }
    let ran = seal("shelf/child", "--ttl 7d --parent shelf/root.kvcap");
    assert!(ran.err.contains("note: the chain ends at"), "{}", ran.err);
    folder
}

fn day_after() -> u64 {
    kvcap_store::time::now() + 86_400
}

fn shelf_names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path("shelf")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_has_expired_goes_and_what_is_continued_stays() {
    let folder = shelf();
    let prune = format!("prune shelf --at {}", day_after());
    let all = shelf_names(&folder);
    // claims alone remove nothing
    let plan = folder.json(&format!("{prune} --yes"));
    assert_eq!(plan["files"].as_array().unwrap().len(), 0);
    assert_eq!(plan["kept_unverified"].as_array().unwrap().len(), 1);
    assert_eq!(plan["kept_needed"][0], "shelf/root.kvcap");
    // nobody has said yes
    folder.refused(&format!("{prune} {TRUST}"), 944, 2);
    let plan = folder.json(&format!("{prune} {TRUST} --dry-run"));
    assert_eq!(plan["files"][0]["path"], "shelf/old.kvcap");
    assert_eq!(plan["files"][0]["verified"], true);
    assert_eq!(shelf_names(&folder), all);
    folder.ok(&format!("{prune} {TRUST} --yes"));
    assert_eq!(
        shelf_names(&folder),
        ["child.kvcap", "root.kvcap", "young.kvcap"]
    );
    // nothing living continues it any more
    fs::remove_file(folder.path("shelf/child.kvcap")).unwrap();
    let gone = folder.json(&format!("{prune} --unverified --yes"));
    assert_eq!(gone["files"][0]["path"], "shelf/root.kvcap");
    assert_eq!(gone["files"][0]["verified"], false);
    assert_eq!(shelf_names(&folder), ["young.kvcap"]);
}

#[cfg(unix)]
#[test]
fn links_and_other_files_are_not_touched_and_what_dead_writers_left_goes() {
    use std::time::{Duration, SystemTime};
    let folder = shelf();
    let shelf = folder.path("shelf");
    fs::rename(shelf.join("old.kvcap"), folder.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", shelf.join("link.kvcap")).unwrap();
    fs::create_dir(shelf.join("folder.kvcap")).unwrap();
    fs::write(shelf.join("notes.txt"), "mine").unwrap();
    fs::write(shelf.join("broken.kvcap"), "no capsule").unwrap();
    let left = |name: &str| {
        let path = shelf.join(name);
        fs::write(&path, "half").unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        file.set_modified(long_ago).unwrap();
        file
    };
    drop(left(".a.kvcap.abcdefgh.kvcap.tmp"));
    let writer = left(".b.kvcap.abcdefgh.kvcap.tmp");
    writer.lock().unwrap();
    let prune = format!("prune shelf --at {} {TRUST} --yes", day_after());
    let gone = folder.json(&prune);
    assert_eq!(gone["files"].as_array().unwrap().len(), 1, "{gone}");
    assert_eq!(gone["files"][0]["why"], "unfinished");
    assert_eq!(
        shelf_names(&folder),
        [
            ".b.kvcap.abcdefgh.kvcap.tmp",
            "broken.kvcap",
            "child.kvcap",
            "folder.kvcap",
            "link.kvcap",
            "notes.txt",
            "root.kvcap",
            "young.kvcap"
        ]
    );
    assert!(folder.has("elsewhere"));
}
