//! What a failure leaves open, at each point of a request's life.

use std::time::Duration;

use h2::Reason;
use tonic::codegen::http::Response;

use super::server::{LONG, Server, ask, asking, closed, connected, framed};
use crate::grpc::channel::{Address, Channel, Connection, Failure};
use crate::grpc::life::Pace;

fn assert_unsent(result: Result<String, Failure>) {
    assert!(matches!(result, Err(Failure::Unsent(_))), "{result:?}");
}

fn assert_lost(result: Result<String, Failure>) {
    assert!(matches!(result, Err(Failure::Lost(_))), "{result:?}");
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let Server { address, .. } = Server::start().await;
    let error = Connection::open(&address, LONG).await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
    let error = Channel::new(address, LONG).connection().await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
    let nowhere = Address::new("nowhere.invalid:1").unwrap();
    Connection::open(&nowhere, LONG).await.unwrap_err();
}

#[tokio::test]
async fn connection_that_ended_before_takes_no_request() {
    let (connection, peer) = connected(Default::default()).await;
    assert!(!connection.is_closed());
    peer.break_off();
    closed(&connection).await;
    assert_unsent(ask(&connection, "what", None).await);
}

#[tokio::test]
async fn connection_that_ends_before_the_answer_leaves_the_request_in_doubt() {
    let (connection, mut peer) = connected(Default::default()).await;
    let asked = asking(&connection, "what");
    let _came = peer.next().await;
    peer.break_off();
    assert_lost(asked.await.unwrap());
}

#[tokio::test]
async fn connection_that_ends_within_the_answer_leaves_the_request_in_doubt() {
    for bytes in [0, 3, 7] {
        let (connection, mut peer) = connected(Default::default()).await;
        let asked = asking(&connection, "what");
        let mut came = peer.next().await;
        let mut stream = came.respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(framed("that").slice(..bytes), false).unwrap();
        // What follows on the connection shows that this arrived.
        let after = asking(&connection, "and");
        peer.next().await.echo().await;
        after.await.unwrap().unwrap();
        peer.break_off();
        assert_lost(asked.await.unwrap());
    }
}

#[tokio::test]
async fn refused_request_was_not_begun_and_any_other_reset_is_in_doubt() {
    let (connection, mut peer) = connected(Default::default()).await;
    for reason in [Reason::REFUSED_STREAM, Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let asked = asking(&connection, "what");
        peer.next().await.respond.send_reset(reason);
        match asked.await.unwrap() {
            Err(Failure::Unsent(_)) => assert_eq!(reason, Reason::REFUSED_STREAM),
            result => {
                assert_ne!(reason, Reason::REFUSED_STREAM);
                assert_lost(result);
            }
        }
    }
    let asked = asking(&connection, "what");
    peer.next().await.echo().await;
    assert_eq!(asked.await.unwrap().unwrap(), "what", "the connection goes on");
}

#[tokio::test]
async fn server_that_goes_away_answers_what_it_has_and_the_channel_connects_anew() {
    let server = Server::start().await;
    let channel = Channel::new(server.address.clone(), LONG);
    let (connection, mut peer) = tokio::join!(channel.connection(), server.accept(Default::default()));
    let connection = connection.unwrap();
    let asked = asking(&connection, "what");
    let came = peer.next().await;
    peer.leave();
    closed(&connection).await;
    assert_unsent(ask(&connection, "more", None).await);
    let (again, mut other) = tokio::join!(channel.connection(), server.accept(Default::default()));
    let again = again.unwrap();
    let more = asking(&again, "more");
    other.next().await.echo().await;
    assert_eq!(more.await.unwrap().unwrap(), "more");
    came.echo().await;
    assert_eq!(asked.await.unwrap().unwrap(), "what");
    assert!(!channel.connection().await.unwrap().is_closed(), "the new one is kept");
}

#[tokio::test]
async fn deadline_resets_its_request_alone() {
    let (connection, mut peer) = connected(Default::default()).await;
    let other = asking(&connection, "other");
    let other_came = peer.next().await;
    assert_lost(ask(&connection, "what", Some(Duration::from_millis(20))).await);
    let mut came = peer.next().await;
    let reset = std::future::poll_fn(|cx| came.respond.poll_reset(cx)).await;
    assert_eq!(reset.unwrap(), Reason::CANCEL);
    other_came.echo().await;
    assert_eq!(other.await.unwrap().unwrap(), "other");
}

#[tokio::test]
async fn silent_server_is_given_up() {
    let server = Server::start().await;
    let pace = Pace { interval: Duration::from_millis(5), timeout: Duration::from_millis(20) };
    let (connection, silent) = tokio::join!(Connection::open_with(&server.address, LONG, pace), server.raw());
    let result = ask(&connection.unwrap(), "what", None).await;
    assert!(matches!(&result, Err(Failure::Lost(why)) if why.contains("no sign of life")), "{result:?}");
    drop(silent);
}

#[tokio::test]
async fn server_that_answers_pings_is_kept_however_long_it_thinks() {
    let server = Server::start().await;
    let pace = Pace { interval: Duration::from_millis(1), timeout: LONG };
    let (connection, peer) =
        tokio::join!(Connection::open_with(&server.address, LONG, pace), server.accept(Default::default()));
    let (connection, mut peer) = (connection.unwrap(), peer);
    let asked = asking(&connection, "what");
    let came = peer.next().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    came.echo().await;
    assert_eq!(asked.await.unwrap().unwrap(), "what");
}
