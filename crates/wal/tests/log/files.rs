//! The log over real files.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use wal::{Disk, FileDisk, Io, Log, OpenError, Operation, Position, Record, Recovered, set_aside};

use crate::harness::{BLOCK, config, record};

fn disk(folder: &Path) -> (FileDisk, Receiver<()>) {
    let (wake, woken) = mpsc::sync_channel(100);
    let disk = FileDisk::open(folder, Box::new(move || wake.try_send(()).unwrap_or(()))).unwrap();
    (disk, woken)
}

fn open(disk: &mut FileDisk) -> Result<(Log, Recovered, Vec<Record>), OpenError> {
    let mut records = Vec::new();
    let (log, recovered) = Log::open(disk, config(), &mut |_, record| records.push(record))?;
    Ok((log, recovered, records))
}

/// Turns until all is durable, asleep between the disk's wake-ups as the log's thread is.
fn settle(log: &mut Log, disk: &mut FileDisk, woken: &Receiver<()>) {
    log.turn(disk).unwrap();
    while !log.is_idle() {
        woken.recv().unwrap();
        log.turn(disk).unwrap();
    }
}

fn write(folder: &Path, records: &[Record]) {
    let (mut disk, woken) = disk(folder);
    let (mut log, ..) = open(&mut disk).unwrap();
    for record in records {
        log.append(vec![record.clone()]);
        settle(&mut log, &mut disk, &woken);
    }
    wait_for_spare(folder, &mut log, &mut disk, &woken);
}

/// Lets the disk's thread finish the spare: whether a folder has one may not depend on how fast that thread is.
fn wait_for_spare(folder: &Path, log: &mut Log, disk: &mut FileDisk, woken: &Receiver<()>) {
    let spare = wal::segment_file_name(log.head().segment + 1);
    while !names(folder).contains(&spare) {
        woken.recv().unwrap();
        log.turn(disk).unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn files_over_restarts_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/by/the/log");
    let mut all = Vec::new();
    for restart in 0..4 {
        let (mut disk, woken) = disk(&folder);
        let (mut log, recovered, records) = open(&mut disk).unwrap();
        assert_eq!(records, all);
        assert_eq!(recovered.cut, None);
        for n in 0..10 {
            all.push(record(restart, vec![n; 3000]));
            log.append(vec![record(restart, vec![n; 3000])]);
            settle(&mut log, &mut disk, &woken);
        }
        assert_eq!(log.durable(), 10);
    }
}

#[test]
fn log_and_disk_can_move_to_the_log_thread() {
    fn check<T: Send>() {}
    check::<(Log, FileDisk)>();
}

#[test]
fn files_released_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<Record> = (0..30).map(|n| record(n, vec![1; 3000])).collect();
    write(folder.path(), &records);
    let (mut disk, woken) = disk(folder.path());
    let (mut log, ..) = open(&mut disk).unwrap();
    let newest = log.head().segment;
    log.release(Position { segment: newest, offset: 0 });
    log.turn(&mut disk).unwrap();
    while names(folder.path())[0] != wal::segment_file_name(newest) {
        woken.recv().unwrap();
        log.turn(&mut disk).unwrap();
    }
}

#[test]
fn file_cut_short_opens_with_all_before() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[record(1, "kept"), record(2, vec![9; 5000])]);
    let newest = folder.path().join(wal::segment_file_name(1));
    fs::OpenOptions::new().write(true).open(newest).unwrap().set_len(2 * BLOCK + 4500).unwrap();
    let (mut disk, woken) = disk(folder.path());
    let (mut log, recovered, records) = open(&mut disk).unwrap();
    assert_eq!(records, [record(1, "kept")]);
    assert_eq!(recovered.cut.unwrap().position, Position { segment: 1, offset: 2 * BLOCK });
    log.append(vec![record(3, vec![3; 6000])]);
    settle(&mut log, &mut disk, &woken);
    drop(disk);
    let (mut disk, _woken) = self::disk(folder.path());
    assert_eq!(open(&mut disk).unwrap().2, [record(1, "kept"), record(3, vec![3; 6000])]);
}

#[test]
fn unfinished_file_is_removed_and_others_are_left() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["0000000000000007.log.new", "notes.txt", "17.log", "0000000000000003.log.corrupt"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let (mut disk, _woken) = disk(folder.path());
    assert_eq!(disk.segments(), Ok(Vec::new()));
    assert_eq!(names(folder.path()), ["0000000000000003.log.corrupt", "17.log", "notes.txt"]);
}

#[test]
fn set_aside_lets_an_empty_log_begin() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        write(folder.path(), &[record(1, "one"), record(2, "two")]);
        let first = folder.path().join(wal::segment_file_name(1));
        let mut bytes = fs::read(&first).unwrap();
        bytes[BLOCK as usize + 70] ^= 1;
        fs::write(&first, bytes).unwrap();
        let (mut disk, _woken) = disk(folder.path());
        assert!(matches!(open(&mut disk), Err(OpenError::Corrupt { .. })));
        drop(disk);

        let renamed = set_aside(folder.path()).unwrap();
        assert_eq!(renamed.len(), 2, "the segment with records, and the spare");
        let suffix = if round == 1 { "log.corrupt".to_owned() } else { format!("log.{round}.corrupt") };
        assert!(renamed.iter().all(|path| path.to_str().unwrap().ends_with(&suffix)), "{renamed:?}");
        let (mut disk, _woken) = self::disk(folder.path());
        assert!(open(&mut disk).unwrap().2.is_empty());
    }
}

#[test]
fn missing_segment_fails_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let (mut disk, _woken) = disk(folder.path());
    disk.submit(1, Io::Sync { segment: 9 });
    let mut completions = Vec::new();
    disk.completions(&mut completions);
    assert!(matches!(completions[..], [(1, Err(_))]));
    fs::create_dir(folder.path().join(wal::segment_file_name(9))).unwrap();
    let error = open(&mut disk).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Disk { operation: Operation::List, .. }), "{error}");
}
