//! What the table keeps in memory of a shard, and the shard's row of state.

use std::ops::{Bound, ControlFlow};

use bytes::{BufMut, Bytes};
use kv::{Op, RequestId, Stamped, Version, codec};
use mutant::Mutant;

use super::keys::{RowSet, parts_of_expiry};
use super::sessions::{Admission, Sessions};
use super::write::Writer;
use super::{Applied, Done, Options, Stop};
use crate::engine::{Engine, EngineError, View};

const FORMAT: u8 = 1;

/// Where a shard is, as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub applied: u64,
    pub term: u64,
    pub last: Version,
    /// Some key may have been there below this version of which nothing is kept.
    pub floor: Version,
}

impl State {
    pub fn encode(&self) -> Bytes {
        let mut into = Vec::with_capacity(33);
        into.put_u8(FORMAT);
        into.put_u64(self.applied);
        into.put_u64(self.term);
        into.put_i64(self.last.as_i64());
        into.put_i64(self.floor.as_i64());
        into.into()
    }

    pub fn decode(raw: Bytes) -> Result<State, codec::Malformed> {
        let mut reader = codec::Reader::new(raw);
        if reader.u8()? != FORMAT {
            return Err(codec::Malformed("its format is unknown"));
        }
        let (applied, term) = (reader.u64()?, reader.u64()?);
        let state = State { applied, term, last: reader.version()?, floor: reader.version()? };
        reader.end()?;
        Ok(state)
    }

    pub fn load(rows: &dyn View, set: RowSet) -> Result<State, EngineError> {
        let damaged = |error: codec::Malformed| EngineError::corrupt("reading the state of a shard", error.0);
        rows.get(&set.state())?.map_or(Ok(State::default()), |raw| State::decode(raw).map_err(damaged))
    }

    pub fn told(&self) -> Applied {
        Applied { index: self.applied, term: self.term, last: self.last }
    }
}

/// The current copy of a shard.
pub struct Shard {
    pub set: RowSet,
    pub state: State,
    /// No deadline is earlier; `u64::MAX` = there is none.
    pub due: u64,
    pub sessions: Sessions,
}

impl Shard {
    pub fn load(rows: &dyn View, set: RowSet, options: &Options) -> Result<Shard, EngineError> {
        let (state, sessions) = (State::load(rows, set)?, Sessions::load(rows, set, options)?);
        let mut due = u64::MAX;
        let (from, to) = (set.expiry_begin(), set.session_begin());
        rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, _| {
            due = parts_of_expiry(&row).0;
            ControlFlow::Break(())
        })?;
        Ok(Shard { set, state, due, sessions })
    }

    /// Runs one op of an entry, unless its session says otherwise.
    pub fn run(
        &mut self,
        engine: &mut dyn Engine,
        keep: u64,
        stamped: &Stamped,
        proposed: Version,
    ) -> Result<Done, EngineError> {
        let version = match &stamped.op {
            Op::Advance { to } => self.state.last.max(*to),
            _ if mutant::is(Mutant::VersionFromClockAlone) => proposed,
            _ => proposed.after(self.state.last),
        };
        let Some(id) = &stamped.id else { return self.evaluate(engine, keep, &stamped.op, version) };
        match self.sessions.admit(id, version) {
            Admission::Run => self.run_once(engine, keep, id, &stamped.op, version),
            Admission::Repeat(slot) => self.sessions.repeat(&*engine, self.set, id, slot),
            Admission::Refuse(error) => Ok(Done { result: Err(error), version: self.state.last }),
        }
    }

    fn run_once(
        &mut self,
        engine: &mut dyn Engine,
        keep: u64,
        id: &RequestId,
        op: &Op,
        version: Version,
    ) -> Result<Done, EngineError> {
        let done = self.evaluate(engine, keep, op, version)?;
        self.sessions.record(engine, self.set, id, &done);
        Ok(done)
    }

    fn evaluate(
        &mut self,
        engine: &mut dyn Engine,
        keep: u64,
        op: &Op,
        version: Version,
    ) -> Result<Done, EngineError> {
        self.state.last = version;
        let result = match op.validate() {
            Ok(()) => self.writer(engine, keep).evaluate(op),
            Err(error) => Err(Stop::Refused(error)),
        };
        match result {
            Ok(answer) => Ok(Done { result: Ok(answer), version }),
            Err(Stop::Refused(error)) => Ok(Done { result: Err(error), version }),
            Err(Stop::Engine(error)) => Err(error),
            Err(Stop::NeedsAdvance(_)) => unreachable!("an op that is applied is asked by no clock"),
        }
    }

    /// What every entry ends with: what is out of date goes, and where the shard is is written.
    pub fn finish(
        &mut self,
        engine: &mut dyn Engine,
        keep: u64,
        index: u64,
        term: u64,
    ) -> Result<(), EngineError> {
        self.writer(engine, keep).sweep()?;
        self.sessions.forget(engine, self.set, self.state.last);
        (self.state.applied, self.state.term) = (index, term);
        if !mutant::is(Mutant::AppliedOutsideBatch) || index.is_multiple_of(8) {
            engine.put(self.set.state(), self.state.encode());
        }
        Ok(())
    }

    fn writer<'a>(&'a mut self, engine: &'a mut dyn Engine, keep: u64) -> Writer<'a> {
        Writer { engine, set: self.set, state: &mut self.state, due: &mut self.due, keep, undo: None }
    }
}
