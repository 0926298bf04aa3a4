//! Faults of one node, there and back.

use std::time::Duration;

use kv::Error;
use kv::fault::{Fault, Faults};

use crate::fake::{Node, client, nodes};

const TIMEOUT: Duration = Duration::from_secs(5);

fn each() -> Vec<Option<Fault>> {
    let cut = Fault::Cut { from: vec!["n2".into(), "n3".into()] };
    let faults = [Fault::Slow { micros: 1_500_000 }, Fault::Restore, cut, Fault::Heal, Fault::Kill];
    [None].into_iter().chain(faults.map(Some)).collect()
}

#[tokio::test]
async fn every_fault_arrives_at_the_node_that_is_named_and_at_no_other() {
    let [first, second] = nodes().await;
    let client = client(&[&first]);
    let shown = Faults { node: "n2".into(), lab: true, slow_micros: 7, cut: vec!["n1".into()] };
    second.fake.set_faults(Ok(shown.clone()));
    for fault in each() {
        assert_eq!(client.fault(&second.address, fault, TIMEOUT).await, Ok(shown.clone()));
    }
    assert_eq!(second.fake.faulted(), each());
    assert_eq!(first.fake.faulted(), []);
}

#[tokio::test]
async fn fault_that_is_refused_says_why_and_is_asked_once() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let why = Error::Invalid("this node takes no faults".into());
    node.fake.set_faults(Err(why.clone()));
    assert_eq!(client.fault(&node.address, Some(Fault::Heal), TIMEOUT).await, Err(why));
    assert_eq!(node.fake.faulted().len(), 1);
    let unsound = client.fault(&node.address, Some(Fault::Slow { micros: 0 }), TIMEOUT).await;
    assert!(matches!(unsound, Err(Error::Invalid(_))), "{unsound:?}");
    assert!(matches!(client.fault("nowhere", None, TIMEOUT).await, Err(Error::Invalid(_))));
    assert_eq!(node.fake.faulted().len(), 1);
}

#[tokio::test]
async fn fault_of_a_node_that_is_away_is_unavailable() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let away = client.fault("127.0.0.1:1", Some(Fault::Heal), TIMEOUT).await;
    assert!(matches!(away, Err(Error::Unavailable(_))), "{away:?}");
    assert_eq!(node.fake.faulted(), []);
}
