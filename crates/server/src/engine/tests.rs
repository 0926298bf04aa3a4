//! Writers when both memories are full, over an engine whose flushes wait at a gate.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::{Direction, Entry, Index, Key, Position, ReplicaId, ShardId, Stamped, Version};
use node::Input;
use node::cores::Deal;
use replication::Ticket;
use storage::{Clock, History, Intake, Maintenance, Options, Read, Row, Table, View};

use super::*;

const SHARD: ShardId = ShardId(1);
/// Of a memory here: some entries.
const MEMORY_BYTES: u64 = 8 << 10;
const VALUE_BYTES: usize = 1 << 10;
/// Longer than an entry takes that does not wait.
const PATIENCE: Duration = Duration::from_millis(200);

/// An engine that takes in nothing while its gate is closed.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<Rows>, Condvar)>);

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Bytes, Bytes>,
    is_closed: bool,
    /// What the next batch fails with.
    fails: Option<EngineError>,
}

impl Gate {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.0.lock().expect("no test panics inside")
    }

    fn close(&self) {
        self.rows().is_closed = true;
    }

    /// Lets all batches in; the first of them fails with this.
    fn open(&self, fails: Option<EngineError>) {
        let mut rows = self.rows();
        (rows.is_closed, rows.fails) = (false, fails);
        self.0.1.notify_all();
    }
}

impl View for Gate {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.rows().rows.get(key).cloned())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        _backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let rows = self.rows().rows.clone();
        let mut found = rows.range::<[u8], _>((from, to));
        let _ = found.try_for_each(|(key, value)| visit(key.clone(), value.clone()));
        Ok(())
    }
}

impl storage::Engine for Gate {
    fn view(&self) -> Box<dyn View> {
        let rows = Rows { rows: self.rows().rows.clone(), ..Rows::default() };
        Box::new(Gate(Arc::new((Mutex::new(rows), Condvar::new()))))
    }

    fn intake(&self) -> Box<dyn Intake> {
        Box::new(self.clone())
    }

    fn maintain(&self) -> Option<Maintenance> {
        None
    }
}

impl Intake for Gate {
    fn take(&self, batch: &mut dyn Iterator<Item = Row>) -> Result<(), EngineError> {
        let rows = self.0.1.wait_while(self.rows(), |rows| rows.is_closed);
        let mut rows = rows.expect("no test panics inside");
        if let Some(error) = rows.fails.take() {
            return Err(error);
        }
        for (key, value) in batch {
            match value {
                Some(value) => rows.rows.insert(key, value),
                None => rows.rows.remove(&key),
            };
        }
        Ok(())
    }
}

/// The engine over a gate, and what came of its jobs.
struct Bench {
    engine: Engine,
    inboxes: Inboxes,
    gate: Gate,
    asked: u64,
    applied: Vec<Index>,
    flushed: Vec<Result<(), String>>,
    failed: Option<Failure>,
}

impl Bench {
    fn new() -> Bench {
        let (gate, inboxes) = (Gate::default(), Inboxes::new(Deal::new(1, 1)));
        let mut table = Table::open(Arc::new(gate.clone()), Options::of(History::Count(1)));
        table.load(SHARD, 1).expect("it is empty");
        let beside = Beside::start(&inboxes, Requests::default());
        let engine = Engine::new(0, Executor::new(table), Kind::Disk, &inboxes, beside);
        engine.runner().memory_bytes_max = MEMORY_BYTES;
        Bench { engine, inboxes, gate, asked: 0, applied: Vec::new(), flushed: Vec::new(), failed: None }
    }

    fn run(&mut self, job: Job) {
        let done = self.engine.run(vec![job]).expect("what runs here does not fail");
        done.into_iter().for_each(|done| self.done(done));
    }

    /// Stores a value under a key of its own.
    fn put(&mut self) {
        self.asked += 1;
        let op = Op::Put {
            key: key(self.asked),
            value: vec![b'v'; VALUE_BYTES].into(),
            deadline: None,
            previous: false,
        };
        let proposed = Version::new(self.asked, ReplicaId(1));
        let entry = Entry::encode(proposed, &[Stamped { id: None, op }.encode()]);
        self.run(Job::Apply { shard: SHARD, at: Position::new(self.asked, 1), entry });
    }

    fn flush(&mut self) {
        self.run(Job::Flush { token: 1 });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Applied { index, .. } => self.applied.push(index),
            Done::Flushed { result, .. } => self.flushed.push(result),
            _ => {}
        }
    }

    /// Takes what comes until something holds, or for so long.
    fn take_until(&mut self, patience: Duration, holds: impl Fn(&Bench) -> bool) -> bool {
        let until = Instant::now() + patience;
        while !holds(self) && Instant::now() < until {
            let mut messages = Vec::new();
            self.inboxes.first().take(&mut messages, 0);
            for message in messages {
                match message {
                    Message::Done(done) => {
                        self.engine.finished();
                        done.into_iter().for_each(|done| self.done(done));
                    }
                    Message::Input(Input::Done(done)) => self.done(done),
                    Message::Fatal(failure) => self.failed = Some(failure),
                    _ => {}
                }
            }
            std::thread::yield_now();
        }
        holds(self)
    }

    fn await_all(&mut self, holds: impl Fn(&Bench) -> bool) {
        assert!(
            self.take_until(Duration::from_secs(60), holds),
            "applied {:?} of {}",
            self.applied,
            self.asked
        );
    }

    fn all_are_applied(&self) -> bool {
        self.applied.len() as u64 == self.asked
    }

    /// One memory is full and is being flushed, which the gate does not let through; then the other one is full as well.
    fn fill_both(&mut self) {
        self.gate.close();
        self.fill_to(MEMORY_BYTES);
        self.flush();
        self.fill_to(2 * MEMORY_BYTES);
    }

    fn fill_to(&mut self, bytes: u64) {
        while self.unflushed() < bytes {
            self.put();
            self.await_all(Bench::all_are_applied);
        }
    }

    fn unflushed(&self) -> u64 {
        self.engine.runner().executor.table().bytes_unflushed()
    }

    /// Every value that was stored, as a reader finds it.
    fn check_values(&self) {
        let runner = self.engine.runner();
        for number in 1..=self.asked {
            let op = Op::Get { key: key(number), at: None };
            let read = runner.executor.table().read(SHARD, &op, Clock::Shard).expect("the engine reads");
            let Read::Done { result: Ok(kv::Answer::Row(Some(row))), .. } = read else {
                panic!("{number} is lost")
            };
            assert_eq!(row.value.len(), VALUE_BYTES);
        }
    }
}

fn key(number: u64) -> Key {
    format!("key{number}").into()
}

#[test]
fn writers_wait_for_the_flush_when_both_memories_are_full_and_nothing_is_lost() {
    let mut bench = Bench::new();
    bench.fill_both();
    let fit = bench.applied.len();
    (0..20).for_each(|_| bench.put());
    assert!(!bench.take_until(PATIENCE, |bench| bench.applied.len() > fit), "none has room");
    bench.gate.open(None);
    bench.await_all(|bench| bench.all_are_applied() && bench.flushed.len() == 1);
    assert_eq!(bench.applied, Vec::from_iter((1..=bench.asked).map(Index)), "in order");
    bench.check_values();
    bench.flush();
    bench.await_all(|bench| bench.flushed.len() == 2);
    assert_eq!((&bench.flushed[..], bench.unflushed()), (&[Ok(()), Ok(())][..], 0));
    bench.check_values();
}

#[test]
fn writers_go_on_after_a_flush_that_found_no_room_and_the_next_takes_all() {
    let mut bench = Bench::new();
    bench.fill_both();
    bench.put();
    bench.gate.open(Some(EngineError::Full { doing: "writing".into() }));
    bench.await_all(|bench| bench.all_are_applied() && bench.flushed.len() == 1);
    assert!(bench.flushed[0].as_ref().is_err_and(|why| why.contains("writing")), "{:?}", bench.flushed);
    assert!(bench.gate.rows().rows.is_empty());
    bench.check_values();
    bench.flush();
    bench.await_all(|bench| bench.flushed.len() == 2);
    assert_eq!((&bench.flushed[1], bench.unflushed()), (&Ok(()), 0));
    bench.check_values();
}

#[test]
fn node_whose_flush_fails_ends_and_says_why() {
    let mut bench = Bench::new();
    bench.fill_both();
    bench.gate.open(Some(EngineError::Io { doing: "writing".into(), source: io::ErrorKind::Other.into() }));
    bench.await_all(|bench| bench.failed.is_some());
    let why = bench.failed.expect("it was awaited").to_string();
    assert!(why.contains("the engine failed: writing") && why.contains("recovers from its log"), "{why}");
}

#[test]
fn few_keys_that_other_replicas_ask_for_need_no_thread_and_while_the_tree_is_held_only_those_in_memory() {
    let mut bench = Bench::new();
    bench.put();
    bench.await_all(Bench::all_are_applied);
    let look = |what| [Job::Look { shard: SHARD, ticket: Ticket::default(), what }];
    let keys = |count| look(Look::Keys((1..=count).map(key).collect()));
    let few = HERE_READS_MAX as u64;
    assert!(bench.engine.may_run_here(&keys(few)));
    assert!(!bench.engine.may_run_here(&keys(few + 1)), "the driver would stand still for long");
    let range =
        Look::Range { from: Key::new(), to: None, direction: Direction::Forward, limit: 1, after: None };
    assert!(!bench.engine.may_run_here(&look(range)), "nobody knows how much it looks at");
    bench.engine.busy.fetch_add(1, Ordering::AcqRel);
    assert!(bench.engine.may_run_here(&keys(1)));
    assert!(!bench.engine.may_run_here(&keys(2)), "only the engine knows that the second is not there");
}
