//! Files that are their user's alone: reached through no link, with owner and mode checked.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use kvcap::{Code, Error, Result};
use zeroize::Zeroizing;

use crate::operation::{self, Operation};

/// Opens a regular file that is no link. What is made is made with mode 0600, whatever the umask.
///
/// # Errors
/// As the system; for a link, and for what is no regular file.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
        return Err(io::Error::other(
            "this is a link, and links are not followed here",
        ));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;
        // a link that came since then is not followed either, and a pipe is not waited for
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("this is not a regular file")),
    }
}

/// Reads a text of `longest` bytes at most.
///
/// # Errors
/// `malformed` for what is longer, and for what is no text; KVC-940.
pub fn text(file: &File, path: &Path, longest: u64, malformed: Code) -> Result<Zeroizing<String>> {
    // no second buffer is left behind when it grows
    let room = usize::try_from(longest).map_or(0, |longest| longest.saturating_mul(2));
    let mut text = Zeroizing::new(String::with_capacity(room));
    let wrong = |what: String| Error::new(malformed, what).at(path.display());
    match file.take(longest + 1).read_to_string(&mut text) {
        Ok(len) if u64::try_from(len).is_ok_and(|len| len <= longest) => Ok(text),
        Ok(_) => Err(wrong(format!("the file is longer than {longest} bytes"))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(wrong("the file is not text".to_owned()))
        }
        Err(error) => Err(Error::source(&error, path.display())),
    }
}

/// Refuses a file that others may read or write, or that is neither its user's nor root's.
///
/// # Errors
/// KVC-943; 940.
pub fn check(file: &File, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = file
            .metadata()
            .map_err(|error| Error::source(&error, path.display()))?;
        let open = |what| Error::new(Code::LocalKeyMode, what).at(path.display());
        let mode = meta.mode() & 0o777;
        if mode & 0o077 != 0 {
            let what = "the file is open to others";
            return Err(open(what).sides("mode 0600", format_args!("{mode:04o}")));
        }
        let user = rustix::process::geteuid().as_raw();
        if ![user, 0].contains(&meta.uid()) {
            let what = "the file belongs to another user";
            let expected = format!("user {user} or 0");
            return Err(open(what).sides(expected, meta.uid()));
        }
    }
    #[cfg(not(unix))]
    let _no_modes = (file, path);
    Ok(())
}

/// Makes a folder of mode 0700, and those above it, where there is none, so that a crash does not lose it; one that is
/// there is accepted if nobody else can change it.
///
/// # Errors
/// KVC-945 for a link, for what is no folder, and where others can change it; 940.
pub fn folder(path: &Path) -> Result<()> {
    if make_folder(path)? {
        return Ok(());
    }
    let meta = path
        .symlink_metadata()
        .map_err(|error| Error::source(&error, path.display()))?;
    if !meta.is_dir() {
        let what = "this is a link or no folder";
        return Err(Error::new(Code::LocalConfig, what).at(path.display()));
    }
    check_unchanged(&meta, path)
}

/// Makes a folder and those above it; false where it is there.
fn make_folder(path: &Path) -> Result<bool> {
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let failed = |error: io::Error| Error::sink(&error, path.display());
    let above = path
        .parent()
        .filter(|above| !above.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    make_folder(above)?;
    let builder = fs::DirBuilder::new();
    #[cfg(unix)]
    let builder = {
        let mut builder = builder;
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
    };
    operation::before(Operation::Create(above)).map_err(failed)?;
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made.map_err(failed)?,
    }
    operation::sync_folder(above).map_err(failed)?;
    Ok(true)
}

/// Refuses a file or folder that others may change, or that is neither its user's nor root's: what it holds decides
/// what is trusted. In a folder with the sticky bit nobody replaces what is another's.
///
/// # Errors
/// KVC-945.
pub(crate) fn check_unchanged(meta: &fs::Metadata, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let open = |what| Error::new(Code::LocalConfig, what).at(path.display());
        let mode = meta.mode() & 0o7777;
        let sticky = meta.is_dir() && mode & 0o1000 != 0;
        if mode & 0o022 != 0 && !sticky {
            let what = "others can change this, and it decides what is trusted: chmod go-w";
            return Err(open(what).sides(
                "not writable by group and others",
                format_args!("mode {mode:04o}"),
            ));
        }
        let user = rustix::process::geteuid().as_raw();
        if ![user, 0].contains(&meta.uid()) {
            let what = "this belongs to another user, and it decides what is trusted";
            return Err(open(what).sides(format!("user {user} or 0"), meta.uid()));
        }
    }
    #[cfg(not(unix))]
    let _no_modes = (meta, path);
    Ok(())
}

/// Refuses a file that has other names: what is renamed into the place of one leaves the others as they were.
///
/// # Errors
/// KVC-940.
pub(crate) fn check_one_name(file: &File, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = file
            .metadata()
            .map_err(|error| Error::source(&error, path.display()))?;
        if meta.nlink() > 1 {
            let what = "the file has other names (hard links)";
            return Err(Error::new(Code::LocalIo, what).at(path.display()));
        }
    }
    #[cfg(not(unix))]
    let _no_links = (file, path);
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_whole_or_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("secret");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let file = File::open(&path).unwrap();
            let text = text(&file, &path, 5, Code::LocalConfig);
            text.map(|text| text.len()).map_err(|error| error.code())
        };
        assert_eq!(read(b""), Ok(0));
        assert_eq!(read("ab\u{e9}c".as_bytes()), Ok(5));
        assert_eq!(read(b"secret"), Err(Code::LocalConfig));
        assert_eq!(read(&[0xff; 6]), Err(Code::LocalConfig));
        assert_eq!(read(&[0xff; 2]), Err(Code::LocalConfig));
        let file = File::open(folder.path()).unwrap();
        let refused = text(&file, &path, 5, Code::LocalConfig).unwrap_err();
        assert_eq!(refused.code(), Code::LocalIo);
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pipe");
        let mut made = std::process::Command::new("mkfifo");
        assert!(made.arg(&path).status().unwrap().success());
        let refused = open(&path, OpenOptions::new().read(true)).unwrap_err();
        assert_eq!(refused.to_string(), "this is not a regular file");
    }
}
