//! A central server that checks: a key moves only where both owners have the same text.

use dialects::classic::pairs::{CentralClient, PairClient};
use kv::{Error, Function, Op};

use super::{central, key, nobody, pairs};
use crate::fake::{Fake, Server};

/// A central server that checks, and two pair servers.
struct Tour {
    centre: Server,
    directory: CentralClient,
    old: Server,
    old_client: PairClient,
    new: Server,
    new_client: PairClient,
}

impl Tour {
    async fn start() -> Tour {
        let (centre, directory) = central(&["check"]).await;
        let ((old, old_client), (new, new_client)) = (pairs().await, pairs().await);
        Tour { centre, directory, old, old_client, new, new_client }
    }

    /// The old server has these pairs, and owns them.
    async fn old_has(&self, pairs: &[(i32, &str)]) {
        insert(&self.old_client, pairs).await;
        let keys = pairs.iter().map(|(key, _)| *key).collect();
        assert_eq!(self.directory.register(self.old.address.clone(), keys).await, Ok(pairs.len() as i32));
    }

    async fn new_has(&self, pairs: &[(i32, &str)]) {
        insert(&self.new_client, pairs).await;
    }

    async fn new_registers(&self, keys: &[i32]) -> Result<i32, Error> {
        self.directory.register(self.new.address.clone(), keys.into()).await
    }

    fn owner(&self, number: i32) -> String {
        String::from_utf8(self.centre.store.value(&key(number)).unwrap().into()).unwrap()
    }
}

async fn insert(client: &PairClient, pairs: &[(i32, &str)]) {
    for (key, text) in pairs {
        assert_eq!(client.insert(*key, (*text).into()).await, Ok(true));
    }
}

/// What came of one kind of op.
fn count(store: &Fake, is_meant: impl Fn(&Op) -> bool) -> usize {
    store.seen().iter().filter(|request| is_meant(&request.op)).count()
}

fn is_put(op: &Op) -> bool {
    matches!(op, Op::Update { function: Function::CompareAndPut { .. }, .. })
}

#[tokio::test]
async fn same_text_moves_and_another_stays() {
    let tour = Tour::start().await;
    tour.old_has(&[(1, "same"), (2, "old"), (3, "same too")]).await;
    tour.new_has(&[(1, "same"), (2, "new"), (3, "same too")]).await;
    assert_eq!(tour.new_registers(&[1, 2, 3]).await, Ok(2));
    assert_eq!(tour.owner(1), tour.new.address);
    assert_eq!(tour.owner(2), tour.old.address);
    assert_eq!(tour.owner(3), tour.new.address);
}

#[tokio::test]
async fn key_that_neither_has_moves() {
    let tour = Tour::start().await;
    assert_eq!(tour.directory.register(tour.old.address.clone(), vec![1]).await, Ok(1));
    assert_eq!(tour.new_registers(&[1]).await, Ok(1));
    assert_eq!(tour.owner(1), tour.new.address);
}

#[tokio::test]
async fn keys_of_nobody_and_own_keys_are_taken_without_asking_anybody() {
    let (centre, directory) = central(&["check"]).await;
    let host = nobody().await;
    assert_eq!(directory.register(host.clone(), vec![1, 2, 1]).await, Ok(3));
    assert_eq!(directory.register(host.clone(), vec![2, 3]).await, Ok(2));
    assert_eq!(directory.register(host, vec![]).await, Ok(0));
    // The third finds itself the owner, and so does the first of the second call.
    assert_eq!(count(&centre.store, is_put), 3 + 1);
}

#[tokio::test]
async fn old_owner_gone_keeps_its_keys_and_the_others_are_taken() {
    let tour = Tour::start().await;
    tour.old_has(&[(1, "one"), (2, "two")]).await;
    tour.new_has(&[(1, "one"), (2, "two"), (3, "three")]).await;
    let old = tour.old.address.clone();
    tour.old.kill().await;
    let host = tour.new.address.clone();
    assert_eq!(tour.directory.register(host.clone(), vec![1, 2, 3]).await, Ok(1));
    for (number, owner) in [(1, &old), (2, &old), (3, &host)] {
        assert_eq!(tour.directory.map(number).await.as_ref(), Ok(owner));
    }
}

#[tokio::test]
async fn new_owner_gone_takes_only_what_is_nobodys() {
    let tour = Tour::start().await;
    tour.old_has(&[(1, "one")]).await;
    let host = nobody().await;
    assert_eq!(tour.directory.register(host.clone(), vec![1, 2]).await, Ok(1));
    assert_eq!(tour.owner(1), tour.old.address);
    assert_eq!(tour.owner(2), host);
}

#[tokio::test]
async fn owner_that_cannot_be_asked_for_one_key_loses_the_others() {
    let tour = Tour::start().await;
    tour.old_has(&[(1, "one"), (3, "three")]).await;
    tour.new_has(&[(1, "one"), (3, "three")]).await;
    tour.old.store.put(&key(2), b"\xff");
    assert_eq!(tour.directory.register(tour.old.address.clone(), vec![2]).await, Ok(1));
    assert_eq!(tour.new_registers(&[1, 2, 3]).await, Ok(2));
    assert_eq!(tour.owner(2), tour.old.address);
}

#[tokio::test]
async fn owner_that_is_unavailable_is_asked_no_more_and_keeps_its_keys() {
    let tour = Tour::start().await;
    let keys: Vec<i32> = (0..4_000).collect();
    assert_eq!(tour.directory.register(tour.old.address.clone(), keys.clone()).await, Ok(4_000));
    tour.old.store.judge(vec![Some(Error::Unavailable("it is stopping".into())); 4_000]);
    assert_eq!(tour.new_registers(&keys).await, Ok(0));
    let asked = |op: &Op| matches!(op, Op::Get { .. });
    let of_a_later_part = |op: &Op| matches!(op, Op::Get { key: one, .. } if one[..] > key(1_023)[..]);
    assert!((1..1_000).contains(&count(&tour.old.store, asked)));
    assert_eq!(count(&tour.old.store, of_a_later_part), 0);
    assert_eq!(tour.owner(3_999), tour.old.address);
}

#[tokio::test]
async fn owner_that_is_unavailable_for_a_moment_is_asked_again() {
    let tour = Tour::start().await;
    tour.old_has(&[(1, "same")]).await;
    tour.new_has(&[(1, "same")]).await;
    tour.old.store.judge([Some(Error::Unavailable("an election".into()))]);
    assert_eq!(tour.new_registers(&[1]).await, Ok(1));
    assert_eq!(tour.owner(1), tour.new.address);
}

#[tokio::test]
async fn owner_that_is_no_address_keeps_its_key() {
    let tour = Tour::start().await;
    for (number, owner) in [(1, &b"somebody"[..]), (2, b"\xff")] {
        tour.centre.store.put(&key(number), owner);
        assert_eq!(tour.new_registers(&[number]).await, Ok(0));
        assert_eq!(tour.centre.store.value(&key(number)).unwrap(), owner);
    }
}

#[tokio::test]
async fn concurrent_registration_is_looked_at_and_not_overwritten() {
    for (text, taken) in [("same", 1), ("another", 0)] {
        let tour = Tour::start().await;
        tour.old_has(&[(1, "same")]).await;
        tour.new_has(&[(1, "same")]).await;
        let (third, third_client) = pairs().await;
        insert(&third_client, &[(1, text)]).await;
        let (address, mut comes) = (third.address.clone(), true);
        tour.centre.store.meddle(move |op, rows| {
            if is_put(op) && std::mem::take(&mut comes) {
                rows.put(key(1).to_vec().into(), address.clone().into());
            }
        });
        assert_eq!(tour.new_registers(&[1]).await, Ok(taken), "{text}");
        assert_eq!(tour.owner(1), if taken == 1 { &tour.new } else { &third }.address, "{text}");
        assert_eq!(third.store.seen().len(), 2, "it is asked, after its insert");
    }
}

#[tokio::test]
async fn registrations_that_never_cease_end_without_the_key() {
    let tour = Tour::start().await;
    tour.old_has(&[(1, "same")]).await;
    tour.new_has(&[(1, "same"), (2, "mine")]).await;
    let old = tour.old.address.clone();
    tour.centre.store.meddle(move |op, rows| match op {
        Op::Update { key: one, .. } if *one == key(1)[..] => rows.put(one.clone(), old.clone().into()),
        _ => {}
    });
    assert_eq!(tour.new_registers(&[1, 2]).await, Ok(1));
    assert_eq!(tour.owner(1), tour.old.address);
}

#[tokio::test]
async fn many_keys_move_in_parts() {
    let tour = Tour::start().await;
    let keys: Vec<i32> = (0..2_500).collect();
    for number in &keys {
        tour.old.store.put(&key(*number), b"same");
        tour.new.store.put(&key(*number), if number % 5 == 0 { b"new" } else { b"same" });
    }
    assert_eq!(tour.directory.register(tour.old.address.clone(), keys.clone()).await, Ok(2_500));
    assert_eq!(tour.new_registers(&keys).await, Ok(2_000));
    for number in keys {
        assert_eq!(tour.owner(number), if number % 5 == 0 { &tour.old } else { &tour.new }.address);
    }
    let largest = |op: &Op| matches!(op, Op::GetAll { keys, .. } if keys.len() > 1024);
    assert_eq!(count(&tour.centre.store, largest), 0);
}

#[tokio::test]
async fn directory_that_fails_in_the_middle_is_in_doubt_with_what_was_taken() {
    let tour = Tour::start().await;
    let full = Error::Unavailable("the disk is full".into());
    tour.centre.store.judge([None, None, Some(full.clone())]);
    let Err(Error::InDoubt(why)) = tour.new_registers(&[1, 2]).await else { panic!("one of two is there") };
    assert!(why.contains("1 of 2 keys were registered") && why.contains("the disk is full"), "{why}");
    tour.centre.store.judge([Some(full)]);
    assert!(matches!(tour.new_registers(&[1, 2]).await, Err(Error::Unavailable(_))));
}
