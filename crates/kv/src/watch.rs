//! The waist of watches: what changes is given to whoever asked, each change once, in order, and none left out.
//!
//! # The problem
//!
//! Whoever keeps a copy of some keys has to hear of every change of them, whatever becomes of the node that tells it, of the
//! shard that has them, and of its own connection. So a watch needs a place to go on from that does not depend on who told it.
//!
//! # How it is solved
//!
//! All replicas of a shard apply the same entries with the same versions, and versions rise within a shard. So a version *is* that
//! place: each [`Batch`] says how far it [reaches](Reach), and the changes behind that can be had from any replica that still
//! keeps them. A watch is pulled: a [`Watcher`] is asked for the next batch when there is room for it, and nothing is pushed.
//!
//! ```text
//! shard 7, slots 0-8191       10 put a    11 put b    15 delete a    20 put a
//! batch 1                     10 put a    11 put b                              reaches 11
//! its node dies; another one is asked for what comes after 11
//! batch 2                                             15 delete a    20 put a   reaches 20
//! ```
//!
//! # What holds
//!
//! - Every change is given once, with the version of the op that made it, and in the order of the versions of its shard. A key
//!   that an op changes twice changes once. Nothing is given that could still be lost.
//! - A batch that reaches a version brings the last of what its slots have up to it. [`Batch::progress`] is the version up to which
//!   all slots of the watch have been given: a watch from the version after it misses nothing.
//! - What is no longer kept is [`Error::Trimmed`], with the first version that a watch can begin at; it is never left out in silence.
//! - A key that expires is a change too. It comes when its shard removes the row, which is a little after the deadline, at the
//!   version that the shard has then; reads miss the key from the deadline on.
//!
//! # Caveats
//!
//! - There is no order among shards. [`Batch::progress`] does not pass a shard that is idle: it stays at that shard's newest version.
//! - Changes are kept for ten minutes, and less when there are many. They are in memory: a node that is stopped and started has
//!   those that its log still brings.

use std::fmt;
use std::sync::Arc;

use crate::{Error, KEY_BYTES_MAX, Key, Request, ShardId, Slot, SlotRange, Value, Version};

/// Whoever can be watched: a node, a dialect's client.
pub trait Watch: Send + Sync {
    /// Begins a watch. What is wrong with it is told as its first event.
    fn watch(&self, asked: Watching) -> Box<dyn Watcher>;
}

/// A watch under way. It ends when it is dropped.
pub trait Watcher: Send {
    /// Asks for what comes next, and returns at once; `take` is called when there is something, on any thread, or is dropped when
    /// the store ends. A batch may be empty: each range of slots has one when it has begun, and from then on what is changed is
    /// given. To be called again after `take` was. After an error there is nothing more.
    fn next(&mut self, take: Take);
}

/// Takes the next batch.
///
/// [`Error::Trimmed`] = some of it is not kept any more. [`Error::Future`] = nothing has the version yet that it is to begin at.
/// [`Error::Unavailable`] = it could not begin, or cannot go on here: watch again from where it was.
pub type Take = Box<dyn FnOnce(Result<Batch, Error>) + Send>;

/// What is to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The keyspace.
    pub keyspace: String,
    /// Which of its keys.
    pub filter: Filter,
    /// Where it begins.
    pub from: Start,
}

/// Which keys a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// One key.
    Key(Key),
    /// All keys that begin like this; empty = all.
    Prefix(Key),
}

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what changes from now on.
    Now,
    /// With the changes of this version and all after it.
    Version(Version),
    /// Where an earlier watch was: see [`Reached`]. Slots that are not in it begin now.
    Reached(Vec<Reach>),
}

/// These slots have been given up to this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The slots.
    pub slots: SlotRange,
    /// Everything up to here, and nothing of what comes after.
    pub through: Version,
}

/// Changes of one shard, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Whose they are.
    pub shard: ShardId,
    /// The slots that it is about, and how far it takes them.
    pub reach: Reach,
    /// Up to which version everything of the whole watch has been given, this batch included; `None` = it has not begun
    /// everywhere.
    pub progress: Option<Version>,
    /// The changes. None = there were none.
    pub changes: Arc<[Change]>,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Of the op that changed it. Several keys may have been changed by one op.
    pub version: Version,
    /// What it is now.
    pub what: What,
}

/// What a key is after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It has a value, or a new deadline.
    Put {
        /// The value.
        value: Value,
        /// When it expires, in microseconds since 1970.
        deadline: Option<u64>,
    },
    /// It was deleted.
    Deleted,
    /// Its deadline has passed.
    Expired,
}

impl Watching {
    /// All keys with a prefix of the default keyspace, from now on.
    pub fn prefix(prefix: Key) -> Watching {
        let filter = Filter::Prefix(prefix);
        Watching { keyspace: Request::KEYSPACE.into(), filter, from: Start::Now }
    }

    /// Checks it against the limits.
    pub fn validate(&self) -> Result<(), Error> {
        let (what, key) = match &self.filter {
            Filter::Key(key) => ("a key", key),
            Filter::Prefix(prefix) => ("a prefix", prefix),
        };
        if key.len() > KEY_BYTES_MAX {
            let (size, limit) = (key.len() as u64, KEY_BYTES_MAX as u64);
            return Err(Error::TooLarge { what: what.into(), size, limit });
        }
        if self.filter == Filter::Key(Key::new()) {
            return Err(Error::Invalid("a key has at least one byte: to watch all keys, give none".into()));
        }
        let Start::Reached(reached) = &self.from else { return Ok(()) };
        let is_range = |reach: &Reach| reach.slots.first <= reach.slots.last;
        let in_order = reached.is_sorted_by(|one, other| one.slots.last < other.slots.first);
        match in_order && reached.iter().all(is_range) {
            true => Ok(()),
            false => Err(Error::Invalid("the slots that a watch has reached are in order, each once".into())),
        }
    }
}

impl Filter {
    /// Whether a key is one of those.
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Filter::Key(one) => one == key,
            Filter::Prefix(prefix) => key.starts_with(prefix),
        }
    }

    /// The slots that such keys may have.
    pub fn slots(&self) -> SlotRange {
        match self {
            Filter::Key(key) => SlotRange { first: Slot::of(key), last: Slot::of(key) },
            Filter::Prefix(_) => SlotRange::nth(0, 1),
        }
    }
}

impl Change {
    /// Bytes of its key and value.
    pub fn bytes(&self) -> usize {
        let value = if let What::Put { value, .. } = &self.what { value.len() } else { 0 };
        self.key.len() + value
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            What::Put { .. } => "put",
            What::Deleted => "deleted",
            What::Expired => "expired",
        })
    }
}

/// How far a watch has been given, slot by slot: what it takes to go on elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached(Vec<Reach>);

impl Reached {
    /// As it was told; see [`Watching::validate`].
    pub fn of(reached: Vec<Reach>) -> Reached {
        Reached(reached)
    }

    /// Notes how far a batch takes its slots. What was given before stays given.
    pub fn note(&mut self, reach: Reach) {
        let SlotRange { first, last } = reach.slots;
        let mut left = Vec::with_capacity(self.0.len() + 2);
        for old in self.0.drain(..) {
            let SlotRange { first: begin, last: end } = old.slots;
            if end < first || begin > last {
                left.push(old);
                continue;
            }
            if begin < first {
                let slots = SlotRange { first: begin, last: Slot(first.0 - 1) };
                left.push(Reach { slots, ..old });
            }
            if end > last {
                let slots = SlotRange { first: Slot(last.0 + 1), last: end };
                left.push(Reach { slots, ..old });
            }
        }
        left.push(reach);
        left.sort_unstable_by_key(|reach| reach.slots.first);
        self.0 = left;
    }

    /// How far a slot has been given, if it has begun.
    pub fn of_slot(&self, slot: Slot) -> Option<Version> {
        let place = self.0.partition_point(|reach| reach.slots.last < slot);
        self.0.get(place).filter(|reach| reach.slots.contains(slot)).map(|reach| reach.through)
    }

    /// How far all that has begun has been given at least.
    pub fn least(&self) -> Option<Version> {
        self.0.iter().map(|reach| reach.through).min()
    }

    /// In the order of the slots.
    pub fn to_vec(&self) -> Vec<Reach> {
        self.0.clone()
    }

    /// In the order of the slots.
    pub fn iter(&self) -> impl Iterator<Item = &Reach> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(first: u16, last: u16, through: u64) -> Reach {
        let slots = SlotRange { first: Slot(first), last: Slot(last) };
        Reach { slots, through: Version::end_of(through) }
    }

    #[test]
    fn reached_is_known_of_each_slot_however_shards_are_cut() {
        let mut reached = Reached::default();
        assert_eq!((reached.least(), reached.of_slot(Slot(3))), (None, None));
        for note in [reach(0, 99, 5), reach(100, 199, 3), reach(50, 149, 9), reach(60, 60, 10)] {
            reached.note(note);
        }
        let parts =
            [reach(0, 49, 5), reach(50, 59, 9), reach(60, 60, 10), reach(61, 149, 9), reach(150, 199, 3)];
        assert_eq!(reached.to_vec(), parts);
        assert_eq!(reached.least(), Some(Version::end_of(3)));
        assert_eq!(reached.of_slot(Slot(60)), Some(Version::end_of(10)));
        assert_eq!(reached.of_slot(Slot(200)), None);
    }

    #[test]
    fn watching_what_cannot_be_is_refused() {
        let all = Watching::prefix(Key::new());
        assert_eq!(all.validate(), Ok(()));
        let no_key = Watching { filter: Filter::Key(Key::new()), ..all.clone() };
        assert!(matches!(no_key.validate(), Err(Error::Invalid(_))));
        let long = Watching::prefix(vec![0; KEY_BYTES_MAX + 1].into());
        assert!(matches!(long.validate(), Err(Error::TooLarge { .. })));
        for twice in [vec![reach(0, 5, 1), reach(5, 9, 1)], vec![reach(9, 5, 1)]] {
            let watching = Watching { from: Start::Reached(twice), ..all.clone() };
            assert!(matches!(watching.validate(), Err(Error::Invalid(_))));
        }
    }
}
