//! Inputs and outputs: which side failed, and that nothing appears before it is whole.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{fs, io::Write, path::Path};

use kvcap::{IoSide, SourceFile};
use kvcap_store::{
    input,
    output::{Output, Readers},
};

#[test]
fn the_side_that_failed_is_told() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no such folder");
    let path = folder.join("file");
    let sides = [
        input::small(&path, 1).err().unwrap().io_side(),
        input::stream(&path).err().unwrap().io_side(),
        SourceFile::open(&path).err().unwrap().io_side(),
        Output::create(&path, false, Readers::Owner)
            .err()
            .unwrap()
            .io_side(),
    ];
    let (source, sink) = (Some(IoSide::Source), Some(IoSide::Sink));
    assert_eq!(sides, [source, source, source, sink]);
}

#[test]
fn an_output_that_is_dropped_leaves_nothing() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs");
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let path = folder.join("state");
    let output = Output::create(&path, false, Readers::Owner).unwrap();
    output.file().write_all(b"half").unwrap();
    assert!(!path.exists());
    drop(output);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let output = Output::create(&path, false, Readers::Owner).unwrap();
    output.file().write_all(b"whole").unwrap();
    output.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    let again = Output::create(&path, false, Readers::Owner);
    assert_eq!(again.err().unwrap().code().number(), 941);
}
