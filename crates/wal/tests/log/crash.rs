//! Crashes at every point, and every way a write can tear.

use wal::{Crash, Io, MemoryDisk, Record};

use crate::harness::{Random, open, record, reopen, write};

/// A disk with durable records and one write under way, unsynced: of a batch, or of the first segment's header.
fn writing(durable: &[Record], torn: Vec<Record>, header: bool) -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    for record in durable {
        write(&mut log, &mut disk, vec![record.clone()]);
    }
    log.append(torn);
    loop {
        log.turn(&mut disk).unwrap();
        let writes = |io: &Io| matches!(io, Io::Write { offset, .. } if (*offset == 0) == header);
        let other = disk.pending().iter().find(|(_, io)| !writes(io)).map(|(token, _)| *token);
        match other {
            Some(token) => disk.complete(token),
            None => return disk,
        }
    }
}

fn check_torn(
    mut disk: MemoryDisk,
    durable: &[Record],
    torn: &[Record],
    crash: Crash,
    keep: &mut dyn FnMut() -> bool,
) {
    disk.crash(crash, keep);
    let mut opened = reopen(&mut disk);
    let mut expected = durable.to_vec();
    if opened.read.len() > durable.len() {
        expected.extend_from_slice(torn);
    }
    assert!(opened.records() == expected);
    write(&mut opened.log, &mut disk, vec![record(99, "behind")]);
    expected.push(record(99, "behind"));
    disk.crash(Crash::Power, &mut || false);
    let opened = reopen(&mut disk);
    assert!(opened.records() == expected);
    assert_eq!(opened.recovered.cut, None);
}

#[test]
fn torn_batch_of_one_block_opens_for_every_subset_of_sectors() {
    let (durable, torn) = ([record(1, "durable")], vec![record(2, vec![0xFF; 4000])]);
    let disk = writing(&durable, torn.clone(), false);
    for crash in [Crash::Power, Crash::Process] {
        for subset in 0..256u32 {
            let mut sector = 0..;
            let mut keep = || subset >> sector.next().unwrap() & 1 == 1;
            check_torn(disk.clone(), &durable, &torn, crash, &mut keep);
        }
    }
}

#[test]
fn torn_batch_of_many_blocks_opens_for_random_subsets() {
    let durable = [record(1, "durable"), record(2, vec![7; 9000])];
    let torn: Vec<Record> = (0..5).map(|n| record(n, vec![n as u8 + 1; 2500])).collect();
    let disk = writing(&durable, torn.clone(), false);
    for seed in 0..500 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let percent = [5, 50, 95][seed as usize % 3];
        check_torn(disk.clone(), &durable, &torn, Crash::Power, &mut || random.chance(percent));
    }
}

#[test]
fn torn_segment_header_opens_for_every_subset_of_sectors() {
    let disk = writing(&[], vec![record(1, "never written")], true);
    for subset in 0..256u32 {
        let mut sector = 0..;
        let mut keep = || subset >> sector.next().unwrap() & 1 == 1;
        check_torn(disk.clone(), &[], &[], Crash::Power, &mut keep);
    }
}

/// Runs the same appends on a disk that stops after each number of completions.
#[test]
fn crash_after_each_step_keeps_what_was_durable() {
    let records: Vec<Record> = (0..30).map(|n| record(n, vec![n as u8; 2000 + 97 * n as usize])).collect();
    for steps in 0.. {
        let mut disk = MemoryDisk::new();
        let mut log = reopen(&mut disk).log;
        let mut done = 0;
        for record in &records {
            log.append(vec![record.clone()]);
            log.turn(&mut disk).unwrap();
            while done < steps && disk.complete_next() {
                done += 1;
                log.turn(&mut disk).unwrap();
            }
        }
        for kept in [false, true] {
            for crash in [Crash::Power, Crash::Process] {
                let mut crashed = disk.clone();
                crashed.crash(crash, &mut || kept);
                let read = reopen(&mut crashed).records();
                assert!(records.starts_with(&read), "after {steps} steps");
                assert!(read.len() as u64 >= log.durable(), "after {steps} steps");
            }
        }
        if done < steps {
            assert_eq!(log.durable(), 30);
            return;
        }
    }
}

#[test]
fn crash_during_recovery_loses_nothing() {
    let (durable, torn) = ([record(1, "durable")], vec![record(2, vec![0xFF; 9000])]);
    let mut disk = writing(&durable, torn, false);
    let mut random = Random(3);
    disk.crash(Crash::Power, &mut || random.chance(60));
    for seed in 0..200 {
        println!("seed {seed}");
        let (mut disk, mut random) = (disk.clone(), Random(seed));
        for _ in 0..3 {
            for operation in [wal::Operation::Write, wal::Operation::Sync] {
                if random.chance(40) {
                    disk.fail_next(operation, std::io::ErrorKind::Other.into());
                }
            }
            if let Ok(opened) = open(&mut disk) {
                assert_eq!(opened.records(), durable);
            }
            disk.crash(Crash::Power, &mut || random.chance(50));
        }
        assert_eq!(reopen(&mut disk).records(), durable);
    }
}
