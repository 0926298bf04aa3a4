//! A store of one map for the tests: the n-th write has version n, the history is whole, nothing expires.

mod cluster;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kv::admin::{self, Ask};
use kv::cluster::{Location, Status, Terms};
use kv::fault::{Fault, Faults};
use kv::watch::{Batch, Take, Watch, Watcher, Watching};
use kv::{
    Answer, ClusterId, Completions, Condition, Direction, Epoch, Error, Expect, Function, Key, KeyAnswer,
    KeyValue, Level, NodeId, Op, Page, Protocol, Range, Receipt, Reply, Request, Revision, Row, ShardId,
    Side, Slot, Value, Version,
};

use crate::connect::{Pending, Store};
use crate::print::Output;

pub use cluster::{CLUSTER, Operated, moved, node, shard};

/// What a command prints on standard output when it cannot fail.
pub fn printed(json: bool, print: impl FnOnce(&mut Output<'_>)) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    print(&mut Output { out: &mut out, err: &mut err, terminal: false, json });
    String::from_utf8(out).expect("what is printed is text")
}

/// An output that takes nothing, for this reason.
pub struct Closed(pub io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Rows of a page: few, so that tests turn pages.
const PAGE_ROWS: usize = 2;

/// The store.
#[derive(Default)]
pub struct Fake {
    state: Mutex<State>,
    fails: Option<Error>,
    /// Requests that are answered before it fails.
    fine: AtomicUsize,
    /// It fails once and then no more.
    once: bool,
    /// The time to live of the last request that had one.
    pub ttl: Mutex<Option<Duration>>,
    /// What whoever watches is given, and then nothing more.
    batches: Vec<Result<Batch, Error>>,
}

impl Fake {
    /// A store that answers everything with this.
    pub fn failing(error: Error) -> Fake {
        Fake::failing_after(0, error)
    }

    /// A store that answers so many requests, and all others with this.
    pub fn failing_after(requests: usize, error: Error) -> Fake {
        Fake { fails: Some(error), fine: requests.into(), ..Fake::default() }
    }

    /// A store that answers so many requests, the next with this, and then all others.
    pub fn failing_once(requests: usize, error: Error) -> Fake {
        Fake { once: true, ..Fake::failing_after(requests, error) }
    }

    /// A store that gives this to whoever watches, and then nothing more.
    pub fn watched(batches: Vec<Result<Batch, Error>>) -> Fake {
        Fake { batches, ..Fake::default() }
    }

    fn failure(&self) -> Option<Error> {
        let next = |left: usize| left.checked_sub(1).or(self.once.then_some(usize::MAX));
        let fine = self.fine.try_update(Ordering::Relaxed, Ordering::Relaxed, next);
        self.fails.clone().filter(|_| fine.unwrap_or(0) == 0)
    }

    /// How many writes it took.
    pub fn writes(&self) -> i64 {
        self.state.lock().expect("no test panics inside").version
    }

    /// All rows.
    pub fn rows(&self) -> Vec<(Key, Value)> {
        let state = self.state.lock().expect("no test panics inside");
        let rows = state.keys.keys().filter_map(|key| state.row(key, None));
        rows.map(|row| (row.key, row.value)).collect()
    }
}

#[derive(Default)]
struct State {
    version: i64,
    keys: BTreeMap<Key, Vec<Revision>>,
}

impl KeyValue for Fake {
    fn submit(&self, requests: Vec<Request>, mut completions: Box<dyn Completions>) {
        for (index, request) in requests.into_iter().enumerate() {
            let mut state = self.state.lock().expect("no test panics inside");
            let result = match self.failure() {
                Some(error) => Err(error),
                None if request.keyspace != Request::KEYSPACE => Err(Error::NoKeyspace(request.keyspace)),
                None => state.eval(&request.op).map(|answer| state.reply(answer, request.level)),
            };
            drop(state);
            completions.complete(index, result);
        }
    }
}

impl Watch for Fake {
    fn watch(&self, _: Watching) -> Box<dyn Watcher> {
        Box::new(Batches(self.batches.clone().into_iter()))
    }
}

struct Batches(std::vec::IntoIter<Result<Batch, Error>>);

impl Watcher for Batches {
    fn next(&mut self, take: Take) {
        if let Some(next) = self.0.next() {
            take(next);
        }
    }
}

impl Store for Fake {
    fn call(&self, request: Request, ttl: Option<Duration>) -> Pending<'_, Reply> {
        if ttl.is_some() {
            *self.ttl.lock().expect("no test panics inside") = ttl;
        }
        let (answer, take) = std::sync::mpsc::channel();
        let send = move |_, result| answer.send(result).expect("the taker is below");
        self.submit(vec![request], Box::new(send));
        let result = take.recv().expect("submit answers before it returns");
        Box::pin(async { result })
    }

    fn cluster(&self) -> Pending<'_, ClusterId> {
        Box::pin(async { self.fails.clone().map_or(Ok(CLUSTER), Err) })
    }

    fn terms(&self) -> Pending<'_, Terms> {
        Box::pin(async { Ok(Terms { shards: 1, replicas: 3, history: Some(16), deleted_micros: u64::MAX }) })
    }

    fn status(&self) -> Pending<'_, Status> {
        Box::pin(async { self.failure().map_or(Ok(Status::default()), Err) })
    }

    fn locate(&self, _: &str, key: Key) -> Pending<'_, Location> {
        let location = Location { slot: Slot::of(&key), shard: ShardId(1), leader: None, address: None };
        Box::pin(async { self.failure().map_or(Ok(location), Err) })
    }

    fn administer(&self, _: Ask, _: Duration) -> Pending<'_, admin::Answer> {
        Box::pin(async { self.failure().map_or(Ok(admin::Answer::Done), Err) })
    }

    fn fault(&self, _: &str, _: Option<Fault>, _: Duration) -> Pending<'_, Faults> {
        Box::pin(async { self.failure().map_or(Ok(Faults::default()), Err) })
    }

    fn watch(&self, asked: Watching) -> Box<dyn Watcher> {
        Watch::watch(self, asked)
    }

    fn health_check(&self) -> Pending<'_, ()> {
        Box::pin(async { self.failure().map_or(Ok(()), Err) })
    }
}

impl State {
    fn reply(&self, answer: Answer, level: Option<Level>) -> Reply {
        let level = level.unwrap_or_default();
        let receipt = Receipt {
            version: self.now(),
            shard: ShardId(1),
            protocol: Protocol::Single,
            epoch: Epoch(1),
            asked: level,
            reached: level,
            copies: 1,
            staleness_micros: 0,
            node: NodeId(1),
        };
        Reply { answer, receipt }
    }

    fn now(&self) -> Version {
        Version::from_i64(self.version).expect("it counts from 0")
    }

    fn row(&self, key: &Key, at: Option<Version>) -> Option<Row> {
        let at = at.unwrap_or(Version::MAX);
        let revision = self.keys.get(key)?.iter().rfind(|revision| revision.version <= at)?;
        let value = revision.value.clone()?;
        Some(Row {
            key: key.clone(),
            value,
            version: revision.version,
            created: revision.version,
            changes: 1,
            deadline: None,
        })
    }

    fn write(&mut self, key: &Key, value: Option<Value>) {
        let version = self.now();
        self.keys.entry(key.clone()).or_default().push(Revision { version, value });
    }

    fn eval(&mut self, op: &Op) -> Result<Answer, Error> {
        op.validate()?;
        if !matches!(op, Op::Get { .. } | Op::GetAll { .. } | Op::Range(_) | Op::History { .. }) {
            self.version += 1;
        }
        self.step(op)
    }

    fn step(&mut self, op: &Op) -> Result<Answer, Error> {
        Ok(match op {
            Op::Get { key, at } => Answer::Row(self.row(key, *at)),
            Op::GetAll { keys, at } => Answer::Many(
                keys.iter()
                    .map(|key| KeyAnswer { key: key.clone(), result: Ok(self.row(key, *at)) })
                    .collect(),
            ),
            Op::Range(range) => Answer::Page(self.page(range)),
            Op::History { key, limit, before } => self.history(key, *limit, *before),
            Op::Put { key, value, .. } => {
                let previous = self.row(key, None);
                self.write(key, Some(value.clone()));
                Answer::Put { previous }
            }
            Op::PutAll { rows } => {
                rows.iter().for_each(|(key, value)| self.write(key, Some(value.clone())));
                let answer =
                    |(key, _): &(Key, Value)| KeyAnswer { key: key.clone(), result: Ok(self.row(key, None)) };
                Answer::Many(rows.iter().map(answer).collect())
            }
            Op::Delete { key, .. } => {
                let previous = self.row(key, None);
                self.write(key, None);
                Answer::Deleted { count: u64::from(previous.is_some()), previous, next: None }
            }
            Op::DeleteRange { from, to } => self.delete_range(from, to.as_ref()),
            Op::Trim { key, below } => {
                let (count, more) = self.trim(key, *below);
                Answer::Trimmed { count, next: more.then(|| key.clone()) }
            }
            Op::TrimRange { from, to, below } => self.trim_range(from, to.as_ref(), *below),
            Op::Expire { key, .. } => Answer::Expire(self.row(key, None).is_some()),
            Op::Update { key, function } => self.update(key, function)?,
            Op::Transaction { conditions, then, otherwise } => {
                let succeeded = conditions.iter().all(|condition| self.holds(condition));
                let branch = if succeeded { then } else { otherwise };
                let answers = branch.iter().map(|op| self.step(op)).collect::<Result<_, _>>()?;
                Answer::Transaction { succeeded, answers }
            }
            Op::Advance { .. } | Op::Note(_) | Op::Merge { .. } | Op::Collect { .. } => {
                Answer::Trimmed { count: 0, next: None }
            }
        })
    }

    fn page(&self, range: &Range) -> Page {
        let inside = |key: &Key| *key >= range.from && range.to.as_ref().is_none_or(|to| key < to);
        let mut rows: Vec<Row> =
            self.keys.keys().filter(|key| inside(key)).filter_map(|key| self.row(key, range.at)).collect();
        if range.direction == Direction::Backward {
            rows.reverse();
        }
        if range.count_only {
            return Page { count: rows.len() as u64, ..Page::default() };
        }
        if let Some(page) = &range.page {
            let behind = |row: &Row| match range.direction {
                Direction::Forward => row.key > *page,
                Direction::Backward => row.key < *page,
            };
            rows.retain(behind);
        }
        let most = if range.limit == 0 { PAGE_ROWS } else { PAGE_ROWS.min(range.limit as usize) };
        let more = rows.len() > most;
        rows.truncate(most);
        let next = more.then(|| rows[most - 1].key.clone());
        Page { count: rows.len() as u64, rows, next }
    }

    fn history(&self, key: &Key, limit: u32, before: Option<Version>) -> Answer {
        let most = if limit == 0 { PAGE_ROWS } else { PAGE_ROWS.min(limit as usize) };
        let mut revisions: Vec<Revision> = self.keys.get(key).cloned().unwrap_or_default();
        revisions.reverse();
        revisions.retain(|revision| before.is_none_or(|before| revision.version < before));
        let next = if revisions.len() > most { Some(revisions[most - 1].version) } else { None };
        revisions.truncate(most);
        Answer::History { revisions, next }
    }

    /// Forgets older revisions of a key, a page at a time: how many, and whether there are more.
    fn trim(&mut self, key: &Key, below: Option<Version>) -> (u64, bool) {
        let is_reached = |revision: &Revision| below.is_none_or(|below| revision.version <= below);
        let Some(revisions) = self.keys.get_mut(key) else { return (0, false) };
        let surplus = revisions.iter().rposition(is_reached).unwrap_or(0);
        let gone = surplus.min(PAGE_ROWS);
        revisions.drain(..gone);
        let alone = matches!(&revisions[..], [last] if last.value.is_none() && is_reached(last));
        if alone {
            self.keys.remove(key);
        }
        (gone as u64 + u64::from(alone), gone < surplus)
    }

    fn trim_range(&mut self, from: &Key, to: Option<&Key>, below: Option<Version>) -> Answer {
        let inside = |key: &&Key| *key >= from && to.is_none_or(|to| *key < to);
        let keys: Vec<Key> = self.keys.keys().filter(inside).cloned().collect();
        let mut sum = 0;
        for key in keys {
            let (count, more) = self.trim(&key, below);
            sum += count;
            if more {
                return Answer::Trimmed { count: sum, next: Some(key) };
            }
        }
        Answer::Trimmed { count: sum, next: None }
    }

    fn delete_range(&mut self, from: &Key, to: Option<&Key>) -> Answer {
        let range = Range { from: from.clone(), to: to.cloned(), ..Range::default() };
        let page = self.page(&range);
        page.rows.iter().for_each(|row| self.write(&row.key, None));
        // The first key that is left, where there is any.
        let next = page.next.and_then(|_| self.page(&range).rows.first().map(|row| row.key.clone()));
        Answer::Deleted { count: page.count, previous: None, next }
    }

    fn update(&mut self, key: &Key, function: &Function) -> Result<Answer, Error> {
        let row = self.row(key, None);
        let old = row.as_ref().map(|row| row.value.clone()).unwrap_or_default();
        let (new, answer) = match function {
            Function::Append { side: Side::Right, value } => append(&old, value),
            Function::Append { side: Side::Left, value } => append(value, &old),
            Function::Pop { .. } if row.is_none() => return Ok(Answer::Popped(None)),
            Function::Pop { side: Side::Left, count } => {
                let at = old.len().min(*count as usize);
                (old.slice(at..), Answer::Popped(Some(old.slice(..at))))
            }
            Function::Pop { side: Side::Right, count } => {
                let at = old.len() - old.len().min(*count as usize);
                (old.slice(..at), Answer::Popped(Some(old.slice(at..))))
            }
            Function::Increment { by } => {
                let text = std::str::from_utf8(&old).unwrap_or("");
                let number: i64 = if row.is_none() { Ok(0) } else { text.parse() }
                    .map_err(|_| Error::Conflict("the value is no number".into()))?;
                ((number + by).to_string().into(), Answer::Number(number + by))
            }
            Function::Insert { value, .. } => return Ok(self.compare(key, row, &Expect::Absent, value)),
            Function::CompareAndPut { expect, value, .. } => return Ok(self.compare(key, row, expect, value)),
        };
        self.write(key, Some(new));
        Ok(answer)
    }

    fn compare(&mut self, key: &Key, row: Option<Row>, expect: &Expect, value: &Value) -> Answer {
        if !met(row.as_ref(), expect) {
            return Answer::Condition { met: false, current: row };
        }
        self.write(key, Some(value.clone()));
        Answer::Condition { met: true, current: None }
    }

    fn holds(&self, condition: &Condition) -> bool {
        met(self.row(&condition.key, None).as_ref(), &condition.expect)
    }
}

fn met(row: Option<&Row>, expect: &Expect) -> bool {
    match (expect, row) {
        (Expect::Absent, row) => row.is_none(),
        (Expect::Present, row) => row.is_some(),
        (Expect::Value(value), Some(row)) => row.value == *value,
        (Expect::Version(version), Some(row)) => row.version == *version,
        (_, None) => false,
    }
}

fn append(left: &Value, right: &Value) -> (Value, Answer) {
    let whole: Bytes = [&left[..], &right[..]].concat().into();
    let length = whole.len() as u64;
    (whole, Answer::Length(length))
}
