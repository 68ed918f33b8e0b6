//! Where the configuration is, by the XDG base directory specification.

use std::{ffi::OsString, path::PathBuf};

/// The environment: what a variable holds, if it is set. `&|name| std::env::var_os(name)` is the process's own.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// Returns the folder of the configuration and its keys, `$XDG_CONFIG_HOME/kvcap`; `None` where there is no home.
#[must_use]
pub fn config_folder(env: Environment<'_>) -> Option<PathBuf> {
    base(env, "XDG_CONFIG_HOME", ".config")
}

/// Returns the folder of what programs remember, `$XDG_STATE_HOME/kvcap`.
#[must_use]
pub fn state_folder(env: Environment<'_>) -> Option<PathBuf> {
    base(env, "XDG_STATE_HOME", ".local/state")
}

/// Only absolute paths count.
fn base(env: Environment<'_>, name: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let folder = absolute(name).or_else(|| Some(absolute("HOME")?.join(below_home)))?;
    Some(folder.join("kvcap"))
}
