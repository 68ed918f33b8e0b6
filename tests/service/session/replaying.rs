//! Replay beyond what vectors show: it may be cut anywhere, and a failed one changes nothing.

use kvcap::{Code, Error};
use kvcap_session::{Event, Head, Kind, Names, Record, replay, replay_plainly};

pub(super) fn turns(count: u64) -> (Record, Vec<Event>) {
    let names = Names::of("s");
    let mut head = Head::origin(&names).unwrap();
    let mut events = Vec::new();
    for turn in 0..count {
        for kind in [Kind::User, Kind::Tool, Kind::Assistant] {
            let text = format!("{} {turn}", kind.name());
            // a clock that goes back
            let event = head.next(1000 - turn, kind, text.as_str().into()).unwrap();
            head = head.follow(&event).unwrap();
            events.push(event);
        }
    }
    let mut origin = Record::origin(&names, &names).unwrap();
    origin.version = 1;
    (origin, events)
}

#[test]
fn replay_may_be_cut_anywhere() {
    let (origin, events) = turns(20);
    let whole = replay_plainly(&origin, events.clone()).unwrap();
    assert_eq!((whole.turns, whole.messages), (20, 60));
    assert!(whole.summary_cursor > 0);
    for cut in 0..=events.len() {
        let (before, after) = events.split_at(cut);
        let half = replay_plainly(&origin, before.to_vec()).unwrap();
        let again = replay_plainly(&half, after.to_vec()).unwrap();
        assert_eq!(again, whole, "cut at {cut}");
        assert_eq!(Record::from_cbor(&half.to_cbor().unwrap()).unwrap(), half);
        assert_eq!(replay_plainly(&whole, before.to_vec()).unwrap(), whole);
    }
}

#[test]
fn a_clock_that_went_back_is_no_reason() {
    let (origin, events) = turns(3);
    assert!(events.first().unwrap().at > events.last().unwrap().at);
    assert_eq!(replay_plainly(&origin, events).unwrap().replay_cursor, 9);
}

#[test]
fn a_summarizer_that_fails_is_heard() {
    let (origin, events) = turns(9);
    let error = Error::new(Code::LocalIo, "the summarizer's model is gone");
    let failed = replay(&origin, events, &mut |_, _| Err(error.clone()));
    assert_eq!(failed, Err(error));
}
