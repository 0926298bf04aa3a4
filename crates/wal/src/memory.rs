//! A disk in memory that can do to a log what real ones do: lose what was not synced, tear writes, flip bits, be
//! full, fail. Nothing here is random: the caller decides, and can decide from a seed.
//!
//! What is kept apart: what a read sees, what a power loss leaves, and the writes between the two. A failed sync drops
//! these writes, as operating systems do: they stay readable, and no later sync brings them to the disk.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use crate::disk::{Disk, DiskError, Io, Operation};

/// What a disk keeps or loses as a whole when the power goes.
const SECTOR_BYTES: usize = 512;

/// How a process ends without saying goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: completed writes stay readable, synced or not.
    Process,
    /// The power goes: of all that was not synced, some sectors are kept.
    Power,
}

/// A disk in memory.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    segments: BTreeMap<u64, Stored>,
    pending: Vec<(u64, Io)>,
    completed: Vec<(u64, Result<(), DiskError>)>,
    faults: Vec<(Operation, DiskError)>,
    bytes_max: Option<u64>,
    at_once: bool,
}

#[derive(Clone, Default)]
struct Stored {
    /// What a read sees.
    seen: Vec<u8>,
    /// What a power loss leaves.
    durable: Vec<u8>,
    /// What was written since the last sync, oldest first.
    unsynced: Vec<(u64, Bytes)>,
}

impl MemoryDisk {
    /// A disk whose work completes when it is told so.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// A disk whose work completes in `submit`.
    pub fn at_once() -> MemoryDisk {
        MemoryDisk { at_once: true, ..MemoryDisk::default() }
    }

    /// What was submitted and is not complete, oldest first.
    pub fn pending(&self) -> &[(u64, Io)] {
        &self.pending
    }

    /// Does what was submitted under a token.
    ///
    /// # Panics
    /// When there is no such token.
    pub fn complete(&mut self, token: u64) {
        let index = self.pending.iter().position(|(pending, _)| *pending == token);
        let (token, io) = self.pending.remove(index.expect("the token is pending"));
        let result = self.perform(io);
        self.completed.push((token, result));
    }

    /// Does the oldest of what was submitted; false = there is none.
    pub fn complete_next(&mut self) -> bool {
        let next = self.pending.first().map(|(token, _)| *token);
        next.inspect(|&token| self.complete(token)).is_some()
    }

    /// The next operation of this kind fails; repeated calls have the ones after it fail too.
    pub fn fail_next(&mut self, operation: Operation, error: DiskError) {
        self.faults.push((operation, error));
    }

    /// The disk is full when its segments would be longer than this in all. None = never.
    pub fn limit_bytes(&mut self, bytes_max: Option<u64>) {
        self.bytes_max = bytes_max;
    }

    /// Ends the process that used the disk: nothing is pending any more. `keep` is asked, in the order of
    /// submission, for each creation and removal under way and for each sector of a write that was not synced
    /// (after [`Crash::Process`]: that was not complete), whether it came to be.
    pub fn crash(&mut self, crash: Crash, keep: &mut dyn FnMut() -> bool) {
        for (_, io) in std::mem::take(&mut self.pending) {
            self.perform_partly(io, crash, keep);
        }
        if crash == Crash::Power {
            self.segments.values_mut().for_each(|stored| stored.lose_power(keep));
        }
        self.completed.clear();
        self.faults.clear();
    }

    /// Flips one bit of a segment, for good.
    pub fn flip(&mut self, segment: u64, offset: u64, bit: u8) {
        let stored = self.stored(segment);
        stored.seen[offset as usize] ^= 1 << bit;
        stored.durable[offset as usize] ^= 1 << bit;
    }

    /// Cuts a segment short, for good.
    pub fn truncate(&mut self, segment: u64, bytes: u64) {
        let stored = self.stored(segment);
        stored.seen.truncate(bytes as usize);
        stored.durable.truncate(bytes as usize);
        stored.unsynced.clear();
    }

    /// Puts a segment with these bytes there, for good.
    pub fn put(&mut self, segment: u64, bytes: &[u8]) {
        let stored = Stored { seen: bytes.to_vec(), durable: bytes.to_vec(), unsynced: Vec::new() };
        self.segments.insert(segment, stored);
    }

    /// What a read of the whole segment sees, if it is there.
    pub fn bytes(&self, segment: u64) -> Option<&[u8]> {
        self.segments.get(&segment).map(|stored| &stored.seen[..])
    }

    fn stored(&mut self, segment: u64) -> &mut Stored {
        self.segments.get_mut(&segment).expect("the segment is there")
    }

    fn perform(&mut self, io: Io) -> Result<(), DiskError> {
        match io {
            Io::Create { segment, bytes } => self.create(segment, bytes),
            Io::Write { segment, offset, bytes } => self.write(segment, offset, bytes),
            Io::Sync { segment } => self.sync(segment),
            Io::Remove { segment } => {
                self.fault(Operation::Remove)?;
                self.segments.remove(&segment);
                Ok(())
            }
        }
    }

    fn create(&mut self, segment: u64, bytes: u64) -> Result<(), DiskError> {
        self.fault(Operation::Create)?;
        let used: u64 = self.segments.values().map(|stored| stored.seen.len() as u64).sum();
        if self.bytes_max.is_some_and(|bytes_max| used + bytes > bytes_max) {
            return Err(DiskError::Full);
        }
        self.put(segment, &vec![0; bytes as usize]);
        Ok(())
    }

    fn perform_partly(&mut self, io: Io, crash: Crash, keep: &mut dyn FnMut() -> bool) {
        match io {
            Io::Create { .. } | Io::Remove { .. } => {
                if keep() {
                    // A refusal is as if it had not been done, and nobody waits for the answer.
                    let _ = self.perform(io);
                }
            }
            Io::Write { segment, offset, bytes } => {
                if let Some(stored) = self.segments.get_mut(&segment) {
                    match crash {
                        Crash::Power => stored.unsynced.push((offset, bytes)),
                        Crash::Process => stored.write_partly(offset, bytes, keep),
                    }
                }
            }
            Io::Sync { .. } => {}
        }
    }

    fn fault(&mut self, operation: Operation) -> Result<(), DiskError> {
        match self.faults.iter().position(|(fault, _)| *fault == operation) {
            Some(index) => Err(self.faults.remove(index).1),
            None => Ok(()),
        }
    }

    fn found(&mut self, segment: u64) -> Result<&mut Stored, DiskError> {
        self.segments.get_mut(&segment).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Stored {
    fn lose_power(&mut self, keep: &mut dyn FnMut() -> bool) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            for (at, sector) in sectors(offset, &bytes) {
                if keep() {
                    put(&mut self.durable, at, &sector);
                }
            }
        }
        self.seen = self.durable.clone();
    }

    fn write_partly(&mut self, offset: u64, bytes: Bytes, keep: &mut dyn FnMut() -> bool) {
        for (at, sector) in sectors(offset, &bytes) {
            if keep() {
                put(&mut self.seen, at, &sector);
                self.unsynced.push((at, sector));
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn submit(&mut self, token: u64, io: Io) {
        let before = self.pending.last().map_or(0, |(before, _)| *before);
        assert!(token > before, "token {token} is submitted after {before}");
        self.pending.push((token, io));
        if self.at_once {
            self.complete(token);
        }
    }

    fn completions(&mut self, into: &mut Vec<(u64, Result<(), DiskError>)>) {
        into.append(&mut self.completed);
    }

    fn segments(&mut self) -> Result<Vec<u64>, DiskError> {
        self.fault(Operation::List)?;
        Ok(self.segments.keys().copied().collect())
    }

    fn segment_bytes(&mut self, segment: u64) -> Result<u64, DiskError> {
        Ok(self.found(segment)?.seen.len() as u64)
    }

    fn read(&mut self, segment: u64, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        self.fault(Operation::Read)?;
        let bytes = self.found(segment)?.seen.get(offset as usize..offset as usize + len);
        bytes.map(Bytes::copy_from_slice).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write(&mut self, segment: u64, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        self.fault(Operation::Write)?;
        let stored = self.found(segment)?;
        let end = offset as usize + bytes.len();
        assert!(end <= stored.seen.len(), "a write up to {end} of segment {segment}, which is shorter");
        put(&mut stored.seen, offset, &bytes);
        stored.unsynced.push((offset, bytes));
        Ok(())
    }

    fn sync(&mut self, segment: u64) -> Result<(), DiskError> {
        let fault = self.fault(Operation::Sync);
        if matches!(fault, Err(DiskError::Short { .. })) {
            return fault; // The file was not opened.
        }
        let stored = self.found(segment)?;
        for (offset, bytes) in std::mem::take(&mut stored.unsynced) {
            if fault.is_ok() {
                put(&mut stored.durable, offset, &bytes);
            }
        }
        fault
    }
}

fn sectors(offset: u64, bytes: &Bytes) -> impl Iterator<Item = (u64, Bytes)> {
    let starts = (0..bytes.len()).step_by(SECTOR_BYTES);
    starts.map(move |at| (offset + at as u64, bytes.slice(at..bytes.len().min(at + SECTOR_BYTES))))
}

fn put(bytes: &mut [u8], offset: u64, part: &[u8]) {
    bytes[offset as usize..][..part.len()].copy_from_slice(part);
}
