//! Replicas that are astray: the operator had another one order that was not in sync, and what is here may have gone another way.
//!
//! Such a replica serves nobody. Whoever watches here goes on elsewhere at once, and nothing of what changed here is kept for watches.
//! What it has and the shard has not is brought to the shard's ledger ([`kv::ledger`]): then it asks to begin anew, and the map gives
//! it another number. So it is dropped and made again, as any ([`super::hosting`]).
//!
//! ```text
//!   looks ── the ledger knows from where on ──▶ scans ◀──────────┐
//!     ▲                                           │ a piece      │
//!     │◀──────── not known to be written ──── brings ────────────┤
//!     └── all is written already ──▶ released ◀── it was the last
//! ```
//!
//! A piece counts once, by how many were told before it: so after a crash it begins again, and after an answer in doubt the ledger
//! says whether the piece is there.

use std::collections::VecDeque;

use kv::ledger::{Line, Lost, Note, Orphans};
use kv::view::Duty;
use kv::{Answer, Charge, Error, Op, Range, Reply, ShardId, Version};
use replication::{Input, Instant};
use storage::{Looked, Orphaned};

use super::Work;
use super::core::Core;
use super::open::{Client, Part};
use super::replica::Replica;
use crate::job::Job;
use crate::node::Node;

/// What it asks of who orders may take so long: longer than an election.
const REQUEST_MICROS: u64 = 5_000_000;
/// What was not answered, or cannot be done yet, is tried again after this.
const RETRY_MICROS: u64 = 200_000;
/// Writes that are brought at once.
const PIECE_ROWS_MAX: usize = 512;
/// Bytes of them, unless a single one is larger.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Lines of the ledger that are looked at: as many as a shard has members stand first.
const LINES: u32 = kv::keyspace::REPLICAS_MAX as u32 + 1;

/// How far what a replica has is told.
#[derive(Debug)]
pub(super) struct Handover {
    stage: Stage,
    /// Of the last question.
    number: u64,
    /// What is above this version is not in the shard.
    base: Version,
    /// So many writes are told.
    told: u64,
    /// Found, and not told.
    found: VecDeque<Lost>,
    skipped: u64,
    /// So far its rows were looked at; all of them.
    after: Option<Looked>,
    is_all: bool,
    /// What is being told, or may have been.
    piece: Option<Orphans>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until then.
    Waits(Instant),
    /// It reads the ledger.
    Looks,
    /// It looks for what is not told.
    Scans,
    /// It tells a piece.
    Brings,
    /// All is told.
    Over,
}

impl Handover {
    fn new(now: Instant) -> Handover {
        let (stage, found) = (Stage::Waits(now), VecDeque::new());
        let (number, base, told, skipped, after, is_all, piece) = Default::default();
        Handover { stage, number, base, told, found, skipped, after, is_all, piece }
    }

    /// Begins again, with what is above a version.
    fn begin(&mut self, base: Version) {
        *self = Handover { number: self.number, base, ..Handover::new(Instant::default()) };
    }

    /// The piece that was being told is written.
    fn written(&mut self) {
        if let Some(piece) = self.piece.take() {
            self.told += piece.rows.len() as u64;
        }
    }

    /// The next piece, if there is one.
    fn next_piece(&mut self, replica: &Replica, node: &Node) -> Option<Orphans> {
        if self.piece.is_none() && (self.is_all || !self.found.is_empty()) {
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while let Some(lost) = self.found.front()
                && rows.len() < PIECE_ROWS_MAX
                && (rows.is_empty() || bytes + lost.bytes() <= PIECE_BYTES_MAX)
            {
                bytes += lost.bytes();
                rows.extend(self.found.pop_front());
            }
            let is_end = self.is_all && self.found.is_empty();
            let skipped = std::mem::take(&mut self.skipped);
            let (from, offset, last) = (replica.made.number, self.told, replica.last);
            self.piece = Some(Orphans { from, node: node.config.me, offset, rows, skipped, last, is_end });
        }
        self.piece.clone()
    }
}

impl Core {
    /// Notes which replicas have gone astray, and goes on with telling what they have.
    pub fn tend_astray(&mut self, node: &Node) {
        let is_new = |shard: &&ShardId| {
            !self.astray.contains_key(shard) && self.replicas.get(shard).is_some_and(Replica::is_astray)
        };
        for shard in Vec::from_iter(self.touched.iter().filter(is_new).copied()) {
            tracing::warn!(%shard, "another replica of a shard was made to order by force: the one here tells what only it has, and begins anew");
            self.astray.insert(shard, Handover::new(node.now));
            self.forget_pulls(node, shard);
        }
        for (shard, number, result) in std::mem::take(&mut self.astray_answers) {
            self.astray_answered(node, shard, number, result);
        }
        let is_due = |(_, handover): &(&ShardId, &Handover)| matches!(handover.stage, Stage::Waits(at) if at <= node.now);
        for shard in Vec::from_iter(self.astray.iter().filter(is_due).map(|(shard, _)| *shard)) {
            self.look_at_ledger(node, shard);
        }
        self.settle(node);
    }

    fn ask_astray(&mut self, node: &Node, shard: ShardId, stage: Stage, op: Op) {
        let Some(handover) = self.astray.get_mut(&shard) else { return };
        (handover.stage, handover.number) = (stage, handover.number + 1);
        let client = Client::Astray(shard, handover.number);
        let (level, id, timeout_micros, charge) = (None, None, REQUEST_MICROS, Charge::default());
        let part = Part { shard, op, level, id, timeout_micros, charge, in_doubt: false, here: false };
        self.take_part(node, client, part);
    }

    /// Asks from where on what is here is not in the shard, once all that the log here holds is in the table.
    fn look_at_ledger(&mut self, node: &Node, shard: ShardId) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        let status = replica.protocol.status();
        if status.applied < status.last || replica.install.is_some() {
            return self.wait_astray(node, shard);
        }
        let range = Range { ledger: true, limit: LINES, ..Range::default() };
        self.ask_astray(node, shard, Stage::Looks, Op::Range(range));
    }

    fn wait_astray(&mut self, node: &Node, shard: ShardId) {
        if let Some(handover) = self.astray.get_mut(&shard) {
            handover.stage = Stage::Waits(node.now.plus(RETRY_MICROS));
        }
    }

    fn astray_answered(&mut self, node: &Node, shard: ShardId, number: u64, result: Result<Reply, Error>) {
        let Some(handover) = self.astray.get_mut(&shard).filter(|handover| handover.number == number) else {
            return;
        };
        match (handover.stage, result.map(|reply| reply.answer)) {
            (Stage::Looks, Ok(Answer::Page(page))) => {
                let lines = page.rows.iter().filter_map(|row| Line::decode(&row.value).ok());
                self.has_looked(node, shard, Vec::from_iter(lines));
            }
            (Stage::Brings, Ok(_)) => {
                let is_end = handover.piece.as_ref().is_some_and(|piece| piece.is_end);
                handover.written();
                if is_end { self.release(shard) } else { self.bring(node, shard) }
            }
            (_, result) => {
                tracing::debug!(%shard, ?result, "what a replica that is astray asked");
                self.wait_astray(node, shard);
            }
        }
    }

    /// The ledger says how far this replica is.
    fn has_looked(&mut self, node: &Node, shard: ShardId, lines: Vec<Line>) {
        let Some(own) = self.replicas.get(&shard).map(|replica| replica.made.number) else { return };
        let Some(handover) = self.astray.get_mut(&shard) else { return };
        let known = lines.into_iter().find_map(|line| match line {
            Line::Astray { replica, base, told, is_done, .. } if replica == own => {
                Some((base, told, is_done))
            }
            _ => None,
        });
        // Who orders has not opened its term yet.
        let Some((base, told, is_done)) = known else { return self.wait_astray(node, shard) };
        if is_done {
            return self.release(shard);
        }
        let brought = handover.piece.as_ref().map(|piece| piece.rows.len() as u64);
        match brought {
            Some(rows) if rows > 0 && base == handover.base && told == handover.told + rows => {
                handover.written()
            }
            Some(_) if base == handover.base && told == handover.told => {}
            _ => handover.begin(base),
        }
        self.bring(node, shard);
    }

    /// Tells the next piece, or looks for one.
    fn bring(&mut self, node: &Node, shard: ShardId) {
        let (Some(handover), Some(replica)) = (self.astray.get_mut(&shard), self.replicas.get(&shard)) else {
            return;
        };
        if let Some(piece) = handover.next_piece(replica, node) {
            return self.ask_astray(node, shard, Stage::Brings, Op::Note(Note::Orphans(piece)));
        }
        (handover.stage, handover.number) = (Stage::Scans, handover.number + 1);
        let (number, base, after) = (handover.number, handover.base, handover.after.clone());
        self.work.push(Work::Run(Job::Orphaned { shard, number, base, after }));
    }

    /// The table has looked for more.
    pub fn orphaned(&mut self, node: &Node, shard: ShardId, number: u64, found: Orphaned) {
        let Some(handover) = self.astray.get_mut(&shard).filter(|handover| handover.number == number) else {
            return;
        };
        let Orphaned { rows, skipped, next } = found;
        handover.found.extend(rows);
        handover.skipped += skipped;
        (handover.is_all, handover.after) = (next.is_none(), next);
        self.bring(node, shard);
    }

    /// All is told: the replica may begin anew.
    fn release(&mut self, shard: ShardId) {
        if let Some(handover) = self.astray.get_mut(&shard) {
            handover.stage = Stage::Over;
            tracing::info!(%shard, told = handover.told, "what only this replica had is in the ledger: it begins anew");
        }
        self.give(shard, Input::Released);
    }
}

impl Replica {
    /// Whether another one was made to order that was not in sync.
    pub fn is_astray(&self) -> bool {
        self.view().replica(self.made.number).is_some_and(|member| member.duty == Duty::Astray)
    }
}
