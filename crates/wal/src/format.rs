//! How segments, batches and records look on disk. Plain functions over bytes; all numbers are little-endian.
//!
//! ```text
//! segment header, one block of 4 KiB:
//!   0 magic "CAPSTLOG" | 8 crc u32 | 12 version u32 | 16 log id u64 | 24 segment u64
//!   32 first sequence u64 | 40 chain u32 | zeros
//! batch, from a block boundary, zeros up to the next boundary:
//!   0 magic "CSB1" | 4 crc u32 | 8 log id u64 | 16 segment u64 | 24 offset u64 | 32 sequence u64
//!   40 payload bytes u32 | 44 records u32 | 48 previous crc u32 | 52 payload crc u32 | 56 zeros u64 | 64 payload
//! record, inside the payload:
//!   0 body bytes u32 | 4 stream u32 | 8 kind u8 | 9 body
//! ```
//!
//! The crc of a segment header covers its whole block, that of a batch header the bytes 8..64: with them the
//! payload's crc and the crc of the batch before, so the crcs form a chain. A header has a crc apart from its payload's
//! because a header alone proves that all batches before it were synced, even when its own payload is torn.

use bytes::Bytes;
use mutant::Mutant;

use crate::record::{RECORD_BYTES_MAX, Record};

/// The unit of alignment: no file system or disk in use tears what lies in another block of this size.
pub const BLOCK_BYTES: usize = 4096;

/// Length of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 64;

/// Length of what precedes the body of a record.
pub const RECORD_HEAD_BYTES: usize = 9;

/// Rises when an older program could not read the segments.
pub(crate) const FORMAT_VERSION: u32 = 1;
const SEGMENT_MAGIC: [u8; 8] = *b"CAPSTLOG";
const BATCH_MAGIC: [u8; 4] = *b"CSB1";

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Nothing was ever written here.
    #[error("nothing was written here")]
    Blank,
    /// The bytes end before it does.
    #[error("the file ends inside it")]
    Short,
    /// It does not begin as it should.
    #[error("it does not begin with the mark of the format")]
    Magic,
    /// A checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// It is sound, but of another place, or not the successor of the batch before.
    #[error("it does not continue the batch before it")]
    Chain,
    /// Bytes that must be zero are not.
    #[error("its padding is not zero")]
    Padding,
    /// The checksum matches, but the records do not fill the payload.
    #[error("its records do not fill it")]
    Records,
    /// It is sound, but of another version of the format.
    #[error("it has format {0}, and this version of capstan has format {FORMAT_VERSION}")]
    Version(u32),
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log's identity.
    pub log_id: u64,
    /// Number of the segment.
    pub segment: u64,
    /// Sequence number of its first batch.
    pub first_sequence: u64,
    /// Checksum of the batch before the first; 0 when there is none.
    pub chain: u32,
}

impl SegmentHeader {
    /// The block.
    pub fn encode(&self) -> Bytes {
        let mut block = vec![0; BLOCK_BYTES];
        block[..8].copy_from_slice(&SEGMENT_MAGIC);
        put(&mut block, 12, &FORMAT_VERSION.to_le_bytes());
        put(&mut block, 16, &self.log_id.to_le_bytes());
        put(&mut block, 24, &self.segment.to_le_bytes());
        put(&mut block, 32, &self.first_sequence.to_le_bytes());
        put(&mut block, 40, &self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&block[12..]);
        put(&mut block, 8, &crc.to_le_bytes());
        block.into()
    }

    /// Reads the header from the first block of a segment.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Bad> {
        let block = bytes.get(..BLOCK_BYTES).ok_or(Bad::Short)?;
        check_magic(block, &SEGMENT_MAGIC)?;
        if u32_at(block, 8) != crc32c::crc32c(&block[12..]) {
            return Err(Bad::Checksum);
        }
        match u32_at(block, 12) {
            FORMAT_VERSION => Ok(SegmentHeader {
                log_id: u64_at(block, 16),
                segment: u64_at(block, 24),
                first_sequence: u64_at(block, 32),
                chain: u32_at(block, 40),
            }),
            version => Err(Bad::Version(version)),
        }
    }
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// The log's identity.
    pub log_id: u64,
    /// The segment it lies in.
    pub segment: u64,
    /// Where in the segment it begins.
    pub offset: u64,
    /// Its number, rising by one over all segments.
    pub sequence: u64,
    /// Length of its payload.
    pub payload_bytes: u32,
    /// How many records it holds.
    pub records: u32,
    /// The crc of the batch before it.
    pub previous: u32,
    /// Checksum of the payload.
    pub payload_crc: u32,
    /// Checksum of this header, and by it of all the chain up to here.
    pub crc: u32,
}

impl BatchHeader {
    /// The header's bytes, with its crc.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut head = [0; BATCH_HEADER_BYTES];
        head[..4].copy_from_slice(&BATCH_MAGIC);
        put(&mut head, 8, &self.log_id.to_le_bytes());
        put(&mut head, 16, &self.segment.to_le_bytes());
        put(&mut head, 24, &self.offset.to_le_bytes());
        put(&mut head, 32, &self.sequence.to_le_bytes());
        put(&mut head, 40, &self.payload_bytes.to_le_bytes());
        put(&mut head, 44, &self.records.to_le_bytes());
        put(&mut head, 48, &self.previous.to_le_bytes());
        put(&mut head, 52, &self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&head[8..]);
        put(&mut head, 4, &crc.to_le_bytes());
        head
    }

    /// Reads the header at the start of a batch. Trust the payload only after [`BatchHeader::check`].
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, Bad> {
        let head = bytes.get(..BATCH_HEADER_BYTES).ok_or(Bad::Short)?;
        check_magic(head, &BATCH_MAGIC)?;
        let crc = u32_at(head, 4);
        if crc != crc32c::crc32c(&head[8..]) {
            return Err(Bad::Checksum);
        }
        Ok(BatchHeader {
            log_id: u64_at(head, 8),
            segment: u64_at(head, 16),
            offset: u64_at(head, 24),
            sequence: u64_at(head, 32),
            payload_bytes: u32_at(head, 40),
            records: u32_at(head, 44),
            previous: u32_at(head, 48),
            payload_crc: u32_at(head, 52),
            crc,
        })
    }

    /// Whether it was written to this place.
    pub fn is_at(&self, log_id: u64, segment: u64, offset: u64) -> bool {
        (self.log_id, self.segment, self.offset) == (log_id, segment, offset)
    }

    /// Length of the whole batch with its padding.
    pub fn batch_bytes(&self) -> u64 {
        batch_bytes(self.payload_bytes as usize)
    }

    /// Checks the whole batch, from its header to the end of its padding.
    pub fn check(&self, batch: &[u8]) -> Result<(), Bad> {
        let end = BATCH_HEADER_BYTES + self.payload_bytes as usize;
        if (batch.len() as u64) < self.batch_bytes() {
            return Err(Bad::Short);
        }
        let torn = crc32c::crc32c(&batch[BATCH_HEADER_BYTES..end]) != self.payload_crc;
        if torn && !mutant::is(Mutant::TornRecordAccepted) {
            return Err(Bad::Checksum);
        }
        match is_zero(&batch[end..self.batch_bytes() as usize]) {
            true => Ok(()),
            false => Err(Bad::Padding),
        }
    }
}

/// Makes a batch of records. The length and the checksums in `header` are filled in; the header's are returned.
pub fn encode_batch(header: BatchHeader, records: &[Record]) -> (BatchHeader, Bytes) {
    let payload_bytes: usize = records.iter().map(record_bytes).sum();
    let mut batch = Vec::with_capacity(batch_bytes(payload_bytes) as usize);
    batch.resize(BATCH_HEADER_BYTES, 0);
    for record in records {
        batch.extend_from_slice(&(record.body.len() as u32).to_le_bytes());
        batch.extend_from_slice(&record.stream.to_le_bytes());
        batch.push(record.kind);
        batch.extend_from_slice(&record.body);
    }
    let written = batch.len() - BATCH_HEADER_BYTES;
    assert_eq!(written, payload_bytes, "bytes of {} records, as they were counted", records.len());
    let header = BatchHeader {
        payload_bytes: u32::try_from(payload_bytes).expect("a batch is bounded far below 4 GiB"),
        records: records.len() as u32,
        payload_crc: crc32c::crc32c(&batch[BATCH_HEADER_BYTES..]),
        ..header
    };
    batch.resize(header.batch_bytes() as usize, 0);
    let head = header.encode();
    batch[..BATCH_HEADER_BYTES].copy_from_slice(&head);
    (BatchHeader { crc: u32_at(&head, 4), ..header }, batch.into())
}

/// Reads the records of a payload: each with its offset in the payload. Nothing is visited unless all are sound.
pub fn decode_records(payload: &[u8], count: u32, visit: &mut dyn FnMut(usize, Record)) -> Result<(), Bad> {
    walk_records(payload, count, &mut |_, _| ())?;
    walk_records(payload, count, &mut |offset, Frame { stream, kind, body }| {
        // A copy, so that one record kept by the owner does not keep all of its batch in memory.
        visit(offset, Record { stream, kind, body: Bytes::copy_from_slice(body) });
    })
}

/// Length of a record inside a payload.
pub fn record_bytes(record: &Record) -> usize {
    RECORD_HEAD_BYTES + record.body.len()
}

/// Length of a batch with a payload of this length: with its header and its padding.
pub fn batch_bytes(payload_bytes: usize) -> u64 {
    (BATCH_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES) as u64
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Whole words at a time, without an early end: recovery runs this over every spare segment.
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum | u64::from_ne_bytes(*word)) == 0
        && rest.iter().all(|&byte| byte == 0)
}

/// A record as it lies in a payload.
struct Frame<'a> {
    stream: u32,
    kind: u8,
    body: &'a [u8],
}

fn walk_records(payload: &[u8], count: u32, visit: &mut dyn FnMut(usize, Frame)) -> Result<(), Bad> {
    let mut offset = 0;
    for _ in 0..count {
        let frame = frame(&payload[offset..]).ok_or(Bad::Records)?;
        let next = offset + RECORD_HEAD_BYTES + frame.body.len();
        visit(offset, frame);
        offset = next;
    }
    if offset == payload.len() { Ok(()) } else { Err(Bad::Records) }
}

fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (head, rest) = bytes.split_at_checked(RECORD_HEAD_BYTES)?;
    let body_bytes = u32_at(head, 0) as usize;
    let body = rest.get(..body_bytes).filter(|_| body_bytes <= RECORD_BYTES_MAX)?;
    Some(Frame { stream: u32_at(head, 4), kind: head[8], body })
}

fn check_magic(bytes: &[u8], magic: &[u8]) -> Result<(), Bad> {
    match bytes.starts_with(magic) {
        true => Ok(()),
        false if is_zero(bytes) => Err(Bad::Blank),
        false => Err(Bad::Magic),
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
