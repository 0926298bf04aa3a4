//! Clients of a cluster: the one that knows where keys are led, and one that stays with its node.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dialects::native::proto::key_value_client::KeyValueClient;
use dialects::native::{Client, Options, proto};
use kv::cluster::{Liveness, ReplicaStatus, ShardStatus, Status};
use kv::{Answer, Error, Function, Key, NodeId, Op, Reply, Request, ShardId, Side};
use tonic::transport::Channel;

use crate::nodes::{Lab, PATIENCE, until};

impl Lab {
    /// A client that knows all nodes.
    pub fn client(&self) -> Client {
        Client::connect(self.addresses(), Options::default()).unwrap()
    }

    /// A client that asks this node only, whoever leads.
    pub fn pinned(&self, node: u16) -> Pinned {
        let channel = lab::channel(&self.address(node)).unwrap();
        Pinned {
            node: NodeId(node.into()),
            client: KeyValueClient::new(channel.clone()).max_decoding_message_size(16 << 20),
            any: lab::Pinned::over(channel),
        }
    }

    /// The cluster as a node sees it.
    pub async fn status(&self, node: u16) -> Result<Status, Error> {
        let client = Client::connect(vec![self.address(node)], Options::default())?;
        client.status().await
    }

    /// Waits until the nodes tell that all replicas have applied the same, which needs that nobody writes.
    pub async fn level(&self) {
        for node in self.all() {
            until(&format!("n{node} sees all replicas level"), PATIENCE, || async {
                self.status(node)
                    .await
                    .is_ok_and(|status| lag(&status, &self.all().collect::<Vec<u16>>()) == 0)
            })
            .await;
        }
    }

    /// Waits until every node sees all others alive, a leader of every shard, and no replica far behind.
    pub async fn ready(&self) {
        self.ready_nodes(&self.all().collect::<Vec<u16>>()).await;
    }

    /// Waits until these nodes see each other alive, and among them a leader of every shard and no replica far behind.
    pub async fn ready_nodes(&self, nodes: &[u16]) {
        for &node in nodes {
            let what = format!("n{node} sees {nodes:?} ready");
            until(&what, PATIENCE, || self.sees_ready(node, nodes)).await;
        }
    }

    /// Whether a node sees these alive, and among them a leader of every shard and no replica far behind.
    pub async fn sees_ready(&self, node: u16, nodes: &[u16]) -> bool {
        self.status(node).await.is_ok_and(|status| is_ready(&status, nodes))
    }

    /// Waits until a node has applied what any of them has by now.
    pub async fn caught_up(&self, node: u16) {
        let mut goal: BTreeMap<ShardId, u64> = BTreeMap::new();
        for other in self.all() {
            for shard in self.status(other).await.into_iter().flat_map(|status| status.shards) {
                let newest = shard.replicas.iter().map(|replica| replica.applied).max().unwrap_or(0);
                goal.entry(shard.id).and_modify(|goal| *goal = newest.max(*goal)).or_insert(newest);
            }
        }
        let has_it = |shard: &ShardStatus| {
            let own = shard.replicas.iter().find(|replica| replica.node == NodeId(node.into()));
            own.is_some_and(|own| own.applied >= goal.get(&shard.id).copied().unwrap_or(0))
        };
        until(&format!("n{node} catches up with {goal:?}"), PATIENCE, || async {
            self.status(node).await.is_ok_and(|status| status.shards.iter().all(has_it))
        })
        .await;
    }

    /// The node that leads the shard of a key.
    pub async fn leader(&self, key: &str) -> u16 {
        let (client, leader) = (self.client(), Cell::new(None));
        until(&format!("the shard of '{key}' has a leader"), PATIENCE, || async {
            let location = client.locate(kv::Request::KEYSPACE, Key::copy_from_slice(key.as_bytes())).await;
            leader.set(location.ok().and_then(|location| location.leader));
            leader.get().is_some()
        })
        .await;
        leader.get().expect("it was waited for").0 as u16
    }
}

fn is_ready(status: &Status, nodes: &[u16]) -> bool {
    let is_one = |node: &NodeId| nodes.iter().any(|id| NodeId((*id).into()) == *node);
    let living = status.nodes.iter().filter(|node| node.state == Liveness::Alive && is_one(&node.id));
    let are_led = status.shards.iter().all(|shard| shard.leader.as_ref().is_some_and(is_one));
    living.count() == nodes.len() && !status.shards.is_empty() && are_led && lag(status, nodes) <= LAG_MAX
}

/// How many entries the replicas on these nodes are apart, at most.
fn lag(status: &Status, nodes: &[u16]) -> u64 {
    let lag = |shard: &ShardStatus| {
        let applied = |replica: &ReplicaStatus| {
            nodes.iter().any(|id| NodeId((*id).into()) == replica.node).then_some(replica.applied)
        };
        let applied = shard.replicas.iter().filter_map(applied);
        applied.clone().max().unwrap_or(0) - applied.min().unwrap_or(0)
    };
    status.shards.iter().map(lag).max().unwrap_or(0)
}

/// A replica this far behind (in entries) keeps up: what it announces is up to a second old.
const LAG_MAX: u64 = 5_000;

/// A client that asks one node. It neither retries nor gives its requests an id.
#[derive(Clone)]
pub struct Pinned {
    /// The node.
    pub node: NodeId,
    client: KeyValueClient<Channel>,
    any: lab::Pinned,
}

impl Pinned {
    /// Asks anything, once.
    pub async fn call(&mut self, request: Request) -> Result<Reply, Error> {
        self.any.call(request).await
    }

    /// Adds text at the end of a value.
    pub async fn append(&mut self, key: &str, text: String, timeout: Duration) -> Result<u64, Error> {
        let header = header(timeout);
        self.append_as(key, text, header).await
    }

    /// The same with this header.
    pub async fn append_as(
        &mut self,
        key: &str,
        text: String,
        header: proto::RequestHeader,
    ) -> Result<u64, Error> {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), text.into());
        let side = proto::Side::Right.into();
        let request = proto::AppendRequest { header: Some(header), key, value, side };
        let answer = self.client.append(request).await;
        Ok(answer.map_err(|status| lab::said(&status))?.into_inner().length)
    }

    /// The value of a key, and which node served it.
    pub async fn get(
        &mut self,
        key: &str,
        timeout: Duration,
    ) -> Result<(Option<Bytes>, proto::Receipt), Error> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let request = proto::GetRequest { header: Some(header(timeout)), key, at: None };
        let answer = self.client.get(request).await.map_err(|status| lab::said(&status))?.into_inner();
        Ok((answer.row.map(|row| row.value), answer.receipt.unwrap_or_default()))
    }

    /// Stores a value, to expire after so long.
    pub async fn put_with_ttl(&mut self, key: &str, value: &str, ttl: Duration) -> Result<i64, Error> {
        let when = proto::expiry::When::TtlMs(ttl.as_millis() as u64);
        let request = proto::PutRequest {
            header: Some(header(Request::TIMEOUT)),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            expiry: Some(proto::Expiry { when: Some(when) }),
            previous: false,
        };
        let answer = self.client.put(request).await.map_err(|status| lab::said(&status))?.into_inner();
        Ok(answer.receipt.unwrap_or_default().version)
    }
}

/// The header of a request that waits so long.
pub fn header(timeout: Duration) -> proto::RequestHeader {
    proto::RequestHeader { timeout_ms: timeout.as_millis() as u64, ..proto::RequestHeader::default() }
}

/// A put.
pub fn put(key: &str, value: impl Into<Bytes>) -> Request {
    let key = Key::copy_from_slice(key.as_bytes());
    Request::new(Op::Put { key, value: value.into(), deadline: None, previous: false })
}

/// An append.
pub fn append(key: &str, text: String) -> Request {
    let function = Function::Append { side: Side::Right, value: text.into() };
    Request::new(Op::Update { key: Key::copy_from_slice(key.as_bytes()), function })
}

/// A get.
pub fn get(key: &str) -> Request {
    Request::new(Op::Get { key: Key::copy_from_slice(key.as_bytes()), at: None })
}

/// The value in an answer to a get.
pub fn value(reply: Reply) -> Option<Bytes> {
    match reply.answer {
        Answer::Row(row) => row.map(|row| row.value),
        other => panic!("a get was answered with {other:?}"),
    }
}
