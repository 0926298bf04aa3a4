//! Writes that are not one plain put: of several keys, of history, of deadlines.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::{Answer, KEYS_PER_OP_MAX, Key, KeyAnswer, PAGE_BYTES_MAX, Value, Version};

use super::keys::key_of_current;
use super::range::SKIPPED_ROWS_MAX;
use super::record::{Head, Record};
use super::write::Writer;
use super::{Stop, older};
use crate::engine::EngineError;

impl Writer<'_> {
    pub fn put_all(&mut self, rows: &[(Key, Value)]) -> Result<Answer, Stop> {
        // The last one of equal keys wins.
        let last: BTreeMap<&Key, &Value> = rows.iter().map(|(key, value)| (key, value)).collect();
        let mut stored = BTreeMap::new();
        for (key, value) in last {
            let old = self.current(key)?;
            let head = self.store(key, old, &[value], None)?;
            stored.insert(key, head.map(|head| head.row(key, Bytes::new())));
        }
        let answer = |key: &Key| KeyAnswer { key: key.clone(), result: Ok(stored[key].clone()) };
        Ok(Answer::Many(rows.iter().map(|(key, _)| answer(key)).collect()))
    }

    pub fn delete_range(&mut self, from: &Key, to: Option<&Key>) -> Result<Answer, Stop> {
        let (keys, next) = self.live_keys(from, to)?;
        for key in &keys {
            if let Some(old) = self.current(key)? {
                self.bury(key, old, self.version())?;
            }
        }
        Ok(Answer::Deleted { count: keys.len() as u64, previous: None, next })
    }

    /// The first live keys of a range, and where it goes on when there are too many.
    fn live_keys(&self, from: &Key, to: Option<&Key>) -> Result<(Vec<Key>, Option<Key>), EngineError> {
        let (mut keys, mut next, mut failed) = (Vec::new(), None, None);
        let (mut skipped, mut bytes) = (0, 0);
        let to = to.map_or_else(|| self.set.current_end(), |to| self.set.current(to));
        let from = self.set.current(from);
        self.engine.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, raw| {
            let key = key_of_current(&row);
            if keys.len() == KEYS_PER_OP_MAX || bytes > PAGE_BYTES_MAX || skipped == SKIPPED_ROWS_MAX {
                next = Some(key);
                return ControlFlow::Break(());
            }
            match Record::decode(raw) {
                Ok(record) if record.is_live_at(self.version()) => {
                    bytes += key.len();
                    keys.push(key);
                }
                Ok(_) => skipped += 1,
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok((keys, next)), Err)
    }

    /// Forgets what is older than the newest revision at a version; returns how many revisions. At most
    /// [`KEYS_PER_OP_MAX`], the oldest ones: asked again, it goes on.
    pub fn trim(&mut self, key: &Key, below: Option<Version>) -> Result<u64, EngineError> {
        let Some(current) = self.current(key)? else { return Ok(0) };
        let below = below.unwrap_or(Version::MAX);
        let Some(base) = self.newest_at(key, &current, below)? else { return Ok(0) };
        let removed = self.forget_older(key, &current.head, base)?;
        let kept = current.head.kept - removed;
        if current.head.tombstone && kept == 0 {
            self.forget_key(key, &current.head)?;
            return Ok(removed + 1);
        }
        if removed > 0 {
            let mut head = current.head;
            head.kept = kept;
            self.put(self.set.current(key), head.encode(&[&current.value()]))?;
        }
        Ok(removed)
    }

    /// Removes the older revisions below a version, the oldest first and not too many; returns how many.
    fn forget_older(&mut self, key: &Key, newest: &Head, below: Version) -> Result<u64, EngineError> {
        let ordinals = older::older(newest);
        let first = ordinals.start;
        for ordinal in ordinals.clone().take(KEYS_PER_OP_MAX) {
            if self.reader().older(key, ordinal)?.head.version >= below {
                return Ok(ordinal - first);
            }
            self.remove(older::row(self.set, key, ordinal, self.keep))?;
        }
        Ok((ordinals.end - first).min(KEYS_PER_OP_MAX as u64))
    }

    /// The version of the newest revision of a key that is not above another version.
    fn newest_at(&self, key: &Key, current: &Record, at: Version) -> Result<Option<Version>, EngineError> {
        if current.head.version <= at {
            return Ok(Some(current.head.version));
        }
        let older = self.reader().older_at(key, &current.head, at)?;
        Ok(older.map(|record| record.head.version))
    }

    /// A new deadline is a new revision with the same value: what could be read at earlier versions stays as it was.
    pub fn expire(&mut self, key: &Key, deadline: Option<u64>) -> Result<Answer, Stop> {
        let Some(old) = self.current(key)?.filter(|old| !old.head.tombstone) else {
            return Ok(Answer::Expire(false));
        };
        if old.head.deadline != deadline {
            let value = old.value();
            self.store(key, Some(old), &[&value], deadline)?;
        }
        Ok(Answer::Expire(true))
    }
}
