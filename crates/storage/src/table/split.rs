//! A shard is cut: the rows of a frozen copy go to the copies of its parts.
//!
//! One pass over the rows gives each part those of its slots: a key's newest revision, its older ones, its deadline. The requests that
//! are remembered go to each of them, for a request that comes again may concern any key; but what an op on a range counted goes to the
//! first only, so that together they tell it once. The shard's state goes to each of them too, its newest version among it, but for
//! what it holds, which is counted as the rows pass.
//!
//! A second pass, of a later time, writes only what differs, and removes what is not there any more: so what came between two passes
//! costs what it is, and a pass over what is equal costs reading it.
//!
//! A pass goes in steps, each as long as a piece of a copy that comes in. What was written in part is no copy: the owner knows when
//! the last step is done.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::keyspace::Usage;
use kv::{SLOTS, ShardId, Slot, SlotRange};
use mutant::Mutant;

use super::shard::State;
use super::snapshot::ShardSnapshot;
use super::{Applied, Table, sessions, usage};
use crate::engine::{EngineError, View};
use crate::fresh::Fresh;
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
    /// The parts have an earlier copy, which is to become this one.
    over: bool,
    has_begun: bool,
}

impl Cut {
    /// Of a frozen shard with these slots, for parts: their ids, the generations of their copies and their slots. `over`: they have an earlier copy of
    /// the shard there.
    pub fn new(
        (shard, slots): (ShardSnapshot, SlotRange),
        parts: impl IntoIterator<Item = (ShardId, u32, SlotRange)>,
        over: bool,
    ) -> Cut {
        let of = |(shard, generation, slots)| (RowSet { shard, generation }, slots, Usage::default());
        Cut { shard, slots, parts: parts.into_iter().map(of).collect(), over, has_begun: false }
    }

    /// Up to where the shard had applied.
    pub fn applied(&self) -> Applied {
        self.shard.applied
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut").field("parts", &self.parts).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Table {
    /// Takes a step of a pass; whether there are more.
    pub fn cut(&mut self, cut: &mut Cut) -> Result<bool, EngineError> {
        self.check()?;
        if !std::mem::replace(&mut cut.has_begun, true) && !cut.over {
            for (set, ..) in &cut.parts {
                while self.forget(set.shard, set.generation)? {}
            }
        }
        let from = cut.shard.cursor();
        let (rows, more) = cut.shard.step(STEP_ROWS_MAX, STEP_BYTES_MAX)?;
        let to = more.then(|| cut.shard.cursor()).flatten();
        for (set, slots, usage) in &mut cut.parts {
            let mut own = BTreeMap::new();
            for (suffix, value) in rows.iter().filter(|(suffix, _)| belongs(suffix, *slots)) {
                usage::count_row(usage, suffix, value)?;
                own.insert(suffix.clone(), inherited(suffix, value, slots.first == cut.slots.first)?);
            }
            match cut.over {
                false => own.iter().for_each(|(suffix, value)| put(&mut self.fresh, *set, suffix, value)),
                true => replace(&mut self.fresh, *set, (from.as_ref(), to.as_ref()), own)?,
            }
            if !more {
                let whole = State::decode(cut.shard.state())
                    .map_err(|malformed| EngineError::corrupt("cutting a shard", malformed.0))?;
                self.fresh.put(set.state(), State { usage: *usage, ..whole }.encode());
            }
        }
        Ok(more)
    }
}

/// A row as a part has it; `tells`: of all parts this one tells what ops on ranges did.
fn inherited(suffix: &Bytes, value: &Bytes, tells: bool) -> Result<Bytes, EngineError> {
    match Part::of(suffix) {
        Some(Part::Session) => sessions::inherited(value, tells),
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
        None => Part::of(suffix) == Some(Part::Session) && !mutant::is(Mutant::SplitWithoutSessions),
    }
}

fn has(slots: SlotRange, slot: Slot) -> bool {
    let loses = mutant::is(Mutant::SplitLosesBoundarySlot) && slots.last.0 + 1 < SLOTS;
    slots.first <= slot && (slot < slots.last || slot == slots.last && !loses)
}
