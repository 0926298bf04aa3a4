//! A table with one shard that takes commands as text.

use kv::{Entry, NodeId, ShardId, Stamped, Version};
use storage::{History, Kind, Options, Read, Table};

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
        Store::with_history(kind, History::Count(1))
    }

    fn with_history(kind: Kind, history: History) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::open(storage::open(kind, folder.path()).unwrap(), Options::of(history));
        table.load(SHARD, 1).unwrap();
        Store { kind, table, index: 0, _folder: folder }
    }

    pub fn digest(&self) -> u64 {
        self.table.digest(SHARD).unwrap()
    }

    pub fn command(&mut self, line: &str) -> Vec<String> {
        if let Some(history) = line.strip_prefix("history: ") {
            let history = history.parse().map_or(History::All, History::Count);
            *self = Store::with_history(self.kind, history);
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
        let (now, op) = line.split_once(' ').unwrap();
        let now = (!now.is_empty()).then(|| parse::version(now));
        let read = self.table.read(SHARD, &parse::op(op), now).unwrap();
        vec![match read {
            Read::Done(result, _) => show::result(&result),
            Read::NeedsAdvance(version) => format!("needs to advance to {}", show::version(version)),
        }]
    }

    fn apply(&mut self, line: &str) -> Vec<String> {
        let (proposed, rest) = match line.strip_prefix('@') {
            Some(rest) => {
                let (micros, rest) = rest.split_once(' ').unwrap();
                (parse::version(micros), rest)
            }
            None => (Version::new(0, NodeId(1)), line),
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
