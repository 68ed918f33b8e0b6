//! The configuration's file: read where nobody else can change it, every key known, every fault with its line.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::OpenOptions,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, Result};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::setting::{Kind, Setting};
use crate::{private, time::parse_duration};

/// Longest file, in bytes.
const LONGEST: u64 = 1 << 20;

/// The profile that is meant where nobody names one.
pub const DEFAULT: &str = "default";

/// The profile of this name is none: all is said by flags and variables.
pub(super) const NONE: &str = "none";

/// A configuration's text, and where it is.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) folder: PathBuf,
    text: String,
}

/// What a configuration says.
pub(super) struct Config {
    /// The profile that is meant where none is named.
    pub(super) chosen: Option<String>,
    pub(super) profiles: BTreeMap<String, BTreeMap<Setting, Stated>>,
}

/// A setting's values as they are written, and their line.
pub(super) struct Stated {
    pub(super) entries: Vec<Entry>,
    pub(super) line: usize,
}

/// One value.
pub(super) struct Entry {
    pub(super) text: String,
    /// The issuer that a trusted key speaks for.
    pub(super) issuer: Option<String>,
}

impl ConfigFile {
    /// Reads `config.toml` of the folder; `None` where there is none.
    ///
    /// # Errors
    /// KVC-945 where others can change the file or its folder, for links, and for what is not text; 940.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("config.toml");
        if path
            .symlink_metadata()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            return Ok(None);
        }
        check_folder(folder)?;
        let text = read_unchanged(&path, LONGEST)?;
        let folder = folder.to_owned();
        Ok(Some(Self { path, folder, text }))
    }

    /// Returns the file's text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Reads what it says, in all of its profiles.
    ///
    /// # Errors
    /// KVC-945.
    pub(super) fn parse(&self) -> Result<Config> {
        let document = DeTable::parse(&self.text).map_err(|error| {
            let what = error
                .message()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            self.error(what, error.span().unwrap_or_default())
        })?;
        let mut config = Config {
            chosen: None,
            profiles: BTreeMap::new(),
        };
        for (key, value) in document.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("profile", DeValue::String(name)) => config.chosen = Some(name.to_string()),
                ("profiles", DeValue::Table(profiles)) => {
                    for (name, body) in profiles {
                        let profile = self.profile(name, body)?;
                        config.profiles.insert(name.get_ref().to_string(), profile);
                    }
                }
                ("profile" | "profiles", _) => {
                    let what = "the value is of another kind";
                    let found = value.get_ref().type_str();
                    let error = self.error(what, value.span());
                    return Err(error.sides("profile = NAME and [profiles.NAME]", found));
                }
                (other, _) => {
                    let error = self.error("the key is not known", key.span());
                    return Err(error.sides("profile or profiles", format_args!("{other:?}")));
                }
            }
        }
        Ok(config)
    }

    fn profile(
        &self,
        name: &Spanned<Cow<'_, str>>,
        body: &Spanned<DeValue<'_>>,
    ) -> Result<BTreeMap<Setting, Stated>> {
        if !is_name(name.get_ref()) {
            let what = "a profile's name has small letters, digits, - and _, and is not none";
            return Err(self.error(what, name.span()));
        }
        let DeValue::Table(table) = body.get_ref() else {
            return Err(self.error("a profile is a table", body.span()));
        };
        let mut profile = BTreeMap::new();
        for (key, value) in table {
            let Some(setting) = Setting::of_key(key.get_ref()) else {
                let known = Setting::ALL.map(Setting::key).join(", ");
                let error = self.error("the key is not known", key.span());
                return Err(error.sides(known, format_args!("{:?}", key.get_ref())));
            };
            let entries = self.entries(setting, value)?;
            let line = self.line(key.span().start);
            profile.insert(setting, Stated { entries, line });
        }
        Ok(profile)
    }

    fn entries(&self, setting: Setting, value: &Spanned<DeValue<'_>>) -> Result<Vec<Entry>> {
        let entries = match value.get_ref() {
            DeValue::Array(items) if setting.is_list() => items
                .iter()
                .map(|item| self.entry(setting, item))
                .collect::<Result<Vec<_>>>()?,
            _ => vec![self.entry(setting, value)?],
        };
        match entries.is_empty() {
            true => Err(self.error("the list is empty", value.span())),
            false => Ok(entries),
        }
    }

    fn entry(&self, setting: Setting, value: &Spanned<DeValue<'_>>) -> Result<Entry> {
        let (text, issuer) = match (setting.kind(), value.get_ref()) {
            (Kind::Count, DeValue::Integer(count)) => (count.to_string(), None),
            (Kind::Count, _) => return Err(self.another_kind(setting, value)),
            (_, DeValue::String(text)) => (text.to_string(), None),
            (Kind::Trusted, DeValue::Table(pair)) => {
                let (mut key, mut issuer) = (None, None);
                for (name, value) in pair {
                    let slot = match name.get_ref().as_ref() {
                        "key" => &mut key,
                        "issuer" => &mut issuer,
                        _ => {
                            let error = self.error("the key is not known", name.span());
                            return Err(error.sides("issuer or key", name.get_ref()));
                        }
                    };
                    let text = value.get_ref().as_str();
                    *slot = Some(text.ok_or_else(|| self.another_kind(setting, value))?);
                }
                let key = key.ok_or_else(|| self.error("key is missing", value.span()))?;
                (key.to_owned(), issuer.map(str::to_owned))
            }
            _ => return Err(self.another_kind(setting, value)),
        };
        check_text(setting, &text).map_err(|what| self.error(what, value.span()))?;
        Ok(Entry { text, issuer })
    }

    fn another_kind(&self, setting: Setting, value: &Spanned<DeValue<'_>>) -> Error {
        let error = self.error("the value is of another kind", value.span());
        error.sides(setting.form(), value.get_ref().type_str())
    }

    fn error(&self, what: impl Into<Cow<'static, str>>, span: Range<usize>) -> Error {
        fault(what).at(format_args!(
            "{}:{}",
            self.path.display(),
            self.line(span.start)
        ))
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

pub(super) fn fault(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::LocalConfig, what)
}

/// Returns whether a profile can be called so: its keys lie in a folder of this name.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && name != NONE
}

/// Refuses a value that its setting cannot have, wherever it comes from.
pub(super) fn check_text(setting: Setting, text: &str) -> Result<(), &'static str> {
    match setting.kind() {
        _ if text.is_empty() => Err("the value is empty"),
        Kind::Time if parse_duration(text).is_none() => {
            Err("a length of time is written 90s, 15m, 24h or 7d")
        }
        Kind::Count if text.parse::<u64>().ok().is_none_or(|count| count == 0) => {
            Err("the number is not a whole one from 1 on")
        }
        _ => Ok(()),
    }
}

/// Refuses a folder that others can put files into, and a link in its place.
pub(super) fn check_folder(folder: &Path) -> Result<()> {
    let meta = folder
        .symlink_metadata()
        .map_err(|error| Error::io(&error, folder.display()))?;
    match meta.is_dir() {
        true => private::check_unchanged(&meta, folder),
        false => Err(
            fault("this is a link or no folder: it decides what is trusted").at(folder.display()),
        ),
    }
}

/// Reads a file that only its user or root can change, through no link: it decides what is trusted.
///
/// # Errors
/// KVC-945, 940.
pub fn read_unchanged(path: &Path, longest: u64) -> Result<String> {
    let io = |error: std::io::Error| Error::io(&error, path.display());
    if path.symlink_metadata().map_err(io)?.is_symlink() {
        return Err(
            fault("this is a link: what decides what is trusted is not followed")
                .at(path.display()),
        );
    }
    let file = private::open(path, OpenOptions::new().read(true)).map_err(io)?;
    private::check_unchanged(&file.metadata().map_err(io)?, path)?;
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes).map_err(io)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > longest) {
        return Err(fault("the file is too long").at(path.display()));
    }
    String::from_utf8(bytes).map_err(|_| fault("the file is not text in UTF-8").at(path.display()))
}
