//! What is agreed on in a primary's shard is synced by each member that is in sync, and one member orders in a revision: the one that
//! the directory has named (Lin et al., "PacificA" (2008), §2.2 and §2.4: Commit Invariant, Primary Invariant).
//!
//! The directory's newest map is compared with: whoever came in sync has all that was agreed on before the map said so, and nothing is
//! agreed on without it afterwards.

use std::collections::{BTreeMap, BTreeSet};

use kv::cluster::Role;
use kv::view::Duty;
use kv::{NodeId, Protocol, ShardId, Term};
use placement::map::Map;

use super::logs::Logs;
use super::{Record, Seen};

/// So many bits of a term are the revision's (`replication`'s primary).
const TERM_BITS: u32 = 32;

/// The shards that a primary orders, and who is in sync in them.
#[derive(Default)]
pub(super) struct InSync {
    members: BTreeMap<ShardId, Vec<NodeId>>,
    /// Who orders in a term, as the map of that revision says.
    orders: BTreeMap<(ShardId, Term), NodeId>,
    /// Nodes that are reading their logs: what they hold is not known yet.
    recovering: BTreeSet<NodeId>,
    /// Nodes that run with another folder than their own, which has what it had.
    astray: BTreeSet<NodeId>,
    /// Replicas that were dropped: the keyspace was, or they left.
    gone: BTreeSet<(NodeId, ShardId)>,
}

impl InSync {
    /// A map says which shards there are.
    pub fn know(&mut self, map: &Map) {
        self.members.clear();
        let parts = map.splits.values().flat_map(|split| &split.parts);
        let parts = parts.filter_map(|part| Some((part.shard, map.row_of_part(part.shard)?)));
        let rows = map.shards.iter().map(|(id, row)| (*id, row.clone())).chain(parts);
        for (id, row) in rows.filter(|(_, row)| row.protocol == Protocol::Primary) {
            let in_sync = row.members.iter().filter(|member| member.duty != Duty::Learner);
            self.members.insert(id, in_sync.map(|member| member.node).collect());
            let term = Term((row.epoch.0 - 1) << TERM_BITS | row.revision.0);
            let orders = row.members.iter().find(|member| member.duty == Duty::Primary);
            self.orders.extend(orders.map(|member| ((id, term), member.node)));
        }
    }

    /// What is wrong with what was seen.
    pub fn see(&mut self, seen: &Seen<'_>, logs: &Logs, noted: &mut Vec<&'static str>) -> Option<String> {
        match *seen {
            Seen::Gone { node, shard } => drop(self.gone.insert((node, shard))),
            Seen::Generation { node, shard, .. } => drop(self.gone.remove(&(node, shard))),
            Seen::Wiped { node } => drop(self.astray.insert(node)),
            Seen::GivenBack { node } => {
                self.astray.remove(&node);
                self.recovering.insert(node);
            }
            Seen::Recovering { node } => drop(self.recovering.insert(node)),
            Seen::Recovered { node, .. } | Seen::Ended { node } => drop(self.recovering.remove(&node)),
            Seen::Record { node, shard, record: Record::Entry(at), .. }
                if self.members.contains_key(&shard) =>
            {
                let before = logs.log(node, shard).and_then(|log| log.term(at.index));
                if before.is_some_and(|before| before != at.term) {
                    noted.push("a tail of a primary's shard was cut");
                }
            }
            Seen::Status { node, shard, status } if status.role == Role::Leader => {
                let named = *self.orders.get(&(shard, status.term))?;
                return (named != node).then(|| {
                    format!(
                        "one primary a revision: {node} orders in shard {shard} in term {}, and the directory has named {named}",
                        status.term
                    )
                });
            }
            Seen::Apply { node, shard, at, .. } => {
                let lacks = |other: &&NodeId| {
                    let is_known =
                        ![&self.recovering, &self.astray].iter().any(|nodes| nodes.contains(other))
                            && !self.gone.contains(&(**other, shard));
                    let has = logs
                        .log(**other, shard)
                        .is_some_and(|log| log.term(at.index).is_none_or(|term| term == at.term));
                    let is_synced =
                        logs.durable(**other, shard).is_some_and(|durable| durable.last >= at.index);
                    is_known && !(has && is_synced)
                };
                let other = self.members.get(&shard)?.iter().find(lacks)?;
                return Some(format!(
                    "what is agreed on is in each log in sync: {node} applies entry {at} of shard {shard}, and {other} has not \
                     synced it"
                ));
            }
            _ => {}
        }
        None
    }
}
