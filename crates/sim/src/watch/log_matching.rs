//! If two logs hold an entry with the same index and term, they are equal up to it: Raft §5.3, Log Matching.
//!
//! It is enough that an index and a term always stand for the same entry, behind an entry of the same term.

use std::collections::BTreeMap;
use std::hash::Hasher;

use bytes::Bytes;
use kv::{Index, Position, ShardId, Term};

use super::logs::Logs;
use super::{Invariant, Record, Seen};

#[derive(Default)]
pub(super) struct LogMatching {
    /// By shard, index and term: the entry, and the term before it where that was seen.
    entries: BTreeMap<(ShardId, Position), (u64, Option<Term>)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn see(&mut self, seen: &Seen<'_>, logs: &Logs) -> Result<(), String> {
        let Seen::Record { node, shard, record: Record::Entry(at), body } = *seen else {
            return Ok(());
        };
        if at.term == Term::ZERO {
            // Of a single copy: what a crash took may be replaced by anything.
            return Ok(());
        }
        let before = logs.log(node, shard).and_then(|log| log.term(Index(at.index.0 - 1)));
        let hash = hash(body);
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

/// The same in every run: no seed of its own.
#[expect(deprecated, reason = "SipHasher has fixed keys, which is what is wanted here")]
pub(super) fn hash(bytes: &Bytes) -> u64 {
    let mut hasher = std::hash::SipHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
