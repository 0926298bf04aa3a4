//! The owner of a node's log: what the drivers append goes to the log, and what follows from it comes back.
//!
//! It decides when a checkpoint is worth it and what a checkpoint gives back, when the disk counts as full and when it is tried
//! again, and what may be called durable. It has no thread, no file and no clock: the server drives it from the log's thread
//! over files, the simulator over a disk in memory.
//!
//! ```text
//!   drivers ── Append, Release, CheckpointFailed ──▶ Owner::take ──▶ wal::Log ──▶ Disk
//!   engine  ── CheckpointNow ─────────────────────▶     │
//!   drivers ◀── Durable, DiskFull, Checkpoint ─── Owner::turn ◀── completions
//! ```
//!
//! The drivers of all cores of a node share its log. Each counts its own appends, and hears of those that are durable; a full
//! disk and a checkpoint are for all of them.
//!
//! Whoever drives it gives it requests ([`Owner::take`]), then a turn ([`Owner::turn`]), and carries the turn's [`Report`] out;
//! then it waits for requests, for the disk, or until [`Owner::due`].
//!
//! # Guarantees
//!
//! - What is called durable is synced, with everything before it. After a sync that failed nothing is called durable any more:
//!   the turn fails, and the process has to end.
//! - What lies behind the mark of a checkpoint is never given away by it: the mark is where the log's head was when the first
//!   core began its part. Nothing is given away before all cores have completed theirs. A checkpoint of which a part failed
//!   gives nothing away.
//! - The disk counts as full when the log cannot grow, and as soon as a checkpoint did not find room: a log that went on growing
//!   would take the very space that the next checkpoint needs to shorten it. It counts as full until the log can grow and a
//!   checkpoint has succeeded. A file that cannot be opened for want of file descriptors counts like that as well.
//! - While the disk is full, the tries add no more to what waits for it than one checkpoint does.
//!
//! # Caveats
//!
//! What is appended while the disk is full waits in memory: the driver takes no new writes then, and bounds what is not durable.

mod checkpoints;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use mutant::Mutant;
use replication::Instant;
use wal::{Disk, DiskError, Fatal, Log, Operation, Record};

use crate::Input;
use checkpoints::Checkpoints;

/// A full disk is tried again so often.
const RETRY_MICROS: u64 = 200_000;
/// While a checkpoint is under way it is tried again this seldom: the two would take the room from each other.
const RETRY_BESIDE_CHECKPOINT_MICROS: u64 = 5_000_000;

/// The log grows by so many bytes before a checkpoint, unless it is said otherwise.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;

/// When checkpoints are worth it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The table is flushed and old segments go when the log has grown by so many bytes: it bounds what a start must replay.
    pub checkpoint_bytes: u64,
    /// When the disk is full, a log of so many bytes is worth a checkpoint: it gives back a segment at least.
    pub checkpoint_early_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { checkpoint_bytes: CHECKPOINT_BYTES, checkpoint_early_bytes: CHECKPOINT_BYTES / 2 }
    }
}

/// What the owner of the log is asked.
#[derive(Debug)]
pub enum Request {
    /// Append these records in one batch, then report the ticket durable ([`crate::Work::Append`]).
    Append {
        /// The core whose driver appends.
        core: usize,
        /// Rises by one per append of the core, from 1.
        ticket: u64,
        /// The records.
        records: Vec<Record>,
        /// The core's part of a checkpoint begins with this append.
        checkpoint: bool,
    },
    /// The core's part of the checkpoint is complete: when those of all are, what lies before its beginning may go.
    Release {
        /// The core.
        core: usize,
    },
    /// The core's part of the checkpoint failed: nothing may go.
    CheckpointFailed {
        /// The core.
        core: usize,
    },
    /// The table holds much that is not flushed: make a checkpoint, however short the log is.
    CheckpointNow,
    /// Write what is queued; take no appends any more. Ends in [`Owner::is_finished`].
    Finish,
}

/// What followed from a turn, to be carried out in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The log holds something for the first time in this process: to be noted in the data folder before anyone hears that
    /// something is durable, so that a log that is lost is not taken for one that never was.
    pub begun: bool,
    /// A core, and the ticket up to which all its appends are durable; of each core at most once.
    pub durable: Vec<(usize, u64)>,
    /// The disk counts as full from now on, or no longer.
    pub full: Option<bool>,
    /// A checkpoint is to be made.
    pub checkpoint: bool,
}

impl Report {
    /// What the driver of a core is told of it.
    pub fn inputs(&self, core: usize) -> impl Iterator<Item = Input> + use<> {
        let own = self.durable.iter().find(|(of, _)| *of == core);
        let durable = own.map(|&(_, ticket)| Input::Durable { ticket });
        let full = self.full.map(Input::DiskFull);
        let checkpoint = self.checkpoint.then_some(Input::Checkpoint);
        durable.into_iter().chain(full).chain(checkpoint)
    }
}

/// The owner of a log.
pub struct Owner {
    log: Log,
    checkpoints: Checkpoints,
    /// The last ticket of each core; 0 = none.
    tickets: Vec<u64>,
    /// What was appended and not reported durable, in the log's order: the core, and its ticket.
    waiting: VecDeque<(usize, u64)>,
    /// The last append, as the log counts; 0 = none.
    appended: u64,
    /// The last one that was reported durable, likewise.
    durable: u64,
    /// It was reported that the log has begun.
    begun: bool,
    /// Whether the disk was reported full.
    full: bool,
    /// When a full disk was last tried, or when it last was not full.
    tried: Instant,
    finishing: bool,
}

impl Owner {
    /// Of a log that was just opened, for so many cores. One that is long from an earlier life gets its checkpoint at once: it
    /// must not grow from start to start.
    pub fn new(log: Log, settings: Settings, cores: usize, now: Instant) -> Owner {
        Owner {
            log,
            checkpoints: Checkpoints::new(settings, cores, now),
            tickets: vec![0; cores],
            waiting: VecDeque::new(),
            appended: 0,
            durable: 0,
            begun: false,
            full: false,
            tried: now,
            finishing: false,
        }
    }

    /// Takes a request; what follows from it comes with the next turn.
    ///
    /// # Panics
    /// When the tickets of appends do not rise by one, or a checkpoint ends that has not begun.
    pub fn take(&mut self, request: Request) {
        match request {
            Request::Append { .. } if self.finishing => {}
            Request::Append { core, ticket, records, checkpoint } => {
                let last = std::mem::replace(&mut self.tickets[core], ticket);
                assert_eq!(ticket, last + 1, "tickets rise by one");
                let head = self.log.head();
                self.appended = self.log.append(records);
                self.waiting.push_back((core, ticket));
                assert_eq!(
                    self.appended,
                    self.durable + self.waiting.len() as u64,
                    "the log counts appends as they come"
                );
                if checkpoint {
                    self.checkpoints.begin(core, self.appended, head);
                }
                tracing::trace!("records are queued");
            }
            Request::Release { core } => self.checkpoints.succeed(core, &mut self.log),
            // What it began with came after the finish and was not taken, or nothing would follow from it any more.
            Request::CheckpointFailed { .. } if self.finishing => {}
            Request::CheckpointFailed { core } => self.checkpoints.fail(core, &mut self.log),
            Request::CheckpointNow => self.checkpoints.want(),
            Request::Finish => self.finishing = true,
        }
    }

    /// Drives the log as far as the disk lets it. To be called after requests, when the disk has completed something, and when
    /// it is [due](Owner::due). On an error the process must end: nobody knows what the disk kept.
    pub fn turn(&mut self, disk: &mut dyn Disk, now: Instant) -> Result<Report, Fatal> {
        self.retry(now);
        let turned = self.log.turn(disk);
        let durable = match turned {
            Err(Fatal { operation: Operation::Sync, .. }) if mutant::is(Mutant::FailedSyncAcknowledged) => {
                self.appended
            }
            turned => turned.map(|()| self.log.durable())?,
        };
        assert!(self.durable <= durable, "what was durable stays it");
        assert!(durable <= self.appended, "only what was appended is durable");
        let mut report = Report::default();
        if durable > self.durable {
            report.durable = self.take_durable(durable);
            tracing::trace!("what is durable is reported");
            // An append of nothing is durable without a log.
            report.begun = !self.begun && self.log.bytes_live() > 0;
            self.begun |= report.begun;
        }
        if self.is_full() != self.full {
            self.full = !self.full;
            report.full = Some(self.full);
        }
        report.checkpoint = !self.finishing && self.checkpoints.ask(&self.log, now);
        Ok(report)
    }

    /// What waited for the log to reach `durable`, as each core counts.
    fn take_durable(&mut self, durable: u64) -> Vec<(usize, u64)> {
        let count = durable - std::mem::replace(&mut self.durable, durable);
        let mut cores: Vec<(usize, u64)> = Vec::new();
        for (core, ticket) in self.waiting.drain(..count as usize) {
            match cores.iter_mut().find(|(of, _)| *of == core) {
                Some((_, last)) => *last = ticket,
                None => cores.push((core, ticket)),
            }
        }
        cores
    }

    /// When it wants a turn although nothing has happened, if so. It may be over already.
    pub fn due(&self) -> Option<Instant> {
        let retry = self.log.is_full().then(|| self.tried.plus(self.retry_micros()));
        [retry, self.checkpoints.due(&self.log)].into_iter().flatten().min()
    }

    /// What keeps the log from growing; [`DiskError::Full`] when it is a checkpoint that did not find room.
    pub fn refusal(&self) -> &DiskError {
        self.log.refusal().unwrap_or(&DiskError::Full)
    }

    /// Whether the disk counts as full.
    pub fn is_full(&self) -> bool {
        self.log.is_full() || self.checkpoints.lack_room()
    }

    /// After [`Request::Finish`]: what was queued is written, or there is no room to write it.
    pub fn is_finished(&self) -> bool {
        self.finishing && (self.log.is_idle() || self.log.is_full())
    }

    fn retry(&mut self, now: Instant) {
        if !self.log.is_full() {
            self.tried = now;
        } else if now.since(self.tried) >= self.retry_micros() {
            self.tried = now;
            self.log.retry();
        }
    }

    fn retry_micros(&self) -> u64 {
        match self.checkpoints.is_under_way() {
            true => RETRY_BESIDE_CHECKPOINT_MICROS,
            false => RETRY_MICROS,
        }
    }
}
