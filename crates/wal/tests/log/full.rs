//! A full disk refuses and waits; a failing one ends the process.

use std::io::ErrorKind;

use wal::{Crash, DiskError, Log, MemoryDisk, Operation, Record};

use crate::harness::{config, record, reopen, settle, write};

fn eio() -> DiskError {
    ErrorKind::Other.into()
}

/// Appends until an append does not become durable. Returns what was appended.
fn fill(log: &mut Log, disk: &mut MemoryDisk) -> Vec<Record> {
    let mut all = Vec::new();
    while log.is_idle() {
        all.push(record(all.len() as u32, vec![1; 3000]));
        log.append(vec![all[all.len() - 1].clone()]);
        settle(log, disk).unwrap();
    }
    all
}

#[test]
fn spare_refused_is_full_before_anything_waits() {
    let mut disk = MemoryDisk::new();
    disk.limit_bytes(Some(2 * config().segment_bytes));
    let mut log = reopen(&mut disk).log;
    let mut durable_while_full = 0;
    for n in 0..14 {
        write(&mut log, &mut disk, vec![record(n, vec![1; 3000])]);
        durable_while_full += u32::from(log.is_full());
    }
    assert_eq!(durable_while_full, 7, "the rest of the newest segment is used");
}

#[test]
fn newest_segment_full_too_waits_until_retry_works() {
    let mut disk = MemoryDisk::new();
    disk.limit_bytes(Some(3 * config().segment_bytes));
    let mut log = reopen(&mut disk).log;
    let all = fill(&mut log, &mut disk);
    assert_eq!(log.durable(), all.len() as u64 - 1);

    log.retry();
    settle(&mut log, &mut disk).unwrap();
    assert!(log.is_full() && !log.is_idle());

    disk.limit_bytes(None);
    settle(&mut log, &mut disk).unwrap();
    assert!(log.is_full(), "nobody asked it to try again");
    log.retry();
    settle(&mut log, &mut disk).unwrap();
    assert!(!log.is_full());
    assert_eq!(log.durable(), all.len() as u64);
    assert_eq!(reopen(&mut disk).records(), all);
}

#[test]
fn release_on_full_disk_makes_room_by_itself() {
    let mut disk = MemoryDisk::new();
    disk.limit_bytes(Some(3 * config().segment_bytes));
    let mut log = reopen(&mut disk).log;
    let all = fill(&mut log, &mut disk);
    log.release(log.head());
    settle(&mut log, &mut disk).unwrap();
    assert!(!log.is_full());
    assert_eq!(log.durable(), all.len() as u64);
}

#[test]
fn crash_on_full_disk_keeps_what_was_durable() {
    let mut disk = MemoryDisk::new();
    disk.limit_bytes(Some(3 * config().segment_bytes));
    let mut log = reopen(&mut disk).log;
    let all = fill(&mut log, &mut disk);
    disk.crash(Crash::Power, &mut || true);
    let mut opened = reopen(&mut disk);
    assert_eq!(opened.records(), all[..all.len() - 1]);
    settle(&mut opened.log, &mut disk).unwrap();
    assert!(opened.log.is_full());
}

#[test]
fn disk_full_from_the_start_waits_for_the_first_segment() {
    let mut disk = MemoryDisk::new();
    disk.limit_bytes(Some(0));
    let mut log = reopen(&mut disk).log;
    log.append(vec![record(1, "waits")]);
    settle(&mut log, &mut disk).unwrap();
    assert!(log.is_full());
    disk.limit_bytes(None);
    log.retry();
    settle(&mut log, &mut disk).unwrap();
    assert_eq!((log.durable(), log.is_full()), (1, false));
}

#[test]
fn long_record_refused_does_not_hurt_what_is_there() {
    let mut disk = MemoryDisk::new();
    disk.limit_bytes(Some(4 * config().segment_bytes));
    let mut log = reopen(&mut disk).log;
    write(&mut log, &mut disk, vec![record(1, "before")]);
    log.append(vec![record(2, vec![2; 100_000])]);
    log.append(vec![record(3, "behind")]);
    settle(&mut log, &mut disk).unwrap();
    assert!(log.is_full());
    assert_eq!(log.durable(), 1);
    disk.limit_bytes(None);
    log.retry();
    settle(&mut log, &mut disk).unwrap();
    assert_eq!(log.durable(), 3);
    let records = [record(1, "before"), record(2, vec![2; 100_000]), record(3, "behind")];
    assert_eq!(reopen(&mut disk).records(), records);
}

#[test]
fn write_refused_is_full_and_written_again() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    settle(&mut log, &mut disk).unwrap();
    for n in 1..=2 {
        disk.fail_next(Operation::Write, DiskError::Full);
        log.append(vec![record(n, "refused")]);
        settle(&mut log, &mut disk).unwrap();
        assert!(log.is_full());
        assert_eq!(log.durable(), u64::from(n) - 1);
        log.retry();
        settle(&mut log, &mut disk).unwrap();
        assert!(!log.is_full());
        assert_eq!(log.durable(), u64::from(n));
    }
    assert_eq!(reopen(&mut disk).recovered.records, 2);
}

#[test]
fn file_not_opened_is_full_and_opened_again() {
    let short = || DiskError::opening(std::io::Error::from_raw_os_error(24));
    assert!(matches!(short(), DiskError::Short { .. }), "{}", short());
    for operation in [Operation::Create, Operation::Write, Operation::Sync] {
        let mut disk = MemoryDisk::new();
        let mut log = reopen(&mut disk).log;
        disk.fail_next(operation, short());
        log.append(vec![record(1, "kept")]);
        settle(&mut log, &mut disk).unwrap();
        assert_eq!((log.durable(), log.refusal()), (0, Some(&short())), "{operation}");
        log.retry();
        settle(&mut log, &mut disk).unwrap();
        assert_eq!((log.durable(), log.is_full(), log.refusal()), (1, false, None), "{operation}");
        disk.crash(Crash::Power, &mut || false);
        assert_eq!(reopen(&mut disk).records(), [record(1, "kept")], "{operation}");
    }
}

#[test]
fn removal_refused_is_tried_again() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    for n in 0..20 {
        write(&mut log, &mut disk, vec![record(n, vec![1; 3000])]);
    }
    disk.fail_next(Operation::Remove, DiskError::Full);
    log.release(log.head());
    settle(&mut log, &mut disk).unwrap();
    assert!(disk.bytes(1).is_some() && !log.is_full());
    log.retry();
    settle(&mut log, &mut disk).unwrap();
    assert!(disk.bytes(1).is_none() && disk.bytes(2).is_none());
}

#[test]
fn any_other_failure_is_fatal_for_good() {
    let cases = [
        (Operation::Create, eio(), "creating log file 0000000000000001.log"),
        (Operation::Write, eio(), "writing log file 0000000000000001.log"),
        (Operation::Sync, eio(), "syncing log file 0000000000000001.log"),
        (Operation::Sync, DiskError::Full, "syncing log file 0000000000000001.log"),
    ];
    for (operation, error, message) in cases {
        let mut disk = MemoryDisk::new();
        let mut log = reopen(&mut disk).log;
        disk.fail_next(operation, error.clone());
        log.append(vec![record(1, "lost")]);
        let fatal = settle(&mut log, &mut disk).unwrap_err();
        assert_eq!((fatal.operation, &fatal.error), (operation, &error));
        assert!(fatal.to_string().starts_with(message), "{fatal}");
        assert_eq!(log.turn(&mut disk).unwrap_err(), fatal);
        assert_eq!(log.durable(), 0);
    }
}

#[test]
fn recovery_failing_tells_what_failed() {
    for operation in [Operation::List, Operation::Read, Operation::Write, Operation::Sync] {
        let mut disk = MemoryDisk::at_once();
        let mut log = reopen(&mut disk).log;
        write(&mut log, &mut disk, vec![record(1, "kept")]);
        disk.fail_next(operation, eio());
        let error = crate::harness::open(&mut disk).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{operation} log file ")), "{error}");
        assert_eq!(reopen(&mut disk).records(), [record(1, "kept")]);
    }
}

#[test]
fn failed_sync_then_recovered_batch_survives_power_loss() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    write(&mut log, &mut disk, vec![record(1, "durable")]);
    log.append(vec![record(2, "in doubt")]);
    disk.fail_next(Operation::Sync, eio());
    settle(&mut log, &mut disk).unwrap_err();

    // The pages look written, so the restarted process finds the batch. From here on it may be relied on.
    disk.crash(Crash::Process, &mut || false);
    let mut opened = reopen(&mut disk);
    assert_eq!(opened.records(), [record(1, "durable"), record(2, "in doubt")]);
    write(&mut opened.log, &mut disk, vec![record(3, "behind")]);
    disk.crash(Crash::Power, &mut || false);
    let records = [record(1, "durable"), record(2, "in doubt"), record(3, "behind")];
    assert_eq!(reopen(&mut disk).records(), records);
}
