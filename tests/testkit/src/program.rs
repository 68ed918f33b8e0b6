//! Programs that know nothing of who runs the tests.

use std::{env, path::Path, process::Command};

/// Takes from a command every setting of the user's own: `KVCAP_*` and `XDG_*` variables are gone, and configuration
/// and state are in `home`.
pub fn isolated<'c>(command: &'c mut Command, home: &Path) -> &'c mut Command {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("KVCAP_") || text.starts_with("XDG_") {
            command.env_remove(&name);
        }
    }
    command
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_STATE_HOME", home.join("state"))
}
