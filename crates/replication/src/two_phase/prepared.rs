//! The keys that the tail of a log touches: its entries that are not applied yet.
//!
//! A read that looks at one of them may have to wait. The ops of an entry are looked at when the first read comes that may be
//! concerned: a shard that is only written to pays nothing for this.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use kv::{Entry, Index, Key, Scope};

use crate::Instant;
use crate::entries::Entries;

/// The entries of which a read must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// The last of them: when it is applied, nothing of what the read was asked for is missing.
    pub(super) last: Index,
    /// When the first of them came; `None` = before the start of this replica.
    pub(super) since: Option<Instant>,
}

/// The tail of a log, behind what is applied.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// The entry before the first.
    base: Index,
    /// When each entry came.
    came: VecDeque<Option<Instant>>,
    /// What the first entries touch: those that were looked at.
    touched: VecDeque<Vec<Scope>>,
    keys: BTreeMap<Key, VecDeque<Index>>,
    /// Ranges, and whole shards.
    wide: VecDeque<(Index, Scope)>,
}

impl Prepared {
    /// Of a log that was recovered, whose table has applied what is up to an entry.
    pub(super) fn recovered(applied: Index, last: Index) -> Prepared {
        let came = (0..last.since(applied)).map(|_| None).collect();
        Prepared { base: applied, came, ..Prepared::default() }
    }

    /// An entry came, in the place of what was there and behind it.
    pub(super) fn put(&mut self, index: Index, now: Instant) {
        self.truncate(index);
        assert_eq!(self.base.next() + self.came.len() as u64, index, "the tail has no gap");
        self.came.push_back(Some(now));
    }

    /// All entries up to here are applied.
    pub(super) fn applied(&mut self, applied: Index) {
        while self.base < applied && self.came.pop_front().is_some() {
            self.base = self.base.next();
            let first = self.base;
            for scope in self.touched.pop_front().unwrap_or_default() {
                each_key(&scope, &mut |key| {
                    forget(&mut self.keys, key, |places| places.pop_front_if(|place| *place == first))
                });
            }
        }
        while self.wide.pop_front_if(|(index, _)| *index <= applied).is_some() {}
    }

    /// What of the tail up to an entry touches what a read looks at.
    pub(super) fn blocks(&mut self, scope: &Scope, to: Index, log: &Entries) -> Option<Blocked> {
        if to <= self.base {
            return None;
        }
        self.look(log, to);
        let (mut first, mut last) = (Index::MAX, Index::ZERO);
        let mut meet = |index: Index| {
            if index <= to {
                (first, last) = (first.min(index), last.max(index));
            }
        };
        self.wide.iter().filter(|(_, other)| touch(scope, other)).for_each(|(index, _)| meet(*index));
        let mut meet_all = |places: &VecDeque<Index>| places.iter().copied().for_each(&mut meet);
        match scope {
            Scope::Key(key) => self.keys.get(key).into_iter().for_each(&mut meet_all),
            Scope::Keys(keys) => keys.iter().filter_map(|key| self.keys.get(key)).for_each(&mut meet_all),
            Scope::Range { from, to } if to.as_ref().is_some_and(|to| to <= from) => {}
            Scope::Range { from, to } => {
                let end = to.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                self.keys
                    .range::<Key, _>((Bound::Included(from), end))
                    .for_each(|(_, places)| meet_all(places));
            }
            Scope::Shard => self.keys.values().for_each(&mut meet_all),
        }
        let since = || self.came[(first.0 - self.base.0 - 1) as usize];
        (last > Index::ZERO).then(|| Blocked { last, since: since() })
    }

    /// Looks at the entries up to one.
    fn look(&mut self, log: &Entries, to: Index) {
        while self.touched.len() < self.came.len() && self.base + (self.touched.len() as u64) < to {
            let index = self.base.next() + self.touched.len() as u64;
            let entry = log.get(index).expect("an entry stays in memory until it is applied");
            let scopes = match Entry::decode(&entry.data) {
                _ if entry.data.is_empty() || entry.kind != crate::entries::OPS => Vec::new(),
                Ok(entry) => entry.ops.iter().map(|stamped| stamped.op.scope()).collect(),
                // What is not understood may touch anything.
                Err(_) => vec![Scope::Shard],
            };
            for scope in &scopes {
                let mut is_wide = true;
                each_key(scope, &mut |key| {
                    is_wide = false;
                    let places = self.keys.entry(key.clone()).or_default();
                    if places.back() != Some(&index) {
                        places.push_back(index);
                    }
                });
                if is_wide {
                    self.wide.push_back((index, scope.clone()));
                }
            }
            self.touched.push_back(scopes);
        }
    }

    fn truncate(&mut self, from: Index) {
        let kept = from.0.saturating_sub(self.base.0 + 1) as usize;
        self.came.truncate(kept);
        while self.touched.len() > kept {
            for scope in self.touched.pop_back().unwrap_or_default() {
                each_key(&scope, &mut |key| {
                    forget(&mut self.keys, key, |places| places.pop_back_if(|place| *place >= from))
                });
            }
        }
        self.wide.retain(|(index, _)| *index < from);
    }
}

/// Takes a place away from a key, and the key when it was the last.
fn forget(
    keys: &mut BTreeMap<Key, VecDeque<Index>>,
    key: &Key,
    pop: impl FnOnce(&mut VecDeque<Index>) -> Option<Index>,
) {
    if let Some(places) = keys.get_mut(key) {
        let _ = pop(places);
        if places.is_empty() {
            keys.remove(key);
        }
    }
}

fn each_key(scope: &Scope, each: &mut impl FnMut(&Key)) {
    match scope {
        Scope::Key(key) => each(key),
        Scope::Keys(keys) => keys.iter().for_each(each),
        Scope::Range { .. } | Scope::Shard => {}
    }
}

/// Whether a read looks at what an op of many keys touches.
fn touch(read: &Scope, wide: &Scope) -> bool {
    let Scope::Range { from, to } = wide else { return true };
    let holds = |key: &Key| key >= from && to.as_ref().is_none_or(|to| key < to);
    match read {
        Scope::Key(key) => holds(key),
        Scope::Keys(keys) => keys.iter().any(holds),
        Scope::Range { from: first, to: end } => {
            to.as_ref().is_none_or(|to| first < to) && end.as_ref().is_none_or(|end| from < end)
        }
        Scope::Shard => true,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kv::{Op, Position, Stamped, Term, Version};

    use super::*;
    use crate::entries::LogEntry;

    fn key(key: &'static str) -> Key {
        Bytes::from_static(key.as_bytes())
    }

    fn put(of: &'static str) -> Op {
        Op::Put { key: key(of), value: Bytes::new(), deadline: None, previous: false }
    }

    struct Tail {
        log: Entries,
        prepared: Prepared,
    }

    impl Tail {
        fn new() -> Tail {
            let mut log = Entries::default();
            log.restart(Position::new(4, 1));
            Tail { log, prepared: Prepared::recovered(Index(4), Index(4)) }
        }

        fn add(&mut self, index: u64, ops: &[Op]) {
            let ops: Vec<Bytes> =
                ops.iter().map(|op| Stamped { id: None, op: op.clone() }.encode()).collect();
            let data = if ops.is_empty() { Bytes::new() } else { Entry::encode(Version::ZERO, &ops) };
            self.log.put(LogEntry { index: Index(index), term: Term(1), kind: 0, data });
            self.prepared.put(Index(index), Instant(index));
        }

        fn blocks(&mut self, scope: &Scope) -> Option<(u64, u64)> {
            let blocked = self.prepared.blocks(scope, Index(9), &self.log)?;
            Some((blocked.since.unwrap().0, blocked.last.0))
        }
    }

    fn range(from: &'static str, to: Option<&'static str>) -> Scope {
        Scope::Range { from: key(from), to: to.map(key) }
    }

    #[test]
    fn prepared_keys_block_what_looks_at_them_until_they_are_applied() {
        let mut tail = Tail::new();
        tail.add(5, &[put("a"), put("b"), put("a")]);
        tail.add(6, &[]);
        tail.add(7, &[put("b")]);
        assert_eq!(tail.blocks(&Scope::Key(key("a"))), Some((5, 5)));
        assert_eq!(tail.blocks(&Scope::Key(key("b"))), Some((5, 7)));
        assert_eq!(tail.blocks(&Scope::Key(key("c"))), None);
        assert_eq!(tail.blocks(&range("b", None)), Some((5, 7)));
        assert_eq!(tail.blocks(&range("bb", None)), None);
        assert_eq!(tail.blocks(&Scope::Shard), Some((5, 7)));
        assert_eq!(
            tail.prepared.blocks(&Scope::Key(key("b")), Index(6), &tail.log).map(|blocked| blocked.last),
            Some(Index(5))
        );
        tail.prepared.applied(Index(5));
        assert_eq!(tail.blocks(&Scope::Key(key("a"))), None);
        assert_eq!(tail.blocks(&Scope::Key(key("b"))), Some((7, 7)));
        tail.prepared.applied(Index(7));
        assert!(tail.prepared.keys.is_empty() && tail.prepared.came.is_empty());
    }

    #[test]
    fn prepared_tail_that_is_replaced_blocks_no_more() {
        let mut tail = Tail::new();
        tail.add(5, &[put("a"), put("b")]);
        tail.add(6, &[put("a"), Op::DeleteRange { from: key("c"), to: Some(key("e")) }]);
        assert_eq!(tail.blocks(&Scope::Keys(vec![key("z"), key("d")])), Some((6, 6)));
        assert_eq!(tail.blocks(&range("a", Some("c"))), Some((5, 6)));
        assert_eq!(tail.blocks(&range("e", None)), None);
        tail.add(6, &[]);
        assert_eq!(tail.blocks(&Scope::Key(key("a"))), Some((5, 5)));
        assert_eq!(tail.blocks(&Scope::Key(key("d"))), None);
        tail.add(5, &[]);
        assert!(tail.blocks(&Scope::Shard).is_none() && tail.prepared.keys.is_empty());
    }

    #[test]
    fn prepared_tail_of_an_earlier_start_blocks_as_well() {
        let mut tail = Tail::new();
        tail.add(5, &[put("a")]);
        let mut prepared = Prepared::recovered(Index(4), Index(5));
        let blocked = prepared.blocks(&Scope::Key(key("a")), Index(5), &tail.log);
        assert_eq!(blocked, Some(Blocked { last: Index(5), since: None }));
        assert_eq!(prepared.blocks(&Scope::Key(key("a")), Index(4), &tail.log), None);
    }
}
