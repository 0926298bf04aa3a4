//! A linearizable read in a primary's shard is served under a lease that is held: counted from when it was asked for, by the clock of who
//! holds it, less what clocks may differ (Gray and Cheriton, "Leases" (1989), §2). The primary holds one of each other member in
//! sync, a secondary one of the primary.

use std::collections::BTreeMap;

use kv::cluster::Role;
use kv::view::Duty;
use kv::{NodeId, ShardId};
use replication::Status;
use replication::primary::observe::{Kind, Message};

/// A lease is held so long: 600 ms less 10 percent for the drift (`replication`'s primary).
const LEASE_MICROS: u64 = 540_000;

/// When the questions were asked that were answered last, by the clocks of who asked.
#[derive(Default)]
pub(crate) struct Lent {
    held: BTreeMap<(ShardId, NodeId, NodeId), u64>,
}

impl Lent {
    /// A node takes in what another one says, when its clock shows `clock`: what answers its questions is a lease.
    pub fn heard(&mut self, node: NodeId, from: NodeId, shard: ShardId, message: &Message, clock: u64) {
        let asked = match message.kind {
            Kind::Append => message.lends,
            Kind::Ack | Kind::Reject => message.promises,
            _ => None,
        };
        // Of an earlier start of the machine it may be from the future.
        if let Some(asked) = asked.map(|asked| asked.0).filter(|asked| *asked <= clock) {
            let held = self.held.entry((shard, node, from)).or_default();
            *held = asked.max(*held);
        }
    }

    /// The process of a node ended: it holds nothing.
    pub fn ended(&mut self, node: NodeId) {
        self.held.retain(|(_, holder, _), _| *holder != node);
    }

    /// Whether a node may answer a linearizable read now, as its replica is, when its clock shows `clock`.
    pub fn may_read(&self, node: NodeId, shard: ShardId, status: &Status, clock: u64) -> bool {
        let holds =
            |of: NodeId| self.held.get(&(shard, node, of)).is_some_and(|asked| clock < asked + LEASE_MICROS);
        match status.role {
            Role::Leader => {
                let others = status.members.iter().filter(|member| member.node != node);
                others.filter(|member| member.duty != Duty::Learner).all(|member| holds(member.node))
            }
            _ => status.leader.is_some_and(holds),
        }
    }
}
