//! Terminate, where clients may and where they may not.

use dialects::classic::pairs::{CentralClient, PairClient};
use kv::Error;

use super::{central, key, pairs};
use crate::fake::{Server, Setup};

#[tokio::test]
async fn answer_is_0_or_the_number_of_keys() {
    let (server, client) = pairs().await;
    client.insert(1, "one".into()).await.unwrap();
    assert_eq!(client.terminate().await, Ok(0));
    assert_eq!(server.ended(), 1);

    let (server, client) = central(&[]).await;
    for number in 0..12_345 {
        server.store.put(&key(number), b"host:1");
    }
    server.store.put(b"another's", b"no key");
    assert_eq!(client.terminate().await, Ok(12_345));
    assert_eq!(server.ended(), 1);
}

#[tokio::test]
async fn where_clients_may_not_it_is_refused_with_what_to_do() {
    let setup = || Setup { may_end: false, ..Setup::default() };
    let server = Server::start_with("classic/pairs", &[], setup()).await;
    let client = PairClient::new(&server.address).unwrap();
    let Err(Error::Conflict(why)) = client.terminate().await else { panic!("clients may not") };
    assert!(why.contains("stop its process with SIGTERM"), "{why}");
    assert_eq!(client.insert(1, "it goes on".into()).await, Ok(true));

    let server = Server::start_with("classic/central", &[], setup()).await;
    let client = CentralClient::new(&server.address).unwrap();
    assert!(matches!(client.terminate().await, Err(Error::Conflict(_))));
    assert!(server.store.seen().is_empty(), "nothing is counted for nothing");
}

#[tokio::test]
async fn central_that_cannot_count_goes_on() {
    let (server, client) = central(&[]).await;
    server.store.judge([Some(Error::Unavailable("no leader".into()))]);
    assert!(matches!(client.terminate().await, Err(Error::Unavailable(_))));
    assert_eq!(server.ended(), 0);
    assert_eq!(client.terminate().await, Ok(0));
}
