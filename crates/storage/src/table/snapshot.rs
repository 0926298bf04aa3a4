//! A shard's copy on its way to another node: a frozen view, cut into chunks.
//!
//! A chunk: format (1 byte), its number from 0 (4 bytes), whether it is the last (1), the number of rows (4), the rows
//! (suffix of the key and value, each with its length), CRC32C of all before it (4). The rows come in order, the shard's
//! state as the very last: what was received in part is a shard that applied nothing.

use std::ops::{Bound, ControlFlow};

use bytes::{BufMut, Bytes, BytesMut};
use kv::ShardId;
use kv::codec::{self, Malformed};
use kv::keyspace::{Rules, Usage};
use mutant::Mutant;

use super::layout::Layout;
use super::older::Places;
use super::read::Reader;
use super::record::{Head, Record};
use super::{Applied, Clock, State, ledger, sessions};
use crate::engine::{EngineError, View};
use crate::fresh::Fresh;
use crate::keys::{Part, RowSet};

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 10;
const CHECKSUM_BYTES: usize = 4;
/// No key was written more often: it leaves room to count on without an overflow.
const WRITES_MAX: u64 = 1 << 60;

/// The frozen copy of a shard, read chunk by chunk on any thread.
pub struct ShardSnapshot {
    /// Up to where the shard had applied.
    pub applied: Applied,
    view: Box<dyn View>,
    set: RowSet,
    state: State,
    number: u32,
    /// The last row that was sent.
    cursor: Option<Bytes>,
    done: bool,
    /// What was written since an earlier view.
    changed: Option<Changed>,
}

/// Which rows of a shard were written between two views of it.
pub(super) struct Changed {
    /// Up to where the shard had applied at the earlier one.
    pub since: u64,
    /// Their suffixes, in order.
    pub rows: Vec<Bytes>,
}

impl ShardSnapshot {
    pub(crate) fn new(view: Box<dyn View>, set: RowSet, state: State) -> ShardSnapshot {
        ShardSnapshot {
            applied: state.told(),
            view,
            set,
            state,
            number: 0,
            cursor: None,
            done: false,
            changed: None,
        }
    }

    /// With what was written since an earlier view.
    pub(super) fn since(self, changed: Option<Changed>) -> ShardSnapshot {
        ShardSnapshot { changed, ..self }
    }

    /// What was written since an earlier view, if that is known.
    pub(super) fn take_changed(&mut self) -> Option<Changed> {
        self.changed.take()
    }

    /// A reader of the frozen copy; `usual`: how older revisions lie of which nothing else is said.
    pub(super) fn reader(&self, usual: Places) -> Reader<'_> {
        let (rows, state, hidden) = (&*self.view, &self.state, Default::default());
        Reader { rows, set: self.set, state, clock: Clock::Shard, keep: u64::MAX, usual, hidden }
    }

    /// A row, by its suffix.
    pub(super) fn row(&self, suffix: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.view.get(self.set.with_suffix(suffix).as_ref())
    }

    /// About how many bytes all chunks together have: those of the keys and values. It reads every row.
    pub fn bytes(&self) -> Result<u64, EngineError> {
        let mut bytes = 0;
        let (begin, end) = (self.set.current(b""), self.set.end());
        self.view.scan(Bound::Included(&begin), Bound::Excluded(&end), false, &mut |row, value| {
            bytes += (RowSet::suffix(&row).len() + value.len()) as u64;
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }

    /// The last row that was given out; its suffix.
    pub(super) fn cursor(&self) -> Option<Bytes> {
        self.cursor.as_ref().map(RowSet::suffix)
    }

    /// How its rows lie.
    pub(super) fn layout(&self) -> Layout {
        self.state.layout
    }

    /// The shard's state, as its row has it.
    pub(super) fn state(&self) -> Bytes {
        self.state.encode()
    }

    /// The next rows (suffix and value) but the state's, so many and of so many bytes; and whether there are more.
    pub(super) fn step(
        &mut self,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<(Vec<(Bytes, Bytes)>, bool), EngineError> {
        let (begin, end) = (self.set.current(b""), self.set.end());
        let from = self.cursor.clone();
        let from = from.as_ref().map_or(Bound::Included(&begin[..]), |cursor| Bound::Excluded(&cursor[..]));
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
        self.view.scan(from, Bound::Excluded(&end), false, &mut |row, value| {
            bytes += row.len() + value.len();
            if rows.len() == rows_max || !rows.is_empty() && bytes > bytes_max {
                more = true;
                return ControlFlow::Break(());
            }
            rows.push((RowSet::suffix(&row), value));
            self.cursor = Some(row);
            ControlFlow::Continue(())
        })?;
        Ok((rows, more))
    }

    /// The next chunk, `None` after the last. It ends before the row that would pass `bytes_max`, but has one row at least.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, EngineError> {
        if self.done {
            return Ok(None);
        }
        let mut chunk = Chunk::new();
        let rest = self.fill(&mut chunk, bytes_max)?;
        if !rest {
            chunk.add(&RowSet::suffix(&self.set.state().into()), &self.state.encode());
            self.done = true;
        }
        assert!(chunk.rows > 0, "a chunk has rows, the last one the state at least");
        self.number += 1;
        Ok(Some(chunk.finish(self.number - 1, self.done)))
    }

    /// Adds rows to a chunk; returns whether there are more.
    fn fill(&mut self, chunk: &mut Chunk, bytes_max: usize) -> Result<bool, EngineError> {
        let without_sessions = mutant::is(Mutant::SnapshotWithoutSessions);
        let end = if without_sessions { self.set.session_begin() } else { self.set.end() };
        let begin = self.set.current(b"");
        let from = self.cursor.clone();
        let from = from.as_ref().map_or(Bound::Included(&begin[..]), |cursor| Bound::Excluded(&cursor[..]));
        let mut more = false;
        self.view.scan(from, Bound::Excluded(&end), false, &mut |row, value| {
            if chunk.rows > 0 && chunk.bytes.len() + row.len() + value.len() > bytes_max {
                more = true;
                return ControlFlow::Break(());
            }
            chunk.add(&RowSet::suffix(&row), &value);
            assert!(
                self.cursor.as_ref().is_none_or(|before| *before < row),
                "rows are sent in order, each once"
            );
            self.cursor = Some(row);
            ControlFlow::Continue(())
        })?;
        Ok(more)
    }
}

struct Chunk {
    bytes: BytesMut,
    rows: u32,
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { bytes: BytesMut::zeroed(HEAD_BYTES), rows: 0 }
    }

    fn add(&mut self, suffix: &[u8], value: &[u8]) {
        codec::put_bytes(&mut self.bytes, suffix);
        codec::put_bytes(&mut self.bytes, value);
        self.rows += 1;
    }

    fn finish(mut self, number: u32, last: bool) -> Bytes {
        let mut head = &mut self.bytes[..HEAD_BYTES];
        head.put_u8(FORMAT);
        head.put_u32(number);
        head.put_u8(last.into());
        head.put_u32(self.rows);
        let checksum = crc32c::crc32c(&self.bytes);
        self.bytes.put_u32(checksum);
        self.bytes.freeze()
    }
}

/// Why a chunk was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It is no chunk of this snapshot, or not the next. Begin the install again.
    #[error("installing a snapshot of shard {shard}: {what}; begin it again")]
    Malformed {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        what: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Writes a chunk's rows; returns the shard's state after the last one.
pub(crate) fn install(
    fresh: &mut Fresh,
    set: RowSet,
    expected: u32,
    chunk: &Bytes,
) -> Result<Option<State>, InstallError> {
    let malformed = |what: String| InstallError::Malformed { shard: set.shard, what };
    let body = checked(chunk).map_err(|error| malformed(error.to_string()))?;
    let number = u32::from_be_bytes([chunk[1], chunk[2], chunk[3], chunk[4]]);
    if number != expected {
        return Err(malformed(format!("chunk {number} came, and {expected} is the next")));
    }
    let rows = decode(chunk, body).map_err(|error| malformed(error.to_string()))?;
    let mut state = rows.state;
    for (suffix, value) in rows.rows {
        // Copied: a row must not hold on to its whole chunk.
        fresh.put(set.with_suffix(&suffix), Bytes::copy_from_slice(&value));
    }
    if let Some(state) = state.as_mut().filter(|_| mutant::is(Mutant::UsageCountedTwice)) {
        let Usage { bytes, keys } = state.usage;
        state.usage = Usage { bytes: bytes.saturating_mul(2), keys: keys.saturating_mul(2) };
        fresh.put(set.state(), state.encode());
    }
    if let Some(state) = state.as_mut().filter(|_| mutant::is(Mutant::RulesLostByASnapshot)) {
        state.rules = Rules::default();
        fresh.put(set.state(), state.encode());
    }
    Ok(state)
}

/// The rows' bytes of a chunk that arrived as it was sent.
fn checked(chunk: &Bytes) -> Result<Bytes, Malformed> {
    if chunk.len() < HEAD_BYTES + CHECKSUM_BYTES {
        return Err(Malformed("the chunk is too short"));
    }
    let (content, checksum) = chunk.split_at(chunk.len() - CHECKSUM_BYTES);
    if crc32c::crc32c(content).to_be_bytes() != checksum {
        return Err(Malformed("the checksum of the chunk is wrong"));
    }
    if chunk[0] != FORMAT {
        return Err(Malformed("the format of the chunk is unknown"));
    }
    Ok(chunk.slice(HEAD_BYTES..content.len()))
}

struct Rows {
    rows: Vec<(Bytes, Bytes)>,
    state: Option<State>,
}

fn decode(chunk: &Bytes, body: Bytes) -> Result<Rows, Malformed> {
    let last = chunk[5] == 1;
    let count = u32::from_be_bytes([chunk[6], chunk[7], chunk[8], chunk[9]]);
    let mut reader = codec::Reader::new(body);
    let mut found = Rows { rows: Vec::new(), state: None };
    for _ in 0..count {
        let (suffix, value) = (reader.bytes()?, reader.bytes()?);
        match Part::of(&suffix).ok_or(Malformed("a row is of no known kind"))? {
            Part::State => found.state = Some(State::decode(value.clone())?),
            Part::Revision => check_revision(&value)?,
            Part::Session => sessions::check(&suffix, &value)?,
            Part::Expiry => {}
            Part::Ledger => ledger::check(&suffix, &value)?,
            Part::Bucket if value.len() != 8 => return Err(Malformed("the digest of a bucket is none")),
            Part::Bucket | Part::Tombstone => {}
        }
        found.rows.push((suffix, value));
    }
    reader.end()?;
    if last != found.state.is_some() {
        return Err(Malformed("the state of the shard does not come last"));
    }
    Ok(found)
}

fn check_revision(value: &Bytes) -> Result<(), Malformed> {
    let record = Record::decode(value.clone()).map_err(|_| Malformed("the head of a row is unknown"))?;
    let Head { changes, ordinal, kept, merged, .. } = record.head;
    let is_counted = kept <= if merged.is_some() { WRITES_MAX } else { ordinal };
    if changes.max(ordinal) > WRITES_MAX || !is_counted {
        return Err(Malformed("the head of a row counts what cannot be"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kv::Version;

    use super::*;

    #[test]
    fn row_that_counts_what_cannot_be_is_refused() {
        let head = Head { ordinal: 3, changes: 4, ..Head::tombstone(Version::ZERO, 0, 3, None) };
        assert_eq!(check_revision(&head.encode(&[])), Ok(()));
        let too_high = u64::MAX;
        for head in [
            Head { kept: 4, ..head },
            Head { ordinal: too_high, ..head },
            Head { changes: too_high, ..head },
            Head { ordinal: too_high, kept: too_high, ..head },
        ] {
            assert!(check_revision(&head.encode(&[])).is_err(), "{head:?}");
        }
    }
}
