//! A shard goes into the other layout: what is known of its keys is the same there, or is said not to be.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

mod model {
    pub mod workload;
}

use bytes::Bytes;
use kv::merged::{BUCKETS, Found, Look, Row};
use kv::{Answer, Direction, Entry, Error, Key, Op, Range, ReplicaId, ShardId, SlotRange, Stamped, Version};
use model::workload::Workload;
use storage::{Clock, Cut, History, Kind, Layout, Options, Read, Table};

const OLD: ShardId = ShardId(1);
const NEW: ShardId = ShardId(2);
const ANEW: ShardId = ShardId(3);

struct Store {
    table: Table,
    index: u64,
    _folder: tempfile::TempDir,
}

impl Store {
    fn new(kind: Kind, layout: Layout, history: History) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::open(storage::open(kind, folder.path()).unwrap(), Options::of(history));
        table.load_as(OLD, 1, layout).unwrap();
        Store { table, index: 0, _folder: folder }
    }

    fn apply(&mut self, entry: &Entry) {
        self.index += 1;
        self.table.apply(OLD, self.index, 1, entry).unwrap();
    }

    fn merge(&mut self, rows: Vec<Row>) {
        let ops = vec![Stamped { id: None, op: Op::Merge { rows } }];
        self.apply(&Entry { proposed: Version::ZERO, ops });
    }

    /// A pass into a layout; returns up to where it goes.
    fn cut(&mut self, to: ShardId, layout: Layout, earlier: Option<u64>) -> u64 {
        let all = SlotRange::nth(0, 1);
        let frozen = self.table.freeze(OLD, to.0 as usize);
        let mut cut = Cut::new((frozen, all), [(to, 1, all)], earlier).into_layout(layout);
        let index = cut.applied().index;
        while self.table.cut(&mut cut).unwrap() {}
        index
    }

    fn open(&mut self, shard: ShardId, layout: Layout) {
        self.table.load(shard, 1).unwrap();
        assert_eq!(self.table.layout(shard), layout);
        self.table.audit(shard).unwrap();
    }

    fn read(&self, shard: ShardId, op: &Op) -> Result<Answer, Error> {
        match self.table.read(shard, op, Clock::Shard).unwrap() {
            Read::Done { result, .. } => result,
            Read::NeedsAdvance(version) => panic!("nobody orders an advance to {version}"),
        }
    }

    fn newest(&self, shard: ShardId) -> Vec<kv::Row> {
        match self.read(shard, &Op::Range(Range::default())).unwrap() {
            Answer::Page(page) => page.rows,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn ordered_shard_is_read_alike_in_the_merged_layout() {
    for seed in 0..24 {
        for history in [History::Count(1), History::Count(3), History::All] {
            let kind = if seed % 6 == 0 { Kind::Disk } else { Kind::Memory };
            let mut store = Store::new(kind, Layout::Ordered, history);
            let mut workload = Workload::new(seed);
            (0..120).for_each(|_| store.apply(&workload.entry()));
            let copied = store.cut(NEW, Layout::Merged, None);
            (0..40).for_each(|_| store.apply(&workload.entry()));
            store.cut(NEW, Layout::Merged, Some(copied));
            store.cut(ANEW, Layout::Merged, None);
            store.open(NEW, Layout::Merged);
            store.open(ANEW, Layout::Merged);
            let digests = (store.table.digest(NEW).unwrap(), store.table.digest(ANEW).unwrap());
            assert_eq!(
                digests.0, digests.1,
                "seed {seed}, {history:?}: what has changed is all that differs"
            );
            assert_eq!(store.newest(NEW), store.newest(OLD));
            for _ in 0..200 {
                let op = workload.read();
                let (old, new) = (store.read(OLD, &op), store.read(NEW, &op));
                match (&old, &new) {
                    // Each says how far back it knows something.
                    (Err(Error::Trimmed { .. }), Err(Error::Trimmed { .. })) => {}
                    _ => assert_eq!(old, new, "seed {seed}, {history:?}: {op:?}"),
                }
            }
        }
    }
}

fn at(micros: u64) -> Version {
    Version::new(micros, ReplicaId(1))
}

fn row(key: &'static str, micros: u64, value: Option<&'static str>, deadline: Option<u64>) -> Row {
    let row = Row::tombstone(key.into(), at(micros), None);
    match value {
        Some(value) => Row { value: Some(value.into()), created: at(5), changes: 3, deadline, ..row },
        None => row,
    }
}

fn get(key: &'static str, micros: Option<u64>) -> Op {
    Op::Get { key: key.into(), at: micros.map(at) }
}

#[test]
fn merged_shard_leaves_its_newest_values_and_no_tombstones() {
    for kind in [Kind::Memory, Kind::Disk] {
        let mut store = Store::new(kind, Layout::Merged, History::Count(3));
        let expiring = row("expired", 40, Some("4"), Some(900));
        let expiry = expiring.expire().unwrap();
        store.merge(vec![row("value", 10, Some("1"), None), row("deleted", 20, Some("2"), None)]);
        store.merge(vec![row("value", 30, Some("3"), Some(5_000)), row("deleted", 50, None, None)]);
        store.merge(vec![expiring, expiry]);
        let copied = store.cut(NEW, Layout::Ordered, None);
        store.merge(vec![row("value", 60, Some("6"), None), row("late", 15, Some("5"), Some(6_000))]);
        store.merge(vec![row("deleted", 70, Some("7"), None), row("gone", 80, None, None)]);
        store.cut(NEW, Layout::Ordered, Some(copied));
        store.cut(ANEW, Layout::Ordered, None);
        store.open(NEW, Layout::Ordered);
        store.open(ANEW, Layout::Ordered);
        let keys = |store: &Store, shard| -> Vec<(Key, Version, u64)> {
            store.newest(shard).into_iter().map(|row| (row.key, row.version, row.changes)).collect()
        };
        let expected: Vec<(Key, Version, u64)> =
            vec![("deleted".into(), at(70), 3), ("late".into(), at(15), 3), ("value".into(), at(60), 3)];
        assert_eq!((keys(&store, NEW), keys(&store, ANEW)), (expected.clone(), expected));
        // Of an earlier time nothing is said that may be wrong.
        for key in ["value", "deleted", "expired", "gone", "never"] {
            let found = store.read(NEW, &get(key, Some(45)));
            assert!(matches!(found, Err(Error::Trimmed { .. })), "{key}: {found:?}");
        }
        assert!(store.table.applied(NEW).last >= store.table.floor(NEW));
        let put = Op::Put { key: "value".into(), value: "8".into(), deadline: None, previous: false };
        let entry = Entry { proposed: at(9_000), ops: vec![Stamped { id: None, op: put }] };
        store.table.apply(NEW, 2, 1, &entry).unwrap();
        store.table.audit(NEW).unwrap();
        let Ok(Answer::Row(Some(row))) = store.read(NEW, &get("value", None)) else { panic!("it was put") };
        assert_eq!((row.created, row.changes, row.version), (at(5), 4, at(9_000)), "its counts go on");
    }
}

#[test]
fn merged_shards_with_the_same_newest_rows_become_the_same_ordered_one() {
    let expiring = row("expiring", 40, Some("4"), Some(900));
    let newest = [row("value", 30, Some("3"), None), row("deleted", 50, None, None), expiring.clone()];
    let digest = |before: Vec<Row>, passes: bool, swept: bool| {
        let mut store = Store::new(Kind::Memory, Layout::Merged, History::Count(3));
        let copied = passes.then(|| {
            store.merge(before);
            store.merge(newest.to_vec());
            store.cut(NEW, Layout::Ordered, None)
        });
        store.merge(newest.to_vec());
        if swept {
            store.merge(vec![expiring.expire().unwrap()]);
        }
        let advance = Op::Advance { to: at(1_000), rules: None };
        store.apply(&Entry { proposed: Version::ZERO, ops: vec![Stamped { id: None, op: advance }] });
        store.cut(NEW, Layout::Ordered, copied);
        store.open(NEW, Layout::Ordered);
        assert_eq!((store.table.applied(NEW).index, store.table.floor(NEW)), (1, at(1_000)));
        store.table.digest(NEW).unwrap()
    };
    let plain = digest(Vec::new(), false, false);
    let older = vec![row("value", 10, Some("1"), None), row("deleted", 20, Some("2"), None)];
    assert_eq!(digest(older.clone(), true, false), plain, "one has seen what the other has not");
    assert_eq!(digest(Vec::new(), false, true), plain, "one has swept what the other has not");
    assert_eq!(digest(older, true, true), plain, "it swept it between two passes");
}

#[test]
fn merged_shard_that_was_ordered_before_merges_on() {
    let mut store = Store::new(Kind::Memory, Layout::Ordered, History::Count(3));
    for (micros, value) in [(10, "1"), (20, "2"), (30, "3")] {
        let put = Op::Put { key: "k".into(), value: value.into(), deadline: None, previous: false };
        store.apply(&Entry { proposed: at(micros), ops: vec![Stamped { id: None, op: put }] });
    }
    store.cut(NEW, Layout::Merged, None);
    store.open(NEW, Layout::Merged);
    let mut merge = |rows: Vec<Row>| {
        let entry =
            Entry { proposed: Version::ZERO, ops: vec![Stamped { id: None, op: Op::Merge { rows } }] };
        store.index += 1;
        store.table.apply(NEW, store.index, 1, &entry).unwrap();
        store.table.audit(NEW).unwrap();
    };
    merge(vec![row("k", 25, Some("late"), None)]);
    merge(vec![row("k", 40, Some("4"), None)]);
    let history = store.read(NEW, &Op::History { key: "k".into(), limit: 0, before: None });
    let Ok(Answer::History { revisions, next: None }) = history else { panic!("{history:?}") };
    let versions: Vec<u64> = revisions.iter().map(|revision| revision.version.micros()).collect();
    assert_eq!(versions, [40, 30, 25]);
    let range =
        Look::Range { from: Key::new(), to: None, direction: Direction::Forward, limit: 0, after: None };
    let Ok(Found::Rows { rows, .. }) = store.table.look(NEW, &range) else { panic!("rows are found") };
    assert_eq!(rows, [row("k", 40, Some("4"), None)]);
}

/// Merged rows of some keys, a few of them deleted or expired, and what was collected.
fn filled(kind: Kind) -> Store {
    let mut store = Store::new(kind, Layout::Merged, History::Count(3));
    for number in 0..200u64 {
        let value = (number % 5 > 0).then(|| Bytes::from(vec![number as u8; 100]));
        let row = Row::tombstone(format!("key{}", number % 60).into(), at(10 + number), None);
        let row = match value {
            Some(_) => Row { value, created: row.version, changes: 1, deadline: Some(1_000 + number), ..row },
            None => row,
        };
        let expiry = row.expire().filter(|_| number % 7 == 0);
        store.merge([Some(row), expiry].into_iter().flatten().collect());
    }
    let Ok(Found::Names { names, .. }) = store.table.look(OLD, &Look::Tombstones { after: None }) else {
        panic!("names are found")
    };
    assert!(names.len() > 4, "{}", names.len());
    let ops = vec![Stamped { id: None, op: Op::Collect { tombstones: names[..2].to_vec() } }];
    store.apply(&Entry { proposed: Version::ZERO, ops });
    store
}

fn sums(table: &Table, shard: ShardId) -> Vec<u64> {
    match table.look(shard, &Look::Digests { first: 0, count: BUCKETS, width: 1 }).unwrap() {
        Found::Digests(sums) => sums,
        other => panic!("{other:?}"),
    }
}

#[test]
fn merged_shard_is_the_same_after_a_restart() {
    let mut store = filled(Kind::Disk);
    let before = (store.table.digest(OLD).unwrap(), sums(&store.table, OLD), store.table.floor(OLD));
    assert!(before.2 > Version::ZERO);
    store.table.flush().run().unwrap();
    let Store { table, _folder: folder, .. } = store;
    drop(table);
    let mut table =
        Table::open(storage::open(Kind::Disk, folder.path()).unwrap(), Options::of(History::Count(3)));
    table.load(OLD, 1).unwrap();
    assert_eq!(table.layout(OLD), Layout::Merged, "the layout is the copy's");
    assert_eq!((table.digest(OLD).unwrap(), sums(&table, OLD), table.floor(OLD)), before);
    table.audit(OLD).unwrap();
}

#[test]
fn merged_shard_goes_to_another_node_as_it_is() {
    let mut store = filled(Kind::Memory);
    let mut other = Store::new(Kind::Disk, Layout::Ordered, History::Count(3));
    other.table.install_begin(OLD, 2).unwrap();
    let mut snapshot = store.table.snapshot(OLD);
    while let Some(chunk) = snapshot.next_chunk(1_000).unwrap() {
        other.table.install_chunk(OLD, 2, &chunk).unwrap();
    }
    other.table.load(OLD, 2).unwrap();
    assert_eq!(other.table.digest(OLD).unwrap(), store.table.digest(OLD).unwrap());
    other.table.audit(OLD).unwrap();
    assert_eq!(sums(&other.table, OLD), sums(&store.table, OLD));
}

#[test]
fn merged_shard_is_cut_by_slots_and_its_digests_with_it() {
    for kind in [Kind::Memory, Kind::Disk] {
        let mut store = filled(kind);
        let halves =
            |generation| [(NEW, generation, SlotRange::nth(0, 2)), (ANEW, generation, SlotRange::nth(1, 2))];
        let cut = |store: &mut Store, generation, earlier| {
            let frozen = store.table.freeze(OLD, 0);
            let mut cut = Cut::new((frozen, SlotRange::nth(0, 1)), halves(generation), earlier);
            let index = cut.applied().index;
            while store.table.cut(&mut cut).unwrap() {}
            index
        };
        let copied = cut(&mut store, 3, None);
        store.merge(vec![row("key1", 900, Some("later"), None), row("key2", 901, None, None)]);
        store.merge(vec![row("new", 902, Some("later"), None)]);
        cut(&mut store, 3, Some(copied));
        // Where it is not known what has changed all rows are compared.
        cut(&mut store, 4, None);
        store.merge(vec![row("key3", 903, Some("later"), None), row("key4", 904, None, None)]);
        cut(&mut store, 4, Some(0));
        cut(&mut store, 3, Some(copied + 1));
        for generation in [3, 4] {
            let mut parts = vec![0; usize::from(BUCKETS)];
            let mut newest = Vec::new();
            for (shard, _, _) in halves(generation) {
                store.table.load(shard, generation).unwrap();
                store.table.audit(shard).unwrap();
                let own = sums(&store.table, shard);
                parts
                    .iter_mut()
                    .zip(own)
                    .for_each(|(sum, own): (&mut u64, u64)| *sum = sum.wrapping_add(own));
                newest.extend(store.newest(shard));
            }
            newest.sort_by(|one, other| one.key.cmp(&other.key));
            assert_eq!(parts, sums(&store.table, OLD), "generation {generation}");
            assert_eq!(newest, store.newest(OLD), "generation {generation}");
        }
    }
}
