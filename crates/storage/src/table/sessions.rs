//! Sessions: what a shard remembers of requests, so that one that is sent again happens once.
//!
//! A record per unanswered request, in the engine beside the data it changed; the requests' numbers in memory as well.
//! A record takes the lowest slot that is free: one whose request has been answered. So a client takes the room of as
//! many records as it ever had unanswered at a time. An answer of more than [`ANSWER_BYTES_KEPT`] is not kept, only that
//! there was one: whoever asks again is told that the request happened, and is left in doubt about what it was answered.
//!
//! A request with an id, at apply:
//!
//! 1. its record is there: the first result is its answer, nothing is run; if it is another request under the same id
//!    (the record has a digest of the op), it is refused as the caller's mistake; a batch may come again in part, for its shard
//!    may have been cut in between;
//! 2. it was answered before (below the session's `answered_below`): in doubt, not run;
//! 3. its version would be above `valid_until`: in doubt, not run;
//! 4. too far from the oldest unanswered one, or no room: unavailable, not run;
//! 5. it is run, and its result stored. Only this moves the session's `answered_below` and `valid_until`, up.
//!
//! A session is forgotten whole, once the shard's newest version is above every `valid_until` it saw: by then rule 3
//! refuses whatever it could still send. Nothing else is ever forgotten; without room, new work is refused, and first of all
//! that of clients who hold more than their share. Time makes room: a leader orders an [`Op::Advance`] when sessions have
//! gone out of date, whether other ops come or not.

mod remembered;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ops::{Bound, ControlFlow};

use bytes::{Bytes, BytesMut};
use kv::codec::Malformed;
use kv::{Error, Op, RequestId, SESSION_WINDOW, Version};
use mutant::Mutant;

pub use self::remembered::ANSWER_BYTES_KEPT;
use self::remembered::{Of, Record, damaged, digest, encode, is_of_range};
pub(super) use self::remembered::{decode_whole, inherited, samples};
use super::Done;
use crate::engine::{EngineError, Flush, View};
use crate::fresh::Fresh;
use crate::keys::{RowSet, parts_of_session, parts_of_session_suffix};

/// What all remembered requests of a shard may take when nothing else is said: some 300,000 clients that come once.
pub const SESSION_BYTES_MAX: u64 = 128 << 20;
/// What a session takes in memory beside its records.
const SESSION_BYTES: u64 = 320;
/// When half of the room is taken, no session grows beyond its even share of that half, or else beyond this.
const SHARE_BYTES_MIN: u64 = 64 << 10;
/// What is valid for longer than this is remembered only while half of the room is free.
const LASTING_MICROS: u64 = 60 * 60 * 1_000_000;
/// So many records of forgotten sessions an apply removes in any case, give or take a session.
const FORGOTTEN_PER_APPLY_MIN: usize = 16;
/// So large a buffer for encoding is kept.
const SCRATCH_BYTES_MAX: usize = 64 << 10;
#[derive(Default)]
pub struct Sessions {
    clients: BTreeMap<u64, Session>,
    /// When a session may be forgotten; never later than it really may, see [`Sessions::forget`].
    expiry: BTreeSet<(Version, u64)>,
    /// Of all sessions.
    bytes: u64,
    /// Sessions begun since they were last forgotten.
    begun: usize,
    /// What is being encoded: kept, since there is something to encode with every request.
    scratch: BytesMut,
}

#[derive(Default)]
struct Session {
    answered_below: u64,
    valid_until: Version,
    /// The requests that are not known to be answered, by sequence, with their slots. They mostly come and go in order.
    live: VecDeque<(u64, u16)>,
    /// The other slots, the lowest first.
    free: BinaryHeap<Reverse<u16>>,
    /// Bytes of each slot's record; 0 = there is none.
    bytes: Vec<u32>,
    /// All of them, and what the session takes in memory.
    total: u64,
}

/// What is to be done with a request.
pub enum Admission {
    Run,
    /// It was run: the record is in this slot.
    Repeat(u16),
    Refuse(Error),
}

impl Sessions {
    pub fn load(rows: &dyn View, set: RowSet) -> Result<Sessions, EngineError> {
        let mut sessions = Sessions::default();
        let mut sequences: BTreeMap<u64, Vec<(u64, u16)>> = BTreeMap::new();
        let mut failed = Ok(());
        let (from, to) = (set.session_begin(), set.session_end());
        rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, raw| {
            let (client, slot) = parts_of_session(&row);
            let bytes = size(&row, &raw);
            match slot_of(slot).and_then(|_| Record::decode(raw)) {
                Ok(record) => {
                    sequences.entry(client).or_default().push((record.of.sequence, slot));
                    sessions.found(client, slot, &record, bytes);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Err(damaged(error));
                    ControlFlow::Break(())
                }
            }
        })?;
        failed?;
        for (client, session) in &mut sessions.clients {
            let all = sequences.remove(client).unwrap_or_default();
            let is_live = |(sequence, _): &(u64, u16)| *sequence >= session.answered_below;
            // Of a sequence that is there twice, the higher slot.
            let live: BTreeMap<u64, u16> = all.into_iter().filter(is_live).collect();
            let slots: BTreeSet<u16> = live.values().copied().collect();
            session.live = live.into_iter().collect();
            let is_free = |slot: &u16| !slots.contains(slot);
            session.free = (0..session.bytes.len() as u16).filter(is_free).map(Reverse).collect();
            sessions.expiry.insert((session.valid_until, *client));
        }
        Ok(sessions)
    }

    fn found(&mut self, client: u64, slot: u16, record: &Record, bytes: u32) {
        let session = self.clients.entry(client).or_default();
        self.bytes -= session.total;
        session.answered_below = session.answered_below.max(record.answered_below);
        session.valid_until = session.valid_until.max(record.valid_until);
        let before = session.bytes.len();
        assert!(before <= usize::from(slot), "slot {slot} is read behind {before} slots: rows come in order");
        session.bytes.resize(usize::from(slot), 0);
        session.bytes.push(bytes);
        session.total += u64::from(bytes) + if session.total == 0 { SESSION_BYTES } else { 0 };
        self.bytes += session.total;
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// When the first session may have gone out of date, in microseconds since 1970.
    pub fn due(&self) -> Option<u64> {
        if mutant::is(Mutant::SessionsNeverFreed) {
            return None;
        }
        self.expiry.first().map(|(valid_until, _)| valid_until.micros() + 1)
    }

    /// How many sessions were begun since this was last asked.
    pub fn take_begun(&mut self) -> usize {
        std::mem::take(&mut self.begun)
    }

    /// What is to be done with a request that would get this version.
    pub fn admit(&self, id: &RequestId, version: Version, bytes_max: u64) -> Admission {
        let session = self.clients.get(&id.client);
        if let Some(slot) = session.and_then(|session| session.slot(id.sequence))
            && !mutant::is(Mutant::RetryAppliedTwice)
        {
            return Admission::Repeat(slot);
        }
        let below = session.map_or(0, |session| session.answered_below).max(id.answered_below);
        if id.sequence < below {
            let text = format!("request {} was answered before; its answer is no longer kept", id.sequence);
            return Admission::Refuse(Error::InDoubt(text));
        }
        if version > id.valid_until {
            let text = format!(
                "request {} came after the time it was valid: it may have happened before",
                id.sequence
            );
            return Admission::Refuse(Error::InDoubt(text));
        }
        if id.sequence - below >= SESSION_WINDOW {
            return Admission::Refuse(Error::Unavailable(format!(
                "request {} is too far ahead: {below} is not answered yet, and a session has {SESSION_WINDOW} \
                 unanswered requests at most; wait for answers",
                id.sequence
            )));
        }
        self.check_room(id, version, below, bytes_max)
    }

    /// Room for one more record. Half of it is kept for those who hold little and go with time.
    fn check_room(&self, id: &RequestId, version: Version, below: u64, bytes_max: u64) -> Admission {
        let session = self.clients.get(&id.client);
        let (held, grows) = session.map_or((0, true), |session| (session.total, !session.has_slot(below)));
        let refuse = |why: &str| Admission::Refuse(Error::Unavailable(why.into()));
        if !grows || self.bytes < bytes_max / 2 {
            return Admission::Run;
        }
        if self.bytes >= bytes_max {
            return refuse(
                "the shard remembers as many requests as it may; try again in a minute, when some have gone out of date",
            );
        }
        if held >= (bytes_max / 2 / (self.clients.len() as u64 + 1)).max(SHARE_BYTES_MIN) {
            return refuse(
                "the shard remembers more of this client's requests than its share: tell it which ones are answered \
                 (answered_below), or wait until they have gone out of date",
            );
        }
        if id.valid_until.micros() > version.micros().saturating_add(LASTING_MICROS) {
            return refuse(
                "the shard remembers many requests already, and this one is valid for more than an hour: give it a \
                 valid_until of some minutes from now",
            );
        }
        Admission::Run
    }

    /// The first result of a request that was run before.
    pub fn repeat(
        &self,
        rows: &dyn View,
        set: RowSet,
        id: &RequestId,
        slot: u16,
        op: &Op,
    ) -> Result<Done, EngineError> {
        let missing = || damaged(Malformed("it is missing"));
        let raw = rows.get(&set.session(id.client, slot))?.ok_or_else(missing)?;
        let record = Record::decode(raw).map_err(damaged)?;
        let version = record.version;
        if record.of.digest != digest(&mut BytesMut::new(), op) && !record.may_be_of(op).map_err(damaged)? {
            let text = format!(
                "request {} was another one before: a request id is for one request and its retries, give each its own",
                id.sequence
            );
            return Ok(Done { result: Err(Error::Invalid(text)), version });
        }
        let kept = record.result().map_err(damaged)?.filter(|_| !mutant::is(Mutant::RetryAnsweredInDoubt));
        let result = kept.unwrap_or_else(|| {
            Err(Error::InDoubt(format!(
                "request {} was run before, at version {version}; its answer was larger than the {ANSWER_BYTES_KEPT} \
                 bytes that are kept: read to see what it left",
                id.sequence
            )))
        });
        Ok(Done { result, version })
    }

    /// Stores the result of a request that was admitted and run.
    pub fn record(&mut self, fresh: &mut Fresh, set: RowSet, id: &RequestId, op: &Op, done: &Done) {
        if !self.clients.contains_key(&id.client) {
            self.expiry.insert((id.valid_until, id.client));
            self.clients.insert(id.client, Session { total: SESSION_BYTES, ..Session::default() });
            self.bytes += SESSION_BYTES;
            self.begun += 1;
        }
        let session = self.clients.get_mut(&id.client).expect("it was made above when it was not there");
        session.answered_below = session.answered_below.max(id.answered_below);
        session.valid_until = session.valid_until.max(id.valid_until);
        session.release();
        let slot = session.take_slot(id.sequence);
        let of =
            Of { sequence: id.sequence, digest: digest(&mut self.scratch, op), is_of_range: is_of_range(op) };
        let (row, raw) = (
            set.session(id.client, slot),
            encode(&mut self.scratch, (session.answered_below, session.valid_until), &of, done),
        );
        let now = size(&row, &raw);
        if self.scratch.capacity() > SCRATCH_BYTES_MAX {
            self.scratch = BytesMut::new();
        }
        let before = std::mem::replace(&mut session.bytes[usize::from(slot)], now);
        assert!(session.total >= u64::from(before), "a record of {before} bytes in {} of all", session.total);
        session.total = session.total - u64::from(before) + u64::from(now);
        self.bytes = self.bytes - u64::from(before) + u64::from(now);
        fresh.put(row, raw);
    }

    /// Forgets sessions that have gone out of date, in the order in which they did.
    ///
    /// The index has each session under an early `valid_until`; it is put right when its turn comes. So the order of
    /// forgetting is that of the true times, whatever the index had.
    pub fn forget(&mut self, fresh: &mut Fresh, set: RowSet, last: Version, records_max: usize) {
        let records_max = records_max.max(FORGOTTEN_PER_APPLY_MIN);
        let mut removed = 0;
        while let Some((valid_until, client)) = self.expiry.first().copied() {
            if valid_until >= last || removed >= records_max || mutant::is(Mutant::SessionsNeverFreed) {
                return;
            }
            self.expiry.pop_first();
            let session = &self.clients[&client];
            if session.valid_until > valid_until && !mutant::is(Mutant::SessionForgottenWhileValid) {
                self.expiry.insert((session.valid_until, client));
                continue;
            }
            for (slot, _) in session.bytes.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
                fresh.remove(set.session(client, slot as u16));
                removed += 1;
            }
            assert!(self.bytes >= session.total, "one session has {} bytes of {}", session.total, self.bytes);
            self.bytes -= session.total;
            self.clients.remove(&client);
        }
    }
}

impl Session {
    /// Whether a request finds a slot of one that has been answered, once those below a number are.
    fn has_slot(&self, below: u64) -> bool {
        !self.free.is_empty() || self.live.front().is_some_and(|(first, _)| *first < below)
    }

    /// The slot of a request that is not known to be answered.
    fn slot(&self, sequence: u64) -> Option<u16> {
        self.place(sequence).ok().map(|at| self.live[at].1)
    }

    /// Where a request is among the live ones, or would be. Most are newer than all.
    fn place(&self, sequence: u64) -> Result<usize, usize> {
        match self.live.back() {
            Some((newest, _)) if *newest >= sequence => {
                self.live.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
            }
            _ => Err(self.live.len()),
        }
    }

    /// Frees the slots of answered requests.
    fn release(&mut self) {
        while let Some((_, slot)) = self.live.pop_front_if(|(first, _)| *first < self.answered_below) {
            self.free.push(Reverse(slot));
        }
    }

    fn take_slot(&mut self, sequence: u64) -> u16 {
        let slot = self.free.pop().map_or_else(
            || {
                self.bytes.push(0);
                self.bytes.len() as u16 - 1
            },
            |Reverse(slot)| slot,
        );
        assert!(
            u64::from(slot) < SESSION_WINDOW,
            "slot {slot}, and no session has so many unanswered requests"
        );
        match self.place(sequence) {
            // Only of a retry that is run again, as a defect of the test build.
            Ok(at) => self.live[at].1 = slot,
            Err(at) => self.live.insert(at, (sequence, slot)),
        }
        slot
    }
}

/// The defect of a flush that leaves remembered requests out: memory has them, and the engine never gets them.
pub fn flush_without(fresh: &mut Fresh, sets: impl Iterator<Item = RowSet>) -> Box<dyn Flush> {
    let mut lost = Vec::new();
    for set in sets {
        let (from, to) = (set.session_begin(), set.session_end());
        let found = fresh.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, raw| {
            lost.push((row, raw));
            ControlFlow::Continue(())
        });
        found.expect("a test build has an engine that reads");
    }
    lost.iter().for_each(|(row, _)| fresh.remove(row.clone()));
    let flush = fresh.flush();
    lost.into_iter().for_each(|(row, raw)| fresh.put(row, raw));
    flush
}

/// Checks a row of another copy before it is taken: that loading it will not fail.
pub fn check(suffix: &[u8], raw: &Bytes) -> Result<(), Malformed> {
    slot_of(parts_of_session_suffix(suffix).1)?;
    Record::decode(raw.clone())?.result().map(|_| ())
}

/// A session has no more slots than unanswered requests: a higher one is damage, and would have memory set aside for all
/// below it.
fn slot_of(slot: u16) -> Result<u16, Malformed> {
    if u64::from(slot) < SESSION_WINDOW { Ok(slot) } else { Err(Malformed("its slot is too high")) }
}

fn size(row: &[u8], raw: &[u8]) -> u32 {
    (row.len() + raw.len()) as u32
}
