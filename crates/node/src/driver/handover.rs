//! A shard is handed over, from the replicas of an epoch to those of the next, while clients write.
//!
//! # The problem
//!
//! `raft` changes its members itself. A protocol that cannot (`single` has one copy on one node) must stop there and go on
//! elsewhere: with every write that was acknowledged, with none of them twice, and never with two owners at once. The copy may be
//! large and clients do not want to wait for it; and any of the nodes may crash at any point of it.
//!
//! # How
//!
//! The map alone says what there should be, as everywhere: a change whose epoch is later than the row's, in a phase.
//!
//! ```text
//!   map            owner, epoch 3                        heir, epoch 4
//!   Copy           serves                                logs that its rows are of no use yet
//!                    ◀──────────────── WantCopy ──────── asks for a copy
//!                    ── snapshot as of 40 ─────────────▶ writes it under a generation of its own, flushes it
//!                  orders 41, 42
//!                    ◀──────────────── WantTail 40 ───── follows
//!                    ── Tail 41, 42 ───────────────────▶ applies them
//!                  announces that it has an heir
//!   Switch         seals itself: 42 is the last          may open
//!                    ◀──────────────── WantTail 42 ─────
//!                    ── Tail, sealed at 42 ────────────▶ flushes; one synced record makes its rows the replica's
//!                                                        opens: serves from 43 on, announces epoch 4
//!   epoch 4        drops its replica
//! ```
//!
//! - *The copy* is a snapshot with a header of its own ([`heir::CopyHeader`]). What the owner applies from then on it keeps in memory
//!   ([`giver::Giving`]), and the heir follows it, so that only the last entries are missing when the owner is sealed.
//! - *The seal* is the protocol's ([`replication::Input::Seal`]): durable, and never undone. Writes that come to the owner from then
//!   on wait there and at the nodes that forward them, as for a leader, and go to the heir when it announces itself.
//! - *Opening* is one batch of the log: the generation, and the record that the next epoch begins with
//!   ([`replication::inherited`]). From then on the heir is a replica like any other. It need not wait for the map to say so: a
//!   change in phase `Switch` is not given up, and the owner is sealed, so nobody else can go on with the shard.
//! - *The directory* makes the phase `Switch` of `Copy` when the owner announces that its heir has a copy, and ends the change when
//!   the heir announces the next epoch.
//!
//! The sessions of clients are rows, and go with the copy: a write that was run before the seal and is sent again to the heir is
//! answered as it was. The shard's newest version goes with it as well, so versions rise.
//!
//! # When something breaks
//!
//! An heir that crashes, whose stream breaks, or that is behind what the owner keeps, begins anew: its rows are forgotten like those
//! of a replica that was dropped, and it asks for another copy, under another generation. An owner that restarts has kept nothing for
//! its heir: if that has all there is, it goes on following, else it begins anew. A sealed owner is sealed after a restart, and sends
//! copies of the state in which it was sealed. Given up in phase `Copy`, the heir forgets its rows. When the heir is gone for good
//! the map names the sealed owner the heir of one epoch more, which opens with the rows it has ([`returns`]).
//!
//! # What holds
//!
//! 1. One owner an epoch, and one epoch that serves: an heir opens only under a map in phase `Switch` that names it, with all that an
//!    owner has which is sealed durably.
//! 2. What was acknowledged is in the heir: it has every entry up to the seal, and nothing was acknowledged behind it.
//! 3. No copy is taken for a replica before it is one: until the batch that opens it is durable, the log says that its rows are of no
//!    use, and checkpoints repeat that.
//!
//! # Caveats
//!
//! There is one heir. Heirs of several members would have to wait for each other before one of them opens. An owner that crashes while
//! it is sealed makes writers wait for a whole copy, unless the heir had everything; what is written during a copy beyond
//! 32 MiB means another copy.

mod giver;
mod heir;
mod returns;
#[cfg(test)]
mod tests;

use kv::keyspace;
use kv::{Epoch, Index, NodeId, Position, ShardId, Version};
use placement::map::Phase;

pub(super) use self::giver::Giving;
pub(super) use self::heir::Heir;
use self::heir::{CopyHeader, Question, Stage};
pub(super) use self::returns::Returning;
use super::core::Core;
use super::hosting::Leaving;
use super::install::SnapshotPart;
use super::replica::Replica;
use super::{Flush, Work};
use crate::job::{Job, layout_of};
use crate::node::Node;
use crate::record::{self, Gone, Made};
use crate::recovery::Begun;
use crate::seat::Seat;
use crate::watch::Source;
use crate::wire::Frame;

impl Core {
    /// Does as the map says, on both sides.
    pub fn hand_over_shards(&mut self, node: &Node) {
        self.seal_replicas(node);
        self.host_heirs(node);
        self.cut_shards(node);
        self.return_shards(node);
    }

    /// Does as the map says: lets go of heirs that are none any more, begins those that are missing, and has those open that may.
    fn host_heirs(&mut self, node: &Node) {
        for shard in Vec::from_iter(self.heirs.keys().copied()) {
            let seat = seat_of_heir(node, shard);
            let heir = self.heirs.get_mut(&shard).expect("an heir that is looked at is there");
            let is_same =
                |seat: &Seat| (seat.view.epoch, seat.number) == (heir.seat.view.epoch, heir.seat.number);
            match seat.filter(is_same) {
                Some(seat) => {
                    heir.may_open = is_switching(node, shard);
                    heir.seat.revision = seat.revision;
                    self.end_heir(shard);
                }
                // Nobody else can go on with the shard: the map that says so will come.
                None if matches!(heir.stage, Stage::Inheriting { .. }) => {}
                None => self.drop_heir(shard, "it is not to be handed over to this node any more"),
            }
        }
        let map = node.config.map.clone();
        let own = map.changes.keys().filter(|shard| node.drives(**shard));
        own.for_each(|shard| self.begin_heir(node, *shard));
    }

    /// Makes an heir, if the map wants one, there is none, and nothing is left of what was there before.
    fn begin_heir(&mut self, node: &Node, shard: ShardId) {
        if self.replicas.contains_key(&shard) || self.heirs.contains_key(&shard) {
            return;
        }
        let Some(seat) = seat_of_heir(node, shard) else { return };
        if self.leaving.get(&shard).is_some_and(|before| !before.is_over()) {
            return;
        }
        let before = self.leaving.remove(&shard).map(|before| before.gone);
        let generation = before.map_or(0, |before| before.next_generation());
        let since = before.map_or(generation, |before| before.since);
        let gone = Gone { revision: before.map_or(0, |before| before.revision), since, generation };
        tracing::info!(%shard, epoch = %seat.view.epoch, generation, "a shard is handed over to this node");
        self.records.push(record::gone(shard, &gone));
        let mut heir = Heir::new(seat, gone, self.ticket + 1);
        heir.may_open = is_switching(node, shard);
        self.heirs.insert(shard, heir);
    }

    /// Forgets what an heir has; another one begins when that is done, if the map wants one.
    fn drop_heir(&mut self, shard: ShardId, why: &str) {
        let heir = self.heirs.remove(&shard).expect("an heir that is dropped is there");
        self.feeds.forget(shard);
        tracing::info!(%shard, generation = heir.generation(), why, "what this node has of a shard that is handed over is forgotten");
        if let Stage::Coming { stream, .. } | Stage::Flushing { stream, .. } = heir.stage {
            self.work.push(Work::SnapshotTaken { stream, taken: false });
        }
        self.leaving.insert(shard, Leaving::dropped(heir.gone, heir.ticket));
        self.work.push(Work::Run(Job::Close { shard }));
    }

    /// Asks those who hand shards over for what their heirs here need next.
    pub fn ask_givers(&mut self, node: &Node) {
        let mut frames = Vec::new();
        for (&shard, heir) in &mut self.heirs {
            let Some(to) = giver(node, shard, heir.turns) else { continue };
            let epoch = heir.inherits();
            match heir.question(self.durable, node.now) {
                Some(Question::Copy) => frames.push((to, Frame::WantCopy { shard, epoch })),
                Some(Question::Tail { above }) => frames.push((to, Frame::WantTail { shard, epoch, above })),
                None => {}
            }
        }
        for (to, frame) in frames {
            self.send(to, &frame);
        }
    }

    /// A piece of a copy comes in.
    pub fn take_copy(&mut self, stream: u64, shard: ShardId, part: SnapshotPart) {
        let refused = Work::SnapshotTaken { stream, taken: false };
        let Some(heir) = self.heirs.get_mut(&shard) else { return self.work.push(refused) };
        let generation = heir.generation();
        match part {
            SnapshotPart::Begin(header) => match CopyHeader::decode(&header) {
                Ok(header) if heir.begins(stream, &header) => {
                    self.work.push(Work::Run(Job::InstallBegin { shard, generation }));
                }
                _ => self.work.push(refused),
            },
            SnapshotPart::Chunk(chunk) if heir.comes(stream) => {
                self.work.push(Work::Run(Job::InstallChunk { shard, generation, chunk }));
            }
            SnapshotPart::End if heir.ended(stream) => self.flush(Flush::Install(shard, stream)),
            SnapshotPart::Broken if heir.is_on(stream) => {
                if !matches!(heir.stage, Stage::Loading { .. }) {
                    self.drop_heir(shard, "the connection broke on which it came");
                }
            }
            SnapshotPart::Broken => {}
            SnapshotPart::Chunk(_) | SnapshotPart::End => self.work.push(refused),
        }
    }

    /// A piece of a copy is written.
    pub fn copy_installed(&mut self, shard: ShardId, generation: u32, result: Result<(), String>) {
        let heir = self.heirs.get_mut(&shard).filter(|heir| heir.generation() == generation);
        let Some(heir) = heir else { return };
        let (stream, taken) = (heir.installed(), result.is_ok());
        match result {
            Ok(()) => self.work.push(Work::SnapshotTaken { stream, taken }),
            Err(error) => self.drop_heir(shard, &error),
        }
    }

    /// A copy is flushed.
    pub fn copy_flushed(&mut self, shard: ShardId, stream: u64, result: Result<(), String>) {
        let Some(heir) = self.heirs.get_mut(&shard).filter(|heir| heir.is_on(stream)) else { return };
        match result {
            Err(error) => self.drop_heir(shard, &error),
            Ok(()) => {
                if heir.flushed(stream) {
                    let (generation, layout) = (heir.generation(), layout_of(heir.seat.protocol));
                    self.work.push(Work::Run(Job::Load { shard, generation, layout }));
                }
            }
        }
    }

    /// The table has loaded a copy.
    pub fn copy_loaded(
        &mut self,
        shard: ShardId,
        generation: u32,
        (last, due, standing): (Version, Option<u64>, keyspace::Standing),
    ) {
        let heir = self.heirs.get_mut(&shard).filter(|heir| heir.generation() == generation);
        if let Some(heir) = heir {
            heir.standing = standing;
            let stream = heir.loaded(last, due);
            self.begin_feed(shard, Source::Heir, last);
            self.work.push(Work::SnapshotTaken { stream, taken: true });
        }
    }

    /// What came after a copy.
    pub fn take_tail(
        &mut self,
        shard: ShardId,
        (epoch, above): (Epoch, Position),
        entries: Option<Vec<(Position, bytes::Bytes)>>,
        sealed: Option<Position>,
    ) {
        let Some(heir) = self.heirs.get_mut(&shard).filter(|heir| heir.inherits() == epoch) else { return };
        match heir.take_tail(above, entries, sealed) {
            Ok(entries) => {
                let apply = |(at, entry)| Work::Run(Job::Apply { shard, at, entry });
                self.work.extend(entries.into_iter().map(apply));
                self.end_heir(shard);
            }
            Err(why) => self.drop_heir(shard, why),
        }
    }

    /// The table has applied an entry to a copy.
    pub fn tail_applied(
        &mut self,
        shard: ShardId,
        index: Index,
        (last, due, standing): (Version, Option<u64>, keyspace::Standing),
    ) {
        if let Some(heir) = self.heirs.get_mut(&shard) {
            heir.standing = standing;
            heir.applied(index, last, due);
            self.end_heir(shard);
        }
    }

    /// Flushes an heir that has everything.
    fn end_heir(&mut self, shard: ShardId) {
        if let Some(heir) = self.heirs.get_mut(&shard).filter(|heir| heir.has_everything()) {
            heir.end();
            let generation = heir.generation();
            self.flush(Flush::Heir(shard, generation));
        }
    }

    /// An heir that has everything is flushed: the log is to say that it is the replica.
    pub fn heir_flushed(&mut self, shard: ShardId, generation: u32, result: Result<(), String>) {
        let heir = self.heirs.get_mut(&shard).filter(|heir| heir.generation() == generation);
        let Some(heir) = heir else { return };
        if let Err(error) = result {
            tracing::warn!(%shard, %error, "what was handed over could not be flushed; it is tried again");
            return heir.goes_on();
        }
        let at = heir.inherit(self.ticket + 1);
        self.records.extend(inheriting(shard, &heir.seat, &heir.made(), at));
    }

    /// All appends up to this ticket are synced: heirs of which one says that they are the replica open.
    pub fn open_heirs(&mut self, node: &Node) {
        let durable = self.durable;
        let opens = |heir: &Heir| match heir.stage {
            Stage::Inheriting { at, ticket } if ticket <= durable => Some(at),
            _ => None,
        };
        let ready: Vec<(ShardId, Position)> =
            self.heirs.iter().filter_map(|(shard, heir)| Some((*shard, opens(heir)?))).collect();
        for (shard, at) in ready {
            let heir = self.heirs.remove(&shard).expect("an heir that opens is there");
            let made = heir.made();
            let begun = Begun::inherit(&node.config, shard, &heir.seat, made, at);
            let begun = begun.expect("a log of one record contradicts nothing");
            tracing::info!(%shard, epoch = %heir.seat.view.epoch, %at, "this node goes on with a shard that was handed over");
            let replica = Replica { standing: heir.standing, ..Replica::new(shard, begun, at, heir.last) };
            self.begin_replica(replica, false);
            self.expiries.set(shard, heir.due);
            self.has_news = true;
            // Its keyspace may have been dropped since.
            if !node.config.map.shards.contains_key(&shard) {
                self.host(node);
            }
        }
    }

    /// What a checkpoint must keep of the heirs.
    pub fn keep_heirs(&self) -> Vec<wal::Record> {
        let keep = |(shard, heir): (&ShardId, &Heir)| match heir.stage {
            Stage::Inheriting { at, .. } => inheriting(*shard, &heir.seat, &heir.made(), at).to_vec(),
            _ => vec![record::gone(*shard, &heir.gone)],
        };
        self.heirs.iter().flat_map(keep).collect()
    }
}

/// The records that make an heir the replica.
pub(super) fn inheriting(shard: ShardId, seat: &Seat, made: &Made, at: Position) -> [wal::Record; 2] {
    let Seat { protocol, view, .. } = seat.clone();
    let begins = replication::inherited(protocol, view, at);
    [record::made(shard, made), record::protocol(shard, begins)]
}

/// The seat of this node in a shard that is handed over to it.
fn seat_of_heir(node: &Node, shard: ShardId) -> Option<Seat> {
    Seat::of(&node.config.map, shard, node.config.me).filter(|seat| seat.inherits.is_some())
}

/// Whether a change of a shard is not given up any more.
fn is_switching(node: &Node, shard: ShardId) -> bool {
    let change = node.config.map.changes.get(&shard);
    change.is_some_and(|change| change.phase == Phase::Switch)
}

/// The node that hands a shard over: where it is led, as far as is known, and the next one after each question without an answer.
fn giver(node: &Node, shard: ShardId, turn: usize) -> Option<NodeId> {
    let row = node.config.map.shards.get(&shard)?;
    let leader = node.peers.leader(shard, node.now).filter(|leader| row.member(*leader).is_some());
    let others = row.members.iter().map(|member| member.node).filter(|other| Some(*other) != leader);
    let all: Vec<NodeId> = leader.into_iter().chain(others).collect();
    all.get(turn % all.len().max(1)).copied().filter(|giver| node.peers.is_connected(*giver))
}
