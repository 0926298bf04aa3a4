//! Reads: one key and several; now or as of a version.

use std::cell::Cell;

use kv::{Answer, Error, Key, KeyAnswer, Op, Row, Version};

use mutant::Mutant;

use super::older::{Places, older};
use super::record::Record;
use super::{Clock, State, Stop};
use crate::engine::{EngineError, View};
use crate::keys::RowSet;

/// A version that is ahead of a reader's clock by more than this was never given out: clocks of nodes differ by less.
const SKEW_MICROS: u64 = 500_000;

/// All rows of one answer together: what an answer may hold in memory and on the wire. Two of the largest ops.
pub const ANSWER_BYTES_MAX: usize = 2 * kv::OP_BYTES_MAX;

/// Reads one copy of a shard.
pub struct Reader<'a> {
    pub rows: &'a dyn View,
    pub set: RowSet,
    pub state: &'a State,
    /// The clock of whoever asks.
    pub clock: Clock,
    /// Revisions that are kept of a key.
    pub keep: u64,
    /// How older revisions lie of which nothing else is said.
    pub usual: Places,
    /// Whether something was left out, or refused, by a clock that hides.
    pub hidden: Cell<bool>,
}

impl Reader<'_> {
    pub fn evaluate(&self, op: &Op) -> Result<Answer, Stop> {
        match op {
            Op::Get { key, at } => Ok(Answer::Row(self.row(key, self.moment(*at)?)?)),
            Op::GetAll { keys, at } => self.get_all(keys, *at),
            Op::Range(range) if range.ledger => Ok(Answer::Page(self.ledger(range)?)),
            Op::Range(range) => Ok(Answer::Page(self.range(range)?)),
            Op::History { key, limit, before } => self.history(key, *limit, *before),
            _ => Err(Error::Invalid("this op writes: it has to be ordered, not read".into()).into()),
        }
    }

    /// Checks a version to read at; `None` = the newest state.
    pub fn moment(&self, at: Option<Version>) -> Result<Option<Version>, Stop> {
        match (at, self.clock) {
            (Some(at), Clock::Orders(now)) if self.state.last < at && at <= now => {
                Err(Stop::NeedsAdvance(at))
            }
            (Some(at), clock) if self.state.last < at => {
                // It may have been given out already: whoever orders can raise the version, and this reader cannot; or by a node
                // whose clock is ahead of this one's.
                let is_near = |now: Version| at.micros() <= now.micros().saturating_add(SKEW_MICROS);
                if matches!(clock, Clock::Hides(now) | Clock::Orders(now) if is_near(now)) {
                    self.hidden.set(true);
                }
                let newest = match clock {
                    Clock::Orders(now) => now.max(self.state.last),
                    Clock::Shard | Clock::Hides(_) => self.state.last,
                };
                Err(Error::Future { asked: at, newest }.into())
            }
            _ => Ok(at),
        }
    }

    /// Whether the newest revision of a key is there for the reader; one whose deadline only the reader's clock has
    /// passed has to be expired by the shard first, or is left out.
    pub fn is_live(&self, record: &Record) -> Result<bool, Stop> {
        if !record.is_live_at(self.state.last) || self.outlives_a_later_ttl(record) {
            return Ok(false);
        }
        match self.clock {
            Clock::Orders(now) if record.is_expired_at(now) => Err(Stop::NeedsAdvance(now)),
            Clock::Hides(now) if record.is_expired_at(now) => {
                self.hidden.set(true);
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// No value does but in the mutant: the time to live is of what is stored after it.
    fn outlives_a_later_ttl(&self, record: &Record) -> bool {
        let ttl = self.state.rules.keep.ttl_micros.filter(|_| mutant::is(Mutant::TtlTakesOldValues));
        let is_over = |ttl| record.head.version.micros().saturating_add(ttl) <= self.state.last.micros();
        record.head.deadline.is_none() && ttl.is_some_and(is_over)
    }

    pub fn current(&self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        self.rows.get(&self.set.current(key))?.map(Record::decode).transpose()
    }

    /// The row of a key at a checked version.
    pub fn row(&self, key: &Key, at: Option<Version>) -> Result<Option<Row>, Stop> {
        let current = self.current(key)?;
        let Some(at) = at else {
            return match current {
                Some(record) if self.is_live(&record)? => Ok(Some(record.row(key))),
                _ => Ok(None),
            };
        };
        match current {
            Some(record) => Ok(self.as_of(key, record, at)?.map(|record| record.row(key))),
            None if at < self.state.floor => {
                Err(Error::Trimmed { asked: at, oldest: self.state.floor }.into())
            }
            None => Ok(None),
        }
    }

    /// The revision of a key that was there at a version, from its newest revision.
    pub fn as_of(&self, key: &[u8], current: Record, at: Version) -> Result<Option<Record>, Stop> {
        let found = if current.head.since() <= at {
            current
        } else {
            match self.older_at(key, &current.head, at)? {
                Some(record) => record,
                None => return self.before_all(key, current, at),
            }
        };
        Ok(found.is_live_at(at).then_some(found))
    }

    /// A version before all kept revisions: the key was absent then, or nobody knows.
    fn before_all(&self, key: &[u8], current: Record, at: Version) -> Result<Option<Record>, Stop> {
        if current.head.merged.is_some() {
            return self.before_all_merged(key, current, at);
        }
        let oldest = match current.head.kept {
            0 => current,
            _ => self.older(key, &current.head, older(&current.head).start)?,
        };
        let floor = self.state.floor;
        match oldest.head.first {
            false => Err(Error::Trimmed { asked: at, oldest: oldest.head.version }.into()),
            true if at < floor => Err(Error::Trimmed { asked: at, oldest: floor }.into()),
            true => Ok(None),
        }
    }

    fn get_all(&self, keys: &[Key], at: Option<Version>) -> Result<Answer, Stop> {
        let at = self.moment(at)?;
        let mut room = Room::new("the answer to a get-all (ask for fewer keys)");
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let result = match self.row(key, at) {
                Ok(row) => Ok(row),
                Err(Stop::Refused(error)) => Err(error),
                Err(stop) => return Err(stop),
            };
            if let Ok(Some(row)) = &result {
                room.take(row.key.len() + row.value.len())?;
            }
            answers.push(KeyAnswer { key: key.clone(), result });
        }
        Ok(Answer::Many(answers))
    }
}

/// What is left of the room for an answer.
pub struct Room {
    what: &'static str,
    used: usize,
}

impl Room {
    pub fn new(what: &'static str) -> Room {
        Room { what, used: 0 }
    }

    pub fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.used += bytes;
        if self.used > ANSWER_BYTES_MAX {
            let (size, limit) = (self.used as u64, ANSWER_BYTES_MAX as u64);
            return Err(Error::TooLarge { what: self.what.into(), size, limit });
        }
        Ok(())
    }
}
