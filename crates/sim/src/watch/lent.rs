//! A linearizable read in a primary's shard is served under a lease that is held: counted from when it was asked for, by the clock of who
//! holds it, less what clocks may differ (Gray and Cheriton, "Leases" (1989), §2). The primary holds one of each other member in
//! sync, a secondary one of the primary.

use std::collections::BTreeMap;
use std::mem;

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
    /// By who orders and who promised it not to take over.
    promised: BTreeMap<(ShardId, NodeId, NodeId), u64>,
    /// By who is lent one, whoever orders: who does so since takes nobody out for as long as that may hold.
    lent: BTreeMap<(ShardId, NodeId), u64>,
    /// What replicas were before their core's last turn, and are since.
    turned: BTreeMap<(ShardId, NodeId), (Option<Status>, Status)>,
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
            let held = match message.kind {
                Kind::Append => self.lent.entry((shard, node)).or_default(),
                _ => self.promised.entry((shard, node, from)).or_default(),
            };
            *held = asked.max(*held);
        }
    }

    /// The process of a node ended: it holds nothing.
    pub fn ended(&mut self, node: NodeId) {
        self.promised.retain(|(_, holder, _), _| *holder != node);
        self.lent.retain(|(_, holder), _| *holder != node);
        self.turned.retain(|(_, of), _| *of != node);
    }

    /// What a replica is when a turn of its core is over.
    pub fn turned(&mut self, node: NodeId, shard: ShardId, status: Status) {
        match self.turned.get_mut(&(shard, node)) {
            Some((before, now)) => *before = Some(mem::replace(now, status)),
            None => drop(self.turned.insert((shard, node), (None, status))),
        }
    }

    /// Whether a node may have answered a linearizable read in its last turn, when its clock showed `clock`: as its replica was when the
    /// turn began, or is since.
    pub fn may_read(&self, node: NodeId, shard: ShardId, clock: u64) -> bool {
        let Some((before, now)) = self.turned.get(&(shard, node)) else { return true };
        before.iter().chain([now]).any(|status| self.may_read_as(node, shard, status, clock))
    }

    fn may_read_as(&self, node: NodeId, shard: ShardId, status: &Status, clock: u64) -> bool {
        let holds = |asked: Option<&u64>| asked.is_some_and(|asked| clock < asked + LEASE_MICROS);
        match status.role {
            Role::Leader => {
                let counts = |duty: Duty| duty != Duty::Learner;
                let mut others =
                    status.members.iter().filter(|member| member.node != node && counts(member.duty));
                others.all(|member| holds(self.promised.get(&(shard, node, member.node))))
            }
            _ => holds(self.lent.get(&(shard, node))),
        }
    }
}
