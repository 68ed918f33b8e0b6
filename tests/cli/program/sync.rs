//! Sessions of several devices over a relay: the program on both sides. What the relay itself refuses is
//! `tests/service/server/versions.rs`.

#[test]
#[cfg(not(feature = "sync"))]
fn a_program_without_relays_says_so() {
    let folder = super::support::Folder::new();
    folder.ok("init --yes --issuer lab");
    folder.refused("sync", 944, 2);
    folder.refused(
        "erase fix --relay 127.0.0.1:1 --relay-token token --yes",
        944,
        2,
    );
    assert!(!folder.ok("--help").out.contains("  sync"));
}
#[cfg(all(feature = "server", unix))]
mod cuts;
#[cfg(all(feature = "server", unix))]
mod devices;
#[cfg(all(feature = "server", unix))]
mod erased;
#[cfg(all(feature = "server", unix))]
mod kept;
#[cfg(all(feature = "server", unix))]
mod relay;
