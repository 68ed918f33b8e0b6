//! Which memory is used again.

use std::thread;

use super::Spare;

#[test]
fn memory_goes_back_to_its_thread_first() {
    let mut spare = Spare::default();
    spare.put(vec![1]);
    thread::scope(|scope| {
        scope.spawn(|| spare.put(vec![2]));
    });
    spare.put(vec![3]);
    assert_eq!(spare.take(), [3]);
    assert_eq!(spare.take(), [1]);
    assert_eq!(spare.take(), [2]);
    assert_eq!(spare.take(), []);
}
