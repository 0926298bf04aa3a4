//! Every error there and back, and what the transport adds.

use bytes::Bytes;
use dialects::native::proto::key_value_client::KeyValueClient;
use dialects::native::{MESSAGE_BYTES_MAX, from_status, proto};
use kv::*;
use tonic::Code;
use tonic::transport::Channel;

use crate::fake::{Act, Node, client, get, put, row, soon};

async fn raw(node: &Node) -> KeyValueClient<Channel> {
    KeyValueClient::connect(format!("http://{}", node.address)).await.unwrap()
}

fn errors() -> Vec<Error> {
    let version = |micros| Version::new(micros, ReplicaId(1));
    vec![
        Error::Invalid("no sense: ä % \u{1F980}".into()),
        Error::TooLarge { what: "the value".into(), size: u64::MAX, limit: 1 },
        Error::Conflict("'abc' is no number".into()),
        Error::Trimmed { asked: version(1), oldest: version(2) },
        Error::Future { asked: version(2), newest: version(1) },
        Error::NoKeyspace("orders".into()),
        Error::WrongNode { try_next: None },
        Error::WrongNode { try_next: Some("127.0.0.1:1".into()) },
        Error::Unavailable("no leader: try again in a moment".into()),
        Error::InDoubt("the leader was lost".into()),
    ]
}

#[tokio::test]
async fn error_of_every_kind_crosses_the_wire_as_it_was() {
    let node = Node::start(1).await;
    let mut raw = raw(&node).await;
    for error in errors() {
        node.fake.act([Act::Fail(error.clone())]);
        let asked = proto::PutRequest { key: "k".into(), ..Default::default() };
        let status = raw.put(asked).await.unwrap_err();
        assert_eq!(status.message(), error.to_string());
        assert_eq!(from_status(&status), Some(error));
    }
}

#[tokio::test]
async fn error_that_is_final_reaches_the_caller_at_the_first_attempt() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    for error in errors().into_iter().filter(|error| !error.is_transient()) {
        node.fake.act([Act::Fail(error.clone())]);
        assert_eq!(client.call(put("k", "v")).await, Err(error));
    }
    assert_eq!(node.fake.seen().len(), errors().iter().filter(|error| !error.is_transient()).count());
}

#[tokio::test]
async fn error_text_longer_than_headers_hold_arrives_cut() {
    let node = Node::start(1).await;
    node.fake.act([Act::Fail(Error::Conflict("ä".repeat(100_000)))]);
    match client(&[&node]).call(put("k", "v")).await {
        Err(Error::Conflict(text)) => assert_eq!(text, "ä".repeat(dialects::native::TEXT_BYTES_MAX / 2)),
        other => panic!("a conflict was told, not {other:?}"),
    }
}

#[tokio::test]
async fn request_beyond_a_limit_is_refused_before_it_is_sent() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let large = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    assert!(matches!(client.call(put("k", large)).await, Err(Error::TooLarge { .. })));
    assert!(matches!(client.call(get("")).await, Err(Error::Invalid(_))));
    assert!(node.fake.seen().is_empty());
}

#[tokio::test]
async fn request_beyond_a_limit_is_refused_by_the_node_too() {
    let node = Node::start(1).await;
    let mut raw = raw(&node).await;
    let value = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    let asked = proto::PutRequest { key: "k".into(), value, ..Default::default() };
    let status = raw.put(asked).await.unwrap_err();
    let (size, limit) = (VALUE_BYTES_MAX as u64 + 1, VALUE_BYTES_MAX as u64);
    let expected = Error::TooLarge { what: "the value".into(), size, limit };
    assert_eq!((status.code(), from_status(&status)), (Code::InvalidArgument, Some(expected)));
    assert!(node.fake.seen().is_empty());
}

#[tokio::test]
async fn message_over_the_limit_is_out_of_range_and_not_run() {
    let node = Node::start(1).await;
    let mut raw = raw(&node).await;
    let value = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
    let status =
        raw.put(proto::PutRequest { key: "k".into(), value, ..Default::default() }).await.unwrap_err();
    assert_eq!((status.code(), from_status(&status)), (Code::OutOfRange, None));
    assert!(node.fake.seen().is_empty());
}

#[tokio::test]
async fn answer_over_the_limit_is_too_large_for_a_read_and_in_doubt_for_a_write() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let value = vec![0; VALUE_BYTES_MAX];
    let many = || {
        let result = || KeyAnswer { key: "k".into(), result: Ok(Some(row(b"k", &value))) };
        Answer::Many(vec![result(), result()])
    };
    let keys = vec![Bytes::from("k"), Bytes::from("k")];
    node.fake.act([Act::Tell(many())]);
    let read = client.call(Request::new(Op::GetAll { keys: keys.clone(), at: None })).await;
    assert!(matches!(read, Err(Error::TooLarge { what, .. }) if what == "the answer"));

    let inner = Op::GetAll { keys, at: None };
    let transaction = Op::Transaction { conditions: vec![], then: vec![inner], otherwise: vec![] };
    let answer = Answer::Transaction { succeeded: true, answers: vec![many()] };
    node.fake.act(std::iter::repeat_with(|| Act::Tell(answer.clone())).take(100));
    let write = client.call(soon(Request::new(transaction))).await;
    assert!(matches!(write, Err(Error::InDoubt(_))), "{:?}", write.map(|reply| reply.receipt));
}

#[tokio::test]
async fn request_dropped_by_a_stopping_store_is_unavailable_or_in_doubt() {
    let node = Node::start(1).await;
    let mut raw = raw(&node).await;
    node.fake.act([Act::Drop, Act::Drop]);
    let status = raw.get(proto::GetRequest { key: "k".into(), ..Default::default() }).await.unwrap_err();
    assert!(matches!(from_status(&status), Some(Error::Unavailable(_))));
    let status =
        raw.delete(proto::DeleteRequest { key: "k".into(), ..Default::default() }).await.unwrap_err();
    assert!(matches!(from_status(&status), Some(Error::InDoubt(_))));
}

#[tokio::test]
async fn grpc_deadline_shortens_the_timeout_of_the_request() {
    let node = Node::start(1).await;
    let mut asked = tonic::Request::new(proto::GetRequest { key: "k".into(), ..Default::default() });
    asked.set_timeout(std::time::Duration::from_millis(1500));
    raw(&node).await.get(asked).await.unwrap();
    // A little less, so that the answer is there in time.
    assert_eq!(node.fake.seen()[0].timeout, std::time::Duration::from_millis(1450));
}
