//! A torn end is cut; damage is refused, never served.

use wal::format::{Bad, BatchHeader, SegmentHeader, encode_batch};
use wal::{Config, Crash, Cut, MemoryDisk, OpenError, Position, Record};

use crate::harness::{
    BLOCK, Opened, Random, config, open, open_as, places, record, reopen, settle, write, written,
};

/// Six batches of one to three blocks over two segments.
fn batches() -> Vec<Vec<Record>> {
    let bodies = [10, 5000, 3000, 9000, 11_000, 4500];
    (0..6)
        .map(|n| vec![record(n, format!("batch {n}")), record(n, vec![b'a' + n as u8; bodies[n as usize]])])
        .collect()
}

fn flat(batches: &[Vec<Record>]) -> Vec<Record> {
    batches.iter().flatten().cloned().collect()
}

/// Opens with everything but the newest batch, and goes on.
fn check_newest_lost(mut disk: MemoryDisk, batches: &[Vec<Record>], what: &str) {
    let mut expected = flat(&batches[..batches.len() - 1]);
    let Opened { mut log, read, .. } = open(&mut disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let records: Vec<Record> = read.into_iter().map(|(_, record)| record).collect();
    assert!(records == expected, "{what}: {} records", records.len());
    write(&mut log, &mut disk, vec![record(9, "new")]);
    expected.push(record(9, "new"));
    disk.crash(Crash::Power, &mut || false);
    let opened = open(&mut disk).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert!(opened.records() == expected, "{what}, again");
    assert_eq!(opened.recovered.cut, None, "{what}, again");
}

fn check_corrupt(disk: &mut MemoryDisk, what: &str) -> OpenError {
    match open(disk) {
        Err(error @ OpenError::Corrupt { .. }) => error,
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what}: was served"),
    }
}

#[test]
fn newest_batch_truncated_at_each_byte_opens_with_all_before() {
    let batches = batches();
    let disk = written(&batches);
    let &(segment, offset, len) = places(&disk).last().unwrap();
    for end in offset..offset + len {
        let mut cut = disk.clone();
        cut.truncate(segment, end);
        check_newest_lost(cut, &batches, &format!("truncated to {end}"));
    }
}

#[test]
fn newest_batch_garbled_at_each_byte_opens_with_all_before() {
    let batches = batches();
    let disk = written(&batches);
    let &(segment, offset, len) = places(&disk).last().unwrap();
    for at in offset..offset + len {
        let mut garbled = disk.clone();
        garbled.flip(segment, at, (at % 8) as u8);
        check_newest_lost(garbled, &batches, &format!("garbled at {at}"));
    }
}

#[test]
fn newest_batch_garbled_is_told_as_cut() {
    let mut disk = written(&batches());
    let &(segment, offset, _) = places(&disk).last().unwrap();
    disk.flip(segment, offset + 100, 0);
    let cut = reopen(&mut disk).recovered.cut.unwrap();
    assert_eq!(cut.position, Position { segment, offset });
    assert_eq!(cut.why, Bad::Checksum);
    assert_eq!(cut.bytes, 64 + 2 * 9 + 7 + 4500);
}

#[test]
fn older_batch_with_one_flipped_bit_is_corrupt() {
    let disk = written(&batches());
    let places = places(&disk);
    assert_eq!(places.len(), 6);
    for &(segment, offset, len) in &places[..5] {
        for at in offset..offset + len {
            let mut flipped = disk.clone();
            flipped.flip(segment, at, (at % 8) as u8);
            let error = check_corrupt(&mut flipped, &format!("bit of {segment}:{at}"));
            let OpenError::Corrupt { position, .. } = error else { unreachable!() };
            assert_eq!(position, Position { segment, offset });
        }
    }
}

#[test]
fn segment_header_with_one_flipped_bit_is_corrupt() {
    let disk = written(&batches());
    for segment in [1, 2] {
        for at in 0..BLOCK {
            let mut flipped = disk.clone();
            flipped.flip(segment, at, (at % 8) as u8);
            check_corrupt(&mut flipped, &format!("bit of {segment}:{at}"));
        }
    }
}

#[test]
fn corrupt_log_is_left_as_it_is() {
    let mut disk = written(&batches());
    let (segment, offset, _) = places(&disk)[4];
    disk.flip(segment, offset + 70, 3);
    let before = disk.bytes(segment).unwrap().to_vec();
    check_corrupt(&mut disk, "first");
    check_corrupt(&mut disk, "second");
    assert!(disk.bytes(segment).unwrap() == before);
}

#[test]
fn corrupt_log_says_where_and_what_to_do() {
    let mut disk = written(&batches());
    disk.flip(1, BLOCK + 70, 3);
    let golden = "log file 0000000000000001.log is damaged at offset 4096: batch 1: its checksum does not match, but \
                  0000000000000002.log goes on with batch 5. Acknowledged data is lost in this copy, so the log is \
                  not used. Restore the node's folder, or set the log aside so that its replicas are made whole by \
                  their peers";
    assert_eq!(check_corrupt(&mut disk, "").to_string(), golden);
}

#[test]
fn middle_segment_missing_is_corrupt() {
    let mut disk = MemoryDisk::at_once();
    let mut log = reopen(&mut disk).log;
    for n in 0..30 {
        write(&mut log, &mut disk, vec![record(n, vec![1; 3000])]);
    }
    let mut gap = MemoryDisk::new();
    for segment in [1, 2, 4, 5] {
        gap.put(segment, disk.bytes(segment).unwrap());
    }
    let message = check_corrupt(&mut gap, "gap").to_string();
    assert!(message.contains("0000000000000004.log goes on with batch"), "{message}");
}

#[test]
fn removed_segment_come_back_is_corrupt() {
    let mut disk = MemoryDisk::at_once();
    let mut log = reopen(&mut disk).log;
    for n in 0..30 {
        write(&mut log, &mut disk, vec![record(n, vec![1; 3000])]);
    }
    let oldest = disk.bytes(1).unwrap().to_vec();
    log.release(Position { segment: 3, offset: 0 });
    settle(&mut log, &mut disk).unwrap();
    disk.put(1, &oldest);
    check_corrupt(&mut disk, "come back");
}

#[test]
fn segment_under_other_number_is_corrupt() {
    for number in [1, 9] {
        let mut disk = written(&batches());
        let bytes = disk.bytes(2).unwrap().to_vec();
        disk.put(number, &bytes);
        check_corrupt(&mut disk, "copied");
    }
}

#[test]
fn older_copy_of_segment_in_the_middle_is_corrupt() {
    let mut disk = written(&batches()[..2]);
    let older = disk.bytes(1).unwrap().to_vec();
    let mut log = reopen(&mut disk).log;
    for n in 0..30 {
        write(&mut log, &mut disk, vec![record(n, vec![1; 3000])]);
    }
    disk.put(1, &older);
    check_corrupt(&mut disk, "older copy");
}

#[test]
fn sound_batch_in_place_of_another_is_corrupt() {
    let mut disk = written(&batches());
    let (segment, offset, _) = places(&disk)[1];
    let mut bytes = disk.bytes(segment).unwrap().to_vec();
    let header = BatchHeader::decode(&bytes[offset as usize..]).unwrap();
    let (_, forged) = encode_batch(header, &[record(1, "batch 1"), record(1, vec![b'x'; 5000])]);
    bytes[offset as usize..][..forged.len()].copy_from_slice(&forged);
    disk.put(segment, &bytes);
    let message = check_corrupt(&mut disk, "forged").to_string();
    assert!(message.contains("batch 3: it does not continue the batch before it"), "{message}");
}

#[test]
fn garbage_in_the_spare_is_zeroed_and_told() {
    let mut disk = written(&batches());
    let spare = places(&disk).last().unwrap().0 + 1;
    disk.flip(spare, 3 * BLOCK + 7, 2);
    let opened = reopen(&mut disk);
    let position = Position { segment: spare, offset: 0 };
    assert_eq!(opened.recovered.cut, Some(Cut { position, bytes: 3 * BLOCK + 8, why: Bad::Blank }));
    disk.crash(Crash::Power, &mut || false);
    assert!(disk.bytes(spare).unwrap().iter().all(|&byte| byte == 0));
}

#[test]
fn stale_batches_at_the_tail_are_cut_and_never_served() {
    let batches = batches();
    let disk = written(&batches);
    let places = places(&disk);
    let &(newest, offset, len) = places.last().unwrap();
    for &(segment, from, stale) in &places {
        let mut copied = disk.clone();
        let mut bytes = disk.bytes(newest).unwrap().to_vec();
        let stale = &disk.bytes(segment).unwrap()[from as usize..][..stale as usize];
        let free = &mut bytes[(offset + len) as usize..];
        let len = stale.len().min(free.len());
        free[..len].copy_from_slice(&stale[..len]);
        copied.put(newest, &bytes);
        let opened = reopen(&mut copied);
        assert_eq!(opened.records(), flat(&batches));
        assert_eq!(opened.recovered.cut.unwrap().why, Bad::Chain);
    }
}

#[test]
fn record_that_holds_log_segments_proves_nothing_when_torn() {
    let donor = written(&batches());
    let copy = [donor.bytes(1).unwrap(), donor.bytes(2).unwrap()].concat();
    for shift in [0, BLOCK - 64 - 9] {
        let mut disk = written(&batches()[..2]);
        let mut log = reopen(&mut disk).log;
        let body = [vec![0; shift as usize], copy.clone()].concat();
        write(&mut log, &mut disk, vec![record(1, body)]);
        let &(segment, offset, _) = places(&disk).last().unwrap();
        disk.flip(segment, offset, 0);
        let opened = reopen(&mut disk);
        assert_eq!(opened.records(), flat(&batches()[..2]));
    }
}

#[test]
fn torn_batch_behind_damaged_one_still_proves_the_damage() {
    let mut disk = written(&batches());
    let places = places(&disk);
    let (segment, offset, _) = places[4];
    let (_, newest, _) = places[5];
    disk.flip(segment, offset + 80, 1);
    disk.flip(segment, newest + 80, 1);
    let message = check_corrupt(&mut disk, "both").to_string();
    assert!(message.contains("batch 5: its checksum does not match, but batch 6 lies at"), "{message}");
}

#[test]
fn foreign_log_is_refused() {
    let mut disk = written(&batches());
    let Err(error) = open_as(&mut disk, Config { log_id: 7, ..config() }) else { panic!("was opened") };
    let file = "0000000000000001.log".to_owned();
    assert_eq!(error, OpenError::Foreign { file, found: 0xCA95, expected: 7 });
}

#[test]
fn later_format_version_is_refused() {
    let header = SegmentHeader { log_id: config().log_id, segment: 1, first_sequence: 1, chain: 0 };
    let mut block = header.encode().to_vec();
    block[12] = 2;
    let crc = crc32c::crc32c(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    let mut disk = MemoryDisk::new();
    disk.put(1, &block);
    let error = open(&mut disk).map(|_| ()).unwrap_err();
    assert_eq!(error, OpenError::Version { file: "0000000000000001.log".into(), found: 2 });
}

#[test]
fn random_garbage_in_files_never_panics_and_never_invents() {
    let batches = batches();
    let sound = written(&batches);
    let all = flat(&batches);
    for seed in 0..1500 {
        let mut random = Random(seed);
        let mut disk = sound.clone();
        for _ in 0..=random.below(3) {
            let segment = 1 + random.below(3);
            let mut bytes = disk.bytes(segment).unwrap().to_vec();
            let start = random.below(bytes.len() as u64) as usize;
            let end = (start + 1 + random.below(6000) as usize).min(bytes.len());
            let zeros = random.chance(30);
            bytes[start..end].fill_with(|| if zeros { 0 } else { random.next() as u8 });
            disk.put(segment, &bytes);
        }
        if let Ok(opened) = open(&mut disk) {
            assert!(all.starts_with(&opened.records()), "seed {seed}");
        }
    }
}
