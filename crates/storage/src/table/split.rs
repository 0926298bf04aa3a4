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
//! A pass goes in steps, each as long as a piece of a copy that comes in. What was written in part is no copy: the owner knows when
//! the last step is done.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::keyspace::Usage;
use kv::{SLOTS, ShardId, Slot, SlotRange, Version};
use mutant::Mutant;

use super::shard::{Shard, State};
use super::snapshot::{Changed, ShardSnapshot};
use super::{Applied, Table, ledger, sessions, usage};
use crate::engine::{EngineError, View};
use crate::fresh::{Fresh, Noted};
use crate::keys::{Part, RowSet, key_of_suffix};

/// Rows that one step looks at: some milliseconds.
const STEP_ROWS_MAX: usize = 1024;
/// Bytes of their keys and values, unless a single one is larger.
const STEP_BYTES_MAX: usize = 1 << 20;

/// A shard that is being cut, as it was at one time.
pub struct Cut {
    shard: ShardSnapshot,
    /// Of the shard.
    slots: SlotRange,
    parts: Vec<(RowSet, SlotRange, Usage)>,
    pass: Pass,
    has_begun: bool,
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
        let of = |(shard, generation, slots)| (RowSet { shard, generation }, slots, Usage::default());
        let pass = match (earlier, shard.take_changed()) {
            (Some(earlier), Some(changed)) if changed.since == earlier => {
                Pass::Changes(changed.rows.into_iter())
            }
            (Some(_), _) => Pass::Over,
            (None, _) => Pass::First,
        };
        Cut { shard, slots, parts: parts.into_iter().map(of).collect(), pass, has_begun: false }
    }

    /// Up to where the shard had applied.
    pub fn applied(&self) -> Applied {
        self.shard.applied
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
        let more = match &mut cut.pass {
            Pass::Changes(rows) => {
                change(&mut self.fresh, &cut.shard, cut.slots.first, &mut cut.parts, rows)?;
                rows.len() > 0
            }
            Pass::First => self.cut_all(cut, false)?,
            Pass::Over => self.cut_all(cut, true)?,
        };
        if !more {
            let mut whole = state_of(&cut.shard.state())?;
            if mutant::is(Mutant::BaseNotRaised) {
                whole.last = Version::ZERO;
            }
            for (set, _, usage) in &cut.parts {
                self.fresh.put(set.state(), State { usage: *usage, ..whole }.encode());
            }
        }
        Ok(more)
    }

    /// Removes what an earlier attempt left, or goes on with what an earlier pass has counted.
    fn begin_cut(&mut self, cut: &mut Cut) -> Result<(), EngineError> {
        for (set, _, usage) in &mut cut.parts {
            match cut.pass {
                Pass::First => while self.forget(set.shard, set.generation)? {},
                Pass::Over => {}
                Pass::Changes(_) => {
                    let state = self.fresh.get_own(&set.state())?;
                    let none = || EngineError::corrupt("cutting a shard", "a part has no earlier copy");
                    *usage = state_of(&state.ok_or_else(none)?)?.usage;
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
        for (set, slots, usage) in &mut cut.parts {
            let mut own = BTreeMap::new();
            for (suffix, value) in rows.iter().filter(|(suffix, _)| belongs(suffix, *slots)) {
                usage::count_row(usage, suffix, value)?;
                own.insert(suffix.clone(), inherited(suffix, value, slots.first == cut.slots.first)?);
            }
            match over {
                false => own.iter().for_each(|(suffix, value)| put(&mut self.fresh, *set, suffix, value)),
                true => replace(&mut self.fresh, *set, (from.as_ref(), to.as_ref()), own)?,
            }
        }
        Ok(more)
    }
}

fn state_of(raw: &Bytes) -> Result<State, EngineError> {
    State::decode(raw.clone()).map_err(|malformed| EngineError::corrupt("cutting a shard", malformed.0))
}

/// Brings as many of these rows as a step takes to the parts that have an earlier copy of them. The part of the `first` slot tells what
/// ops on ranges did.
fn change(
    fresh: &mut Fresh,
    shard: &ShardSnapshot,
    first: Slot,
    parts: &mut [(RowSet, SlotRange, Usage)],
    rows: &mut std::vec::IntoIter<Bytes>,
) -> Result<(), EngineError> {
    let mut bytes = 0;
    for suffix in rows.take(STEP_ROWS_MAX) {
        if mutant::is(Mutant::SplitWithoutChanges) {
            continue;
        }
        let value = shard.row(&suffix)?;
        for (set, slots, usage) in parts.iter_mut().filter(|(_, slots, _)| belongs(&suffix, *slots)) {
            let row = set.with_suffix(&suffix);
            if let Some(before) = fresh.get_own(&row)? {
                usage::discount_row(usage, &suffix, &before)?;
            }
            match &value {
                Some(value) => {
                    usage::count_row(usage, &suffix, value)?;
                    fresh.put(row, inherited(&suffix, value, slots.first == first)?);
                }
                None => fresh.remove(row),
            }
        }
        bytes += suffix.len() + value.map_or(0, |value| value.len());
        if bytes > STEP_BYTES_MAX {
            break;
        }
    }
    Ok(())
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

fn has(slots: SlotRange, slot: Slot) -> bool {
    let loses = mutant::is(Mutant::SplitLosesBoundarySlot) && slots.last.0 + 1 < SLOTS;
    slots.first <= slot && (slot < slots.last || slot == slots.last && !loses)
}
