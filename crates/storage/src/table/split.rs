//! A shard is cut: the rows of a frozen copy go to the copies of its parts.
//!
//! One pass over the rows gives each part those of its slots: a key's newest revision, its older ones, its deadline. The requests that
//! are remembered go to each of them, for a request that comes again may concern any key; but what an op on a range counted goes to the
//! first only, so that together they tell it once; likewise what the ledger counts and does not list. The shard's state goes to each of them too, its newest version among it, but for
//! what it holds, which is counted as the rows pass.
//!
//! A later pass makes of an earlier copy the one of its time. What was written between the two is noted meanwhile
//! ([`Table::freeze`]), so it looks at these rows only; where they were too many to be noted it reads all, and writes what differs.
//!
//! The parts may lie in another layout: then a key's rows are translated together (`translate`), where its newest revision passes, and anew
//! whenever one of its rows was written.
//!
//! A pass goes in steps, each as long as a piece of a copy that comes in. What was written in part is no copy: the owner knows when
//! the last step is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::keyspace::{Rules, Usage};
use kv::merged::Rank;
use kv::{SLOTS, ShardId, Slot, SlotRange, Version};
use mutant::Mutant;

use super::layout::Layout;
use super::merged::Buckets;
use super::older::Places;
use super::record::Record;
use super::shard::{Shard, State};
use super::snapshot::{Changed, ShardSnapshot};
use super::translate::Translated;
use super::{Applied, Table, ledger, sessions, translate, usage};
use crate::engine::{EngineError, View};
use crate::fresh::{Fresh, Noted};
use crate::keys::{Part, RowSet, current_of_suffix, key_of_suffix, parts_of_expiry};

/// Rows that one step looks at: some milliseconds.
const STEP_ROWS_MAX: usize = 1024;
/// Bytes of their keys and values, unless a single one is larger.
const STEP_BYTES_MAX: usize = 1 << 20;

/// Index and term of what is behind the first entry of a shard that had no order before.
const FIRST: (u64, u64) = (1, 1);

/// A shard that is being cut, as it was at one time.
pub struct Cut {
    shard: ShardSnapshot,
    /// Of the shard.
    slots: SlotRange,
    parts: Vec<Piece>,
    pass: Pass,
    has_begun: bool,
    /// The pass is over, but for what has expired in the parts.
    has_passed: bool,
    /// Of the parts, where it is not that of the shard.
    layout: Option<Layout>,
}

/// A part.
#[derive(Debug)]
struct Piece {
    set: RowSet,
    slots: SlotRange,
    /// What was counted of its rows.
    usage: Usage,
    buckets: Buckets,
}

impl Piece {
    /// Counts a row, if it is a key's newest revision.
    fn count(&mut self, suffix: &Bytes, raw: &Bytes) -> Result<(), EngineError> {
        usage::count_row(&mut self.usage, suffix, raw)?;
        if let Some((key, rank)) = merged_of(suffix, raw)? {
            self.buckets.add(&key, rank);
        }
        Ok(())
    }

    /// Counts such a row no more.
    fn discount(&mut self, suffix: &Bytes, raw: &Bytes) -> Result<(), EngineError> {
        usage::discount_row(&mut self.usage, suffix, raw)?;
        if let Some((key, rank)) = merged_of(suffix, raw)? {
            self.buckets.remove(&key, rank);
        }
        Ok(())
    }
}

/// Key and rank of a key's newest revision in the merged layout.
fn merged_of(suffix: &Bytes, raw: &Bytes) -> Result<Option<(Bytes, Rank)>, EngineError> {
    let Some(key) = current_of_suffix(suffix) else { return Ok(None) };
    let head = Record::decode(raw.clone())?.head;
    Ok(head.merged.map(|_| (key, head.rank())))
}

/// What a pass looks at.
enum Pass {
    /// All rows. The parts have none.
    First,
    /// All rows. The parts have an earlier copy, which is to become this one.
    Over,
    /// The rows with these suffixes, which were written since the copy that the parts have.
    Changes(std::vec::IntoIter<Bytes>),
}

impl Cut {
    /// Of a [frozen](Table::freeze) shard with these slots, for parts: their ids, the generations of their copies and their slots.
    /// `earlier`: they have an earlier copy of the shard there, of up to where it had applied then.
    pub fn new(
        (mut shard, slots): (ShardSnapshot, SlotRange),
        parts: impl IntoIterator<Item = (ShardId, u32, SlotRange)>,
        earlier: Option<u64>,
    ) -> Cut {
        let of = |(shard, generation, slots)| {
            let (set, usage, buckets) = (RowSet { shard, generation }, Usage::default(), Buckets::default());
            Piece { set, slots, usage, buckets }
        };
        let pass = match (earlier, shard.take_changed()) {
            (Some(earlier), Some(changed)) if changed.since == earlier => {
                Pass::Changes(changed.rows.into_iter())
            }
            (Some(_), _) => Pass::Over,
            (None, _) => Pass::First,
        };
        let parts = parts.into_iter().map(of).collect();
        Cut { shard, slots, parts, pass, has_begun: false, has_passed: false, layout: None }
    }

    /// For parts in a layout, which may be another than the shard's.
    pub fn into_layout(self, layout: Layout) -> Cut {
        let layout = Some(layout).filter(|layout| *layout != self.shard.layout());
        Cut { layout, ..self }
    }

    /// Up to where the shard had applied.
    pub fn applied(&self) -> Applied {
        self.shard.applied
    }

    /// Where the parts begin: where the shard ends. Copies without an order end each in its own place, and begin together in the first.
    pub fn begins_at(&self) -> (u64, u64) {
        match self.layout {
            Some(Layout::Ordered) => FIRST,
            _ => (self.shard.applied.index, self.shard.applied.term),
        }
    }

    /// How many rows it has still to look at, where that is known: what was written since the copy before.
    pub fn changes(&self) -> Option<usize> {
        match &self.pass {
            Pass::Changes(rows) => Some(rows.len()),
            Pass::First | Pass::Over => None,
        }
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut")
            .field("parts", &self.parts)
            .field("changes", &self.changes())
            .finish_non_exhaustive()
    }
}

impl Table {
    /// The copy of a shard as it is now, for a pass of one reader, who has the copies of all its passes before. What is written from now
    /// on is noted for the next one.
    pub fn freeze(&mut self, shard: ShardId, reader: usize) -> ShardSnapshot {
        let Shard { set, state, .. } = *self.loaded(shard);
        let noted = self.fresh.note(set.prefix(), reader, state.applied);
        let rows = |noted: &Noted| noted.keys.iter().map(RowSet::suffix).collect();
        let changed = noted.map(|noted| Changed { since: noted.since, rows: rows(&noted) });
        self.snapshot(shard).since(changed)
    }

    /// Takes a step of a pass; whether there are more.
    pub fn cut(&mut self, cut: &mut Cut) -> Result<bool, EngineError> {
        self.check()?;
        if !std::mem::replace(&mut cut.has_begun, true) {
            self.begin_cut(cut)?;
        }
        let usual = self.options.places();
        let more = match &mut cut.pass {
            _ if cut.has_passed => false,
            Pass::Changes(rows) => {
                let context = (&cut.shard, usual, cut.layout, cut.slots.first);
                change(&mut self.fresh, context, &mut cut.parts, rows)?;
                rows.len() > 0
            }
            Pass::First => self.cut_all(cut, false)?,
            Pass::Over => self.cut_all(cut, true)?,
        };
        if more {
            return Ok(true);
        }
        cut.has_passed = true;
        let mut whole = state_of(&cut.shard.state())?;
        if mutant::is(Mutant::BaseNotRaised) {
            whole.last = Version::ZERO;
        }
        if let Some(layout) = cut.layout {
            if layout == Layout::Ordered && self.expire_parts(cut, whole.last)? {
                return Ok(true);
            }
            // Rules are ordered, and nobody orders them where writes have no order.
            whole = State { layout, rules: Rules::default(), ..whole };
        }
        if cut.layout == Some(Layout::Ordered) {
            let (applied, term) = FIRST;
            whole = State { applied, term, floor: whole.last, ..whole };
        }
        for Piece { set, usage, buckets, .. } in &mut cut.parts {
            buckets.write(&mut self.fresh, *set);
            self.fresh.put(set.state(), State { usage: *usage, ..whole }.encode());
        }
        Ok(false)
    }

    /// Removes some of what a pass before brought to the parts, and has expired since; whether there may be more. Which copy has swept it
    /// by now is not the same everywhere.
    fn expire_parts(&mut self, cut: &mut Cut, last: Version) -> Result<bool, EngineError> {
        for piece in &mut cut.parts {
            let (from, to) = (piece.set.expiry_begin(), piece.set.expiry(last.micros() + 1, b""));
            let mut keys = Vec::new();
            self.fresh.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, _| {
                keys.push(parts_of_expiry(&row).1);
                if keys.len() < STEP_ROWS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            for key in &keys {
                remove_translated(&mut self.fresh, key, piece)?;
            }
            if !keys.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what an earlier attempt left, or goes on with what an earlier pass has counted.
    fn begin_cut(&mut self, cut: &mut Cut) -> Result<(), EngineError> {
        if cut.layout.is_some() && matches!(cut.pass, Pass::Over) {
            // Rows of one layout are not compared with those of another: it begins anew.
            cut.pass = Pass::First;
        }
        for Piece { set, usage, buckets, .. } in &mut cut.parts {
            match cut.pass {
                Pass::First => while self.forget(set.shard, set.generation)? {},
                Pass::Over => {}
                Pass::Changes(_) => {
                    let state = self.fresh.get_own(set.state().as_ref())?;
                    let none = || EngineError::corrupt("cutting a shard", "a part has no earlier copy");
                    *usage = state_of(&state.ok_or_else(none)?)?.usage;
                    *buckets = Buckets::load(&self.fresh, *set)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a step of a pass over all rows.
    fn cut_all(&mut self, cut: &mut Cut, over: bool) -> Result<bool, EngineError> {
        let from = cut.shard.cursor();
        let (rows, more) = cut.shard.step(STEP_ROWS_MAX, STEP_BYTES_MAX)?;
        let to = more.then(|| cut.shard.cursor()).flatten();
        let usual = self.options.places();
        for piece in &mut cut.parts {
            let mut own = BTreeMap::new();
            let slots = piece.slots;
            let is_own =
                |suffix: &Bytes| belongs(suffix, slots) && (cut.layout.is_none() || is_of_any_layout(suffix));
            for (suffix, value) in rows.iter().filter(|(suffix, _)| is_own(suffix)) {
                let Some(layout) = cut.layout.filter(|_| key_of_rows(suffix).is_some()) else {
                    piece.count(suffix, value)?;
                    own.insert(
                        suffix.clone(),
                        inherited(suffix, value, piece.slots.first == cut.slots.first)?,
                    );
                    continue;
                };
                // The others of its rows come along with it.
                let Some(key) = current_of_suffix(suffix) else { continue };
                own.extend(translated(&cut.shard, usual, layout, &key, piece)?);
            }
            match over {
                false => {
                    own.iter().for_each(|(suffix, value)| put(&mut self.fresh, piece.set, suffix, value))
                }
                true => replace(&mut self.fresh, piece.set, (from.as_ref(), to.as_ref()), own)?,
            }
        }
        Ok(more)
    }
}

/// A key's rows in the layout of a part, which counts them.
fn translated(
    shard: &ShardSnapshot,
    usual: Places,
    layout: Layout,
    key: &Bytes,
    piece: &mut Piece,
) -> Result<Translated, EngineError> {
    let rows = shard.reader(usual).translate(key, layout)?;
    for (suffix, value) in &rows {
        piece.count(suffix, value)?;
    }
    Ok(rows)
}

/// The user's key of a row that is a revision of it, or of an index.
fn key_of_rows(suffix: &Bytes) -> Option<Bytes> {
    let is_key_s = matches!(Part::of(suffix)?, Part::Revision | Part::Expiry | Part::Tombstone);
    key_of_suffix(suffix).filter(|_| is_key_s)
}

fn state_of(raw: &Bytes) -> Result<State, EngineError> {
    State::decode(raw.clone()).map_err(|malformed| EngineError::corrupt("cutting a shard", malformed.0))
}

/// Brings as many of these rows as a step takes to the parts that have an earlier copy of them. The part of the `first` slot tells what
/// ops on ranges did.
fn change(
    fresh: &mut Fresh,
    (shard, usual, layout, first): (&ShardSnapshot, Places, Option<Layout>, Slot),
    parts: &mut [Piece],
    rows: &mut std::vec::IntoIter<Bytes>,
) -> Result<(), EngineError> {
    let (mut bytes, mut anew) = (0, BTreeSet::new());
    for suffix in rows.take(STEP_ROWS_MAX) {
        if mutant::is(Mutant::SplitWithoutChanges) || layout.is_some() && !is_of_any_layout(&suffix) {
            continue;
        }
        if let (Some(layout), Some(key)) = (layout, key_of_rows(&suffix)) {
            if !anew.insert(key.clone()) {
                continue;
            }
            for piece in parts.iter_mut().filter(|piece| belongs(&suffix, piece.slots)) {
                bytes += translate_anew(fresh, (shard, usual, layout), &key, piece)?;
            }
        } else {
            bytes += change_row(fresh, (shard, first), parts, &suffix)?;
        }
        if bytes > STEP_BYTES_MAX {
            break;
        }
    }
    Ok(())
}

/// Brings one row to the parts, and says how many bytes that were.
fn change_row(
    fresh: &mut Fresh,
    (shard, first): (&ShardSnapshot, Slot),
    parts: &mut [Piece],
    suffix: &Bytes,
) -> Result<usize, EngineError> {
    let value = shard.row(suffix)?;
    for piece in parts.iter_mut().filter(|piece| belongs(suffix, piece.slots)) {
        let row = piece.set.with_suffix(suffix);
        if let Some(before) = fresh.get_own(row.as_ref())? {
            piece.discount(suffix, &before)?;
        }
        match &value {
            Some(value) => {
                piece.count(suffix, value)?;
                fresh.put(row, inherited(suffix, value, piece.slots.first == first)?);
            }
            None => fresh.remove(row),
        }
    }
    Ok(suffix.len() + value.map_or(0, |value| value.len()))
}

/// Makes the rows of a key in a part anew, and says how many bytes they have.
fn translate_anew(
    fresh: &mut Fresh,
    (shard, usual, layout): (&ShardSnapshot, Places, Layout),
    key: &Bytes,
    piece: &mut Piece,
) -> Result<usize, EngineError> {
    remove_translated(fresh, key, piece)?;
    let rows = translated(shard, usual, layout, key, piece)?;
    rows.iter().for_each(|(suffix, value)| put(fresh, piece.set, suffix, value));
    Ok(rows.iter().map(|(suffix, value)| suffix.len() + value.len()).sum())
}

/// Removes a key from a part, which counts it no more.
fn remove_translated(fresh: &mut Fresh, key: &Bytes, piece: &mut Piece) -> Result<(), EngineError> {
    match translate::remove_translated(fresh, piece.set, key)? {
        Some(before) => piece.discount(&RowSet::suffix(&piece.set.current(key).into()), &before),
        None => Ok(()),
    }
}

/// A row as a part has it; `tells`: of all parts this one tells what ops on ranges did.
fn inherited(suffix: &Bytes, value: &Bytes, tells: bool) -> Result<Bytes, EngineError> {
    match Part::of(suffix) {
        Some(Part::Session) => sessions::inherited(value, tells),
        Some(Part::Ledger) => ledger::inherited(suffix, value, tells),
        // Copied: a row must not hold on to the block that it was read from.
        _ => Ok(Bytes::copy_from_slice(value)),
    }
}

fn put(fresh: &mut Fresh, set: RowSet, suffix: &[u8], value: &Bytes) {
    fresh.put(set.with_suffix(suffix), value.clone());
}

/// Makes the rows of a copy behind one suffix, up to another, be these.
fn replace(
    fresh: &mut Fresh,
    set: RowSet,
    (from, to): (Option<&Bytes>, Option<&Bytes>),
    mut rows: BTreeMap<Bytes, Bytes>,
) -> Result<(), EngineError> {
    let bytes = |suffix: &Bytes| Bytes::from(set.with_suffix(suffix));
    let begin = from.map_or_else(|| Bytes::from(set.current(b"")), bytes);
    let end = to.map_or_else(|| set.end(), bytes);
    let from = if from.is_some() { Bound::Excluded(&begin[..]) } else { Bound::Included(&begin[..]) };
    let to = if to.is_some() { Bound::Included(&end[..]) } else { Bound::Excluded(&end[..]) };
    let mut gone = Vec::new();
    fresh.scan(from, to, false, &mut |row, value| {
        let suffix = RowSet::suffix(&row);
        match rows.get(&suffix) {
            Some(now) if *now == value => drop(rows.remove(&suffix)),
            Some(_) => {}
            None => gone.push(Bytes::copy_from_slice(&row)),
        }
        ControlFlow::Continue(())
    })?;
    gone.iter().for_each(|row| fresh.remove(row));
    rows.iter().for_each(|(suffix, value)| put(fresh, set, suffix, value));
    Ok(())
}

/// Whether a row is of a part with these slots.
fn belongs(suffix: &Bytes, slots: SlotRange) -> bool {
    match key_of_suffix(suffix) {
        Some(key) => has(slots, Slot::of(&key)),
        None => match Part::of(suffix) {
            Some(Part::Session) => !mutant::is(Mutant::SplitWithoutSessions),
            part => part == Some(Part::Ledger),
        },
    }
}

/// Whether a row that is no key's is of use in another layout. What was remembered of requests is not where nobody asks the table for it, and
/// what the table remembered before writes had no order knows nothing of those since.
fn is_of_any_layout(suffix: &Bytes) -> bool {
    Part::of(suffix) != Some(Part::Session)
}

fn has(slots: SlotRange, slot: Slot) -> bool {
    let loses = mutant::is(Mutant::SplitLosesBoundarySlot) && slots.last.0 + 1 < SLOTS;
    slots.first <= slot && (slot < slots.last || slot == slots.last && !loses)
}
