//! Reads: one key, several, and the history of one; now or as of a version.

use kv::{Answer, Error, Key, KeyAnswer, Op, PAGE_ROWS_MAX, Revision, Row, Version};

use super::keys::RowSet;
use super::older::older;
use super::record::Record;
use super::{State, Stop, expiry};
use crate::engine::{EngineError, View};

/// All rows of one answer together: what an answer may hold in memory and on the wire. Two of the largest ops.
pub const ANSWER_BYTES_MAX: usize = 2 * kv::OP_BYTES_MAX;

/// Reads one copy of a shard.
pub struct Reader<'a> {
    pub rows: &'a dyn View,
    pub set: RowSet,
    pub state: &'a State,
    /// The clock of whoever asks, when the answer must count it.
    pub now: Option<Version>,
    /// Revisions that are kept of a key.
    pub keep: u64,
}

impl Reader<'_> {
    pub fn evaluate(&self, op: &Op) -> Result<Answer, Stop> {
        match op {
            Op::Get { key, at } => Ok(Answer::Row(self.row(key, self.moment(*at)?)?)),
            Op::GetAll { keys, at } => self.get_all(keys, *at),
            Op::Range(range) => Ok(Answer::Page(self.range(range)?)),
            Op::History { key, limit } => self.history(key, *limit),
            _ => Err(Error::Invalid("this op writes: it has to be ordered, not read".into()).into()),
        }
    }

    /// Checks a version to read at; `None` = the newest state.
    pub fn moment(&self, at: Option<Version>) -> Result<Option<Version>, Stop> {
        match (at, self.now) {
            (Some(at), Some(now)) if self.state.last < at && at <= now => Err(Stop::NeedsAdvance(at)),
            (Some(at), now) if self.state.last < at => {
                let newest = now.unwrap_or_default().max(self.state.last);
                Err(Error::Future { asked: at, newest }.into())
            }
            _ => Ok(at),
        }
    }

    /// Whether the newest revision of a key is there for the reader; one whose deadline only the reader's clock has
    /// passed has to be expired by the shard first.
    pub fn is_live(&self, record: &Record) -> Result<bool, Stop> {
        let live = record.is_live_at(self.state.last);
        match self.now {
            Some(now) if live && record.is_expired_at(now) => Err(Stop::NeedsAdvance(now)),
            _ => Ok(live),
        }
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
        let found = if current.head.version <= at {
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
        let oldest = match current.head.kept {
            0 => current,
            _ => self.older(key, older(&current.head).start)?,
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

    fn history(&self, key: &Key, limit: u32) -> Result<Answer, Stop> {
        let limit = if limit == 0 { u64::MAX } else { u64::from(limit) };
        let mut found = Revisions::new(limit.min(self.keep));
        let Some(current) = self.current(key)? else { return Ok(Answer::History(found.list)) };
        if !self.is_live(&current)? && !current.head.tombstone {
            // Expired, and not yet removed: it shows as it will once it is.
            if self.keep == 1 {
                return Ok(Answer::History(found.list));
            }
            found.list.push(Revision { version: expiry::version_of(&current.head), value: None });
        }
        let ordinals = older(&current.head);
        found.add(current)?;
        for ordinal in ordinals.rev() {
            if found.is_full() {
                break;
            }
            found.add(self.older(key, ordinal)?)?;
        }
        Ok(Answer::History(found.list))
    }
}

/// Revisions of a key, up to so many.
struct Revisions {
    list: Vec<Revision>,
    limit: u64,
    room: Room,
}

impl Revisions {
    fn new(limit: u64) -> Revisions {
        Revisions {
            list: Vec::new(),
            limit,
            room: Room::new("the history of the key (ask for fewer revisions)"),
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() as u64 >= self.limit
    }

    fn add(&mut self, record: Record) -> Result<(), Stop> {
        if !self.is_full() {
            self.room.take(record.raw.len())?;
            if self.list.len() >= PAGE_ROWS_MAX {
                let (size, limit) = (self.list.len() as u64 + 1, PAGE_ROWS_MAX as u64);
                let what = "the number of revisions (ask for fewer)".into();
                return Err(Error::TooLarge { what, size, limit }.into());
            }
            let value = (!record.head.tombstone).then(|| record.value());
            self.list.push(Revision { version: record.head.version, value });
        }
        Ok(())
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
