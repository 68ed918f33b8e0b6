//! A link between a device and a relay that is cut, after any number of bytes: it ends, or is silent from then on, or
//! nothing comes back of what goes. The sync ends with an error, nothing is half there, and the next one completes.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread::{scope, sleep, spawn},
    time::{Duration, Instant},
};

use super::{
    super::support::{Folder, Ran},
    relay::{Relay, another, device, one, say, words},
};

/// Longest time for what ends by itself, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(180);
/// Places at which a link is cut, from the first byte to the last.
const PLACES: u64 = 8;

/// What a link does from its cut on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Ends,
    IsSilent,
    NothingComesBack,
}

/// A link to a relay, for all connections together.
struct Link {
    cut: Cut,
    after: u64,
    passed: AtomicU64,
}

impl Link {
    /// The address of a link that is cut after so many bytes of both ways, or of the way back.
    fn to(relay: &Relay, cut: Cut, after: u64) -> (String, Arc<Self>) {
        let link = Arc::new(Self {
            cut,
            after,
            passed: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (here, there) = (listener.local_addr().unwrap(), relay.address.clone());
        let of = Arc::clone(&link);
        spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(&there)) else {
                    return;
                };
                for (from, to, comes_back) in [(&near, &far, false), (&far, &near, true)] {
                    let ends = [from, to].map(|end| end.try_clone().unwrap());
                    let of = Arc::clone(&of);
                    spawn(move || of.pass(ends, comes_back));
                }
            }
        });
        (here.to_string(), link)
    }

    fn pass(&self, [mut from, mut to]: [TcpStream; 2], comes_back: bool) {
        let counts = comes_back || self.cut != Cut::NothingComesBack;
        let mut piece = [0; 512];
        while let Ok(len @ 1..) = from.read(&mut piece) {
            let before = match counts {
                true => self.passed.fetch_add(len as u64, SeqCst),
                false => 0,
            };
            let left = usize::try_from(self.after.saturating_sub(before)).unwrap_or(len);
            if to.write_all(&piece[..left.min(len)]).is_err() {
                return;
            }
            if left < len && self.cut == Cut::Ends {
                for end in [&from, &to] {
                    let _broken = end.shutdown(Shutdown::Both);
                }
                return;
            }
        }
        // who is cut off does not hear that the other has gone
        match counts && self.passed.load(SeqCst) > self.after {
            true => sleep(PATIENCE),
            false => drop(to.shutdown(Shutdown::Write)),
        }
    }
}

/// Synchronises by this address; true where it came to its end, false where it says that the relay is away, or was silent for
/// so long.
fn ends(device: &Folder, address: &str, wait: &str) -> bool {
    let line = format!("sync fix --relay {address} --relay-token token --relay-wait {wait}");
    let mut command = device.command(&line);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        let waits_on = begun.elapsed() > PATIENCE;
        if waits_on {
            child.kill().unwrap();
        }
        assert!(!waits_on, "it waits for ever");
        sleep(Duration::from_millis(10));
    }
    let ran = Ran::of(child.wait_with_output().unwrap());
    if ran.exit != 0 {
        ran.check_refused(&line, 940, 4);
    }
    ran.exit == 0
}

/// Synchronises with the relay itself, which may not have given up yet who was cut off.
fn completes(device: &Folder, relay: &Relay) {
    let line = format!("sync fix {}", relay.flags());
    let begun = Instant::now();
    loop {
        let ran = device.run(&line);
        if ran.exit == 0 {
            return;
        }
        ran.check_refused(&line, 947, 4);
        assert!(begun.elapsed() < PATIENCE, "{}", ran.err);
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_device_that_is_cut_off_while_it_puts_ends_and_puts_the_rest() {
    scope(|scope| {
        for cut in [Cut::Ends, Cut::IsSilent, Cut::NothingComesBack] {
            scope.spawn(move || putting(cut));
        }
    });
}

fn putting(cut: Cut) {
    let first = device();
    let relay = Relay::impatient(&[&first]);
    let saved = |round: u64| {
        say(&first, &format!("round{round}"));
        first.ok("checkpoint fix state.bin");
    };
    saved(0);
    relay.sync(&first, "");
    saved(1);
    let (address, link) = Link::to(&relay, cut, u64::MAX);
    assert!(ends(&first, &address, "60s"));
    let whole = link.passed.load(SeqCst);
    let ended = (0..PLACES).map(|place| {
        saved(2 + place);
        let before = words(&first, "fix");
        let (address, _link) = Link::to(&relay, cut, whole * place / PLACES);
        let ended = ends(&first, &address, "1s");
        assert_eq!(words(&first, "fix"), before);
        // what the relay has is whole: a device that has nothing gets it
        let other = another(&first);
        relay.admit(&other);
        completes(&other, &relay);
        let taken = words(&other, "fix");
        assert!(before.starts_with(&taken) && taken.len() + 2 >= before.len());
        assert_eq!(other.json("resume fix -o resumed")["rung"], "exact");
        completes(&first, &relay);
        relay.sync(&other, "fix");
        assert_eq!(words(&other, "fix"), before);
        ended
    });
    let ended: Vec<bool> = ended.collect();
    assert!(ended.contains(&false), "{cut:?} cuts nothing");
    // a head of two lines, and no version twice
    let versions = 2 + ended.len();
    let order = fs::read_to_string(relay.order()).unwrap();
    assert_eq!(order.lines().count(), 2 + versions, "{order}");
}

#[test]
fn a_device_that_is_cut_off_while_it_takes_ends_and_takes_the_rest() {
    let first = device();
    let relay = Relay::of(&[&first]);
    for round in 0..2 {
        say(&first, &format!("round{round}"));
        first.ok("checkpoint fix state.bin");
    }
    relay.sync(&first, "");
    let expected = words(&first, "fix");
    let get = |cut, after, wait| {
        let other = another(&first);
        relay.admit(&other);
        let (address, link) = Link::to(&relay, cut, after);
        let ended = ends(&other, &address, wait);
        // it has all of it, or no such session
        let status = other.run("status fix");
        match ended {
            true => assert_eq!(status.exit, 0),
            false => status.check_refused("status fix", 955, 1),
        }
        relay.sync(&other, "fix");
        assert_eq!(words(&other, "fix"), expected);
        assert_eq!(other.json("resume fix -o resumed")["rung"], "exact");
        assert!(other.read("resumed") == first.read("state.bin"));
        assert_eq!(
            one(&relay.sync(&other, "fix"))["put"],
            serde_json::json!([])
        );
        (ended, link.passed.load(SeqCst))
    };
    scope(|scope| {
        for cut in [Cut::Ends, Cut::IsSilent, Cut::NothingComesBack] {
            let get = &get;
            scope.spawn(move || {
                let (ended, whole) = get(cut, u64::MAX, "60s");
                assert!(ended);
                // each waits by itself for a relay that is silent
                std::thread::scope(|scope| {
                    let places = (0..PLACES).map(|place| whole * place / PLACES);
                    let all: Vec<_> = places
                        .map(|after| scope.spawn(move || get(cut, after, "1s").0))
                        .collect();
                    let mut ended = all.into_iter().map(|one| one.join().unwrap());
                    assert!(ended.any(|ended| !ended), "{cut:?} cuts nothing");
                });
            });
        }
    });
}
