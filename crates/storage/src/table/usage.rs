//! What a shard holds: its keys with a value, and the bytes of those keys and of their newest values.
//!
//! It is part of the shard's state and changes with the rows, so it is the same on all replicas, goes along with snapshots, and
//! is never counted again. A value that has expired counts until its row is removed; what is kept of earlier values does not.
//!
//! When the keyspace of a shard is full, its rules say so ([`kv::keyspace::Rules`]). An op that would leave more of what there is too
//! much of is then taken back as a whole, and refused; every other is done.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::keyspace::Usage;
use kv::{Answer, Op};

use super::Stop;
use super::layout::Layout;
use super::record::{Head, Record};
use super::write::Writer;
use crate::engine::{EngineError, View};
use crate::keys::{RowSet, current_of_suffix, key_of_current};

/// What a key and a value count.
fn bytes(key: &[u8], value: usize) -> u64 {
    (key.len() + value) as u64
}

/// Counts what a copy holds. It reads all newest values.
pub fn count(rows: &dyn View, set: RowSet) -> Result<Usage, EngineError> {
    let (from, to) = (set.current(b""), set.current_end());
    let (mut usage, mut failed) = (Usage::default(), Ok(()));
    rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, raw| {
        match Record::decode(raw) {
            Ok(record) if record.head.tombstone => {}
            Ok(record) => {
                usage.keys += 1;
                usage.bytes += bytes(&key_of_current(&row), record.value_bytes());
            }
            Err(error) => {
                failed = Err(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    failed.map(|()| usage)
}

/// Counts a row of a copy, which is told by its suffix, if it is a key's newest value.
pub fn count_row(usage: &mut Usage, suffix: &Bytes, raw: &Bytes) -> Result<(), EngineError> {
    let row = of_row(suffix, raw)?;
    (usage.keys, usage.bytes) = (usage.keys + row.keys, usage.bytes + row.bytes);
    Ok(())
}

/// Counts such a row no more.
pub fn discount_row(usage: &mut Usage, suffix: &Bytes, raw: &Bytes) -> Result<(), EngineError> {
    let row = of_row(suffix, raw)?;
    usage.keys = usage.keys.saturating_sub(row.keys);
    usage.bytes = usage.bytes.saturating_sub(row.bytes);
    Ok(())
}

/// What a row counts.
fn of_row(suffix: &Bytes, raw: &Bytes) -> Result<Usage, EngineError> {
    let Some(key) = current_of_suffix(suffix) else { return Ok(Usage::default()) };
    let record = Record::decode(raw.clone())?;
    if record.head.tombstone {
        return Ok(Usage::default());
    }
    Ok(Usage { keys: 1, bytes: bytes(&key, record.value_bytes()) })
}

impl Writer<'_> {
    /// A value of so many bytes has taken the place of what was there.
    pub fn count_stored(&mut self, key: &[u8], old: Option<&Record>, value: usize) {
        self.count_gone(key, old);
        let usage = &mut self.state.usage;
        usage.keys = usage.keys.saturating_add(1);
        usage.bytes = usage.bytes.saturating_add(bytes(key, value));
    }

    /// The value that was there is there no more, if it was one.
    pub fn count_gone(&mut self, key: &[u8], old: Option<&Record>) {
        let Some(old) = old.filter(|old| !old.head.tombstone) else { return };
        let usage = &mut self.state.usage;
        // A copy that another node counted wrong is told by the audit, not by a panic here.
        usage.keys = usage.keys.saturating_sub(1);
        usage.bytes = usage.bytes.saturating_sub(bytes(key, old.value_bytes()));
    }

    /// Evaluates an op, unless it would add to a keyspace that is full.
    pub fn evaluate_within_quota(&mut self, op: &Op) -> Result<Answer, Stop> {
        // Rows that come in were accepted elsewhere: whoever makes some looks at the quota first.
        let full = self.state.rules.full.filter(|_| self.state.layout == Layout::Ordered);
        let Some(full) = full else { return self.evaluate(op) };
        self.whole(|writer| {
            let before = writer.state.usage;
            let answer = writer.evaluate(op)?;
            match full.refuses(before, writer.state.usage) {
                Some(error) => Err(Stop::Refused(error)),
                None => Ok(answer),
            }
        })
    }

    /// When a value is to expire that is stored with this deadline: one without lasts as long as the keyspace says.
    pub fn deadline(&self, said: Option<u64>) -> Option<u64> {
        let usual = || Some(self.version().micros().saturating_add(self.state.rules.keep.ttl_micros?));
        said.or_else(usual)
    }

    /// How the older revisions of a key lie.
    pub fn places(&self, newest: &Head) -> super::older::Places {
        newest.places.unwrap_or(self.usual)
    }
}
