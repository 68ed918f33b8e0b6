//! The network that `tests/scale/links` makes: a namespace for each relay, with a link of its own to each server, which
//! can be cut. What was on its way is lost then, and neither end is told.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use kvcap_testkit::Postgres;

use super::{DATABASE, EDGE, LISTEN, Variables};

/// What a link of a relay leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Clients,
    Database,
    Bucket,
    Edge,
}

/// An end of a link, by its number.
#[derive(Clone, Copy)]
enum Side {
    Far = 1,
    Relay = 2,
}

/// Namespaces, by their name.
pub(crate) struct Links(String);

impl Links {
    /// Those that the script has made, where it was run.
    pub(crate) fn made() -> Option<Self> {
        env::var("KVCAP_SCALE_LINKS").ok().map(Self)
    }

    /// A command of a relay's namespace; its program and arguments are to follow.
    pub(crate) fn within(&self, relay: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{relay}", self.0)]);
        command
    }

    /// The address of one end of a relay's link.
    fn address(relay: usize, end: End, side: Side) -> String {
        format!("10.0.{relay}.{}", 4 * (end as usize) + side as usize)
    }

    /// Variables of a relay in its namespace: how it reaches the others.
    pub(crate) fn variables(home: &Path, postgres: &Postgres, relay: usize) -> Variables {
        let file = |name, text: String| {
            let path = home.join(format!("{name}-{relay}"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let at = |end| Self::address(relay, end, Side::Far);
        let mut variables = vec![
            (
                LISTEN,
                format!("{}:0", Self::address(relay, End::Clients, Side::Relay)),
            ),
            (
                DATABASE,
                file("database", postgres.address_at(&at(End::Database))),
            ),
            (
                EDGE,
                file("edge", format!("redis://{}:6379", at(End::Edge))),
            ),
        ];
        if let Ok(endpoint) = env::var("AWS_ENDPOINT") {
            let endpoint = endpoint.replace("127.0.0.1", &at(End::Bucket));
            variables.push(("AWS_ENDPOINT", endpoint));
        }
        variables
    }

    pub(crate) fn cut(&self, relay: usize, end: End) {
        self.set(relay, end, "down");
    }

    pub(crate) fn mend(&self, relay: usize, end: End) {
        self.set(relay, end, "up");
    }

    // at the server's side, so that a relay sees no more of it than of a cable that is cut far away
    fn set(&self, relay: usize, end: End, to: &str) {
        let device = format!("{end:?}{relay}").to_lowercase();
        let mut set = Command::new("ip");
        set.args(["-n", &self.0, "link", "set", &device, to]);
        assert!(set.status().unwrap().success(), "{device} is set {to}");
    }
}
