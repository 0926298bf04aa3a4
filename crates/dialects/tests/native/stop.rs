//! How a connection ends.

use std::sync::Arc;

use dialects::native::{Client, Native, Options};
use dialects::{Account, Dialect, Stop, Stopper, Stream};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::fake::{Act, Fake, put, store};

/// One connection to a store.
struct One {
    address: String,
    serving: JoinHandle<()>,
    stopper: Stopper,
}

/// Serves the next one that connects.
async fn one(fake: &Arc<Fake>) -> One {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stopper, stop) = Stop::new();
    let (_, store) = store(fake);
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = Stream { bytes: Box::new(stream), account: Account::default() };
        Native::new().serve(stream, store, stop).await;
    });
    One { address, serving, stopper }
}

#[tokio::test]
async fn stop_lets_what_was_asked_be_answered_and_then_ends_the_connection() {
    let fake = Fake::new(1);
    fake.act([Act::Hold]);
    let One { address, serving, stopper } = one(&fake).await;
    let client = Client::connect(vec![address], Options::default()).unwrap();
    let asked = tokio::spawn(async move { client.call(put("k", "v")).await });
    fake.saw(1).await;
    stopper.stop();
    assert!(!serving.is_finished());
    fake.release();
    assert!(asked.await.unwrap().is_ok());
    serving.await.unwrap();
}

#[tokio::test]
async fn stop_before_the_first_word_ends_the_connection() {
    let One { address, serving, stopper } = one(&Fake::new(1)).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    stopper.stop();
    serving.await.unwrap();
}

#[tokio::test]
async fn connection_that_speaks_something_else_ends() {
    let One { address, serving, stopper: _stopper } = one(&Fake::new(1)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n").await.unwrap();
    serving.await.unwrap();
}

#[tokio::test]
async fn health_watch_says_each_change_and_knows_no_other_service() {
    let node = crate::fake::Node::start(1).await;
    let channel: Channel =
        Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let mut watch = async |service: &str| {
        let asked = HealthCheckRequest { service: service.into() };
        health.watch(asked).await.unwrap().into_inner()
    };
    let mut whole = watch("").await;
    for serving in [true, false, true] {
        node.serving.send_replace(serving);
        let said = whole.message().await.unwrap().unwrap().status();
        assert_eq!(said == ServingStatus::Serving, serving);
    }
    let unknown = watch("somebody.Else").await.message().await.unwrap().unwrap();
    assert_eq!(unknown.status(), ServingStatus::ServiceUnknown);
    let refused = health.check(HealthCheckRequest { service: "somebody.Else".into() }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
}
