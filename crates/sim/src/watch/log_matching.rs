//! If two logs hold an entry with the same index and term, they are equal up to it: Raft §5.3, Log Matching.
//!
//! It is enough that an index and a term always stand for the same entry, behind an entry of the same term.

use std::collections::BTreeMap;
use std::hash::Hasher;

use bytes::Bytes;
use kv::{Index, NodeId, Position, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Record, Seen};

#[derive(Default)]
pub(super) struct LogMatching {
    /// By shard, index and term: the entry, and the term before it where that was seen.
    entries: BTreeMap<(ShardId, Position), (u64, Option<Term>)>,
    /// Entries that one node alone has written.
    own: BTreeMap<(ShardId, Position), NodeId>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        if let Seen::Recovered { node, .. } = *seen {
            self.forget_lost(node, logs);
        }
        let Seen::Record { node, shard, record: Record::Entry(at), body } = *seen else {
            return Ok(());
        };
        if at.term == Term::ZERO {
            // Of a single copy: what a crash took may be replaced by anything.
            return Ok(());
        }
        let before = logs.log(node, shard).and_then(|log| log.term(Index(at.index.0 - 1)));
        let hash = hash(body);
        if !self.entries.contains_key(&(shard, at)) {
            self.own.insert((shard, at), node);
        } else if self.own.get(&(shard, at)).is_some_and(|own| *own != node) {
            self.own.remove(&(shard, at));
        }
        let known = self.entries.entry((shard, at)).or_insert((hash, before));
        if known.0 != hash {
            return Err(format!("{node} has another entry {at} of shard {shard} than others"));
        }
        match (known.1, before) {
            (Some(one), Some(other)) if one != other => Err(format!(
                "{node} has entry {at} of shard {shard} behind one of term {other}, others behind {one}"
            )),
            (None, Some(_)) => {
                known.1 = before;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl LogMatching {
    /// What a node alone had written, and a crash took before it was synced, was nowhere: who votes alone, or orders without a vote,
    /// may come to lead in the same term once more. In its place may be what it was to replace.
    fn forget_lost(&mut self, node: NodeId, logs: &Logs) {
        let is_lost = |shard: ShardId, at: Position| {
            logs.log(node, shard).is_none_or(|log| match log.term(at.index) {
                Some(term) => term < at.term,
                None => log.last() < at.index,
            })
        };
        let lost = self.own.iter().filter(|((shard, at), own)| **own == node && is_lost(*shard, *at));
        for entry in Vec::from_iter(lost.map(|(entry, _)| *entry)) {
            self.own.remove(&entry);
            self.entries.remove(&entry);
        }
    }
}

/// The same in every run: no seed of its own.
#[expect(deprecated, reason = "SipHasher has fixed keys, which is what is wanted here")]
pub(super) fn hash(bytes: &Bytes) -> u64 {
    let mut hasher = std::hash::SipHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
