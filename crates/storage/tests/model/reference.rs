//! What the table should answer, said as plainly as possible: all revisions of all keys in a map, nothing forgotten.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{
    Answer, Direction, Entry, Error, Expect, Function, Key, KeyAnswer, Op, Page, Range, ReplicaId, RequestId,
    Revision, Row, Side, Stamped, Value, Version,
};
use storage::{Done, History};

#[derive(Clone)]
struct State {
    version: Version,
    /// `None` = deleted.
    value: Option<Value>,
    created: Version,
    changes: u64,
    deadline: Option<u64>,
}

#[derive(Clone, Default)]
struct Session {
    answered_below: u64,
    valid_until: Version,
    done: BTreeMap<u64, Done>,
}

pub struct Reference {
    pub history: History,
    /// Some revision was trimmed, by an op.
    pub trimmed: bool,
    last: Version,
    keys: BTreeMap<Key, Vec<State>>,
    /// From which version on the revisions of a key are kept, after an op trimmed it.
    trims: BTreeMap<Key, Version>,
    sessions: BTreeMap<u64, Session>,
}

impl Reference {
    pub fn new(history: History) -> Reference {
        let (keys, trims, sessions) = Default::default();
        Reference { history, trimmed: false, last: Version::ZERO, keys, trims, sessions }
    }

    pub fn last(&self) -> Version {
        self.last
    }

    pub fn apply(&mut self, entry: &Entry) -> Vec<Done> {
        let done = entry.ops.iter().map(|stamped| self.run(stamped, entry.proposed)).collect();
        let last = self.last;
        self.sessions.retain(|_, session| session.valid_until >= last);
        done
    }

    fn run(&mut self, stamped: &Stamped, proposed: Version) -> Done {
        let version = match stamped.op {
            Op::Advance { to, .. } => to.after(self.last),
            _ => proposed.after(self.last),
        };
        if let Some(done) = stamped.id.as_ref().and_then(|id| self.answered(id, version)) {
            return done;
        }
        self.last = version;
        let (keys, trims) = (self.keys.clone(), self.trims.clone());
        let result = self.evaluate(&stamped.op);
        if result.is_err() {
            (self.keys, self.trims) = (keys, trims);
        }
        let done = Done { result, version };
        if let Some(id) = &stamped.id {
            let session = self.sessions.entry(id.client).or_default();
            session.answered_below = session.answered_below.max(id.answered_below);
            session.valid_until = session.valid_until.max(id.valid_until);
            session.done.insert(id.sequence, done.clone());
        }
        done
    }

    fn answered(&self, id: &RequestId, version: Version) -> Option<Done> {
        let session = self.sessions.get(&id.client).cloned().unwrap_or_default();
        let refused = |text: String| Some(Done { result: Err(Error::InDoubt(text)), version: self.last });
        match session.done.get(&id.sequence) {
            Some(done) if id.sequence >= session.answered_below => Some(done.clone()),
            _ if id.sequence < session.answered_below => {
                refused(format!("request {} was answered before; its answer is no longer kept", id.sequence))
            }
            _ if version > id.valid_until => refused(format!(
                "request {} came after the time it was valid: it may have happened before",
                id.sequence
            )),
            _ => None,
        }
    }

    pub fn read(&self, op: &Op) -> Result<Answer, Error> {
        if let Some(asked) = op.at().filter(|at| *at > self.last) {
            return Err(Error::Future { asked, newest: self.last });
        }
        match op {
            Op::Get { key, at } => Ok(Answer::Row(self.row(key, at.unwrap_or(self.last)))),
            Op::GetAll { keys, .. } => {
                let answer = |key: &Key| KeyAnswer { key: key.clone(), result: Ok(self.row(key, self.last)) };
                Ok(Answer::Many(keys.iter().map(answer).collect()))
            }
            Op::Range(range) => Ok(Answer::Page(self.range(range))),
            Op::History { key, limit, before } => Ok(self.shown(key, *limit, *before)),
            _ => panic!("{op:?} is no read"),
        }
    }

    /// Whether the table may have forgotten what a key was at a version.
    pub fn may_be_trimmed(&self, key: &Key, at: Version) -> bool {
        let older = match self.history {
            History::All | History::Micros(_) => false,
            // One that is not among the newest so many, or of a key that left nothing.
            History::Count(count) => {
                let newer = self.revisions(key).iter().filter(|state| state.version > at).count();
                newer >= count as usize || (count == 1 && self.row(key, self.last).is_none())
            }
        };
        // A key may be refused for another one that was forgotten wholly.
        older || self.trims.values().any(|trim| *trim > at)
    }

    fn evaluate(&mut self, op: &Op) -> Result<Answer, Error> {
        let old = |key: &Key| self.row(key, self.last);
        match op {
            Op::Put { key, value, deadline, previous } => {
                let before = old(key).filter(|_| *previous);
                self.set(key, Some(value.clone()), *deadline);
                Ok(Answer::Put { previous: before })
            }
            Op::PutAll { rows } => {
                rows.iter().for_each(|(key, value)| self.set(key, Some(value.clone()), None));
                let stored = |key: &Key| Row { value: Bytes::new(), ..self.row(key, self.last).unwrap() };
                let answer =
                    |(key, _): &(Key, Value)| KeyAnswer { key: key.clone(), result: Ok(Some(stored(key))) };
                Ok(Answer::Many(rows.iter().map(answer).collect()))
            }
            Op::Delete { key, previous } => {
                let before = old(key);
                self.set(key, None, None);
                Ok(Answer::Deleted {
                    count: before.is_some().into(),
                    previous: before.filter(|_| *previous),
                    next: None,
                })
            }
            Op::DeleteRange { from, to } => {
                let inside = |key: &&Key| *key >= from && to.as_ref().is_none_or(|to| *key < to);
                let keys: Vec<Key> = self.live().filter(inside).cloned().collect();
                keys.iter().for_each(|key| self.set(key, None, None));
                Ok(Answer::Deleted { count: keys.len() as u64, previous: None, next: None })
            }
            Op::Trim { key, below } => Ok(Answer::Trimmed { count: self.trim(key, *below), next: None }),
            Op::TrimRange { from, to, below } => {
                let inside = |key: &&Key| *key >= from && to.as_ref().is_none_or(|to| *key < to);
                let keys: Vec<Key> = self.keys.keys().filter(inside).cloned().collect();
                let count = keys.iter().map(|key| self.trim(key, *below)).sum();
                Ok(Answer::Trimmed { count, next: None })
            }
            Op::Expire { key, deadline } => {
                let Some(row) = old(key) else { return Ok(Answer::Expire(false)) };
                if row.deadline != *deadline {
                    self.set(key, Some(row.value), *deadline);
                }
                Ok(Answer::Expire(true))
            }
            Op::Update { key, function } => self.update(key, function, old(key)),
            Op::Transaction { conditions, then, otherwise } => {
                let held =
                    conditions.iter().all(|condition| holds(&condition.expect, old(&condition.key).as_ref()));
                let branch = if held { then } else { otherwise };
                let answers = branch.iter().map(|op| self.evaluate(op)).collect::<Result<_, _>>()?;
                Ok(Answer::Transaction { succeeded: held, answers })
            }
            Op::Advance { .. } | Op::Note(_) | Op::Merge { .. } | Op::Collect { .. } => {
                Ok(Answer::Trimmed { count: 0, next: None })
            }
            read => self.read(read),
        }
    }

    fn update(&mut self, key: &Key, function: &Function, old: Option<Row>) -> Result<Answer, Error> {
        let value = old.as_ref().map(|row| row.value.clone());
        let deadline = old.as_ref().and_then(|row| row.deadline);
        match function {
            Function::Append { side, value: added } => {
                let present = value.unwrap_or_default();
                let joined = match side {
                    Side::Left => [added.as_ref(), &present].concat(),
                    Side::Right => [present.as_ref(), added].concat(),
                };
                self.set(key, Some(joined.clone().into()), deadline);
                Ok(Answer::Length(joined.len() as u64))
            }
            Function::Pop { side, count } => {
                let Some(value) = value else { return Ok(Answer::Popped(None)) };
                let (popped, left) = pop(&value, *side, *count as usize);
                if !popped.is_empty() {
                    self.set(key, Some(left), deadline);
                }
                Ok(Answer::Popped(Some(popped)))
            }
            Function::Increment { by } => {
                let number = match &value {
                    None => 0i64,
                    Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
                        Error::Conflict(format!(
                            "increment of '{}': its value is no whole number of 64 bits; put a number there first",
                            key.escape_ascii()
                        ))
                    })?,
                };
                self.set(key, Some((number + by).to_string().into()), deadline);
                Ok(Answer::Number(number + by))
            }
            Function::Insert { value, deadline } => self.put_if(key, &Expect::Absent, old, value, *deadline),
            Function::CompareAndPut { expect, value, deadline } => {
                self.put_if(key, expect, old, value, *deadline)
            }
        }
    }

    fn put_if(
        &mut self,
        key: &Key,
        expect: &Expect,
        old: Option<Row>,
        value: &Value,
        deadline: Option<u64>,
    ) -> Result<Answer, Error> {
        if !holds(expect, old.as_ref()) {
            return Ok(Answer::Condition { met: false, current: old });
        }
        self.set(key, Some(value.clone()), deadline);
        Ok(Answer::Condition { met: true, current: None })
    }

    fn set(&mut self, key: &Key, value: Option<Value>, deadline: Option<u64>) {
        let old = self.row(key, self.last);
        let version = self.last;
        let value = value.filter(|_| deadline.is_none_or(|deadline| deadline > version.micros()));
        if value.is_none() && old.is_none() {
            return;
        }
        let (created, changes) = match &old {
            Some(old) => (old.created, old.changes + u64::from(old.version < version)),
            None => (version, 1),
        };
        let deadline = deadline.filter(|_| value.is_some());
        let mut revisions = self.revisions(key);
        let stored = value.is_some();
        // What one op did before to the key counts as one revision with this.
        let touched = revisions.last().is_some_and(|state| state.version == version);
        revisions.retain(|state| state.version < version);
        let gone_before = revisions.last().is_some_and(|state| state.value.is_none()) && !touched;
        if stored || !(revisions.is_empty() || gone_before) {
            revisions.push(State { version, value, created, changes, deadline });
        }
        self.keys.insert(key.clone(), revisions);
        if stored && let Some(from) = self.trims.get_mut(key) {
            *from = version.min(*from);
        }
        if self.kept(key).is_empty() {
            // A deletion that nothing is kept before is kept nowhere.
            let from = Version::from_i64(version.as_i64() + 1).expect("it is positive");
            self.trims.insert(key.clone(), from);
        }
    }

    fn trim(&mut self, key: &Key, below: Option<Version>) -> u64 {
        let kept = self.kept(key);
        let below = below.unwrap_or(Version::MAX);
        let Some(base) = kept.iter().filter(|state| state.version <= below).map(|state| state.version).max()
        else {
            return 0;
        };
        let gone = kept.iter().filter(|state| state.version < base).count();
        // A deletion with nothing before it goes as well.
        let alone = kept.last().is_some_and(|newest| newest.value.is_none()) && gone + 1 == kept.len();
        let gone = gone + usize::from(alone);
        if gone > 0 {
            self.trimmed = true;
            let from = Version::from_i64(base.as_i64() + i64::from(alone)).expect("it is positive");
            self.trims.insert(key.clone(), from);
        }
        gone as u64
    }

    /// All revisions of a key, expired ones followed by their deletion.
    fn revisions(&self, key: &Key) -> Vec<State> {
        let mut states = self.keys.get(key).cloned().unwrap_or_default();
        let newest = states.last().filter(|state| state.value.is_some());
        let due = newest.and_then(|state| state.deadline).filter(|deadline| *deadline <= self.last.micros());
        if let Some(deadline) = due {
            let version = Version::new(deadline, ReplicaId(0));
            let (value, created, changes) = (None, Version::ZERO, 0);
            states.push(State { version, value, created, changes, deadline: None });
        }
        states
    }

    /// Those of them that the table keeps, oldest first.
    fn kept(&self, key: &Key) -> Vec<State> {
        let mut states = self.revisions(key);
        let trim = self.trims.get(key).copied().unwrap_or_default();
        states.retain(|state| state.version >= trim);
        if states.len() == 1 && states[0].value.is_none() {
            states.clear();
        }
        let keep = match self.history {
            History::All | History::Micros(_) => usize::MAX,
            History::Count(count) => count as usize,
        };
        let surplus = states.len().saturating_sub(keep);
        states.drain(..surplus);
        if keep == 1 && states.last().is_some_and(|state| state.value.is_none()) {
            states.clear();
        }
        states
    }

    fn shown(&self, key: &Key, limit: u32, before: Option<Version>) -> Answer {
        let limit = if limit == 0 { usize::MAX } else { limit as usize };
        let mut states = self.kept(key);
        states.reverse();
        states.retain(|state| before.is_none_or(|before| state.version < before));
        let next = if states.len() > limit { Some(states[limit - 1].version) } else { None };
        let revision = |state: State| Revision { version: state.version, value: state.value };
        Answer::History { revisions: states.into_iter().take(limit).map(revision).collect(), next }
    }

    fn row(&self, key: &Key, at: Version) -> Option<Row> {
        let states = self.revisions(key);
        let state = states.into_iter().rfind(|state| state.version <= at)?;
        let State { version, value, created, changes, deadline } = state;
        let value = value.filter(|_| deadline.is_none_or(|deadline| deadline > at.micros()))?;
        Some(Row { key: key.clone(), value, version, created, changes, deadline })
    }

    fn live(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys().filter(|key| self.row(key, self.last).is_some())
    }

    fn range(&self, range: &Range) -> Page {
        let at = range.at.unwrap_or(self.last);
        let backward = range.direction == Direction::Backward;
        let mut rows: Vec<Row> = self.keys.keys().filter_map(|key| self.row(key, at)).collect();
        rows.retain(|row| row.key >= range.from && range.to.as_ref().is_none_or(|to| row.key < *to));
        if backward {
            rows.reverse();
        }
        if let Some(page) = &range.page {
            rows.retain(|row| if backward { row.key < *page } else { row.key > *page });
        }
        if range.count_only {
            return Page { rows: Vec::new(), next: None, count: rows.len() as u64 };
        }
        let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
        // The page goes on after the last key that was looked at, be it deleted: only that there is more is known.
        let next = if rows.len() > limit { Some(rows[limit - 1].key.clone()) } else { None };
        rows.truncate(limit);
        if range.keys_only {
            rows.iter_mut().for_each(|row| row.value = Bytes::new());
        }
        Page { count: rows.len() as u64, rows, next }
    }
}

fn holds(expect: &Expect, row: Option<&Row>) -> bool {
    match expect {
        Expect::Absent => row.is_none(),
        Expect::Present => row.is_some(),
        Expect::Value(value) => row.is_some_and(|row| row.value == value),
        Expect::Version(version) => row.is_some_and(|row| row.version == *version),
    }
}

fn pop(value: &Value, side: Side, count: usize) -> (Value, Value) {
    let units: Vec<Vec<u8>> = match std::str::from_utf8(value) {
        Ok(text) => text.chars().map(|char| char.to_string().into_bytes()).collect(),
        Err(_) => value.iter().map(|byte| vec![*byte]).collect(),
    };
    let count = count.min(units.len());
    let (left, right) = match side {
        Side::Left => units.split_at(count),
        Side::Right => units.split_at(units.len() - count),
    };
    let (left, right): (Value, Value) = (left.concat().into(), right.concat().into());
    if side == Side::Left { (left, right) } else { (right, left) }
}
