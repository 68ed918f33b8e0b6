use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// Numbers that look random (splitmix64).
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Takes as long as its argument says, differently for each item and seed.
fn dawdle(item: u64, seed: u64) {
    for _ in 0..random(&mut (item ^ seed)) % 300 {
        std::hint::spin_loop();
    }
    if random(&mut (item ^ seed)).is_multiple_of(7) {
        thread::yield_now();
    }
}

fn planted(item: u64) -> Error {
    Error::new(Code::BodyChunkDigest, "planted").at(format_args!("item {item}"))
}

fn counting(items: u64) -> impl FnMut(&mut ()) -> Result<Option<u64>> + Send {
    let mut items = 0..items;
    move |()| Ok(items.next())
}

#[test]
fn every_item_is_done_once_and_turns_are_in_order() {
    for threads in THREADS {
        for seed in 0..20 {
            let done = Mutex::new(Vec::new());
            let turns = Mutex::new(Vec::new());
            let outcome = Workers::new(threads).run(
                || (),
                counting(200),
                |(), item, turn| {
                    dawdle(item, seed);
                    // some items have nothing to do in order
                    if item % 5 != 3 {
                        turn.run(|| {
                            lock(&turns).push(item);
                            Ok(())
                        })?;
                    }
                    dawdle(item, !seed);
                    lock(&done).push(item);
                    Ok(())
                },
            );
            assert_eq!(outcome, Ok(()));
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, (0..200).collect::<Vec<_>>());
            let expected: Vec<u64> = (0..200).filter(|item| item % 5 != 3).collect();
            assert_eq!(turns.into_inner().unwrap(), expected);
        }
    }
}

#[test]
fn the_first_error_wins_whatever_the_threads() {
    for threads in THREADS {
        for mut seed in 0..60 {
            let first_seed = seed;
            // before its turn, in it, or after it
            let faults: Vec<(u64, u64)> = (0..4)
                .map(|_| (random(&mut seed) % 150, random(&mut seed) % 3))
                .collect();
            let first = faults.iter().map(|(item, _)| *item).min().unwrap();
            let fails = |item, step| match faults.contains(&(item, step)) {
                true => Err(planted(item)),
                false => Ok(()),
            };
            let turns = Mutex::new(Vec::new());
            let outcome = Workers::new(threads).run(
                || (),
                counting(150),
                |(), item, turn| {
                    dawdle(item, first_seed);
                    fails(item, 0)?;
                    turn.run(|| {
                        fails(item, 1)?;
                        lock(&turns).push(item);
                        Ok(())
                    })?;
                    fails(item, 2)
                },
            );
            assert_eq!(
                outcome,
                Err(planted(first)),
                "{threads} threads, {faults:?}"
            );
            // turns are those of 0, 1, 2 …, and none comes after an item that failed before its own
            let turns = turns.into_inner().unwrap();
            assert!(turns.len() >= usize::try_from(first).unwrap());
            assert!(
                turns
                    .iter()
                    .copied()
                    .eq(0..u64::try_from(turns.len()).unwrap())
            );
        }
    }
}

#[test]
fn an_error_of_the_source_comes_after_those_of_items_before() {
    for threads in THREADS {
        for (fault, expected) in [(None, 40), (Some(39), 39), (Some(7), 7)] {
            let mut next = 0..;
            let outcome = Workers::new(threads).run(
                || (),
                |()| match next.next() {
                    Some(40) => Err(planted(40)),
                    Some(item) if item > 40 => panic!("asked again"),
                    item => Ok(item),
                },
                |(), item, _| {
                    dawdle(item, 1);
                    match fault {
                        Some(fault) if fault == item => Err(planted(item)),
                        _ => Ok(()),
                    }
                },
            );
            assert_eq!(outcome, Err(planted(expected)));
        }
    }
}

#[test]
fn a_source_is_asked_no_more_once_it_has_ended_or_an_item_has_failed() {
    for threads in THREADS {
        for fails in [false, true] {
            let (mut items, mut ended) = (0..20, false);
            let outcome = Workers::new(threads).run(
                || (),
                |()| {
                    assert!(!ended, "asked again");
                    let item = items.next();
                    ended = item.is_none();
                    Ok(item)
                },
                |(), item, _| match fails {
                    true => Err(planted(item)),
                    false => Ok(()),
                },
            );
            match fails {
                // each thread has had one item at most
                true => assert!(outcome.is_err() && items.start <= threads as u64),
                false => assert_eq!(outcome, Ok(())),
            }
        }
    }
}

#[test]
fn the_first_item_that_failed_stops_those_after_it_without_a_wait() {
    let order = Order::default();
    order.lock().waiting.extend([1, 2]);
    for item in [3, 0, 1] {
        order.fail(item, planted(item));
    }
    assert_eq!(order.lock().failed, Some((0, planted(0))));
    let ticket = Ticket {
        order: &order,
        index: 2,
    };
    let stopped = ticket.run(|| Ok(())).unwrap_err();
    assert_eq!(stopped.code(), Code::LocalIo);
}

#[test]
fn scratch_belongs_to_one_thread() {
    let made = AtomicUsize::new(0);
    let outcome = Workers::new(3).run(
        || made.fetch_add(1, Ordering::Relaxed),
        {
            let mut items = 0..50_u64;
            move |_: &mut usize| Ok(items.next())
        },
        |_, _, _| Ok(()),
    );
    assert_eq!((outcome, made.into_inner()), (Ok(()), 3));
    assert_eq!(Workers::new(0), Workers::ONE);
    assert!(Workers::all().count() >= 1);
}

#[test]
fn a_panic_ends_the_call() {
    let panicked = std::panic::catch_unwind(|| {
        Workers::new(3).run(
            || (),
            counting(50),
            |(), item, turn| {
                assert!(item != 20, "planted");
                turn.run(|| Ok(()))
            },
        )
    });
    assert!(panicked.is_err());
}
