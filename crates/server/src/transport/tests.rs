//! Transports of several nodes on loopback: who is called, where, and until when.

use std::collections::BTreeSet;
use std::time::Duration;

use kv::cluster::{Liveness, Terms};
use kv::fault::Fault;
use kv::{ClusterId, NodeId};
use node::Input;
use node::cores::Deal;
use node::identity::{Identity, Life, Lineage, Purpose, Start};
use placement::map::{Map, Node as MapNode, NodeDuty};
use storage::{History, Options, Table};
use tokio::time::timeout;

use super::*;
use crate::folder::Folder;
use crate::inbox::Message;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that keeps nothing, with the inputs that its transport made.
struct Node {
    transport: Transport,
    inboxes: Inboxes,
    address: String,
    /// Whom it is connected to, as it was said.
    connected: BTreeSet<NodeId>,
    /// Frames that came: from whom, and what they hold.
    frames: Vec<(NodeId, Bytes)>,
    /// Why it has to end.
    fatal: Option<String>,
}

const TERMS: Terms = Terms { shards: 1, replicas: 1, history: None, deleted_micros: u64::MAX };

fn identity(me: u64, starts: u64, process: u64) -> Identity {
    let start =
        Start { name: "n1".into(), names: vec!["n1".into()], terms: String::new(), zone: String::new() };
    let (name, life) = (format!("n{me}"), Life { incarnation: me, starts, process });
    let lineage = Lineage { life, earlier: vec![1; starts as usize - 1] };
    let new = Identity::new(&start, &mut || 1);
    Identity { me: NodeId(me), name, lineage, cluster: ClusterId::new(7), founders: Vec::new(), ..new }
}

/// A map of this revision, with nodes at these addresses.
fn map(revision: u64, at: &[(u64, &str)]) -> Map {
    let node = |&(id, address): &(u64, &str)| {
        let new = MapNode {
            name: format!("n{id}"),
            incarnation: 0,
            peer: address.into(),
            address: String::new(),
            zone: String::new(),
            duty: NodeDuty::Serve,
            state: Liveness::Alive,
        };
        (NodeId(id), new)
    };
    Map { revision, nodes: at.iter().map(node).collect(), next_node: NodeId(10), ..Map::default() }
}

fn listener() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

impl Node {
    fn start(me: u64, at: &[(u64, &str)]) -> Node {
        Node::of(identity(me, 1, 1), at)
    }

    fn of(identity: Identity, at: &[(u64, &str)]) -> Node {
        let (listener, address) = listener();
        // The others come with later maps.
        let map = Map { next_node: NodeId(3), ..map(2, at) };
        let places = Places::new(&[], &map);
        let folder = Folder::Nowhere(Box::new(identity), TERMS);
        let identities = Arc::new(Identities::new(folder, &map, places).unwrap());
        let inboxes = Inboxes::new(Deal::new(1, 1));
        let faults = Faults::new(true, identities.me(), identities.nodes());
        let started = Transport::start(vec![listener], 16, (identities, faults), inboxes.clone(), 0);
        let transport = started.unwrap();
        let (connected, frames, fatal) = (BTreeSet::new(), Vec::new(), None);
        Node { transport, inboxes, address, connected, frames, fatal }
    }

    /// Takes what happens until this holds.
    async fn until(&mut self, holds: impl Fn(&Node) -> bool) {
        let all = async {
            while !holds(self) {
                self.inboxes.first().wait().await;
                let mut messages = Vec::new();
                self.inboxes.first().take(&mut messages, 0);
                messages.into_iter().for_each(|message| self.take(message));
            }
        };
        timeout(PATIENCE, all).await.expect("it holds within its time");
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(Input::PeerUp { node }) => {
                assert!(self.connected.insert(node), "{node} is up twice")
            }
            Message::Input(Input::PeerDown { node }) => {
                assert!(self.connected.remove(&node), "{node} was not up")
            }
            Message::Input(Input::Frame { from, bytes }) => self.frames.push((from, bytes)),
            Message::Fatal(failure) => self.fatal = Some(failure.to_string()),
            _ => {}
        }
    }

    /// How a node refuses to be called.
    async fn refused(&mut self, by: NodeId) -> std::io::ErrorKind {
        let shared = self.transport.shared.clone();
        let address = shared.identities.address(by).unwrap();
        let called = outgoing::connect(&shared, by, &address, Purpose::Ordered).await;
        called.expect_err("it is not let in").kind()
    }

    async fn is_connected(&mut self, to: &[u64]) {
        let to: BTreeSet<NodeId> = to.iter().map(|id| NodeId(*id)).collect();
        self.until(|node| node.connected == to).await;
    }
}

#[tokio::test]
async fn node_that_comes_is_called_and_one_that_goes_is_let_go() {
    let (mut two, mut three) = (Node::start(2, &[]), Node::start(3, &[]));
    let mut one = Node::start(1, &[(2, &two.address)]);
    let all = map(3, &[(1, &one.address), (2, &two.address), (3, &three.address)]);
    [&two, &three].iter().for_each(|node| node.transport.follow(&all));
    one.is_connected(&[2]).await;
    one.transport.follow(&all);
    one.is_connected(&[2, 3]).await;
    for to in [2, 3] {
        one.transport.send(NodeId(to), Bytes::from_static(b"one"), false);
    }
    two.until(|node| node.frames == [(NodeId(1), Bytes::from_static(b"one"))]).await;
    three.until(|node| node.frames.len() == 1).await;
    three.is_connected(&[1, 2]).await;

    one.transport.follow(&map(4, &[(1, &one.address), (2, &two.address)]));
    one.is_connected(&[2]).await;
    // What it says is not heard any more, on the connection that stood either.
    let identities = three.transport.shared.identities.clone();
    timeout(PATIENCE, identities.left().wait_for(|left| *left)).await.unwrap().unwrap();
    // It has left, and calls nobody any more; that it did is no failure.
    three.is_connected(&[]).await;
    assert_eq!(three.fatal, None);
    one.transport.send(NodeId(3), Bytes::from_static(b"two"), false);
    assert_eq!(one.transport.outgoing.read().unwrap().keys().copied().collect::<Vec<_>>(), [NodeId(2)]);
    assert_eq!(three.frames.len(), 1);
}

#[tokio::test]
async fn node_that_is_cut_off_neither_sends_nor_hears_until_it_is_healed() {
    let mut two = Node::start(2, &[(1, "")]);
    let mut one = Node::start(1, &[(2, &two.address)]);
    let both = map(3, &[(1, &one.address), (2, &two.address)]);
    [&one, &two].iter().for_each(|node| node.transport.follow(&both));
    one.is_connected(&[2]).await;
    two.is_connected(&[1]).await;
    let faults = |node: &Node| node.transport.shared.faults.clone();
    let cut = faults(&one).put(Some(Fault::Cut { from: vec!["n2".into()] })).unwrap();
    assert_eq!((cut.node.as_str(), cut.cut), ("n1", vec!["n2".to_owned()]));
    one.transport.send(NodeId(2), Bytes::from_static(b"lost"), false);
    two.transport.send(NodeId(1), Bytes::from_static(b"unheard"), true);
    faults(&one).put(Some(Fault::Heal)).unwrap();
    one.transport.send(NodeId(2), Bytes::from_static(b"heard"), false);
    two.until(|node| !node.frames.is_empty()).await;
    assert_eq!(two.frames, [(NodeId(1), Bytes::from_static(b"heard"))]);

    // A new life of the other one is let in when the cut is healed, and not before.
    faults(&one).put(Some(Fault::Cut { from: vec!["n2".into()] })).unwrap();
    let mut again = Node::of(identity(2, 2, 5), &[(1, &one.address)]);
    let why = timeout(PATIENCE, again.refused(NodeId(1))).await.expect("it is refused in time");
    assert_eq!(why, std::io::ErrorKind::UnexpectedEof);
    faults(&one).put(Some(Fault::Heal)).unwrap();
    again.is_connected(&[1]).await;
}

#[tokio::test]
async fn responses_of_a_slow_node_are_held_back_until_it_is_restored() {
    let mut two = Node::start(2, &[(1, "")]);
    let mut one = Node::start(1, &[(2, &two.address)]);
    one.is_connected(&[2]).await;
    let faults = one.transport.shared.faults.clone();
    faults.put(Some(Fault::Slow { micros: 3600 * 1_000_000 })).unwrap();
    one.transport.send(NodeId(2), Bytes::from_static(b"response"), true);
    one.transport.send(NodeId(2), Bytes::from_static(b"request"), false);
    two.until(|node| !node.frames.is_empty()).await;
    assert_eq!(two.frames[0].1, "request");
    let (send, mut answered) = mpsc::unbounded_channel();
    faults.respond(move || send.send(()).unwrap());
    assert!(answered.try_recv().is_err());
    faults.put(Some(Fault::Restore)).unwrap();
    two.until(|node| node.frames.len() == 2).await;
    assert_eq!(two.frames[1].1, "response");
    timeout(PATIENCE, answered.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn node_that_is_no_lab_takes_no_faults_and_shows_none() {
    let one = Node::start(1, &[]);
    let identities = &one.transport.shared.identities;
    let faults = Faults::new(false, identities.me(), identities.nodes());
    let refused = faults.put(Some(Fault::Kill)).unwrap_err().to_string();
    assert!(refused.contains("'capstan up --lab'"), "{refused}");
    assert!(!faults.put(None).unwrap().lab);
}

#[tokio::test]
async fn queue_of_a_node_that_goes_is_let_go() {
    // It takes connections and says nothing.
    let (_silent, address) = listener();
    let one = Node::start(1, &[(2, &address)]);
    let queued = {
        tokio::task::yield_now().await;
        let outgoing = one.transport.outgoing.read().unwrap();
        let queue = outgoing[&NodeId(2)].queued();
        one.transport.send(NodeId(2), Bytes::from(vec![0; 1000]), false);
        assert_eq!(queue.load(std::sync::atomic::Ordering::Relaxed), 1000);
        queue
    };
    one.transport.follow(&map(3, &[(1, &one.address)]));
    timeout(PATIENCE, async {
        // The queue is the link's and this test's.
        while Arc::strong_count(&queued) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nobody holds what was queued");
    assert_eq!(queued.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn node_that_moves_is_called_at_its_new_address_in_order() {
    let before = Node::start(2, &[(1, "")]);
    let mut one = Node::start(1, &[(2, &before.address)]);
    one.is_connected(&[2]).await;
    // The same process of the same folder, at another address.
    let mut after = Node::start(2, &[(1, "")]);
    one.transport.follow(&map(3, &[(1, &one.address), (2, &after.address)]));
    one.until(|node| node.connected.is_empty()).await;
    one.is_connected(&[2]).await;
    one.transport.send(NodeId(2), Bytes::from_static(b"there"), false);
    after.until(|node| node.frames.len() == 1).await;
}

#[tokio::test]
async fn connections_of_a_life_end_when_the_node_is_met_in_a_later_one() {
    let mut one = Node::start(1, &[(2, "")]);
    let mut two = Node::start(2, &[(1, &one.address)]);
    two.is_connected(&[1]).await;
    let mut again = Node::of(identity(2, 2, 5), &[(1, &one.address)]);
    again.is_connected(&[1]).await;
    two.until(|node| node.connected.is_empty() && node.fatal.is_some()).await;
    assert!(
        two.fatal.as_ref().unwrap().contains("a copy of it was started elsewhere later"),
        "{:?}",
        two.fatal
    );
    again.transport.send(NodeId(1), Bytes::from_static(b"later"), false);
    one.until(|node| node.frames.len() == 1).await;
    assert_eq!(one.frames[0].1, "later");
}

#[tokio::test]
async fn snapshot_that_is_sent_anew_takes_the_place_of_the_one_on_its_way() {
    // It takes connections and says nothing.
    let (_silent, address) = listener();
    let one = Node::start(1, &[(2, &address)]);
    let (shard, to) = (ShardId(1), NodeId(2));
    let mut table = Table::open(storage::open_volatile(), Options::of(History::Count(1)));
    table.load(shard, 0).unwrap();
    let mut send = || {
        one.transport.send_snapshot(shard, to, Bytes::new(), Box::new(table.snapshot(shard)));
        one.transport.shared.sending.lock().unwrap()[&(shard, to)].clone()
    };
    let (first, second) = (send(), send());
    timeout(PATIENCE, async {
        while !first.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the first is given up");
    assert!(!second.is_finished());
    let mut messages = Vec::new();
    one.inboxes.first().take(&mut messages, 0);
    let ends = |message: &Message| matches!(message, Message::Input(Input::SnapshotSent { .. }));
    assert!(!messages.iter().any(ends), "who waits for the second hears nothing of the first");
}
