//! What is decided is on all copies: an entry of a two-phase shard that any replica applies is synced in the log of each member
//! (Gray and Lamport, "Consensus on Transaction Commit" (2006), §2: a transaction commits only when all are prepared).

use std::collections::{BTreeMap, BTreeSet};

use kv::{NodeId, Protocol, ShardId};
use placement::map::Map;

use super::Seen;
use super::logs::Logs;

/// The shards that are kept by two-phase, and where.
#[derive(Default)]
pub(super) struct Decided {
    /// Of those that there are: once a keyspace is dropped, or a shard is cut, nobody needs its copies, and a replica that has not heard
    /// may apply what another one has let go.
    members: BTreeMap<ShardId, Vec<NodeId>>,
    /// Nodes that are reading their logs: what they hold is not known yet.
    recovering: BTreeSet<NodeId>,
    /// Nodes that run with another folder than their own, which has what it had.
    astray: BTreeSet<NodeId>,
    /// Replicas that were dropped: the keyspace was, or the shard was cut.
    gone: BTreeSet<(NodeId, ShardId)>,
}

impl Decided {
    /// A map says which shards there are.
    pub fn know(&mut self, map: &Map) {
        let parts = map.splits.values().flat_map(|split| &split.parts);
        let parts = parts.filter_map(|part| Some((part.shard, map.row_of_part(part.shard)?)));
        let rows = map.shards.iter().map(|(id, row)| (*id, row.clone())).chain(parts);
        let rows = rows.filter(|(_, row)| row.protocol == Protocol::TwoPhase);
        self.members =
            rows.map(|(id, row)| (id, row.members.iter().map(|member| member.node).collect())).collect();
    }

    /// What is wrong with what was seen.
    pub fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Option<String> {
        match *seen {
            Seen::Gone { node, shard } => drop(self.gone.insert((node, shard))),
            Seen::Wiped { node } => drop(self.astray.insert(node)),
            Seen::GivenBack { node } => {
                self.astray.remove(&node);
                self.recovering.insert(node);
            }
            Seen::Recovering { node } => drop(self.recovering.insert(node)),
            Seen::Recovered { node, .. } | Seen::Ended { node } => drop(self.recovering.remove(&node)),
            Seen::Apply { node, shard, at, .. } => {
                let lacks = |other: &&NodeId| {
                    let (log, durable) = (logs.log(**other, shard), logs.durable(**other, shard));
                    let is_known =
                        ![&self.recovering, &self.astray].iter().any(|nodes| nodes.contains(other))
                            && !self.gone.contains(&(**other, shard));
                    let has = log.is_some_and(|log| log.term(at.index).is_none_or(|term| term == at.term));
                    let is_synced = durable.is_some_and(|durable| durable.last >= at.index);
                    is_known && !(has && is_synced)
                };
                let other = self.members.get(&shard)?.iter().find(lacks)?;
                return Some(format!(
                    "what is decided is on all copies: {node} applies entry {at} of shard {shard}, and {other} has not synced it"
                ));
            }
            _ => {}
        }
        None
    }
}
