//! What has expired, and what is left of deleted keys, goes in bounded steps.

use kv::{Answer, Error, Key, Op, Range, ReplicaId, Version};
use storage::{History, Options};

use super::store::{SECOND, SHARD, Store, advance, increment, key, put};

fn expiring(key: Key, deadline: u64) -> Op {
    Op::Put { key, value: "v".into(), deadline: Some(deadline), previous: false }
}

#[test]
fn expiry_of_many_rows_is_spread_and_seen_at_once() {
    let mut store = Store::new(History::Count(1));
    for number in 0..1000 {
        store.apply(1, expiring(key(number), 5_000)).unwrap();
    }
    let due = store.table.due(SHARD).unwrap();
    assert!((5_000..SECOND).contains(&due), "what has expired is due within a second: {due}");
    store.apply(5_000, advance(5_000)).unwrap();
    assert_eq!(store.page(&Range::default()).count, 0, "it is gone for every reader at once");
    let mut steps = 0;
    while store.table.due(SHARD).is_some() {
        store.apply(due, advance(due)).unwrap();
        store.audit();
        steps += 1;
        assert!(steps < 100, "what is due goes");
    }
    assert_eq!(steps, 4, "256 rows with each advance");
    assert_eq!(store.rows(), 1, "nothing is left but the state");
}

#[test]
fn expiry_writes_pay_for_what_they_will_leave() {
    let mut store = Store::new(History::Count(1));
    for number in 0..5_000 {
        store.apply(number, expiring(key(number as usize), number + SECOND)).unwrap();
    }
    // As many that expire in the far future: no advance is needed to get rid of the others.
    for number in 5_000..10_001 {
        store.apply(3 * SECOND + number, expiring(key(number as usize), 100 * SECOND)).unwrap();
    }
    store.audit();
    assert_eq!(store.rows(), 2 * 5_001 + 1, "rows, their deadlines, the state");
}

#[test]
fn expiry_of_a_transaction_that_is_taken_back_is_not_counted() {
    let mut store = Store::new(History::Count(1));
    store.apply(1, expiring(key(1), SECOND)).unwrap();
    store.apply(2, put(key(0), "no number".into())).unwrap();
    let then = vec![expiring(key(1), 9 * SECOND), expiring(key(2), 5 * SECOND), increment()];
    let result = store.apply(3, Op::Transaction { conditions: vec![], then, otherwise: vec![] });
    assert!(matches!(result, Err(Error::Conflict(_))));
    store.audit();
    store.apply(3 * SECOND, advance(3 * SECOND)).unwrap();
    assert_eq!(store.table.due(SHARD), None, "only the first deadline was there");
    assert_eq!(store.rows(), 2, "the row of the text, and the state");
}

#[test]
fn deleted_keys_leave_nothing_after_their_time_however_long_their_history_was() {
    let options = Options { deleted_micros: 10 * SECOND, ..Options::of(History::All) };
    let mut store = Store::with(options);
    for micros in 1..=1_000 {
        store.apply(micros, put(key(0), "v".into())).unwrap();
    }
    store.apply(2_000, put(key(1), "stays".into())).unwrap();
    store.apply(2_001, expiring(key(2), SECOND)).unwrap();
    store.apply(SECOND, Op::Delete { key: key(0), previous: false }).unwrap();
    let get =
        |store: &Store, at| store.read(&Op::Get { key: key(0), at: Some(Version::new(at, ReplicaId(1))) });
    store.apply(10 * SECOND, advance(10 * SECOND)).unwrap();
    assert!(matches!(get(&store, 500), Ok(Answer::Row(Some(_)))), "it is kept for its time");
    let mut steps = 0;
    while store.table.due(SHARD).is_some() {
        store.apply(30 * SECOND, advance(30 * SECOND)).unwrap();
        store.audit();
        steps += 1;
        assert!(steps < 100, "what is due goes");
    }
    assert_eq!(steps, 4, "a bounded number of rows with each advance");
    assert_eq!(store.rows(), 2, "the other key, and the state");
    assert!(matches!(get(&store, 500), Err(Error::Trimmed { .. })), "never 'not found' for what was there");
    assert_eq!(get(&store, 30 * SECOND), Ok(Answer::Row(None)));
}

#[test]
fn sweeps_are_the_same_whether_the_copy_was_loaded_again_or_not() {
    // What is left of an expired key is due before others expire.
    let options = Options { deleted_micros: SECOND / 4, ..Options::of(History::Count(3)) };
    let (mut store, mut other) = (Store::with(options), Store::with(options));
    for step in 0..400u64 {
        let now = step * SECOND / 8;
        let op = match step % 4 {
            0 => advance(now),
            1 => put(key(step as usize), "v".into()),
            _ => expiring(key(step as usize % 30), now + (step * 7919) % (4 * SECOND)),
        };
        assert_eq!(store.apply(now, op.clone()), other.apply(now, op));
        store.audit();
        other.table.load(SHARD, 1).unwrap();
        assert_eq!(store.table.due(SHARD), other.table.due(SHARD), "after step {step}");
        assert_eq!(
            store.table.digest(SHARD).unwrap(),
            other.table.digest(SHARD).unwrap(),
            "after step {step}"
        );
    }
}
