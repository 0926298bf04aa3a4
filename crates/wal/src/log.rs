//! The running log: batches on their way to the disk.

use crate::disk::{Disk, DiskError, Io, Operation, segment_file_name};
use crate::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, SegmentHeader, batch_bytes, encode_batch};
use crate::queue::{Plan, Queue};
use crate::record::{Position, Record};
use crate::recovery::{self, OpenError, Recovered};
use crate::segments::{Gate, Segments};

use bytes::Bytes;
use mutant::Mutant;

/// How a log is shaped. The sizes may change from one opening to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Identity of the log, drawn at random when its folder is made and kept by the owner: a segment with another
    /// one is refused.
    pub log_id: u64,
    /// Length of a segment, a multiple of 4 KiB. 16 MiB: removed in useful portions, and made again within a
    /// fraction of a second.
    pub segment_bytes: u64,
    /// Longest batch, except for a single longer record. 8 MiB: long enough for any disk's bandwidth, short enough
    /// that what comes meanwhile waits some milliseconds only.
    pub batch_bytes_max: u64,
}

impl Config {
    /// The usual sizes.
    pub fn new(log_id: u64) -> Config {
        Config { log_id, segment_bytes: 16 << 20, batch_bytes_max: 8 << 20 }
    }

    fn check(&self) {
        let block = BLOCK_BYTES as u64;
        assert!(
            self.segment_bytes.is_multiple_of(block) && self.segment_bytes >= 2 * block,
            "segment_bytes must be a multiple of 4096 and at least 8192, not {}",
            self.segment_bytes
        );
        assert!(self.batch_bytes_max >= block, "batch_bytes_max must be at least 4096");
        assert!(self.batch_bytes_max <= 1 << 30, "batch_bytes_max must be at most 1 GiB");
    }
}

/// The disk failed in a way after which nobody knows what it holds. The process must end; the log recovers at the
/// next start. What was not durable is in doubt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{operation} log file {file} failed: {error}; what the disk kept is unknown, so the node must end now \
     and recover from its log at the next start (check the disk first)"
)]
pub struct Fatal {
    /// What was being done.
    pub operation: Operation,
    /// File name of the segment.
    pub file: String,
    /// What happened.
    pub error: DiskError,
}

/// A write-ahead log. See the crate's text for what it guarantees.
pub struct Log {
    config: Config,
    queue: Queue,
    segments: Segments,
    tail: Tail,
    flight: Option<Flight>,
    /// Writing was refused by a full disk, which happens where written zeros reserve no room, or for want of a file descriptor.
    writing: Gate,
    /// What was refused last.
    refusal: Option<DiskError>,
    durable: u64,
    token: u64,
    fatal: Option<Fatal>,
}

/// Where the chain of batches ends, those in flight included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Offset of the next batch in the newest segment.
    pub offset: u64,
    /// Number of the next batch.
    pub sequence: u64,
    /// Checksum of the last batch.
    pub chain: u32,
}

/// The one batch on its way to the disk.
struct Flight {
    step: Step,
    /// Of the step, once submitted.
    token: Option<u64>,
    segment: u64,
    offset: u64,
    /// Empty when the segment has its header already.
    header: Bytes,
    batch: Bytes,
    /// Durable when this batch is.
    ticket: u64,
}

/// A new segment's header is synced before its first batch: from then on a batch behind a bad header proves damage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    WriteHeader,
    SyncHeader,
    WriteBatch,
    SyncBatch,
}

impl Log {
    /// Reads all segments and calls `visit` for each valid record in order. A torn end is cut, what was read is made
    /// durable, and the log goes on behind it. On an error, forget what was visited.
    pub fn open(
        disk: &mut dyn Disk,
        config: Config,
        visit: &mut dyn FnMut(Position, Record),
    ) -> Result<(Log, Recovered), OpenError> {
        config.check();
        let (segments, tail, recovered) = recovery::recover(disk, &config, visit)?;
        let log = Log {
            config,
            queue: Queue::default(),
            segments,
            tail,
            flight: None,
            writing: Gate::default(),
            refusal: None,
            durable: 0,
            token: 0,
            fatal: None,
        };
        Ok((log, recovered))
    }

    /// Queues records for the next batch. Returns the append's ticket, from 1 and rising by one per call: they are
    /// safe when [`Log::durable`] reaches it. An append of nothing is durable with everything before it.
    ///
    /// # Panics
    /// When a body is longer than [`RECORD_BYTES_MAX`](crate::RECORD_BYTES_MAX).
    pub fn append(&mut self, records: Vec<Record>) -> u64 {
        let ticket = self.queue.push(records);
        assert!(ticket > self.durable, "append {ticket} is new, and {} is durable", self.durable);
        if self.is_idle() {
            self.durable = ticket;
        }
        ticket
    }

    /// Drives the log as far as the disk lets it: takes completions, forms the next batch, submits. Call it after
    /// [`Log::open`], [`Log::append`], [`Log::release`] and [`Log::retry`], and when the disk has completions.
    pub fn turn(&mut self, disk: &mut dyn Disk) -> Result<(), Fatal> {
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        let mut completions = Vec::new();
        loop {
            self.submit(disk);
            disk.completions(&mut completions);
            if completions.is_empty() {
                return Ok(());
            }
            for (token, result) in completions.drain(..) {
                self.complete(token, result)?;
            }
        }
    }

    /// The highest ticket that is durable, and all below it; 0 = none yet.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Everything appended from now on will lie at or after this place.
    pub fn head(&self) -> Position {
        match self.segments.newest() {
            Some(newest) => {
                let Tail { offset, .. } = self.tail;
                assert!(offset <= newest.bytes, "the log ends at {offset}, its segment at {}", newest.bytes);
                Position { segment: newest.number, offset }
            }
            None => Position { segment: self.segments.first_number(), offset: 0 },
        }
    }

    /// Nothing below this place is needed any more: whole segments below it are removed, the newest never. What
    /// replaces their records must be durable already, in this log or elsewhere.
    ///
    /// # Panics
    /// When the place is behind the head: nothing is there that could be given up.
    pub fn release(&mut self, below: Position) {
        let head = self.head();
        assert!(below <= head, "release up to {below}, and the log ends at {head}");
        self.segments.release(below.segment);
    }

    /// The disk is full, or a file cannot be opened: the next segment cannot be made. The owner must refuse new work. What was appended goes on
    /// into the rest of the newest segment and then waits. Tried again when a segment was removed and by [`Log::retry`].
    pub fn is_full(&self) -> bool {
        self.segments.is_refused() || self.writing.is_refused()
    }

    /// What keeps it from growing, when it is full.
    pub fn refusal(&self) -> Option<&DiskError> {
        self.refusal.as_ref().filter(|_| self.is_full())
    }

    /// Has the next turn try again what was refused.
    pub fn retry(&mut self) {
        self.segments.retry();
        self.writing.retry();
    }

    /// Bytes of the disk that hold records: what [`Log::release`] could give back at most, and the newest segment up
    /// to the head. The spare is not in it.
    pub fn bytes_live(&self) -> u64 {
        self.segments.bytes_before_newest() + self.tail.offset
    }

    /// Bytes that were appended and are in no batch yet: what the owner bounds.
    pub fn bytes_queued(&self) -> u64 {
        self.queue.bytes() as u64
    }

    /// Nothing waits to become durable.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flight.is_none()
    }

    fn submit(&mut self, disk: &mut dyn Disk) {
        if self.flight.is_none() {
            self.flight = self.form_batch();
        }
        if let Some(flight) = &mut self.flight
            && flight.token.is_none()
            && !self.writing.is_resting()
        {
            self.token += 1;
            flight.token = Some(self.token);
            disk.submit(self.token, flight.io());
        }
        self.segments.submit(&mut self.token, disk);
    }

    fn form_batch(&mut self) -> Option<Flight> {
        let plan = self.queue.plan(self.payload_bytes_max())?;
        let batch_bytes = batch_bytes(plan.payload_bytes);
        let fits =
            self.segments.newest().is_some_and(|newest| newest.has_room(self.tail.offset, batch_bytes));
        let header = if fits { Bytes::new() } else { self.begin_segment(batch_bytes)? };
        Some(self.encode(plan, header))
    }

    /// Batches are cut to what the newest segment or the spare holds: only a record that is longer than a segment
    /// needs one of its own length, and a full disk does not keep the rest of the newest from being used.
    fn payload_bytes_max(&self) -> usize {
        let rest = self.segments.newest().map_or(0, |newest| newest.bytes.saturating_sub(self.tail.offset));
        let room = rest.max(self.segments.spare_room());
        let batch_bytes = self.config.batch_bytes_max.min(room) as usize / BLOCK_BYTES * BLOCK_BYTES;
        batch_bytes.saturating_sub(BATCH_HEADER_BYTES)
    }

    fn begin_segment(&mut self, batch_bytes: u64) -> Option<Bytes> {
        assert!(self.flight.is_none(), "a segment begins while a batch is on its way to the one before");
        let segment = self.segments.advance(batch_bytes)?;
        self.tail.offset = BLOCK_BYTES as u64;
        let header = SegmentHeader {
            log_id: self.config.log_id,
            segment: segment.number,
            first_sequence: self.tail.sequence,
            chain: self.tail.chain,
        };
        Some(header.encode())
    }

    fn encode(&mut self, plan: Plan, segment_header: Bytes) -> Flight {
        tracing::trace!("queued records have become a batch");
        let Position { segment, offset } = self.head();
        let (header, batch) = encode_batch(
            BatchHeader {
                log_id: self.config.log_id,
                segment,
                offset,
                sequence: self.tail.sequence,
                previous: self.tail.chain,
                ..BatchHeader::default()
            },
            &self.queue.take(plan),
        );
        let is_planned = (header.payload_bytes as usize, header.records as usize);
        assert_eq!(is_planned, (plan.payload_bytes, plan.count), "bytes and records as planned");
        let room = self.segments.newest().is_some_and(|newest| newest.has_room(offset, batch.len() as u64));
        assert!(room, "a batch of {} bytes at {segment}:{offset} leaves its segment", batch.len());
        self.tail =
            Tail { offset: offset + batch.len() as u64, sequence: header.sequence + 1, chain: header.crc };
        let step = if segment_header.is_empty() { Step::WriteBatch } else { Step::WriteHeader };
        let ticket = self.queue.taken();
        Flight { step, token: None, segment, offset, header: segment_header, batch, ticket }
    }

    fn complete(&mut self, token: u64, result: Result<(), DiskError>) -> Result<(), Fatal> {
        if let Err(error) = &result
            && error.may_pass()
        {
            self.refusal = Some(error.clone());
        }
        let completed = match self.segments.complete(token, &result) {
            Ok(true) => Ok(()),
            Ok(false) => self.complete_step(token, &result),
            Err(io) => Err(io),
        };
        completed.map_err(|io| {
            let error = result.expect_err("only a failure is fatal");
            let file = segment_file_name(io.segment());
            self.fatal.insert(Fatal { operation: io.operation(), file, error }).clone()
        })
    }

    fn complete_step(&mut self, token: u64, result: &Result<(), DiskError>) -> Result<(), Io> {
        let flight = self.flight.as_mut().filter(|flight| flight.token == Some(token));
        let flight = flight.expect("the disk completes only what was submitted");
        match (result, flight.step) {
            (Ok(()), Step::SyncBatch) => self.finish_batch(),
            (Ok(()), Step::WriteBatch) if mutant::is(Mutant::AcknowledgeBeforeSync) => self.finish_batch(),
            (Ok(()), _) => {
                flight.advance();
                self.writing.succeed();
            }
            // A sync that was begun and failed is final, whatever it says.
            (Err(DiskError::Short { .. }), _)
            | (Err(DiskError::Full), Step::WriteHeader | Step::WriteBatch) => {
                flight.token = None;
                self.writing.refuse();
            }
            (Err(_), _) => return Err(flight.io()),
        }
        Ok(())
    }

    fn finish_batch(&mut self) {
        let flight = self.flight.take().expect("a batch is in flight");
        let (done, taken) = (flight.ticket, self.queue.taken());
        assert!(done >= self.durable, "ticket {done} is durable after {}", self.durable);
        assert!(done <= taken, "ticket {done} is durable, and {taken} went into batches");
        tracing::trace!("a batch is durable");
        // Appends of nothing that came meanwhile have nothing to wait for.
        self.durable = if self.queue.is_empty() { taken } else { done };
    }
}

impl Flight {
    fn io(&self) -> Io {
        let segment = self.segment;
        match self.step {
            Step::WriteHeader => Io::Write { segment, offset: 0, bytes: self.header.clone() },
            Step::WriteBatch => Io::Write { segment, offset: self.offset, bytes: self.batch.clone() },
            Step::SyncHeader | Step::SyncBatch => Io::Sync { segment },
        }
    }

    fn advance(&mut self) {
        self.token = None;
        self.step = match self.step {
            Step::WriteHeader => Step::SyncHeader,
            Step::SyncHeader => Step::WriteBatch,
            Step::WriteBatch => Step::SyncBatch,
            Step::SyncBatch => unreachable!("a batch that is synced is finished"),
        };
    }
}
