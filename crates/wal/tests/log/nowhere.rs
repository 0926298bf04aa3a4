//! The log over a disk that keeps nothing.

use bytes::Bytes;
use wal::{Disk, Io, Log, Nowhere, Record};

use crate::harness::{BLOCK, config, record};

fn open(disk: &mut Nowhere) -> (Log, Vec<Record>) {
    let mut records = Vec::new();
    let (log, recovered) = Log::open(disk, config(), &mut |_, record| records.push(record)).unwrap();
    assert_eq!(recovered.cut, None);
    (log, records)
}

#[test]
fn nowhere_is_durable_within_the_turn_and_lets_go_of_what_is_released() {
    let mut disk = Nowhere::new();
    let (mut log, _) = open(&mut disk);
    let mut appended = 0;
    for round in 0..200 {
        // Some that share a segment, some that fill one, some that are longer than one.
        let ticket = log.append(vec![record(round, vec![1; (round as usize % 10) * BLOCK as usize])]);
        appended += 1;
        log.turn(&mut disk).unwrap();
        assert_eq!((log.durable(), ticket), (appended, appended));
        assert!(log.is_idle() && !log.is_full());
        log.release(log.head());
        log.turn(&mut disk).unwrap();
        assert!(log.bytes_live() <= 12 * BLOCK, "{} bytes count after {round} appends", log.bytes_live());
    }
    assert!(log.head().segment > 100, "segments came and went: {}", log.head());
}

#[test]
fn nowhere_opened_again_is_a_new_log() {
    let mut disk = Nowhere::new();
    let (mut log, _) = open(&mut disk);
    log.append(vec![record(1, "gone")]);
    log.turn(&mut disk).unwrap();
    assert_eq!(log.durable(), 1);
    let (log, records) = open(&mut disk);
    assert_eq!((log.durable(), log.bytes_live(), records), (0, 0, Vec::new()));
}

#[test]
fn nowhere_holds_none_of_the_bytes_that_it_is_given() {
    let mut disk = Nowhere::new();
    let bytes = Bytes::from(vec![7; 3000]);
    disk.submit(5, Io::Create { segment: 1, bytes: 1 << 40 });
    disk.submit(6, Io::Write { segment: 1, offset: 0, bytes: bytes.clone() });
    let mut completions = Vec::new();
    disk.completions(&mut completions);
    assert_eq!(completions, [(5, Ok(())), (6, Ok(()))]);
    assert!(bytes.is_unique());
}
