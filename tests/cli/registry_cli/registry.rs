//! `kvcap registry`, and capsules verified by one.

use std::process::{Child, Stdio};

use crate::support::{Folder, SEAL};

const ROOT: &str = "--root-key root.key";
const BY: &str = "--trust keys.reg --registry-root root.key.pub";

/// A folder with a root, a registry that lists the issuer's key, and a capsule of it.
fn folder() -> Folder {
    let folder = Folder::sealed();
    folder.ok("keygen root -o root.key");
    folder.ok(&format!("registry init keys.reg {ROOT}"));
    folder.ok(&format!("registry add keys.reg issuer.key.pub {ROOT}"));
    folder
}

fn issued(folder: &Folder, capsule: &str) -> (u64, u64) {
    let claims = &folder.json(&format!("inspect {capsule}"))["unverified"]["claims"];
    let time = |name: &str| claims[name].as_u64().unwrap();
    (time("issued_at"), time("expires"))
}

#[test]
fn a_capsule_is_verified_by_a_registry() {
    let folder = folder();
    let open = format!("open a.kvcap {BY} --wrap-key reader.key");
    folder.ok(&format!("verify a.kvcap {BY}"));
    folder.ok(&format!("{open} -o back"));
    assert!(folder.read("back") == folder.read("state.bin"));
    let text = std::fs::read_to_string(folder.path("root.key.pub")).unwrap();
    let text = text.lines().last().unwrap();
    folder.ok(&format!(
        "verify a.kvcap --trust keys.reg --registry-root {text}"
    ));

    // the root must be named, and be the right one
    folder.refused("verify a.kvcap --trust keys.reg", 944, 2);
    folder.ok("keygen root -o other.key");
    let other = "--registry-root other.key.pub";
    folder.refused(&format!("verify a.kvcap --trust keys.reg {other}"), 308, 1);
    folder.ok(&format!("verify a.kvcap {BY} {other}"));
    // neither kind of key does the other's work
    folder.refused("verify a.kvcap --trust root.key.pub", 942, 2);
    folder.refused(
        "verify a.kvcap --trust keys.reg --registry-root issuer.key.pub",
        942,
        2,
    );
    folder.refused("registry init b.reg --root-key issuer.key", 942, 2);
    folder.refused(
        &format!(
            "seal state.bin -f {}",
            SEAL.replace("issuer.key", "root.key")
        ),
        942,
        2,
    );
    // a key that is trusted by itself would escape its window
    folder.refused(
        &format!("verify a.kvcap {BY} --trust issuer.key.pub"),
        311,
        1,
    );
    // a capsule is no registry
    folder.refused(
        "registry verify a.kvcap --registry-root root.key.pub",
        308,
        1,
    );
    folder.refused("registry show state.bin", 308, 1);
}

#[test]
fn what_a_registry_says_of_a_key_decides() {
    let folder = folder();
    let (iat, exp) = issued(&folder, "a.kvcap");
    let listed = |how: &str| {
        let name = "k.reg";
        let _old = std::fs::remove_file(folder.path(name));
        folder.ok(&format!("registry init {name} {ROOT} --ttl 300d"));
        folder.ok(&format!("registry add {name} issuer.key.pub {ROOT} {how}"));
        format!("verify a.kvcap --trust {name} --registry-root root.key.pub")
    };
    folder.ok(&listed(""));
    folder.refused(&listed(&format!("--not-before {}", iat + 1)), 303, 1);
    folder.refused(&listed(&format!("--sign-until {iat}")), 303, 1);
    folder.ok(&listed(&format!("--sign-until {}", iat + 1)));
    folder.refused(&listed(&format!("--verify-until {iat}")), 303, 1);
    folder.refused(&listed("--purpose statements"), 302, 1);
    folder.refused(&listed("--suite aes-256-gcm"), 302, 1);
    folder.refused(&listed("--issuer acme"), 312, 1);

    // retired: what was signed before stays good, what is signed after is not
    let verify = listed("");
    folder.ok(&format!(
        "registry retire k.reg issuer.key.pub {ROOT} --sign-until {}",
        iat + 1
    ));
    folder.ok(&verify);
    folder.ok(&format!(
        "registry retire k.reg issuer.key.pub {ROOT} --sign-until {iat}"
    ));
    folder.refused(&verify, 303, 1);
    // compromised: nothing is good, whatever its date, and there is no way back
    let verify = listed("");
    let id = folder.json("registry show k.reg")["keys"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.ok(&format!("registry compromise k.reg {id} {ROOT}"));
    folder.refused(&verify, 304, 1);
    folder.refused(&format!("registry retire k.reg {id} {ROOT}"), 304, 1);
    folder.refused(&format!("registry add k.reg issuer.key.pub {ROOT}"), 311, 1);
    folder.refused(
        &format!("registry compromise k.reg {} {ROOT}", "0".repeat(32)),
        301,
        1,
    );

    // an expired registry vouches for nobody, though the capsule is still valid
    folder.ok(&format!("registry init short.reg {ROOT} --ttl 1s"));
    folder.ok(&format!(
        "registry add short.reg issuer.key.pub {ROOT} --ttl 10m"
    ));
    let verify = "verify a.kvcap --trust short.reg --registry-root root.key.pub";
    folder.ok(verify);
    folder.refused(&format!("{verify} --at {}", exp - 60), 310, 1);
    folder.refused(
        "registry verify short.reg --registry-root root.key.pub --at 4000000000",
        310,
        1,
    );
    folder.ok(&format!("registry renew short.reg {ROOT} --ttl 2h"));
    folder.ok(&format!("{verify} --at {}", exp - 60));
}

#[test]
fn a_revoked_capsule_is_refused() {
    let folder = folder();
    folder.ok(&format!(
        "seal state.bin {}",
        SEAL.replace("a.kvcap", "b.kvcap")
    ));
    let revoked = folder.json(&format!("registry revoke keys.reg b.kvcap {ROOT}"));
    assert_eq!(revoked["revoked"].as_array().unwrap().len(), 1);
    folder.ok(&format!("verify a.kvcap {BY}"));
    folder.refused(&format!("verify b.kvcap {BY}"), 409, 1);
    folder.refused(
        &format!("open b.kvcap {BY} --wrap-key reader.key -o back"),
        409,
        1,
    );
    // by its id; once more changes nothing
    let id = folder.json("inspect a.kvcap")["unverified"]["capsule"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.ok(&format!("registry revoke keys.reg {id} b.kvcap {ROOT}"));
    folder.refused(&format!("verify a.kvcap {BY}"), 409, 1);
    let shown = folder.json("registry show keys.reg");
    assert_eq!(shown["verified"], false);
    assert_eq!(shown["version"], 4);
    assert_eq!(shown["revoked"].as_array().unwrap().len(), 2);
    assert_eq!(shown["keys"][0]["status"], "active");
    assert!(
        folder
            .ok("registry show keys.reg")
            .out
            .starts_with("UNVERIFIED")
    );
    let shown = folder.json("registry show keys.reg --registry-root root.key.pub");
    assert_eq!(shown["verified"], true);
    // older versions stay beside it
    for version in 1..4 {
        let kept = folder.json(&format!("registry show keys.reg.{version}"));
        assert_eq!(kept["version"], version);
    }
    // a changed registry is nobody's
    let mut bytes = folder.read("keys.reg");
    let at = bytes
        .windows(5)
        .position(|window| window == b"local")
        .unwrap();
    bytes[at] = b'x';
    folder.write("forged.reg", &bytes);
    let forged = "--trust forged.reg --registry-root root.key.pub";
    folder.refused(&format!("verify a.kvcap {forged}"), 308, 1);
    folder.refused(&format!("registry renew forged.reg {ROOT}"), 308, 1);
}

#[test]
fn writers_at_once_lose_nothing() {
    let folder = folder();
    let writers: Vec<Child> = (0..12)
        .map(|number| {
            let id = format!("{number:032x}");
            let mut command = folder.command(&format!("registry revoke keys.reg {id} {ROOT}"));
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let shown = folder.json("registry verify keys.reg --registry-root root.key.pub");
    assert_eq!(shown["version"], 14);
    assert_eq!(shown["revoked"].as_array().unwrap().len(), 12);
    // each version follows the one before
    for version in 2..14 {
        let kept = folder.json(&format!("registry show keys.reg.{version}"));
        assert_eq!(kept["version"], version);
        assert!(kept["previous"].is_string());
    }
}
