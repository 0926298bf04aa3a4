//! Which checkpoint is under way, what it gives back, and when the next one is worth it.

use mutant::Mutant;
use replication::Instant;
use wal::{Log, Position};

use super::Settings;

/// A checkpoint that did not find room is tried again so often: each try writes what room there is.
const RETRY_MICROS: u64 = 2_000_000;

/// A core's part of the checkpoint under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It has not begun.
    Awaited,
    Begun,
    Complete,
    Failed,
}

/// The checkpoints of a log: one at a time, each with a part a core.
pub(super) struct Checkpoints {
    settings: Settings,
    cores: usize,
    /// The parts of the one that was asked for and has not ended, by core. Empty = there is none.
    parts: Vec<Part>,
    /// Where the log's head was when the first part of the one under way began. Of every core, everything before it is in the
    /// table when all parts are complete, and everything that is not lies behind it.
    mark: Option<Position>,
    /// The append that the last part began with, as the log counts; 0 = none.
    ticket: u64,
    /// One was wanted since the last one was asked for.
    wanted: bool,
    /// The log is long enough for the next one when it has so many bytes.
    at_bytes: u64,
    /// The last one did not find room.
    no_room: bool,
    /// When the last one was asked for.
    asked: Instant,
}

impl Checkpoints {
    pub fn new(settings: Settings, cores: usize, now: Instant) -> Checkpoints {
        Checkpoints {
            at_bytes: settings.checkpoint_bytes,
            settings,
            cores,
            parts: Vec::new(),
            mark: None,
            ticket: 0,
            wanted: false,
            no_room: false,
            asked: now,
        }
    }

    pub fn is_under_way(&self) -> bool {
        !self.parts.is_empty()
    }

    pub fn lack_room(&self) -> bool {
        self.no_room
    }

    /// Asks for one when it is worth it: true = now.
    pub fn ask(&mut self, log: &Log, now: Instant) -> bool {
        let long = !self.no_room && (self.wanted || log.bytes_live() >= self.at_bytes);
        let early = self.is_early(log) && now.since(self.asked) >= RETRY_MICROS;
        if self.is_under_way() || !(long || early) {
            return false;
        }
        self.parts = vec![Part::Awaited; self.cores];
        (self.wanted, self.asked) = (false, now);
        true
    }

    /// One is to be made, after the one under way.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A core's part begins with this append, at this head. A node that stops makes one that nobody asked for here; a core that
    /// was done with its part by then makes another one.
    pub fn begin(&mut self, core: usize, ticket: u64, head: Position) {
        if self.parts.is_empty() {
            self.parts = vec![Part::Awaited; self.cores];
        }
        let before = std::mem::replace(&mut self.parts[core], Part::Begun);
        assert_ne!(before, Part::Begun, "a part begins when the one before it has ended");
        self.mark.get_or_insert(head);
        self.ticket = ticket;
    }

    /// A core's part is complete: when those of all are, what lies before the checkpoint goes.
    pub fn succeed(&mut self, core: usize, log: &mut Log) {
        if let Some(mark) = self.mark.filter(|_| mutant::is(Mutant::CheckpointOfOneCore)) {
            log.release(mark);
        }
        self.end(core, Part::Complete, log);
    }

    /// A core's part did not find room: what lies before the checkpoint is needed still.
    pub fn fail(&mut self, core: usize, log: &mut Log) {
        self.end(core, Part::Failed, log);
    }

    fn end(&mut self, core: usize, how: Part, log: &mut Log) {
        let part = self.parts.get_mut(core).filter(|part| **part == Part::Begun);
        *part.expect("a part ends after it has begun") = how;
        if self.parts.iter().any(|part| matches!(part, Part::Awaited | Part::Begun)) {
            return;
        }
        let parts = std::mem::take(&mut self.parts);
        let mark = self.mark.take().expect("a checkpoint ends after it has begun");
        if parts.contains(&Part::Failed) {
            if mutant::is(Mutant::FailedCheckpointReleased) {
                log.release(mark);
            }
            self.no_room = true;
            return;
        }
        log.release(if mutant::is(Mutant::ReleasePastCheckpoint) { log.head() } else { mark });
        self.no_room &= mutant::is(Mutant::FullDiskNeverPasses);
        self.at_bytes = log.bytes_live() + self.settings.checkpoint_bytes;
    }

    /// When the next one may be worth it although nothing happens.
    pub fn due(&self, log: &Log) -> Option<Instant> {
        (!self.is_under_way() && self.is_early(log)).then(|| self.asked.plus(RETRY_MICROS))
    }

    /// On a full disk an early one may make the room that is missing. Not while the records of the last one wait to be written:
    /// each more would wait beside them, and none could be complete before the log can grow.
    fn is_early(&self, log: &Log) -> bool {
        let worth_it = log.is_full() && log.bytes_live() >= self.settings.checkpoint_early_bytes;
        (self.no_room || worth_it) && self.ticket <= log.durable()
    }
}
