//! Machines that join.

use std::sync::Arc;

use bytes::Bytes;
use kv::{ClusterId, NodeId};
use node::identity::{Joiner, Lives, decode_lives, introduced};
use placement::map::Map;

use crate::events::Event;
use crate::machine::Machine;
use crate::machine::clock::Clock;
use crate::world::World;
use crate::zoned;

/// Of machines in 100 that are given an id, so many never come.
const NEVER_COMES_PERCENT: u64 = 8;
/// The others start within this.
const START_MICROS_MAX: u64 = 2_000_000;

impl World {
    /// A machine with a new folder, that is to join under a name.
    pub(super) fn newcomer(&mut self, name: &str) -> Joiner {
        let zone = self.random.below(self.settings.zones.max(1));
        Joiner::new(name, &self.zone(zone), &mut || self.random.next())
    }

    /// The zone of a founder.
    pub fn zone_of(&self, node: NodeId) -> String {
        self.zone(node.0 % self.settings.zones.max(1))
    }

    fn zone(&self, number: u64) -> String {
        if self.settings.zones == 0 { String::new() } else { zoned::name(number) }
    }

    /// A machine was given an id: it starts with the map that it is in, but for a few that never do. Of those, the name.
    pub(super) fn has_joined(
        &mut self,
        joiner: &Joiner,
        (node, cluster): (NodeId, ClusterId),
        map: &Bytes,
        lives: Bytes,
    ) -> Option<String> {
        self.trace(|| format!("{node} is the id of {}", joiner.name));
        let map = Map::decode(map).expect("a map that is told decodes");
        let incarnation = joiner.lineage.life.incarnation;
        if map.nodes.get(&node).is_none_or(|row| row.incarnation != incarnation) {
            self.violation(format!("who joins is in the map: {node}, {joiner:?}, {map:?}"));
        }
        self.operator.joined.entry(incarnation).or_insert(node);
        self.make_places(NodeId(node.0 + 1));
        let after = self.random.between(0, START_MICROS_MAX);
        let lives = decode(lives);
        self.copy_comes_to(node, &lives, after);
        let clock = Clock::draw(&mut self.random);
        let mut machine = Machine::new(node, clock, Arc::new(map));
        machine.folder.lives = introduced(node, Lives::new(), lives);
        machine.folder.identity = Some(joiner.joined(node, cluster, self.terms()));
        // When the faults are over all that is bought works.
        machine.there = self.calm || !self.random.percent(NEVER_COMES_PERCENT);
        let comes = machine.there;
        *self.machine_mut(node) = machine;
        if !comes {
            self.note("a node that joined never came");
            return Some(joiner.name.clone());
        }
        self.note("a node joined");
        self.events.after(after, Event::Start { node });
        None
    }

    /// Whether who joins was told what it knows before a machine was started with another folder than its own: then it could not
    /// know the node from that.
    pub(super) fn was_told_before(&self, lives: &Bytes) -> bool {
        let told = decode(lives.clone());
        let mut astray = self.ids().filter_map(|id| Some((id, self.machine(id).own.as_ref()?.folder.life())));
        astray.any(|(id, life)| told.get(&id).copied() != life)
    }

    /// There is a place for each node that was given an id below this one.
    pub(super) fn make_places(&mut self, next: NodeId) {
        for id in self.machines.len() as u64 + 1..next.0 {
            let clock = Clock::draw(&mut self.random);
            let mut machine = Machine::new(NodeId(id), clock, self.placed.clone());
            machine.there = false;
            self.machines.push(machine);
        }
    }
}

fn decode(lives: Bytes) -> Lives {
    decode_lives(lives).expect("lives that are told decode")
}
