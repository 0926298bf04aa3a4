//! The node's directory in its turns: what it is told, and what it wants done. The first core has it.
//!
//! It is told the time first, whatever came in the turn after, and at the end what it has asked of its shard. What people ask and
//! other nodes pass on goes to it as it comes.

use std::collections::BTreeMap;

use kv::admin::{Answer, Ask};
use kv::cluster::Liveness;
use kv::view::Change;
use kv::{Charge, ClusterId, Error, Level, NodeId, Op, ShardId};
use replication::Route;

use super::open::{Client, Part};
use super::{Driver, Work};
use crate::directory::seen::{Says, Seen, SeenNode};
use crate::directory::{Asker, Directory, Input, Output, Standing};
use crate::wire::{Announced, Frame};
use crate::{Config, session};

/// The name of a question whose answer is not waited for: the directory's desk gives others.
const NOBODYS: u64 = 0;
/// What it asks of its shard may take so long: longer than an election.
const REQUEST_MICROS: u64 = 5_000_000;

/// What a replica asks may take so long; it asks again before that.
const REVISE_MICROS: u64 = 2_000_000;
/// The name of all that replicas ask: no client's.
const REPLICA: u64 = u64::MAX;

/// The directory, and what it is told that no replica is.
#[derive(Debug)]
pub(super) struct Office {
    directory: Directory,
    /// Which cluster this is, once it is known.
    pub cluster: Option<ClusterId>,
}

impl Office {
    /// Of a node that begins.
    pub fn new(config: &Config) -> Office {
        let seed = session::mix(config.seed ^ u64::from(u32::MAX));
        let directory = Directory::new(config.grace_micros, config.limits, seed);
        Office { directory, cluster: None }
    }
}

impl Driver {
    /// Gives the directory something, and does what it wants done.
    pub(super) fn direct(&mut self, input: Input) {
        let Some(office) = &mut self.office else { return };
        let mut out = Vec::new();
        office.directory.step(input, &mut out);
        out.into_iter().for_each(|output| self.carry_out(output));
    }

    /// A turn begins.
    pub(super) fn tick_directory(&mut self) {
        let Some(office) = &self.office else { return };
        let cluster = office.cluster;
        let map = self.node.config.map.clone();
        let leads = self.core.is_ordered_here(ShardId::DIRECTORY);
        let leader = if leads { None } else { self.directory_leader() };
        self.direct(Input::Tick(Standing { now: self.node.now, leads, leader, map, cluster }));
    }

    /// The answers that the turn brought, and how the cluster is, if that is wanted.
    pub(super) fn tell_directory(&mut self) {
        for (number, result) in std::mem::take(&mut self.core.directory_answers) {
            self.direct(Input::Answered { number, result });
        }
        if self.office.as_ref().is_some_and(|office| office.directory.looks()) {
            let seen = self.seen();
            self.direct(Input::Seen(seen));
        }
    }

    /// Another node that leads the directory and can be reached, as far as is known.
    pub(super) fn directory_leader(&self) -> Option<NodeId> {
        let (shard, peers) = (ShardId::DIRECTORY, &self.node.peers);
        let by_replica = self.core.replicas.get(&shard).and_then(|replica| {
            match replica.protocol.route(kv::Class::Transaction, Level::Linearizable) {
                Route::To(node) => Some(node),
                Route::Here | Route::Nobody(_) => None,
            }
        });
        by_replica.or_else(|| peers.leader(shard, self.node.now)).filter(|node| peers.is_connected(*node))
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Request { number, op } => self.ask_directory_shard(number, op),
            Output::Sound => self.sound(),
            Output::Map(map) => self.core.work.push(Work::Decided(map)),
            Output::Pass { to, token, ask } => self.core.send(to, &Frame::Ask { token, ask }),
            Output::Tell { to, token, result } => self.core.send(to, &Frame::Told { token, result }),
            // Whose replica asked hears of it by the map, and asks again.
            Output::Answer { client: REPLICA, result } => {
                result
                    .err()
                    .into_iter()
                    .for_each(|why| tracing::debug!(%why, "members that a replica asked for"));
            }
            Output::Answer { client, result } => self.core.work.push(Work::Administered { client, result }),
        }
    }

    /// Asks the others something that whoever does not lead the directory answers at once: that it does not.
    fn sound(&mut self) {
        for to in Vec::from_iter(self.node.peers.ids()) {
            self.core.send(to, &Frame::Ask { token: NOBODYS, ask: Ask::Keyspaces });
        }
    }

    fn ask_directory_shard(&mut self, number: u64, op: Op) {
        let (shard, charge) = (ShardId::DIRECTORY, Charge::default());
        let part = Part {
            shard,
            op,
            level: None,
            id: None,
            timeout_micros: REQUEST_MICROS,
            charge,
            in_doubt: false,
            here: false,
        };
        self.core.take_part(&self.node, Client::Directory(number), part);
        self.core.settle(&self.node);
    }

    /// A replica here asks for other members of its shard.
    pub(super) fn ask_for_members(&mut self, shard: ShardId, change: Change) {
        let ask = Ask::Revise { shard, change };
        self.direct(Input::Ask { client: REPLICA, ask, timeout_micros: REVISE_MICROS });
    }

    /// Another node passes on what it was asked.
    pub(super) fn take_ask(&mut self, node: NodeId, token: u64, ask: Ask) {
        self.direct(Input::Passed { asker: Asker::Node { node, token }, ask });
    }

    /// The answer to what was passed on.
    pub(super) fn take_told(&mut self, from: NodeId, token: u64, result: Result<Answer, Error>) {
        self.direct(Input::Told { from, token, result });
    }

    /// What this node sees of the cluster.
    fn seen(&self) -> Seen {
        let map = &self.node.config.map;
        let nodes = map.nodes.keys().map(|id| (*id, self.seen_node(*id))).collect();
        let changes = map.changes.keys();
        let parts = map.splits.values().flat_map(|split| split.parts.iter().map(|part| &part.shard));
        let orphaned = map.orphaned_shards(|node| self.seems_lost(node));
        let shards = changes.chain(parts).chain(&orphaned);
        let shards = shards.map(|shard| (*shard, self.seen_shard(*shard))).collect();
        Seen { nodes, shards, usage: self.core.usage.clone() }
    }

    fn seems_lost(&self, node: NodeId) -> bool {
        node != self.node.config.me && self.node.peers.liveness(node, self.node.now) == Liveness::Dead
    }

    fn seen_node(&self, id: NodeId) -> SeenNode {
        let config = &self.node.config;
        if id == config.me {
            let Config { incarnation, peer, address, zone, .. } = config.clone();
            let says = Some(Says { incarnation, peer, address, zone });
            let (state, heard, kept) = (Some(Liveness::Alive), Some(self.node.now), self.node.kept);
            return SeenNode { state, heard, is_connected: true, says, kept };
        }
        let peers = &self.node.peers;
        let state = peers.heard(id).map(|_| peers.liveness(id, self.node.now));
        let says = peers.told(id).map(|told| Says {
            incarnation: told.incarnation,
            peer: told.peer.clone(),
            address: told.address.clone(),
            zone: told.zone.clone(),
        });
        let (heard, is_connected) = (peers.heard(id), peers.is_connected(id));
        SeenNode { state, heard, is_connected, says, kept: peers.kept(id) }
    }

    /// What each replica of a shard says of itself.
    fn seen_shard(&self, shard: ShardId) -> BTreeMap<NodeId, Announced> {
        let beside = self.core.beside.get(&shard).cloned();
        let own = self.core.announced_of(shard).or(beside).map(|told| (self.node.config.me, told));
        let peers = &self.node.peers;
        let others = peers.ids().filter_map(|id| Some((id, peers.replica(id, shard)?.clone())));
        others.chain(own).collect()
    }
}
