//! A Valkey or Redis of a test's own: in memory, on a socket in a folder of its own, gone with the test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot begin its server fails"
)]

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
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
        let server = Command::new(program())
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
        while self.try_ask(&["PING"]).is_err() {
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

    /// Runs a command, and returns the parts of its answer as texts.
    ///
    /// # Panics
    /// Where it is not answered, or by an error.
    #[must_use]
    pub fn ask(&self, command: &[&str]) -> Vec<String> {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &[&str]) -> io::Result<Vec<String>> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let words = command
            .iter()
            .map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let request = format!("*{}\r\n{}", command.len(), words.collect::<String>());
        stream.write_all(request.as_bytes())?;
        let mut said = Vec::new();
        read(&mut BufReader::new(stream), &mut said)?;
        Ok(said)
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

/// Reads an answer in the servers' protocol (RESP2).
fn read(from: &mut impl BufRead, said: &mut Vec<String>) -> io::Result<()> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).unwrap_or_default();
    let len = || rest.parse::<usize>().map_err(io::Error::other);
    match kind {
        "+" | ":" => said.push(rest.to_owned()),
        // nothing
        "$" if rest == "-1" => {}
        "$" => {
            let mut bytes = vec![0; len()? + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            said.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        "*" => {
            for _ in 0..len()? {
                read(from, said)?;
            }
        }
        _ => return Err(io::Error::other(line)),
    }
    Ok(())
}

/// The server on the path: Valkey's, else Redis's.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let named = |name| env::split_paths(&path).map(move |folder| folder.join(name));
    named("valkey-server")
        .chain(named("redis-server"))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!("no Valkey and no Redis is installed: apt-get install redis-server")
        })
}
