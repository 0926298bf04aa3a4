//! Which checkpoint is under way, what it gives back, and when the next one is worth it.

use mutant::Mutant;
use replication::Instant;
use wal::{Log, Position};

use super::Settings;

/// A checkpoint that did not find room is tried again so often: each try writes what room there is.
const RETRY_MICROS: u64 = 2_000_000;

/// The checkpoints of a log: one at a time.
pub(super) struct Checkpoints {
    settings: Settings,
    /// One was asked for and has not ended.
    under_way: bool,
    /// Where the log's head was when the one under way began. Everything before it is in the table when the checkpoint is
    /// complete, everything that is not lies behind it.
    mark: Option<Position>,
    /// The append that the last one began with; 0 = none.
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
    pub fn new(settings: Settings, now: Instant) -> Checkpoints {
        Checkpoints {
            at_bytes: settings.checkpoint_bytes,
            settings,
            under_way: false,
            mark: None,
            ticket: 0,
            wanted: false,
            no_room: false,
            asked: now,
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    pub fn lack_room(&self) -> bool {
        self.no_room
    }

    /// Asks for one when it is worth it: true = now.
    pub fn ask(&mut self, log: &Log, now: Instant) -> bool {
        let long = !self.no_room && (self.wanted || log.bytes_live() >= self.at_bytes);
        let early = self.is_early(log) && now.since(self.asked) >= RETRY_MICROS;
        if self.under_way || !(long || early) {
            return false;
        }
        (self.under_way, self.wanted, self.asked) = (true, false, now);
        true
    }

    /// One is to be made, after the one under way.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// It begins with this append, at this head. A node that stops makes one that nobody asked for here.
    pub fn begin(&mut self, ticket: u64, head: Position) {
        assert!(self.mark.is_none(), "a checkpoint begins when the one before it has ended");
        (self.under_way, self.mark, self.ticket) = (true, Some(head), ticket);
    }

    /// It is complete: what lies before it goes.
    pub fn succeed(&mut self, log: &mut Log) {
        let mark = self.mark.take().expect("a checkpoint is complete after it has begun");
        log.release(if mutant::is(Mutant::ReleasePastCheckpoint) { log.head() } else { mark });
        self.under_way = false;
        self.no_room &= mutant::is(Mutant::FullDiskNeverPasses);
        self.at_bytes = log.bytes_live() + self.settings.checkpoint_bytes;
    }

    /// It did not find room: what lies before it is needed still.
    pub fn fail(&mut self, log: &mut Log) {
        let mark = self.mark.take();
        if mutant::is(Mutant::FailedCheckpointReleased) {
            mark.into_iter().for_each(|mark| log.release(mark));
        }
        (self.under_way, self.no_room) = (false, true);
    }

    /// When the next one may be worth it although nothing happens.
    pub fn due(&self, log: &Log) -> Option<Instant> {
        (!self.under_way && self.is_early(log)).then(|| self.asked.plus(RETRY_MICROS))
    }

    /// On a full disk an early one may make the room that is missing. Not while the records of the last one wait to be written:
    /// each more would wait beside them, and none could be complete before the log can grow.
    fn is_early(&self, log: &Log) -> bool {
        let worth_it = log.is_full() && log.bytes_live() >= self.settings.checkpoint_early_bytes;
        (self.no_room || worth_it) && self.ticket <= log.durable()
    }
}
