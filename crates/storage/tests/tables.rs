//! Several tables over one engine, as the cores of a node have them: each is flushed for itself, and the next process may deal the
//! shards to tables otherwise.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::thread;

use kv::{Answer, Entry, Op, ReplicaId, ShardId, Stamped, Version};
use storage::{Clock, History, Kind, Options, Read, Table};

const SHARDS: u32 = 4;
const KINDS: [Kind; 2] = [Kind::Memory, Kind::Disk];

/// So many tables with the shards dealt to them in turn.
fn open(kind: Kind, folder: &Path, tables: usize) -> Vec<Table> {
    let engine = storage::open(kind, folder).unwrap();
    let table = |number: usize| {
        let mut table = Table::open(engine.clone(), Options::of(History::Count(3)));
        for shard in (1..=SHARDS).filter(|shard| *shard as usize % tables == number) {
            table.load(ShardId(shard), 0).unwrap();
        }
        table
    };
    (0..tables).map(table).collect()
}

fn table_of(tables: &mut [Table], shard: u32) -> &mut Table {
    let count = tables.len();
    &mut tables[shard as usize % count]
}

/// The next entry of a shard: it writes two keys.
fn apply(tables: &mut [Table], shard: u32, index: u64) {
    let op = |key: &'static str| {
        let op =
            Op::Put { key: key.into(), value: index.to_string().into(), deadline: None, previous: false };
        Stamped { id: None, op }
    };
    let entry = Entry { proposed: Version::new(index, ReplicaId(1)), ops: vec![op("a"), op("b")] };
    table_of(tables, shard).apply(ShardId(shard), index, 1, &entry).unwrap();
}

fn value(table: &Table, shard: u32, key: &'static str) -> Option<String> {
    let op = Op::Get { key: key.into(), at: None };
    let Read::Done { result: Ok(Answer::Row(row)), .. } =
        table.read(ShardId(shard), &op, Clock::Shard).unwrap()
    else {
        panic!("a get answers a row")
    };
    row.map(|row| String::from_utf8(row.value.to_vec()).unwrap())
}

#[test]
fn flush_of_a_table_keeps_its_shards_at_one_entry_and_none_of_the_others() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut tables = open(kind, folder.path(), 2);
        (1..=SHARDS).for_each(|shard| apply(&mut tables, shard, 1));
        let flush = tables[0].flush();
        (1..=SHARDS).for_each(|shard| apply(&mut tables, shard, 2));
        flush.run().unwrap();
        // Power loss: what was not flushed is gone.
        drop(tables);
        let mut tables = open(kind, folder.path(), 1);
        for shard in 1..=SHARDS {
            let table = table_of(&mut tables, shard);
            let flushed = shard % 2 == 0;
            assert_eq!(table.applied(ShardId(shard)).index, u64::from(flushed));
            let expected = flushed.then(|| "1".to_owned());
            assert_eq!((value(table, shard, "a"), value(table, shard, "b")), (expected.clone(), expected));
        }
    }
}

#[test]
fn flushes_of_tables_at_the_same_time_are_each_there_whatever_tables_the_next_process_has() {
    const ROUNDS: u64 = 20;
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut tables = open(kind, folder.path(), 3);
        for index in 1..=ROUNDS {
            (1..=SHARDS).for_each(|shard| apply(&mut tables, shard, index));
            let flushes: Vec<_> = tables.iter_mut().map(Table::flush).collect();
            let step = tables[0].maintain();
            thread::scope(|scope| {
                flushes.into_iter().for_each(|flush| drop(scope.spawn(|| flush.run().unwrap())));
                step.into_iter().for_each(|step| drop(scope.spawn(|| step().unwrap())));
            });
        }
        let before: Vec<u64> =
            (1..=SHARDS).map(|shard| table_of(&mut tables, shard).digest(ShardId(shard)).unwrap()).collect();
        drop(tables);
        for count in [1, 2, 4] {
            let mut tables = open(kind, folder.path(), count);
            for shard in 1..=SHARDS {
                let table = table_of(&mut tables, shard);
                assert_eq!(table.applied(ShardId(shard)).index, ROUNDS);
                assert_eq!(table.digest(ShardId(shard)).unwrap(), before[shard as usize - 1]);
            }
        }
    }
}
