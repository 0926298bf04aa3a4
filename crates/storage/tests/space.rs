//! The space that a copy of a shard took comes back when it is gone.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

mod room;

use std::path::Path;

use bytes::Bytes;
use kv::{Answer, Entry, Op, Range, ReplicaId, ShardId, Stamped, Version};
use storage::{Clock, History, Kind, Options, Read, Table};

use self::room::bytes_in;

const GOES: ShardId = ShardId(1);
const STAYS: ShardId = ShardId(2);
const ROWS_OF_AN_ENTRY: u64 = 100;

/// A table over the disk engine of a folder.
struct Store {
    table: Table,
    folder: tempfile::TempDir,
    random: u64,
    applied: u64,
}

impl Store {
    fn new() -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store { table: table(folder.path()), folder, random: 7, applied: 0 };
        store.load();
        store
    }

    fn load(&mut self) {
        for shard in [GOES, STAYS] {
            self.table.load(shard, 1).unwrap();
        }
    }

    /// Stores rows of so many bytes each, which cannot be compressed.
    fn fill(&mut self, shard: ShardId, rows: u64, bytes: usize) {
        let applied = self.table.applied(shard).index;
        for entry in 0..rows / ROWS_OF_AN_ENTRY {
            let ops = (0..ROWS_OF_AN_ENTRY).map(|row| {
                let value = Bytes::from_iter(std::iter::repeat_with(|| self.next()).take(bytes));
                let key = format!("{:08}", entry * ROWS_OF_AN_ENTRY + row).into();
                Stamped { id: None, op: Op::Put { key, value, deadline: None, previous: false } }
            });
            let ops = ops.collect();
            self.applied += 1;
            let entry_at = applied + entry + 1;
            let proposed = Version::new(self.applied, ReplicaId(1));
            self.table.apply(shard, entry_at, 1, &Entry { proposed, ops }).unwrap();
        }
    }

    /// The next byte of some that look random (Knuth's generator).
    fn next(&mut self) -> u8 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 56) as u8
    }

    fn forget(&mut self) {
        self.table.close(GOES);
        while self.table.forget(GOES, 1).unwrap() {}
    }

    fn settle(&mut self) {
        self.table.flush().run().unwrap();
        self.tidy();
    }

    fn tidy(&mut self) {
        while let Some(step) = self.table.maintain() {
            step().unwrap();
        }
    }

    fn space(&self) -> u64 {
        bytes_in(self.folder.path())
    }

    fn count(&self, shard: ShardId) -> u64 {
        let op = Op::Range(Range { count_only: true, ..Range::default() });
        match self.table.read(shard, &op, Clock::Shard).unwrap() {
            Read::Done { result: Ok(Answer::Page(page)), .. } => page.count,
            other => panic!("{other:?} is no page"),
        }
    }

    /// After a start of its own: one shard has nothing, the other all.
    fn check(self, rows: u64) {
        let Store { table: before, folder, .. } = self;
        drop(before);
        let mut later = Store { table: table(folder.path()), folder, random: 0, applied: 0 };
        later.load();
        assert_eq!((later.count(GOES), later.count(STAYS)), (0, rows));
    }
}

fn table(folder: &Path) -> Table {
    Table::open(storage::open(Kind::Disk, folder).unwrap(), Options::of(History::Count(1)))
}

#[test]
fn copy_of_few_large_rows_among_many_small_ones_leaves_its_space_at_the_next_flush() {
    let mut store = Store::new();
    for _ in 0..2 {
        store.fill(STAYS, 10_000, 1_500);
        store.fill(GOES, 1_000, 6_000);
        store.settle();
    }
    let full = store.space();
    store.forget();
    assert!(store.table.has_gone(), "there is something to flush");
    store.settle();
    let left = store.space();
    assert!(!store.table.has_gone() && left + 5_000_000 < full, "{left} bytes of {full} are left");
    store.check(10_000);
}

#[test]
fn tables_of_nothing_but_a_copy_that_is_gone_go_at_once_and_show_nothing_of_what_they_hid() {
    let mut store = Store::new();
    store.fill(STAYS, 1_000, 500);
    store.fill(GOES, 2_000, 3_000);
    store.table.flush().run().unwrap();
    // All rows again, in a table of their own: it hides those of the one before.
    store.fill(GOES, 2_000, 6_000);
    store.table.flush().run().unwrap();
    let full = store.space();
    store.forget();
    store.tidy();
    let left = store.space();
    assert!(left + 10_000_000 < full, "{left} bytes of {full} are left before anything was flushed");
    store.settle();
    store.check(1_000);
}
