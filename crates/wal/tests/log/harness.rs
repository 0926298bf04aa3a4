//! A log on a disk in memory, and what was read back from it.

use bytes::Bytes;
use wal::{Config, Crash, Fatal, Log, MemoryDisk, OpenError, Position, Record, Recovered};

pub const BLOCK: u64 = 4096;

/// Small sizes, so that few records make many segments.
pub fn config() -> Config {
    Config { segment_bytes: 8 * BLOCK, batch_bytes_max: 4 * BLOCK, ..Config::new(0xCA95) }
}

pub fn record(stream: u32, body: impl Into<Vec<u8>>) -> Record {
    Record { stream, kind: stream as u8, body: Bytes::from(body.into()) }
}

pub struct Opened {
    pub log: Log,
    pub recovered: Recovered,
    pub read: Vec<(Position, Record)>,
}

impl Opened {
    pub fn records(&self) -> Vec<Record> {
        self.read.iter().map(|(_, record)| record.clone()).collect()
    }
}

pub fn open(disk: &mut MemoryDisk) -> Result<Opened, OpenError> {
    open_as(disk, config())
}

pub fn open_as(disk: &mut MemoryDisk, config: Config) -> Result<Opened, OpenError> {
    let mut read = Vec::new();
    let (log, recovered) = Log::open(disk, config, &mut |position, record| read.push((position, record)))?;
    assert!(read.is_sorted_by(|(a, _), (b, _)| a < b), "positions rise");
    assert!(read.iter().all(|(position, _)| *position < log.head()), "the head is behind what was read");
    Ok(Opened { log, recovered, read })
}

/// Opens a log that must be sound.
pub fn reopen(disk: &mut MemoryDisk) -> Opened {
    open(disk).unwrap_or_else(|error| panic!("{error}"))
}

/// Does all there is to do.
pub fn settle(log: &mut Log, disk: &mut MemoryDisk) -> Result<(), Fatal> {
    loop {
        log.turn(disk)?;
        if !disk.complete_next() {
            return Ok(());
        }
    }
}

/// Appends and waits until it is durable.
pub fn write(log: &mut Log, disk: &mut MemoryDisk, records: Vec<Record>) {
    let ticket = log.append(records);
    settle(log, disk).unwrap();
    assert_eq!(log.durable(), ticket);
}

/// A disk that holds one batch for each of these lists of records, as a power loss leaves it.
pub fn written(batches: &[Vec<Record>]) -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    for batch in batches {
        write(&mut log, &mut disk, batch.clone());
    }
    disk.crash(Crash::Power, &mut || false);
    disk
}

/// Reads the batches' places from a sound log: (segment, offset, length) each.
pub fn places(disk: &MemoryDisk) -> Vec<(u64, u64, u64)> {
    let mut places = Vec::new();
    for segment in 1..1000 {
        let Some(bytes) = disk.bytes(segment) else { continue };
        let mut offset = BLOCK;
        while let Some(rest) = bytes.get(offset as usize..)
            && let Ok(header) = wal::format::BatchHeader::decode(rest)
        {
            places.push((segment, offset, header.batch_bytes()));
            offset += header.batch_bytes();
        }
    }
    places
}

/// Random numbers from a seed (SplitMix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
