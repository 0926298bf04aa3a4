//! The ledger of a shard: what it takes in, what of it is shown, and what another copy has that this one lacks.
//!
//! What a ledger is for, and its lines, tells [`kv::ledger`].

use std::ops::{Bound, ControlFlow};

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader as Bits, put_uint};
use kv::ledger::{LEDGER_BYTES_MAX, LEDGER_ROWS_MAX, Line, Lost, Note, Orphans};
use kv::{Answer, Key, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Page, Range, ReplicaId, Row, ShardId, Version};

use super::older::older;
use super::read::Reader;
use super::record::Record;
use super::write::Writer;
use super::{Clock, Shard, Stop, Table};
use crate::engine::{EngineError, View};
use crate::keys::{key_of_current, key_of_line};
use crate::row_key::RowKey;

/// Keys that one step looks at: some milliseconds.
const STEP_KEYS_MAX: usize = 1024;
/// Bytes of what one step finds, unless a single write is larger.
const STEP_BYTES_MAX: usize = 1 << 20;
/// Of a key that was written more often so many of the newest writes are told one by one, beside the last.
const WRITES_OF_A_KEY_MAX: usize = 256;

/// How much a ledger lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    rows: u64,
    bytes: u64,
}

impl Total {
    fn encode(self) -> Bytes {
        let mut into = BytesMut::new();
        into.put_u8(0);
        put_uint(&mut into, self.rows);
        put_uint(&mut into, self.bytes);
        into.freeze()
    }

    fn decode(raw: &Bytes) -> Result<Total, Malformed> {
        let mut bits = Bits::new(raw.clone());
        let (tag, total) = (bits.u8()?, Total { rows: bits.uint()?, bytes: bits.uint()? });
        bits.end()?;
        if tag == 0 { Ok(total) } else { Err(Malformed("how much a ledger lists has an unknown tag")) }
    }
}

/// What of a copy is above a version: a piece of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphaned {
    /// The writes, of each key the oldest first.
    pub rows: Vec<Lost>,
    /// Older ones of these keys that are not told one by one.
    pub skipped: u64,
    /// Go on from here; `None` = this was all.
    pub next: Option<Looked>,
}

/// How far a copy was looked through: its keys first, then what its own ledger lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The keys up to this one.
    Keys(Key),
    /// All keys, and the lines up to this one; the empty one = none yet.
    Lines(Key),
}

impl Table {
    /// What a shard's copy has above a version, of what was not looked through yet as much as a step looks at: its writes, and those of others
    /// that were told to its ledger since then. What is not kept is not found.
    pub fn orphaned(
        &self,
        shard: ShardId,
        base: Version,
        after: Option<&Looked>,
    ) -> Result<Orphaned, EngineError> {
        let Shard { set, state, .. } = self.loaded(shard);
        let keep = state.keeps(self.options).history.keep();
        let (usual, hidden, clock) = (self.options.places(), Default::default(), Clock::Shard);
        let reader = Reader { rows: &self.fresh, set: *set, state, clock, keep, usual, hidden };
        match after {
            None => reader.orphaned_keys(Bound::Included(set.current(b"")), base),
            Some(Looked::Keys(key)) => reader.orphaned_keys(Bound::Excluded(set.current(key)), base),
            Some(Looked::Lines(line)) => reader.orphaned_lines(line, base),
        }
    }
}

/// How much a step has looked at.
#[derive(Default)]
struct Step {
    keys: usize,
    bytes: usize,
}

impl Step {
    /// Whether it may go on, having looked at one more and found so much of it.
    fn goes_on(&mut self, found: &[Lost]) -> bool {
        self.keys += 1;
        self.bytes += found.iter().map(Lost::bytes).sum::<usize>();
        self.keys < STEP_KEYS_MAX && self.bytes < STEP_BYTES_MAX
    }
}

impl Reader<'_> {
    fn orphaned_keys(&self, from: Bound<RowKey>, base: Version) -> Result<Orphaned, EngineError> {
        let (mut found, mut step, mut failed) = (Orphaned::default(), Step::default(), Ok(()));
        found.next = Some(Looked::Lines(Key::new()));
        let (from, end) = (from.as_ref().map(|row| row.as_ref()), self.set.current_end());
        self.rows.scan(from, Bound::Excluded(end.as_ref()), false, &mut |row, raw| {
            let key = key_of_current(&row);
            let told = found.rows.len();
            let added = self.add_orphaned(&key, raw, base, &mut found);
            match (added, step.goes_on(&found.rows[told..])) {
                (Ok(()), true) => ControlFlow::Continue(()),
                (result, _) => {
                    (failed, found.next) = (result, Some(Looked::Keys(Bytes::copy_from_slice(&key))));
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map(|()| found)
    }

    /// What was told here, and not to who orders now: who told it may have nothing of it any more.
    fn orphaned_lines(&self, after: &Key, base: Version) -> Result<Orphaned, EngineError> {
        let (mut found, mut step, mut failed) = (Orphaned::default(), Step::default(), Ok(()));
        let (begin, end) = (self.set.ledger(after), self.set.ledger_end());
        self.rows.scan(Bound::Excluded(begin.as_ref()), Bound::Excluded(&end), false, &mut |row, raw| {
            let before = found.rows.len();
            match Line::decode(&Bytes::copy_from_slice(&raw)) {
                Ok(Line::Lost { told, lost, .. }) if told > base => found.rows.push(lost),
                Ok(_) => {}
                Err(error) => failed = Err(damaged(error)),
            }
            if failed.is_ok() && step.goes_on(&found.rows[before..]) {
                return ControlFlow::Continue(());
            }
            found.next = Some(Looked::Lines(Bytes::copy_from_slice(&key_of_line(&row))));
            ControlFlow::Break(())
        })?;
        failed.map(|()| found)
    }
}

impl Reader<'_> {
    /// Adds what a key has above a version.
    fn add_orphaned(
        &self,
        key: &Key,
        raw: Bytes,
        base: Version,
        found: &mut Orphaned,
    ) -> Result<(), EngineError> {
        let newest = Record::decode(raw)?;
        if newest.head.version <= base {
            return Ok(());
        }
        let ordinals = older(&newest.head);
        let divided = self.divide(key, &newest.head, ordinals.clone(), |version| version <= base)?;
        let known = newest.head.merged.and_then(|merged| merged.replaced);
        let mut replaced = divided.before.map(|before| before.head.version).or(known);
        let (mut bytes, mut told) = (newest.raw.len(), vec![]);
        for ordinal in (divided.at..ordinals.end).rev() {
            let record = self.older(key, &newest.head, ordinal)?;
            bytes += record.raw.len();
            if told.len() == WRITES_OF_A_KEY_MAX || bytes > STEP_BYTES_MAX {
                found.skipped += ordinal + 1 - divided.at;
                replaced = Some(record.head.version);
                break;
            }
            told.push(record);
        }
        for record in told.into_iter().rev().chain([newest]) {
            replaced = Some(found.add(key, &record, replaced));
        }
        Ok(())
    }

    /// A page of the lines.
    pub fn ledger(&self, range: &Range) -> Result<Page, EngineError> {
        let begin = self.set.ledger(range.page.as_deref().unwrap_or_default());
        let end = self.set.ledger_end();
        let limit = if range.limit == 0 { PAGE_ROWS_MAX } else { PAGE_ROWS_MAX.min(range.limit as usize) };
        let (mut page, mut bytes) = (Page::default(), 0);
        // The row of how much there is has no key, and is before all lines.
        self.rows.scan(Bound::Excluded(begin.as_ref()), Bound::Excluded(&end), false, &mut |row, raw| {
            bytes += row.len() + raw.len();
            if page.rows.len() == limit || bytes > PAGE_BYTES_MAX && !page.rows.is_empty() {
                page.next = page.rows.last().map(|last: &Row| last.key.clone());
                return ControlFlow::Break(());
            }
            let (key, value) = (key_of_line(&row), Bytes::copy_from_slice(&raw));
            let (version, created, changes, deadline) = (self.state.last, Version::ZERO, 1, None);
            page.rows.push(Row { key, value, version, created, changes, deadline });
            ControlFlow::Continue(())
        })?;
        page.count = page.rows.len() as u64;
        Ok(page)
    }
}

impl Orphaned {
    /// Adds a write; returns its version.
    fn add(&mut self, key: &Key, record: &Record, replaced: Option<Version>) -> Version {
        let version = record.head.version;
        let value = (!record.head.tombstone).then(|| Bytes::copy_from_slice(&record.value()));
        self.rows.push(Lost { key: Bytes::copy_from_slice(key), version, replaced, value });
        version
    }
}

impl Writer<'_> {
    /// Takes a note; `base` is the newest version before it.
    pub fn note(&mut self, note: &Note, base: Version) -> Result<Answer, Stop> {
        match note {
            Note::Fork { astray } => self.fork(astray, base)?,
            Note::Orphans(orphans) => self.take_orphans(orphans)?,
            Note::Clear { key, lost } => {
                return Ok(Answer::Trimmed { count: self.clear(key, lost)?, next: None });
            }
        }
        Ok(Answer::Trimmed { count: 0, next: None })
    }

    fn fork(&mut self, astray: &[ReplicaId], base: Version) -> Result<(), EngineError> {
        for (key, line) in self.lines_of_astray()? {
            if matches!(line, Line::Astray { replica, .. } if !astray.contains(&replica)) {
                self.remove(self.set.ledger(&key))?;
            }
        }
        for replica in astray.iter().copied() {
            let line = Line::Astray { replica, base, told: 0, beyond: 0, is_done: false };
            if self.fresh.get(self.set.ledger(&line.key()).as_ref())?.is_none() {
                self.put_line(&line)?;
            }
        }
        Ok(())
    }

    fn take_orphans(&mut self, orphans: &Orphans) -> Result<(), EngineError> {
        let Orphans { from, node, offset, ref rows, skipped, is_end, .. } = *orphans;
        let mut lines = self.lines_of_astray()?.into_iter().map(|(_, line)| line);
        let of_it = |line: &Line| matches!(line, Line::Astray { replica, .. } if *replica == from);
        let Some(Line::Astray { base, told, beyond, is_done: false, .. }) = lines.find(of_it) else {
            return Ok(());
        };
        if offset > 0 && offset != told {
            return Ok(());
        }
        let mut beyond = if offset == 0 { skipped } else { beyond.saturating_add(skipped) };
        let mut total = self.total()?;
        for lost in rows {
            let line = Line::Lost { node, told: self.version(), lost: lost.clone() };
            if self.fresh.get(self.set.ledger(&line.key()).as_ref())?.is_some() {
                continue;
            }
            let more = Total { rows: total.rows + 1, bytes: total.bytes + lost.bytes() as u64 };
            if more.rows > LEDGER_ROWS_MAX || more.bytes > LEDGER_BYTES_MAX {
                beyond += 1;
                continue;
            }
            total = more;
            self.put_line(&line)?;
        }
        self.put(self.set.ledger(b""), total.encode())?;
        let told = offset + rows.len() as u64;
        self.put_line(&Line::Astray { replica: from, base, told, beyond, is_done: is_end })?;
        if is_end && beyond > 0 {
            self.put_line(&Line::Beyond { node, replica: from, count: beyond })?;
        }
        Ok(())
    }

    /// Takes lines off; with the last one goes what counts those that are not listed. How many there were.
    fn clear(&mut self, key: &Key, lost: &[Version]) -> Result<u64, EngineError> {
        let (mut total, mut count) = (self.total()?, 0);
        for version in lost {
            let row = self.set.ledger(&Line::key_of_lost(key, *version));
            let Some(raw) = self.fresh.get(row.as_ref())? else { continue };
            if let Line::Lost { lost, .. } = Line::decode(&raw).map_err(damaged)? {
                // A part of a shard counts what the others list as well.
                let bytes = total.bytes.saturating_sub(lost.bytes() as u64);
                total = Total { rows: total.rows.saturating_sub(1), bytes };
                count += 1;
                self.remove(row)?;
            }
        }
        if count > 0 {
            self.put(self.set.ledger(b""), total.encode())?;
        }
        if count > 0 && total.rows == 0 {
            for (key, _) in self.lines_from(2)? {
                self.remove(self.set.ledger(&key))?;
            }
        }
        Ok(count)
    }

    fn put_line(&mut self, line: &Line) -> Result<(), EngineError> {
        self.put(self.set.ledger(&line.key()), line.encode())
    }

    fn total(&self) -> Result<Total, EngineError> {
        let raw = self.fresh.get(self.set.ledger(b"").as_ref())?;
        raw.map_or(Ok(Total::default()), |raw| Total::decode(&raw).map_err(damaged))
    }

    /// The lines of replicas that may have gone another way; there are as many as a shard has members, at most.
    fn lines_of_astray(&self) -> Result<Vec<(Key, Line)>, EngineError> {
        self.lines_from(0)
    }

    /// The lines of a kind, by their keys.
    fn lines_from(&self, kind: u8) -> Result<Vec<(Key, Line)>, EngineError> {
        let (begin, end) = (self.set.ledger(&[kind]), self.set.ledger(&[kind + 1]));
        let (mut lines, mut failed) = (Vec::new(), Ok(()));
        let (from, to) = (Bound::Included(begin.as_ref()), Bound::Excluded(end.as_ref()));
        self.fresh.scan(from, to, false, &mut |row, raw| match Line::decode(&raw) {
            Ok(line) => {
                lines.push((key_of_line(&row), line));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Err(damaged(error));
                ControlFlow::Break(())
            }
        })?;
        failed.map(|()| lines)
    }
}

/// A row of the ledger as a part of a shard has it; `tells`: of all parts this one tells what concerns all.
pub fn inherited(suffix: &Bytes, value: &Bytes, tells: bool) -> Result<Bytes, EngineError> {
    let line = (suffix.len() > 1).then(|| Line::decode(value)).transpose().map_err(damaged)?;
    Ok(match line {
        Some(Line::Beyond { node, replica, .. }) if !tells => {
            Line::Beyond { node, replica, count: 0 }.encode()
        }
        // Copied: a row must not hold on to the block that it was read from.
        _ => Bytes::copy_from_slice(value),
    })
}

/// Checks a row of a ledger that comes from another node.
pub fn check(suffix: &Bytes, value: &Bytes) -> Result<(), Malformed> {
    match suffix.len() {
        1 => Total::decode(value).map(drop),
        _ if Line::decode(value)?.key() == suffix.slice(1..) => Ok(()),
        _ => Err(Malformed("a line of a ledger has the key of another")),
    }
}

fn damaged(error: Malformed) -> EngineError {
    EngineError::corrupt("reading a line of a ledger", error.0)
}
