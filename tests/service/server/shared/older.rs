//! A relay of an earlier version of this program, over what relays of this one share: `tests/scale/upgrade`.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{BUCKET, DATABASE, LISTEN, REGISTRY, ROOT, TOKEN, Variables};
use crate::support::AUDIENCE;

/// The earlier version's `kvcap`.
pub(crate) struct Older(PathBuf);

impl Older {
    /// The one that the script was given, if it was.
    pub(crate) fn named() -> Option<Self> {
        env::var_os("KVCAP_SCALE_OLDER").map(|path| Self(path.into()))
    }

    /// A command for its relay, which is told by a file what one of this version is told by variables.
    pub(crate) fn command(&self, within: Option<Command>, variables: &Variables) -> Command {
        // what is said last of a variable counts, as for a process
        let of = |name| variables.iter().rev().find(|(at, _)| *at == name);
        let of = |name| of(name).map(|(_, value)| value.as_str());
        let settings = format!(
            "listen = \"{}\"\naudiences = [\"{AUDIENCE}\"]\nregistries = [\"{}\"]\nregistry-roots = [\"{}\"]\n\
             [limits]\nrate = {most}\nburst = {most}\nsweep = \"1s\"\n\
             [shared]\ndatabase = \"{}\"\nbucket = \"{}\"\n\
             [[tokens]]\ndigest = \"{}\"\ntenant = \"acme\"\nsubject = \"ana\"\n\
             may = [\"capsule:put\", \"capsule:get\"]\n",
            of(LISTEN).unwrap_or("127.0.0.1:0"),
            of(REGISTRY).unwrap(),
            of(ROOT).unwrap(),
            of(DATABASE).unwrap(),
            of(BUCKET).unwrap(),
            of(TOKEN).unwrap(),
            most = u32::MAX,
        );
        let file = PathBuf::from(format!("{}-older.toml", of(DATABASE).unwrap()));
        fs::write(&file, settings).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = within.unwrap_or_else(|| Command::new("env"));
        command.arg(&self.0).arg("serve").arg(file);
        // where the bucket is
        command.envs(variables.iter().cloned());
        command
    }

    /// What it says when it is begun over what is there now.
    pub(crate) fn begins(&self, within: Option<Command>, variables: &Variables) -> String {
        let mut command = self.command(within, variables);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let _read = lines.read_line(&mut said).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        said
    }
}
