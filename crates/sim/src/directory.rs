//! The directory, played by the simulator: it hands the nodes a map in which a shard is to have other members, waits until it has
//! them, and hands out the next map.
//!
//! As in life, one node hears of each map, and the others of its revision; what a shard's members are is what its leader says.

use std::sync::Arc;

use kv::view::{Duty, Member, View};
use kv::{NodeId, ReplicaId, ShardId};
use node::Input;
use placement::map::{Change, Map, Phase, Shard, Why};

use crate::events::Event;
use crate::world::World;

/// The shards are looked at so often.
const LOOK_MICROS: u64 = 200_000;
/// A shard has at least so many members.
const MEMBERS_MIN: usize = 2;
/// A shard that has rested is given other members at so many looks of 100.
const BEGIN_PERCENT: u64 = 30;
/// A change whose members have not begun to change over is given up at so many looks of 100.
const GIVE_UP_PERCENT: u64 = 3;
/// Its members are let change over at so many.
const SWITCH_PERCENT: u64 = 50;

impl World {
    /// Members change in this run, from now on.
    pub fn begin_changes(&mut self) {
        if self.settings.moves {
            self.events.after(LOOK_MICROS, Event::Directory);
        }
    }

    /// Looks at one shard after the other, and at the nodes: one that serves has the newest map.
    pub fn look_at_shards(&mut self) {
        self.events.after(LOOK_MICROS, Event::Directory);
        let shards = self.shards();
        let under_way = self.placed.changes.keys().next().copied();
        let shard = under_way.unwrap_or_else(|| self.random.pick(&shards));
        let next = match self.placed.changes.get(&shard).cloned() {
            Some(change) => self.next_step(shard, &change),
            None => self.refreshed(shard).or_else(|| self.begin_change(shard)),
        };
        if let Some(next) = next {
            self.trace(|| format!("map {}: shard {shard}: {:?}", next.revision, next.changes.get(&shard)));
            self.placed = Arc::new(next);
        }
        let living: Vec<NodeId> = self.ids().filter(|id| self.machine(*id).process.is_some()).collect();
        if !living.is_empty() {
            let node = self.random.pick(&living);
            self.give(node, [Input::Map(self.placed.clone())]);
        }
    }

    /// What its leader says of a shard's members.
    fn view_of(&self, shard: ShardId) -> Option<View> {
        let [leader] = self.leaders(shard)[..] else { return None };
        self.machine(leader).process.as_ref()?.cores.view(shard).cloned()
    }

    fn next_map(&self) -> Map {
        Map { revision: self.placed.revision + 1, ..Map::clone(&self.placed) }
    }

    /// The members are others than the map knows, or under a later revision, when a change came about that was given up: a number
    /// that went with it is nobody's again, so what is there counts.
    fn refreshed(&mut self, shard: ShardId) -> Option<Map> {
        let view = self.view_of(shard)?;
        let is_settled = view.members.iter().all(|member| member.duty == Duty::Voter);
        if view.revision == self.placed.shards[&shard].revision || !is_settled {
            return None;
        }
        let mut map = self.next_map();
        settle(map.shards.get_mut(&shard)?, &view);
        Some(map)
    }

    fn begin_change(&mut self, shard: ShardId) -> Option<Map> {
        if self.calm || !self.random.percent(BEGIN_PERCENT) {
            return None;
        }
        let mut map = self.next_map();
        let row = map.shards.get_mut(&shard)?;
        let strangers: Vec<NodeId> = self.ids().filter(|id| !has(row, *id)).collect();
        let mut to = row.members.clone();
        let grows = !strangers.is_empty() && self.random.percent(80);
        if !grows || self.random.percent(60) {
            to.remove(self.random.between(0, to.len() as u64 - 1) as usize);
        }
        if grows {
            let (node, replica) = (self.random.pick(&strangers), row.next_replica);
            row.next_replica = ReplicaId(replica.0 + 1);
            to.push(Member { node, replica, incarnation: 0, duty: Duty::Voter, weight: 1 });
            to.sort_by_key(|member| member.node);
        }
        if to.len() < MEMBERS_MIN {
            return None;
        }
        let (epoch, phase, why) = (row.epoch, Phase::Copy, Why::Balance);
        map.changes.insert(shard, Change { to, epoch, phase, why });
        Some(map)
    }

    /// The next step of a change, if it is time.
    fn next_step(&mut self, shard: ShardId, change: &Change) -> Option<Map> {
        let view = self.view_of(shard)?;
        let mut map = self.next_map();
        let row = map.shards.get_mut(&shard)?;
        if change.phase == Phase::Copy && self.random.percent(GIVE_UP_PERCENT) {
            self.note("a change of members was given up");
            map.changes.remove(&shard);
        } else if change.phase == Phase::Copy && self.random.percent(SWITCH_PERCENT) {
            // Whoever has yet to catch up joins when it has.
            map.changes.get_mut(&shard)?.phase = Phase::Switch;
        } else if are(&view, &change.to) && self.most_are(shard, &change.to) {
            self.note("a shard had other members");
            (row.members, row.revision) = (change.to.clone(), view.revision);
            if !has(row, row.leader) {
                row.leader = row.members[0].node;
            }
            map.changes.remove(&shard);
        } else {
            return None;
        }
        Some(map)
    }

    /// Whether most of these members know that they are the members.
    fn most_are(&self, shard: ShardId, members: &[Member]) -> bool {
        let knows = |member: &&Member| {
            let process = self.machine(member.node).process.as_ref();
            let view = process.and_then(|process| process.cores.view(shard));
            view.is_some_and(|view| are(view, members))
        };
        2 * members.iter().filter(knows).count() > members.len()
    }

    /// Why the maps are not at rest.
    pub fn unrest_of_maps(&self) -> Option<String> {
        if let Some((shard, change)) = self.placed.changes.first_key_value() {
            return Some(format!("shard {shard} is to have {:?}", change.to));
        }
        let behind = |id: &NodeId| {
            let cores = self.machine(*id).process.as_ref().map(|process| &process.cores);
            cores.is_some_and(|cores| cores.maps().any(|revision| revision != self.placed.revision))
        };
        self.ids().find(behind).map(|id| format!("{id} has an older map"))
    }
}

/// The shard has these members.
fn settle(row: &mut Shard, view: &View) {
    (row.members, row.revision) = (view.members.clone(), view.revision);
    if !has(row, row.leader) {
        row.leader = row.members[0].node;
    }
}

fn has(row: &Shard, node: NodeId) -> bool {
    row.members.iter().any(|member| member.node == node)
}

fn key(member: &Member) -> (NodeId, ReplicaId, Duty) {
    (member.node, member.replica, member.duty)
}

/// Whether these are the members, and nobody else.
fn are(view: &View, members: &[Member]) -> bool {
    view.members.iter().map(key).eq(members.iter().map(key))
}
