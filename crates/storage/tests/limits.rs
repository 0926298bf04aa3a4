//! What is bounded stays bounded, and says so; and what happens when the engine fails.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv::{
    Answer, Entry, Error, KEYS_PER_OP_MAX, Key, NodeId, Op, Range, RequestId, ShardId, Stamped, Version,
};
use storage::{Engine, EngineError, Flush, History, Kind, Maintenance, Options, Read, Table, View};

const SHARD: ShardId = ShardId(1);

/// A table on the memory engine, and the index of its last entry.
struct Store {
    table: Table,
    index: u64,
    _folder: tempfile::TempDir,
}

impl Store {
    fn new(history: History) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut table =
            Table::open(storage::open(Kind::Memory, folder.path()).unwrap(), Options::of(history));
        table.load(SHARD, 1).unwrap();
        Store { table, index: 0, _folder: folder }
    }

    fn apply(&mut self, micros: u64, op: Op) -> Result<Answer, Error> {
        self.stamped(micros, None, op)
    }

    fn stamped(&mut self, micros: u64, id: Option<RequestId>, op: Op) -> Result<Answer, Error> {
        self.index += 1;
        let entry = Entry { proposed: Version::new(micros, NodeId(1)), ops: vec![Stamped { id, op }] };
        self.table.apply(SHARD, self.index, 1, &entry).unwrap().remove(0).result
    }

    fn read(&self, op: &Op) -> Result<Answer, Error> {
        match self.table.read(SHARD, op, None).unwrap() {
            Read::Done(result, _) => result,
            Read::NeedsAdvance(_) => panic!("without a clock nothing needs to advance"),
        }
    }

    fn page(&self, range: &Range) -> kv::Page {
        match self.read(&Op::Range(range.clone())).unwrap() {
            Answer::Page(page) => page,
            other => panic!("{other:?} is no page"),
        }
    }
}

fn key(number: usize) -> Key {
    format!("{number:08}").into()
}

fn put(key: Key, value: Bytes) -> Op {
    Op::Put { key, value, deadline: None, previous: false }
}

fn put_many(from: usize, count: usize) -> Op {
    Op::PutAll { rows: (from..from + count).map(|number| (key(number), "v".into())).collect() }
}

fn id(client: u64, sequence: u64, answered_below: u64) -> RequestId {
    RequestId { client, sequence, valid_until: Version::new(1000, NodeId(0)), answered_below }
}

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
fn expiry_of_many_rows_is_spread_and_seen_at_once() {
    let mut store = Store::new(History::Count(1));
    for number in 0..1000 {
        store
            .apply(1, Op::Put { key: key(number), value: "v".into(), deadline: Some(5_000), previous: false })
            .unwrap();
    }
    assert_eq!(store.table.due(SHARD), Some(5_000));
    let digest = |store: &Store| store.table.digest(SHARD).unwrap();
    let mut digests = vec![];
    for _ in 0..5 {
        store.apply(5_000, Op::Advance { to: Version::new(5_000, NodeId(1)) }).unwrap();
        assert_eq!(store.page(&Range::default()).count, 0, "it is gone for every reader at once");
        digests.push((digest(&store), store.table.due(SHARD)));
    }
    assert_eq!(digests.iter().filter(|(_, due)| due.is_some()).count(), 3, "256 rows with each apply");
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
fn history_of_more_revisions_than_a_page_is_refused_and_trimmed_in_steps() {
    let mut store = Store::new(History::All);
    for micros in 1..=11_000 {
        store.apply(micros, put(key(0), "v".into())).unwrap();
    }
    let history = |limit| Op::History { key: key(0), limit };
    assert!(matches!(store.read(&history(0)), Err(Error::TooLarge { .. })));
    assert!(matches!(store.read(&history(10_000)), Ok(Answer::History(list)) if list.len() == 10_000));
    let trim = Op::Trim { key: key(0), below: None };
    let counts = [KEYS_PER_OP_MAX as u64, 999, 0];
    for count in counts {
        assert_eq!(store.apply(20_000, trim.clone()), Ok(Answer::Trimmed(count)));
    }
}

#[test]
fn range_at_a_version_of_many_rows_looked_up_goes_on() {
    let mut store = Store::new(History::Count(2));
    store.apply(1, put_many(0, 10_000)).unwrap();
    store.apply(2, put_many(0, 10_000)).unwrap();
    let at = Some(Version::new(1, NodeId(1)));
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
    let folder = tempfile::tempdir().unwrap();
    let open =
        |history| Table::open(storage::open(Kind::Memory, folder.path()).unwrap(), Options::of(history));
    let mut store = Store { table: open(History::All), index: 0, _folder: tempfile::tempdir().unwrap() };
    store.table.load(SHARD, 1).unwrap();
    for micros in 1..=200 {
        store.apply(micros, put(key(0), micros.to_string().into())).unwrap();
    }
    store.table.flush().run().unwrap();
    store.table = open(History::Count(2));
    store.table.load(SHARD, 1).unwrap();
    for micros in 201..=204 {
        store.apply(micros, put(key(0), "v".into())).unwrap();
    }
    let trimmed = store.apply(300, Op::Trim { key: key(0), below: None });
    assert_eq!(trimmed, Ok(Answer::Trimmed(1)), "one older revision was left");
}

#[test]
fn sessions_beyond_the_limit_are_refused_until_some_are_out_of_date() {
    let mut store = Store::new(History::Count(1));
    let increment = Op::Update { key: key(0), function: kv::Function::Increment { by: 1 } };
    let id = |client, sequence| RequestId {
        valid_until: Version::new(1_000_000, NodeId(0)),
        ..id(client, sequence, 1)
    };
    for client in 0..storage::SESSIONS_MAX as u64 {
        store.stamped(1, Some(id(client + 1, 1)), increment.clone()).unwrap();
    }
    let refused = store.stamped(1, Some(id(u64::MAX, 1)), increment.clone());
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    let known = store.stamped(1, Some(id(5, 1)), increment.clone());
    assert_eq!(known, Ok(Answer::Number(5)), "nothing is forgotten");
    store.stamped(1, Some(id(5, 2)), increment.clone()).expect("who is known goes on");
    // Out of date, they go a few with each apply.
    store.apply(1, Op::Advance { to: Version::new(2_000_000, NodeId(1)) }).unwrap();
    let later = RequestId { valid_until: Version::new(5_000_000, NodeId(0)), ..id(u64::MAX, 1) };
    store.stamped(1, Some(later), increment).unwrap();
}

#[test]
fn sessions_of_large_answers_are_bounded_and_make_room_when_answered() {
    let mut store = Store::new(History::Count(1));
    let exchange =
        Op::Put { key: key(0), value: vec![1; kv::VALUE_BYTES_MAX].into(), deadline: None, previous: true };
    store.apply(1, exchange.clone()).unwrap();
    let mut sequence = 0;
    let refused = loop {
        sequence += 1;
        if let Err(error) = store.stamped(1, Some(id(1, sequence, 1)), exchange.clone()) {
            break error;
        }
    };
    assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
    assert_eq!(sequence, storage::SESSION_BYTES_MAX / kv::VALUE_BYTES_MAX as u64 + 1);
    assert!(store.stamped(1, Some(id(2, 1, 1)), put(key(1), "v".into())).is_err(), "a new client is refused");
    let first = store.stamped(1, Some(id(1, 1, 1)), exchange).unwrap();
    assert!(matches!(first, Answer::Put { previous: Some(row) } if row.value.len() == kv::VALUE_BYTES_MAX));
    store.stamped(1, Some(id(1, sequence, sequence)), put(key(1), "v".into())).unwrap();
    store.stamped(1, Some(id(2, 1, 1)), put(key(1), "v".into())).unwrap();
}

#[test]
fn sessions_are_the_same_whether_they_were_loaded_again_or_not() {
    let (mut store, mut other) = (Store::new(History::Count(1)), Store::new(History::Count(1)));
    let mut random = 7u64;
    for sequence in 1..600 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let below = sequence - (random >> 60).min(sequence - 1);
        // Some answers are too large to be kept once they are answered.
        let value = vec![0; if (random >> 40).is_multiple_of(5) { 9_000 } else { 10 }];
        let op = Op::Put { key: key(0), value: value.into(), deadline: None, previous: true };
        let request = id(1 + (random >> 20) % 3, sequence, below);
        let result = store.stamped(sequence, Some(request), op.clone());
        assert_eq!(other.stamped(sequence, Some(request), op), result);
        if sequence % 7 == 0 {
            other.table.load(SHARD, 1).unwrap();
        }
        assert_eq!(
            store.table.digest(SHARD).unwrap(),
            other.table.digest(SHARD).unwrap(),
            "after request {sequence}"
        );
    }
}

/// An engine whose reads fail when told to.
struct Failing {
    inner: Box<dyn Engine>,
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
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.inner.put(key, value);
    }

    fn remove(&mut self, key: &[u8]) {
        self.inner.remove(key);
    }

    fn view(&self) -> Box<dyn View> {
        self.inner.view()
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        self.inner.flush()
    }

    fn maintain(&self) -> Option<Maintenance> {
        self.inner.maintain()
    }

    fn bytes_unflushed(&self) -> u64 {
        self.inner.bytes_unflushed()
    }
}

#[test]
fn apply_engine_fails_stops_the_table_before_the_half_entry_is_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let inner = storage::open(Kind::Memory, folder.path()).unwrap();
    let options = Options::of(History::Count(1));
    let mut table = Table::open(Box::new(Failing { inner, fails: fails.clone() }), options);
    table.load(SHARD, 1).unwrap();
    let ops = vec![Stamped { id: None, op: put(key(0), "v".into()) }];
    let entry = Entry { proposed: Version::new(1, NodeId(1)), ops };
    table.apply(SHARD, 1, 1, &entry).unwrap();
    fails.store(true, Ordering::Relaxed);
    assert!(matches!(table.apply(SHARD, 2, 1, &entry), Err(EngineError::Io { .. })));
    fails.store(false, Ordering::Relaxed);
    assert!(matches!(table.apply(SHARD, 2, 1, &entry), Err(EngineError::Stopped(_))));
    assert!(matches!(table.flush().run(), Err(EngineError::Stopped(_))));
    drop(table);
    let mut table = Table::open(storage::open(Kind::Memory, folder.path()).unwrap(), options);
    assert_eq!(table.load(SHARD, 1).unwrap().index, 0, "nothing of it reached the disk");
}
