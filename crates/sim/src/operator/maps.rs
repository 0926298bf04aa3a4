//! The map, as the operator knows it: the newest that a node says is written; and whether it is at rest.

use std::sync::Arc;

use kv::cluster::Liveness;
use kv::{NodeId, Protocol, ShardId};
use node::Input;
use node::route::Keyspaces;
use placement::map::{Change, DEFAULT, Map, NodeDuty, Phase, Shard, Why};
use placement::{Limits, plan};
use wal::Crash;

use crate::events::Event;
use crate::faults::{Fault, Heal};
use crate::world::World;

/// Of hand-overs of a shard of one copy in 100, of so many its former owner does not hear.
const UNHEARD_PERCENT: u64 = 50;
/// Of shards in 100 that are cut, the last answers of so many are held on their way to a node.
const HELD_PERCENT: u64 = 70;
/// And so many of those who led them crash then.
const CRASHED_PERCENT: u64 = 50;

impl World {
    /// A node says that a map is written.
    pub fn decided(&mut self, id: NodeId, map: Arc<Map>) {
        let wrong = self.watch.maps.decided(id, &map);
        wrong.into_iter().for_each(|why| self.violation(why));
        if map.revision > self.placed.revision {
            self.trace(|| crate::trace::map(&map));
            self.note_differences(&map);
            self.keep_from_hearing_of(&map);
            self.hold_answers(&map);
            self.crash_who_led(&map);
            self.make_places(map.next_node);
            self.placed = map.clone();
            self.keyspaces = Keyspaces::new(&map);
            self.watch.know(&map);
            self.watch.follow(&map);
            self.note_forced(&map);
        }
        self.give(id, [Input::Map(map)]);
    }

    fn note_differences(&mut self, map: &Map) {
        let before = self.placed.clone();
        for (shard, change) in &before.changes {
            let Some(row) = map.shards.get(shard) else {
                // Else its keyspace was dropped.
                match change.why {
                    Why::Split => self.note("a shard was split"),
                    Why::Protocol
                        if before
                            .parts_of(*shard)
                            .iter()
                            .any(|part| map.shards.contains_key(&part.shard)) =>
                    {
                        let to = before.protocol_after(*shard, &before.shards[shard]);
                        self.note(recast(before.shards[shard].protocol, to));
                    }
                    _ => {}
                }
                continue;
            };
            if map.changes.contains_key(shard) {
            } else if change.why == Why::Split {
                self.note("a split was given up");
            } else if change.why == Why::Protocol {
                self.note("a change of protocol was given up");
            } else if row.members != change.to {
                self.note("a change of members was given up");
            } else if row.epoch > before.shards[shard].epoch {
                self.note("a shard was handed over");
            } else {
                self.note("a shard had other members");
            }
        }
        let is_gone = |map: &Map, id: &NodeId| map.nodes.get(id).is_none_or(|row| row.duty == NodeDuty::Gone);
        for id in before.nodes.keys().filter(|id| !is_gone(&before, id) && is_gone(map, id)) {
            if self.machine(*id).there && map.nodes.contains_key(id) {
                self.note("a dead node was declared gone");
            }
        }
    }

    /// Shards of one copy are handed over by this map: now and then who had one does not hear of that for a while.
    fn keep_from_hearing_of(&mut self, map: &Map) {
        let before = self.placed.clone();
        let is_over = |(shard, row): &(&ShardId, &Shard)| {
            let next = map.shards.get(shard).map(|next| next.epoch);
            // Its rows go on in another shard, or in a later epoch.
            let goes_on = next.map_or(before.changes.contains_key(shard), |next| next > row.epoch);
            row.protocol == Protocol::Single && goes_on
        };
        let cuts = self.faults.has(Fault::Partition) && !self.calm;
        for (_, row) in before.shards.iter().filter(is_over) {
            if cuts && self.random.percent(UNHEARD_PERCENT) {
                self.note("who had a shard did not hear that it was handed over");
                self.cut_off(row.leader, None, 0);
            }
        }
    }

    /// Shards are about to be cut: now and then one node does not get the last answers of who leads one, while it hears from others what
    /// became of it.
    fn hold_answers(&mut self, map: &Map) {
        let before = self.placed.clone();
        let is_new = |(shard, change): &(&ShardId, &Change)| {
            let was = before.changes.get(shard).map(|change| change.phase);
            matches!(change.why, Why::Split | Why::Protocol)
                && change.phase == Phase::Switch
                && was != Some(Phase::Switch)
        };
        for (shard, _) in map.changes.iter().filter(is_new) {
            let leader = map.shards[shard].leader;
            let other = self.any_node();
            let way = (leader, other);
            let holds = self.faults.has(Fault::Hold) && !self.calm && self.random.percent(HELD_PERCENT);
            if holds && other != leader && !self.network.cuts.contains(&way) {
                self.note("answers of who led a shard that was cut were held");
                self.cut(&[way], false);
                let lasts = self.lasts();
                self.events.after(lasts, Event::Heal(Heal::Ways(vec![way])));
            }
        }
    }

    /// Shards are cut by this map: now and then who led one crashes, so those who asked it do not know what became of that, and their
    /// part of the rows has no leader yet.
    fn crash_who_led(&mut self, map: &Map) {
        let before = self.placed.clone();
        let goes_on =
            |shard: ShardId| before.parts_of(shard).iter().any(|part| map.shards.contains_key(&part.shard));
        let is_cut = |(shard, _): &(&ShardId, &Change)| !map.shards.contains_key(shard) && goes_on(**shard);
        for (shard, _) in before.changes.iter().filter(is_cut) {
            let led = before.shards[shard].leader;
            let crashes = self.faults.has(Fault::Crash) && !self.calm && self.random.percent(CRASHED_PERCENT);
            if crashes && self.machine(led).there {
                self.note("who led a shard crashed when it was cut");
                self.kill_and_restart(led, Crash::Process, "it led a shard that was cut");
            }
        }
    }

    /// Whether a node is a member that is not gone.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.placed.nodes.get(&id).is_some_and(|row| row.duty != NodeDuty::Gone)
    }

    /// A machine whose node has left is stopped for good.
    pub fn retire(&mut self, node: NodeId) {
        self.kill(node, wal::Crash::Process, "it has left");
        self.be_away(node);
    }

    /// At rest, the replicas of shards are spread evenly, where they can move.
    pub fn check_maps(&mut self) {
        let stays = matches!(
            self.placed.keyspaces[DEFAULT].protocol,
            Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast
        );
        if stays || self.zoned.count().is_some() {
            return;
        }
        let serving = self.placed.nodes.iter().filter(|(_, row)| row.duty == NodeDuty::Serve);
        let of_clients = |node: NodeId| {
            let rows = self.placed.shards.values().filter(|row| row.keyspace == DEFAULT);
            rows.filter(|row| row.member(node).is_some()).count()
        };
        let counts: Vec<usize> = serving.map(|(id, _)| of_clients(*id)).collect();
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        // Places that fail together go before counts.
        if self.settings.zones == 0 && most > least.map(|least| least + 1) {
            self.violation(format!("replicas are spread evenly: {}", crate::trace::map(&self.placed)));
        }
    }

    /// Why the maps are not at rest.
    pub fn unrest_of_maps(&self) -> Option<String> {
        if let Some(chore) = self.operator.chores().first() {
            return Some(format!("the operator is at {chore:?}"));
        }
        if self.operator.has_busy_tenants() {
            return Some("a tenant waits for an answer".into());
        }
        if let Some((shard, change)) = self.placed.changes.first_key_value() {
            return Some(format!("shard {shard} is to have {:?}", change.to));
        }
        if let Some(shard) = self.placed.splits.keys().next() {
            return Some(format!("shard {shard} is to be split"));
        }
        if let Some(keyspace) = self.placed.keyspaces.keys().find(|name| self.placed.is_recast(name)) {
            return Some(format!("keyspace {keyspace} is to go on under another protocol"));
        }
        if let Some(next) = plan(&self.placed, &Limits::default()) {
            return Some(format!("the plan goes on with {:?}", next.changes));
        }
        // Who is gone stays on the map while it may serve what was dropped.
        let is_ill = |(_, row): &(&NodeId, &placement::map::Node)| {
            row.state != Liveness::Alive && row.duty != NodeDuty::Gone
        };
        if let Some((id, row)) = self.placed.nodes.iter().find(is_ill) {
            return Some(format!("{id} is {:?}", row.state));
        }
        let behind = |id: &NodeId| {
            let cores = self.machine(*id).process.as_ref().map(|process| &process.cores);
            cores.is_some_and(|cores| cores.maps().any(|revision| revision != self.placed.revision))
        };
        let behind = self.ids().find(behind).map(|id| format!("{id} has an older map"));
        let stranger = || self.ids().find(|id| !self.is_member(*id)).map(|id| format!("{id} is no member"));
        behind.or_else(stranger).or_else(|| self.rows_are_another_map())
    }

    /// How the directory's rows differ from the map: another one is written, and nobody has said so yet.
    fn rows_are_another_map(&self) -> Option<String> {
        let written = Map::from_rows(&self.watch.rows.present(ShardId::DIRECTORY));
        let differ = written.as_ref().ok() != Some(&*self.placed);
        differ.then(|| format!("the map is {:?}, and the rows are {written:?}", self.placed))
    }
}

/// What is noted when a shard goes on under another protocol.
fn recast(from: Protocol, to: Protocol) -> &'static str {
    match (from, to) {
        (Protocol::Quorum, Protocol::Raft) => "a shard went from quorum to raft",
        (Protocol::Quorum, Protocol::Primary) => "a shard went from quorum to primary",
        (Protocol::Quorum, Protocol::TwoPhase) => "a shard went from quorum to two-phase",
        (Protocol::Raft, Protocol::Quorum) => "a shard went from raft to quorum",
        (Protocol::Primary, Protocol::Quorum) => "a shard went from primary to quorum",
        (Protocol::TwoPhase, Protocol::Quorum) => "a shard went from two-phase to quorum",
        (Protocol::Single, Protocol::Raft) => "a shard went from single to raft",
        (Protocol::Raft, Protocol::Single) => "a shard went from raft to single",
        (Protocol::Raft, Protocol::Primary) => "a shard went from raft to primary",
        (Protocol::Raft, Protocol::TwoPhase) => "a shard went from raft to two-phase",
        (Protocol::Primary, Protocol::Single) => "a shard went from primary to single",
        (Protocol::Primary, Protocol::Raft) => "a shard went from primary to raft",
        (Protocol::Primary, Protocol::TwoPhase) => "a shard went from primary to two-phase",
        (Protocol::TwoPhase, Protocol::Single) => "a shard went from two-phase to single",
        (Protocol::TwoPhase, Protocol::Raft) => "a shard went from two-phase to raft",
        (Protocol::TwoPhase, Protocol::Primary) => "a shard went from two-phase to primary",
        _ => "a shard went to another protocol in a way that there is not",
    }
}
