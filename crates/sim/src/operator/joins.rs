//! Machines that join.

use kv::admin::Joining;
use kv::{ClusterId, NodeId};
use node::identity::{Identity, Lineage};

use crate::events::Event;
use crate::machine::Machine;
use crate::world::{World, address, clock};

/// Of machines in 100 that are given an id, so many never come.
const NEVER_COMES_PERCENT: u64 = 8;
/// The others start within this.
const START_MICROS_MAX: u64 = 2_000_000;

/// A machine with a new folder, whose node has no id yet.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    name: String,
    zone: String,
    lineage: Lineage,
}

impl Newcomer {
    pub fn joining(&self) -> Joining {
        let (peer, address) = (address(&self.name), address(&self.name));
        let incarnation = self.lineage.life.incarnation;
        Joining { name: self.name.clone(), incarnation, peer, address, zone: self.zone.clone() }
    }
}

impl World {
    /// A machine that is to join under a name.
    pub(super) fn newcomer(&mut self, name: String) -> Newcomer {
        let lineage = Lineage::new(&mut || self.random.next());
        let zone = self.random.below(self.settings.zones.max(1));
        Newcomer { name, zone: self.zone(zone), lineage }
    }

    /// The zone of a founder.
    pub fn zone_of(&self, node: NodeId) -> String {
        self.zone(node.0 % self.settings.zones.max(1))
    }

    fn zone(&self, number: u64) -> String {
        if self.settings.zones == 0 { String::new() } else { format!("z{number}") }
    }

    /// A machine was given an id: it starts, but for a few that never do. Of those, the name.
    pub(super) fn has_joined(&mut self, newcomer: Newcomer, node: NodeId, cluster: ClusterId) -> Option<String> {
        let Newcomer { name, zone, lineage } = newcomer;
        self.trace(|| format!("{node} is the id of {name}"));
        self.make_places(NodeId(node.0 + 1));
        let clock = clock(&mut self.random);
        let identity = Identity {
            me: node,
            name: name.clone(),
            founders: Vec::new(),
            terms: self.terms(),
            cluster: Some(cluster),
            lineage,
            zone,
            begun: false,
            rejoining: false,
            newcomer: false,
            copy: None,
        };
        let mut machine = Machine::new(node, clock, self.placed.clone());
        machine.folder.identity = Some(identity);
        machine.there = !self.random.percent(NEVER_COMES_PERCENT);
        let comes = machine.there;
        *self.machine_mut(node) = machine;
        if !comes {
            self.note("a node that joined never came");
            return Some(name);
        }
        self.note("a node joined");
        let after = self.random.between(0, START_MICROS_MAX);
        self.events.after(after, Event::Start { node });
        None
    }

    /// There is a place for each node that was given an id below this one.
    pub(super) fn make_places(&mut self, next: NodeId) {
        for id in self.machines.len() as u64 + 1..next.0 {
            let clock = clock(&mut self.random);
            let mut machine = Machine::new(NodeId(id), clock, self.placed.clone());
            machine.there = false;
            self.machines.push(machine);
        }
    }
}
