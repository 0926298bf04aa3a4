//! A table with one shard that takes commands as text.

use kv::{Entry, ReplicaId, ShardId, Stamped, Version};
use storage::{Clock, History, Kind, Options, Read, Table};

use super::{parse, show};

const SHARD: ShardId = ShardId(1);

pub struct Store {
    kind: Kind,
    table: Table,
    index: u64,
    _folder: tempfile::TempDir,
}

impl Store {
    pub fn new(kind: Kind) -> Store {
        Store::with(kind, Options::of(History::Count(1)))
    }

    fn with(kind: Kind, options: Options) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::open(storage::open(kind, folder.path()).unwrap(), options);
        table.load(SHARD, 1).unwrap();
        Store { kind, table, index: 0, _folder: folder }
    }

    pub fn digest(&self) -> u64 {
        self.table.digest(SHARD).unwrap()
    }

    pub fn command(&mut self, line: &str) -> Vec<String> {
        if let Some(options) = line.strip_prefix("history: ") {
            *self = Store::with(self.kind, parse::options(options));
            return Vec::new();
        }
        if line == "reload" {
            let before = self.digest();
            self.table.load(SHARD, 1).unwrap();
            assert_eq!(self.digest(), before);
            return Vec::new();
        }
        match line.strip_prefix('?') {
            Some(read) => self.read(read),
            None => self.apply(line),
        }
    }

    fn read(&self, line: &str) -> Vec<String> {
        let (clock, op) = line.split_once(' ').unwrap();
        let clock = match clock.strip_prefix('~') {
            Some(hides) => Clock::Hides(parse::version(hides)),
            None if clock.is_empty() => Clock::Shard,
            None => Clock::Orders(parse::version(clock)),
        };
        let read = self.table.read(SHARD, &parse::op(op), clock).unwrap();
        vec![match read {
            Read::Done { result, hidden: false, .. } => show::result(&result),
            Read::Done { result, hidden: true, .. } => format!("{} (and hides some)", show::result(&result)),
            Read::NeedsAdvance(version) => format!("needs to advance to {}", show::version(version)),
        }]
    }

    fn apply(&mut self, line: &str) -> Vec<String> {
        let (proposed, rest) = match line.strip_prefix('@') {
            Some(rest) => {
                let (micros, rest) = rest.split_once(' ').unwrap();
                (parse::version(micros), rest)
            }
            None => (Version::new(0, ReplicaId(1)), line),
        };
        let stamped = |text: &str| match text.strip_prefix("id=") {
            Some(text) => {
                let (id, op) = text.split_once(' ').unwrap();
                Stamped { id: Some(parse::id(id)), op: parse::op(op) }
            }
            None => Stamped { id: None, op: parse::op(text) },
        };
        let entry = Entry { proposed, ops: rest.split(" && ").map(stamped).collect() };
        self.index += 1;
        let done = self.table.apply(SHARD, self.index, 1, &entry).unwrap();
        let show =
            |done: &storage::Done| format!("@{} {}", show::version(done.version), show::result(&done.result));
        done.iter().map(show).collect()
    }
}
