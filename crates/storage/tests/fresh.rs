//! What is new in memory: what reaches the engine, when, and how often.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kv::{Entry, Op, ReplicaId, ShardId, Stamped, Version};
use storage::{Engine, EngineError, Fresh, History, Intake, Maintenance, Options, Row, Table, View};

/// An engine that keeps the batches it was given, and refuses them while it is full.
#[derive(Clone, Default)]
struct Batches(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    batches: Vec<Vec<Row>>,
    rows: BTreeMap<Bytes, Bytes>,
    full: bool,
}

impl Batches {
    fn take(&self) -> Vec<Vec<Row>> {
        std::mem::take(&mut self.0.lock().unwrap().batches)
    }

    fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }
}

impl View for Batches {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.lock().unwrap().rows.get(key).cloned())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let rows = self.0.lock().unwrap().rows.clone();
        let mut found: Vec<_> = rows.range::<[u8], _>((from, to)).collect();
        if backward {
            found.reverse();
        }
        let _ = found.into_iter().try_for_each(|(key, value)| visit(key.clone(), value.clone()));
        Ok(())
    }
}

impl Engine for Batches {
    fn view(&self) -> Box<dyn View> {
        let frozen = Inner { rows: self.0.lock().unwrap().rows.clone(), ..Inner::default() };
        Box::new(Batches(Arc::new(Mutex::new(frozen))))
    }

    fn intake(&self) -> Box<dyn Intake> {
        Box::new(self.clone())
    }

    fn maintain(&self) -> Option<Maintenance> {
        None
    }
}

impl Intake for Batches {
    fn take(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), EngineError> {
        let mut inner = self.0.lock().unwrap();
        if inner.full {
            let (doing, source) = ("writing".into(), io::ErrorKind::StorageFull.into());
            return Err(EngineError::Io { doing, source });
        }
        let batch: Vec<Row> = rows.collect();
        for (key, value) in batch.clone() {
            match value {
                Some(value) => inner.rows.insert(key, value),
                None => inner.rows.remove(&key),
            };
        }
        inner.batches.push(batch);
        Ok(())
    }
}

fn row(key: &'static str, value: &'static str) -> Row {
    (key.into(), Some(value.into()))
}

fn put(fresh: &mut Fresh, key: &'static str, value: &'static str) {
    fresh.put(key, value.into());
}

fn get(view: &dyn View, key: &str) -> Option<Bytes> {
    view.get(key.as_bytes()).unwrap()
}

fn all(view: &dyn View) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    view.scan(Bound::Unbounded, Bound::Unbounded, false, &mut |key, value| {
        rows.push((key, value));
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

fn over_batches() -> (Fresh, Batches) {
    let engine = Batches::default();
    (Fresh::over(Arc::new(engine.clone())), engine)
}

#[test]
fn row_written_often_takes_the_room_of_one_and_reaches_the_engine_once() {
    let (mut fresh, engine) = over_batches();
    put(&mut fresh, "b", "0");
    let one = fresh.bytes_unflushed();
    (0..1000).for_each(|_| put(&mut fresh, "b", "1"));
    assert_eq!(fresh.bytes_unflushed(), one);
    put(&mut fresh, "c", "1");
    put(&mut fresh, "a", "1");
    fresh.remove("c");
    assert!(engine.take().is_empty(), "nothing is written before a flush");
    fresh.flush().run().unwrap();
    let removed = ("c".into(), None);
    assert_eq!(engine.take(), [[row("a", "1"), row("b", "1"), removed]], "one batch, in order");
    assert_eq!(fresh.bytes_unflushed(), 0);
}

#[test]
fn flush_takes_what_was_written_before_it_was_begun_and_nothing_later() {
    let (mut fresh, engine) = over_batches();
    put(&mut fresh, "a", "1");
    put(&mut fresh, "applied", "1");
    let flush = fresh.flush();
    put(&mut fresh, "a", "2");
    put(&mut fresh, "applied", "2");
    assert_eq!(get(&fresh, "a").unwrap(), "2");
    flush.run().unwrap();
    assert_eq!(engine.take(), [[row("a", "1"), row("applied", "1")]]);
    assert_eq!(get(&fresh, "applied").unwrap(), "2");
    fresh.flush().run().unwrap();
    assert_eq!(engine.take(), [[row("a", "2"), row("applied", "2")]]);
}

#[test]
fn flush_that_found_no_room_is_part_of_the_next_one() {
    let (mut fresh, engine) = over_batches();
    put(&mut fresh, "a", "1");
    put(&mut fresh, "b", "1");
    engine.set_full(true);
    for _ in 0..3 {
        fresh.flush().run().unwrap_err();
        put(&mut fresh, "a", "2");
    }
    let unflushed = fresh.bytes_unflushed();
    assert!(fresh.let_go().is_none(), "nothing is let go of");
    assert_eq!(all(&fresh), [("a".into(), "2".into()), ("b".into(), "1".into())]);
    engine.set_full(false);
    let flush = fresh.flush();
    assert!(fresh.bytes_unflushed() < unflushed, "layers that nobody holds are one");
    flush.run().unwrap();
    assert_eq!(engine.take(), [[row("a", "2"), row("b", "1")]]);
}

#[test]
fn flushes_run_in_the_other_order_leave_the_newest_rows() {
    let (mut fresh, engine) = over_batches();
    put(&mut fresh, "a", "1");
    let first = fresh.flush();
    put(&mut fresh, "a", "2");
    fresh.flush().run().unwrap();
    assert_eq!(engine.take(), [[row("a", "2")]]);
    first.run().unwrap();
    assert!(engine.take().is_empty(), "it was flushed already");
    fresh.flush().run().unwrap();
    assert!(engine.take().is_empty(), "nothing is new");
}

#[test]
fn view_shows_its_time_through_writes_flushes_and_what_is_let_go_of() {
    let (mut fresh, _) = over_batches();
    let mut views = Vec::new();
    for value in ["0", "1", "2", "3"] {
        put(&mut fresh, "a", value);
        views.push((fresh.view(), value));
        fresh.remove("a");
        put(&mut fresh, value, "");
        let flush = fresh.flush();
        views.push((fresh.view(), ""));
        flush.run().unwrap();
        fresh.let_go().into_iter().for_each(|step| step().unwrap());
    }
    for (view, value) in &views {
        let expected = Some(Bytes::from(*value)).filter(|value| !value.is_empty());
        assert_eq!(get(&**view, "a"), expected);
        let rows = all(&**view);
        assert_eq!(rows.iter().find(|(key, _)| key == "a").map(|(_, value)| value.clone()), expected);
    }
    assert_eq!(all(&*views[0].0).len(), 1);
    assert_eq!(all(&*views[7].0).len(), 4);
}

#[test]
fn what_memory_knows_is_told_apart_from_what_only_the_engine_knows() {
    let (mut fresh, _) = over_batches();
    put(&mut fresh, "a", "1");
    put(&mut fresh, "b", "1");
    fresh.flush().run().unwrap();
    assert_eq!(fresh.in_memory(b"a"), Some(Some(&"1".into())), "until it is let go of");
    fresh.let_go().unwrap()().unwrap();
    assert_eq!(fresh.in_memory(b"a"), None);
    assert_eq!(get(&fresh, "a").unwrap(), "1");
    fresh.remove("b");
    assert_eq!(fresh.in_memory(b"b"), Some(None));
    assert_eq!(get(&fresh, "b"), None);
}

#[test]
fn read_of_what_is_in_memory_is_told_from_one_that_asks_the_engine() {
    let (shard, version) = (ShardId(1), Version::new(1, ReplicaId(1)));
    let mut table = Table::open(Arc::new(Batches::default()), Options::of(History::Count(3)));
    table.load(shard, 1).unwrap();
    let op = Op::Put { key: "a".into(), value: "1".into(), deadline: None, previous: false };
    let entry = Entry { proposed: version, ops: vec![Stamped { id: None, op }] };
    table.apply(shard, 1, 1, &entry).unwrap();
    let get = |key: &'static str, at| Op::Get { key: key.into(), at };
    assert!(table.is_in_memory(shard, &get("a", None)));
    assert!(!table.is_in_memory(shard, &get("b", None)), "only the engine knows that it is not there");
    assert!(!table.is_in_memory(shard, &get("a", Some(version))), "it may look for older revisions");
    table.flush().run().unwrap();
    table.let_go().unwrap()().unwrap();
    assert!(!table.is_in_memory(shard, &get("a", None)));
}
