//! What the table keeps in memory of a shard, and the shard's row of state.

use bytes::{BufMut, Bytes, BytesMut};
use kv::keyspace::{Rules, Standing, Usage};
use kv::ledger::Note;
use kv::watch::Change;
use kv::{Answer, Entry, Error, Op, RequestId, Stamped, Version, codec};
use mutant::Mutant;

use super::expiry::{self, Deadlines};
use super::layout::Layout;
use super::merged::{self, Buckets};
use super::sessions::{Admission, Sessions};
use super::write::Writer;
use super::{Applied, Done, Options, Stop, usage};
use crate::engine::{EngineError, View};
use crate::fresh::Fresh;
use crate::keys::RowSet;

const FORMAT: u8 = 2;
/// The same of a copy in the merged layout.
const FORMAT_MERGED: u8 = 3;
/// Without the rules, and what is held.
const FORMAT_BEFORE: u8 = 1;
/// Bytes of all answers to the ops of one entry together: some of the largest. What goes beyond is not told, lest a few ops
/// that cost little to ask fill the memory.
const ENTRY_ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where a shard is, as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub applied: u64,
    pub term: u64,
    pub last: Version,
    /// Some key may have been there below this version of which nothing is kept.
    pub floor: Version,
    /// What it goes by.
    pub rules: Rules,
    /// What it holds.
    pub usage: Usage,
    /// How its rows lie.
    pub layout: Layout,
}

impl State {
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::with_capacity(48);
        into.put_u8(match self.layout {
            Layout::Ordered => FORMAT,
            Layout::Merged => FORMAT_MERGED,
        });
        into.put_u64(self.applied);
        into.put_u64(self.term);
        into.put_i64(self.last.as_i64());
        into.put_i64(self.floor.as_i64());
        codec::encode_usage(&mut into, self.usage);
        codec::encode_rules(&mut into, &self.rules);
        into.freeze()
    }

    pub fn decode(raw: Bytes) -> Result<State, codec::Malformed> {
        let is_merged = raw.first() == Some(&FORMAT_MERGED);
        State::decode_as(raw, if is_merged { FORMAT_MERGED } else { FORMAT })
    }

    fn decode_as(raw: Bytes, format: u8) -> Result<State, codec::Malformed> {
        let mut reader = codec::Reader::new(raw);
        if reader.u8()? != format {
            return Err(codec::Malformed("its format is unknown"));
        }
        let (applied, term) = (reader.u64()?, reader.u64()?);
        let (last, floor) = (reader.version()?, reader.version()?);
        let (usage, rules) = match format {
            FORMAT_BEFORE => Default::default(),
            _ => (codec::decode_usage(&mut reader)?, codec::decode_rules(&mut reader)?),
        };
        let layout = if format == FORMAT_MERGED { Layout::Merged } else { Layout::Ordered };
        let state = State { applied, term, last, floor, rules, usage, layout };
        reader.end()?;
        if state.floor > state.last {
            return Err(codec::Malformed("its floor is above its newest version"));
        }
        Ok(state)
    }

    /// As it is stored, or of a copy without rows a new one in a layout.
    pub fn load(rows: &dyn View, set: RowSet, new: Layout) -> Result<State, EngineError> {
        let damaged = |error: codec::Malformed| EngineError::corrupt("reading the state of a shard", error.0);
        match rows.get(&set.state())? {
            None => Ok(State { layout: new, ..State::default() }),
            // A folder of an earlier version: it is counted once.
            Some(raw) if raw.first() == Some(&FORMAT_BEFORE) => {
                let state = State::decode_as(raw, FORMAT_BEFORE).map_err(damaged)?;
                Ok(State { usage: usage::count(rows, set)?, ..state })
            }
            Some(raw) => State::decode(raw).map_err(damaged),
        }
    }

    /// What its copy keeps, in a table with these options.
    pub fn keeps(&self, options: Options) -> Options {
        let ruled = options.ruled_by(&self.rules.keep);
        match options.merged_history {
            Some(history) if self.layout == Layout::Merged && self.rules.keep.history.is_none() => {
                Options { history, ..ruled }
            }
            _ => ruled,
        }
    }

    pub fn told(&self) -> Applied {
        let standing = Standing { rules: self.rules, usage: self.usage };
        Applied { index: self.applied, term: self.term, last: self.last, standing }
    }
}

/// The current copy of a shard.
pub struct Shard {
    pub set: RowSet,
    pub state: State,
    pub deadlines: Deadlines,
    pub sessions: Sessions,
    /// In the merged layout, what tells in which keys two copies differ.
    pub buckets: Buckets,
    /// What the newest entry has changed, for those who watch.
    pub changes: Vec<Change>,
}

impl Shard {
    pub fn load(rows: &dyn View, set: RowSet, new: Layout) -> Result<Shard, EngineError> {
        let (state, deadlines) = (State::load(rows, set, new)?, Deadlines::load(rows, set)?);
        let (sessions, changes) = (Sessions::load(rows, set)?, Vec::new());
        let buckets = match state.layout {
            Layout::Ordered => Buckets::default(),
            Layout::Merged => Buckets::load(rows, set)?,
        };
        Ok(Shard { set, state, deadlines, sessions, buckets, changes })
    }

    /// When an advance finds something to remove, in microseconds since 1970.
    pub fn due(&self) -> Option<u64> {
        self.deadlines.due().into_iter().chain(self.sessions.due()).min()
    }

    /// Applies an entry that comes next; one result per op.
    pub fn apply(
        &mut self,
        fresh: &mut Fresh,
        options: Options,
        (index, term): (u64, u64),
        entry: &Entry,
    ) -> Result<Vec<Done>, EngineError> {
        self.changes.clear();
        let before = self.state.last;
        let mut room = ENTRY_ANSWER_BYTES_MAX;
        let mut done = Vec::with_capacity(entry.ops.len());
        for stamped in &entry.ops {
            done.push(tell(self.run(fresh, options, stamped, entry.proposed)?, &mut room));
        }
        self.clean(fresh, options, entry, before)?;
        self.buckets.write(fresh, self.set);
        let State { last, floor, .. } = self.state;
        assert!(floor <= last, "a key was forgotten at {floor}, and {last} is the newest version");
        (self.state.applied, self.state.term) = (index, term);
        if !mutant::is(Mutant::AppliedOutsideBatch) || index.is_multiple_of(8) {
            fresh.put(self.set.state(), self.state.encode());
        }
        Ok(done)
    }

    /// Runs one op of an entry, unless its session says otherwise.
    fn run(
        &mut self,
        fresh: &mut Fresh,
        options: Options,
        stamped: &Stamped,
        proposed: Version,
    ) -> Result<Done, EngineError> {
        let version = match &stamped.op {
            Op::Advance { to, .. } => to.after(self.state.last),
            Op::Merge { rows } => self.state.last.max(merged::newest(rows)),
            Op::Collect { .. } => self.state.last,
            Op::Note(Note::Orphans(orphans)) => proposed.after(orphans.last).after(self.state.last),
            _ if mutant::is(Mutant::VersionFromClockAlone) => proposed,
            _ => proposed.after(self.state.last),
        };
        let Some(id) = &stamped.id else { return self.evaluate(fresh, options, &stamped.op, version) };
        match self.sessions.admit(id, version, options.session_bytes_max) {
            Admission::Run => self.run_once(fresh, options, id, &stamped.op, version),
            Admission::Repeat(slot) => self.sessions.repeat(&*fresh, self.set, id, slot, &stamped.op),
            Admission::Refuse(error) => Ok(Done { result: Err(error), version: self.state.last }),
        }
    }

    fn run_once(
        &mut self,
        fresh: &mut Fresh,
        options: Options,
        id: &RequestId,
        op: &Op,
        version: Version,
    ) -> Result<Done, EngineError> {
        let done = self.evaluate(fresh, options, op, version)?;
        if mutant::is(Mutant::EntrySplitOverTwoTables) {
            fresh.cut_here();
        }
        self.sessions.record(fresh, self.set, id, op, &done);
        Ok(done)
    }

    fn evaluate(
        &mut self,
        fresh: &mut Fresh,
        options: Options,
        op: &Op,
        version: Version,
    ) -> Result<Done, EngineError> {
        let last = self.state.last;
        assert!(version >= last, "an op gets version {version}, and {last} is the newest");
        self.state.last = version;
        if let Op::Advance { rules: Some(rules), .. } = op {
            self.state.rules = *rules;
        }
        let changed = self.changes.len();
        let result = match op.validate() {
            Ok(()) => match op {
                Op::Note(note) => self.writer(fresh, options).note(note, last),
                op => self.writer(fresh, options).evaluate_within_quota(op),
            },
            Err(error) => Err(Stop::Refused(error)),
        };
        keep_last(&mut self.changes, changed);
        match result {
            Ok(answer) => Ok(Done { result: Ok(answer), version }),
            Err(Stop::Refused(error)) => Ok(Done { result: Err(error), version }),
            Err(Stop::Engine(error)) => Err(error),
            Err(Stop::NeedsAdvance(_)) => unreachable!("an op that is applied is asked by no clock"),
        }
    }

    /// What every entry ends with: some of what is out of date goes. What has expired goes at the newest version, which is one of
    /// this entry: whoever watches has been given all of those before.
    fn clean(
        &mut self,
        fresh: &mut Fresh,
        options: Options,
        entry: &Entry,
        before: Version,
    ) -> Result<(), EngineError> {
        let advances = entry.ops.iter().any(|stamped| matches!(stamped.op, Op::Advance { .. }));
        let set = self.deadlines.take_set();
        let is_later = self.state.last > before;
        let most = if is_later { expiry::allowance(entry.ops.len(), advances, set) } else { 0 };
        self.writer(fresh, options).sweep(most)?;
        self.deadlines.take_set();
        let begun = self.sessions.take_begun();
        let most = expiry::allowance(entry.ops.len(), advances, begun);
        self.sessions.forget(fresh, self.set, self.state.last, most);
        Ok(())
    }

    fn writer<'a>(&'a mut self, fresh: &'a mut Fresh, options: Options) -> Writer<'a> {
        let (usual, step_max) = (options.places(), options.step_max);
        let options = self.state.keeps(options);
        Writer {
            fresh,
            set: self.set,
            state: &mut self.state,
            deadlines: &mut self.deadlines,
            buckets: &mut self.buckets,
            history: options.history,
            usual,
            deleted_micros: options.deleted_micros,
            step_max,
            changes: &mut self.changes,
            undo: None,
        }
    }
}

/// An op that changes a key twice changes it once: of its changes, which begin at a place, the last one of each key stays.
fn keep_last(changes: &mut Vec<Change>, begin: usize) {
    if changes.len() - begin < 2 {
        return;
    }
    let mut own = changes.split_off(begin);
    own.reverse();
    own.sort_by(|one, other| one.key.cmp(&other.key));
    own.dedup_by(|later, first| later.key == first.key);
    changes.append(&mut own);
}

/// What came of an op, if there is room left to tell it.
fn tell(done: Done, room: &mut usize) -> Done {
    let bytes = done.result.as_ref().map_or(0, Answer::bytes);
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            done
        }
        None => {
            Done { result: done.result.and_then(|answer| Err(Error::no_room(answer.is_unmet()))), ..done }
        }
    }
}
