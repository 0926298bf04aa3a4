//! The names of dropped keyspaces, until they may be given again ([`placement::map::Dropped`]).
//!
//! Which nodes have heard of a drop follows from what each says of the map behind which it does not fall back: that stays true, whoever
//! leads the directory and whatever becomes of the node. When so many have that no shard of the keyspace can have a majority any more,
//! a leader that was left alone may read under its lease for a while; once that is over the name is free. A new leader of the
//! directory sees the same, and lets that time pass from its own beginning.

use std::collections::{BTreeMap, BTreeSet};

use kv::NodeId;
use placement::map::{Dropped, Map};
use placement::{Event, Refusal};
use replication::{Instant, raft};

use super::duties::Reign;
use super::seen::Seen;

/// What a leader knows of the names that are not free.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Name>);

#[derive(Debug)]
struct Name {
    /// The revision of the drop.
    revision: u64,
    /// Since when nobody serves it but under a lease.
    unserved: Option<Instant>,
}

impl Names {
    /// Names are not free by this map, and nodes are seen so.
    pub fn see(&mut self, map: &Map, seen: &Seen, now: Instant) {
        self.0.retain(|name, known| map.dropped.get(name).is_some_and(|row| row.revision == known.revision));
        for (name, row) in &map.dropped {
            let begin = || Name { revision: row.revision, unserved: None };
            let known = self.0.entry(name.clone()).or_insert_with(begin);
            if waits_for(row, seen).is_empty() {
                known.unserved.get_or_insert(now);
            }
        }
    }

    /// The names that are free now.
    pub fn freed(&self, now: Instant) -> impl Iterator<Item = Event> {
        let is_over = move |since: Instant| now.since(since) >= raft::LEASE_MICROS_MAX;
        let free = self.0.iter().filter(move |(_, known)| known.unserved.is_some_and(is_over));
        free.map(|(name, _)| Event::Free { name: name.clone() })
    }
}

impl Reign {
    /// Why a name is not free: with those that it waits for, as they are seen.
    pub fn still_served(&self, name: &str) -> Refusal {
        self.map.still_served(name, &waits_for(&self.map.dropped[name], &self.seen))
    }
}

fn waits_for(row: &Dropped, seen: &Seen) -> BTreeSet<NodeId> {
    row.waits_for(|node| seen.nodes.get(&node).is_some_and(|seen| seen.kept >= row.revision))
}
