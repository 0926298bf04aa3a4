//! What is appended is read back.

use std::collections::BTreeSet;

use wal::{Config, Crash, Disk, MemoryDisk, Position, RECORD_BYTES_MAX, Record};

use crate::harness::{BLOCK, config, open_as, record, reopen, settle, write};

#[test]
fn open_empty_disk_reads_nothing() {
    let mut disk = MemoryDisk::new();
    let opened = reopen(&mut disk);
    assert!(opened.read.is_empty() && opened.log.is_idle());
    assert_eq!(opened.log.durable(), 0);
    assert_eq!(opened.log.head(), Position { segment: 1, offset: 0 });
    assert_eq!(opened.recovered.cut, None);
}

#[test]
fn append_over_restarts_and_segments_reads_back_in_order() {
    let (mut disk, mut all) = (MemoryDisk::at_once(), Vec::new());
    for restart in 0..20u32 {
        let opened = reopen(&mut disk);
        assert_eq!(opened.records(), all);
        let mut log = opened.log;
        for n in 0..7 {
            let records = vec![record(restart, vec![n; 700 * n as usize]), record(n.into(), "")];
            let head = log.head();
            write(&mut log, &mut disk, records.clone());
            all.extend(records);
            assert!(log.head() > head);
        }
        disk.crash(Crash::Power, &mut || false);
    }
    let opened = reopen(&mut disk);
    assert_eq!(opened.records(), all);
    assert!(opened.log.head().segment > 10, "it went over many segments");
    assert_eq!(opened.recovered.records, all.len() as u64);
}

#[test]
fn head_before_append_is_at_or_below_its_records() {
    let mut disk = MemoryDisk::at_once();
    let mut log = reopen(&mut disk).log;
    let mut heads = Vec::new();
    for n in 0..60 {
        heads.push(log.head());
        log.append(vec![record(n, vec![0; n as usize * 100])]);
        if n % 3 == 0 {
            log.turn(&mut disk).unwrap();
        }
    }
    settle(&mut log, &mut disk).unwrap();
    let opened = reopen(&mut disk);
    assert_eq!(opened.read.len(), heads.len());
    for ((position, _), head) in opened.read.iter().zip(heads) {
        assert!(head <= *position, "{head} is above {position}");
    }
}

#[test]
fn append_while_batch_in_flight_goes_with_the_next() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    write(&mut log, &mut disk, vec![record(0, "first")]);
    log.append(vec![record(1, "in flight")]);
    log.turn(&mut disk).unwrap();
    for n in 0..100 {
        log.append(vec![record(n, "gathered")]);
        log.turn(&mut disk).unwrap();
    }
    assert_eq!(log.durable(), 1);
    assert_eq!(log.bytes_queued(), 100 * (9 + 8), "what is in flight is not in it");
    settle(&mut log, &mut disk).unwrap();
    assert_eq!((log.durable(), log.bytes_queued()), (102, 0));
    assert_eq!(reopen(&mut disk).recovered.batches, 3);
}

#[test]
fn append_of_nothing_is_durable_with_what_is_before_it() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    assert_eq!((log.append(Vec::new()), log.durable()), (1, 1));
    log.append(vec![record(0, "something")]);
    assert_eq!((log.append(Vec::new()), log.durable()), (3, 1));
    while disk.pending().is_empty() || log.append(Vec::new()) < 5 {
        log.turn(&mut disk).unwrap();
    }
    assert_eq!(log.durable(), 1);
    settle(&mut log, &mut disk).unwrap();
    assert_eq!(log.durable(), 5);
    assert!(log.is_idle());
}

#[test]
fn append_longer_than_batch_splits_and_keeps_order() {
    let mut disk = MemoryDisk::at_once();
    let mut log = reopen(&mut disk).log;
    let records: Vec<Record> = (0..50).map(|n| record(n, vec![n as u8; 1500])).collect();
    write(&mut log, &mut disk, records.clone());
    let opened = reopen(&mut disk);
    assert_eq!(opened.records(), records);
    assert!(opened.recovered.batches > 4);
}

#[test]
fn record_longer_than_segment_gets_one_of_its_own() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    let bodies = [10, 100_000, 20, 33_000, 32_768, 28_672, 28_600, 28_599, 28_598, 0];
    let records: Vec<Record> = bodies.iter().map(|&len| record(7, vec![7; len])).collect();
    for record in &records {
        write(&mut log, &mut disk, vec![record.clone()]);
    }
    let opened = reopen(&mut disk);
    assert_eq!(opened.records(), records);
    assert_eq!(opened.recovered.cut, None);

    // The spares that were too short are gone.
    let held = opened.read.iter().map(|(position, _)| position.segment).collect::<BTreeSet<_>>().len();
    assert_eq!(disk.segments().unwrap().len(), held + 1);
}

#[test]
fn record_of_the_longest_kind_reads_back() {
    let mut disk = MemoryDisk::at_once();
    let mut log = reopen(&mut disk).log;
    let records = vec![record(1, "before"), record(2, vec![2; RECORD_BYTES_MAX]), record(3, "behind")];
    write(&mut log, &mut disk, records.clone());
    assert!(reopen(&mut disk).records() == records);
}

#[test]
#[should_panic(expected = "a record of 33554433 bytes")]
fn record_too_long_panics() {
    reopen(&mut MemoryDisk::at_once()).log.append(vec![record(1, vec![0; RECORD_BYTES_MAX + 1])]);
}

#[test]
fn sizes_changed_between_openings_read_back() {
    let mut disk = MemoryDisk::new();
    let mut all = Vec::new();
    for blocks in [8, 2, 64, 3, 16, 8] {
        let sizes = Config { segment_bytes: blocks * BLOCK, batch_bytes_max: blocks * BLOCK / 2, ..config() };
        let opened =
            open_as(&mut disk, Config { batch_bytes_max: sizes.batch_bytes_max.max(BLOCK), ..sizes });
        let mut opened = opened.unwrap();
        assert_eq!(opened.records(), all);
        for n in 0..10 {
            all.push(record(n, vec![1; 3000]));
            write(&mut opened.log, &mut disk, vec![record(n, vec![1; 3000])]);
        }
    }
    assert_eq!(reopen(&mut disk).records(), all);
}

#[test]
fn release_removes_whole_segments_below_only() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    let records: Vec<Record> = (0..40).map(|n| record(n, vec![n as u8; 3000])).collect();
    for record in &records {
        write(&mut log, &mut disk, vec![record.clone()]);
    }
    let read = reopen(&mut disk).read;
    let kept = read.iter().position(|(position, _)| position.segment == 4).unwrap();
    let live = log.bytes_live();

    log.release(read[kept + 2].0);
    settle(&mut log, &mut disk).unwrap();
    assert_eq!(log.bytes_live(), live - 3 * config().segment_bytes);
    let opened = reopen(&mut disk);
    assert_eq!(opened.read, read[kept..], "the segment it points into stays");
    assert_eq!(opened.recovered.first, Position { segment: 4, offset: BLOCK });

    log.release(log.head());
    settle(&mut log, &mut disk).unwrap();
    let opened = reopen(&mut disk);
    let newest = read.last().unwrap().0.segment;
    assert!(opened.read.iter().all(|(position, _)| position.segment == newest), "the newest stays");
    assert!(!opened.read.is_empty());
    write(&mut log, &mut disk, vec![record(99, "and on it goes")]);
    assert_eq!(reopen(&mut disk).records().last(), Some(&record(99, "and on it goes")));
}

#[test]
#[should_panic(expected = "release up to 2:0, and the log ends at 1:8192")]
fn release_behind_the_head_is_a_bug() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    write(&mut log, &mut disk, vec![record(1, "one")]);
    log.release(Position { segment: 2, offset: 0 });
}

#[test]
fn release_removes_oldest_first_and_one_at_a_time() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    for n in 0..40 {
        write(&mut log, &mut disk, vec![record(n, vec![n as u8; 3000])]);
    }
    log.release(log.head());
    for segment in 1..log.head().segment {
        log.turn(&mut disk).unwrap();
        assert_eq!(disk.pending().iter().map(|(_, io)| io.segment()).collect::<Vec<_>>(), [segment]);
        disk.complete_next();
    }
    settle(&mut log, &mut disk).unwrap();
}

#[test]
fn next_segment_is_made_before_it_is_needed() {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    settle(&mut log, &mut disk).unwrap();
    assert!(disk.bytes(1).is_some(), "the first is made without any append");
    for n in 0..40 {
        write(&mut log, &mut disk, vec![record(n, vec![0; 3000])]);
        assert!(disk.bytes(log.head().segment + 1).is_some());
    }
}
