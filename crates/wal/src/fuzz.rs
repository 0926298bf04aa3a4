//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.
//!
//! A folder is one byte that says whether the last segment is filled up with zeros (bit 0), then the segments 1, 2, .. one
//! after the other, [`SEGMENT_BYTES`] each.

use bytes::Bytes;

use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, SegmentHeader, batch_bytes, decode_records, encode_batch,
};
use crate::{Config, Log, MemoryDisk, OpenError, Position, RECORD_BYTES_MAX, Record};

const SEGMENT_BYTES: usize = 3 * BLOCK_BYTES;
const LOG_ID: u64 = 0xCA95;

/// A folder with these bytes: opened or refused, and changed only when opened.
pub fn folder(bytes: &[u8]) {
    open(disk(bytes));
}

/// As [`folder`], after all checksums in it were made right: what lies behind them must be checked, too.
pub fn sealed(bytes: &[u8]) {
    let mut disk = disk(bytes);
    let mut chain = None;
    for number in 1.. {
        let Some(segment) = disk.bytes(number) else { break };
        let mut segment = segment.to_vec();
        seal(&mut segment, &mut chain);
        disk.put(number, &segment);
    }
    open(disk);
}

/// A count (4 bytes) and the records of a batch.
pub fn records(bytes: &[u8]) {
    let Some((count, payload)) = bytes.split_first_chunk() else { return };
    let mut records = Vec::new();
    let decoded = decode_records(payload, u32::from_be_bytes(*count), &mut |offset, record| {
        records.push((offset, record))
    });
    let records: Vec<Record> = records.into_iter().map(|(_, record)| record).collect();
    if decoded.is_err() {
        return assert!(records.is_empty(), "no record of a payload that is not sound is shown");
    }
    assert!(records.iter().all(|record| record.body.len() <= RECORD_BYTES_MAX));
    let (header, batch) = encode_batch(BatchHeader::default(), &records);
    assert_eq!(&batch[BATCH_HEADER_BYTES..][..header.payload_bytes as usize], payload, "encoded again");
}

fn config() -> Config {
    Config { segment_bytes: SEGMENT_BYTES as u64, batch_bytes_max: BLOCK_BYTES as u64, ..Config::new(LOG_ID) }
}

fn disk(bytes: &[u8]) -> MemoryDisk {
    let mut disk = MemoryDisk::at_once();
    let Some((flags, segments)) = bytes.split_first() else { return disk };
    for (number, segment) in (1..).zip(segments.chunks(SEGMENT_BYTES)) {
        let mut segment = segment.to_vec();
        if flags & 1 == 1 {
            segment.resize(SEGMENT_BYTES, 0);
        }
        disk.put(number, &segment);
    }
    disk
}

fn open(mut disk: MemoryDisk) {
    let before = disk.clone();
    let (mut log, read) = match open_once(&mut disk) {
        Ok((log, read)) => (log, read),
        Err(OpenError::Disk { error, .. }) => panic!("this disk never fails: {error}"),
        Err(_) => {
            return assert!(contents(&disk).eq(contents(&before)), "a log that is refused is not changed");
        }
    };
    for (position, record) in &read {
        let segment = before.bytes(position.segment).expect("a record is read from a segment");
        let rest = &segment[position.offset as usize..];
        assert!(rest[..4] == (record.body.len() as u32).to_le_bytes() && rest[9..].starts_with(&record.body));
    }
    assert!(read.is_sorted_by(|(a, _), (b, _)| a < b), "positions rise");
    let more = Record { stream: 1, kind: 1, body: Bytes::from_static(b"one more") };
    log.append(vec![more.clone()]);
    while log.durable() == 0 {
        log.turn(&mut disk).expect("this disk never fails");
    }
    let (_, again) = open_once(&mut disk).expect("a log that was opened opens again");
    let (last, kept) = again.split_last().expect("what was durable is read");
    assert_eq!((kept, &last.1), (&read[..], &more), "all that was read, and what was appended");
}

type Read = Vec<(Position, Record)>;

fn open_once(disk: &mut MemoryDisk) -> Result<(Log, Read), OpenError> {
    let mut read = Vec::new();
    let (log, _) = Log::open(disk, config(), &mut |position, record| read.push((position, record)))?;
    Ok((log, read))
}

fn contents(disk: &MemoryDisk) -> impl Iterator<Item = &[u8]> {
    (1..).map_while(|number| disk.bytes(number))
}

/// Makes the checksums of a segment right. `chain`: the checksum of the batch before it.
fn seal(segment: &mut [u8], chain: &mut Option<u32>) {
    let Some(block) = segment.get_mut(..BLOCK_BYTES) else { return };
    if let Some(before) = *chain {
        block[40..44].copy_from_slice(&before.to_le_bytes());
    }
    let crc = crc32c::crc32c(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    let mut before = u32::from_le_bytes(block[40..44].try_into().expect("four bytes"));
    let mut at = BLOCK_BYTES;
    while let Some(batch) = segment.get_mut(at..).filter(|rest| rest.starts_with(b"CSB1")) {
        let Some(head) = batch.get(..BATCH_HEADER_BYTES) else { break };
        let payload_bytes = u32::from_le_bytes(head[40..44].try_into().expect("four bytes")) as usize;
        batch[48..52].copy_from_slice(&before.to_le_bytes());
        if let Some(payload) = batch[BATCH_HEADER_BYTES..].get(..payload_bytes) {
            let crc = crc32c::crc32c(payload);
            batch[52..56].copy_from_slice(&crc.to_le_bytes());
        }
        before = crc32c::crc32c(&batch[8..BATCH_HEADER_BYTES]);
        batch[4..8].copy_from_slice(&before.to_le_bytes());
        at += batch_bytes(payload_bytes) as usize;
    }
    *chain = Some(before);
}

/// Folders that a log wrote: empty, with one batch, with a torn one, over two segments.
pub fn folder_samples() -> Vec<Bytes> {
    let whole = written(2);
    let torn = whole[..whole.len() - 40].to_vec();
    [vec![0], torn, written(1), written(3)].map(Bytes::from).to_vec()
}

/// A folder with so many batches, without the zeros at its end.
fn written(batches: u8) -> Vec<u8> {
    let mut disk = MemoryDisk::at_once();
    let (mut log, _) = open_once(&mut disk).expect("an empty log opens");
    for batch in 0..batches {
        let record = |kind| Record { stream: batch.into(), kind, body: Bytes::from(vec![batch; 30]) };
        log.append(vec![record(1), record(2)]);
        log.turn(&mut disk).expect("this disk never fails");
        while log.durable() <= batch.into() {
            log.turn(&mut disk).expect("this disk never fails");
        }
    }
    let mut bytes = contents(&disk).fold(vec![1], |all, segment| [&all, segment].concat());
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    bytes.truncate(bytes.len() - zeros);
    bytes
}

/// Payloads of batches.
pub fn records_samples() -> Vec<Bytes> {
    let record = |body: &'static [u8]| Record { stream: 7, kind: 2, body: Bytes::from_static(body) };
    let lists = [vec![], vec![record(b"one")], vec![record(b""), record(b"two"), record(b"three")]];
    let payload = |records: &Vec<Record>| {
        let (header, batch) = encode_batch(BatchHeader::default(), records);
        let payload = &batch[BATCH_HEADER_BYTES..][..header.payload_bytes as usize];
        Bytes::from([&(records.len() as u32).to_be_bytes(), payload].concat())
    };
    lists.iter().map(payload).collect()
}

/// The header of a segment or of a batch, as it is and with its checksum made right.
pub fn header(bytes: &[u8]) {
    let mut block = bytes.to_vec();
    block.resize(BLOCK_BYTES, 0);
    for sealed in [false, true] {
        if sealed {
            let crc = crc32c::crc32c(&block[12..]);
            block[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(header) = SegmentHeader::decode(&block) {
            assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        }
        if sealed {
            let crc = crc32c::crc32c(&block[8..BATCH_HEADER_BYTES]);
            block[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(header) = BatchHeader::decode(&block) {
            // Of its zeros nothing is kept, so the checksum may be another.
            let again = BatchHeader::decode(&header.encode()).expect("what was encoded decodes");
            assert_eq!(BatchHeader { crc: header.crc, ..again }, header);
            let _ = header.check(&block);
        }
    }
}

/// Headers.
pub fn header_samples() -> Vec<Bytes> {
    let segment = SegmentHeader { log_id: LOG_ID, segment: 2, first_sequence: 9, chain: 5 };
    let (_, batch) = encode_batch(BatchHeader { log_id: LOG_ID, segment: 2, ..BatchHeader::default() }, &[]);
    vec![segment.encode().slice(..48), batch.slice(..BATCH_HEADER_BYTES)]
}
