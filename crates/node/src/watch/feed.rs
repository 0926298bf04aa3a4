//! The changes that the replicas of a core have applied lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kv::watch::{Change, Filter};
use kv::{ShardId, Version};
use replication::Instant;

use super::{FEED_BYTES_MAX, FEED_MICROS_MAX, Given, Lately};

/// What a change takes beside its bytes: its place, its two buffers.
const CHANGE_BYTES: usize = 160;
/// An answer ends when it has so many bytes: one message of a connection, a millisecond of a network.
const GIVEN_BYTES: usize = 64 << 10;
/// It ends as well when so many changes were looked at: some dozen microseconds of a turn.
const LOOKED_MAX: usize = 4096;
/// A stop writes this part of what may be kept: it takes a part of a second, and covers some seconds of a usual load.
const LATELY_PART: usize = 4;

/// What the replicas of a core have applied lately, and those that were here a while ago.
pub(crate) struct Feeds {
    feeds: BTreeMap<ShardId, Feed>,
    /// Of all feeds, the oldest first.
    kept: VecDeque<Kept>,
    bytes: usize,
    bytes_max: usize,
    /// Feeds that have begun.
    lives: u64,
}

/// What of one entry, or of some, is kept.
struct Kept {
    shard: ShardId,
    life: u64,
    at: Instant,
    count: usize,
}

/// The changes of a shard above `floor` and up to `through`.
struct Feed {
    life: u64,
    source: Source,
    floor: Version,
    through: Version,
    changes: VecDeque<Change>,
}

/// What a feed is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A replica that is here.
    Here,
    /// One that is to be: nobody is served from it.
    Heir,
    /// One that was dropped then: nothing more comes.
    Left(Instant),
}

/// What a feed has for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Changes, or that there are none as far as was looked.
    Given(Given),
    /// Nothing that it asked for yet: it may wait, and misses nothing.
    Waits,
    /// It has been given more than is known here yet.
    Behind,
    /// It has been given all that there will ever be here.
    Over,
    /// What comes right after its version is not kept here.
    Trimmed {
        /// The first version that could be begun at.
        oldest: Version,
    },
    /// There is no feed.
    Nothing,
}

impl Feeds {
    /// Of a core that is one of so many.
    pub fn new(cores: usize) -> Feeds {
        let (feeds, kept) = Default::default();
        Feeds { feeds, kept, bytes: 0, bytes_max: FEED_BYTES_MAX / cores.max(1), lives: 0 }
    }

    /// A replica is as of this version from now on. What was kept of its shard before stays if it ends just there.
    pub fn begin(&mut self, shard: ShardId, source: Source, last: Version) {
        if shard == ShardId::DIRECTORY {
            return;
        }
        if let Some(feed) = self.feeds.get_mut(&shard).filter(|feed| feed.through == last) {
            feed.source = source;
            return;
        }
        self.forget(shard);
        self.lives += 1;
        let feed = Feed { life: self.lives, source, floor: last, through: last, changes: VecDeque::new() };
        self.feeds.insert(shard, feed);
    }

    /// All that is kept of a shard.
    pub fn all_of(&self, shard: ShardId) -> Option<Lately> {
        let Feed { floor, through, changes, .. } = self.feeds.get(&shard)?;
        Some(Lately { floor: *floor, through: *through, changes: changes.iter().cloned().collect() })
    }

    /// A replica is here no more.
    pub fn leave(&mut self, shard: ShardId, now: Instant) {
        if let Some(feed) = self.feeds.get_mut(&shard) {
            feed.source = Source::Left(now);
        }
    }

    /// Nothing is kept of a shard any more.
    pub fn forget(&mut self, shard: ShardId) {
        if let Some(feed) = self.feeds.remove(&shard) {
            self.bytes -= feed.changes.iter().map(bytes_of).sum::<usize>();
        }
    }

    /// An entry was applied; the newest version is `last`. Returns the version before.
    pub fn push(
        &mut self,
        shard: ShardId,
        changes: Vec<Change>,
        last: Version,
        now: Instant,
    ) -> Option<Version> {
        let feed = self.feeds.get_mut(&shard)?;
        let before = feed.through;
        assert!(last >= before, "the newest version of shard {shard} is {last}, and was {before}");
        let is_later = |change: &Change| change.version > before && change.version <= last;
        assert!(changes.iter().all(is_later), "an entry's changes have versions of its own");
        feed.through = last;
        if changes.is_empty() {
            return Some(before);
        }
        let count = changes.len();
        self.bytes += changes.iter().map(bytes_of).sum::<usize>();
        feed.changes.extend(changes);
        let life = feed.life;
        match self.kept.back_mut() {
            Some(kept) if (kept.life, kept.at) == (life, now) => kept.count += count,
            _ => self.kept.push_back(Kept { shard, life, at: now, count }),
        }
        Some(before)
    }

    /// Lets go of what is too old or too much. What came last stays.
    pub fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.kept.front() {
            let is_known = self.feeds.get(&oldest.shard).is_some_and(|feed| feed.life == oldest.life);
            let is_much = self.bytes > self.bytes_max && self.kept.len() > 1;
            if is_known && !is_much && now.since(oldest.at) < FEED_MICROS_MAX {
                break;
            }
            let Some(oldest) = self.kept.pop_front() else { break };
            if let Some(feed) = self.feeds.get_mut(&oldest.shard).filter(|_| is_known) {
                self.bytes -= feed.drop_first(oldest.count);
            }
        }
    }

    /// Lets go of those whose replicas left long ago.
    pub fn sweep(&mut self, now: Instant) {
        let is_over =
            |feed: &Feed| matches!(feed.source, Source::Left(at) if now.since(at) >= FEED_MICROS_MAX);
        let over = self.feeds.iter().filter(|(_, feed)| is_over(feed)).map(|(shard, _)| *shard);
        for shard in Vec::from_iter(over) {
            self.forget(shard);
        }
    }

    /// Whether there is a replica with a feed here.
    pub fn is_here(&self, shard: ShardId) -> bool {
        self.feeds.get(&shard).is_some_and(|feed| feed.source == Source::Here)
    }

    /// Whether a shard's changes from a version on are kept for who asks for them. Of a replica that left there are none behind
    /// its end.
    pub fn keeps_from(&self, shard: ShardId, version: Version) -> bool {
        self.feeds.get(&shard).is_some_and(|feed| {
            let comes = match feed.source {
                Source::Here => true,
                Source::Heir => false,
                Source::Left(_) => version <= feed.through,
            };
            comes && feed.floor < version
        })
    }

    /// What was kept before a shard's replica was there: before a start, or of the shard that it was cut from. What its table has is as it
    /// was, and what it lacks is applied again.
    pub fn resume(&mut self, shard: ShardId, lately: Lately, now: Instant) {
        let Lately { floor, through, mut changes } = lately;
        let Some(feed) = self.feeds.get_mut(&shard) else { return };
        if !feed.changes.is_empty() || !(floor..=through).contains(&feed.through) {
            return;
        }
        changes.retain(|change| change.version <= feed.through);
        feed.floor = floor;
        self.bytes += changes.iter().map(bytes_of).sum::<usize>();
        let (life, at, count) = (feed.life, now, changes.len());
        feed.changes = changes.into();
        self.kept.push_back(Kept { shard, life, at, count });
    }

    /// What is kept for a start to come, in pieces, those of a shard in order: the newest of what is here.
    pub fn lately(&self) -> Vec<(ShardId, Lately)> {
        let mut counts: BTreeMap<ShardId, usize> = BTreeMap::new();
        let mut left = self.bytes_max / LATELY_PART;
        for kept in self.kept.iter().rev() {
            let Some(feed) = self.feeds.get(&kept.shard).filter(|feed| feed.life == kept.life) else {
                continue;
            };
            let count = counts.entry(kept.shard).or_default();
            let end = feed.changes.len() - *count;
            let bytes: usize = feed.changes.range(end - kept.count..end).map(bytes_of).sum();
            let Some(fits) = left.checked_sub(bytes) else { break };
            (left, *count) = (fits, *count + kept.count);
        }
        let here = self.feeds.iter().filter(|(_, feed)| feed.source == Source::Here);
        let pieces = here.flat_map(|(shard, feed)| {
            let count = counts.get(shard).copied().unwrap_or_default();
            feed.lately(count).into_iter().map(|piece| (*shard, piece))
        });
        pieces.collect()
    }

    /// Up to where a shard's changes are known here.
    pub fn through(&self, shard: ShardId) -> Option<Version> {
        self.feeds.get(&shard).map(|feed| feed.through)
    }

    /// What a shard has for a reader who has been given everything up to a version; `None` = who begins now.
    pub fn read(&self, shard: ShardId, filter: &Filter, after: Option<Version>) -> Held {
        let is_served = |feed: &&Feed| feed.source != Source::Heir;
        let Some(feed) = self.feeds.get(&shard).filter(is_served) else { return Held::Nothing };
        let is_here = feed.source == Source::Here;
        match after {
            None if is_here => Held::Given(Given::nothing(feed.through)),
            None => Held::Nothing,
            Some(after) if after > feed.through && is_here => Held::Behind,
            Some(after) if after < feed.floor => Held::Trimmed { oldest: feed.floor.next() },
            Some(after) => {
                let given = feed.read(filter, after);
                let is_whole = given.through >= feed.through;
                match given.changes.is_empty() && is_whole {
                    true if is_here => Held::Waits,
                    true if after < feed.through => Held::Given(given),
                    true => Held::Over,
                    false => Held::Given(given),
                }
            }
        }
    }

    /// The changes after the first so many versions that are waited for: those above a version.
    pub fn newer(&self, shard: ShardId, than: Version) -> impl Iterator<Item = &Change> {
        let feed = self.feeds.get(&shard);
        feed.into_iter().flat_map(move |feed| feed.changes.range(feed.place(than)..))
    }
}

impl Feed {
    /// The place of the first change above a version.
    fn place(&self, version: Version) -> usize {
        self.changes.partition_point(|change| change.version <= version)
    }

    /// Changes after a version, up to the end or as many as go into an answer. It ends between two versions.
    fn read(&self, filter: &Filter, after: Version) -> Given {
        let (mut changes, mut bytes, mut before) = (Vec::new(), 0, after);
        for (looked, change) in self.changes.range(self.place(after)..).enumerate() {
            if change.version > before && (bytes >= GIVEN_BYTES || looked >= LOOKED_MAX) {
                return Given { changes: changes.into(), through: before };
            }
            before = change.version;
            if filter.has(&change.key) {
                bytes += bytes_of(change);
                changes.push(change.clone());
            }
        }
        Given { changes: Arc::from(changes), through: self.through.max(after) }
    }

    /// Its newest so many changes, which are those of whole entries, in pieces.
    fn lately(&self, count: usize) -> Vec<Lately> {
        let begin = self.changes.len() - count;
        let floor = begin.checked_sub(1).map_or(self.floor, |before| self.changes[before].version);
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        let mut piece = Lately { floor, through: floor, changes: Vec::new() };
        for change in self.changes.range(begin..) {
            if bytes >= GIVEN_BYTES && change.version > piece.through {
                let next = Lately { floor: piece.through, through: piece.through, changes: Vec::new() };
                pieces.push(std::mem::replace(&mut piece, next));
                bytes = 0;
            }
            bytes += bytes_of(change);
            piece.through = change.version;
            piece.changes.push(change.clone());
        }
        piece.through = self.through;
        if piece.floor < piece.through {
            pieces.push(piece);
        }
        pieces
    }

    /// Lets go of the oldest changes, and says how many bytes those were.
    fn drop_first(&mut self, count: usize) -> usize {
        assert!(count <= self.changes.len(), "what is let go of is kept");
        let mut bytes = 0;
        for change in self.changes.drain(..count) {
            bytes += bytes_of(&change);
            self.floor = change.version;
        }
        bytes
    }
}

fn bytes_of(change: &Change) -> usize {
    change.bytes() + CHANGE_BYTES
}
