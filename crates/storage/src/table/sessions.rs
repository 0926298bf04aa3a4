//! Sessions: what a shard remembers of requests, so that one that is sent again happens once.
//!
//! A record per unanswered request, in the engine beside the data it changed; the requests' numbers in memory as well.
//! A record takes the lowest slot that is free: one whose request has been answered. So a client takes the room of as
//! many records as it ever had unanswered at a time.
//!
//! A request with an id, at apply:
//!
//! 1. its record is there: the first result is its answer, nothing is run;
//! 2. it was answered before (below the session's `answered_below`): in doubt, not run;
//! 3. its version would be above `valid_until`: in doubt, not run;
//! 4. too far from the oldest unanswered one, or no room: unavailable, not run;
//! 5. it is run, and its result stored. Only this moves the session's `answered_below` and `valid_until`, up.
//!
//! A session is forgotten whole, once the shard's newest version is above every `valid_until` it saw: by then rule 3
//! refuses whatever it could still send. Nothing else is ever forgotten; without room, new work is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{self, Malformed};
use kv::{Answer, Error, RequestId, SESSION_WINDOW, Version};
use mutant::Mutant;

use super::keys::{RowSet, parts_of_session, parts_of_session_suffix};
use super::{Done, Options};
use crate::engine::{Engine, EngineError, View};

/// Clients that a shard remembers at a time; further ones are refused.
pub const SESSIONS_MAX: usize = 100_000;
/// Bytes of all remembered requests of a shard, when nothing else is said.
pub const SESSION_BYTES_MAX: u64 = 128 << 20;
/// Records that one apply removes with forgotten sessions, give or take a session.
const FORGOTTEN_PER_APPLY: usize = 256;
/// A free slot's record of up to so many bytes waits to be written over; a larger one is removed.
const IDLE_BYTES_MAX: u32 = 4096;
const FORMAT: u8 = 1;

pub struct Sessions {
    /// See [`Options::session_bytes_max`].
    bytes_max: u64,
    clients: BTreeMap<u64, Session>,
    /// When a session may be forgotten; never later than it really may, see [`Sessions::forget`].
    expiry: BTreeSet<(Version, u64)>,
    bytes: u64,
}

#[derive(Default)]
struct Session {
    answered_below: u64,
    valid_until: Version,
    /// Slots of the requests that are not known to be answered, by sequence.
    live: BTreeMap<u64, u16>,
    /// The other slots.
    free: BTreeSet<u16>,
    /// Bytes of each slot's record; 0 = there is none.
    bytes: Vec<u32>,
}

/// What is to be done with a request.
pub enum Admission {
    Run,
    /// It was run: the record is in this slot.
    Repeat(u16),
    Refuse(Error),
}

impl Sessions {
    fn new(options: &Options) -> Sessions {
        Sessions {
            bytes_max: options.session_bytes_max,
            clients: BTreeMap::new(),
            expiry: BTreeSet::new(),
            bytes: 0,
        }
    }

    pub fn load(rows: &dyn View, set: RowSet, options: &Options) -> Result<Sessions, EngineError> {
        let mut sessions = Sessions::new(options);
        let mut sequences: BTreeMap<u64, Vec<(u64, u16)>> = BTreeMap::new();
        let mut failed = Ok(());
        let (from, to) = (set.session_begin(), set.end());
        rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, raw| {
            let (client, slot) = parts_of_session(&row);
            let bytes = size(&row, &raw);
            match slot_of(slot).and_then(|_| Record::decode(raw)) {
                Ok(record) => {
                    sequences.entry(client).or_default().push((record.sequence, slot));
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
            session.live =
                all.into_iter().filter(|(sequence, _)| *sequence >= session.answered_below).collect();
            let live: BTreeSet<u16> = session.live.values().copied().collect();
            session.free = (0..session.bytes.len() as u16).filter(|slot| !live.contains(slot)).collect();
            sessions.expiry.insert((session.valid_until, *client));
        }
        Ok(sessions)
    }

    fn found(&mut self, client: u64, slot: u16, record: &Record, bytes: u32) {
        let session = self.clients.entry(client).or_default();
        session.answered_below = session.answered_below.max(record.answered_below);
        session.valid_until = session.valid_until.max(record.valid_until);
        session.bytes.resize(usize::from(slot), 0);
        session.bytes.push(bytes);
        self.bytes += u64::from(bytes);
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// What is to be done with a request that would get this version.
    pub fn admit(&self, id: &RequestId, version: Version) -> Admission {
        let session = self.clients.get(&id.client);
        if let Some(slot) = session.and_then(|session| session.live.get(&id.sequence))
            && !mutant::is(Mutant::RetryAppliedTwice)
        {
            return Admission::Repeat(*slot);
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
        self.check_room(session, below)
    }

    fn check_room(&self, session: Option<&Session>, below: u64) -> Admission {
        let full = self.bytes >= self.bytes_max;
        let admitted = match session {
            None => !full && self.clients.len() < SESSIONS_MAX,
            Some(session) => !full || session.live.first_key_value().is_some_and(|(first, _)| *first < below),
        };
        if admitted {
            return Admission::Run;
        }
        Admission::Refuse(Error::Unavailable(
            "the shard remembers as many requests as it may; try again when some have gone out of date"
                .into(),
        ))
    }

    /// The first result of a request that was run before.
    pub fn repeat(
        &self,
        rows: &dyn View,
        set: RowSet,
        id: &RequestId,
        slot: u16,
    ) -> Result<Done, EngineError> {
        let missing = || damaged(Malformed("it is missing"));
        let raw = rows.get(&set.session(id.client, slot))?.ok_or_else(missing)?;
        let record = Record::decode(raw).map_err(damaged)?;
        let result = record.result().map_err(damaged)?;
        Ok(Done { result, version: record.version })
    }

    /// Stores the result of a request that was admitted and run.
    pub fn record(&mut self, engine: &mut dyn Engine, set: RowSet, id: &RequestId, done: &Done) {
        if !self.clients.contains_key(&id.client) {
            self.expiry.insert((id.valid_until, id.client));
        }
        let session = self.clients.entry(id.client).or_default();
        session.answered_below = session.answered_below.max(id.answered_below);
        session.valid_until = session.valid_until.max(id.valid_until);
        for slot in session.release() {
            self.bytes -= u64::from(std::mem::take(&mut session.bytes[usize::from(slot)]));
            engine.remove(&set.session(id.client, slot));
        }
        let slot = session.take_slot(id.sequence);
        let (row, raw) = (set.session(id.client, slot), encode(session, id.sequence, done));
        let before = std::mem::replace(&mut session.bytes[usize::from(slot)], size(&row, &raw));
        self.bytes = self.bytes - u64::from(before) + u64::from(size(&row, &raw));
        engine.put(row, raw);
    }

    /// Forgets sessions that have gone out of date, in the order in which they did.
    ///
    /// The index has each session under an early `valid_until`; it is put right when its turn comes. So the order of
    /// forgetting is that of the true times, whatever the index had.
    pub fn forget(&mut self, engine: &mut dyn Engine, set: RowSet, last: Version) {
        let mut removed = 0;
        while let Some((valid_until, client)) = self.expiry.first().copied() {
            if valid_until >= last || removed >= FORGOTTEN_PER_APPLY {
                return;
            }
            self.expiry.pop_first();
            let session = &self.clients[&client];
            if session.valid_until > valid_until && !mutant::is(Mutant::SessionForgottenWhileValid) {
                self.expiry.insert((session.valid_until, client));
                continue;
            }
            for (slot, bytes) in session.bytes.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
                engine.remove(&set.session(client, slot as u16));
                self.bytes -= u64::from(*bytes);
                removed += 1;
            }
            self.clients.remove(&client);
        }
    }
}

impl Session {
    /// Frees the slots of answered requests; returns those whose records are too large to keep idle.
    fn release(&mut self) -> Vec<u16> {
        let mut large = Vec::new();
        while let Some(entry) = self.live.first_entry().filter(|entry| *entry.key() < self.answered_below) {
            let slot = entry.remove();
            self.free.insert(slot);
            if self.bytes[usize::from(slot)] > IDLE_BYTES_MAX {
                large.push(slot);
            }
        }
        large
    }

    fn take_slot(&mut self, sequence: u64) -> u16 {
        let slot = self.free.pop_first().unwrap_or_else(|| {
            self.bytes.push(0);
            self.bytes.len() as u16 - 1
        });
        self.live.insert(sequence, slot);
        slot
    }
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

/// A remembered request as it is stored; the session's numbers are those after it.
struct Record {
    sequence: u64,
    valid_until: Version,
    answered_below: u64,
    version: Version,
    result: Bytes,
}

impl Record {
    fn decode(raw: Bytes) -> Result<Record, Malformed> {
        let mut reader = codec::Reader::new(raw);
        if reader.u8()? != FORMAT {
            return Err(Malformed("its format is unknown"));
        }
        Ok(Record {
            sequence: reader.uint()?,
            valid_until: reader.version()?,
            answered_below: reader.uint()?,
            version: reader.version()?,
            result: reader.rest(),
        })
    }

    fn result(&self) -> Result<Result<Answer, Error>, Malformed> {
        let mut reader = codec::Reader::new(self.result.clone());
        let result = codec::decode_result(&mut reader, codec::decode_answer)?;
        reader.end()?;
        Ok(result)
    }
}

/// Decodes a remembered request and its result, and checks that they are the same when they are encoded again.
pub(super) fn decode_whole(raw: Bytes) {
    let Ok(record) = Record::decode(raw) else { return };
    let Ok(result) = record.result() else { return };
    let (answered_below, valid_until) = (record.answered_below, record.valid_until);
    let session = Session { answered_below, valid_until, ..Session::default() };
    let done = Done { result, version: record.version };
    let again = Record::decode(encode(&session, record.sequence, &done)).expect("what was encoded decodes");
    assert_eq!((again.sequence, again.valid_until), (record.sequence, valid_until));
    assert_eq!((again.answered_below, again.version), (answered_below, record.version));
    assert_eq!(again.result(), Ok(done.result));
}

/// Remembered requests as they are stored.
pub(super) fn samples() -> Vec<Bytes> {
    let session = Session { answered_below: 3, valid_until: Version::MAX, ..Session::default() };
    let results = [Ok(Answer::Put { previous: None }), Err(Error::InDoubt("why".into()))];
    let done = results.map(|result| Done { result, version: Version::ZERO });
    done.map(|done| encode(&session, 300, &done)).to_vec()
}

fn encode(session: &Session, sequence: u64, done: &Done) -> Bytes {
    let mut into = BytesMut::with_capacity(64);
    into.put_u8(FORMAT);
    codec::put_uint(&mut into, sequence);
    codec::put_version(&mut into, session.valid_until);
    codec::put_uint(&mut into, session.answered_below);
    codec::put_version(&mut into, done.version);
    codec::encode_result(&mut into, &done.result, codec::encode_answer);
    Bytes::copy_from_slice(&into)
}

fn size(row: &Bytes, raw: &Bytes) -> u32 {
    (row.len() + raw.len()) as u32
}

fn damaged(error: Malformed) -> EngineError {
    EngineError::corrupt("reading a remembered request", error.0)
}
