//! Names of files that stand for names of sessions, tenants and subjects (session-v1 §10).

use kvcap::{Code, Error, Result};

use crate::Names;

/// Longest name of a file: file systems have 255 bytes, and names in the making need some.
const LONGEST: usize = 200;

/// Name of a folder where no tenant, or no subject, is named.
const NOBODY: &str = "-";

/// Returns the three folders that stand for a session, outermost first.
///
/// # Errors
/// KVC-950 for names that are no claims; 944 for one that is too long for a file.
pub(super) fn folders(names: &Names) -> Result<[String; 3]> {
    names.check()?;
    let of = |name: Option<&str>| name.map_or_else(|| Ok(NOBODY.to_owned()), file_name);
    Ok([
        of(names.tenant.as_deref())?,
        of(names.subject.as_deref())?,
        file_name(&names.session)?,
    ])
}

/// Returns the session that three folders stand for; `None` where one of them is none of ours.
pub(super) fn names(tenant: &str, subject: &str, session: &str) -> Option<Names> {
    let of = |folder| match folder {
        NOBODY => Some(None),
        folder => name_of(folder).map(Some),
    };
    Some(Names {
        tenant: of(tenant)?,
        subject: of(subject)?,
        session: name_of(session)?,
    })
}

/// Returns the name of the file that stands for a name.
fn file_name(name: &str) -> Result<String> {
    let file = encoded(name);
    if file.len() > LONGEST {
        let what = "the name is too long for a file's";
        let error = Error::new(Code::LocalUsage, what);
        return Err(error.sides(format!("at most {LONGEST} bytes"), file.len()));
    }
    Ok(file)
}

/// A name as itself where it is made of small letters, digits, `-`, `_` and inner dots, and every other byte as `%` and
/// two digits. Capital letters too: some file systems do not tell them from small ones.
fn encoded(name: &str) -> String {
    let mut file = String::with_capacity(name.len());
    let last = name.len().saturating_sub(1);
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => file.push(char::from(byte)),
            b'-' if name != NOBODY => file.push('-'),
            b'.' if at > 0 && at < last => file.push('.'),
            _ => file.push_str(&format!("%{byte:02x}")),
        }
    }
    file
}

/// The name that a file's name stands for.
fn name_of(file: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(file.len());
    let mut rest = file.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    let name = String::from_utf8(bytes).ok()?;
    // there is one spelling
    (!name.is_empty() && encoded(&name) == file).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_folder_and_no_two_share_one() {
        let long = "a".repeat(200);
        let names = [
            "fix-1.2",
            "Fix-1.2",
            "FIX-1.2",
            ".",
            "..",
            "...",
            "../x",
            "a/b",
            "a%2fb",
            "a\\b",
            "-",
            "--",
            "%",
            "%-",
            "a\0b",
            "é",
            "e\u{301}",
            "日本",
            " a",
            "a ",
            "a.",
            ".a",
            "~",
            "$HOME",
            "a\nb",
            "con",
            "session.json",
            &long,
        ];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            let file = file_name(name).unwrap();
            assert!(
                !file.contains('/') && !file.starts_with('.') && file != NOBODY,
                "{file}"
            );
            assert!(file.is_ascii() && !file.bytes().any(|b| b.is_ascii_control()));
            assert_eq!(name_of(&file), Some(name.to_owned()), "{file}");
            // also where capital letters are small ones
            assert!(seen.insert(file.to_lowercase()), "{file}");
        }
        for file in [
            "", "A", "%2E", "%2e%", "%zz", "%61", ".x", "-", "%ff", "é", "%+1",
        ] {
            assert_eq!(name_of(file), None, "{file}");
        }
        let codes = [
            ("a".repeat(201), 944),
            ("é".repeat(40), 944),
            (String::new(), 950),
        ];
        for (name, code) in codes {
            let refused = folders(&Names::of(&name)).unwrap_err();
            assert_eq!(refused.code().number(), code, "{name}");
        }
    }

    #[test]
    fn names_read_well() {
        assert_eq!(encoded("fix-login_2.1"), "fix-login_2.1");
        assert_eq!(encoded("me@host"), "me%40host");
        let mut session = Names::of("a");
        assert_eq!(folders(&session).unwrap(), ["-", "-", "a"]);
        session.tenant = Some("-".to_owned());
        assert_eq!(folders(&session).unwrap(), ["%2d", "-", "a"]);
        assert_eq!(names("%2d", "-", "a"), Some(session));
        assert_eq!(names("-", "-", "-"), None);
    }
}
