//! A table with one shard on the memory engine, and ops for it.

use bytes::Bytes;
use kv::{Answer, Entry, Error, Key, Op, Range, ReplicaId, RequestId, ShardId, Stamped, Version};
use storage::{Clock, History, Kind, Options, Read, Table};

pub const SHARD: ShardId = ShardId(1);

/// What has expired is removed once its second has passed: within so many microseconds.
pub const SECOND: u64 = 2_000_000;

/// A table on the memory engine, and the index of its last entry.
pub struct Store {
    pub table: Table,
    index: u64,
    folder: tempfile::TempDir,
}

impl Store {
    pub fn new(history: History) -> Store {
        Store::with(Options::of(history))
    }

    pub fn with(options: Options) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::open(storage::open(Kind::Memory, folder.path()).unwrap(), options);
        table.load(SHARD, 1).unwrap();
        Store { table, index: 0, folder }
    }

    /// Flushes, and opens the folder again.
    pub fn reopen(&mut self, options: Options) {
        self.table.flush().run().unwrap();
        self.table = Table::open(storage::open(Kind::Memory, self.folder.path()).unwrap(), options);
        self.table.load(SHARD, 1).unwrap();
    }

    pub fn apply(&mut self, micros: u64, op: Op) -> Result<Answer, Error> {
        self.stamped(micros, None, op)
    }

    pub fn stamped(&mut self, micros: u64, id: Option<RequestId>, op: Op) -> Result<Answer, Error> {
        self.entry(micros, vec![Stamped { id, op }]).remove(0)
    }

    /// Applies several ops as one entry.
    pub fn entry(&mut self, micros: u64, ops: Vec<Stamped>) -> Vec<Result<Answer, Error>> {
        self.index += 1;
        let entry = Entry { proposed: Version::new(micros, ReplicaId(1)), ops };
        let done = self.table.apply(SHARD, self.index, 1, &entry).unwrap();
        done.into_iter().map(|done| done.result).collect()
    }

    pub fn read(&self, op: &Op) -> Result<Answer, Error> {
        match self.table.read(SHARD, op, Clock::Shard).unwrap() {
            Read::Done { result, .. } => result,
            Read::NeedsAdvance(_) => panic!("without a clock nothing needs to advance"),
        }
    }

    /// Rows of the engine, as a snapshot has them.
    pub fn rows(&mut self) -> u32 {
        let mut snapshot = self.table.snapshot(SHARD);
        let chunk = snapshot.next_chunk(usize::MAX).unwrap().unwrap();
        u32::from_be_bytes(chunk[6..10].try_into().unwrap())
    }

    /// Expiry is as it must be.
    pub fn audit(&self) {
        self.table.audit(SHARD).unwrap();
    }

    pub fn page(&self, range: &Range) -> kv::Page {
        match self.read(&Op::Range(range.clone())).unwrap() {
            Answer::Page(page) => page,
            other => panic!("{other:?} is no page"),
        }
    }
}

pub fn key(number: usize) -> Key {
    format!("{number:08}").into()
}

pub fn put(key: Key, value: Bytes) -> Op {
    Op::Put { key, value, deadline: None, previous: false }
}

pub fn put_many(from: usize, count: usize) -> Op {
    Op::PutAll { rows: (from..from + count).map(|number| (key(number), "v".into())).collect() }
}

pub fn id(client: u64, sequence: u64, answered_below: u64) -> RequestId {
    RequestId { client, sequence, valid_until: Version::new(1000, ReplicaId(0)), answered_below }
}

pub fn increment() -> Op {
    Op::Update { key: key(0), function: kv::Function::Increment { by: 1 } }
}

pub fn advance(micros: u64) -> Op {
    Op::Advance { to: Version::new(micros, ReplicaId(1)), rules: None }
}
