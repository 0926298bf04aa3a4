//! What is bounded stays bounded, and says so; and what happens when the engine fails.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

mod limits {
    pub mod expiry;
    pub mod rules;
    pub mod sessions;
    pub mod store;
}

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv::{Answer, Entry, Error, KEYS_PER_OP_MAX, Key, Op, Range, ReplicaId, Stamped, Version};
use limits::store::{SHARD, Store, key, put, put_many};
use storage::{Engine, EngineError, History, Intake, Kind, Maintenance, Options, Table, View};

#[test]
fn range_over_many_deleted_rows_goes_on_in_short_pages() {
    let mut store = Store::new(History::Count(2));
    store.apply(1, put_many(0, 10_000)).unwrap();
    store.apply(2, Op::DeleteRange { from: key(1), to: Some(key(9_999)) }).unwrap();
    for (keys_only, count_only) in [(false, false), (true, false), (false, true)] {
        let mut range = Range { keys_only, count_only, ..Range::default() };
        let (mut pages, mut count) = (0, 0);
        loop {
            let page = store.page(&range);
            (pages, count) = (pages + 1, count + page.count);
            if page.next.is_none() {
                break;
            }
            range.page = page.next;
        }
        assert_eq!((pages, count), (3, 2));
    }
}

#[test]
fn range_large_rows_end_the_page_before_its_limit() {
    let mut store = Store::new(History::Count(1));
    for number in 0..5 {
        store.apply(1, put(key(number), vec![0; 3 << 19].into())).unwrap();
    }
    store.apply(2, put(key(5), vec![0; kv::VALUE_BYTES_MAX].into())).unwrap();
    let mut range = Range::default();
    let mut lengths = Vec::new();
    loop {
        let page = store.page(&range);
        lengths.push(page.rows.len());
        if page.next.is_none() {
            break;
        }
        range.page = page.next;
    }
    assert_eq!(lengths, [2, 2, 1, 1]);
    assert_eq!(store.page(&Range { keys_only: true, ..Range::default() }).rows.len(), 6);
}

#[test]
fn range_count_of_many_rows_goes_on() {
    let mut store = Store::new(History::Count(1));
    store.apply(1, put_many(0, 10_000)).unwrap();
    store.apply(2, put_many(10_000, 5_000)).unwrap();
    let mut range = Range { count_only: true, limit: 3, ..Range::default() };
    let first = store.page(&range);
    assert_eq!((first.count, first.rows.len()), (10_000, 0));
    range.page = first.next;
    let second = store.page(&range);
    assert_eq!((second.count, second.next), (5_000, None));
}

#[test]
fn delete_range_takes_so_many_keys_and_tells_where_to_go_on() {
    let mut store = Store::new(History::Count(2));
    store.apply(1, put_many(0, 10_000)).unwrap();
    store.apply(2, put_many(10_000, 2_500)).unwrap();
    let deleted = store.apply(3, Op::DeleteRange { from: Key::new(), to: None });
    let next = key(KEYS_PER_OP_MAX);
    assert_eq!(
        deleted,
        Ok(Answer::Deleted { count: KEYS_PER_OP_MAX as u64, previous: None, next: Some(next.clone()) })
    );
    let deleted = store.apply(4, Op::DeleteRange { from: next, to: None });
    assert_eq!(deleted, Ok(Answer::Deleted { count: 2_500, previous: None, next: None }));
    // Over what is deleted it goes on in steps as well.
    let Ok(Answer::Deleted { count: 0, next: Some(_), .. }) =
        store.apply(5, Op::DeleteRange { from: Key::new(), to: None })
    else {
        panic!("it stops after some rows that are passed over")
    };
}

#[test]
fn delete_range_of_large_rows_stops_before_its_limit() {
    let mut store = Store::new(History::Count(2));
    for number in 0..10 {
        store.apply(1, put(key(number), vec![0; kv::VALUE_BYTES_MAX].into())).unwrap();
    }
    let mut from = Key::new();
    let mut counts = Vec::new();
    while let Ok(Answer::Deleted { count, next: Some(next), .. }) =
        store.apply(2, Op::DeleteRange { from: from.clone(), to: None })
    {
        counts.push(count);
        from = next;
    }
    assert_eq!(counts, [8], "what is deleted is written once more, as history: so much at a time");
    assert_eq!(store.page(&Range::default()).count, 0);
}

#[test]
fn get_all_of_large_values_is_refused() {
    let mut store = Store::new(History::Count(1));
    for number in 0..3 {
        store.apply(1, put(key(number), vec![0; kv::VALUE_BYTES_MAX].into())).unwrap();
    }
    let get_all = |count| Op::GetAll { keys: (0..count).map(key).collect(), at: None };
    assert!(store.read(&get_all(2)).is_ok());
    assert!(matches!(store.read(&get_all(3)), Err(Error::TooLarge { .. })));
}

#[test]
fn transaction_with_a_large_answer_is_refused_and_leaves_no_trace() {
    let mut store = Store::new(History::Count(1));
    store.apply(1, put(key(0), vec![0; kv::VALUE_BYTES_MAX].into())).unwrap();
    let before = store.table.digest(SHARD).unwrap();
    let get = Op::Get { key: key(0), at: None };
    let then = vec![put(key(1), "v".into()), get.clone(), get.clone(), get.clone()];
    let result = store.apply(1, Op::Transaction { conditions: vec![], then, otherwise: vec![] });
    assert!(matches!(result, Err(Error::TooLarge { .. })));
    assert_eq!(store.read(&Op::Get { key: key(1), at: None }), Ok(Answer::Row(None)));
    assert_ne!(store.table.digest(SHARD).unwrap(), before, "the version it took is counted");
}

#[test]
fn range_at_a_version_of_many_rows_looked_up_goes_on() {
    let mut store = Store::new(History::Count(2));
    store.apply(1, put_many(0, 10_000)).unwrap();
    store.apply(2, put_many(0, 10_000)).unwrap();
    let at = Some(Version::new(1, ReplicaId(1)));
    let mut range = Range { at, keys_only: true, ..Range::default() };
    let mut rows = Vec::new();
    loop {
        let page = store.page(&range);
        assert!(page.rows.len() <= 4096);
        rows.extend(page.rows.into_iter().map(|row| row.key));
        if page.next.is_none() {
            break;
        }
        range.page = page.next;
    }
    assert!(rows.into_iter().eq((0..10_000).map(key)));
}

#[test]
fn history_lowered_is_trimmed_by_later_writes() {
    let mut store = Store::new(History::All);
    for micros in 1..=200 {
        store.apply(micros, put(key(0), micros.to_string().into())).unwrap();
    }
    store.reopen(Options::of(History::Count(2)));
    for micros in 201..=204 {
        store.apply(micros, put(key(0), "v".into())).unwrap();
    }
    let trimmed = store.apply(300, Op::Trim { key: key(0), below: None });
    assert_eq!(trimmed, Ok(Answer::Trimmed { count: 1, next: None }), "one older revision was left");
}

/// An engine whose reads of a row fail when told to.
struct Failing {
    inner: Arc<dyn Engine>,
    fails: Arc<AtomicBool>,
}

impl View for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if self.fails.load(Ordering::Relaxed) {
            let source = std::io::Error::other("the disk does not answer");
            return Err(EngineError::Io { doing: "reading a row".into(), source });
        }
        self.inner.get(key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.inner.scan(from, to, backward, visit)
    }
}

impl Engine for Failing {
    fn view(&self) -> Box<dyn View> {
        self.inner.view()
    }

    fn intake(&self) -> Box<dyn Intake> {
        self.inner.intake()
    }

    fn maintain(&self) -> Option<Maintenance> {
        self.inner.maintain()
    }
}

#[test]
fn history_page_far_back_and_trim_are_found_without_a_scan() {
    let mut store = Store::new(History::All);
    for micros in 1..=10_000 {
        store.apply(micros, put(key(0), "v".into())).unwrap();
    }
    let at = |micros| Some(Version::new(micros, ReplicaId(1)));
    let mut reads_of = |what: &mut dyn FnMut(&mut Store)| {
        store.table.take_asked();
        what(&mut store);
        store.table.take_asked().read
    };
    let page = Op::History { key: key(0), limit: 3, before: at(5) };
    let page = reads_of(&mut |store| {
        assert!(matches!(store.read(&page), Ok(Answer::History { revisions, .. }) if revisions.len() == 3));
    });
    // Fourteen halvings, the newest, and three with the one behind them.
    assert!(page <= 20, "{page} reads");
    let trimmed = Ok(Answer::Trimmed { count: 7_000, next: None });
    let trim = reads_of(&mut |store| {
        assert_eq!(store.apply(20_000, Op::Trim { key: key(0), below: at(7_001) }), trimmed);
    });
    assert!(trim <= 20, "{trim} reads");
}

#[test]
fn apply_engine_fails_stops_the_table_before_the_half_entry_is_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let inner = storage::open(Kind::Memory, folder.path()).unwrap();
    let options = Options::of(History::Count(1));
    let mut table = Table::open(Arc::new(Failing { inner, fails: fails.clone() }), options);
    table.load(SHARD, 1).unwrap();
    let of = |numbers: &[usize]| {
        let op = |number: &usize| Stamped { id: None, op: put(key(*number), "v".into()) };
        Entry { proposed: Version::new(1, ReplicaId(1)), ops: numbers.iter().map(op).collect() }
    };
    table.apply(SHARD, 1, 1, &of(&[0])).unwrap();
    // The first key is in memory, of the other only the engine knows whether it is there.
    let entry = of(&[0, 1]);
    fails.store(true, Ordering::Relaxed);
    assert!(matches!(table.apply(SHARD, 2, 1, &entry), Err(EngineError::Io { .. })));
    fails.store(false, Ordering::Relaxed);
    assert!(matches!(table.apply(SHARD, 2, 1, &entry), Err(EngineError::Stopped(_))));
    assert!(matches!(table.flush().run(), Err(EngineError::Stopped(_))));
    drop(table);
    let mut table = Table::open(storage::open(Kind::Memory, folder.path()).unwrap(), options);
    assert_eq!(table.load(SHARD, 1).unwrap().index, 0, "nothing of it reached the disk");
}
