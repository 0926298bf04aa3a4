//! A shard is cut into several while clients write: its parts go on, each as a shard of its own, on the nodes that have it. A shard that
//! goes on under another protocol is cut into one part, in the same way.
//!
//! # The problem
//!
//! A shard has one order of writes, one leader and one core on each node; who wants more must cut it. From one moment on each of its keys
//! is another shard's: with all that was acknowledged, with what it remembers of requests, and never with two owners at once. Its
//! copies are large, and all are there already: no row needs to cross the network.
//!
//! # How
//!
//! The map says which parts there are to be ([`placement::map::Split`]), and the phase. All replicas of a shard have the same state where
//! its epoch ends ([`replication::Input::Seal`]): where writes have no order, they have brought it together by then. So each makes its node's
//! parts of its own rows, and asks nobody:
//!
//! ```text
//!   map          replica of the shard               its parts on this node, of one core
//!   Copy         serves                             the log says that their rows are of no use yet
//!                  ◀──────────── Want ───────────── ask for a frozen view of it
//!                  ── Frozen, as of 30 ───────────▶ one pass: each row goes to its part; flushed
//!                  ◀──────────── Want ───────────── ask for what was written meanwhile
//!                  ── Frozen, as of 40 ───────────▶ another one, over these rows; flushed
//!                  ◀──────────── Want, has a copy ─
//!                announces that its parts are ready
//!   Switch       seals: 42 is the last              requests are planned by the parts' slots from now on, and wait for them
//!                  ── Frozen, as of 42, the last ─▶ the last pass, over what was written since; flushed, loaded
//!                                                   one synced batch of the log makes them replicas: they elect their leaders
//!   parts have   dropped
//!   rows
//! ```
//!
//! - *A pass* is for all parts of a core ([`storage::Cut`]), in steps between other jobs. The first reads all rows of the shard, while
//!   clients write. What is written from then on is noted, so each later one looks at that only, and the parts say that they are ready
//!   when little is left: the last pass, for which writers wait, is short however large the shard is.
//! - *The cores* of a node have nothing in common: what the shard's core and those of its parts say to each other goes as inputs of a
//!   turn ([`Word`]).
//! - *Opening* is one batch of the log for all parts of a core: the generations, and the records that their epoch begins with
//!   ([`replication::inherited`]), at the place of the shard's last entry. A replica that begins so is as far as the others.
//! - *The directory* makes the phase `Switch` of `Copy` when most members announce that their parts are ready, the leader among them; and
//!   when most members of each part have opened, and one of them leads, the parts get rows and the shard goes. Where all copies are
//!   needed (`two-phase`) it waits for all members both times, and for a part under `primary` or `quorum` until all have opened. Of a shard that
//!   had no order it waits for all that the change names before that is sealed, for what they have together is the shard.
//! - *Requests* that wait for the shard, or come back from it, are planned again by the map, under the ids that they had (`replan`):
//!   what was run before the end is remembered by the part that has the key.
//!
//! # When something breaks
//!
//! A node that restarts finds its parts opened, all of a core or none. Those that are not begin anew, from the replica of the shard, which
//! is sealed after a restart too. A member that was down when the shard was sealed gets the last entries from the others, as long as the shard
//! is there; when it has gone its parts begin with nothing, and are brought up by the other members. That is safe: they have voted for
//! nobody before, and most members of each part had opened durably before the shard went, so no leader is elected without what they have.
//!
//! # What holds
//!
//! 1. One owner of a slot: parts open only under a map in phase `Switch`, which is not given up, with the state of where the shard was sealed;
//!    nothing was acknowledged behind that.
//! 2. All replicas of a part begin with the same rows at the same place, or with nothing.
//! 3. Until the batch that opens them is durable the log says that the rows of parts are of no use, and checkpoints repeat that.
//!
//! # Caveats
//!
//! Where more is written during a pass than is noted (some 32 MiB of keys) the next one reads all rows again, and if that is the last
//! one writers wait for it. A batch (put-all) that is sent
//! again after a cut, and whose answer was too large to be kept, is taken for a repeat by its id alone. The parts of one core open together.
//! What is remembered of requests does not pass between protocols with an order and those without: a write that may have been run before is in
//! doubt, for as long as its id may come again, after the change and after each start of a node of a keyspace that was under `quorum` once.

mod giver;
mod replan;

use std::collections::BTreeMap;

use kv::keyspace;
use kv::{Epoch, Position, ShardId, SlotRange, Version};
use mutant::Mutant;
use placement::map::Phase;
use replication::Instant;
use storage::{Cut, Layout, ShardSnapshot};

pub(super) use self::giver::CutHere;
pub(super) use self::replan::{Asked, asked};
use super::core::Core;
use super::handover::inheriting;
use super::hosting::Leaving;
use super::replica::Replica;
use super::{Flush, Work};
use crate::job::{Job, layout_of};
use crate::node::Node;
use crate::record::{self, Gone, Made};
use crate::recovery::Begun;
use crate::seat::Seat;
use crate::watch::Lately;

/// A question that was not answered is asked again after this: the replica may have been away.
const ASK_MICROS: u64 = 500_000;

/// Parts are ready when a pass had no more than so many rows to look at: it took some tens of milliseconds.
const CAUGHT_UP_ROWS: usize = 8192;
/// Or after so many passes: where more is written than passes bring over, the last one must do.
const PASSES_MAX: u32 = 8;

/// What cores of a node say to each other of a shard that is cut.
pub enum Word {
    /// To the shard's core: the parts of this core are to have its rows.
    Want {
        /// The shard.
        from: ShardId,
        /// The epoch that ends with it.
        epoch: Epoch,
        /// The core that asks.
        core: usize,
        /// They have a copy, and need its end.
        has_copy: bool,
    },
    /// To the core of parts: the shard as it is.
    Frozen {
        /// The shard.
        from: ShardId,
        /// The epoch that ends with it.
        epoch: Epoch,
        /// Nothing comes after it.
        is_end: bool,
        /// Its rows.
        snapshot: Box<ShardSnapshot>,
        /// With the end: what watches of its parts may still ask for.
        kept: Option<Lately>,
    },
}

/// The parts of a shard that is cut, of one core: until they are replicas.
#[derive(Debug)]
pub(super) struct Parts {
    heirs: BTreeMap<ShardId, PartHeir>,
    /// The slots of the shard.
    of: SlotRange,
    /// The epoch that ends with the shard.
    epoch: Epoch,
    /// The append that says that their rows are of no use: before it is durable there are none.
    ticket: u64,
    stage: Stage,
    /// The shard as of here is what the parts have.
    copied: Option<Position>,
    /// Where they begin with that.
    begins: Position,
    passes: u32,
    /// The last pass had little to look at, or there were many: another one would not make the next one shorter.
    has_caught_up: bool,
    /// The map says that the shard ends: nobody else goes on with its keys.
    may_open: bool,
    /// When the last question was asked in this stage.
    asked: Option<Instant>,
    /// What was kept of the shard's changes, once it has ended.
    kept: Option<Lately>,
}

/// One part.
#[derive(Debug)]
struct PartHeir {
    seat: Seat,
    slots: SlotRange,
    gone: Gone,
    /// The newest version of its rows, and when it has something due.
    last: Version,
    due: Option<u64>,
    /// What it goes by, and what it holds.
    standing: keyspace::Standing,
}

/// How far parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// They have nothing, or a copy that is too old, and ask for one.
    Wanting,
    /// A pass is under way, of the shard as of `at`.
    Copying { at: Position, is_end: bool },
    /// What the pass wrote is flushed.
    Flushing { is_end: bool },
    /// They have a copy, and ask for the end.
    Ready,
    /// They have everything, and wait for the map to let them open.
    Ended,
    /// The table loads them, so many are left.
    Loading { left: usize },
    /// The append of this ticket says that they are replicas, and is not durable yet.
    Inheriting { ticket: u64 },
}

impl Parts {
    fn become_stage(&mut self, stage: Stage) {
        (self.stage, self.asked) = (stage, None);
    }

    /// Whether they have a copy, when it is time to ask for more; all appends up to `durable` are synced.
    fn question(&mut self, durable: u64, now: Instant) -> Option<bool> {
        let has_copy = match self.stage {
            Stage::Wanting if self.ticket <= durable => false,
            Stage::Ready => true,
            _ => return None,
        };
        if self.asked.is_some_and(|asked| now.since(asked) < ASK_MICROS) {
            return None;
        }
        self.asked = Some(now);
        Some(has_copy)
    }

    /// How their rows lie: all are under one protocol.
    fn layout(&self) -> Layout {
        let first = self.heirs.values().next().expect("there are parts");
        layout_of(first.seat.protocol)
    }

    /// The records that make them replicas.
    fn inheriting(&self) -> Vec<wal::Record> {
        let records =
            |(shard, heir): (&ShardId, &PartHeir)| inheriting(*shard, &heir.seat, &heir.made(), self.begins);
        self.heirs.iter().flat_map(records).collect()
    }
}

impl PartHeir {
    fn made(&self) -> Made {
        let Seat { number, revision, .. } = self.seat;
        Made { number, revision, generation: self.gone.generation }
    }
}

impl Core {
    /// Does as the map says: lets go of parts that are none any more, begins those that are missing, opens those that may.
    pub fn cut_shards(&mut self, node: &Node) {
        let map = &node.config.map;
        for from in Vec::from_iter(self.parts.keys().copied()) {
            let parts = self.parts.get_mut(&from).expect("parts that are looked at are there");
            let is_there = map.shards.get(&from).is_some_and(|row| row.epoch == parts.epoch)
                && map.parts_of(from).iter().any(|part| parts.heirs.contains_key(&part.shard));
            if is_there {
                parts.may_open = map.changes.get(&from).is_some_and(|change| change.phase == Phase::Switch);
                parts.heirs.values_mut().for_each(|heir| heir.seat.revision = map.revision);
                self.load_parts(from);
            } else if !matches!(parts.stage, Stage::Inheriting { .. }) {
                self.drop_parts(from);
            }
        }
        for from in map.splits.keys() {
            self.begin_parts(node, *from);
        }
    }

    /// Begins the parts of this core that are missing, when nothing is left of what was there before.
    fn begin_parts(&mut self, node: &Node, from: ShardId) {
        if self.parts.contains_key(&from) {
            return;
        }
        let map = &node.config.map;
        let is_missing = |shard: ShardId| node.drives(shard) && !self.replicas.contains_key(&shard);
        let missing = map.parts_of(from).iter().filter(|part| is_missing(part.shard));
        let seated = missing.filter_map(|part| {
            let seat = Seat::of(map, part.shard, node.config.me).filter(|seat| seat.inherits.is_some())?;
            Some((*part, seat))
        });
        let seated = Vec::from_iter(seated);
        let is_left =
            |shard: ShardId| self.leaving.get(&shard).is_some_and(|before: &Leaving| !before.is_over());
        let Some(epoch) = seated.first().and_then(|(_, seat)| seat.inherits) else { return };
        if seated.iter().any(|(part, _)| is_left(part.shard)) {
            return;
        }
        let mut heirs = BTreeMap::new();
        for (part, seat) in seated {
            let before = self.leaving.remove(&part.shard).map(|before| before.gone);
            let generation = before.map_or(0, |before| before.next_generation());
            let since = before.map_or(generation, |before| before.since);
            let gone = Gone { revision: before.map_or(0, |before| before.revision), since, generation };
            self.records.push(record::gone(part.shard, &gone));
            let heir = PartHeir {
                seat,
                slots: part.slots,
                gone,
                last: Version::ZERO,
                due: None,
                standing: Default::default(),
            };
            heirs.insert(part.shard, heir);
        }
        tracing::info!(%from, parts = heirs.len(), "a shard is to be cut: its parts here are made");
        let (ticket, stage) = (self.ticket + 1, Stage::Wanting);
        let of = map.shards[&from].slots;
        let (copied, begins, passes, has_caught_up, may_open) = (None, Position::ZERO, 0, false, false);
        let parts = Parts {
            heirs,
            of,
            epoch,
            ticket,
            stage,
            copied,
            begins,
            passes,
            has_caught_up,
            may_open,
            asked: None,
            kept: None,
        };
        self.parts.insert(from, parts);
    }

    /// Forgets what parts have; others begin when that is done, if the map wants them.
    fn drop_parts(&mut self, from: ShardId) {
        let parts = self.parts.remove(&from).expect("parts that are dropped are there");
        tracing::info!(%from, "what this node has of the parts of a shard is forgotten");
        for (shard, heir) in parts.heirs {
            self.leaving.insert(shard, Leaving::dropped(heir.gone, parts.ticket));
            self.work.push(Work::Run(Job::Close { shard }));
        }
    }

    /// Whether this is a part that is not a replica yet.
    pub fn is_part(&self, shard: ShardId) -> bool {
        self.parts.values().any(|parts| parts.heirs.contains_key(&shard))
    }

    /// Asks the cores of shards that are cut for what the parts here need next.
    pub fn ask_for_parts(&mut self, node: &Node) {
        for (&from, parts) in &mut self.parts {
            if let Some(has_copy) = parts.question(self.durable, node.now) {
                let word = Word::Want { from, epoch: parts.epoch, core: node.place(), has_copy };
                let (core, word) = (node.config.deal.core_of(from), super::Word::Split(word));
                self.work.push(Work::Tell { core, word });
            }
        }
    }

    /// Another core of this node says something of a shard that is cut.
    pub fn take_word(&mut self, node: &Node, word: Word) {
        match word {
            // The directory's.
            Word::Want { from, epoch, core, has_copy } => {
                self.take_want_parts(node, (from, epoch), core, has_copy);
            }
            Word::Frozen { from, epoch, is_end, snapshot, kept } => {
                self.take_frozen(from, epoch, is_end, *snapshot);
                if let Some(parts) = self.parts.get_mut(&from).filter(|parts| parts.epoch == epoch) {
                    parts.kept = kept.or(parts.kept.take());
                }
            }
        }
    }

    /// The shard as it is: a pass begins.
    fn take_frozen(&mut self, from: ShardId, epoch: Epoch, is_end: bool, snapshot: ShardSnapshot) {
        let Some(parts) = self.parts.get_mut(&from).filter(|parts| parts.epoch == epoch) else { return };
        let is_end = is_end || parts.may_open && mutant::is(Mutant::PartOpensBeforeTheSeal);
        match parts.stage {
            Stage::Wanting => {}
            Stage::Ready if is_end => {}
            _ => return,
        }
        let at = Position::new(snapshot.applied.index, snapshot.applied.term);
        parts.become_stage(Stage::Copying { at, is_end });
        let rows = parts.heirs.iter().map(|(shard, heir)| (*shard, heir.gone.generation, heir.slots));
        let cut = Cut::new((snapshot, parts.of), rows, parts.copied.map(|at| at.index.0));
        let cut = Box::new(cut.into_layout(parts.layout()));
        let (index, term) = cut.begins_at();
        parts.begins = Position::new(index, term);
        parts.passes += 1;
        parts.has_caught_up =
            parts.passes >= PASSES_MAX || cut.changes().is_some_and(|rows| rows <= CAUGHT_UP_ROWS);
        self.work.push(Work::Run(Job::Cut { from, cut }));
    }

    /// A step of a pass was taken.
    pub fn cut_step(&mut self, from: ShardId, cut: Box<Cut>, more: bool) {
        let Some(parts) = self.parts.get_mut(&from) else { return };
        let Stage::Copying { at, is_end } = parts.stage else { return };
        if more {
            return self.work.push(Work::Run(Job::Cut { from, cut }));
        }
        parts.copied = Some(at);
        parts.become_stage(Stage::Flushing { is_end });
        self.flush(Flush::Parts(from));
    }

    /// What a pass wrote is flushed.
    pub fn parts_flushed(&mut self, from: ShardId, result: Result<(), String>) {
        let Some(parts) = self.parts.get_mut(&from) else { return };
        let Stage::Flushing { is_end } = parts.stage else { return };
        match result {
            Ok(()) if is_end => parts.become_stage(Stage::Ended),
            Ok(()) if !parts.has_caught_up => parts.become_stage(Stage::Wanting),
            Ok(()) => parts.become_stage(Stage::Ready),
            Err(error) => {
                tracing::warn!(%from, %error, "the parts of a shard could not be flushed; that is tried again");
                parts.become_stage(Stage::Ready);
            }
        }
        self.load_parts(from);
    }

    /// Has parts loaded that have everything, if they may open.
    fn load_parts(&mut self, from: ShardId) {
        let Some(parts) = self.parts.get_mut(&from).filter(|parts| parts.may_open) else { return };
        if parts.stage != Stage::Ended {
            return;
        }
        parts.become_stage(Stage::Loading { left: parts.heirs.len() });
        for (shard, heir) in &parts.heirs {
            let (generation, layout) = (heir.gone.generation, layout_of(heir.seat.protocol));
            self.work.push(Work::Run(Job::Load { shard: *shard, generation, layout }));
        }
    }

    /// The table has loaded a part: with the last of them the log is to say that they are replicas.
    pub fn part_loaded(
        &mut self,
        shard: ShardId,
        generation: u32,
        (last, due, standing): (Version, Option<u64>, keyspace::Standing),
    ) {
        let ticket = self.ticket + 1;
        let Some(parts) = self.parts.values_mut().find(|parts| parts.heirs.contains_key(&shard)) else {
            return;
        };
        let heir = parts.heirs.get_mut(&shard).expect("it was just found");
        let Stage::Loading { left } = parts.stage else { return };
        if heir.gone.generation != generation {
            return;
        }
        (heir.last, heir.due, heir.standing) = (last, due, standing);
        match left - 1 {
            0 => {
                self.records.extend(parts.inheriting());
                parts.become_stage(Stage::Inheriting { ticket });
            }
            left => parts.stage = Stage::Loading { left },
        }
    }

    /// All appends up to this ticket are synced: parts of which one says that they are replicas open.
    pub fn open_parts(&mut self, node: &Node) {
        let durable = self.durable;
        let opens = |(from, parts): (&ShardId, &Parts)| match parts.stage {
            Stage::Inheriting { ticket } if ticket <= durable => Some(*from),
            _ => None,
        };
        for from in Vec::from_iter(self.parts.iter().filter_map(opens)) {
            let parts = self.parts.remove(&from).expect("parts that open are there");
            let at = parts.begins;
            for (shard, heir) in parts.heirs {
                let begun = Begun::inherit(&node.config, shard, &heir.seat, heir.made(), at);
                let begun = begun.expect("a log of one record contradicts nothing");
                tracing::info!(%shard, %from, epoch = %heir.seat.view.epoch, %at, "a part of a shard has opened");
                let replica =
                    Replica { standing: heir.standing, ..Replica::new(shard, begun, at, heir.last) };
                self.begin_replica(replica, false);
                if let Some(kept) = &parts.kept {
                    self.feeds.resume(shard, kept.within(heir.slots), node.now);
                }
                self.expiries.set(shard, heir.due);
                self.greet_members(node, shard, &heir.seat.view);
            }
            self.has_news = true;
            // Their keyspace may have been dropped since.
            if !node.config.map.shards.contains_key(&from) {
                self.drop_unwanted(node);
            }
        }
    }

    /// What a checkpoint must keep of parts.
    pub fn keep_parts(&self) -> Vec<wal::Record> {
        let keep = |parts: &Parts| match parts.stage {
            Stage::Inheriting { .. } => parts.inheriting(),
            _ => parts.heirs.iter().map(|(shard, heir)| record::gone(*shard, &heir.gone)).collect(),
        };
        self.parts.values().flat_map(keep).collect()
    }
}
