//! Which replicas a core has: those that the map wants of this node, of the core's shards.
//!
//! Nothing but the map makes or drops a replica, and the map says what there should be, not what to do: so it does not matter which
//! maps a node has missed, or where it crashed.
//!
//! ```text
//!                 the map names this node            the map names it no more
//!   (nothing) ──────────────────────────▶ replica ────────────────────────────▶ leaving ──▶ (nothing)
//!                  Made, Load, hello          ▲                                    │  Gone is durable, its jobs are done;
//!                                             └──── another one, in a later ◀──────┘  then its rows go, in steps
//!                                                   generation
//! ```
//!
//! - A replica is made with an empty log and the members as the map has them; its protocol takes it from there. The log says how it
//!   was made before it says anything else.
//! - It is dropped by a map that is no earlier than the one it was made by, and for good: what is on its way to log, table and other
//!   nodes ends in nothing, and whoever waits for it is served elsewhere. One whose number is another's by now goes like that too.
//!   One that counts among members of which the map does not know yet stays until it does: a change that was given up may have
//!   come about all the same.
//! - Its rows go when the log says that it is gone: a start finds both, or neither. Checkpoints repeat it until a flush has come
//!   after the last row went.

use std::collections::BTreeSet;

use kv::view::{Duty, Member};
use kv::{Error, NodeId, Position, Protocol, ReplicaId, ShardId, Version};
use placement::map::{Map, Shard};
use replication::{Input, View};

use super::Work;
use super::core::Core;
use super::replica::Replica;
use crate::job::{Job, layout_of};
use crate::node::Node;
use crate::record::{self, Gone};
use crate::recovery::Begun;
use crate::seat::{Seat, wanted_of};
use crate::wire::Frame;

/// A replica that was dropped, until nothing is left of it.
#[derive(Debug)]
pub(super) struct Leaving {
    pub gone: Gone,
    /// The append that says so.
    ticket: u64,
    /// The table has let go of it, and all its jobs before that are done.
    closed: bool,
    /// Its rows are being forgotten.
    forgets: bool,
    /// The generations of which rows may be left.
    left: BTreeSet<u32>,
    /// The checkpoint under way flushes the table when nothing was left.
    covered: bool,
}

impl Leaving {
    /// As the log of an earlier life has it.
    pub fn recovered(gone: Gone) -> Leaving {
        let left = gone.generations().collect();
        Leaving { gone, ticket: 0, closed: true, forgets: false, left, covered: false }
    }

    /// Of one that is let go of now. The append of this ticket says so.
    pub fn dropped(gone: Gone, ticket: u64) -> Leaving {
        Leaving { ticket, closed: false, ..Leaving::recovered(gone) }
    }

    /// Whether no row is left.
    pub fn is_over(&self) -> bool {
        self.closed && self.left.is_empty()
    }
}

impl Core {
    /// Drops the replicas that the map does not want.
    pub fn drop_unwanted(&mut self, node: &Node) {
        let unwanted = self.replicas.values().filter(|replica| is_unwanted(node, replica));
        for shard in Vec::from_iter(unwanted.map(|replica| replica.shard)) {
            self.drop_replica(node, shard);
        }
    }

    /// Does as the map says: drops replicas, and makes those that are missing.
    pub fn host(&mut self, node: &Node) {
        self.drop_unwanted(node);
        let map = node.config.map.clone();
        let at_rest = self.replicas.iter_mut().filter(|(shard, _)| !map.changes.contains_key(shard));
        at_rest.for_each(|(_, replica)| replica.copied.clear());
        let own = map.shards.keys().filter(|shard| node.drives(**shard));
        own.for_each(|shard| self.host_shard(node, *shard));
        self.end_requests_of_gone(node);
    }

    /// Makes a shard's replica if the map wants one and there is none. While one before it is about to go, that is done later.
    fn host_shard(&mut self, node: &Node, shard: ShardId) {
        if self.replicas.contains_key(&shard) || self.is_part(shard) {
            return;
        }
        let Some(seat) = Seat::of(&node.config.map, shard, node.config.me) else { return };
        if !seat.begins_empty() {
            if seat.inherits.is_none() && !self.heirs.contains_key(&shard) {
                tracing::error!(%shard, "this node should have a shard's only copy, and has none: restore its data folder");
            }
            return;
        }
        let generation = match self.leaving.get(&shard) {
            // The map that dropped it may be the one that wants another: a node misses maps.
            Some(before) if !before.closed || before.gone.revision > seat.revision => return,
            before => before.map_or(0, |before| before.gone.next_generation()),
        };
        let begun = Begun::make(&node.config, shard, &seat, generation);
        let begun = begun.expect("an empty log contradicts nothing");
        tracing::info!(%shard, number = %begun.made.number, generation, "this node has a replica of a shard from now on");
        self.work.push(Work::Run(Job::Load { shard, generation, layout: layout_of(seat.protocol) }));
        self.begin_replica(Replica::new(shard, begun, Position::ZERO, Version::ZERO), true);
        self.greet_members(node, shard, &seat.view);
    }

    /// Says hello to the other replicas, and asks for theirs: the connections stand already.
    pub fn greet_members(&mut self, node: &Node, shard: ShardId, view: &View) {
        let others = view.members.iter().map(|member| member.node).filter(|other| *other != node.config.me);
        for other in others.filter(|other| node.peers.is_connected(*other)) {
            let greetings = self.greetings(other, |own| own == shard);
            self.send(other, &Frame::Greet { greetings, wants: true });
        }
    }

    fn drop_replica(&mut self, node: &Node, shard: ShardId) {
        self.give_parts_away(node, shard);
        let replica = self.replicas.remove(&shard).expect("a replica that is dropped is here");
        if let Some(install) = &replica.install {
            self.work.push(Work::SnapshotTaken { stream: install.stream, taken: false });
        }
        self.appends.retain(|append| append.shard != shard);
        self.inputs.retain(|(of, _)| *of != shard);
        self.proposals.remove(&shard);
        self.gathers.remove(&shard);
        self.wakes.set(shard, None);
        self.expiries.set(shard, None);
        self.touched.retain(|of| *of != shard);
        self.leave_pulls(node, shard);
        self.astray.remove(&shard);
        // The map that drops it may have another one in its place: none before that may.
        let is_replaced = Seat::of(&node.config.map, shard, node.config.me).is_some();
        let revision = node.config.map.revision - u64::from(is_replaced);
        let generation = replica.made_logged().generation;
        // A switch may not have finished its clean-up; and what is left of the one before goes with this one.
        let before = self.leaving.get(&shard).map(|before| before.gone.since);
        let since = before.unwrap_or_else(|| replica.made.generation.saturating_sub(1));
        let gone = Gone { revision, since, generation };
        tracing::info!(%shard, number = %replica.made.number, "this node has a replica of a shard no more");
        self.records.push(record::gone(shard, &gone));
        let ticket = self.ticket + 1;
        self.leaving.insert(shard, Leaving::dropped(gone, ticket));
        self.work.push(Work::Run(Job::Close { shard }));
    }

    /// What the local replica has of a shard is done elsewhere, or its outcome is not known.
    pub fn give_parts_away(&mut self, node: &Node, shard: ShardId) {
        for token in self.open.pick(|open| open.shard == shard && open.is_local()) {
            let Some(open) = self.open.get(token) else { continue };
            let error = match open.is_read() {
                true => Error::WrongNode { try_next: None },
                false => Error::InDoubt("the shard has left the node that had the write".into()),
            };
            self.turned_away(node, token, error);
        }
    }

    /// The table has let go of a replica that was dropped: what it did for it before is done.
    pub fn closed(&mut self, node: &Node, shard: ShardId) {
        let leaving = self.leaving.get_mut(&shard).expect("what is closed was dropped");
        leaving.closed = true;
        self.forget_gone();
        self.host_shard(node, shard);
    }

    /// Has the rows of those forgotten that are gone for good.
    pub fn forget_gone(&mut self) {
        for (&shard, leaving) in &mut self.leaving {
            let may_begin = leaving.closed && leaving.ticket <= self.durable && !leaving.forgets;
            if may_begin {
                leaving.forgets = true;
                let forget = |&generation: &u32| Work::Run(Job::Forget { shard, generation });
                self.work.extend(leaving.left.iter().map(forget));
            }
        }
    }

    /// A piece of a generation's rows is gone.
    pub fn forgot(&mut self, shard: ShardId, generation: u32, more: bool) {
        if self.replicas.get(&shard).is_some_and(|replica| replica.uses(generation)) {
            return;
        }
        if more {
            self.work.push(Work::Run(Job::Forget { shard, generation }));
        } else if let Some(leaving) = self.leaving.get_mut(&shard).filter(|leaving| leaving.forgets) {
            leaving.left.remove(&generation);
        }
    }

    /// What a checkpoint must keep of those that are gone. The flush that follows is after the last row of some.
    pub fn keep_gone(&mut self) -> Vec<wal::Record> {
        let keep = |(shard, leaving): (&ShardId, &mut Leaving)| {
            leaving.covered = leaving.left.is_empty();
            record::gone(*shard, &leaving.gone)
        };
        self.leaving.iter_mut().map(keep).collect()
    }

    /// A checkpoint is complete: what it covers is over. The log says so until the next one.
    pub fn end_gone(&mut self) {
        self.leaving.retain(|_, leaving| !leaving.covered);
    }

    /// Says who the members are to replicas that know it from the directory.
    pub fn tell_views(&mut self, node: &Node) {
        let map = node.config.map.clone();
        let is_later = |replica: &Replica| {
            let told = |row: &&Shard| matches!(row.protocol, Protocol::Primary | Protocol::TwoPhase);
            let row = map.shards.get(&replica.shard).filter(told)?;
            Some(row.view())
                .filter(|view| view.epoch == replica.view().epoch && replica.view().is_before(view))
        };
        let later = self.replicas.values().filter_map(|replica| Some((replica.shard, is_later(replica)?)));
        for (shard, view) in Vec::from_iter(later) {
            self.give(shard, Input::View(view));
        }
    }

    /// Says for whom a write waits to replicas of keyspaces where that was altered.
    pub fn tell_syncs(&mut self, before: &Map, node: &Node) {
        let map = &node.config.map;
        let altered = |shard: &ShardId| before.sync_of(*shard) != map.sync_of(*shard);
        for shard in Vec::from_iter(self.replicas.keys().copied().filter(altered)) {
            self.give(shard, Input::Sync(map.sync_of(shard)));
        }
    }

    /// Says what members the map wants to the replicas whose members are others. Which one of a shard acts on it is their own.
    ///
    /// A replica whose voters are others than the map's knows more than the map does: nothing that this map wants is right there.
    /// And one whose members are changing over goes through with it by itself.
    pub fn want_members(&mut self, node: &Node) {
        if node.is_map_behind() {
            return;
        }
        let map = node.config.map.clone();
        let mut wanted = Vec::new();
        for (&shard, replica) in &self.replicas {
            let Some(row) = map.shards.get(&shard).filter(|row| row.epoch == replica.view().epoch) else {
                continue;
            };
            if row.protocol == Protocol::Primary {
                let change = map.changes.get(&shard).filter(|change| change.epoch == row.epoch);
                wanted.extend(change.map(|change| (shard, change.to.clone())));
                continue;
            }
            let (view, members) = (replica.view(), wanted_of(&map, shard, row));
            let voters = view.members.iter().filter(|member| member.duty != Duty::Learner);
            if voters.map(key).eq(row.members.iter().map(key))
                && !view.members.iter().map(key).eq(members.iter().map(key))
            {
                wanted.push((shard, members));
            }
        }
        for (shard, members) in wanted {
            self.give(shard, Input::Want { members });
        }
    }
}

/// What tells members from others.
fn key(member: &Member) -> (NodeId, ReplicaId, Duty) {
    (member.node, member.replica, member.duty)
}

/// Whether the map drops a replica. It does not know of members that were agreed on since: whoever counts among those may be one
/// without whom nothing that was acknowledged is left.
fn is_unwanted(node: &Node, replica: &Replica) -> bool {
    let (map, view, number) = (&node.config.map, replica.view(), replica.made.number);
    let seat = Seat::of(map, replica.shard, node.config.me);
    let known = map.shards.get(&replica.shard).map(|row| (row.epoch, row.revision));
    let is_later = known.is_some_and(|known| (view.epoch, view.revision) > known);
    let counts = view.replica(number).is_some_and(|member| member.duty != Duty::Learner);
    map.revision >= replica.made.revision
        && seat.is_none_or(|seat| seat.number != number)
        && !(is_later && counts)
}
