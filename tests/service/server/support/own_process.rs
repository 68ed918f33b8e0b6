//! A server in a process of its own: a test of the same program, which another test starts and kills.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

/// What such a server says before its address, on its standard error.
pub(crate) const LISTENING: &str = "listening at ";

pub(crate) struct OwnProcess {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl OwnProcess {
    /// Starts the test of this name, which says after [`LISTENING`] where it listens.
    pub(crate) fn start<'a>(
        test: &str,
        variables: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let command = Command::new(env::current_exe().unwrap());
        Self::start_by(command, test, variables)
    }

    /// The same by a command that starts this program with the arguments it is given.
    pub(crate) fn start_by<'a>(
        mut command: Command,
        test: &str,
        variables: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        command.args(["--exact", test, "--nocapture"]);
        command.envs(variables);
        Self::begin(command)
    }

    /// The same by a whole command, of whatever program that says where it listens.
    pub(crate) fn begin(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let found = lines.map_while(Result::ok).find_map(|line| {
            let address = line.split_once(LISTENING)?.1;
            address.parse().ok()
        });
        Self {
            child,
            address: found.unwrap(),
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
