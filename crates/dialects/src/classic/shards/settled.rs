//! What who changes the servers waits for: that the cluster is as it is to be, and that the servers know it.

use std::time::Duration;

use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, NodeDuty, NodeStatus, Role, ShardStatus, Status};
use kv::view::Duty;
use kv::{Error, NodeId, Slot};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::between::KnowsRequest;
use super::client::ServerClient;
use super::{SHARDS, name, row};
use crate::Store;

/// How long a server may take to come or go with all that moves: many times what it takes, for a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);
/// How long the directory has for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long servers may take to hear what they have, once it is so.
const KNOWN: Duration = Duration::from_secs(10);

/// Asks the directory one thing; again while nobody decides.
pub(super) async fn administer(store: &Store, ask: Ask) -> Result<Answer, Error> {
    let until = Instant::now() + LIMIT;
    loop {
        let (send, receive) = oneshot::channel();
        // Who asks may have gone away.
        store.admin.administer(ask.clone(), TIMEOUT, Box::new(|answer| drop(send.send(answer))));
        let stopping = || Err(Error::Unavailable("the node is stopping".into()));
        let answer = receive.await.unwrap_or_else(|_| stopping());
        match answer {
            Err(Error::Unavailable(_) | Error::InDoubt(_)) if Instant::now() < until => sleep(LOOK).await,
            answer => return answer,
        }
    }
}

/// The node of a name.
pub(super) fn node<'a>(status: &'a Status, name: &str) -> Option<&'a NodeStatus> {
    status.nodes.iter().find(|node| node.name == name)
}

/// The shard of a key.
pub(super) fn shard_of(status: &Status, key: u32) -> Option<&ShardStatus> {
    let slot = Slot::of(&row::key(key));
    let is_it = |shard: &&ShardStatus| shard.keyspace == kv::Request::KEYSPACE && shard.slots.contains(slot);
    status.shards.iter().find(is_it)
}

/// Who takes the writes of a shard.
pub(super) fn leader(shard: &ShardStatus) -> Option<NodeId> {
    let orders = shard.members.iter().find(|member| member.duty == Duty::Primary);
    orders.or(shard.members.first()).map(|member| member.node).or(shard.leader)
}

/// Whether a node takes the writes of the shards of some keys, as it sees itself, and has a replica of those of others.
pub(super) fn knows(status: &Status, own: &str, keys: &KnowsRequest) -> bool {
    let Some(own) = node(status, own) else { return false };
    let role = |key: &u32| {
        let replicas = shard_of(status, *key).map(|shard| &shard.replicas);
        replicas
            .and_then(|replicas| replicas.iter().find(|replica| replica.node == own.id))
            .map(|own| own.role)
    };
    keys.leads.iter().all(|key| role(key) == Some(Role::Leader))
        && keys.has.iter().all(|key| role(key).is_some_and(|role| role != Role::Unknown))
}

/// Until a node serves, and nothing moves any more.
pub(super) async fn has_come(store: &Store, name: &str) -> Result<(), Error> {
    let is_there = |status: &Status| {
        node(status, name).is_some_and(|node| node.state == Liveness::Alive && node.duty == NodeDuty::Serve)
    };
    wait(store, &is_there, "has not come yet: see that its process runs, and join it again").await?;
    all_know(store, Some(name)).await;
    Ok(())
}

/// Until a node is gone, and nothing moves any more.
pub(super) async fn has_gone(store: &Store, name: &str) -> Result<(), Error> {
    let is_gone = |status: &Status| node(status, name).is_none();
    wait(store, &is_gone, "still has data: see that all servers run, and let it leave again").await?;
    all_know(store, None).await;
    Ok(())
}

async fn wait(store: &Store, is_so: &(dyn Fn(&Status) -> bool + Sync), why: &str) -> Result<(), Error> {
    let until = Instant::now() + LIMIT;
    loop {
        if is_so(&store.cluster.status())
            && let Answer::Moves(moves) = administer(store, Ask::Moves).await?
            && moves.is_empty()
        {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::InDoubt(format!("the server {why}; what moves, goes on")));
        }
        sleep(LOOK).await;
    }
}

/// Until each server that can be reached knows what it has, `comes` in any case: a call of a client that is asked next is not refused.
async fn all_know(store: &Store, comes: Option<&str>) {
    let until = Instant::now() + KNOWN;
    let serves = |node: &&NodeStatus| {
        !node.zone.is_empty() && node.state == Liveness::Alive && node.duty == NodeDuty::Serve
    };
    let mut know: Vec<NodeId> = Vec::new();
    while Instant::now() < until {
        let status = store.cluster.status();
        let asked = |node: &&NodeStatus| serves(node) && !know.contains(&node.id);
        let Some(server) = status.nodes.iter().find(asked) else { return };
        match asks(&status, server).await {
            Ok(true) => know.push(server.id),
            // Nobody reaches it, so nobody is refused there.
            Err(_) if comes != Some(&server.name) => know.push(server.id),
            _ => sleep(LOOK).await,
        }
    }
}

/// Whether a server knows what it has.
async fn asks(status: &Status, server: &NodeStatus) -> Result<bool, Error> {
    let mut keys = KnowsRequest::default();
    for key in 0..SHARDS {
        let Some(shard) = shard_of(status, key) else { continue };
        if leader(shard) == Some(server.id) {
            keys.leads.push(key);
        } else if shard.members.iter().any(|member| member.node == server.id) {
            keys.has.push(key);
        }
    }
    ServerClient::new(&name::text(&server.name))?.knows(&keys).await
}
