//! Which nodes take replicas, and what else all arrangements ask of a map.

use std::collections::BTreeMap;

use kv::NodeId;
use kv::cluster::Liveness;

use crate::map::{Arrangement, Map, Node, NodeDuty};

/// Whether a node takes replicas.
pub(crate) fn takes(map: &Map, node: NodeId) -> bool {
    map.nodes.get(&node).is_some_and(|node| node.duty == NodeDuty::Serve)
}

/// Whether a node takes replicas and can be given one now.
pub(crate) fn takes_now(map: &Map, node: NodeId) -> bool {
    takes(map, node) && is_alive(map, node)
}

/// Whether a node is a member, and was heard of lately.
pub(crate) fn is_alive(map: &Map, node: NodeId) -> bool {
    let is_it = |node: &Node| node.duty != NodeDuty::Gone && node.state == Liveness::Alive;
    map.nodes.get(&node).is_some_and(is_it)
}

/// The number of each zone by node: nodes that name none are each in one of their own.
pub(crate) fn zones(map: &Map) -> BTreeMap<NodeId, usize> {
    let mut numbers: BTreeMap<(&str, NodeId), usize> = BTreeMap::new();
    let mut zones = BTreeMap::new();
    for (id, node) in &map.nodes {
        let name = (node.zone.as_str(), if node.zone.is_empty() { *id } else { NodeId(0) });
        let next = numbers.len();
        zones.insert(*id, *numbers.entry(name).or_insert(next));
    }
    zones
}

/// Keyspaces that are arranged so, by name.
pub(crate) fn keyspaces(map: &Map, arrangement: Arrangement) -> Vec<&str> {
    let of_it = map.keyspaces.iter().filter(|(_, keyspace)| keyspace.arrangement == arrangement);
    of_it.map(|(name, _)| name.as_str()).collect()
}
