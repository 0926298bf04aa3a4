//! Opening: reads all segments, tells a torn end from damage, and leaves a log that can be gone on with.
//!
//! The chain of batches is followed from the oldest segment's header over all segments. Where it stops, all that lies
//! behind is searched, at block boundaries, for headers of this log. A batch is written only when all before it are
//! synced, and a segment's header is synced before its first batch. So a sound header behind the stop proves
//! damage; without one the stop is the torn end of what was being written when the process or the power went.
//!
//! Nothing on disk is changed before all was found good. Then the torn end is zeroed, and the newest header and batch
//! are written once more and synced: a killed process leaves writes that nobody synced, and a failed sync leaves
//! pages that look written and are not.

use std::collections::VecDeque;

use bytes::Bytes;
use mutant::Mutant;

use crate::disk::{Disk, DiskError, Operation, segment_file_name};
use crate::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, Bad, BatchHeader, FORMAT_VERSION, SegmentHeader, decode_records,
};
use crate::log::{Config, Tail};
use crate::reader::{CHUNK_BYTES, Reader};
use crate::record::{Position, Record};
use crate::segments::{Segment, Segments};

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// How many batches were read.
    pub batches: u64,
    /// How many records were visited.
    pub records: u64,
    /// Where the log begins: what an owner needs from below this place is gone. Default when the log is empty.
    pub first: Position,
    /// The torn end, if there was one.
    pub cut: Option<Cut>,
}

/// The end of a log that was being written when the process or the power went. It was zeroed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where.
    pub position: Position,
    /// From there to the last byte that was not zero.
    pub bytes: u64,
    /// What was found there.
    pub why: Bad,
}

/// Why a log cannot be opened. Nothing was changed on disk, except after [`OpenError::Disk`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// What was acknowledged cannot be read back.
    #[error(
        "log file {file} is damaged at offset {}: {why}. Acknowledged data is lost in this copy, so the log is not \
         used. Restore the node's folder, or set the log aside so that its replicas are made whole by their peers",
        position.offset
    )]
    Corrupt {
        /// File name of the segment.
        file: String,
        /// Where the sound part ends.
        position: Position,
        /// What is wrong there and what proves that it is no torn write.
        why: String,
    },
    /// The segment belongs to another log.
    #[error(
        "log file {file} belongs to log {found:016x}, this node's log is {expected:016x}. Move the file out of the \
         folder, or start the node with the folder it belongs to"
    )]
    Foreign {
        /// File name of the segment.
        file: String,
        /// The identity in the file.
        found: u64,
        /// The identity in the configuration.
        expected: u64,
    },
    /// The segment was written by another version of the program.
    #[error(
        "log file {file} has format {found}, and this version of capstan has format {FORMAT_VERSION}: start it with the \
         version that made it"
    )]
    Version {
        /// File name of the segment.
        file: String,
        /// The version in the file.
        found: u32,
    },
    /// The disk failed.
    #[error("{operation} log file {file} failed: {error}. Repair what the error tells and start again")]
    Disk {
        /// What was being done.
        operation: Operation,
        /// File name of the segment, or empty for the folder.
        file: String,
        /// What happened.
        error: DiskError,
    },
}

/// Reads the log on a disk and makes it ready.
pub(crate) fn recover(
    disk: &mut dyn Disk,
    config: &Config,
    visit: &mut dyn FnMut(Position, Record),
) -> Result<(Segments, Tail, Recovered), OpenError> {
    let mut numbers = disk.segments().map_err(failed(Operation::List, 0))?;
    numbers.sort_unstable();
    assert!(numbers.is_sorted_by(|a, b| a < b), "the disk lists each segment once: {numbers:?}");
    let mut recovery = Recovery::new(disk, config, visit);
    for &number in &numbers {
        recovery.read_segment(number)?;
    }
    recovery.finish(numbers.last().map_or(1, |newest| newest + 1))
}

struct Recovery<'a> {
    disk: &'a mut dyn Disk,
    config: &'a Config,
    visit: &'a mut dyn FnMut(Position, Record),
    /// Segments with a sound header.
    live: VecDeque<Segment>,
    /// Segments without one, how far they are not zero, and what their header is.
    blank: Vec<(Segment, u64, Bad)>,
    /// Where the chain stopped in the newest of `live`, and why.
    tail: Tail,
    stop: Bad,
    /// The last batch: its offset in the newest of `live`, and its length. None = that one has none.
    newest_batch: Option<(u64, u64)>,
    recovered: Recovered,
}

impl<'a> Recovery<'a> {
    fn new(
        disk: &'a mut dyn Disk,
        config: &'a Config,
        visit: &'a mut dyn FnMut(Position, Record),
    ) -> Recovery<'a> {
        Recovery {
            disk,
            config,
            visit,
            live: VecDeque::new(),
            blank: Vec::new(),
            tail: Tail { offset: 0, sequence: 1, chain: 0 },
            stop: Bad::Blank,
            newest_batch: None,
            recovered: Recovered::default(),
        }
    }

    fn read_segment(&mut self, number: u64) -> Result<(), OpenError> {
        let bytes = self.disk.segment_bytes(number).map_err(failed(Operation::List, number))?;
        let segment = Segment { number, bytes };
        let block = Reader::new(segment).view(self.disk, 0, BLOCK_BYTES)?;
        match SegmentHeader::decode(&block) {
            Ok(header) => {
                self.follow_segment(segment, header)?;
                self.follow_batches(segment)
            }
            Err(Bad::Version(found)) => Err(OpenError::Version { file: segment_file_name(number), found }),
            Err(bad) => {
                let dirty = self.search_blank(segment, bad)?;
                self.blank.push((segment, dirty, bad));
                Ok(())
            }
        }
    }

    /// Checks that a segment begins where the one before it stopped.
    fn follow_segment(&mut self, segment: Segment, header: SegmentHeader) -> Result<(), OpenError> {
        let (number, file) = (segment.number, segment_file_name(segment.number));
        if header.log_id != self.config.log_id {
            return Err(OpenError::Foreign { file, found: header.log_id, expected: self.config.log_id });
        }
        if header.segment != number {
            let why = format!("its header says that it is segment {}", header.segment);
            return Err(corrupt(Position { segment: number, offset: 0 }, why));
        }
        if self.live.is_empty() {
            self.recovered.first = Position { segment: number, offset: BLOCK_BYTES as u64 };
        } else if (header.first_sequence, header.chain) != (self.tail.sequence, self.tail.chain) {
            return Err(self.stopped_before(&file, header.first_sequence));
        }
        let before = self.live.back().map_or(0, |before| before.number);
        assert!(before < number, "segment {number} is read after segment {before}");
        self.tail = Tail { offset: BLOCK_BYTES as u64, sequence: header.first_sequence, chain: header.chain };
        self.newest_batch = None;
        self.live.push_back(segment);
        Ok(())
    }

    fn follow_batches(&mut self, segment: Segment) -> Result<(), OpenError> {
        let mut reader = Reader::new(segment);
        loop {
            match self.tail.next_batch(self.disk, &mut reader, self.config.log_id)? {
                Ok((header, batch)) => self.accept(segment, header, &batch)?,
                Err(bad) => {
                    self.stop = bad;
                    return Ok(());
                }
            }
        }
    }

    fn accept(&mut self, segment: Segment, header: BatchHeader, batch: &Bytes) -> Result<(), OpenError> {
        let position = Position { segment: segment.number, offset: header.offset };
        let end = header.offset + header.batch_bytes();
        assert!(
            end <= segment.bytes,
            "a batch at {position} ends at {end}, its segment at {}",
            segment.bytes
        );
        assert_eq!(header.sequence, self.tail.sequence, "number of the batch at {position}");
        let payload = &batch[BATCH_HEADER_BYTES..][..header.payload_bytes as usize];
        let start = header.offset + BATCH_HEADER_BYTES as u64;
        decode_records(payload, header.records, &mut |offset, record| {
            (self.visit)(Position { offset: start + offset as u64, ..position }, record);
        })
        .map_err(|bad| corrupt(position, format!("batch {}: {bad}", header.sequence)))?;
        self.newest_batch = Some((header.offset, header.batch_bytes()));
        self.tail = Tail { offset: end, sequence: header.sequence + 1, chain: header.crc };
        self.recovered.batches += 1;
        self.recovered.records += u64::from(header.records);
        Ok(())
    }

    /// Searches a segment without a sound header: a batch in it proves that it had one.
    fn search_blank(&mut self, segment: Segment, bad: Bad) -> Result<u64, OpenError> {
        let log_id = self.config.log_id;
        Reader::new(segment).search(self.disk, 0, &mut |offset, header| {
            if !header.is_at(log_id, segment.number, offset) {
                return Ok(());
            }
            let why = format!("the segment's header: {bad}, but batch {} lies behind it", header.sequence);
            Err(corrupt(Position { segment: segment.number, offset: 0 }, why))
        })
    }

    /// Searches what lies behind the stop in the newest segment.
    fn search_tail(&mut self, newest: Segment) -> Result<u64, OpenError> {
        let (tail, stop, log_id) = (self.tail, self.stop, self.config.log_id);
        Reader::new(newest).search(self.disk, tail.offset, &mut |offset, header| {
            if !header.is_at(log_id, newest.number, offset) || tail.continues_with(&header) {
                return Ok(());
            }
            let why =
                format!("batch {}: {stop}, but batch {} lies at {offset}", tail.sequence, header.sequence);
            Err(corrupt(Position { segment: newest.number, offset: tail.offset }, why))
        })
    }

    fn stopped_before(&self, file: &str, first_sequence: u64) -> OpenError {
        let segment = self.live.back().expect("the chain has begun").number;
        let why = format!(
            "batch {}: {}, but {file} goes on with batch {first_sequence}",
            self.tail.sequence, self.stop
        );
        corrupt(Position { segment, offset: self.tail.offset }, why)
    }

    fn finish(mut self, next: u64) -> Result<(Segments, Tail, Recovered), OpenError> {
        let newest = self.live.back().copied();
        if let Some(newest) = newest {
            let Tail { offset, .. } = self.tail;
            assert!(offset <= newest.bytes, "the log ends at {offset}, its segment at {}", newest.bytes);
            let dirty = match mutant::is(Mutant::LogTailTruncated) {
                true => newest.bytes,
                false => self.search_tail(newest)?,
            };
            self.cut(newest, self.tail.offset, dirty, self.stop)?;
            if !mutant::is(Mutant::RecoveredTailUnsynced) {
                self.settle(newest)?;
            }
        }
        let (mut spares, mut doomed) = (VecDeque::new(), VecDeque::new());
        for (segment, dirty, bad) in std::mem::take(&mut self.blank) {
            let above = newest.is_none_or(|newest| segment.number > newest.number);
            if above && segment.bytes >= self.config.segment_bytes {
                self.cut(segment, 0, dirty, bad)?;
                spares.push_back(segment);
            } else {
                doomed.push_back(segment.number);
            }
        }
        let segments = Segments::new(self.live, spares, doomed, next, self.config.segment_bytes);
        Ok((segments, self.tail, self.recovered))
    }

    /// Zeroes what is not zero from an offset on.
    fn cut(&mut self, segment: Segment, offset: u64, dirty: u64, why: Bad) -> Result<(), OpenError> {
        let Segment { number, bytes } = segment;
        assert!(dirty <= bytes, "segment {number} of {bytes} bytes is not zero up to {dirty}");
        if dirty <= offset {
            return Ok(());
        }
        let mut at = offset;
        while at < dirty {
            let zeros = Bytes::from(vec![0; CHUNK_BYTES.min((dirty - at) as usize)]);
            let end = at + zeros.len() as u64;
            self.disk.write(number, at, zeros).map_err(failed(Operation::Write, number))?;
            at = end;
        }
        self.disk.sync(number).map_err(failed(Operation::Sync, number))?;
        let position = Position { segment: number, offset };
        self.recovered.cut.get_or_insert(Cut { position, bytes: dirty - offset, why });
        Ok(())
    }

    /// Makes durable what the last process may not have synced.
    fn settle(&mut self, newest: Segment) -> Result<(), OpenError> {
        let number = newest.number;
        let header = (0, BLOCK_BYTES as u64);
        for (offset, bytes) in [Some(header), self.newest_batch].into_iter().flatten() {
            let read = self.disk.read(number, offset, bytes as usize);
            let bytes = read.map_err(failed(Operation::Read, number))?;
            self.disk.write(number, offset, bytes).map_err(failed(Operation::Write, number))?;
        }
        self.disk.sync(number).map_err(failed(Operation::Sync, number))
    }
}

impl Tail {
    /// The batch that continues the chain, or why there is none.
    fn next_batch(
        &self,
        disk: &mut dyn Disk,
        reader: &mut Reader,
        log_id: u64,
    ) -> Result<Result<(BatchHeader, Bytes), Bad>, OpenError> {
        let header = match BatchHeader::decode(&reader.view(disk, self.offset, BATCH_HEADER_BYTES)?) {
            Ok(header) => header,
            Err(bad) => return Ok(Err(bad)),
        };
        if !header.is_at(log_id, reader.segment().number, self.offset) || !self.continues_with(&header) {
            return Ok(Err(Bad::Chain));
        }
        let batch = reader.view(disk, self.offset, header.batch_bytes() as usize)?;
        Ok(header.check(&batch).map(|()| (header, batch)))
    }

    fn continues_with(&self, header: &BatchHeader) -> bool {
        (header.offset, header.sequence, header.previous) == (self.offset, self.sequence, self.chain)
    }
}

pub(crate) fn failed(operation: Operation, segment: u64) -> impl FnOnce(DiskError) -> OpenError {
    move |error| {
        let file = if segment == 0 { String::new() } else { segment_file_name(segment) };
        OpenError::Disk { operation, file, error }
    }
}

fn corrupt(position: Position, why: String) -> OpenError {
    OpenError::Corrupt { file: segment_file_name(position.segment), position, why }
}
