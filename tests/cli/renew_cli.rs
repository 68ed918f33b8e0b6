//! `kvcap renew` and `kvcap rewrap`: new headers over a body that stays.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "program/support.rs"]
mod support;

use support::{Folder, SEAL, TRUST};

const SIGN: &str = "--trust issuer.key.pub --sign-key issuer.key";

/// All but the header's pages.
fn rest(file: &[u8]) -> &[u8] {
    let len = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    &file[(64 + len).next_multiple_of(4096)..]
}

fn opens(folder: &Folder, capsule: &str, key: &str, more: &str) {
    folder.ok(&format!(
        "open {capsule} --accept-unchecked model -f -o back {TRUST} --wrap-key {key} {more}"
    ));
    assert!(folder.read("back") == folder.read("state.bin"), "{capsule}");
}

#[test]
fn a_renewed_capsule_outlives_the_old_one() {
    let folder = Folder::sealed();
    let old = folder.json("inspect a.kvcap");
    let expires = old["unverified"]["claims"]["expires"].as_u64().unwrap();
    let renewed = folder.json(&format!("renew a.kvcap -o b.kvcap {SIGN} --ttl 2d"));
    assert!(renewed["expires"].as_u64().unwrap() > expires + 86_400);
    assert!(rest(&folder.read("a.kvcap")) == rest(&folder.read("b.kvcap")));
    let late = format!("--at {}", expires + 10);
    folder.refused(&format!("verify a.kvcap {TRUST} {late}"), 402, 1);
    let verified = folder.json(&format!("verify b.kvcap {TRUST} --model model {late}"));
    assert_eq!(verified["capsule_id"], renewed["capsule_id"]);
    assert_eq!(verified["body_checked"], true);
    opens(&folder, "b.kvcap", "reader.key", &late);

    // through pipes, and over itself
    let ran = folder.pipe(
        &format!("renew - -o - {SIGN} --expires {}", expires + 5),
        &folder.read("a.kvcap"),
    );
    assert_eq!(ran.exit, 0, "{}", ran.err);
    folder.write("piped.kvcap", &ran.stdout);
    opens(&folder, "piped.kvcap", "reader.key", "");
    folder.refused(&format!("renew a.kvcap -o a.kvcap {SIGN} --ttl 2d"), 941, 4);
    folder.ok(&format!("renew a.kvcap -f -o a.kvcap {SIGN} --ttl 2d"));
    opens(&folder, "a.kvcap", "reader.key", &late);
}

#[test]
fn renewals_end_where_the_issuer_said() {
    let folder = Folder::new();
    folder.ok(&format!("seal state.bin {SEAL} --renewable-for 2d"));
    let renew = |times: &str| format!("renew a.kvcap -o b.kvcap {SIGN} {times}");
    folder.refused(&renew("--ttl 3d"), 404, 1);
    let renewed = folder.json(&renew("--ttl 47h"));
    let until = renewed["renew_until"].as_u64().unwrap();
    let again = format!("renew b.kvcap -f -o c.kvcap {SIGN} --expires");
    folder.refused(&format!("{again} {}", until + 1), 404, 1);
    let last = folder.json(&format!("{again} {until}"));
    assert_eq!(
        (&last["renew_until"], &last["expires"]),
        (&renewed["renew_until"], &renewed["renew_until"])
    );
    let seen = folder.json(&format!("inspect c.kvcap {TRUST}"));
    assert_eq!(seen["signed"]["claims"]["renew_until"], until);
    folder.refused(&format!("{again} {until} --at {until}"), 402, 1);

    // without a word of the issuer: thirty days from the first sealing
    folder.ok(&format!("seal state.bin -f {SEAL}"));
    folder.ok(&format!("renew a.kvcap -f -o b.kvcap {SIGN} --ttl 29d"));
    folder.refused(
        &format!("renew b.kvcap -f -o c.kvcap {SIGN} --ttl 31d --max-lifetime 90d"),
        404,
        1,
    );
    // what may be used once is not extended
    folder.ok(&format!("seal state.bin -f {SEAL} --single-use"));
    folder.refused(&format!("renew a.kvcap -o x {SIGN} --ttl 2h"), 404, 1);
    folder.refused(
        &format!("seal state.bin -o x {SEAL} -f --renewable-for 30m"),
        944,
        2,
    );
    folder.refused(&format!("renew a.kvcap -o x {SIGN}"), 944, 2);
}

#[test]
fn scope_and_signer_are_the_issuers() {
    let folder = Folder::new();
    folder.ok(&format!(
        "seal state.bin {SEAL} --scope kv:restore --scope kv:inspect"
    ));
    let renew = |more: &str| format!("renew a.kvcap -f -o b.kvcap {SIGN} --ttl 1h {more}");
    folder.ok(&renew("--scope kv:inspect"));
    folder.refused(&format!("verify b.kvcap {TRUST}"), 408, 1);
    folder.refused(&renew("--scope kv:train"), 408, 1);
    let wide = folder.json(&renew("--scope kv:train --widen-scope"));
    assert_eq!(wide["scope"], "kv:train");
    folder.refused(&renew("--widen-scope"), 944, 2);

    // another key signs only where it is trusted too
    folder.ok("keygen sign -o next.key --issuer lab");
    let next = "renew a.kvcap -f -o b.kvcap --trust issuer.key.pub --sign-key next.key --ttl 1h";
    folder.refused(next, 301, 1);
    folder.ok(&format!("{next} --trust next.key.pub"));
    folder.ok("verify b.kvcap --trust next.key.pub --model model");
    folder.refused(&format!("verify b.kvcap {TRUST}"), 301, 1);
    folder.refused(
        "renew a.kvcap -o x --trust next.key.pub --sign-key next.key --ttl 1h",
        301,
        1,
    );

    let mut broken = folder.read("a.kvcap");
    broken.truncate(broken.len() - 1);
    folder.write("a.kvcap", &broken);
    folder.refused(&renew(""), 807, 1);
}

#[test]
fn rewrapping_changes_who_can_open() {
    let folder = Folder::sealed();
    folder.ok("keygen wrap -o new.key");
    let rewrap = format!("rewrap a.kvcap -f -o b.kvcap {SIGN} --wrap-key reader.key --to new.key");
    folder.ok(&rewrap);
    assert!(rest(&folder.read("a.kvcap")) == rest(&folder.read("b.kvcap")));
    opens(&folder, "b.kvcap", "new.key", "");
    folder.refused(
        &format!("open b.kvcap --accept-unchecked model -o x {TRUST} --wrap-key reader.key"),
        809,
        1,
    );
    let both = folder.json(&format!("{rewrap} --add --audience partner"));
    assert_eq!(both["recipients"].as_array().unwrap().len(), 2);
    for key in ["new.key", "reader.key"] {
        opens(&folder, "b.kvcap", key, "--audience partner");
    }
    folder.refused(
        &format!("open b.kvcap --accept-unchecked model -o x {TRUST} --wrap-key new.key"),
        405,
        1,
    );
    folder.refused(&format!("{rewrap} --to reader.key --add"), 808, 3);
    folder.refused(
        &format!("rewrap a.kvcap -o x {SIGN} --wrap-key new.key --to new.key"),
        809,
        1,
    );
}

#[cfg(unix)]
#[test]
fn a_killed_renewal_leaves_the_old_or_the_new() {
    use std::{process::Stdio, time::Duration};
    let folder = Folder::sealed();
    let line = format!("renew a.kvcap -f -o a.kvcap {SIGN} --ttl 2h");
    for pause in 0..12 {
        let mut child = folder
            .command(&line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        folder.ok(&format!("verify a.kvcap {TRUST}"));
    }
}

#[test]
fn a_public_key_is_enough_to_hand_over() {
    let folder = Folder::sealed();
    for kind in ["hpke", "x-wing"] {
        let made = folder.json(&format!("keygen {kind} -o {kind}.key"));
        assert_eq!(
            (&made["kind"], made["output"].as_str()),
            (&kind.into(), Some(&*format!("{kind}.key")))
        );
        let line = format!(
            "rewrap a.kvcap -f -o b.kvcap {SIGN} --wrap-key reader.key --recipient {kind}.key.pub"
        );
        let rewrapped = folder.json(&format!("{line} --audience partner"));
        assert_eq!(rewrapped["recipients"][0]["kind"], kind);
        assert_eq!(rewrapped["recipients"][0]["key_id"], made["key_id"]);
        opens(
            &folder,
            "b.kvcap",
            &format!("{kind}.key"),
            "--audience partner",
        );
        folder.refused(
            &format!("open b.kvcap --accept-unchecked model -o x {TRUST} --audience partner --wrap-key reader.key"),
            809,
            1,
        );
        folder.refused(&format!("{line} --recipient reader.key"), 942, 2);
        folder.refused(&format!("{line} --wrap-key {kind}.key.pub"), 942, 2);
        let seen = folder.ok("inspect b.kvcap").out;
        assert!(seen.contains(&format!("({kind})")), "{seen}");

        // sealed for both at once, the key given as text
        let text = made["public_key"].as_str().unwrap();
        folder.ok(&format!("seal state.bin -f {SEAL} --recipient {text}"));
        opens(&folder, "a.kvcap", &format!("{kind}.key"), "");
        opens(&folder, "a.kvcap", "reader.key", "");
    }
    // without a secret key of its own a sealer has nothing to commit to the prompt with
    let only = "seal state.bin -o c.kvcap --model model --ttl 1h --sign-key issuer.key --recipient hpke.key.pub";
    folder.refused(only, 944, 2);
    folder.ok(&format!("{only} --public-prefix"));
    opens(&folder, "c.kvcap", "hpke.key", "");
    folder.refused(
        &format!("{only} --public-prefix --recipient x-wing.key.pub -f"),
        808,
        3,
    );
    folder.refused(
        &format!("rewrap c.kvcap -o x {SIGN} --wrap-key hpke.key --recipient x-wing.key.pub --add"),
        808,
        3,
    );
    folder.refused("keygen hpke -o hpke.key", 941, 4);
}
