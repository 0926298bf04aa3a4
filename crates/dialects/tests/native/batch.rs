//! Many requests in one message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dialects::native::proto::key_value_client::KeyValueClient;
use dialects::native::{BATCH_OPERATIONS_MAX, Client, from_status, proto};
use kv::*;
use tokio::sync::oneshot;

use crate::fake::{self, Act, Node, client, get, led_by, nodes, put, row, soon};

type Results = HashMap<usize, Result<Reply, Error>>;

/// Submits a batch and waits for all answers; each index must come once.
async fn submit(client: &Client, requests: Vec<Request>) -> Results {
    let count = requests.len();
    let (send, receive) = oneshot::channel();
    let mut send = Some(send);
    let results = Arc::new(Mutex::new(Results::new()));
    let kept = results.clone();
    let completions = move |index, result| {
        let mut kept = kept.lock().unwrap();
        assert!(kept.insert(index, result).is_none(), "index {index} came twice");
        if kept.len() == count {
            send.take().unwrap().send(()).unwrap();
        }
    };
    client.submit(requests, Box::new(completions));
    receive.await.unwrap();
    Arc::try_unwrap(results)
        .map_or_else(|kept| kept.lock().unwrap().clone(), |kept| kept.into_inner().unwrap())
}

#[tokio::test]
async fn batch_answers_each_request_at_its_index() {
    let node = Node::start(1).await;
    let increment = |by| Request::new(Op::Update { key: "k".into(), function: Function::Increment { by } });
    let results = submit(&client(&[&node]), (0..3000).map(increment).collect()).await;
    assert_eq!(results.len(), 3000);
    for (index, result) in results {
        assert_eq!(result.unwrap().answer, Answer::Number(index as i64));
    }
    let ids: std::collections::HashSet<_> =
        node.fake.seen().iter().map(|request| request.id.unwrap()).collect();
    assert_eq!(ids.len(), 3000, "each has an id of its own");
}

#[tokio::test]
async fn batch_of_one_is_a_single_request() {
    let node = Node::start(1).await;
    let results = submit(&client(&[&node]), vec![get("k")]).await;
    assert_eq!(results[&0].as_ref().unwrap().answer, Answer::Row(Some(row(b"k", b"value"))));
}

#[tokio::test]
async fn batch_requests_fail_alone() {
    let node = Node::start(1).await;
    let conflict = Error::Conflict("'abc' is no number".into());
    node.fake.act([Act::Tell(Answer::Put { previous: None }), Act::Fail(conflict.clone())]);
    let results = submit(&client(&[&node]), vec![put("k", "v"), get(""), put("k", "v"), get("k")]).await;
    assert!(results[&0].is_ok() && results[&3].is_ok());
    assert!(matches!(results[&1], Err(Error::Invalid(_))));
    assert_eq!(results[&2], Err(conflict));
}

#[tokio::test]
async fn batch_request_failing_for_a_while_is_repeated_under_its_id() {
    let node = Node::start(1).await;
    node.fake
        .act([Act::Fail(Error::Unavailable("no leader".into())), Act::Fail(Error::InDoubt("lost".into()))]);
    let results = submit(&client(&[&node]), vec![put("a", "v"), put("b", "v")]).await;
    assert!(results.values().all(Result::is_ok), "{results:?}");
    let mut keys: HashMap<RequestId, usize> = HashMap::new();
    node.fake.seen().iter().for_each(|request| *keys.entry(request.id.unwrap()).or_default() += 1);
    assert_eq!(keys.into_values().collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn batch_request_that_may_have_run_ends_in_doubt_and_the_others_failed() {
    let node = Node::start(1).await;
    node.fake.act([Act::Fail(Error::InDoubt("lost".into()))]);
    node.fake.always_fail(Error::Unavailable("no leader".into()));
    let results = submit(&client(&[&node]), vec![soon(put("a", "v")), soon(put("b", "v"))]).await;
    assert!(matches!(results[&0], Err(Error::InDoubt(_))), "{results:?}");
    assert!(matches!(results[&1], Err(Error::Unavailable(_))), "{results:?}");
}

#[tokio::test]
async fn batch_to_a_cluster_that_is_down_fails_each() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    node.stop();
    let results = submit(&client, vec![soon(put("a", "v")), soon(get("b"))]).await;
    assert!(results.values().all(|result| matches!(result, Err(Error::Unavailable(_)))), "{results:?}");
}

#[tokio::test]
async fn batch_is_split_by_leader() {
    let [first, second] = nodes().await;
    let mut status = led_by(&[&first, &second], 1);
    let mut other = status.shards[0].clone();
    (status.shards[0].slots, other.slots) = (SlotRange::nth(0, 2), SlotRange::nth(1, 2));
    (other.id, other.leader) = (ShardId(2), Some(NodeId(2)));
    status.shards.push(other);
    first.fake.set_status(status);
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    // The slot of "bar" is 5061, that of "foo" 12182.
    submit(&client, vec![put("foo", "v"), put("bar", "v"), put("{foo}2", "v")]).await;
    let keys = |node: &Node| {
        let mut keys = Vec::new();
        node.fake
            .seen()
            .iter()
            .for_each(|request| request.op.for_each_key(&mut |key| keys.push(key.clone())));
        keys
    };
    assert!(keys(&first).contains(&Bytes::from("bar")));
    assert!(keys(&second).contains(&Bytes::from("foo")) && keys(&second).contains(&Bytes::from("{foo}2")));
}

#[tokio::test]
async fn batch_answers_that_do_not_fit_are_asked_alone() {
    let node = Node::start(1).await;
    let value = vec![7; VALUE_BYTES_MAX];
    node.fake.act((0..6).map(|_| Act::Tell(Answer::Row(Some(row(b"k", &value))))));
    let results = submit(&client(&[&node]), vec![get("k"), get("k"), get("k")]).await;
    for result in results.into_values() {
        assert!(result.unwrap().answer == Answer::Row(Some(row(b"k", &value))));
    }
    assert_eq!(node.fake.seen().len(), 5, "two of the three were asked again");
}

async fn raw(node: &Node) -> KeyValueClient<tonic::transport::Channel> {
    KeyValueClient::connect(format!("http://{}", node.address)).await.unwrap()
}

fn operation(operation: proto::operation::Operation) -> proto::Operation {
    proto::Operation { operation: Some(operation) }
}

#[tokio::test]
async fn batch_header_counts_for_operations_without_one() {
    let node = Node::start(1).await;
    let header =
        |keyspace: &str| Some(proto::RequestHeader { keyspace: keyspace.into(), ..Default::default() });
    let get = |header| {
        operation(proto::operation::Operation::Get(proto::GetRequest { header, key: "k".into(), at: None }))
    };
    let operations = vec![get(None), get(header("own"))];
    let batch = proto::BatchRequest { header: header("common"), operations };
    raw(&node).await.batch(batch).await.unwrap();
    let keyspaces: Vec<_> = node.fake.seen().into_iter().map(|request| request.keyspace).collect();
    assert_eq!(keyspaces, ["common", "own"]);
}

#[tokio::test]
async fn batch_with_one_id_for_all_or_too_many_operations_is_refused() {
    let node = Node::start(1).await;
    let mut raw = raw(&node).await;
    let id = Some(proto::RequestId { client: 1, sequence: 1, ..Default::default() });
    let header = Some(proto::RequestHeader { id, ..Default::default() });
    let status = raw.batch(proto::BatchRequest { header, operations: vec![] }).await.unwrap_err();
    assert!(matches!(from_status(&status), Some(Error::Invalid(_))));
    let operations = vec![proto::Operation::default(); BATCH_OPERATIONS_MAX + 1];
    let status = raw.batch(proto::BatchRequest { header: None, operations }).await.unwrap_err();
    assert!(matches!(from_status(&status), Some(Error::TooLarge { .. })));
}

#[tokio::test]
async fn batch_empty_is_answered_and_an_empty_operation_is_invalid() {
    let node = Node::start(1).await;
    let mut raw = raw(&node).await;
    let none = raw.batch(proto::BatchRequest::default()).await.unwrap().into_inner();
    assert!(none.results.is_empty());
    let operations = vec![proto::Operation::default()];
    let one = raw.batch(proto::BatchRequest { header: None, operations }).await.unwrap().into_inner();
    match &one.results[0].result {
        Some(proto::operation_result::Result::Error(error)) => assert_eq!(error.reason, "INVALID"),
        other => panic!("nothing was asked, and {other:?} answered"),
    }
}

#[tokio::test]
async fn batch_dropped_by_a_stopping_store_tells_what_was_answered() {
    let node = Node::start(1).await;
    let delete = || proto::DeleteRequest { key: "k".into(), ..Default::default() };
    node.fake.act([Act::Drop, Act::Tell(fake::answer(&Op::Delete { key: "k".into(), previous: false }))]);
    let operations = vec![operation(proto::operation::Operation::Delete(delete())); 2];
    let answer = raw(&node).await.batch(proto::BatchRequest { header: None, operations }).await.unwrap();
    use proto::operation_result::Result;
    match &answer.into_inner().results[..] {
        [first, second] => {
            assert!(matches!(&first.result, Some(Result::Error(error)) if error.reason == "IN_DOUBT"));
            assert!(matches!(&second.result, Some(Result::Delete(delete)) if delete.count == 1));
        }
        other => panic!("two were asked, {} answered", other.len()),
    }
}
