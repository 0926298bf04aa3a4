//! Register: any number of keys in one message.

use dialects::Account;
use dialects::classic::pairs::CentralClient;
use kv::{Budget, Error, Op};

use super::{central, key};
use crate::fake::{Server, Setup};

#[tokio::test]
async fn million_keys_are_split_into_ops_within_the_limits() {
    let (server, client) = central(&[]).await;
    let keys: Vec<i32> = (0..1_000_000).collect();
    assert_eq!(client.register("host:1".into(), keys).await, Ok(1_000_000));
    let seen = server.store.seen();
    assert_eq!(seen.len(), 100);
    for request in seen {
        let Op::PutAll { rows } = request.op else { panic!("a register puts") };
        assert_eq!(rows.len(), kv::KEYS_PER_OP_MAX);
    }
    assert_eq!(server.store.len(), 1_000_000);
    assert_eq!(client.map(999_999).await, Ok("host:1".into()));
}

#[tokio::test]
async fn failure_in_the_middle_is_in_doubt_and_at_the_beginning_as_it_is() {
    let (server, client) = central(&[]).await;
    let full = Error::Unavailable("the disk is full".into());
    server.store.judge([Some(full.clone())]);
    let keys: Vec<i32> = (0..25_000).collect();
    let Err(Error::Unavailable(why)) = client.register("host:1".into(), keys.clone()).await else {
        panic!("it failed")
    };
    assert!(why.ends_with("the disk is full"), "{why}");
    server.store.judge([None, Some(full)]);
    let Err(Error::InDoubt(why)) = client.register("host:1".into(), keys).await else { panic!("it failed") };
    assert!(why.contains("10000 of 25000 keys were registered"), "{why}");
    assert_eq!(server.store.len(), 10_000);
}

#[tokio::test]
async fn keys_count_against_the_connection_as_long_as_they_are_worked_on() {
    let requests = Budget::new(64 << 20);
    let account = Account::new(requests.clone(), Budget::default());
    let server = Server::start_with("classic/central", &[], Setup { account, ..Setup::default() }).await;
    let held = requests.clone();
    server.store.meddle(move |_, _| assert!(held.held() > 5 * 100_000, "{} bytes", held.held()));
    let client = CentralClient::new(&server.address).unwrap();
    // Each takes one byte of the message, and four in memory.
    assert_eq!(client.register("host:1".into(), vec![1; 100_000]).await, Ok(100_000));
}

#[tokio::test]
async fn keys_without_room_on_the_connection_are_refused_before_anything_is_done() {
    // Of the message itself, all but a little fits.
    let account = Account::new(Budget::new((8 << 10) + 99_000), Budget::default());
    let server = Server::start_with("classic/central", &[], Setup { account, ..Setup::default() }).await;
    let client = CentralClient::new(&server.address).unwrap();
    let refused = client.register("host:1".into(), vec![1; 100_000]).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(server.store.seen().is_empty());
}

#[tokio::test]
async fn row_that_is_no_text_is_refused() {
    let (server, client) = central(&[]).await;
    server.store.put(&key(1), b"\xff");
    assert!(matches!(client.map(1).await, Err(Error::Conflict(_))));
    assert_eq!(client.register("host:1".into(), vec![1]).await, Ok(1));
    assert_eq!(client.map(1).await, Ok("host:1".into()));
}
