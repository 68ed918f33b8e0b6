//! The life of a session's capsules, through the program: base image, increments, branch, rewind,
//! renewal, rotation of the signing key, revocation, erasure. Each result is compared with a state that
//! was sealed at once.
//!
//! The same on another state, with sizes and times:
//! `KVCAP_STORY_STATE=… KVCAP_STORY_MODEL=… cargo test -p kvcap-cli --test story a_session -- --nocapture`,
//! with `KVCAP_STORY_TOKENS=…`, a JSON array, where the state does not carry its tokens; absolute paths.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

#[path = "program/support.rs"]
#[allow(dead_code, reason = "shared with the tests of single verbs")]
mod support;

use std::{fs, time::Instant};

use kvcap_states::{Hints, State, detect, parse};
use serde_json::Value;
use support::{Folder, PROMPT, TRUST};

const KEYS: &str = "--sign-key issuer.key --wrap-key keys";
/// Whose the session is: the base image is nobody's.
const ANA: &str = "--subject ana --tenant acme";

/// A folder with a session's states after N tokens as `state.N`, and their prompts as `prompt.N.json`.
struct Session {
    folder: Folder,
    model: String,
    /// What `state.bin` holds: the state after the last turn.
    last: State,
    ids: Vec<u32>,
    /// Tokens of the base image, and after each of five turns.
    ends: [u64; 6],
}

impl Session {
    /// The session of the fixture: 6, 8, … 16 tokens.
    fn small() -> Self {
        let ids = serde_json::from_str(PROMPT).unwrap();
        let session = Self::of(Folder::new(), "model".to_owned(), Some(ids));
        assert!(session.folder.read("state.16") == session.folder.read("state.bin"));
        session
    }

    /// The session of a saved state that the environment names, or the small one.
    fn real() -> Self {
        let Ok(state) = std::env::var("KVCAP_STORY_STATE") else {
            return Self::small();
        };
        let folder = Folder::new();
        folder.write("state.bin", &fs::read(state).unwrap());
        let ids = std::env::var("KVCAP_STORY_TOKENS").ok();
        let ids = ids.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap());
        Self::of(folder, std::env::var("KVCAP_STORY_MODEL").unwrap(), ids)
    }

    fn of(folder: Folder, model: String, ids: Option<Vec<u32>>) -> Self {
        let file = folder.read("state.bin");
        let last = parse(detect(&file).unwrap(), &file, Hints::None).unwrap();
        let ids = ids.or_else(|| last.tokens.clone()).unwrap();
        let tokens = last.positions.end;
        let base = tokens * 3 / 8;
        let ends = [0, 1, 2, 3, 4, 5].map(|turn| base + (tokens - base) * turn / 5);
        let session = Self {
            folder,
            model,
            last,
            ids,
            ends,
        };
        fs::create_dir(session.folder.path("keys")).unwrap();
        session.prompt(tokens);
        session.seal("state.bin", tokens, "whole", ANA);
        // all but rows past the offset, which are not sealed
        let last = session.open("whole", tokens, TRUST, ANA);
        session.folder.write(&format!("state.{tokens}"), &last);
        for tokens in ends.into_iter().take(5).chain([ends[2] - 1]) {
            session.prompt(tokens);
            session.ok(&format!(
                "truncate whole -o cut {TRUST} {KEYS} --tokens {tokens}"
            ));
            let back = session.open("cut", tokens, TRUST, ANA);
            session.folder.write(&format!("state.{tokens}"), &back);
            fs::remove_file(session.folder.path("cut")).unwrap();
        }
        fs::remove_file(session.folder.path("whole")).unwrap();
        session
    }

    fn prompt(&self, tokens: u64) {
        let ids = &self.ids[..usize::try_from(tokens).unwrap()];
        let ids = serde_json::to_vec(ids).unwrap();
        self.folder.write(&format!("prompt.{tokens}.json"), &ids);
    }

    /// Runs, and tells how long it took and how large its output is.
    #[allow(clippy::print_stdout, reason = "for who runs it by hand")]
    fn ok(&self, line: &str) {
        let started = Instant::now();
        self.folder.ok(line);
        let took = started.elapsed().as_secs_f64() * 1e3;
        let output = line.split_whitespace().skip_while(|word| *word != "-o");
        let size = output
            .skip(1)
            .take(1)
            .map(|name| self.size(name))
            .sum::<u64>();
        println!("{took:8.1} ms {size:>10} bytes  {line}");
    }

    fn size(&self, name: &str) -> u64 {
        fs::metadata(self.folder.path(name)).unwrap().len()
    }

    fn seal(&self, state: &str, tokens: u64, to: &str, more: &str) {
        self.ok(&self.sealing(state, tokens, to, more));
    }

    fn sealing(&self, state: &str, tokens: u64, to: &str, more: &str) -> String {
        let model = &self.model;
        format!(
            "seal {state} -o {to} --model {model} --tokens prompt.{tokens}.json --ttl 1h {KEYS} {more}"
        )
    }

    /// What a capsule and its ancestors hold.
    fn open(&self, capsule: &str, tokens: u64, trust: &str, whose: &str) -> Vec<u8> {
        let model = &self.model;
        self.ok(&format!(
            "open {capsule} -f -o back {trust} --wrap-key keys {whose} --model {model} --tokens prompt.{tokens}.json"
        ));
        self.folder.read("back")
    }

    /// That a capsule and its ancestors hold a state, as one that is sealed at once does.
    fn same(&self, capsule: &str, trust: &str, state: &str, tokens: u64) {
        let back = self.open(capsule, tokens, trust, ANA);
        assert!(back == self.folder.read(state), "{capsule}");
        self.seal(state, tokens, "direct", ANA);
        assert!(back == self.open("direct", tokens, TRUST, ANA), "{capsule}");
        fs::remove_file(self.folder.path("direct")).unwrap();
    }

    /// Base image and five increments.
    fn chain(&self) {
        let mut parent: Option<String> = None;
        for (turn, tokens) in self.ends.into_iter().enumerate() {
            let (name, more) = match parent {
                None => ("base.kvcap".to_owned(), "--base --public-prefix".to_owned()),
                Some(parent) => (format!("t{turn}.kvcap"), format!("{ANA} --parent {parent}")),
            };
            self.seal(&format!("state.{tokens}"), tokens, &name, &more);
            parent = Some(name);
        }
    }

    /// The last state, with another row from the fourth turn on.
    fn idea(&self) {
        let bank = self.last.banks.last().unwrap();
        let row = bank.rows(self.ends[3], 1).unwrap().parts[0].offset;
        let mut other = self.folder.read(&format!("state.{}", self.ends[5]));
        other[usize::try_from(row).unwrap()] ^= 1;
        self.folder.write("state.b", &other);
    }
}

#[test]
fn a_session_from_base_image_to_erasure() {
    let session = Session::real();
    let folder = &session.folder;
    session.chain();
    let [base, _, second, _, _, all] = session.ends;
    let last = format!("state.{all}");
    let model = &session.model;
    let seen = folder.json(&format!("verify t5.kvcap {TRUST} {ANA} --model {model}"));
    assert_eq!(seen["chain"]["depth"], 6);
    assert_eq!(seen["chain"]["positions"], serde_json::json!([0, all]));
    session.same("t5.kvcap", TRUST, &last, all);

    // a branch
    session.idea();
    session.seal(
        "state.b",
        all,
        "b4.kvcap",
        &format!("{ANA} --parent t3.kvcap"),
    );
    session.same("b4.kvcap", TRUST, "state.b", all);
    let wrong = format!("{ANA} --parent t4.kvcap");
    folder.refused(&session.sealing("state.b", all, "no", &wrong), 702, 1);
    let log = folder.json("log");
    let nodes = log["unverified"].as_array().unwrap();
    let of = |name: &str| {
        nodes
            .iter()
            .find(|n| n["path"] == format!("./{name}.kvcap"))
    };
    let t3 = &of("t3").unwrap()["lineage"];
    assert_eq!(&of("t4").unwrap()["parent"], t3);
    assert_eq!(&of("b4").unwrap()["parent"], t3);
    let text = folder.ok("log").out;
    assert!(
        text.contains("└─ ./t1.kvcap") && text.contains("├─ ./b4.kvcap"),
        "{text}"
    );

    // rewinds: an ancestor, and any number of tokens
    session.same("t2.kvcap", TRUST, &format!("state.{second}"), second);
    let early = second - 1;
    session.ok(&format!(
        "truncate t5.kvcap -o early {TRUST} {KEYS} --tokens {early}"
    ));
    session.same("early", TRUST, &format!("state.{early}"), early);
    let open = format!("open early --accept-unchecked model -o no {TRUST} --wrap-key keys {ANA}");
    folder.refused(&format!("{open} --tokens prompt.{all}.json"), 605, 1);

    // renewal changes no digest
    let before = folder.json("log base.kvcap")["unverified"][0].clone();
    session.ok(&format!(
        "renew base.kvcap -f -o base.kvcap {TRUST} --sign-key issuer.key --ttl 2h"
    ));
    let after = folder.json("log base.kvcap")["unverified"][0].clone();
    assert_eq!(before["lineage"], after["lineage"]);
    assert_ne!(before["expires"], after["expires"]);
    session.same("t5.kvcap", TRUST, &last, all);

    // a new signing key: the old capsules are signed again, their bodies stay
    fs::create_dir(folder.path("old")).unwrap();
    folder.ok("keygen sign -o next.key --issuer lab");
    let both = "--trust issuer.key.pub --trust next.key.pub";
    for name in ["base", "t1", "t2", "t3", "t4", "t5", "b4"] {
        let old = folder.read(&format!("{name}.kvcap"));
        folder.write(&format!("old/{name}.kvcap"), &old);
        session.ok(&format!(
            "renew {name}.kvcap -f -o {name}.kvcap {both} --sign-key next.key --ttl 1h"
        ));
    }
    let next = "--trust next.key.pub";
    session.same("t5.kvcap", next, &last, all);
    session.ok(&format!(
        "compact b4.kvcap -o one {next} --sign-key next.key --wrap-key keys"
    ));
    session.same("one", next, "state.b", all);

    // the old key is out
    folder.ok("keygen root -o root.key");
    let root = "--root-key root.key";
    folder.ok(&format!("registry init registry {root}"));
    folder.ok(&format!("registry add registry issuer.key.pub {root}"));
    folder.ok(&format!(
        "registry add registry next.key.pub --issuer lab {root}"
    ));
    let registry = "--registry registry --registry-root root.key.pub";
    session.same("old/t5.kvcap", registry, &last, all);
    folder.ok(&format!(
        "registry compromise registry issuer.key.pub --yes {root}"
    ));
    folder.refused(&format!("verify old/t5.kvcap {registry} {ANA}"), 304, 1);
    session.same("t5.kvcap", registry, &last, all);

    // a capsule that is revoked takes its descendants with it, and nothing else
    folder.ok(&format!("registry revoke registry t4.kvcap {root}"));
    folder.refused(&format!("verify t4.kvcap {registry} {ANA}"), 409, 1);
    folder.refused(&format!("verify t5.kvcap {registry} {ANA}"), 708, 1);
    session.same("b4.kvcap", registry, "state.b", all);

    // the tenant is erased: no copy opens, and each still tells what it was
    folder.ok("shred --tenant acme --wrap-key keys --yes");
    for (name, trust) in [
        ("b4.kvcap", registry),
        ("one", registry),
        ("t1.kvcap", registry),
        ("old/t5.kvcap", TRUST),
        ("early", TRUST),
    ] {
        let open =
            format!("open {name} --accept-unchecked model -o no {trust} --wrap-key keys {ANA}");
        folder.refused(&open, 811, 1);
    }
    let told: Value = folder.json(&format!("verify b4.kvcap {registry} {ANA} --model {model}"));
    assert_eq!(told["body_checked"], true);
    assert_eq!(told["chain"]["positions"], serde_json::json!([0, all]));
    // what is nobody's stays
    let back = session.open("base.kvcap", base, registry, "");
    assert!(back == folder.read(&format!("state.{base}")));
}

#[test]
fn a_chain_is_handed_over() {
    let session = Session::small();
    let folder = &session.folder;
    session.chain();
    for kind in ["hpke", "x-wing"] {
        folder.ok(&format!("keygen {kind} -o {kind}.key"));
        fs::create_dir(folder.path(kind)).unwrap();
        for name in ["base", "t1", "t2"] {
            folder.ok(&format!(
                "rewrap {name}.kvcap -o {kind}/{name}.kvcap {TRUST} {KEYS} --recipient {kind}.key.pub"
            ));
        }
        let open =
            format!("open {kind}/t2.kvcap --accept-unchecked model -f -o back {TRUST} {ANA}");
        session.ok(&format!("{open} --wrap-key {kind}.key"));
        assert!(folder.read("back") == folder.read("state.10"));
        folder.refused(&format!("{open} --wrap-key reader.key"), 809, 1);
        // and goes on there
        let more = format!("{ANA} --parent {kind}/t2.kvcap");
        let seal = session.sealing("state.16", 16, &format!("{kind}/on.kvcap"), &more);
        session.ok(&seal.replace("--wrap-key keys", &format!("--wrap-key {kind}.key")));
        session.ok(&format!("{open} --wrap-key {kind}.key").replace("t2", "on"));
        assert!(folder.read("back") == folder.read("state.bin"));
    }
    // members for keys of three kinds
    let open = format!(
        "open t2.kvcap --accept-unchecked model -f -o back {TRUST} {ANA} --chain x-wing/t1.kvcap hpke/base.kvcap"
    );
    session.ok(&format!(
        "{open} --wrap-key hpke.key --wrap-key keys --wrap-key x-wing.key"
    ));
    assert!(folder.read("back") == folder.read("state.10"));
    folder.refused(
        &format!("{open} --wrap-key hpke.key --wrap-key keys"),
        809,
        1,
    );
}

#[test]
fn chains_that_are_none() {
    let session = Session::small();
    let folder = &session.folder;
    session.chain();
    for name in ["base", "t1", "t2", "t3", "t4"] {
        fs::create_dir_all(folder.path("store")).unwrap();
        let bytes = folder.read(&format!("{name}.kvcap"));
        folder.write(&format!("store/{name}.kvcap"), &bytes);
        fs::remove_file(folder.path(&format!("{name}.kvcap"))).unwrap();
    }
    let open =
        format!("open t5.kvcap --accept-unchecked model -o no {TRUST} --wrap-key keys {ANA}");
    let verify = format!("verify t5.kvcap {TRUST} {ANA}");
    // nothing at hand: refused, unless it is accepted by name, and opened never
    folder.refused(&open, 701, 1);
    folder.refused(&verify, 701, 1);
    let alone = "--accept-unchecked ancestors";
    folder.refused(&format!("{open} {alone}"), 701, 1);
    let seen = folder.json(&format!("{verify} {alone}"));
    assert_eq!(seen["chain"]["complete"], false);
    let unchecked = seen["unchecked"].as_array().unwrap();
    assert!(unchecked.contains(&"ancestors".into()), "{seen}");
    let all = "store/base.kvcap store/t1.kvcap store/t2.kvcap store/t3.kvcap store/t4.kvcap";
    let seen = folder.json(&format!("{verify} --chain {all}"));
    assert_eq!(seen["chain"]["depth"], 6);
    assert_eq!(
        folder.json(&format!("{verify} --chain store"))["chain"]["depth"],
        6
    );
    // one lost, and one that does not belong
    let lost = all.replace("store/t2.kvcap ", "");
    folder.refused(&format!("{verify} --chain {lost}"), 702, 1);
    folder.refused(
        &format!("{verify} --chain {}", all.replace("store/base.kvcap ", "")),
        701,
        1,
    );
    let fork = format!("{ANA} --parent store/t3.kvcap");
    session.seal("state.16", 16, "fork.kvcap", &fork);
    folder.refused(&format!("{verify} --chain {all} fork.kvcap"), 702, 1);
    // a byte of an ancestor
    let mut bytes = folder.read("store/t1.kvcap");
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("store/t1.kvcap", &bytes);
    folder.refused(&format!("{verify} --chain store"), 805, 1);
    folder.refused(&format!("{open} --chain store"), 805, 1);
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("store/t1.kvcap", &bytes);
    // a part of the chain reads a part of its capsules
    let whole = folder.json(&format!("{open} --chain store"));
    fs::remove_file(folder.path("no")).unwrap();
    let part = folder.json(&format!(
        "{open} --chain store --layers 0..1 --positions 7..9"
    ));
    fs::remove_file(folder.path("no")).unwrap();
    let read = |seen: &Value| seen["read_bytes"].as_u64().unwrap();
    assert!(
        read(&part) * 2 < read(&whole),
        "{} of {}",
        read(&part),
        read(&whole)
    );
    // more than the parent grants, another subject, nothing new
    let seal = |more: &str| {
        let more = format!("--tenant acme --parent store/t3.kvcap {more}");
        session.sealing("state.16", 16, "no.kvcap", &more)
    };
    folder.refused(
        &seal("--subject ana --scope kv:restore --scope kv:train"),
        705,
        1,
    );
    folder.refused(&seal("--subject eve"), 406, 1);
    folder.refused(&seal("--subject ana --issuer another"), 312, 1);
    let nothing = session.sealing("state.12", 12, "no.kvcap", &fork);
    folder.refused(&nothing, 703, 1);
    // headers say what differs
    let diff = folder.json("diff store/t2.kvcap store/t3.kvcap");
    assert_eq!(diff["verified"], "nothing");
    assert_eq!(
        diff["unverified_differing"]["positions"],
        serde_json::json!([[8, 10], [10, 12]])
    );
    assert!(diff["unverified_differing"].get("model.id").is_none());
    assert!(diff["same"].as_u64().unwrap() > 50);
}

/// Files that lie beside a chain: those of a stranger, cut, expired, or empty.
#[test]
fn what_lies_beside_an_ancestor_changes_nothing() {
    let session = Session::small();
    let folder = &session.folder;
    session.chain();
    let verify = format!("verify t2.kvcap {TRUST} {ANA}");
    folder.ok(&verify);
    let base = folder.read("base.kvcap");
    let header =
        (64 + u32::from_le_bytes(base[12..16].try_into().unwrap()) as usize).next_multiple_of(4096);

    // a header without its body, and one whose signature is broken, as the first by name
    folder.write("aaa.kvcap", &base[..header]);
    folder.ok(&verify);
    let mut forged = base.clone();
    let signature = 64 + u32::from_le_bytes(base[12..16].try_into().unwrap()) as usize - 1;
    forged[signature] ^= 1;
    folder.write("aaa.kvcap", &forged);
    folder.refused(&format!("verify aaa.kvcap {TRUST}"), 307, 1);
    folder.ok(&verify);
    // it has to be one where it is given
    folder.refused(&format!("{verify} --chain aaa.kvcap t1.kvcap"), 307, 1);
    // a copy that has expired, whose renewal lies beside it
    folder.ok(&format!(
        "renew base.kvcap -f -o aaa.kvcap {TRUST} --sign-key issuer.key --ttl 1s"
    ));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    folder.refused(&format!("verify aaa.kvcap {TRUST}"), 402, 1);
    folder.ok(&verify);
    // no capsules at all, more of them than capsules are searched
    for number in 0..4200 {
        folder.write(&format!("empty{number}.kvcap"), b"");
    }
    folder.ok(&verify);
    assert_eq!(folder.json(&verify)["chain"]["depth"], 3);
    // nothing but the expired copy is left
    fs::remove_file(folder.path("base.kvcap")).unwrap();
    folder.refused(&verify, 708, 1);
}

/// Keeping an ancestor away does not help it: an increment is verified with its chain.
#[test]
fn a_revoked_ancestor_that_is_kept_away_is_missed() {
    let session = Session::small();
    let folder = &session.folder;
    session.chain();
    let root = "--root-key root.key";
    folder.ok("keygen root -o root.key");
    folder.ok(&format!("registry init registry {root}"));
    folder.ok(&format!("registry add registry issuer.key.pub {root}"));
    folder.ok(&format!("registry revoke registry base.kvcap {root}"));
    let by = format!("--registry registry --registry-root root.key.pub {ANA}");
    folder.refused(&format!("verify t1.kvcap {by}"), 708, 1);
    fs::create_dir(folder.path("lone")).unwrap();
    folder.write("lone/t1.kvcap", &folder.read("t1.kvcap"));
    folder.refused(&format!("verify lone/t1.kvcap {by}"), 701, 1);
    folder.refused(&format!("verify lone/t1.kvcap {by} -q"), 701, 1);
}
