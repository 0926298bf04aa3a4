//! A table with one shard that takes commands as text.

use kv::{Entry, Op, Protocol, ReplicaId, ShardId, Stamped, Version};
use storage::{Clock, Done, History, Kind, Layout, Options, Read, Table};

use super::{merged, parse, show};

const SHARD: ShardId = ShardId(1);

pub struct Store {
    kind: Kind,
    layout: Layout,
    /// Under which its rows are made, in the merged layout.
    protocol: Protocol,
    table: Table,
    index: u64,
    _folder: tempfile::TempDir,
}

impl Store {
    pub fn new(kind: Kind, layout: Layout) -> Store {
        Store::with(kind, layout, Options::of(History::Count(1)))
    }

    fn with(kind: Kind, layout: Layout, options: Options) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut table = Table::open(storage::open(kind, folder.path()).unwrap(), options);
        table.load_as(SHARD, 1, layout).unwrap();
        Store { kind, layout, protocol: Protocol::Quorum, table, index: 0, _folder: folder }
    }

    pub fn digest(&self) -> u64 {
        self.table.digest(SHARD).unwrap()
    }

    pub fn command(&mut self, line: &str) -> Vec<String> {
        if let Some(options) = line.strip_prefix("history: ") {
            *self = Store::with(self.kind, self.layout, parse::options(options));
            return Vec::new();
        }
        if let Some(protocol) = line.strip_prefix("protocol: ") {
            self.protocol = Protocol::ALL.into_iter().find(|known| known.to_string() == protocol).unwrap();
            return Vec::new();
        }
        if line == "reload" {
            let before = self.digest();
            self.table.load(SHARD, 1).unwrap();
            assert_eq!(self.digest(), before);
            return Vec::new();
        }
        if let Some(found) = merged::look(&self.table, SHARD, line) {
            return vec![found];
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
                Stamped { id: Some(parse::id(id)), op: op_of(op) }
            }
            None => Stamped { id: None, op: op_of(text) },
        };
        let ops: Vec<Stamped> = rest.split(" && ").map(stamped).collect();
        let done = match self.layout {
            Layout::Ordered => self.enter(proposed, ops),
            Layout::Merged => ops.iter().flat_map(|stamped| self.merge(proposed, &stamped.op)).collect(),
        };
        self.table.audit(SHARD).unwrap();
        let show = |done: &Done| format!("@{} {}", show::version(done.version), show::result(&done.result));
        done.iter().map(show).collect()
    }

    fn enter(&mut self, proposed: Version, ops: Vec<Stamped>) -> Vec<Done> {
        self.index += 1;
        self.table.apply(SHARD, self.index, 1, &Entry { proposed, ops }).unwrap()
    }

    /// An op on the merged layout: its rows first, and what it answers.
    fn merge(&mut self, proposed: Version, op: &Op) -> Vec<Done> {
        let (ops, done) = merged::make(&self.table, (SHARD, self.protocol), proposed, op);
        let stamped: Vec<_> = ops.into_iter().map(|op| Stamped { id: None, op }).collect();
        let own = if stamped.is_empty() { Vec::new() } else { self.enter(proposed, stamped) };
        done.map_or(own, |done| vec![done])
    }
}

fn op_of(text: &str) -> Op {
    merged::op(text).unwrap_or_else(|| parse::op(text))
}
