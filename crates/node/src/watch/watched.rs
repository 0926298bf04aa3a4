//! One client's watch: where each range of its slots is, and what is asked next.

use std::collections::VecDeque;
use std::sync::Arc;

use kv::watch::{Batch, Filter, Reach, Reached, Start, Watching};
use kv::{Error, Slot, SlotRange, Version};
use mutant::Mutant;

use super::{Given, Pull, Pulled};
use crate::route::ShardMap;

/// How long a pull waits for a change. It is the longest that a watch which nobody wants any more is remembered, and how often
/// it is told that it has gone on while none of its keys changed.
const WAIT_MICROS: u64 = 2_000_000;
/// A pull waits as many times longer, when so many before brought nothing new: a watch of a thousand idle shards costs little.
const WAIT_FACTOR_MAX: u64 = 8;
/// Nothing more is asked while so many bytes of changes were not taken.
const READY_BYTES_MAX: usize = 256 << 10;
/// So many pulls in a row may find that what comes next is kept by nobody who could be asked, while others are away, before the
/// watch is told so.
const TRIMMED_MAX: u32 = 3;
/// So many pulls in a row may find nobody to ask, before whoever watches is sent to another node.
const FAILED_MAX: u32 = 3;

/// A watch, as whoever serves its client drives it: it hands out pulls, is given what they were answered, and gives batches.
pub struct Watched {
    filter: Filter,
    parts: Vec<Part>,
    next_name: u64,
    reached: Reached,
    /// What was given and not taken.
    ready: VecDeque<Batch>,
    ready_bytes: usize,
    ended: Option<Error>,
}

/// A range of slots that one shard has.
struct Part {
    slots: SlotRange,
    shard: kv::ShardId,
    after: Option<Version>,
    /// What it was asked last, while it was not answered.
    asked: Option<u64>,
    /// It was never answered: the first answer says where it begins.
    is_new: bool,
    /// Pulls in a row that brought nothing new; that found nobody; that found what is asked for trimmed.
    idle: u64,
    failed: u32,
    trimmed: u32,
}

impl Watched {
    /// Begins a watch on the shards of a map; `now` is the cluster's time in microseconds since 1970.
    pub fn begin(watching: Watching, map: &ShardMap, now: u64) -> Result<Watched, Error> {
        watching.validate()?;
        check_start(&watching.from, now)?;
        let Watching { filter, from, .. } = watching;
        let reached = match &from {
            Start::Reached(reached) => Reached::of(reached.clone()),
            _ => Reached::default(),
        };
        let mut watched = Watched {
            parts: Vec::new(),
            next_name: 0,
            reached: Reached::default(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            ended: None,
            filter,
        };
        for slots in pieces(watched.filter.slots(), &reached) {
            let after = match from {
                Start::Version(version) => Some(version.before()),
                Start::Now | Start::Reached(_) => reached.of_slot(slots.first),
            };
            watched.add(slots, after, map);
        }
        Ok(watched)
    }

    /// What is to be asked now, each under a name.
    pub fn pulls(&mut self) -> Vec<(u64, Pull)> {
        if self.ended.is_some() || self.ready_bytes >= READY_BYTES_MAX {
            return Vec::new();
        }
        let mut pulls = Vec::new();
        for part in self.parts.iter_mut().filter(|part| part.asked.is_none()) {
            self.next_name += 1;
            part.asked = Some(self.next_name);
            pulls.push((self.next_name, part.pull(&self.filter)));
        }
        pulls
    }

    /// What a pull was answered; the map as it is known now.
    pub fn answered(&mut self, name: u64, answer: Pulled, map: &ShardMap) {
        let Some(place) = self.parts.iter().position(|part| part.asked == Some(name)) else { return };
        let part = &mut self.parts[place];
        part.asked = None;
        match answer {
            Pulled::Given(given) => self.given(place, given),
            Pulled::Gone => {
                let Part { slots, after, .. } = self.parts.swap_remove(place);
                self.add(slots, after, map);
            }
            Pulled::Trimmed { is_sure: false, .. } if part.trimmed < TRIMMED_MAX => part.trimmed += 1,
            Pulled::Trimmed { oldest, .. } => {
                let asked = part.after.unwrap_or_default().next();
                self.ended = Some(Error::Trimmed { asked, oldest });
            }
            Pulled::Failed(_) if part.failed < FAILED_MAX && !part.is_new => part.failed += 1,
            Pulled::Failed(error) => self.ended = Some(error),
        }
    }

    /// The next batch, if there is one.
    pub fn take(&mut self) -> Option<Result<Batch, Error>> {
        if let Some(batch) = self.ready.pop_front() {
            self.ready_bytes -= bytes_of(&batch);
            return Some(Ok(batch));
        }
        self.ended.clone().map(Err)
    }

    /// Why nothing more comes, once that is so.
    pub fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// Nothing more comes, for this reason.
    pub fn end(&mut self, error: Error) {
        self.ended.get_or_insert(error);
    }

    fn given(&mut self, place: usize, Given { changes, through }: Given) {
        let part = &mut self.parts[place];
        assert!(part.after.is_none_or(|after| through >= after), "what was given stays given");
        let is_news = part.is_new || !changes.is_empty() || part.after < Some(through);
        part.idle = if is_news { 0 } else { part.idle + 1 };
        (part.after, part.is_new, part.failed, part.trimmed) = (Some(through), false, 0, 0);
        if !is_news {
            return;
        }
        let (shard, slots) = (part.shard, part.slots);
        let reach = Reach { slots, through };
        // A shard may have slots beside these.
        let is_all = changes.iter().all(|change| slots.contains(Slot::of(&change.key)));
        let changes = match is_all {
            true => changes,
            false => changes.iter().filter(|change| slots.contains(Slot::of(&change.key))).cloned().collect(),
        };
        self.reached.note(reach);
        let batch = Batch { shard, reach, progress: self.progress(), changes: Arc::clone(&changes) };
        self.ready_bytes += bytes_of(&batch);
        self.ready.push_back(batch);
    }

    /// Up to where all slots have been given, if all have begun.
    fn progress(&self) -> Option<Version> {
        if mutant::is(Mutant::WatchProgressOvertakes) {
            return self.parts.iter().filter_map(|part| part.after).max();
        }
        self.parts.iter().map(|part| part.after).min().flatten()
    }

    /// Some slots are to be given from a version on, by the shards that have them.
    fn add(&mut self, slots: SlotRange, after: Option<Version>, map: &ShardMap) {
        let SlotRange { first, last } = slots;
        for (shard, own) in map.shards() {
            let slots = SlotRange { first: own.first.max(first), last: own.last.min(last) };
            if slots.first <= slots.last {
                let (idle, failed, trimmed) = Default::default();
                let (shard, asked, is_new) = (*shard, None, true);
                self.parts.push(Part { slots, shard, after, asked, is_new, idle, failed, trimmed });
            }
        }
    }
}

impl Part {
    fn pull(&self, filter: &Filter) -> Pull {
        let wait_micros = match self.is_new {
            true => 0,
            false => WAIT_MICROS * (1 + self.idle).min(WAIT_FACTOR_MAX),
        };
        Pull { shard: self.shard, filter: filter.clone(), after: self.after, wait_micros }
    }
}

/// The slots of a watch, cut where it has been given to different versions.
fn pieces(all: SlotRange, reached: &Reached) -> Vec<SlotRange> {
    let mut pieces: Vec<SlotRange> = Vec::new();
    for slot in (all.first.0..=all.last.0).map(Slot) {
        match pieces.last_mut() {
            Some(piece) if reached.of_slot(piece.first) == reached.of_slot(slot) => piece.last = slot,
            _ => pieces.push(SlotRange { first: slot, last: slot }),
        }
    }
    pieces
}

/// How far the clocks of nodes, and the newest version of a shard, may be ahead of this node's clock, in microseconds.
const SKEW_MICROS: u64 = 1_000_000;

/// Nobody waits for what may never come: a version that nobody has given out is a mistake. Where an earlier watch was, the store has
/// said: a shard's versions may be ahead of this clock by more, once the clock of a node that led it was.
fn check_start(from: &Start, now: u64) -> Result<(), Error> {
    let version = match from {
        Start::Version(version) => Some(*version),
        Start::Now | Start::Reached(_) => None,
    };
    match version.filter(|version| version.micros() > now.saturating_add(SKEW_MICROS)) {
        Some(asked) => Err(Error::Future { asked, newest: Version::end_of(now) }),
        None => Ok(()),
    }
}

fn bytes_of(batch: &Batch) -> usize {
    batch.changes.iter().map(kv::watch::Change::bytes).sum()
}
