//! A node of a store: its client against its serving side, and what it asks of the keyspace and of the node.

use std::time::Duration;

use dialects::classic::store::{LIMIT, StoreClient};
use kv::fault::Fault;
use kv::{Error, Op};

use crate::fake::Server;

async fn start() -> (Server, StoreClient) {
    let server = Server::start("classic/store", &[]).await;
    let client = StoreClient::new(&server.address).unwrap();
    (server, client)
}

fn put(client: &StoreClient, key: &str, value: &str) -> impl Future<Output = Result<bool, Error>> {
    client.put(key.into(), value.into())
}

#[tokio::test]
async fn put_and_get_are_of_any_text_and_the_key_has_a_byte_before_it() {
    let (server, client) = start().await;
    for key in ["", "k", "{tag}k", "ü 漢字\n"] {
        assert_eq!(client.get(key.into()).await, Ok(None));
        assert_eq!(put(&client, key, "").await, Ok(true));
        assert_eq!(client.get(key.into()).await, Ok(Some(String::new())), "an empty text is one");
        assert_eq!(put(&client, key, "value").await, Ok(true));
        assert_eq!(client.get(key.into()).await, Ok(Some("value".into())));
        assert_eq!(server.store.value(format!("={key}").as_bytes()).unwrap(), "value");
    }
    assert!(server.store.seen().iter().all(|request| request.timeout <= LIMIT), "answers come in time");
}

#[tokio::test]
async fn put_that_failed_is_no_success_and_one_in_doubt_is_no_guess() {
    let (server, client) = start().await;
    let failed =
        [Error::OverQuota("full".into()), Error::TooLarge { what: "the value".into(), size: 2, limit: 1 }];
    let count = failed.len();
    server.store.judge(failed.map(Some));
    for _ in 0..count {
        assert_eq!(put(&client, "k", "v").await, Ok(false));
    }
    server.store.judge([Some(Error::InDoubt("the master is gone".into()))]);
    let doubt = put(&client, "k", "v").await.unwrap_err();
    assert!(matches!(&doubt, Error::InDoubt(why) if why.contains("the master is gone")), "{doubt:?}");
    assert_eq!(server.store.len(), 0);
    // What cannot be an op is not asked.
    let seen = server.store.seen().len();
    assert_eq!(put(&client, &"k".repeat(kv::KEY_BYTES_MAX), "v").await, Ok(false));
    assert_eq!(server.store.seen().len(), seen);
}

#[tokio::test]
async fn call_that_finds_a_node_away_is_asked_again_for_a_while() {
    let (server, client) = start().await;
    let away = || Some(Error::Unavailable("a slave is away".into()));
    server.store.judge([away(), away()]);
    assert_eq!(put(&client, "k", "v").await, Ok(true));
    assert_eq!(server.store.seen().len(), 3);
    server.store.judge([away()]);
    assert_eq!(client.get("k".into()).await, Ok(Some("v".into())));
    server.store.judge((0..10_000).map(|_| away()));
    assert_eq!(put(&client, "k", "w").await, Ok(false));
    assert_eq!(server.store.value(b"=k").unwrap(), "v");
}

#[tokio::test]
async fn get_that_cannot_be_answered_is_no_absence() {
    let (server, client) = start().await;
    let away = || Some(Error::Unavailable("no leader".into()));
    server.store.judge((0..10_000).map(|_| away()));
    assert!(matches!(client.get("k".into()).await, Err(Error::Unavailable(_))));
    server.store.judge_no_more();
    server.store.put(b"=k", b"\xff");
    assert!(matches!(client.get("k".into()).await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn node_that_knows_no_cluster_yet_is_waited_for() {
    let (server, client) = start().await;
    server.store.leave(Error::Unavailable("it waits for the others".into()));
    let (store, asked) = (server.store.clone(), put(&client, "k", "v"));
    let joins = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(store.len(), 0);
        store.join();
    };
    let (answer, ()) = tokio::join!(asked, joins);
    assert_eq!(answer, Ok(true));
}

#[tokio::test]
async fn slow_down_and_restore_are_faults_of_the_node() {
    let (server, client) = start().await;
    for (seconds, success) in
        [(2, true), (3600, true), (0, true), (-1, false), (3601, false), (i32::MAX, false)]
    {
        assert_eq!(client.slow_down(seconds).await, Ok(success), "{seconds}");
    }
    assert_eq!(client.restore().await, Ok(true));
    let slow = |micros| Fault::Slow { micros };
    let expect = [slow(2_000_000), slow(3_600_000_000), Fault::Restore, Fault::Restore];
    assert_eq!(server.store.faults(), expect);
    assert!(server.store.seen().iter().all(|request| !matches!(request.op, Op::Put { .. })));
}
