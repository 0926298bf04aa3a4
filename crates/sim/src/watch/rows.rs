//! What is answered is what was there: worked out from the entries of a shard, apart from the table.
//!
//! Of each key the rows are kept that its entries made, each with its version and its deadline. An answer tells in its receipt
//! the version of the shard that it saw, so what it must show is known: a key's row at that version, unless its deadline lies
//! at or before that version; nor may it show one whose deadline lies at or before the clock of the node that answers less
//! the staleness that it tells, and it must show one that no node's clock has reached (the promise of `kv::Receipt`).

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Answer, Entry, Error, Function, Key, Op, Page, Range, Reply, Row, ShardId, Version};

/// What is known of the clock by which an answer was made, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// What has a deadline up to here is not shown.
    pub low: u64,
    /// What has a deadline after this is shown.
    pub high: u64,
}

/// The rows of all shards, at all versions.
#[derive(Default)]
pub(crate) struct Rows(BTreeMap<ShardId, Shard>);

#[derive(Default)]
struct Shard {
    /// The last entry that was taken in, and the newest version.
    applied: u64,
    last: Version,
    keys: BTreeMap<Key, Vec<Change>>,
}

/// Since a version there is a row, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    version: Version,
    row: Option<Life>,
}

/// How long a row is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    deadline: Option<u64>,
}

/// A key as an answer may show it.
struct Expected {
    found: Option<Change>,
    bounds: Bounds,
}

impl Rows {
    /// An entry was applied, perhaps not for the first time.
    pub fn applied(
        &mut self,
        shard: ShardId,
        index: u64,
        entry: &Bytes,
        results: &[(Result<Answer, Error>, Version)],
    ) {
        let shard = self.0.entry(shard).or_default();
        if index <= shard.applied {
            return;
        }
        shard.applied = index;
        // An entry without ops has no bytes.
        let ops = Entry::decode(entry).map(|entry| entry.ops).unwrap_or_default();
        for (stamped, (result, version)) in ops.iter().zip(results) {
            // A request that is answered as before has the version of before.
            if let (Ok(answer), true) = (result, *version > shard.last) {
                shard.change(*version, &stamped.op, answer);
            }
            shard.last = shard.last.max(*version);
        }
    }

    /// What is wrong with what a read of one shard was answered.
    pub fn read(&self, op: &Op, reply: &Reply, bounds: Bounds) -> Option<String> {
        let empty = Shard::default();
        let shard = self.0.get(&reply.receipt.shard).unwrap_or(&empty);
        let seen = reply.receipt.version.micros();
        let bounds = Bounds { low: bounds.low.max(seen), high: bounds.high.max(seen) };
        let wrong = shard.read(op, reply, bounds).err()?;
        Some(format!(
            "what is answered is what was there: {op:?} was answered with {:?}: {wrong}; what has a deadline up to {} is gone, \
             and what has one after {} is not",
            reply.receipt, bounds.low, bounds.high
        ))
    }

    /// Whether a read found a key without a value because that has expired.
    pub fn found_expired(&self, op: &Op, reply: &Reply) -> bool {
        let (Op::Get { key, at: None }, Answer::Row(None)) = (op, &reply.answer) else { return false };
        let shard = self.0.get(&reply.receipt.shard);
        let found = shard.and_then(|shard| shard.at(key, reply.receipt.version));
        found.is_some_and(|change| change.row.is_some())
    }
}

impl Shard {
    fn change(&mut self, version: Version, op: &Op, answer: &Answer) {
        match (op, answer) {
            (Op::Put { key, deadline, .. }, _) => self.set(key, version, Some(Life { deadline: *deadline })),
            (Op::PutAll { rows }, _) => {
                rows.iter().for_each(|(key, _)| self.set(key, version, Some(Life { deadline: None })));
            }
            (Op::Delete { key, .. }, _) => self.set(key, version, None),
            (Op::Expire { key, deadline }, Answer::Expire(true)) => {
                let life = Life { deadline: *deadline };
                if self.live(key, version) != Some(life) {
                    self.set(key, version, Some(life));
                }
            }
            (Op::Update { key, function }, answer) => self.update(key, version, function, answer),
            (Op::Transaction { then, otherwise, .. }, Answer::Transaction { succeeded, answers }) => {
                let ops = if *succeeded { then } else { otherwise };
                ops.iter().zip(answers).for_each(|(op, answer)| self.change(version, op, answer));
            }
            // No workload deletes ranges.
            _ => {}
        }
    }

    fn update(&mut self, key: &Key, version: Version, function: &Function, answer: &Answer) {
        let kept = self.live(key, version).unwrap_or(Life { deadline: None });
        match (function, answer) {
            (Function::Append { .. } | Function::Increment { .. }, _) => self.set(key, version, Some(kept)),
            (Function::Pop { .. }, Answer::Popped(Some(popped))) if !popped.is_empty() => {
                self.set(key, version, Some(kept));
            }
            (
                Function::Insert { deadline, .. } | Function::CompareAndPut { deadline, .. },
                Answer::Condition { met: true, .. },
            ) => self.set(key, version, Some(Life { deadline: *deadline })),
            _ => {}
        }
    }

    fn set(&mut self, key: &Key, version: Version, row: Option<Life>) {
        let row = row.filter(|life| life.is_beyond(version.micros()));
        if row.is_some() || self.live(key, version).is_some() {
            self.keys.entry(key.clone()).or_default().push(Change { version, row });
        }
    }

    /// The row of a key for an op of this version.
    fn live(&self, key: &Key, version: Version) -> Option<Life> {
        let newest = self.keys.get(key)?.last()?;
        newest.row.filter(|life| life.is_beyond(version.micros()))
    }

    fn read(&self, op: &Op, reply: &Reply, bounds: Bounds) -> Result<(), String> {
        let version = reply.receipt.version;
        let expected = |key: &Key| self.expected(key, version, bounds);
        match (op, &reply.answer) {
            (Op::Get { key, at: None }, Answer::Row(row)) => expected(key).check(row.as_ref()),
            (Op::GetAll { at: None, .. }, Answer::Many(answers)) => {
                let mut found = answers.iter().filter_map(|one| Some((&one.key, one.result.as_ref().ok()?)));
                found.try_for_each(|(key, row)| expected(key).check(row.as_ref()))
            }
            (Op::History { key, .. }, Answer::History { revisions, .. }) => {
                let newest = revisions.first().filter(|newest| newest.value.is_some());
                expected(key).check_version(newest.map(|newest| newest.version))
            }
            (Op::Range(range), Answer::Page(page)) if range.at.is_none() => {
                self.page(range, page, version, bounds)
            }
            _ => Ok(()),
        }
    }

    fn page(&self, range: &Range, page: &Page, version: Version, bounds: Bounds) -> Result<(), String> {
        for row in &page.rows {
            self.expected(&row.key, version, bounds).check(Some(row))?;
        }
        let inside = |key: &&Key| **key >= range.from && range.to.as_ref().is_none_or(|to| *key < to);
        let (mut must, mut may) = (Vec::new(), 0);
        for key in self.keys.keys().filter(inside) {
            let expected = self.expected(key, version, bounds);
            may += u64::from(expected.may_be_there());
            must.extend(expected.must_be_there().then_some(key));
        }
        let (least, most) = (must.len() as u64, may);
        if range.count_only && !(least..=most).contains(&page.count) {
            return Err(format!("it counts {}, and there were {least} to {most} rows", page.count));
        }
        let is_missing = |key: &&&Key| !page.rows.iter().any(|row| row.key == ***key);
        let whole = page.next.is_none() && !range.count_only;
        match must.iter().find(is_missing).filter(|_| whole) {
            Some(key) => Err(format!("it leaves out {key:?}")),
            None => Ok(()),
        }
    }

    fn expected(&self, key: &Key, version: Version, bounds: Bounds) -> Expected {
        Expected { found: self.at(key, version), bounds }
    }

    /// The last change of a key up to a version.
    fn at(&self, key: &Key, version: Version) -> Option<Change> {
        let changes = self.keys.get(key)?;
        let after = changes.partition_point(|change| change.version <= version);
        changes[..after].last().copied()
    }
}

impl Life {
    fn is_beyond(&self, time: u64) -> bool {
        self.deadline.is_none_or(|deadline| deadline > time)
    }
}

impl Expected {
    fn may_be_there(&self) -> bool {
        self.row().is_some_and(|life| life.is_beyond(self.bounds.low))
    }

    fn must_be_there(&self) -> bool {
        self.row().is_some_and(|life| life.is_beyond(self.bounds.high))
    }

    fn row(&self) -> Option<Life> {
        self.found.and_then(|change| change.row)
    }

    fn check(&self, row: Option<&Row>) -> Result<(), String> {
        self.check_version(row.map(|row| row.version))
    }

    /// The version of the row that was shown, or none.
    fn check_version(&self, shown: Option<Version>) -> Result<(), String> {
        let fits = match (shown, self.found) {
            (Some(shown), Some(found)) => shown == found.version && self.may_be_there(),
            (Some(_), None) => false,
            (None, _) => !self.must_be_there(),
        };
        if fits { Ok(()) } else { Err(format!("it shows {shown:?} where there was {:?}", self.found)) }
    }
}

#[cfg(test)]
mod tests {
    use kv::{Epoch, Level, NodeId, Protocol, Receipt, ReplicaId, Revision, Stamped};

    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn version(micros: u64) -> Version {
        Version::new(micros, ReplicaId(1))
    }

    /// Rows after ops that each ran at the time that is given.
    fn rows(ops: &[(u64, Op, Answer)]) -> Rows {
        let mut rows = Rows::default();
        for (index, (micros, op, answer)) in (1..).zip(ops) {
            let entry = Entry::encode(version(*micros), &[Stamped { id: None, op: op.clone() }.encode()]);
            let results = [(Ok(answer.clone()), version(*micros))];
            rows.applied(SHARD, index, &entry, &results);
            rows.applied(SHARD, index, &entry, &results);
        }
        rows
    }

    fn put(deadline: Option<u64>) -> Op {
        Op::Put { key: "k".into(), value: "v".into(), deadline, previous: false }
    }

    fn row(micros: u64, deadline: Option<u64>) -> Row {
        let (version, created) = (version(micros), version(micros));
        Row { key: "k".into(), value: "v".into(), version, created, changes: 1, deadline }
    }

    /// Whether a read of the shard at time 20 may be answered so, by a clock between two times.
    fn fits(rows: &Rows, op: &Op, answer: Answer, (low, high): (u64, u64)) -> bool {
        let receipt = Receipt {
            version: version(20),
            shard: SHARD,
            protocol: Protocol::Raft,
            epoch: Epoch(1),
            asked: Level::Local,
            reached: Level::Local,
            copies: 1,
            staleness_micros: 0,
            node: NodeId(1),
        };
        rows.read(op, &Reply { answer, receipt }, Bounds { low, high }).is_none()
    }

    const PUT: Answer = Answer::Put { previous: None };

    #[test]
    fn value_is_shown_until_its_deadline_and_not_after() {
        let rows = rows(&[(10, put(Some(30)), PUT)]);
        let get = Op::Get { key: "k".into(), at: None };
        let (there, gone) = (|| Answer::Row(Some(row(10, Some(30)))), || Answer::Row(None));
        assert!(fits(&rows, &get, there(), (29, 29)) && !fits(&rows, &get, gone(), (29, 29)));
        assert!(!fits(&rows, &get, there(), (30, 30)) && fits(&rows, &get, gone(), (30, 30)));
        assert!(fits(&rows, &get, there(), (25, 35)) && fits(&rows, &get, gone(), (25, 35)));
        assert!(!fits(&rows, &get, Answer::Row(Some(row(9, Some(30)))), (25, 25)), "another row");
        let history = Op::History { key: "k".into(), limit: 0, before: None };
        let revision =
            |value| Answer::History { revisions: vec![Revision { version: version(10), value }], next: None };
        assert!(fits(&rows, &history, revision(Some("v".into())), (29, 29)));
        assert!(!fits(&rows, &history, revision(Some("v".into())), (30, 30)));
        assert!(fits(&rows, &history, revision(None), (30, 30)));
    }

    #[test]
    fn range_shows_and_counts_what_is_there() {
        let rows = rows(&[(10, put(Some(30)), PUT)]);
        let range = |count_only| Op::Range(Range { count_only, ..Range::default() });
        let page = |rows: Vec<Row>, count| Answer::Page(Page { rows, count, next: None });
        assert!(fits(&rows, &range(false), page(vec![row(10, Some(30))], 1), (29, 29)));
        assert!(!fits(&rows, &range(false), page(vec![], 0), (29, 29)));
        assert!(!fits(&rows, &range(false), page(vec![row(10, Some(30))], 1), (30, 30)));
        for (count, clock, expected) in [(1, 29, true), (0, 29, false), (1, 30, false), (0, 30, true)] {
            assert_eq!(fits(&rows, &range(true), page(vec![], count), (clock, clock)), expected);
        }
    }

    #[test]
    fn deadline_is_that_of_the_last_op_that_set_or_kept_it() {
        let get = Op::Get { key: "k".into(), at: None };
        let shown = |ops: &[(u64, Op, Answer)], at, deadline, clock| {
            fits(&rows(ops), &get, Answer::Row(Some(row(at, deadline))), (clock, clock))
        };
        let update = |function| Op::Update { key: "k".into(), function };
        let append = update(Function::Append { side: kv::Side::Right, value: "w".into() });
        let first = (10, put(Some(30)), PUT);
        assert!(shown(&[first.clone(), (11, append.clone(), Answer::Length(2))], 11, Some(30), 29));
        assert!(!shown(&[first.clone(), (11, append, Answer::Length(2))], 11, Some(30), 30));
        let expire = |deadline| Op::Expire { key: "k".into(), deadline };
        assert!(shown(&[first.clone(), (11, expire(None), Answer::Expire(true))], 11, None, 99));
        let unchanged = [first.clone(), (11, expire(Some(30)), Answer::Expire(true))];
        assert!(shown(&unchanged, 10, Some(30), 29));
        assert!(!shown(&[first, (11, put(Some(11)), PUT)], 11, Some(11), 11), "it had passed");
    }
}
