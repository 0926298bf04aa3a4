//! Writes of single keys: how a revision becomes the newest, and what becomes of those before it.
//!
//! Every write of one op has the op's version. A key that is written twice in a transaction changes once.

use std::cell::Cell;

use bytes::Bytes;
use kv::watch::{Change, What};
use kv::{Answer, Class, Error, Key, Op, Version};
use mutant::Mutant;

use super::expiry::Deadlines;
use super::layout::Layout;
use super::merged::{self, Buckets};
use super::older::Places;
use super::read::Reader;
use super::record::{Head, Record};
use super::{Clock, History, State, Stop, expiry, older};
use crate::engine::{EngineError, View};
use crate::fresh::Fresh;
use crate::keys::RowSet;

/// Evaluates one op on one copy of a shard.
pub struct Writer<'a> {
    pub fresh: &'a mut Fresh,
    pub set: RowSet,
    /// `last` is the version of the op already.
    pub state: &'a mut State,
    pub deadlines: &'a mut Deadlines,
    /// In the merged layout, what tells in which keys two copies differ.
    pub buckets: &'a mut Buckets,
    /// Revisions that are kept of a key.
    pub history: History,
    /// How older revisions lie of which nothing else is said.
    pub usual: Places,
    /// How long those of a deleted key are kept; `u64::MAX` = for ever.
    pub deleted_micros: u64,
    /// What one step of a delete-range or trim takes.
    pub step_max: usize,
    /// What the entry has changed so far, for those who watch.
    pub changes: &'a mut Vec<Change>,
    /// What the rows were before, newest change last; only within a transaction.
    pub undo: Option<Vec<(Bytes, Option<Bytes>)>>,
}

impl Writer<'_> {
    pub fn evaluate(&mut self, op: &Op) -> Result<Answer, Stop> {
        if op.class() != Class::Read && self.state.layout == Layout::Merged {
            return self.evaluate_merged(op);
        }
        match op {
            Op::Get { .. } | Op::GetAll { .. } | Op::Range(_) | Op::History { .. } => {
                self.reader().evaluate(op)
            }
            Op::Put { key, value, deadline, previous } => {
                let old = self.current(key)?;
                let before =
                    old.as_ref().filter(|old| *previous && !old.head.tombstone).map(|old| old.row(key));
                self.store(key, old, &[value], self.deadline(*deadline))?;
                Ok(Answer::Put { previous: before })
            }
            Op::PutAll { rows } => self.put_all(rows),
            Op::Delete { key, previous } => {
                let old = self.current(key)?.filter(|old| !old.head.tombstone);
                let (count, before) =
                    (old.is_some().into(), old.as_ref().filter(|_| *previous).map(|old| old.row(key)));
                if let Some(old) = old {
                    self.bury(key, old, self.version())?;
                }
                Ok(Answer::Deleted { count, previous: before, next: None })
            }
            Op::DeleteRange { from, to } => self.delete_range(from, to.as_ref()),
            Op::Trim { key, below } => Ok(self.trim(key, *below)?),
            Op::TrimRange { from, to, below } => Ok(self.trim_range(from, to.as_ref(), *below)?),
            Op::Expire { key, deadline } => self.expire(key, *deadline),
            Op::Update { key, function } => self.update(key, function),
            Op::Transaction { conditions, then, otherwise } => self.transaction(conditions, then, otherwise),
            // What it is there for, raising `last`, was done when the op got its version.
            Op::Advance { .. } => Ok(Answer::Trimmed { count: 0, next: None }),
            Op::Merge { .. } | Op::Collect { .. } => Err(merged::refused(self.state.layout)),
            Op::Note(_) => unreachable!("a note is taken before it comes here"),
        }
    }

    pub fn version(&self) -> Version {
        self.state.last
    }

    pub fn reader(&self) -> Reader<'_> {
        Reader {
            rows: &*self.fresh,
            set: self.set,
            state: self.state,
            clock: Clock::Shard,
            keep: self.history.keep(),
            usual: self.usual,
            hidden: Cell::new(false),
        }
    }

    /// The newest revision of a key. One that has expired is removed first, so what is found is live or a tombstone.
    pub fn current(&mut self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        match self.newest(key)? {
            Some(record) if !record.head.tombstone && record.is_expired_at(self.version()) => {
                let version = expiry::version_of(&record.head);
                self.bury(key, record, version)
            }
            found => Ok(found),
        }
    }

    /// The newest revision of a key as it is stored, in a buffer of its own: it may become an older one as it is.
    pub fn newest(&self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        self.fresh.get_own(&self.set.current(key))?.map(Record::decode).transpose()
    }

    /// Makes a value, given in pieces, the newest revision. A deadline that has passed leaves nothing.
    pub fn store(
        &mut self,
        key: &[u8],
        old: Option<Record>,
        value: &[&[u8]],
        deadline: Option<u64>,
    ) -> Result<Option<Head>, EngineError> {
        let version = self.version();
        if deadline.is_some_and(|deadline| deadline <= version.micros()) {
            if let Some(old) = old.filter(|old| !old.head.tombstone) {
                self.bury(key, old, version)?;
            }
            return Ok(None);
        }
        let kept = match &old {
            Some(old) => self.retire(key, old, version)?,
            None => Kept::NOTHING,
        };
        self.count_stored(key, old.as_ref(), value.iter().map(|piece| piece.len()).sum());
        let head = next_head(old.as_ref().map(|old| &old.head), version, kept, deadline);
        self.index(key, old.and_then(|old| old.head.deadline), deadline)?;
        let row = head.encode(value);
        let length = value.iter().map(|piece| piece.len()).sum::<usize>();
        let value = row.slice(row.len() - length..);
        self.put(self.set.current(key), row)?;
        self.changed(key, What::Put { value, deadline });
        Ok(Some(head))
    }

    /// Makes a live key deleted at a version; returns the tombstone, if there is anything to keep it for.
    pub fn bury(&mut self, key: &[u8], old: Record, version: Version) -> Result<Option<Record>, EngineError> {
        let kept = self.retire(key, &old, version)?;
        self.count_gone(key, Some(&old));
        let row = self.set.current(key);
        let is_overdue = old.is_expired_at(self.version());
        self.changed(key, if is_overdue { What::Expired } else { What::Deleted });
        if kept.count > 0 {
            // From now on, not from a deadline long ago: no row of the index is put where a sweep has been.
            let forgotten_at = self.version().micros().checked_add(self.deleted_micros);
            let ordinal = next_ordinal(&old.head, version);
            let head = Head::tombstone(version, ordinal, kept.count, forgotten_at);
            let raw = Head { places: kept.places, ..head }.encode(&[]);
            self.index(key, old.head.deadline, forgotten_at)?;
            self.put(row, raw.clone())?;
            return Record::decode(raw).map(Some);
        }
        self.index(key, old.head.deadline, None)?;
        self.remove(row)?;
        if !(old.head.first && old.head.version == version) {
            self.state.floor = self.state.floor.max(version);
        }
        Ok(None)
    }

    /// Notes what became of a key, in a buffer of its own: one that came with a request keeps all that came with it. A value lies
    /// in its row, which is one.
    pub fn changed(&mut self, key: &[u8], what: What) {
        let (key, version) = (Key::copy_from_slice(key), self.version());
        self.changes.push(Change { key, version, what });
    }

    /// Makes the newest revision, from [`Writer::newest`], an older one, before another takes its place at a version. Returns
    /// which older ones there are then.
    fn retire(&mut self, key: &[u8], old: &Record, version: Version) -> Result<Kept, EngineError> {
        let (head, keep) = (&old.head, self.history.keep());
        if head.version == version {
            return Ok(Kept { count: head.kept, places: head.places });
        }
        let wanted = Places::of(keep);
        if head.kept > 0 && (keep == 1 || self.places(head) != wanted) {
            return self.retire_otherwise(key, old, wanted);
        }
        if keep == 1 {
            return Ok(Kept::NOTHING);
        }
        self.put(wanted.row(self.set, key, head.ordinal), old.raw.clone())?;
        let kept = self.kept(wanted, (head.kept + 1).min(keep - 1));
        self.forget_out_of_time(key, head, version, kept)
    }

    /// The same of a key whose older revisions lie otherwise than they would now: its history has become another one.
    fn retire_otherwise(&mut self, key: &[u8], old: &Record, wanted: Places) -> Result<Kept, EngineError> {
        let (head, places) = (&old.head, self.places(&old.head));
        let most = self.history.keep() - 1;
        let (all, count) = (older::older(head), head.kept + 1);
        if count <= older::LAID_MAX {
            let mut revisions = Vec::new();
            for ordinal in all {
                revisions.push((ordinal, self.reader().older(key, head, ordinal)?.raw));
                self.remove(places.row(self.set, key, ordinal))?;
            }
            revisions.push((head.ordinal, old.raw.clone()));
            for (ordinal, raw) in revisions.into_iter().rev().take(most as usize) {
                // Copied: a row must not hold on to the block it was read from.
                self.put(wanted.row(self.set, key, ordinal), Bytes::copy_from_slice(&raw))?;
            }
            return Ok(self.kept(wanted, count.min(most)));
        }
        let places = places.until(head.ordinal);
        self.put(places.row(self.set, key, head.ordinal), old.raw.clone())?;
        let shed = count.saturating_sub(most).min(older::SHED_MAX);
        for ordinal in all.take(shed as usize) {
            self.remove(places.row(self.set, key, ordinal))?;
        }
        Ok(self.kept(places, count - shed))
    }

    /// With a history of a time: forgets a few of the older revisions that were replaced before it, the oldest first.
    fn forget_out_of_time(
        &mut self,
        key: &[u8],
        newest: &Head,
        version: Version,
        kept: Kept,
    ) -> Result<Kept, EngineError> {
        let History::Micros(micros) = self.history else { return Ok(kept) };
        let begin = version.micros().saturating_sub(micros);
        let mut all = older::older(newest);
        let places = kept.places.unwrap_or(self.usual);
        let mut count = kept.count;
        while count > kept.count.saturating_sub(older::SHED_MAX)
            && let Some(oldest) = all.next()
        {
            let replaced_at = match all.is_empty() {
                true => newest.version,
                false => self.reader().older(key, newest, all.start)?.head.version,
            };
            if replaced_at.micros() >= begin {
                break;
            }
            self.remove(places.row(self.set, key, oldest))?;
            count -= 1;
        }
        Ok(Kept { count, ..kept })
    }

    fn kept(&self, places: Places, count: u64) -> Kept {
        Kept { count, places: Some(places).filter(|places| *places != self.usual && count > 0) }
    }

    /// Gives a key another deadline in the expiry index.
    pub fn index(&mut self, key: &[u8], old: Option<u64>, new: Option<u64>) -> Result<(), EngineError> {
        if old == new {
            return Ok(());
        }
        if let Some(old) = old.filter(|_| new.is_none() || !mutant::is(Mutant::ExpiryRowKept)) {
            let row = self.set.expiry(old, key);
            self.deadlines.removed(&row);
            self.remove(row)?;
        }
        if let Some(new) = new {
            let row = self.set.expiry(new, key);
            self.deadlines.put(&row);
            self.put(row, Bytes::new())?;
        }
        Ok(())
    }

    pub fn put(&mut self, row: impl AsRef<[u8]>, value: Bytes) -> Result<(), EngineError> {
        self.remember(row.as_ref())?;
        self.fresh.put(row, value);
        Ok(())
    }

    pub fn remove(&mut self, row: impl AsRef<[u8]>) -> Result<(), EngineError> {
        self.remember(row.as_ref())?;
        self.fresh.remove(row);
        Ok(())
    }

    fn remember(&mut self, row: &[u8]) -> Result<(), EngineError> {
        if let Some(undo) = &mut self.undo {
            undo.push((Bytes::copy_from_slice(row), self.fresh.get(row)?));
        }
        Ok(())
    }
}

/// The older revisions of a key.
#[derive(Clone, Copy)]
struct Kept {
    count: u64,
    /// As the newest revision says it.
    places: Option<Places>,
}

impl Kept {
    const NOTHING: Kept = Kept { count: 0, places: None };
}

/// The head of a value that follows another revision of its key.
fn next_head(old: Option<&Head>, version: Version, kept: Kept, deadline: Option<u64>) -> Head {
    let first = old.is_none_or(|old| old.first && old.version == version);
    let (created, changes) = match old.filter(|old| !old.tombstone) {
        Some(old) => (old.created, old.changes + u64::from(old.version < version)),
        None => (version, 1),
    };
    let ordinal = old.map_or(0, |old| next_ordinal(old, version));
    let Kept { count: kept, places } = kept;
    let (tombstone, merged) = (false, None);
    Head { tombstone, first, version, created, changes, ordinal, kept, deadline, places, merged }
}

/// The ordinal of what follows a revision: the same if both have one version.
fn next_ordinal(old: &Head, version: Version) -> u64 {
    old.ordinal + u64::from(old.version < version)
}

/// A refusal because of what the key holds.
pub fn conflict(doing: &str, key: &[u8], why: &str) -> Stop {
    const SHOWN_MAX: usize = 64;
    let shown = key[..key.len().min(SHOWN_MAX)].escape_ascii();
    let rest = if key.len() > SHOWN_MAX { "..." } else { "" };
    Error::Conflict(format!("{doing} of '{shown}{rest}': {why}")).into()
}
