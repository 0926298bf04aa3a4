//! The engines against a plain ordered map, and what of them survives what.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

mod room;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use bytes::Bytes;
use storage::{EngineError, Fresh, Kind, View};

use self::room::bytes_in;

const KINDS: [Kind; 2] = [Kind::Memory, Kind::Disk];
type Rows = BTreeMap<Bytes, Bytes>;

/// An engine with what is new in memory, as the table has it.
fn open(kind: Kind, folder: &Path) -> Result<Fresh, EngineError> {
    storage::open(kind, folder).map(Fresh::over)
}

fn open_volatile() -> Fresh {
    Fresh::over(storage::open_volatile())
}

#[test]
fn engine_random_writes_read_as_an_ordered_map() {
    for kind in KINDS {
        for seed in 0..3 {
            println!("seed {seed}, {kind:?}");
            let folder = tempfile::tempdir().unwrap();
            let (mut engine, mut rows, mut random) =
                (open(kind, folder.path()).unwrap(), Rows::new(), Random(seed));
            let mut views: Vec<(Box<dyn View>, Rows)> = Vec::new();
            for _ in 0..60 {
                write(&mut engine, &mut rows, &mut random);
                match random.below(6) {
                    0 => views.push((engine.view(), rows.clone())),
                    1 => drop(views.pop()),
                    2 => engine.flush().run().unwrap(),
                    3 => maintain(&mut engine),
                    _ => {}
                }
                check(&engine, &rows, &mut random);
                views.iter().for_each(|(view, rows)| check(&**view, rows, &mut random));
            }
        }
    }
}

#[test]
fn engine_volatile_reads_as_an_ordered_map_and_begins_empty() {
    let (mut engine, mut rows, mut random) = (open_volatile(), Rows::new(), Random(5));
    for _ in 0..30 {
        write(&mut engine, &mut rows, &mut random);
        let (view, before) = (engine.view(), rows.clone());
        let flush = engine.flush();
        write(&mut engine, &mut rows, &mut random);
        flush.run().unwrap();
        check(&engine, &rows, &mut random);
        check(&*view, &before, &mut random);
    }
    engine.put("last", "1".into());
    assert!(engine.bytes_unflushed() > 0);
    engine.flush().run().unwrap();
    assert_eq!(engine.bytes_unflushed(), 0, "what was flushed asks for no further flush");
    drop(engine);
    assert!(keys(&open_volatile()).is_empty());
}

#[test]
fn engine_crash_keeps_exactly_what_was_written_before_the_flush() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let (mut rows, mut random) = (Rows::new(), Random(11));
        for _ in 0..8 {
            let mut engine = open(kind, folder.path()).unwrap();
            check(&engine, &rows, &mut random);
            for _ in 0..random.below(4) {
                write(&mut engine, &mut rows, &mut random);
                let flush = engine.flush();
                write(&mut engine, &mut rows.clone(), &mut random);
                flush.run().unwrap();
                let kept = rows.clone();
                drop(engine);
                engine = open(kind, folder.path()).unwrap();
                check(&engine, &kept, &mut random);
            }
            write(&mut engine, &mut rows.clone(), &mut random);
            maintain(&mut engine);
        }
    }
}

#[test]
fn engine_flush_never_run_leaves_the_state_before() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = open(kind, folder.path()).unwrap();
        engine.put("a", "1".into());
        engine.flush().run().unwrap();
        engine.put("a", "2".into());
        drop(engine.flush());
        assert_eq!(engine.get(b"a").unwrap().unwrap(), "2");
        drop(engine);
        assert_eq!(open(kind, folder.path()).unwrap().get(b"a").unwrap().unwrap(), "1");
    }
}

#[test]
fn engine_flush_fails_keeps_all_in_memory_and_tries_again() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let mut engine = open(kind, &home).unwrap();
        engine.put("a", "1".into());
        engine.flush().run().unwrap();
        engine.put("a", "2".into());
        engine.put("b", "2".into());
        let unflushed = engine.bytes_unflushed();
        let away = folder.path().join("away");
        std::fs::rename(&home, &away).unwrap();
        let error = engine.flush().run().unwrap_err();
        assert!(matches!(error, EngineError::Io { .. }), "{error}");
        assert_eq!(engine.bytes_unflushed(), unflushed);
        assert_eq!(engine.get(b"a").unwrap().unwrap(), "2");
        engine.put("c", "3".into());
        std::fs::rename(&away, &home).unwrap();
        assert_eq!(keys(&engine), ["a", "b", "c"]);
        engine.flush().run().unwrap();
        assert_eq!(engine.bytes_unflushed(), 0);
        drop(engine);
        let engine = open(kind, &home).unwrap();
        assert_eq!(keys(&engine), ["a", "b", "c"]);
        assert_eq!(engine.get(b"a").unwrap().unwrap(), "2");
    }
}

#[test]
fn disk_flush_fails_at_the_manifest_leaves_the_old_state_and_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(Kind::Disk, folder.path()).unwrap();
    engine.put("a", "1".into());
    engine.flush().run().unwrap();
    let tables = files(&folder.path().join("tree/tables"));
    // The next manifest cannot be written: its name is taken.
    let manifests = files(&folder.path().join("tree"));
    let newest =
        manifests.iter().filter_map(|name| name.strip_prefix('v')?.parse::<u64>().ok()).max().unwrap();
    let blocked = folder.path().join(format!("tree/v{}", newest + 1));
    std::fs::create_dir(&blocked).unwrap();
    engine.put("a", "2".into());
    engine.flush().run().unwrap_err();
    assert_eq!(
        files(&folder.path().join("tree/tables")),
        tables,
        "the table that was not counted in is removed"
    );
    assert_eq!(engine.get(b"a").unwrap().unwrap(), "2");
    std::fs::remove_dir(&blocked).unwrap();
    // A crash now, before the flush is tried again, finds the old state.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), copy.path());
    assert_eq!(open(Kind::Disk, copy.path()).unwrap().get(b"a").unwrap().unwrap(), "1");
    engine.flush().run().unwrap();
    drop(engine);
    assert_eq!(open(Kind::Disk, folder.path()).unwrap().get(b"a").unwrap().unwrap(), "2");
}

#[test]
fn disk_view_on_another_thread_stays_while_tables_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(Kind::Disk, folder.path()).unwrap();
    let round = |engine: &mut Fresh, round: u32| {
        for key in 0..200u32 {
            engine.put(key.to_be_bytes(), round.to_be_bytes().to_vec().into());
        }
    };
    round(&mut engine, 0);
    let view = engine.view();
    for number in 1..20 {
        round(&mut engine, number);
        engine.flush().run().unwrap();
        maintain(&mut engine);
    }
    let seen = std::thread::scope(|scope| scope.spawn(move || all(&*view)).join().unwrap());
    assert_eq!(seen.len(), 200);
    assert!(seen.iter().all(|(_, value)| value[..] == 0u32.to_be_bytes()));
    assert!(all(&engine).iter().all(|(_, value)| value[..] == 19u32.to_be_bytes()));
    maintain(&mut engine);
    engine.put("x", "".into());
    engine.flush().run().unwrap();
    let tables = files(&folder.path().join("tree/tables"));
    assert!(tables.len() < 10, "merged tables are removed once no view needs them: {tables:?}");
}

#[test]
fn disk_writes_flushes_and_maintenance_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(Kind::Disk, folder.path()).unwrap();
    let (mut rows, mut random) = (Rows::new(), Random(5));
    std::thread::scope(|scope| {
        for _ in 0..40 {
            write(&mut engine, &mut rows, &mut random);
            let flush = engine.flush();
            scope.spawn(move || flush.run().unwrap());
            if let Some(step) = engine.maintain() {
                scope.spawn(move || step().unwrap());
            }
            write(&mut engine, &mut rows, &mut random);
            check(&engine, &rows, &mut random);
        }
    });
    check(&engine, &rows, &mut random);
    engine.flush().run().unwrap();
    drop(engine);
    check(&open(Kind::Disk, folder.path()).unwrap(), &rows, &mut random);
}

#[test]
fn engine_space_of_removed_rows_comes_back() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = open(kind, folder.path()).unwrap();
        let (mut random, mut rows) = (Random(3), Vec::new());
        for number in 0..20_000u32 {
            let value: Vec<u8> = (0..128).flat_map(|_| random.below(u64::MAX).to_be_bytes()).collect();
            rows.push(Bytes::from(format!("{number:08}")));
            engine.put(rows[number as usize].clone(), value.into());
        }
        settle(&mut engine);
        let full = bytes_in(folder.path());
        assert!(full > 20_000 * 1024, "{kind:?}: {full} bytes hold all");
        rows.iter().skip(1).for_each(|row| engine.remove(row.clone()));
        settle(&mut engine);
        let left = bytes_in(folder.path());
        assert!(left < full / 20, "{kind:?}: {left} bytes of {full} hold one row");
        assert_eq!(all(&engine).len(), 1);
    }
}

/// Flushes, and tidies up until there is nothing to do.
fn settle(engine: &mut Fresh) {
    engine.flush().run().unwrap();
    maintain(engine);
}

#[test]
fn engine_largest_keys_and_values_survive() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = open(kind, folder.path()).unwrap();
        let key = Bytes::from(vec![0; 2 * kv::KEY_BYTES_MAX + 32]);
        let value = |seed: u8| Bytes::from(vec![seed; kv::VALUE_BYTES_MAX + 64]);
        for seed in 1..4 {
            engine.put([&key[..], &[seed]].concat(), value(seed));
            engine.put([&[seed], &key[..]].concat(), Bytes::new());
        }
        engine.flush().run().unwrap();
        maintain(&mut engine);
        drop(engine);
        let engine = open(kind, folder.path()).unwrap();
        for seed in 1..4 {
            assert!(engine.get(&[&key[..], &[seed]].concat()).unwrap().unwrap() == value(seed));
            assert_eq!(engine.get(&[&[seed], &key[..]].concat()).unwrap().unwrap(), "");
        }
        assert_eq!(all(&engine).len(), 6);
    }
}

#[test]
fn engine_other_kind_in_the_folder_is_refused() {
    for (kind, other) in [(Kind::Memory, Kind::Disk), (Kind::Disk, Kind::Memory)] {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = open(kind, folder.path()).unwrap();
        engine.put("a", "1".into());
        engine.flush().run().unwrap();
        drop(engine);
        let error = open(other, folder.path()).err().expect("it is refused");
        assert!(matches!(error, EngineError::WrongKind { .. }), "{error}");
        assert!(open(kind, folder.path()).is_ok());
    }
}

#[test]
fn engine_damaged_files_are_told_never_served() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = open(kind, folder.path()).unwrap();
        engine.put("a", Bytes::from(vec![7; 300]));
        engine.flush().run().unwrap();
        drop(engine);
        let file = match kind {
            Kind::Memory => folder.path().join("checkpoint-00000000000000000001"),
            Kind::Disk => folder.path().join("tree/tables/0"),
        };
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[150] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = match open(kind, folder.path()) {
            Ok(engine) => engine.get(b"a").unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, EngineError::Corrupt { .. }), "{kind:?}: {error}");
    }
}

#[test]
fn memory_checkpoints_replace_each_other_whatever_the_order_they_are_run_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(Kind::Memory, folder.path()).unwrap();
    engine.put("a", "1".into());
    let first = engine.flush();
    engine.put("a", "2".into());
    engine.flush().run().unwrap();
    first.run().unwrap();
    assert_eq!(files(folder.path()), ["checkpoint-00000000000000000001", "format"]);
    drop(engine);
    assert_eq!(open(Kind::Memory, folder.path()).unwrap().get(b"a").unwrap().unwrap(), "2");
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn key(&mut self) -> Bytes {
        let length = 1 + self.below(3);
        (0..length).map(|_| [0, 1, b'a', 0xff][self.below(4) as usize]).collect()
    }
}

fn write(engine: &mut Fresh, rows: &mut Rows, random: &mut Random) {
    for _ in 0..random.below(40) {
        let key = random.key();
        if random.below(3) == 0 {
            engine.remove(key.clone());
            rows.remove(&key);
        } else {
            let value = Bytes::from(vec![random.below(256) as u8; random.below(200) as usize]);
            engine.put(key.clone(), value.clone());
            rows.insert(key, value);
        }
    }
}

fn check(view: &dyn View, rows: &Rows, random: &mut Random) {
    assert!(all(view).into_iter().eq(rows.clone()));
    let key = random.key();
    assert_eq!(view.get(&key).unwrap().as_ref(), rows.get(&key));
    let (mut bound, backward) = (|| pick(random.below(3), random.key()), rows.len().is_multiple_of(2));
    let (from, to) = (bound(), bound());
    let mut expected: Vec<_> = rows.iter().filter(|(key, _)| within(key, &from, &to)).collect();
    if backward {
        expected.reverse();
    }
    expected.truncate(7);
    let mut found = Vec::new();
    view.scan(as_slice(&from), as_slice(&to), backward, &mut |key, value| {
        found.push((key, value));
        if found.len() == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert!(
        found.iter().map(|(key, value)| (key, value)).eq(expected),
        "{from:?} to {to:?}, backward {backward}"
    );
}

fn pick(kind: u64, key: Bytes) -> Bound<Bytes> {
    [Bound::Included(key.clone()), Bound::Excluded(key), Bound::Unbounded][kind as usize].clone()
}

fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(Bytes::as_ref)
}

fn within(key: &Bytes, from: &Bound<Bytes>, to: &Bound<Bytes>) -> bool {
    let behind = match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    };
    let before = match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    };
    behind && before
}

fn maintain(engine: &mut Fresh) {
    while let Some(step) = engine.let_go().or_else(|| engine.maintain()) {
        step().unwrap();
    }
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

fn keys(view: &dyn View) -> Vec<Bytes> {
    all(view).into_iter().map(|(key, _)| key).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if entry.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_folder(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}
