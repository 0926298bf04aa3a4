//! An election that is forced, by the operator or where writes wait for nobody: a replica under `primary` orders that is not in sync.
//!
//! # The problem
//!
//! Only who is in sync has all that was acknowledged, so nobody else takes over. When all who were in sync are lost the shard waits for
//! one of them. People may know that none comes back, or not in time, and have a copy left that lacks little.
//!
//! # How it is solved
//!
//! The row of the shard says it: one revision in which the replica orders, alone in sync, and all others are *astray*
//! ([`Duty::Astray`]).
//!
//! ```text
//!   revision 4    n1 orders      n2, n3 learn        n1 is lost
//!   forced        n2             revision 5          n2 orders     n1, n3 are astray
//!   n3 asks       to begin anew  revision 6          n2 orders     n1 is astray      n3 learns, as another replica
//!   n1 is back    and asks       revision 7          n2 orders     n1, n3 learn, each as another replica
//! ```
//!
//! Who is astray may have entries that who orders never had, applied ones too: its log is not continued. It asks to begin anew, gets
//! another number, and with it a copy of what there is. A number is never given again, so no version that it gave is given again either.
//!
//! Where a write waits for nobody beside who orders (`sync: 0`) that was decided beforehand, by whoever said so: such a shard is not to wait
//! for people. So whoever drives the map has another replica follow by itself ([`Map::follow`]), as it sees its nodes.
//!
//! # What holds
//!
//! - A replica is forced only while all who are in sync are on nodes that are dead or gone: where one of them lives none is.
//! - Who is astray stays a member until it has told what only it has and has begun anew, or is gone for good.
//! - Nobody who was there before the revision is in sync after it but who was forced.
//!
//! # Caveats
//!
//! Who is cut off, and not dead, goes on as before until it hears of the revision: what it acknowledges meanwhile is lost like the rest.

use kv::admin::Ruled;
use kv::cluster::Liveness;
use kv::view::{Duty, Member, Revision};
use kv::{NodeId, Protocol, ShardId};

use crate::map::{Map, NodeDuty, Phase, Shard};
use crate::plan::takers;
use crate::refusal::Refusal;
use crate::revise::is_in_sync;

impl Map {
    pub(crate) fn force(&mut self, keyspace: &str, name: &str) -> Result<Vec<Ruled>, Refusal> {
        let shards = self.shards_under(keyspace, Protocol::Primary, |keyspace, protocol| {
            Refusal::ElectsItself { keyspace, protocol }
        })?;
        let (id, node) = self.node_named(name).ok_or_else(|| Refusal::UnknownNode(name.into()))?;
        match (node.duty, node.state) {
            (NodeDuty::Gone, _) => Err(Refusal::Gone(name.into())),
            (_, Liveness::Alive) => Ok(shards.into_iter().map(|shard| self.force_shard(shard, id)).collect()),
            _ => Err(Refusal::NotAlive(name.into())),
        }
    }

    /// The shards under `primary` whose writes wait for nobody, and all of whose replicas in sync are on nodes that are lost.
    pub fn orphaned_shards(&self, is_lost: impl Fn(NodeId) -> bool) -> Vec<ShardId> {
        let are_lost = |shard: &Shard| {
            shard.members.iter().filter(|member| is_in_sync(member)).all(|member| is_lost(member.node))
        };
        let is_one = |(id, shard): &(&ShardId, &Shard)| {
            shard.protocol == Protocol::Primary && are_lost(shard) && self.waits_for_nobody(**id)
        };
        self.shards.iter().filter(is_one).map(|(id, _)| *id).collect()
    }

    /// The replica on a node orders such a shard, as if the operator had forced it; refused to who is not alive, is astray, or where one that
    /// is in sync lives.
    pub fn follow(&mut self, id: ShardId, node: NodeId) -> Result<(), Refusal> {
        let row = self.shards.get(&id).filter(|_| self.waits_for_nobody(id)).ok_or(Refusal::Overtaken(id))?;
        let learns = row.member(node).is_some_and(|member| member.duty == Duty::Learner);
        if !learns || !takers::is_alive(self, node) {
            return Err(Refusal::NotAlive(self.name_of(node).into()));
        }
        match self.may_force(id, node) {
            Ok(_) => {
                self.make_primary(id, node);
                self.revision += 1;
                Ok(())
            }
            Err(why) => Err(Refusal::NotNeeded { keyspace: row.keyspace.clone(), why }),
        }
    }

    /// Whether a member has yet to tell what only it has: it is not let go before, unless it is gone for good.
    pub(crate) fn waits_for_astray(&self, shard: &Shard) -> bool {
        let is_gone =
            |member: &Member| self.nodes.get(&member.node).is_none_or(|node| node.duty == NodeDuty::Gone);
        shard.members.iter().any(|member| member.duty == Duty::Astray && !is_gone(member))
    }

    /// Whether who orders a shard acknowledges what it alone has.
    fn waits_for_nobody(&self, id: ShardId) -> bool {
        self.sync_of(id).most == Some(1)
    }

    fn force_shard(&mut self, id: ShardId, node: NodeId) -> Ruled {
        let (done, why) = match self.may_force(id, node) {
            Err(why) => (false, why),
            Ok(Forced::Already) => (true, format!("{} orders it already", self.name_of(node))),
            Ok(Forced::Instead) => {
                let lost = self.names_of(id, is_in_sync);
                self.make_primary(id, node);
                (true, format!("{} orders it, without what only {lost} had", self.name_of(node)))
            }
        };
        Ruled { shard: id, done, why }
    }

    fn may_force(&self, id: ShardId, node: NodeId) -> Result<Forced, String> {
        let shard = &self.shards[&id];
        if shard.protocol != Protocol::Primary {
            return Err(format!("it is under {} yet, which elects its leader itself", shard.protocol));
        }
        let Some(member) = shard.member(node) else {
            return Err(format!("{} has no replica of it", self.name_of(node)));
        };
        if member.duty == Duty::Primary && shard.members.iter().any(|other| other.duty == Duty::Astray) {
            return Ok(Forced::Already);
        }
        let alive = self.names_of(id, |member| is_in_sync(member) && self.lives(member.node));
        if !alive.is_empty() {
            return Err(format!("it needs no force, for these are in sync and alive: {alive}"));
        }
        match self.changes.get(&id) {
            Some(change) if change.phase == Phase::Switch => {
                Err("it has ended, and goes on as other shards: that needs those who had it".into())
            }
            _ => Ok(Forced::Instead),
        }
    }

    /// The replica on a node orders, and all others are astray. What was under way with the shard is given up.
    fn make_primary(&mut self, id: ShardId, node: NodeId) {
        self.changes.remove(&id);
        self.give_up_parts();
        let Some(shard) = self.shards.get_mut(&id) else { return };
        for member in &mut shard.members {
            member.duty = if member.node == node { Duty::Primary } else { Duty::Astray };
        }
        (shard.leader, shard.revision) = (node, Revision(shard.revision.0 + 1));
    }

    /// Who is astray begins anew: another replica of its node learns in its place.
    pub(crate) fn begin_anew(&mut self, id: ShardId, by: &Member) -> Result<(), Refusal> {
        let shard = self.shards.get_mut(&id).ok_or(Refusal::NoChange(id))?;
        let number = shard.next_replica;
        if number > kv::ReplicaId::MAX {
            return Err(Refusal::NoNumbers(id));
        }
        shard.next_replica.0 += 1;
        shard.revision.0 += 1;
        let to = self.changes.get_mut(&id).filter(|change| change.epoch == shard.epoch);
        let to = to.into_iter().flat_map(|change| &mut change.to);
        for member in shard.members.iter_mut().chain(to).filter(|member| member.node == by.node) {
            member.replica = number;
            member.duty = if member.duty == Duty::Astray { Duty::Learner } else { member.duty };
        }
        Ok(())
    }

    pub(crate) fn name_of(&self, node: NodeId) -> &str {
        self.nodes.get(&node).map_or("?", |node| &node.name)
    }

    /// The names of the members' nodes that are picked.
    fn names_of(&self, id: ShardId, picks: impl Fn(&Member) -> bool) -> String {
        let members = self.shards[&id].members.iter().filter(|member| picks(member));
        let names: Vec<&str> = members.map(|member| self.name_of(member.node)).collect();
        names.join(", ")
    }
}

enum Forced {
    /// It was made to order by an earlier ruling.
    Already,
    /// It is to order.
    Instead,
}
