//! `kvcap registry`, and capsules verified by one.

use std::process::{Child, Stdio};

use crate::support::{Folder, SEAL};

const ROOT: &str = "--root-key root.key";
const BY: &str = "--registry keys.reg --registry-root root.key.pub";

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
    let open = format!("open a.kvcap {BY} --wrap-key reader.key --model model");
    folder.ok(&format!("verify a.kvcap {BY}"));
    folder.ok(&format!("{open} -o back"));
    assert!(folder.read("back") == folder.read("state.bin"));
    let text = std::fs::read_to_string(folder.path("root.key.pub")).unwrap();
    let text = text.lines().last().unwrap();
    folder.ok(&format!(
        "verify a.kvcap --registry keys.reg --registry-root {text}"
    ));

    // the root must be named, and be the right one
    folder.refused("verify a.kvcap --registry keys.reg", 944, 2);
    folder.refused("verify a.kvcap --registry-root root.key.pub", 944, 2);
    folder.ok("keygen root -o other.key");
    let other = "--registry-root other.key.pub";
    folder.refused(
        &format!("verify a.kvcap --registry keys.reg {other}"),
        308,
        1,
    );
    folder.ok(&format!("verify a.kvcap {BY} {other}"));
    // neither kind of key does the other's work
    folder.refused("verify a.kvcap --trust root.key.pub", 942, 2);
    folder.refused(
        "verify a.kvcap --registry keys.reg --registry-root issuer.key.pub",
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
        944,
        2,
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
        for old in ["k.reg", "k.reg.1", "k.reg.2", "k.reg.3"] {
            let _old = std::fs::remove_file(folder.path(old));
        }
        folder.ok(&format!("registry init {name} {ROOT} --ttl 300d"));
        folder.ok(&format!("registry add {name} issuer.key.pub {ROOT} {how}"));
        format!("verify a.kvcap --registry {name} --registry-root root.key.pub")
    };
    folder.ok(&listed(""));
    folder.refused(&listed(&format!("--not-before {}", iat + 1)), 303, 1);
    folder.refused(&listed(&format!("--sign-until {iat}")), 303, 1);
    folder.ok(&listed(&format!("--sign-until {}", iat + 1)));
    folder.refused(&listed(&format!("--verify-until {iat}")), 303, 1);
    folder.refused(&listed("--purpose statements"), 302, 1);
    folder.refused(&listed("--suite aes-256-gcm"), 302, 1);
    let given = format!("registry add k.reg issuer.key.pub {ROOT} --issuer acme");
    folder.refused(&given, 312, 1);

    // retired: what was signed before stays good, what is signed after is not
    let verify = listed("");
    folder.ok(&format!(
        "registry retire k.reg issuer.key.pub {ROOT} --sign-until {} --yes",
        iat + 1
    ));
    folder.ok(&verify);
    folder.ok(&format!(
        "registry retire k.reg issuer.key.pub {ROOT} --sign-until {iat} --yes"
    ));
    folder.refused(&verify, 303, 1);
    // a date that was not understood, or that voids what was signed, is no date to be taken in silence
    for until in ["2027", "28112026"] {
        let how = format!("registry retire k.reg issuer.key.pub {ROOT} --sign-until {until}");
        folder.refused(&how, 944, 2);
    }
    let past = iat - 1; // before now on any machine: `iat` may be this very second
    let voids = format!("registry retire k.reg issuer.key.pub {ROOT} --sign-until {past}");
    folder.refused(&voids, 944, 2);
    // compromised: nothing is good, whatever its date, and there is no way back
    let verify = listed("");
    let id = folder.json("registry show k.reg")["keys"][0]["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.ok(&format!("registry compromise k.reg {id} {ROOT} --yes"));
    folder.refused(&verify, 304, 1);
    folder.refused(&format!("registry retire k.reg {id} {ROOT}"), 304, 1);
    folder.refused(&format!("registry add k.reg issuer.key.pub {ROOT}"), 311, 1);
    folder.refused(
        &format!("registry compromise k.reg {} {ROOT} --yes", "0".repeat(32)),
        301,
        1,
    );

    // an expired registry vouches for nobody, though the capsule is still valid
    folder.ok(&format!("registry init short.reg {ROOT} --ttl 5m"));
    folder.ok(&format!(
        "registry add short.reg issuer.key.pub {ROOT} --ttl 10m"
    ));
    let verify = "verify a.kvcap --registry short.reg --registry-root root.key.pub";
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
        &format!("open b.kvcap --accept-unchecked model {BY} --wrap-key reader.key -o back"),
        409,
        1,
    );
    // by its id; once more changes nothing
    let id = folder.json("inspect a.kvcap")["unverified"]["capsule_id"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.ok(&format!("registry revoke keys.reg {id} b.kvcap {ROOT}"));
    folder.refused(&format!("verify a.kvcap {BY}"), 409, 1);
    let shown = folder.json("registry show keys.reg");
    assert_eq!(shown["verified"], "nothing");
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
    assert_eq!(shown["verified"], "signature");
    // older versions stay beside it
    for version in 1..4 {
        let kept = folder.json(&format!("registry show keys.reg.{version}"));
        assert_eq!(kept["version"], version);
    }
    // a changed registry is nobody's
    let mut bytes = folder.read("keys.reg");
    let at = bytes
        .windows(3)
        .position(|window| window == b"lab")
        .unwrap();
    bytes[at] = b'x';
    folder.write("forged.reg", &bytes);
    let forged = "--registry forged.reg --registry-root root.key.pub";
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

/// A file bears whatever id its signer writes into it.
#[test]
fn revoking_a_file_takes_its_signature_first() {
    let folder = folder();
    folder.ok("keygen sign -o evil.key");
    folder.ok(&format!(
        "seal state.bin {}",
        SEAL.replace("a.kvcap", "evil.kvcap")
            .replace("issuer.key", "evil.key")
    ));
    folder.refused(
        &format!("registry revoke keys.reg evil.kvcap {ROOT}"),
        301,
        1,
    );
    let id = folder.json("inspect a.kvcap")["unverified"]["capsule_id"]
        .as_str()
        .unwrap()
        .to_owned();
    // one bit of the signature of the registry's own issuer
    let mut forged = folder.read("a.kvcap");
    let len = u32::from_le_bytes(*forged[12..].first_chunk().unwrap());
    let end = 64 + usize::try_from(len).unwrap();
    forged[end - 1] ^= 1;
    folder.write("forged.kvcap", &forged);
    let refused = folder.run(&format!("registry revoke keys.reg forged.kvcap {ROOT}"));
    assert!(
        [306, 307]
            .iter()
            .any(|code| refused.err.contains(&format!("KVC-{code}"))),
        "{}",
        refused.err
    );
    assert_eq!(refused.exit, 1);
    folder.ok(&format!("verify a.kvcap {BY}"));
    // an id by hand is taken as it is, and the report says so
    let revoked = folder.json(&format!("registry revoke keys.reg {id} {ROOT}"));
    assert_eq!(revoked["not_looked_at"][0], id);
    let again = folder.json(&format!("registry revoke keys.reg a.kvcap {ROOT}"));
    assert_eq!(again["not_looked_at"].as_array().unwrap().len(), 0);
}

#[test]
fn a_key_is_not_compromised_by_oversight() {
    let folder = folder();
    let line = format!("registry compromise keys.reg issuer.key.pub {ROOT}");
    folder.refused(&line, 944, 2);
    folder.ok(&format!("verify a.kvcap {BY}"));
    folder.ok(&format!("{line} --yes"));
    folder.refused(&format!("verify a.kvcap {BY}"), 304, 1);
}

/// The version before is kept, and replaces nothing else.
#[test]
fn a_version_replaces_no_other_file() {
    let folder = folder();
    let before = folder.read("keys.reg");
    folder.write("keys.reg.2", b"notes");
    folder.refused(&format!("registry renew keys.reg {ROOT}"), 941, 4);
    assert_eq!(folder.read("keys.reg.2"), b"notes");
    assert_eq!(folder.read("keys.reg"), before);
    // a killed run has kept it and gone no further
    folder.write("keys.reg.2", &before);
    folder.ok(&format!("registry renew keys.reg {ROOT}"));
}

/// Who serves a registry's file replaces it by his own public key.
#[test]
fn a_key_in_place_of_a_registry_is_refused() {
    let folder = folder();
    folder.ok("keygen sign -o evil.key");
    folder.ok("keygen wrap -o evil.wrap");
    let evil = SEAL.replace("issuer.key", "evil.key");
    folder.ok(&format!(
        "seal state.bin {}",
        evil.replace("a.kvcap", "evil.kvcap")
    ));
    let open = format!("open a.kvcap {BY} --model model --wrap-key reader.key --ledger memory");
    folder.ok(&format!("{open} -o back"));
    folder.refused(&format!("verify evil.kvcap {BY}"), 301, 1);

    folder.write("registry.kept", &folder.read("keys.reg"));
    folder.write("keys.reg", &folder.read("evil.key.pub"));
    let open = format!("open evil.kvcap {BY} --model model --wrap-key reader.key -o x");
    folder.refused(&format!("verify evil.kvcap {BY}"), 308, 1);
    folder.refused(&open, 308, 1);
    folder.refused(&format!("{open} --ledger memory"), 308, 1);
    let renew = "renew evil.kvcap -o laundered --ttl 20m --sign-key issuer.key";
    folder.refused(&format!("{renew} {BY}"), 308, 1);
    folder.refused(&format!("{renew} {BY} --trust issuer.key.pub"), 944, 2);
    // given as a key it is one, and a memory that has seen the registry wants that
    let key = open.replace(BY, "--trust evil.key.pub");
    folder.refused(&format!("{key} --ledger memory"), 309, 1);
    // a registry is no key
    folder.refused("verify a.kvcap --trust registry.kept", 942, 2);
    folder.write("keys.reg", &folder.read("registry.kept"));
    folder.ok(&format!("verify a.kvcap {BY} --ledger memory"));
    folder.refused("verify a.kvcap", 944, 2);
}

/// Renewing and truncating sign with a key that the same registry lists.
#[test]
fn a_capsule_is_renewed_by_a_registry() {
    let folder = folder();
    folder.ok("keygen sign -o next.key --issuer lab");
    let renew = format!("renew a.kvcap -o b.kvcap --ttl 30m {BY} --sign-key next.key");
    folder.refused(&renew, 301, 1);
    // a key's file does not say whose capsules it may renew
    let add = format!("registry add keys.reg next.key.pub {ROOT}");
    folder.refused(&add, 944, 2);
    folder.ok(&format!("{add} --issuer lab"));
    folder.ok(&renew);
    folder.ok(&format!("verify b.kvcap {BY}"));
    folder.ok(&format!(
        "truncate a.kvcap -o c.kvcap --tokens 7 {BY} --sign-key next.key --wrap-key reader.key"
    ));
    // the own key beside a registry: what continues a capsule of one's own
    folder.ok("keygen sign -o own.key");
    let own = SEAL.replace("issuer.key", "own.key");
    folder.ok(&format!(
        "seal state.bin {}",
        own.replace("a.kvcap", "own.kvcap")
    ));
    folder.refused(&format!("verify own.kvcap {BY}"), 301, 1);
}

/// A version that was published is neither signed again nor replaced.
#[test]
fn a_registry_that_was_rolled_back_is_not_changed() {
    let folder = folder();
    let second = folder.read("keys.reg");
    folder.ok(&format!("registry revoke keys.reg a.kvcap {ROOT}"));
    folder.ok(&format!("registry renew keys.reg {ROOT}"));
    let newest = folder.read("keys.reg");
    let third = folder.read("keys.reg.3");
    folder.write("keys.reg", &second);
    folder.refused(&format!("registry renew keys.reg {ROOT}"), 309, 1);
    // neither where another registry took its place
    folder.write("keys.reg", &newest);
    folder.write("keys.reg.4", &third);
    folder.refused(&format!("registry renew keys.reg {ROOT}"), 309, 1);
    assert!(folder.read("keys.reg.4") == third && folder.read("keys.reg") == newest);
    // a killed run has kept the version before, and no more
    folder.write("keys.reg.4", &newest);
    folder.ok(&format!("registry renew keys.reg {ROOT}"));
    folder.refused(&format!("verify a.kvcap {BY}"), 409, 1);
}

/// A revocation through a link would not reach the file that verifiers read.
#[cfg(unix)]
#[test]
fn a_registry_is_not_changed_through_a_link() {
    let folder = folder();
    std::os::unix::fs::symlink(folder.path("keys.reg"), folder.path("link.reg")).unwrap();
    folder.refused(&format!("registry revoke link.reg a.kvcap {ROOT}"), 940, 4);
    folder.ok(&format!("verify a.kvcap {BY}"));
    assert!(folder.path("link.reg").is_symlink());
    // nor is an id taken for one where a file has that name
    let id = "0123456789abcdef0123456789abcdef";
    folder.write(id, &folder.read("a.kvcap"));
    folder.refused(&format!("registry revoke keys.reg {id} {ROOT}"), 944, 2);
    folder.ok(&format!("registry revoke keys.reg ./{id} {ROOT}"));
    folder.refused(&format!("verify a.kvcap {BY}"), 409, 1);
}
