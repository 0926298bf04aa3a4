//! What goes wrong with disks and data folders.

use kv::cluster::Liveness;
use kv::view::{Duty, Member};
use kv::{NodeId, Protocol, ShardId};
use node::identity::Lives;
use placement::map::{Change, Map, NodeDuty, Shard};
use wal::format::{BLOCK_BYTES, BatchHeader};
use wal::{Crash, Disk, DiskError, Operation};

use super::nemesis::WEAKEST;
use super::{Fault, Heal};
use crate::events::{Event, Way};
use crate::machine::FolderCopy;
use crate::operator::chore::SERVING_MIN;
use crate::watch::Seen;
use crate::world::World;

impl World {
    pub(super) fn slow_disk(&mut self, node: NodeId) -> bool {
        let lasts = self.lasts();
        let slowness = self.random.pick(&[10, 50, 200]);
        self.trace(|| format!("{node}'s disk is {slowness} times slower"));
        self.machine_mut(node).slowness = slowness;
        self.events.after(lasts, Event::Heal(Heal::Disk(node)));
        true
    }

    pub(super) fn fill_disk(&mut self, node: NodeId) -> bool {
        let lasts = self.lasts();
        let room = self.random.between(0, 2) * self.settings.wal.segment_bytes;
        let machine = self.machine_mut(node);
        let segments = machine.disk.segments().unwrap_or_default();
        let used: u64 = segments
            .iter()
            .map(|segment| machine.disk.bytes(*segment).map_or(0, |bytes| bytes.len() as u64))
            .sum();
        machine.disk.limit_bytes(Some(used + room));
        machine.table.set_full(true);
        machine.folder.set_full(true);
        self.trace(|| format!("{node}'s disk has room for {room} bytes"));
        self.events.after(lasts, Event::Heal(Heal::Disk(node)));
        true
    }

    pub(super) fn fail_disk(&mut self, node: NodeId) -> bool {
        let error = DiskError::from(std::io::ErrorKind::Other);
        let operations =
            [Operation::Write, Operation::Sync, Operation::Create, Operation::Remove, Operation::Read];
        let operation = self.random.pick(&operations);
        let part = self.random.below(10);
        self.trace(|| format!("{node}'s disk will fail when {operation}"));
        let machine = self.machine_mut(node);
        match part {
            0 => machine.table.fail_next(),
            1 => machine.folder.fail_next(),
            _ => {
                machine.sync_fails |= operation == Operation::Sync;
                machine.disk.fail_next(operation, error);
            }
        }
        true
    }

    /// Flips a bit that a later batch proves to be damage, and shows it by a crash.
    pub(super) fn flip(&mut self, node: NodeId) -> bool {
        let Some((segment, offset)) = self.old_place(node).filter(|_| self.may_damage(node, false)) else {
            return false;
        };
        let bit = self.random.below(8) as u8;
        self.trace(|| format!("{node}'s disk flips bit {bit} of byte {offset} of segment {segment}"));
        let machine = self.machine_mut(node);
        machine.disk.flip(segment, offset, bit);
        machine.flipped = Some((segment, offset, bit));
        let shows = self.random.between(0, 500_000);
        self.events.after(shows, Event::Heal(Heal::Show(node)));
        true
    }

    /// A byte of the log that lies before its last batch.
    fn old_place(&mut self, node: NodeId) -> Option<(u64, u64)> {
        let machine = self.machine_mut(node);
        let mut blocks = Vec::new();
        for segment in machine.disk.segments().ok()? {
            let bytes = machine.disk.bytes(segment)?;
            let is_batch = |block: &&[u8]| BatchHeader::decode(block).is_ok();
            let places = bytes.chunks(BLOCK_BYTES).enumerate().filter(|(_, block)| is_batch(block));
            blocks.extend(places.map(|(place, _)| (segment, (place * BLOCK_BYTES) as u64)));
        }
        // The last batch may not be synced, and then the one before it would be the last: a torn write to those who see it.
        blocks.truncate(blocks.len().saturating_sub(2));
        (!blocks.is_empty()).then(|| {
            let (segment, offset) = self.random.pick(&blocks);
            // The header and the beginning of the payload: what lies behind may be padding, where a flip shows too.
            (segment, offset + self.random.below(100))
        })
    }

    pub(super) fn lose_folder(&mut self, node: NodeId) -> bool {
        if !self.may_damage(node, true) {
            return false;
        }
        // Of those that join later nobody is started as if nothing had happened: what would it be told? And a founder that has
        // a shard of its own would go on with that, until the others refuse it.
        let has_own = has_own(&self.machine(node).first_map, node);
        let founder = (1..=self.founders).map(NodeId).any(|id| id != node && self.machine(id).there);
        let needs_all = self.placed.replicas_of(node).any(|(_, row)| row.protocol == Protocol::TwoPhase);
        let may_come_back =
            node.0 <= self.founders && founder && !has_own && !needs_all && self.is_known_to_all(node);
        let unawares = may_come_back && self.random.percent(30);
        if unawares {
            self.kill(node, Crash::Power, "its folder is lost");
            self.trace(|| format!("{node} comes back with an empty folder"));
            let down = self.down();
            self.goes_astray(node, None, down);
        } else {
            self.lose(node, "its folder is lost");
        }
        // What the others say before they know that it has nothing may come after.
        if self.faults.has(Fault::Messages) {
            self.weaken(WEAKEST);
        }
        true
    }

    /// Copies a folder while its node is down; the next time, puts that copy in its place.
    pub(super) fn restore_folder(&mut self, node: NodeId) -> bool {
        if self.machine(node).copy.is_none() {
            return self.copy_folder(node);
        }
        if !self.may_restore(node) {
            return false;
        }
        if self.random.percent(30) {
            // Another start passes: so the copy is not only of the last one before.
            self.kill_and_restart(node, Crash::Process, "its folder is restored later");
            return true;
        }
        let down = self.down();
        self.restore(node, down);
        // Its clients reach it before those who know better do, mostly.
        if self.random.percent(80) {
            self.cut_off(node, None, down);
        }
        true
    }

    /// Whether there is an old copy of a node's folder, by which all others would know that it is one.
    fn may_restore(&self, node: NodeId) -> bool {
        let machine = self.machine(node);
        let is_old = machine.copy.as_ref().is_some_and(|copy| copy.folder.life() != machine.folder.life());
        is_old && self.may_lack(node, true, true) && self.is_known_to_all(node)
    }

    fn restore(&mut self, node: NodeId, down: u64) {
        self.kill(node, Crash::Power, "its folder is restored from an old copy");
        let copy = self.machine_mut(node).copy.take().expect("it was just looked at");
        let life = copy.folder.life().expect("a folder that was copied was started");
        self.trace(|| format!("{node} comes back with its folder as of start {}", life.starts));
        self.goes_astray(node, Some(copy), down);
    }

    /// A node is started with an empty folder, or with this copy, as if it were its own.
    fn goes_astray(&mut self, node: NodeId, copy: Option<FolderCopy>, down: u64) {
        self.machine_mut(node).set_astray(copy);
        self.see(Seen::Wiped { node });
        self.events.after(down, Event::Start { node });
    }

    /// A machine that joins, and starts after so long, meets a copy of another one's folder before that is refused by those who
    /// know better, where there is a copy: they cannot reach it for a while. What the newcomer was told must do.
    pub fn copy_comes_to(&mut self, newcomer: NodeId, told: &Lives, after: u64) {
        let is_told = |id: &NodeId| told.get(id).copied() == self.machine(*id).folder.life();
        let Some(node) = self.ids().find(|id| is_told(id) && self.may_restore(*id)) else { return };
        if self.calm || !self.faults.has(Fault::Restore) || !self.random.percent(50) {
            return;
        }
        self.note("a copy of a folder came to a newcomer first");
        self.restore(node, after);
        self.cut_off(node, Some(newcomer), after);
    }

    /// A node that is started after so long does not reach the others for a while, but for one of them: what it knows may be over, and
    /// clients ask it for that more than others.
    pub(crate) fn cut_off(&mut self, node: NodeId, but: Option<NodeId>, after: u64) {
        let others = self.ids().filter(|id| *id != node && Some(*id) != but);
        let mut ways: Vec<Way> = others.flat_map(|id| [(id, node), (node, id)]).collect();
        ways.retain(|way| !self.network.cuts.contains(way));
        self.cut(&ways, true);
        let lasts = after + self.lasts();
        self.events.after(lasts, Event::Heal(Heal::Ways(ways)));
        self.cut_off = Some((node, self.events.now() + lasts));
    }

    fn copy_folder(&mut self, node: NodeId) -> bool {
        if self.machine(node).folder.life().is_none() || self.machine(node).is_unsound() {
            return false;
        }
        // What it has alone it would serve from the copy, until the others refuse it.
        if has_own(&self.placed, node) || has_own(&self.machine(node).first_map, node) {
            return false;
        }
        // By what its replicas have applied, too: they may be behind the map.
        let is_alone = |view: &kv::view::View| {
            view.members.iter().filter(|member| member.duty != Duty::Learner).count() == 1
        };
        let process = self.machine(node).process.as_ref();
        let own = |shard: &kv::ShardId| {
            process.and_then(|process| process.cores.view(*shard)).is_some_and(is_alone)
        };
        if process.is_none() || self.shards().iter().any(own) {
            return false;
        }
        self.kill_and_restart(node, Crash::Process, "its folder is copied");
        self.machine_mut(node).copy_folder();
        true
    }

    /// Whether each of the others would know it from another folder of its name, and this start from an earlier one: two that
    /// had never met before could go on together with nothing.
    fn is_known_to_all(&self, node: NodeId) -> bool {
        let life = self.machine(node).folder.life();
        let mut others = self.ids().map(|id| self.machine(id)).filter(|other| other.id != node);
        others.all(|other| !other.is_unsound() && other.folder.met(node) == life)
    }

    /// Whether a node's copies may be damaged, or lost `now`.
    ///
    /// While nodes are sent away none is lost. Members that become fewer may become those that are lost, before anybody knows that
    /// they are: {1, 2, 3} is to be {1, 2}, node 2 is lost, and what is decided needs a majority of both sets until the change is
    /// over, so node 2 in any case. To go on without it would take a change of members that another majority decides on than the
    /// present members say.
    fn may_damage(&self, node: NodeId, now: bool) -> bool {
        self.may_lack(node, now, false)
    }

    /// The same; `comes_back`: it gets its own folder back in the end.
    fn may_lack(&self, node: NodeId, now: bool, comes_back: bool) -> bool {
        let astray = self.ids().any(|other| self.machine(other).own.is_some());
        let is_sound = self.machine(node).there && !self.machine(node).is_unsound();
        // Who is to found the cluster is waited for until it has.
        let is_founded = self.placed.cluster.is_some();
        // On which nodes it will be is not known yet.
        let is_creating = self.operator.is_creating() || self.is_recasting();
        let serving = self.placed.nodes.values().filter(|row| row.duty == NodeDuty::Serve).count();
        let fewer =
            |row: &Shard| row.members.len() > usize::from(self.placed.keyspaces[&row.keyspace].replicas);
        let becomes_smaller =
            serving <= SERVING_MIN || self.sends_away() || self.placed.shards.values().any(fewer);
        let is_settled = is_founded && !astray && !is_creating && !becomes_smaller;
        is_settled && is_sound && self.survives(node, now, comes_back)
    }

    /// Whether the cluster survives the loss of this node's copies: of each shard, those that are sound are a majority and
    /// stay so. Who was declared gone counts as lost, and so does who is dead, for it may be given up
    /// before anybody knows of this one. Where it is lost `now`, what it is about to inherit is not. Where all copies are needed none
    /// may be lost that does not come back.
    fn survives(&self, node: NodeId, now: bool, comes_back: bool) -> bool {
        let is_lost = |member: &&Member| {
            let (of, row) = (self.machine(member.node), self.placed.nodes.get(&member.node));
            let is_gone = row.is_none_or(|row| row.duty == NodeDuty::Gone || row.state == Liveness::Dead);
            member.node == node || !of.there || of.is_unsound() || is_gone
        };
        let survives = |members: &Vec<Member>| {
            let lost = members.iter().filter(is_lost).count();
            // Where the directory says who orders, all copies are needed.
            let needs_all = members.iter().any(|member| member.duty == Duty::Primary);
            2 * lost < members.len() && !(needs_all && lost > usize::from(comes_back))
        };
        let rows =
            self.placed.shards.iter().filter(|(id, row)| !(now && self.goes_on_without(node, **id, row)));
        let rows = rows.map(|(_, row)| &row.members);
        let counts = |(id, change): &(&ShardId, &Change)| !(now && self.inherits_only(node, **id, change));
        let changes = self.placed.changes.iter().filter(counts).map(|(_, change)| &change.to);
        let parts = self.shards().into_iter().filter_map(|shard| self.placed.row_of_part(shard));
        let parts = Vec::from_iter(parts.map(|row| row.members));
        // Without an order a copy is not made again.
        let is_unordered = |row: &&Shard| row.protocol.is_merged() || self.settings.recasts;
        let mut unordered = self.placed.shards.values().filter(is_unordered);
        if unordered.any(|row| row.members.iter().any(|member| is_lost(&member))) {
            return false;
        }
        rows.chain(changes).chain(&parts).all(survives)
    }

    /// Whether a shard under two-phase goes on when a node is lost, which is declared dead then. Not where that one orders: what it refused
    /// at last may come about after all.
    fn goes_on_without(&self, node: NodeId, shard: ShardId, row: &Shard) -> bool {
        let is_one_of_more = row.protocol == Protocol::TwoPhase && row.members.len() > 2;
        let are_others_sound = row.members.iter().filter(|member| member.node != node).all(|member| {
            let of = self.machine(member.node);
            of.there && !of.is_unsound()
        });
        let orders = row.member(node).is_some_and(|member| member.duty == Duty::Primary);
        is_one_of_more && are_others_sound && !orders && !self.placed.changes.contains_key(&shard)
    }

    /// Whether a shard is handed over to a node that has not opened it yet: it goes back when the node is lost.
    fn inherits_only(&self, node: NodeId, shard: ShardId, change: &Change) -> bool {
        let is_heir = change.epoch > self.placed.shards[&shard].epoch
            && change.to.iter().any(|member| member.node == node);
        // What a process that is down has opened is not known.
        let process = self.machine(node).process.as_ref();
        let is_closed =
            process.is_some_and(|it| it.cores.epoch(shard).is_none_or(|epoch| epoch < change.epoch));
        is_heir && is_closed
    }

    /// A node that was refused gets its own folder back, or is given up.
    pub fn give_back(&mut self, node: NodeId) {
        if self.is_given_up(node) {
            return self.lose(node, "it was refused");
        }
        self.trace(|| format!("{node} has its own folder back"));
        self.machine_mut(node).give_back();
        self.see(Seen::GivenBack { node });
        let down = self.down();
        self.events.after(down, Event::Start { node });
    }

    /// The disk of a node that cannot start reads right again, or its node is given up.
    pub fn mend(&mut self, node: NodeId) {
        if self.is_given_up(node) {
            return self.lose(node, "its log is damaged");
        }
        let machine = self.machine_mut(node);
        if let Some((segment, offset, bit)) = machine.flipped.take() {
            machine.disk.flip(segment, offset, bit);
        }
        self.trace(|| format!("{node}'s disk is mended"));
        let down = self.down();
        self.events.after(down, Event::Start { node });
    }

    /// Whether a node that needs its own folder or disk back is lost instead. Since it was damaged, shards may be about to count on
    /// it.
    fn is_given_up(&mut self, node: NodeId) -> bool {
        self.settings.operates && self.random.percent(50) && self.survives(node, true, false)
    }

    /// A machine is lost for good: the operator puts another one in its place.
    pub fn lose(&mut self, node: NodeId, why: &str) {
        self.kill(node, Crash::Power, why);
        self.trace(|| format!("{node} is lost for good: {why}"));
        self.see(Seen::Wiped { node });
        self.be_away(node);
        self.replace(node);
    }

    /// A machine is not there any more.
    pub fn be_away(&mut self, node: NodeId) {
        let machine = self.machine_mut(node);
        (machine.there, machine.own, machine.copy) = (false, None, None);
    }
}

/// Whether a node has the only replica of a shard.
fn has_own(map: &Map, node: NodeId) -> bool {
    map.shards.values().any(|row| row.members.len() == 1 && row.member(node).is_some())
}
