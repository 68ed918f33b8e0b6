//! The interface as it is described for programs, with all that a gateway has; and one that stays, for their tools.

use std::{env, fs, io::Read, path::Path};

use crate::support::{
    Home, TestEngine,
    resources::{DESCRIPTION, described, specified},
};

fn served() -> String {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let reply = home
        .gateway(&engine)
        .ask("", "GET", "/openapi.json", &[], &[]);
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body).unwrap()
}

/// `KVCAP_PAGES=write` writes the description.
#[test]
fn the_description_that_is_served_is_the_one_that_is_checked_in() {
    let served = served();
    let file = Path::new(DESCRIPTION);
    if env::var("KVCAP_PAGES").is_ok_and(|how| how == "write") {
        fs::write(file, &served).unwrap();
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(served == kept, "./do pages writes spec/openapi.json again");
}

#[test]
fn the_description_has_every_resource_of_a_gateway_and_no_other() {
    assert_eq!(described(&served()), specified("## 3."));
}

/// A gateway for tools of others: it says its address and its token on a line, and ends with its input.
#[test]
#[ignore = "serves until its input ends: tests/service/interface/run asks it"]
fn a_gateway_that_stays() {
    let (home, engine) = (Home::new(), TestEngine::new(2, true));
    let gateway = home.gateway_with(&engine, |sessions| {
        sessions.bases = Some(home.path("bases"));
        (sessions.find, sessions.record) = (true, true);
    });
    println!("serving {} {}", gateway.address(), home.everything);
    let _ended = std::io::stdin().read_to_end(&mut Vec::new());
    gateway.end();
}
