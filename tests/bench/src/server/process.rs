//! A relay and a sink, each in a process of its own that ends with its value.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use kvcap::{Code, Error, Result, SigningKey};
use serde_json::Value;

use super::{capsules::AUDIENCE, failed};

pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
    pub(super) token: String,
}

impl Process {
    /// A relay that trusts a key, and keeps what it keeps below a folder.
    pub(super) fn relay(program: &Path, home: &Path, signer: &SigningKey) -> Result<Self> {
        let made = Command::new(program)
            .args(["serve", "--new-token", "--json"])
            .output();
        let made: Value =
            serde_json::from_slice(&made.map_err(failed(program))?.stdout).unwrap_or_default();
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let config = home.join("relay.toml");
        let settings = format!(
            "listen = \"127.0.0.1:0\"\nfolder = \"kept\"\naudiences = [\"{AUDIENCE}\"]\ntrust = [\"{}\"]\n\
             max-lifetime = \"30d\"\n[limits]\nrate = 1_000_000\nburst = 1_000_000\nuploads = 1024\n\
             tenant-uploads = 1024\n[[tokens]]\ndigest = \"{}\"\nmay = [\"capsule:put\", \"capsule:get\"]\n",
            signer.public().to_text(),
            text("digest"),
        );
        fs::write(&config, settings).map_err(failed(&config))?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config);
        Self::spawn(command, text("token"))
    }

    /// A plain sink: this very program.
    pub(super) fn sink(home: &Path) -> Result<Self> {
        let folder = home.join("sunk");
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let program = std::env::current_exe().map_err(failed(home))?;
        let mut command = Command::new(program);
        command.arg("sink").arg(&folder);
        Self::spawn(command, "none".to_owned())
    }

    fn spawn(mut command: Command, token: String) -> Result<Self> {
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| Error::io(&error, "a process"))?;
        let told = child.stderr.take().map(BufReader::new);
        let mut lines = told.into_iter().flat_map(BufRead::lines);
        let address = lines.find_map(|line| {
            let line = line.ok()?;
            line.split_once("listening at ")?.1.trim().parse().ok()
        });
        match address {
            Some(address) => Ok(Self {
                child,
                address,
                token,
            }),
            None => {
                let _ended = child.kill();
                Err(Error::new(Code::LocalIo, "it does not listen"))
            }
        }
    }

    /// Bytes of memory that it has now, and has had at most (Linux).
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).map_err(failed(Path::new(&path)))?;
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        Ok((
            of("VmRSS:").unwrap_or(0) * 1024,
            of("VmHWM:").unwrap_or(0) * 1024,
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
