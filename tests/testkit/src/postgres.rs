//! A PostgreSQL of a test's own: on a socket in a folder of its own, gone with the test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot begin its server fails"
)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Longest time for it to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    folder: tempfile::TempDir,
    programs: PathBuf,
    user: Option<u32>,
    addresses: &'static str,
}

impl Postgres {
    /// Makes a database and begins its server.
    ///
    /// # Panics
    /// Where no PostgreSQL is installed (Debian: `apt-get install postgresql`), and where it does not begin.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at("")
    }

    /// Makes a database whose server is at every address and the usual port too, for a test in a network of its own: who is
    /// a neighbour there needs no password.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_in_network() -> Self {
        Self::start_at("*")
    }

    fn start_at(addresses: &'static str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("kvcap-pg")
            .tempdir()
            .unwrap();
        // its programs refuse to run as root
        let user = is_root().then(nobody);
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        let mut postgres = Self {
            server: None,
            folder,
            programs: programs(),
            user,
            addresses,
        };
        let options = ["-A", "trust", "-U", "kvcap", "-E", "UTF8", "--no-locale"];
        let mut initdb = postgres.program("initdb");
        initdb.args(options).args(["--no-sync", "-D", "data"]);
        let made = initdb.output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        if !addresses.is_empty() {
            let rules = postgres.folder.path().join("data/pg_hba.conf");
            let mut rules = fs::OpenOptions::new().append(true).open(rules).unwrap();
            rules.write_all(b"host all all samenet trust\n").unwrap();
        }
        postgres.begin();
        postgres
    }

    fn begin(&mut self) {
        let begun = Instant::now();
        loop {
            let (folder, log) = (self.folder.path(), self.folder.path().join("log"));
            let mut server = self.program("postgres");
            server.args(["-D", "data", "-k"]).arg(folder);
            server.args(["-c", &format!("listen_addresses={}", self.addresses)]);
            server.args(["-c", "max_connections=300"]);
            let mut server = server
                .stderr(fs::File::create(&log).unwrap())
                .spawn()
                .unwrap();
            // what is left of one that was killed may still be in its way
            while server.try_wait().unwrap().is_none() {
                if self.psql("SELECT 1").status.success() {
                    self.server = Some(server);
                    return;
                }
                sleep(Duration::from_millis(50));
            }
            let log = fs::read_to_string(&log).unwrap();
            assert!(
                begun.elapsed() < PATIENCE,
                "PostgreSQL did not begin: {log}"
            );
        }
    }

    fn program(&self, name: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Kills it as a machine that loses its power does, and begins it again from what is on the disk.
    ///
    /// # Panics
    /// Where it does not begin.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.begin();
    }

    /// Begins it again after [`Self::kill`].
    ///
    /// # Panics
    /// Where it does not begin.
    pub fn start_again(&mut self) {
        self.begin();
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _gone = server.kill();
            let _waited = server.wait();
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        self.address_at(&self.folder.path().display().to_string())
    }

    /// Its address for who reaches it at `host`.
    #[must_use]
    pub fn address_at(&self, host: &str) -> String {
        format!("host={host} user=kvcap dbname=postgres sslmode=disable")
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

    /// Runs SQL, and returns what it prints, without headers.
    ///
    /// # Panics
    /// Where the database refuses it.
    #[must_use]
    pub fn sql(&self, sql: &str) -> String {
        let done = self.psql(sql);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn psql(&self, sql: &str) -> std::process::Output {
        Command::new(self.programs.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.address(),
                "-c",
                sql,
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the newest version's programs: Debian's, or one on the path.
fn programs() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut debian: Vec<PathBuf> = installed
        .map(|version| version.unwrap().path().join("bin"))
        .collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_all = |folder: &PathBuf| {
        let names = ["initdb", "postgres", "psql"];
        names.iter().all(|name| folder.join(name).is_file())
    };
    let mut found = debian.into_iter().rev().chain(std::env::split_paths(&path));
    found
        .find(has_all)
        .unwrap_or_else(|| panic!("no PostgreSQL is installed: apt-get install postgresql"))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A user without rights, the one that Debian makes for it where there is one.
fn nobody() -> u32 {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = users.lines().find_map(|line| {
        line.strip_prefix("postgres:")?
            .split(':')
            .nth(1)?
            .parse()
            .ok()
    });
    own.unwrap_or(65_534)
}
