//! A Valkey or Redis of a test's own: in memory, on a socket in a folder of its own, gone with the test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot begin its server fails"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Longest time for it to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs.
#[derive(Debug)]
pub struct Valkey {
    server: Option<Child>,
    folder: tempfile::TempDir,
    port: &'static str,
}

impl Valkey {
    /// Begins a server that has nothing.
    ///
    /// # Panics
    /// Where neither is installed (Debian: `apt-get install redis-server`), and where it does not begin.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at("0")
    }

    /// Begins a server that is at every address and the usual port too, for a test in a network of its own.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_in_network() -> Self {
        Self::start_at("6379")
    }

    fn start_at(port: &'static str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("kvcap-vk")
            .tempdir()
            .unwrap();
        let mut valkey = Self {
            server: None,
            folder,
            port,
        };
        valkey.start_again();
        valkey
    }

    /// Begins it again after [`Self::kill`], with nothing in it.
    ///
    /// # Panics
    /// Where it does not begin.
    pub fn start_again(&mut self) {
        let server = Command::new(program("server"))
            .args(["--port", self.port, "--save", "", "--appendonly", "no"])
            .args(["--bind", "0.0.0.0", "--protected-mode", "no"])
            .args(["--unixsocketperm", "700", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.server = Some(server.unwrap());
        let begun = Instant::now();
        while !self.client(&["PING"]).status.success() {
            assert!(begun.elapsed() < PATIENCE, "it did not begin");
            sleep(Duration::from_millis(20));
        }
    }

    /// Kills it; what it had is lost.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _gone = server.kill();
            let _waited = server.wait();
        }
    }

    /// Makes it stand still: connections stay, and nothing is answered.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`Self::stop`].
    ///
    /// # Panics
    /// Where it does not run.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let process = self.server.as_ref().unwrap().id().to_string();
        let mut kill = Command::new("kill");
        kill.args([&format!("-{name}"), &process]);
        assert!(kill.status().unwrap().success());
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Writes its address into a private file.
    ///
    /// # Panics
    /// Where that cannot be written.
    pub fn write_address(&self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(path, self.address()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs a command, and returns the lines of its answer.
    ///
    /// # Panics
    /// Where it is not answered.
    #[must_use]
    pub fn ask(&self, command: &[&str]) -> Vec<String> {
        let done = self.client(command);
        assert!(done.status.success(), "{done:?}");
        let said = String::from_utf8_lossy(&done.stdout);
        said.lines().map(ToOwned::to_owned).collect()
    }

    fn client(&self, command: &[&str]) -> std::process::Output {
        let mut client = Command::new(program("cli"));
        client.arg("-s").arg(self.socket()).arg("-e").args(command);
        client.stdin(Stdio::null()).output().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of Valkey or of Redis on the path.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut all = ["valkey", "redis"].into_iter().flat_map(|kind| {
        let named = |folder: &PathBuf| folder.join(format!("{kind}-{name}"));
        folders.iter().map(named).collect::<Vec<_>>()
    });
    all.find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("no Valkey and no Redis is installed: apt-get install redis-server")
    })
}
