//! Keys with more revisions than one step takes: history in pages, trims in steps.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use kv::{
    Answer, Entry, Error, Key, Op, PAGE_ROWS_MAX, ReplicaId, Revision, ShardId, Stamped, TRIM_REVISIONS_MAX,
    Version,
};
use storage::{Clock, History, Kind, Options, Read, Table};

const SHARD: ShardId = ShardId(1);

/// A table on the memory engine whose n-th write has version n.
struct Store {
    table: Table,
    writes: u64,
    _folder: tempfile::TempDir,
}

impl Store {
    fn new(history: History) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut table =
            Table::open(storage::open(Kind::Memory, folder.path()).unwrap(), Options::of(history));
        table.load(SHARD, 1).unwrap();
        Store { table, writes: 0, _folder: folder }
    }

    fn apply(&mut self, op: Op) -> Answer {
        self.writes += 1;
        let ops = vec![Stamped { id: None, op }];
        let entry = Entry { proposed: version(self.writes), ops };
        self.table.apply(SHARD, self.writes, 1, &entry).unwrap().remove(0).result.unwrap()
    }

    fn put(&mut self, key: &Key, value: impl Into<Bytes>) {
        let value = value.into();
        self.apply(Op::Put { key: key.clone(), value, deadline: None, previous: false });
    }

    fn delete(&mut self, key: &Key) {
        self.apply(Op::Delete { key: key.clone(), previous: false });
    }

    fn read(&self, op: &Op) -> Result<Answer, Error> {
        match self.table.read(SHARD, op, Clock::Shard).unwrap() {
            Read::Done { result, .. } => result,
            Read::NeedsAdvance(_) => panic!("without a clock nothing needs to advance"),
        }
    }

    fn history(&self, key: &Key, limit: u32, before: Option<Version>) -> (Vec<Revision>, Option<Version>) {
        match self.read(&Op::History { key: key.clone(), limit, before }) {
            Ok(Answer::History { revisions, next }) => (revisions, next),
            other => panic!("{other:?} is no history"),
        }
    }

    /// The versions on each page of a history.
    fn pages(&self, key: &Key, limit: u32) -> Vec<Vec<Version>> {
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let (revisions, next) = self.history(key, limit, before);
            pages.push(revisions.iter().map(|revision| revision.version).collect());
            if next.is_none() {
                return pages;
            }
            assert_eq!(next, revisions.last().map(|last| last.version), "a page has a revision");
            before = next;
        }
    }

    /// Trims step by step; how many revisions went with each.
    fn trim_range(&mut self, from: &Key, below: Option<Version>) -> Vec<u64> {
        let (mut counts, mut from) = (Vec::new(), from.clone());
        loop {
            match self.apply(Op::TrimRange { from, to: None, below }) {
                Answer::Trimmed { count, next } => {
                    counts.push(count);
                    let Some(next) = next else { return counts };
                    from = next;
                }
                other => panic!("{other:?} is no trim"),
            }
        }
    }
}

fn version(micros: u64) -> Version {
    Version::new(micros, ReplicaId(1))
}

fn key(number: usize) -> Key {
    format!("{number:08}").into()
}

#[test]
fn history_of_more_revisions_than_a_page_goes_on() {
    let mut store = Store::new(History::All);
    for _ in 0..21_000 {
        store.put(&key(0), "v");
    }
    let pages = store.pages(&key(0), 0);
    let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [PAGE_ROWS_MAX, PAGE_ROWS_MAX, 1_000]);
    assert!(pages.concat().into_iter().eq((1..=21_000).rev().map(version)), "each once, newest first");
    let (page, next) = store.history(&key(0), u32::MAX, None);
    assert_eq!((page.len(), next.is_some()), (PAGE_ROWS_MAX, true), "a limit makes no page larger");
    let (page, next) = store.history(&key(0), 7, Some(version(5_000)));
    assert_eq!((page.len(), page[0].version, next), (7, version(4_999), Some(version(4_993))));
}

#[test]
fn history_of_large_revisions_has_short_pages() {
    let mut store = Store::new(History::Count(9));
    for bytes in [3 << 19, 3 << 19, 3 << 19, kv::VALUE_BYTES_MAX, 3 << 20, 1] {
        store.put(&key(0), vec![0; bytes]);
    }
    let lengths: Vec<usize> = store.pages(&key(0), 0).iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 1, 2, 1]);
}

#[test]
fn trim_of_more_revisions_than_a_step_goes_on() {
    let mut store = Store::new(History::All);
    for _ in 0..21_000 {
        store.put(&key(0), "v");
    }
    let trim = |store: &mut Store, below| store.apply(Op::Trim { key: key(0), below });
    let more = |count| Answer::Trimmed { count, next: Some(key(0)) };
    let done = |count| Answer::Trimmed { count, next: None };
    let step = TRIM_REVISIONS_MAX as u64;
    assert_eq!(trim(&mut store, Some(version(20_500))), more(step));
    assert_eq!(
        store.history(&key(0), 1, Some(version(10_002))).0[0].version,
        version(10_001),
        "the oldest go"
    );
    assert_eq!(trim(&mut store, Some(version(20_500))), more(step));
    assert_eq!(trim(&mut store, Some(version(20_500))), done(499));
    assert_eq!(store.pages(&key(0), 0).concat().last(), Some(&version(20_500)));
    assert_eq!(trim(&mut store, None), done(500));
    assert_eq!(store.pages(&key(0), 0), [[version(21_000)]]);
}

#[test]
fn trim_of_a_deleted_key_with_many_revisions_leaves_nothing() {
    let mut store = Store::new(History::All);
    let empty = Store::new(History::All).table.snapshot(SHARD).next_chunk(1 << 20).unwrap().unwrap().len();
    for _ in 0..10_000 {
        store.put(&key(0), "v");
    }
    store.delete(&key(0));
    assert_eq!(store.trim_range(&Key::new(), None), [10_001]);
    let mut snapshot = store.table.snapshot(SHARD);
    assert_eq!(snapshot.next_chunk(1 << 20).unwrap().unwrap().len(), empty, "no row is left");
    let get = |at| store.read(&Op::Get { key: key(0), at: Some(version(at)) });
    assert_eq!(get(10_001), Ok(Answer::Row(None)));
    assert_eq!(get(9_999), Err(Error::Trimmed { asked: version(9_999), oldest: version(10_001) }));
}

#[test]
fn trim_range_of_many_revisions_goes_on_within_a_key() {
    let mut store = Store::new(History::All);
    for number in 0..3 {
        for _ in 0..7_001 {
            store.put(&key(number), "v");
        }
    }
    store.delete(&key(1));
    assert_eq!(store.trim_range(&Key::new(), None), [10_000, 10_000, 1_002]);
    assert_eq!(store.pages(&key(0), 0), [[version(7_001)]]);
    assert_eq!(store.pages(&key(1), 0), [[]]);
    assert_eq!(store.pages(&key(2), 0), [[version(21_003)]]);
}

#[test]
fn trim_range_of_many_keys_goes_on_in_steps() {
    let mut store = Store::new(History::Count(3));
    let rows = |from: usize| (from..from + 10_000).map(|number| (key(number), "v".into())).collect();
    for from in [0, 0, 10_000] {
        store.apply(Op::PutAll { rows: rows(from) });
    }
    let steps = store.trim_range(&Key::new(), None);
    assert_eq!(steps.iter().sum::<u64>(), 10_000);
    assert!(steps.len() > 3, "over keys with nothing to forget it goes in steps as well");
}

#[test]
fn trim_range_that_looks_much_up_goes_on_in_steps() {
    let mut store = Store::new(History::Count(300));
    let keys = 700;
    let rows = |_| (0..keys).map(|number| (key(number), "v".into())).collect();
    for write in 0..20 {
        store.apply(Op::PutAll { rows: rows(write) });
    }
    let steps = store.trim_range(&Key::new(), Some(version(3)));
    assert_eq!(steps.iter().sum::<u64>(), 2 * keys as u64);
    assert_eq!(steps.len(), 1, "four looks a key are little");
    for write in 20..300 {
        store.apply(Op::PutAll { rows: rows(write) });
    }
    let steps = store.trim_range(&Key::new(), Some(version(2)));
    assert_eq!(steps.iter().sum::<u64>(), 0);
    assert!(steps.len() > 1, "eight looks a key are many: {steps:?}");
}

#[test]
fn trim_range_of_large_revisions_goes_on_in_steps() {
    let mut store = Store::new(History::Count(4));
    for bytes in [2 << 20, 2 << 20, 2 << 20, 1] {
        (0..4).for_each(|number| store.put(&key(number), vec![0; bytes]));
    }
    // To find what goes, two of 2 MiB are read of each key: more than a step reads.
    assert_eq!(store.trim_range(&Key::new(), Some(version(9))), [2, 1, 1, 1]);
    let left: Vec<usize> = (0..4).map(|number| store.pages(&key(number), 0).concat().len()).collect();
    assert_eq!(left, [2, 3, 3, 3]);
}
