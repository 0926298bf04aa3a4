//! What is remembered of requests is bounded, is refused to the greedy first, and goes with time.

use kv::{Answer, Error, Function, Op, Outcome, ReplicaId, RequestId, Stamped, Version};
use storage::{History, Options};

use super::store::{SECOND, SHARD, Store, advance, id, increment, key, put};

/// Room for some thousand clients.
const BYTES_MAX: u64 = 4 << 20;

fn small() -> Store {
    Store::with(Options { session_bytes_max: BYTES_MAX, ..Options::of(History::Count(1)) })
}

/// Clients that come once, from a number on, until one is refused; how many were not.
fn fill(store: &mut Store, first: u64, valid_until: u64) -> u64 {
    let mut count = 0;
    loop {
        let client = first + count;
        let id = RequestId { valid_until: Version::new(valid_until, ReplicaId(0)), ..id(client, 1, 1) };
        match store.stamped(1, Some(id), increment()) {
            Ok(_) => count += 1,
            Err(error) => {
                assert!(matches!(error, Error::Unavailable(_)), "{error}");
                return count;
            }
        }
    }
}

#[test]
fn sessions_beyond_the_room_are_refused_until_time_makes_room() {
    let mut store = small();
    let clients = fill(&mut store, 1, 5 * SECOND);
    assert!(clients > BYTES_MAX / 500, "{clients} clients that came once");
    let known = store.stamped(1, Some(id(5, 1, 1)), increment());
    assert_eq!(known, Ok(Answer::Number(5)), "nothing is forgotten");
    // Nobody else has to write: it is known when they are out of date, and an advance forgets them.
    let due = store.table.due(SHARD).unwrap();
    assert_eq!(due, 5 * SECOND + 1);
    let mut steps = 0;
    while store.table.sessions(SHARD) > 0 {
        store.apply(due, advance(due + 1)).unwrap();
        steps += 1;
        assert!(steps < 1000, "what is due goes");
    }
    assert_eq!(steps, clients.div_ceil(256), "a bounded number with each");
    assert_eq!(store.table.due(SHARD), None);
    let later = RequestId { valid_until: Version::new(9 * SECOND, ReplicaId(0)), ..id(u64::MAX, 1, 1) };
    store.stamped(1, Some(later), increment()).unwrap();
}

#[test]
fn sessions_of_large_answers_take_the_room_of_small_ones() {
    let mut store = Store::new(History::Count(1));
    let exchange =
        Op::Put { key: key(0), value: vec![1; kv::VALUE_BYTES_MAX].into(), deadline: None, previous: true };
    for sequence in 1..=kv::SESSION_WINDOW {
        store.stamped(1, Some(id(1, sequence, 1)), exchange.clone()).unwrap();
    }
    store.stamped(1, Some(id(2, 1, 1)), put(key(1), "v".into())).expect("others have room");
    let first = store.stamped(1, Some(id(1, 1, 1)), exchange.clone()).unwrap();
    assert_eq!(first, Answer::Put { previous: None }, "a small answer is kept");
    let second = store.stamped(1, Some(id(1, 2, 1)), exchange);
    assert!(matches!(second, Err(Error::InDoubt(_))), "a large one is not, and the request is not run again");
}

#[test]
fn sessions_over_their_share_are_refused_before_everybody_is() {
    let mut store = small();
    // Answers of nearly a KiB, never called answered, by clients with a full window each.
    let exchange = Op::Put { key: key(0), value: vec![1; 900].into(), deadline: None, previous: true };
    store.apply(1, exchange.clone()).unwrap();
    let id = |client, sequence, below| RequestId {
        valid_until: Version::new(SECOND, ReplicaId(0)),
        ..id(client, sequence, below)
    };
    let mut client = 0;
    let refused = loop {
        client += 1;
        let ask = |sequence| store.stamped(1, Some(id(client, sequence, 1)), exchange.clone()).err();
        if let Some(refused) = (1..=kv::SESSION_WINDOW).find_map(ask) {
            break refused;
        }
    };
    assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("share"), "{refused}");
    store.stamped(1, Some(id(client + 1, 1, 1)), put(key(1), "v".into())).expect("who holds little goes on");
    store
        .stamped(1, Some(id(1, 513, 513)), put(key(1), "v".into()))
        .expect("who says what is answered goes on");
}

#[test]
fn sessions_that_last_for_ever_leave_half_of_the_room_to_others() {
    let mut store = small();
    let clients = fill(&mut store, 1, u64::MAX);
    let others = fill(&mut store, clients + 1, SECOND);
    assert!(others > clients - 10, "{others} beside {clients}");
}

#[test]
fn request_id_used_again_for_another_op_is_the_callers_mistake() {
    let mut store = Store::new(History::Count(1));
    let with_ttl = |deadline| Op::Put { key: key(0), value: "v".into(), deadline, previous: false };
    store.stamped(1, Some(id(1, 1, 1)), with_ttl(Some(500))).unwrap();
    let again = store.stamped(2, Some(id(1, 1, 1)), with_ttl(Some(700)));
    assert_eq!(
        again,
        Ok(Answer::Put { previous: None }),
        "the deadline of a time to live is not the request's"
    );
    for other in [with_ttl(None), put(key(1), "v".into()), put(key(0), "w".into()), increment()] {
        let refused = store.stamped(3, Some(id(1, 1, 1)), other);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn sessions_are_the_same_whether_they_were_loaded_again_or_not() {
    let (mut store, mut other) = (Store::new(History::Count(1)), Store::new(History::Count(1)));
    let mut random = 7u64;
    for sequence in 1..600 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let below = sequence - (random >> 60).min(sequence - 1);
        // Some answers are too large to be kept once they are answered.
        let value = vec![0; if (random >> 40).is_multiple_of(5) { 9_000 } else { 10 }];
        let op = Op::Put { key: key(0), value: value.into(), deadline: None, previous: true };
        let request = id(1 + (random >> 20) % 3, sequence, below);
        let result = store.stamped(sequence, Some(request), op.clone());
        assert_eq!(other.stamped(sequence, Some(request), op), result);
        if sequence % 7 == 0 {
            other.table.load(SHARD, 1).unwrap();
        }
        assert_eq!(
            store.table.digest(SHARD).unwrap(),
            other.table.digest(SHARD).unwrap(),
            "after request {sequence}"
        );
    }
}

#[test]
fn answers_of_one_entry_beyond_the_room_are_not_told() {
    let mut store = Store::new(History::Count(1));
    let large = || vec![1; kv::VALUE_BYTES_MAX].into();
    store.apply(1, put(key(0), large())).unwrap();
    let insert = Op::Update { key: key(0), function: Function::Insert { value: "x".into(), deadline: None } };
    let exchange = Op::Put { key: key(0), value: large(), deadline: None, previous: true };
    for (op, told_instead) in [(insert, Outcome::Failed), (exchange, Outcome::InDoubt)] {
        let ops = vec![Stamped { id: None, op }; 20];
        let (told, untold): (Vec<_>, Vec<_>) = store.entry(2, ops).into_iter().partition(Result::is_ok);
        assert_eq!((told.len(), untold.len()), (7, 13), "64 MiB of rows that are a little larger than 8 MiB");
        assert!(untold.iter().all(|result| result.as_ref().is_err_and(|e| e.outcome() == told_instead)));
    }
    // An entry that has room is answered as ever.
    assert_eq!(store.apply(3, increment()).unwrap_err().outcome(), Outcome::Failed, "it is no number");
    store.apply(3, put(key(1), "v".into())).unwrap();
}
