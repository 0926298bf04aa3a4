//! What who changes the servers waits for: that the cluster is as it is to be, and that the servers know it.

use std::collections::BTreeMap;
use std::time::Duration;

use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, NodeDuty, NodeStatus, Role, ShardStatus, Status};
use kv::keyspace::REPLICAS_MAX;
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
        // That nothing moves at present says little: what moves next is planned only when it is known who is there.
        let status = store.cluster.status();
        if is_so(&status)
            && is_laid_out(&status)
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

/// Whether the shards are where they are to be: in the zones of the servers, as many in each as in any other but for one, and a
/// replica of a zone's shards on all its servers and nowhere else. While one of these is away, things stay as they are.
fn is_laid_out(status: &Status) -> bool {
    let mut zones: BTreeMap<&str, Vec<&NodeStatus>> = BTreeMap::new();
    for node in status.nodes.iter().filter(|node| !node.zone.is_empty() && node.duty == NodeDuty::Serve) {
        zones.entry(&node.zone).or_default().push(node);
    }
    if zones.is_empty() || zones.values().flatten().any(|node| node.state != Liveness::Alive) {
        return true;
    }
    let mut shards: BTreeMap<&str, usize> = zones.keys().map(|zone| (*zone, 0)).collect();
    for shard in (0..SHARDS).filter_map(|key| shard_of(status, key)) {
        let has = |node: &NodeStatus| shard.members.iter().any(|member| member.node == node.id);
        let zone = zones.iter().find(|(_, servers)| servers.iter().any(|node| has(node)));
        let Some((zone, servers)) = zone else { return false };
        let wanted = servers.len().min(usize::from(REPLICAS_MAX));
        // What is known of a shard may be older than that nothing moves.
        let is_of_zone = |node: NodeId| servers.iter().any(|server| server.id == node);
        if !shard.members.iter().all(|member| is_of_zone(member.node)) {
            return false;
        }
        if servers.iter().filter(|node| has(node)).count() < wanted {
            return false;
        }
        *shards.entry(zone).or_default() += 1;
    }
    let (most, least) = (shards.values().max(), shards.values().min());
    most.is_none_or(|most| least.is_some_and(|least| most - least <= 1))
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

#[cfg(test)]
mod tests {
    use kv::view::View;
    use kv::{Epoch, Protocol, ShardId, SlotRange};

    use super::*;

    fn server(id: u64, zone: &str, state: Liveness) -> NodeStatus {
        NodeStatus {
            id: NodeId(id),
            name: format!("h_{id}"),
            address: String::new(),
            pid: 0,
            state,
            leads: 0,
            replicas: 0,
            peer: String::new(),
            zone: zone.into(),
            duty: NodeDuty::Serve,
        }
    }

    /// A shard for each key, on the nodes that `on` names.
    fn shards(on: impl Fn(u32) -> Vec<u64>) -> Vec<ShardStatus> {
        let shard = |key: u32| {
            let (slot, nodes) = (Slot::of(&row::key(key)), Vec::from_iter(on(key).into_iter().map(NodeId)));
            ShardStatus {
                id: ShardId(key + 1),
                keyspace: kv::Request::KEYSPACE.into(),
                slots: SlotRange { first: slot, last: slot },
                protocol: Protocol::Primary,
                epoch: Epoch(1),
                leader: nodes.first().copied(),
                term: 0,
                replicas: Vec::new(),
                members: View::of(Epoch(1), &nodes).members,
            }
        };
        (0..SHARDS).map(shard).collect()
    }

    #[test]
    fn shards_are_laid_out_when_each_server_has_its_share_and_the_master_nothing() {
        let master = server(1, "", Liveness::Alive);
        let (one, other) = (server(2, "1", Liveness::Alive), server(3, "2", Liveness::Alive));
        let nodes = vec![master.clone(), one.clone(), other];
        let is = |nodes: &[NodeStatus], on: &dyn Fn(u32) -> Vec<u64>| {
            is_laid_out(&Status { nodes: nodes.to_vec(), shards: shards(on), ..Status::default() })
        };
        assert!(is(std::slice::from_ref(&master), &|_| vec![1]), "there are no servers");
        assert!(is(&nodes, &|key| vec![if key < 50 { 2 } else { 3 }]));
        assert!(!is(&nodes, &|key| vec![if key < 99 { 2 } else { 1 }]), "the master has some yet");
        let comes = |key: u32| if key < 99 { vec![2] } else { vec![1, 2] };
        assert!(!is(&nodes[..2], &comes), "the master has one beside a server");
        assert!(!is(&nodes, &|key| vec![if key < 49 { 2 } else { 3 }]), "one has too many");
        let replica = server(4, "1", Liveness::Alive);
        let group = [master.clone(), one.clone(), replica];
        assert!(is(&group, &|_| vec![2, 4]));
        assert!(!is(&group, &|key| if key < 99 { vec![2, 4] } else { vec![2] }), "a replica lacks some");
        assert!(is(&[master, one, server(4, "1", Liveness::Dead)], &|_| vec![2]), "one is away");
    }
}
