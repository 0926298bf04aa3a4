//! As much at a time as the server takes, and no end of the connection by what was given up.

use std::time::Duration;

use h2::server::Builder;

use super::server::{ask, asking, connected};
use crate::grpc::channel::Failure;

fn builder(streams: u32) -> Builder {
    let mut builder = Builder::new();
    // The server of the test bears with everything, so that only the client can end a connection.
    builder
        .max_concurrent_streams(streams)
        .max_pending_accept_reset_streams(1 << 20)
        .max_concurrent_reset_streams(1 << 20)
        .max_local_error_reset_streams(None);
    builder
}

#[tokio::test]
async fn requests_beyond_what_the_server_takes_wait() {
    let (connection, mut peer) = connected(builder(2)).await;
    // After an answer the client knows how many the server takes.
    let first = asking(&connection, "first");
    peer.next().await.echo().await;
    first.await.unwrap().unwrap();
    let asked: Vec<_> = (0..20).map(|number| asking(&connection, &number.to_string())).collect();
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(peer.next().await);
        if held.len() == 2 {
            // The server's library ends the connection of who opens more.
            held.remove(0).echo().await;
        }
    }
    held.remove(0).echo().await;
    for (number, asked) in asked.into_iter().enumerate() {
        assert_eq!(asked.await.unwrap().unwrap(), number.to_string());
    }
}

#[tokio::test]
async fn request_that_never_had_its_turn_is_unsent_when_its_time_is_over() {
    let (connection, mut peer) = connected(builder(1)).await;
    let first = asking(&connection, "first");
    peer.next().await.echo().await;
    first.await.unwrap().unwrap();
    let running = asking(&connection, "running");
    let came = peer.next().await;
    let next = asking(&connection, "next");
    tokio::task::yield_now().await;
    let result = ask(&connection, "late", Some(Duration::from_millis(20))).await;
    assert!(matches!(result, Err(Failure::Unsent(_))), "{result:?}");
    came.echo().await;
    running.await.unwrap().unwrap();
    peer.next().await.echo().await;
    assert_eq!(next.await.unwrap().unwrap(), "next");
    assert!(peer.is_idle(), "what was given up never left");
}

#[tokio::test]
async fn requests_given_up_by_thousands_do_not_end_the_connection() {
    let (connection, mut peer) = connected(builder(1024)).await;
    let answers = tokio::spawn(async move {
        for _ in 0..5000 {
            let mut came = peer.next().await;
            // Some come before the reset does, and some after: both are late.
            let _ = came.respond.send_response(Default::default(), false);
        }
        peer.next().await.echo().await;
        // The connection ends with it, and the answer has not left yet.
        peer
    });
    for _ in 0..5000 {
        let result = ask(&connection, "what", Some(Duration::ZERO)).await;
        assert!(matches!(result, Err(Failure::Lost(_))), "{result:?}");
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&connection, "and now", None).await.unwrap(), "and now");
    let _peer = answers.await.unwrap();
}
