//! The interface as it is described for programs, with all that a gateway has; and one that stays, for their tools.

use std::{collections::BTreeSet, env, fs, io::Read, path::Path};

use serde_json::Value;

use crate::support::{Home, TestEngine};

/// The description that is checked in; `KVCAP_PAGES=write` writes it.
const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/openapi.json");

fn described() -> String {
    let (home, engine) = (Home::new(), TestEngine::new(1, true));
    let reply = home
        .gateway(&engine)
        .ask("", "GET", "/openapi.json", &[], &[]);
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body).unwrap()
}

#[test]
fn the_description_that_is_served_is_the_one_that_is_checked_in() {
    let served = described();
    let file = Path::new(DESCRIPTION);
    if env::var("KVCAP_PAGES").is_ok_and(|how| how == "write") {
        fs::write(file, &served).unwrap();
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(served == kept, "./do pages writes spec/openapi.json again");
}

#[test]
fn the_description_has_every_resource_of_a_gateway_and_no_other() {
    let spec = Path::new(DESCRIPTION).with_file_name("http-v1.md");
    let spec = fs::read_to_string(spec).unwrap();
    let table = spec.split("## 2. Resources").nth(1).unwrap();
    let table = table.split("## 3.").next().unwrap();
    let mut specified = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `/")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for path in cells[1].split(", ") {
            let path = path.trim_matches('`');
            let path = path
                .replace("UPLOAD", "{upload}")
                .replace("SESSION", "{session}");
            let path = path.replace("NAME", "{name}").replace("ID", "{id}");
            for method in cells[2].split(", ") {
                specified.insert((path.clone(), method.to_lowercase()));
            }
        }
    }
    let document: Value = serde_json::from_str(&described()).unwrap();
    let mut found = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            found.insert((path.clone(), method.clone()));
        }
    }
    specified.retain(|(path, _)| !["/", "/inspect", "/openapi.json"].contains(&path.as_str()));
    assert_eq!(found, specified);
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
