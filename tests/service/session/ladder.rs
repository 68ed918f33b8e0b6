//! The ladder's reasons: the page's table against every code.

use std::{collections::BTreeSet, fs, path::Path};

use kvcap::Code;
use kvcap_session::{Facts, LeadsTo, Plan, Rung, StateFacts};

/// The codes that a row of the page's table lists.
fn listed(row: &str) -> BTreeSet<u16> {
    let codes = row.split('|').nth(2).unwrap().split(", ");
    codes
        .flat_map(|part| {
            let mut ends = part
                .trim()
                .split('–')
                .map(|end| end.parse::<u16>().unwrap());
            let first = ends.next().unwrap();
            first..=ends.next().unwrap_or(first)
        })
        .collect()
}

#[test]
fn every_code_leads_to_the_rung_of_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/session-v1.md");
    let page = fs::read_to_string(page).unwrap();
    let row = |head: &str| listed(page.lines().find(|line| line.starts_with(head)).unwrap());
    let table = [
        (
            LeadsTo::AnotherState,
            row("| another state, or history only"),
        ),
        (LeadsTo::HistoryOnly, row("| history only, since")),
        (LeadsTo::Fresh, row("| fresh | 9")),
        (LeadsTo::Stop, row("| a stop")),
    ];
    for code in Code::ALL {
        let stated = table
            .iter()
            .filter(|(_, codes)| codes.contains(&code.number()));
        let stated: Vec<LeadsTo> = stated.map(|(leads, _)| *leads).collect();
        assert_eq!(stated, [LeadsTo::of(*code)], "{code}");
    }
}

fn plan(states: Vec<StateFacts>, messages: u64, context: u64) -> Plan {
    let facts = Facts {
        context,
        reserve: 10,
        states,
        messages,
        ..Facts::default()
    };
    Plan::of(&facts).unwrap()
}

fn state(common: Option<u64>, whole: bool) -> StateFacts {
    StateFacts {
        name: "v1".to_owned(),
        positions: 100,
        common,
        whole,
        refused: None,
    }
}

#[test]
fn each_rung_has_its_reason() {
    for (plan, rung, reason) in [
        (plan(vec![state(None, true)], 1, 0), Rung::Exact, None),
        (
            plan(vec![state(Some(50), false)], 1, 0),
            Rung::Shorter,
            Some(Code::SessionDiverged),
        ),
        (
            plan(vec![state(None, false)], 1, 109),
            Rung::HistoryOnly,
            Some(Code::SessionContext),
        ),
        (
            plan(vec![], 1, 0),
            Rung::HistoryOnly,
            Some(Code::SessionNoState),
        ),
        (plan(vec![], 0, 0), Rung::Fresh, Some(Code::SessionNoState)),
    ] {
        assert_eq!((plan.taken().unwrap().rung, plan.reason()), (rung, reason));
    }
    let whole = plan(vec![state(Some(50), true)], 1, 0);
    assert_eq!(whole.steps[1].refused, Some(Code::SessionWhole));
    let empty = plan(vec![], 0, 0);
    assert_eq!(empty.steps[1].refused, Some(Code::SessionEmpty));
}
