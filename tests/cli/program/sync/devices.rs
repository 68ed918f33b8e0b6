//! Two devices and a relay: who was first, what breaks, what is killed, and a relay that lies.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::json;

use super::{
    super::{authority::certify, support::Folder},
    relay::{Relay, another, device, files, one, say, words},
};

#[test]
fn a_session_goes_from_one_device_to_another_and_back() {
    let first = device();
    let second = another(&first);
    let relay = Relay::of(&[&first]);
    relay.admit(&second);
    relay.refuses(&first, "fix", 955, 1);
    say(&first, "one");
    first.ok("checkpoint fix state.bin");
    say(&first, "two");
    let due = relay.sync(&first, "--dry-run");
    assert_eq!(one(&due)["to_put"], json!([1]));
    assert_eq!(one(&due)["unsaved_events"], true);
    assert_eq!(relay.kept().len(), 0, "a dry run does nothing");
    let put = relay.sync(&first, "");
    assert_eq!(one(&put)["put"], json!([1, 2]));
    assert_eq!(one(&put)["capsules_put"], 1);
    let again = relay.sync(&first, "fix");
    assert_eq!(one(&again)["put"], json!([]));
    assert_eq!(relay.kept().len(), 4, "a state, two versions, their order");
    for path in relay.kept() {
        let bytes = fs::read(&path).unwrap();
        let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        assert!(!has(b"yes-one") && !has(b"yes-two"), "{path:?} is in clear");
    }

    // a device that has nothing of it, as one that was lost
    let taken = relay.sync(&second, "");
    assert_eq!(one(&taken)["taken"], json!([1, 2]));
    assert_eq!(one(&taken)["capsules_taken"], 1);
    assert_eq!(words(&second, "fix"), words(&first, "fix"));
    let resumed = second.json("resume fix -o resumed");
    assert_eq!(resumed["rung"], "exact");
    assert!(second.read("resumed") == second.read("state.bin"));

    // it goes on there, and comes back
    say(&second, "three");
    second.ok("checkpoint fix");
    assert_eq!(one(&relay.sync(&second, ""))["put"], json!([3]));
    assert_eq!(one(&relay.sync(&first, ""))["taken"], json!([3]));
    assert_eq!(words(&first, "fix"), words(&second, "fix"));
    say(&first, "four");
    assert_eq!(one(&relay.sync(&first, ""))["put"], json!([4]));
    assert_eq!(one(&relay.sync(&second, ""))["taken"], json!([4]));
    let both = [&first, &second].map(|device| device.json("status fix")["checkpoint"].clone());
    assert_eq!(both[0], both[1]);
}

#[test]
fn who_was_second_hears_who_was_first_and_keeps_his_own_as_a_branch() {
    let first = device();
    let second = another(&first);
    let mut relay = Relay::of(&[&first]);
    relay.admit(&second);
    say(&first, "together");
    relay.sync(&first, "");
    relay.sync(&second, "");
    // both are offline
    relay.stop();
    say(&first, "mine");
    first.ok("checkpoint fix");
    say(&second, "yours");
    second.ok("checkpoint fix state.bin");
    relay.refuses(&second, "fix", 940, 4);
    relay.start();
    relay.sync(&first, "");
    let before = words(&second, "fix");
    let said = relay.refuses(&second, "fix", 954, 1);
    assert!(
        said.contains("version 2") && said.contains("signed by lab"),
        "{said}"
    );
    assert_eq!(words(&second, "fix"), before, "nothing was changed");
    relay.refuses(&second, "--branch other", 944, 2);
    let parted = relay.sync(&second, "fix --branch own");
    assert_eq!(one(&parted)["branch"], "own");
    assert_eq!(words(&second, "fix"), words(&first, "fix"));
    assert_eq!(words(&second, "own"), before);
    let resumed = second.json("resume own -o resumed");
    assert_eq!(resumed["rung"], "exact");
    // the branch has come to the other device too
    let all = relay.sync(&first, "");
    assert_eq!(all["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(words(&first, "own"), before);
    assert_eq!(first.json("resume own -o resumed")["rung"], "exact");
    // said again, nothing happens
    let again = relay.sync(&second, "fix --branch own");
    assert_eq!(one(&again)["taken"], json!([]));
}

#[test]
fn events_that_nobody_saved_are_in_the_way_too() {
    let first = device();
    let second = another(&first);
    let relay = Relay::of(&[&first]);
    relay.admit(&second);
    say(&first, "together");
    relay.sync(&first, "");
    relay.sync(&second, "");
    say(&first, "mine");
    relay.sync(&first, "");
    second.ok("events append fix yours --kind user");
    relay.refuses(&second, "", 953, 1);
    relay.sync(&second, "fix --branch own");
    assert_eq!(words(&second, "own"), ["together", "yes-together", "yours"]);
    assert_eq!(words(&second, "fix"), words(&first, "fix"));
}

/// Killed after so many milliseconds, until it comes to its end by itself.
#[test]
fn whoever_is_killed_loses_nothing_and_ends_by_saying_it_again() {
    let first = device();
    let second = another(&first);
    let relay = Relay::of(&[&first]);
    relay.admit(&second);
    for round in 0..6 {
        say(&first, &format!("round{round}"));
        let state = ["", "state.bin"][usize::from(round % 3 == 0)];
        first.ok(&format!("checkpoint fix {state}"));
    }
    let expected = words(&first, "fix");
    for device in [&first, &second] {
        let mut killed = 0;
        for pause in (0..).map(|n| n * n) {
            let mut child = device
                .command(&format!("sync fix {}", relay.flags()))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            sleep(Duration::from_millis(pause));
            if child.try_wait().unwrap().is_some() {
                let ended = child.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&ended.stderr);
                assert!(ended.status.success(), "after {killed} kills: {said}");
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        assert!(killed > 0);
        relay.sync(device, "fix");
        assert_eq!(words(device, "fix"), expected);
    }
    assert_eq!(second.json("resume fix -o resumed")["rung"], "exact");
    assert!(second.read("resumed") == first.read("state.bin"));
    let versions = fs::read_to_string(relay.order()).unwrap();
    assert_eq!(
        versions.lines().count(),
        2 + 6,
        "no version twice: {versions}"
    );
}

#[test]
fn several_at_once_put_each_version_once() {
    let device = device();
    let relay = Relay::of(&[&device]);
    for round in 0..5 {
        say(&device, &format!("round{round}"));
        device.ok("checkpoint fix");
    }
    let at_once: Vec<Child> = (0..4)
        .map(|_| {
            let mut command = device.command(&format!("sync fix {}", relay.flags()));
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for child in at_once {
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{said}");
    }
    let versions = fs::read_to_string(relay.order()).unwrap();
    assert_eq!(versions.lines().count(), 2 + 5, "{versions}");
    // what was sealed in vain was taken back
    assert_eq!(relay.kept().len(), 1 + 5);
    assert_eq!(one(&relay.sync(&device, "fix"))["put"], json!([]));
}

/// Somebody whose upload broke off is missed after a moment: until then the relay has two that put the same.
#[test]
fn who_puts_what_is_being_put_waits_for_it() {
    let device = device();
    let relay = Relay::of(&[&device]);
    say(&device, "one");
    device.ok("checkpoint fix state.bin");
    let mut capsules = files(device.home());
    capsules.retain(|path| path.extension().is_some_and(|name| name == "kvcap"));
    let [state] = &capsules[..] else {
        panic!("{capsules:?}");
    };
    let (state, token) = (fs::read(state).unwrap(), device.read("token"));
    let mut broken = TcpStream::connect(&relay.address).unwrap();
    let head = format!(
        "POST /v1/capsules HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/vnd.kvcap\r\nContent-Length: {}\r\n\r\n",
        String::from_utf8(token).unwrap(),
        state.len()
    );
    broken.write_all(head.as_bytes()).unwrap();
    broken.write_all(&state[..state.len() - 1]).unwrap();
    while relay.kept().is_empty() {
        sleep(Duration::from_millis(10));
    }
    let syncing = device
        .command(&format!("sync fix {}", relay.flags()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(500));
    drop(broken);
    let ended = syncing.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert_eq!(one(&relay.sync(&device, "fix"))["put"], json!([]));
}

/// A way to a relay on which every connection breaks after so many bytes to either side.
fn breaking(relay: &Relay, after: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, there) = (listener.local_addr().unwrap(), relay.address.clone());
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(&there)) else {
                return;
            };
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let ends = [&near, &far].map(|end| end.try_clone().unwrap());
                std::thread::spawn(move || {
                    let copied = std::io::copy(&mut from.take(after), &mut to);
                    if copied.is_ok_and(|copied| copied < after) {
                        let _ended = to.shutdown(Shutdown::Write);
                    } else {
                        for end in ends {
                            let _broken = end.shutdown(Shutdown::Both);
                        }
                    }
                });
            }
        }
    });
    here.to_string()
}

#[test]
fn connections_that_break_cost_what_they_had_not_brought() {
    let first = device();
    let second = another(&first);
    let relay = Relay::of(&[&first]);
    relay.admit(&second);
    first.made(3 << 20);
    say(&first, "one");
    let saved = first.json("checkpoint fix made --model made.kvid --danger-no-prefix");
    let bytes = saved["checkpoint"]["state"]["capsule_bytes"]
        .as_u64()
        .unwrap();
    assert!(bytes > 2 << 20, "{bytes}");
    let way = breaking(&relay, 900_000);
    let sync =
        |device: &Folder| device.json(&format!("sync fix --relay {way} --relay-token token"));
    assert_eq!(one(&sync(&first))["capsules_put"], 1);
    assert_eq!(one(&sync(&second))["capsules_taken"], 1);
    let both = [&first, &second].map(|device| {
        let folder = device.home().join("state/kvcap/sessions/-/-/fix");
        let files = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut capsules = files.filter(|path| path.extension().is_some_and(|e| e == "kvcap"));
        fs::read(capsules.next().unwrap()).unwrap()
    });
    assert!(both[0] == both[1]);
}

#[test]
fn a_relay_that_lies_is_found_out() {
    let first = device();
    let second = another(&first);
    let mut relay = Relay::of(&[&first]);
    relay.admit(&second);
    say(&first, "one");
    relay.sync(&first, "");
    say(&first, "two");
    relay.sync(&first, "");
    let order = relay.order();
    let honest = fs::read_to_string(&order).unwrap();
    let lines: Vec<&str> = honest.lines().collect();
    let [one, two] = [2, 3].map(|at| lines[at].split(' ').collect::<Vec<_>>());
    let told = |lines: &[Vec<&str>]| {
        let lines: Vec<String> = lines.iter().map(|words| words.join(" ") + "\n").collect();
        format!("kvcap versions 1\nfix\n{}", lines.concat())
    };
    let with = |of: &[&str], at: usize, word: &str| {
        let mut words: Vec<String> = of.iter().map(|word| (*word).to_owned()).collect();
        words[at] = word.to_owned();
        words.join(" ") + "\n"
    };
    let head = "kvcap versions 1\nfix\n";
    // one version in another's place, in another order, and with another cursor
    let swapped = format!("{head}{}{}", with(&one, 3, two[3]), with(&two, 3, one[3]));
    let only_second = told(std::slice::from_ref(&two));
    let cursor = format!(
        "{head}{}{}",
        told(std::slice::from_ref(&one))
            .lines()
            .nth(2)
            .unwrap()
            .to_owned()
            + "\n",
        with(&two, 1, "9")
    );
    for (what, text, code) in [
        ("swapped", swapped, 413),
        ("without its first", only_second, 952),
        ("of another cursor", cursor, 413),
    ] {
        relay.stop();
        fs::write(&order, text).unwrap();
        relay.start();
        let said = relay.refuses(&second, "fix", code, 1);
        assert!(!said.is_empty(), "{what}");
        second.refused("status fix", 955, 1);
    }
    // what it withholds is put again by who has it
    relay.stop();
    fs::write(&order, told(&[one])).unwrap();
    relay.start();
    assert_eq!(self::one(&relay.sync(&first, ""))["put"], json!([2]));
    assert_eq!(self::one(&relay.sync(&second, ""))["taken"], json!([1, 2]));

    // a stranger who has the token, and whom the relay trusts, is trusted by no device
    let stranger = Folder::new();
    stranger.ok("init --yes --issuer mallory --model model");
    let lying = Relay::of(&[&stranger, &first]);
    say(&stranger, "forged");
    lying.sync(&stranger, "");
    lying.admit(&second);
    let third = another(&first);
    lying.admit(&third);
    lying.refuses(&third, "fix", 301, 1);
    lying.refuses(&second, "fix", 301, 1);
}

#[test]
fn a_lost_device_resumes_from_the_relay() {
    let first = device();
    let relay = Relay::of(&[&first]);
    say(&first, "one");
    first.ok("checkpoint fix state.bin");
    relay.sync(&first, "");
    let lost = another(&first);
    relay.admit(&lost);
    lost.refused("resume fix -o resumed", 955, 1);
    let resumed = lost.json(&format!("resume fix -o resumed {}", relay.flags()));
    assert_eq!(resumed["rung"], "exact");
    assert!(lost.read("resumed") == first.read("state.bin"));
    assert_eq!(words(&lost, "fix"), words(&first, "fix"));
    let missing = lost.run(&format!("resume none -o out {}", relay.flags()));
    missing.check_refused("resume none", 955, 1);
    // a state alone that was lost: the log says what is restored
    let session = lost.home().join("state/kvcap/sessions/-/-/fix");
    let files = fs::read_dir(session)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|e| e == "kvcap")) {
        fs::remove_file(path).unwrap();
    }
    assert_ne!(lost.json("resume fix")["rung"], "exact");
    let again = lost.json(&format!("resume fix -o again {}", relay.flags()));
    assert_eq!(again["rung"], "exact");
    assert!(lost.read("again") == first.read("state.bin"));
}

#[test]
fn a_relay_s_certificate_is_of_an_authority_that_the_device_names() {
    let device = device();
    let relay = Relay::certified(&[&device]);
    say(&device, "one");
    let unknown = relay.refuses(&device, "", 940, 4);
    assert!(
        unknown.contains("an authority that is not known") && unknown.contains("--ca FILE"),
        "{unknown}"
    );
    assert_eq!(relay.kept().len(), 0);
    relay.sync(&device, "--ca ca.pem");
    assert!(!relay.kept().is_empty());
    let others = Folder::empty();
    certify(&others);
    device.write("others.pem", &others.read("ca.pem"));
    let unknown = relay.refuses(&device, "--ca others.pem", 940, 4);
    assert!(unknown.contains("not known"), "{unknown}");
    device.write("empty.pem", b"");
    device.write(
        "broken.pem",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    for (file, code, exit) in [
        ("empty.pem", 945, 2),
        ("broken.pem", 945, 2),
        ("token", 945, 2),
        ("none.pem", 940, 4),
    ] {
        relay.refuses(&device, &format!("--ca {file}"), code, exit);
    }
    // as a setting it is known too
    let mut sync = device.command(&format!("sync {}", relay.flags()));
    let synced = sync.env("KVCAP_CA", "ca.pem").output().unwrap();
    assert!(synced.status.success(), "{synced:?}");
    // nobody's certificate is looked at over plain HTTP
    let plain = Relay::of(&[&device]);
    plain.refuses(&device, "--ca ca.pem", 944, 2);
}
