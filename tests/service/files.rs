//! Inputs and outputs: which side failed, and that nothing appears before it is whole.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use kvcap::{IoSide, RecipientKind, SigningKey, SourceFile, TrustedKey, WrappingKey};
use kvcap_store::{
    FreshKey, input, key_file,
    output::{self, Output, Readers},
};
use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().unwrap()
}

#[test]
fn the_side_that_failed_is_told() {
    let folder = folder();
    let folder = folder.path().join("no such folder");
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
    let folder = folder();
    let folder = folder.path();
    let path = folder.join("state");
    let output = Output::create(&path, false, Readers::Owner).unwrap();
    output.file().write_all(b"half").unwrap();
    assert!(!path.exists());
    drop(output);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    let output = Output::create(&path, false, Readers::Owner).unwrap();
    output.file().write_all(b"whole").unwrap();
    output.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    let again = Output::create(&path, false, Readers::Owner);
    assert_eq!(again.err().unwrap().code().number(), 941);
}

/// What a killed writer has left is swept by the next; what somebody writes, or another program, is not.
#[test]
fn what_a_killed_writer_left_is_swept() {
    let folder = folder();
    let folder = folder.path();
    let old = SystemTime::now() - Duration::from_secs(3600);
    let make = |name: &str, time: SystemTime| {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(time).unwrap();
        file
    };
    drop(make(".a.AAAAAAAA.kvcap.tmp", old));
    let held = make(".a.BBBBBBBB.kvcap.tmp", old);
    held.lock().unwrap();
    drop(make(".a.CCCCCCCC.kvcap.tmp", SystemTime::now()));
    drop(make(".a.DDDD.tmp", old));
    #[cfg(unix)]
    {
        let target = make("target", old);
        drop(target);
        let link = folder.join(".a.EEEEEEEE.kvcap.tmp");
        std::os::unix::fs::symlink("target", link).unwrap();
    }
    let output = Output::create(&folder.join("state"), false, Readers::Owner).unwrap();
    for name in [
        ".a.BBBBBBBB.kvcap.tmp",
        ".a.CCCCCCCC.kvcap.tmp",
        ".a.DDDD.tmp",
    ] {
        assert!(folder.join(name).exists(), "{name}");
    }
    assert!(!folder.join(".a.AAAAAAAA.kvcap.tmp").exists());
    #[cfg(unix)]
    {
        let link = fs::symlink_metadata(folder.join(".a.EEEEEEEE.kvcap.tmp"));
        assert!(link.unwrap().is_symlink() && folder.join("target").exists());
    }
    // and this one is held by its writer
    let ours: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("/.state."))
        .collect();
    assert!(fs::File::open(&ours[0]).unwrap().try_lock().is_err());
    drop(output);
}

#[cfg(unix)]
#[test]
fn a_spool_has_no_name_and_no_other_readers() {
    use std::os::unix::fs::MetadataExt;
    let meta = input::spool().unwrap().metadata().unwrap();
    assert_eq!((meta.mode() & 0o777, meta.nlink()), (0o600, 0));
}

#[test]
fn force_replaces_no_secret_key_and_no_folder() {
    let folder = folder();
    let folder = folder.path();
    let key = folder.join("reader.key");
    let text = WrappingKey::generate().unwrap().to_secret_text().unwrap();
    fs::write(&key, format!("# mine\n{}\n", *text)).unwrap();
    let forced = |path: &Path| output::write(path, true, Readers::Owner, b"state");
    for (path, code) in [(key.as_path(), 941), (folder, 944)] {
        assert_eq!(forced(path).err().unwrap().code().number(), code);
    }
    assert!(fs::read_to_string(&key).unwrap().contains(&*text));
    #[cfg(unix)]
    {
        // a link is replaced, and what it leads to stays
        let link = folder.join("link");
        std::os::unix::fs::symlink(&key, &link).unwrap();
        forced(&link).unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"state");
        assert!(fs::read_to_string(&key).unwrap().contains(&*text));
    }
    let plain = folder.join("plain");
    fs::write(&plain, "text").unwrap();
    forced(&plain).unwrap();
    assert_eq!(fs::read(&plain).unwrap(), b"state");
}

#[test]
fn a_fresh_key_is_shown_without_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = [
        FreshKey::signing(Some("lab")).unwrap(),
        FreshKey::root().unwrap(),
        FreshKey::wrapping(RecipientKind::Symmetric).unwrap(),
    ];
    for key in fresh {
        let path = folder.path().join(key.name);
        key.write(&path, false, Readers::Owner, None).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let secret = text.lines().last().unwrap();
        let shown = format!("{key:?}");
        assert!(!shown.contains(secret), "{}", key.name);
        assert!(shown.contains(key.name));
    }
}

#[cfg(unix)]
#[test]
fn a_key_file_is_text_and_4096_bytes_at_most() {
    let folder = folder();
    let path = folder.path().join("reader.pub");
    let reader = WrappingKey::of(RecipientKind::X25519, [7; 32]);
    let key = reader.public().unwrap().to_text();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let named = [path.to_str().unwrap().to_owned()];
        key_file::recipients(&named).map_or_else(
            |error| Err(error.code().number()),
            |keys| Ok(keys.into_iter().map(|key| key.id()).collect::<Vec<_>>()),
        )
    };
    let with = |len: usize| format!("{}\n{key}", "#".repeat(len - key.len() - 1));
    assert_eq!(read(with(4096).as_bytes()), Ok(vec![reader.id()]));
    assert_eq!(read(with(4097).as_bytes()), Err(942));
    assert_eq!(read(with(9000).as_bytes()), Err(942));
    assert_eq!(read(&[key.as_bytes(), b"\xff"].concat()), Err(942));
    let folder = [folder.path().to_str().unwrap().to_owned()];
    let refused = key_file::recipients(&folder).unwrap_err();
    assert_eq!(refused.code().number(), 940);
}

/// A key speaks for whom its file names; one that names nobody, for whom it is given to.
#[test]
fn a_key_speaks_for_one_issuer() {
    let code = |error: kvcap::Error| error.code().number();
    let signer = SigningKey::from_seed(&[7; 32]);
    let check = |signer: &SigningKey| key_file::check_issuer(signer, "lab").map_err(code);
    assert_eq!(check(&signer), Ok(()));
    let public = signer.public();
    let given = |issuer: &str, to| {
        let key = TrustedKey::new(public, issuer);
        key_file::given_to(key, to)
            .map_err(code)
            .map(|key| key.issuer)
    };
    let own = public.own_issuer();
    assert_eq!(given(&own, Some("lab")), Ok("lab".to_owned()));
    assert_eq!(given(&own, None), Ok(own));
    assert_eq!(given("lab", Some("lab")), Ok("lab".to_owned()));
    assert_eq!(given("lab", Some("other")), Err(312));
    assert_eq!(check(&signer.speaking_for("other").unwrap()), Err(312));
}
