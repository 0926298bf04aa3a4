//! Activate: all keys of a pair server go to a central server, a page at a time.

use dialects::classic::pairs::{CentralClient, PairClient};
use kv::{Error, Op};

use super::{central, key, nobody, pairs};
use crate::fake::{Fake, Server, Setup};

/// How many keys came with each put-all.
fn puts(store: &Fake) -> Vec<usize> {
    let count = |op: &Op| match op {
        Op::PutAll { rows } => Some(rows.len()),
        _ => None,
    };
    store.seen().iter().filter_map(|request| count(&request.op)).collect()
}

#[tokio::test]
async fn keys_are_registered_page_by_page_under_the_own_address() {
    let (centre, directory) = central(&[]).await;
    let setup = Setup { page_rows: 3, ..Setup::default() };
    let server = Server::start_with("classic/pairs", &["activate"], setup).await;
    let client = PairClient::new(&server.address).unwrap();
    for number in -5..5 {
        assert_eq!(client.insert(number, "text".into()).await, Ok(true));
    }
    assert_eq!(client.activate(centre.address.clone()).await, Ok(10));
    assert_eq!(puts(&centre.store), [3, 3, 3, 1]);
    for number in -5..5 {
        assert_eq!(directory.map(number).await.as_ref(), Ok(&server.address));
    }
    assert_eq!(centre.store.len(), 10);
}

#[tokio::test]
async fn keys_of_other_dialects_are_left_out() {
    let (centre, _) = central(&[]).await;
    let setup = Setup { page_rows: 1, ..Setup::default() };
    let server = Server::start_with("classic/pairs", &["activate"], setup).await;
    for other in [&b"a"[..], b"abc", b"abcde", b"\x80"] {
        server.store.put(other, b"another's");
    }
    server.store.put(&key(12), b"twelve");
    let client = PairClient::new(&server.address).unwrap();
    assert_eq!(client.activate(centre.address.clone()).await, Ok(1));
    assert_eq!(centre.store.keys(), [&key(12)[..]]);
}

#[tokio::test]
async fn many_keys_go_in_pages_of_ten_thousand() {
    let ((centre, _), (server, client)) = (central(&[]).await, pairs().await);
    for number in 0..25_000 {
        server.store.put(&key(number), b"");
    }
    assert_eq!(client.activate(centre.address.clone()).await, Ok(25_000));
    assert_eq!(puts(&centre.store), [10_000, 10_000, 5_000]);
    assert_eq!(centre.store.len(), 25_000);
}

#[tokio::test]
async fn again_takes_the_same_keys_again() {
    let ((centre, directory), (server, client)) = (central(&[]).await, pairs().await);
    client.insert(1, "one".into()).await.unwrap();
    assert_eq!(client.activate(centre.address.clone()).await, Ok(1));
    assert_eq!(directory.register("other:1".into(), vec![1]).await, Ok(1));
    assert_eq!(client.activate(centre.address.clone()).await, Ok(1));
    assert_eq!(directory.map(1).await.as_ref(), Ok(&server.address));
}

#[tokio::test]
async fn central_absent_is_unavailable_and_the_server_goes_on() {
    let (_server, client) = pairs().await;
    let address = nobody().await;
    for number in 0..2 {
        // Without any key at first.
        let Err(Error::Unavailable(why)) = client.activate(address.clone()).await else {
            panic!("nobody is there")
        };
        assert!(why.contains(&format!("cannot connect to {address}")), "{why}");
        assert!(why.contains("could not be registered") && why.contains("activate again"), "{why}");
        assert_eq!(client.insert(number, "text".into()).await, Ok(true));
    }
    assert_eq!(client.consult(0).await, Ok("text".into()));
    let central =
        Server::start_with("classic/central", &[], Setup { listen: address, ..Setup::default() }).await;
    assert_eq!(client.activate(central.address.clone()).await, Ok(2));
}

#[tokio::test]
async fn central_that_fails_in_the_middle_is_in_doubt_with_what_was_registered() {
    let (centre, _) = central(&[]).await;
    let setup = Setup { page_rows: 3, ..Setup::default() };
    let server = Server::start_with("classic/pairs", &["activate"], setup).await;
    for number in 0..8 {
        server.store.put(&key(number), b"");
    }
    centre.store.judge([None, None, Some(Error::Unavailable("the disk is full".into()))]);
    let client = PairClient::new(&server.address).unwrap();
    let Err(Error::InDoubt(why)) = client.activate(centre.address.clone()).await else {
        panic!("6 of 8 are there")
    };
    assert!(why.contains("6 keys were sent") && why.contains("the disk is full"), "{why}");
    assert_eq!(centre.store.len(), 6);
    assert_eq!(client.activate(centre.address.clone()).await, Ok(8));
}

#[tokio::test]
async fn server_that_is_no_central_server_is_invalid() {
    let ((other, _), (_server, client)) = (pairs().await, pairs().await);
    client.insert(1, "one".into()).await.unwrap();
    let Err(Error::Invalid(why)) = client.activate(other.address.clone()).await else {
        panic!("it is no central server")
    };
    assert!(why.contains("is it a server of the other kind?"), "{why}");
}

#[tokio::test]
async fn central_that_checks_counts_what_it_took() {
    let (centre, directory) = central(&["check"]).await;
    let ((one, first), (_other, second)) = (pairs().await, pairs().await);
    for (number, mine, theirs) in [(1, "same", "same"), (2, "mine", "theirs")] {
        first.insert(number, mine.into()).await.unwrap();
        second.insert(number, theirs.into()).await.unwrap();
    }
    second.insert(3, "new".into()).await.unwrap();
    assert_eq!(first.activate(centre.address.clone()).await, Ok(2));
    assert_eq!(second.activate(centre.address.clone()).await, Ok(2));
    assert_eq!(directory.map(2).await.as_ref(), Ok(&one.address));
    let centre_again = CentralClient::new(&centre.address).unwrap();
    assert_ne!(centre_again.map(1).await.as_ref(), Ok(&one.address));
}
