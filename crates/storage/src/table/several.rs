//! Writes that are not one plain put: of several keys, of deadlines.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::{Answer, Key, KeyAnswer, Value};
use mutant::Mutant;

use super::Stop;
use super::range::SKIPPED_ROWS_MAX;
use super::record::Record;
use super::write::Writer;
use crate::engine::{EngineError, View};
use crate::keys::key_of_current;

/// A step over a range takes no more keys once their rows have so many bytes: what it deletes is written once more, as history.
const STEP_BYTES_MAX: usize = 64 << 20;

impl Writer<'_> {
    pub fn put_all(&mut self, rows: &[(Key, Value)]) -> Result<Answer, Stop> {
        // The last one of equal keys wins.
        let last: BTreeMap<&Key, &Value> = rows.iter().map(|(key, value)| (key, value)).collect();
        let mut stored = BTreeMap::new();
        for (key, value) in last {
            let old = self.current(key)?;
            let head = self.store(key, old, &[value], self.deadline(None))?;
            stored.insert(key, head.map(|head| head.row(key, Bytes::new())));
        }
        let answer = |key: &Key| KeyAnswer { key: key.clone(), result: Ok(stored[key].clone()) };
        Ok(Answer::Many(rows.iter().map(|(key, _)| answer(key)).collect()))
    }

    pub fn delete_range(&mut self, from: &Key, to: Option<&Key>) -> Result<Answer, Stop> {
        let now = self.version();
        let (keys, next) = self.first_keys(from, to, |record| record.is_live_at(now))?;
        let left = usize::from(mutant::is(Mutant::DeleteRangeLeavesTheLast));
        for key in keys.iter().take(keys.len().saturating_sub(left)) {
            if let Some(old) = self.current(key)? {
                self.bury(key, old, self.version())?;
            }
        }
        Ok(Answer::Deleted { count: keys.len() as u64, previous: None, next })
    }

    /// The first keys of a range whose newest revisions are wanted, and where it goes on when there are too many, or when
    /// too much was read to find them: their rows are read again, and mostly written.
    pub fn first_keys(
        &self,
        from: &Key,
        to: Option<&Key>,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<(Vec<Key>, Option<Key>), EngineError> {
        let (mut keys, mut next, mut failed) = (Vec::new(), None, None);
        let (mut skipped, mut bytes) = (0, 0);
        let to = to.map_or_else(|| self.set.current_end(), |to| self.set.current(to));
        let from = self.set.current(from);
        self.fresh.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, raw| {
            let key = key_of_current(&row);
            if keys.len() == self.step_max || bytes > STEP_BYTES_MAX || skipped == SKIPPED_ROWS_MAX {
                next = Some(key);
                return ControlFlow::Break(());
            }
            bytes += row.len() + raw.len();
            match Record::decode(raw) {
                Ok(record) if wanted(&record) => keys.push(key),
                Ok(_) => skipped += 1,
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        assert!(keys.len() <= self.step_max, "{} keys of a step", keys.len());
        assert!(next.as_ref().is_none_or(|next| keys.last() < Some(next)), "it goes on behind what it took");
        failed.map_or(Ok((keys, next)), Err)
    }

    /// A new deadline is a new revision with the same value: what could be read at earlier versions stays as it was.
    pub fn expire(&mut self, key: &Key, deadline: Option<u64>) -> Result<Answer, Stop> {
        let Some(old) = self.current(key)?.filter(|old| !old.head.tombstone) else {
            return Ok(Answer::Expire(false));
        };
        if old.head.deadline != deadline {
            let value = old.value();
            let deadline = deadline.filter(|_| !mutant::is(Mutant::ExpireSetsNoDeadline));
            self.store(key, Some(old), &[&value], deadline)?;
        }
        Ok(Answer::Expire(true))
    }
}
