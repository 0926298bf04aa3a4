//! The segments of a running log: which hold records, which are spare, which are being made or removed.
//!
//! One spare is always made ahead, so that the log finds out that the disk is full before it needs the room.
//! Removals go oldest first and one at a time: after a power loss no newer one is gone while an older one is there.

use std::collections::VecDeque;

use crate::disk::{Disk, DiskError, Io};
use crate::format::BLOCK_BYTES;

/// One segment and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub number: u64,
    pub bytes: u64,
}

impl Segment {
    /// Whether an empty segment has room for a batch behind its header.
    pub(crate) fn holds(&self, batch_bytes: u64) -> bool {
        self.has_room(BLOCK_BYTES as u64, batch_bytes)
    }

    /// Whether a batch has room at an offset.
    pub(crate) fn has_room(&self, offset: u64, batch_bytes: u64) -> bool {
        let block = BLOCK_BYTES as u64;
        assert!(offset.is_multiple_of(block), "a batch at {offset}, not on a boundary of {block}");
        assert!(batch_bytes.is_multiple_of(block), "a batch of {batch_bytes} bytes, not of whole blocks");
        offset + batch_bytes <= self.bytes
    }
}

/// Work that a full disk may refuse: it then rests until it is asked for again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gate {
    refused: bool,
    resting: bool,
}

impl Gate {
    pub(crate) fn refuse(&mut self) {
        *self = Gate { refused: true, resting: true };
    }

    pub(crate) fn retry(&mut self) {
        self.resting = false;
    }

    pub(crate) fn succeed(&mut self) {
        *self = Gate::default();
    }

    /// The last try was refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Nobody asked for another try yet.
    pub(crate) fn is_resting(&self) -> bool {
        self.resting
    }
}

pub(crate) struct Segments {
    /// With records, oldest first; the last one is written to. Empty only before the first batch ever.
    live: VecDeque<Segment>,
    /// Zero-filled, lowest number first, all above the live ones.
    spares: VecDeque<Segment>,
    /// Number of the next segment to make.
    next: u64,
    /// Length of a common segment.
    bytes: u64,
    /// Length of a batch that waits because no spare can hold it; else 0.
    needed: u64,
    creating: Option<(u64, Segment)>,
    creation: Gate,
    doomed: VecDeque<u64>,
    removing: Option<u64>,
    removal: Gate,
}

impl Segments {
    /// The segments that recovery found. `next` is above all of them.
    pub(crate) fn new(
        live: VecDeque<Segment>,
        spares: VecDeque<Segment>,
        doomed: VecDeque<u64>,
        next: u64,
        bytes: u64,
    ) -> Segments {
        let all: Vec<u64> = live.iter().chain(&spares).map(|segment| segment.number).chain([next]).collect();
        assert!(all.is_sorted_by(|a, b| a < b), "segments with records, spares, the next one: {all:?}");
        assert!(
            doomed.iter().all(|number| all.binary_search(number).is_err()),
            "kept: {all:?}, not: {doomed:?}"
        );
        let (creation, removal) = (Gate::default(), Gate::default());
        Segments {
            live,
            spares,
            next,
            bytes,
            needed: 0,
            creating: None,
            creation,
            doomed,
            removing: None,
            removal,
        }
    }

    /// The segment that is written to.
    pub(crate) fn newest(&self) -> Option<Segment> {
        self.live.back().copied()
    }

    /// The lowest number the first segment can have, before there is one.
    pub(crate) fn first_number(&self) -> u64 {
        let spare = self.spares.front().or(self.creating.as_ref().map(|(_, segment)| segment));
        spare.map_or(self.next, |segment| segment.number)
    }

    /// Length of all segments that hold records but the newest.
    pub(crate) fn bytes_before_newest(&self) -> u64 {
        self.live.iter().rev().skip(1).map(|segment| segment.bytes).sum()
    }

    /// The longest batch that the spares have room for; 0 without any.
    pub(crate) fn spare_room(&self) -> u64 {
        self.spares.iter().map(|spare| spare.bytes.saturating_sub(BLOCK_BYTES as u64)).max().unwrap_or(0)
    }

    /// Makes a spare that holds the batch the newest segment. Spares too small for it are given up. When there is
    /// none, one of the right length will be made.
    pub(crate) fn advance(&mut self, batch_bytes: u64) -> Option<Segment> {
        let Some(index) = self.spares.iter().position(|spare| spare.holds(batch_bytes)) else {
            self.needed = batch_bytes;
            return None;
        };
        self.doomed.extend(self.spares.drain(..index).map(|spare| spare.number));
        let segment = self.spares.pop_front().expect("it was found");
        let newest = self.newest().map_or(0, |newest| newest.number);
        assert!(segment.number > newest, "segment {} is to follow segment {newest}", segment.number);
        self.live.push_back(segment);
        self.needed = 0;
        Some(segment)
    }

    /// Gives up the segments below a number; the newest one never.
    pub(crate) fn release(&mut self, below: u64) {
        while self.live.len() > 1 && self.live[0].number < below {
            let given_up = self.live.pop_front().expect("there are two").number;
            let oldest = self.live[0].number;
            assert!(given_up < oldest, "segment {given_up} is given up, and {oldest} is kept");
            self.doomed.push_back(given_up);
            self.removal.retry();
        }
    }

    /// The next segment cannot be made.
    pub(crate) fn is_refused(&self) -> bool {
        self.creation.is_refused()
    }

    pub(crate) fn retry(&mut self) {
        self.creation.retry();
        self.removal.retry();
    }

    /// Submits what there is to do.
    pub(crate) fn submit(&mut self, token: &mut u64, disk: &mut dyn Disk) {
        self.submit_creation(token, disk);
        self.submit_removal(token, disk);
    }

    /// Takes a completion; false = the token is not of these.
    pub(crate) fn complete(&mut self, token: u64, result: &Result<(), DiskError>) -> Result<bool, Io> {
        if let Some((_, segment)) = self.creating.take_if(|(creating, _)| *creating == token) {
            self.created(segment, result)?;
        } else if self.removing == Some(token) {
            self.removing = None;
            self.removed(result)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn created(&mut self, segment: Segment, result: &Result<(), DiskError>) -> Result<(), Io> {
        match result {
            Ok(()) => {
                self.creation.succeed();
                let before = self.spares.back().copied().or(self.newest()).map_or(0, |before| before.number);
                assert!(before < segment.number, "segment {} was made after {before}", segment.number);
                self.spares.push_back(segment);
            }
            Err(error) if error.may_pass() => self.creation.refuse(),
            Err(_) => return Err(Io::Create { segment: segment.number, bytes: segment.bytes }),
        }
        Ok(())
    }

    fn removed(&mut self, result: &Result<(), DiskError>) -> Result<(), Io> {
        match result {
            Ok(()) => {
                self.doomed.pop_front();
                self.removal.succeed();
                // There is room now that was not there before.
                self.creation.retry();
            }
            // Some file systems need room to remove.
            Err(error) if error.may_pass() => self.removal.refuse(),
            Err(_) => return Err(Io::Remove { segment: self.doomed[0] }),
        }
        Ok(())
    }

    fn submit_creation(&mut self, token: &mut u64, disk: &mut dyn Disk) {
        let wanted = !self.spares.iter().any(|spare| spare.holds(self.needed));
        if !wanted || self.creating.is_some() || self.creation.is_resting() {
            return;
        }
        let segment = Segment { number: self.next, bytes: self.bytes.max(BLOCK_BYTES as u64 + self.needed) };
        *token += 1;
        self.next += 1;
        self.creating = Some((*token, segment));
        disk.submit(*token, Io::Create { segment: segment.number, bytes: segment.bytes });
    }

    fn submit_removal(&mut self, token: &mut u64, disk: &mut dyn Disk) {
        let Some(&segment) = self.doomed.front() else { return };
        if self.removing.is_none() && !self.removal.is_resting() {
            let newest = self.newest().map_or(0, |newest| newest.number);
            assert!(segment != newest, "segment {segment} is written to, and about to be removed");
            *token += 1;
            self.removing = Some(*token);
            disk.submit(*token, Io::Remove { segment });
        }
    }
}
