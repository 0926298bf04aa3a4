//! Nodes that come and go while a client asks: it keeps working, and asks nobody who left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dialects::native::Client;
use kv::cluster::{Liveness, Status};
use kv::*;
use tokio::sync::oneshot;

use crate::fake::{Act, Node, client, get, led_by, nodes, put, soon};

/// What these nodes say when so much has changed and this one leads, with a term that rises with it.
fn told(nodes: &[&Node], leader: u64, revision: u64) -> Status {
    let mut status = Status { revision, ..led_by(nodes, leader) };
    status.shards[0].term = revision;
    status
}

fn tell(nodes: &[&Node], leader: u64, revision: u64) {
    nodes.iter().for_each(|node| node.fake.set_status(told(nodes, leader, revision)));
}

/// Puts until a node has served one.
async fn put_until_served_by(client: &Client, node: &Node) {
    while node.fake.seen().is_empty() {
        client.call(put("k", "v")).await.unwrap();
    }
}

fn local(key: &'static str) -> Request {
    Request { level: Some(Level::Local), ..get(key) }
}

#[tokio::test]
async fn client_given_one_address_works_on_when_that_node_leaves() {
    let [first, second, third] = nodes().await;
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    tell(&[&second, &third], 2, 5);
    let address = first.address.clone();
    first.stop();
    for _ in 0..20 {
        client.call(put("k", "v")).await.unwrap();
    }
    put_until_served_by(&client, &second).await;
    // The node that left is asked no more.
    for node in [&second, &third] {
        node.fake.always_fail(Error::Unavailable("stopping".into()));
    }
    let error = client.call(soon(put("k", "v"))).await.unwrap_err().to_string();
    assert!(error.contains(&second.address) && error.contains(&third.address), "{error}");
    assert!(!error.contains(&address), "{error}");
}

#[tokio::test]
async fn node_that_joins_is_asked_when_it_leads_and_when_all_others_are_gone() {
    let first = Node::start(1).await;
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    let second = Node::start(2).await;
    tell(&[&first, &second], 2, 5);
    // An answer shows the map wrong: it comes from another node than was asked.
    first.fake.forward_to(NodeId(2));
    put_until_served_by(&client, &second).await;
    tell(&[&second], 2, 6);
    first.stop();
    client.call(put("k", "v")).await.unwrap();
    client.call(local("k")).await.unwrap();
}

#[tokio::test]
async fn map_of_a_lower_revision_takes_no_node_away() {
    let [first, second] = nodes().await;
    tell(&[&first, &second], 2, 5);
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    // Both are behind now, as after a start with an old map: they have not heard of the second.
    for node in [&first, &second] {
        node.fake.set_status(told(&[&first], 1, 4));
        node.fake.always_fail(Error::Unavailable("starting".into()));
    }
    let error = client.call(soon(put("k", "v"))).await.unwrap_err().to_string();
    assert!(error.contains(&second.address), "{error}");
}

#[tokio::test]
async fn node_that_is_cut_off_does_not_keep_the_client_from_the_others() {
    let [first, second, third] = nodes().await;
    let all = [&first, &second, &third];
    tell(&all, 2, 5);
    let mut alone = told(&all, 1, 5);
    alone.nodes.iter_mut().skip(1).for_each(|node| node.state = Liveness::Dead);
    alone.shards[0].leader = None;
    first.fake.set_status(alone);
    first.fake.always_fail(Error::Unavailable("nobody leads".into()));
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    assert!(!second.fake.seen().is_empty());
}

#[tokio::test]
async fn batch_goes_on_when_the_leader_has_changed() {
    let [first, second] = nodes().await;
    let client = client(&[&first]);
    client.call(put("k", "v")).await.unwrap();
    tell(&[&first, &second], 2, 5);
    let moved = || Act::Fail(Error::WrongNode { try_next: Some(second.address.clone()) });
    first.fake.act((0..10).map(|_| moved()));
    let (send, receive) = oneshot::channel();
    let mut send = Some(send);
    let results = Arc::new(Mutex::new(HashMap::new()));
    let kept = results.clone();
    let completions = move |index, result: Result<Reply, Error>| {
        let mut kept = kept.lock().unwrap();
        assert!(kept.insert(index, result).is_none(), "index {index} came twice");
        if kept.len() == 10 {
            send.take().unwrap().send(()).unwrap();
        }
    };
    client.submit((0..10).map(|_| put("k", "v")).collect(), Box::new(completions));
    receive.await.unwrap();
    assert!(results.lock().unwrap().values().all(Result::is_ok));
    let ids: Vec<_> = second.fake.seen().iter().map(|request| request.id).collect();
    let first_ids: Vec<_> = first.fake.seen().iter().skip(1).map(|request| request.id).collect();
    assert_eq!(ids.len(), 10);
    assert!(ids.iter().all(|id| first_ids.contains(id)), "each under the id that it had");
}

#[tokio::test]
async fn range_goes_on_behind_its_page_when_its_shard_has_moved() {
    let [first, second] = nodes().await;
    let client = client(&[&first]);
    let range = |page| Request::new(Op::Range(Range { from: "a".into(), page, ..Range::default() }));
    let next = |reply: Reply| match reply.answer {
        Answer::Page(page) => page.next,
        other => panic!("a page was asked for: {other:?}"),
    };
    let token = next(client.call(range(None)).await.unwrap());
    assert!(token.is_some());
    tell(&[&second], 2, 5);
    first.stop();
    client.call(range(token.clone())).await.unwrap();
    let asked = second.fake.seen().pop().unwrap();
    assert!(matches!(asked.op, Op::Range(range) if range.page == token));
}
