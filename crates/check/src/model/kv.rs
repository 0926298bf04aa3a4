//! The model of single keys; as a register it has an initial value.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Answer, Expect, Function, Key, Op, Side, Value};

use super::cells::{self, Cell};
use super::{Call, Model, Partition, Unjudged, lower};
use crate::history::Operation;

/// Judges gets, puts, deletes and updates of single keys, each key apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kv {
    /// What each key begins with.
    pub initial: Initial,
    /// An empty value and no value are the same, as in stores that answer an empty text for a missing key.
    pub empty_is_absent: bool,
    /// A get-all, put-all, range or delete-range counts as one op of each of its keys. What such an op promises of several keys
    /// together is then not judged.
    pub divides: bool,
    /// How many keys a delete says that it met is not judged: where writes have no order, two that run together may both meet a value.
    pub deletes_blindly: bool,
}

/// What a key begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// Nothing.
    #[default]
    Absent,
    /// This value.
    Value(Value),
    /// One of these values.
    OneOf(Vec<Value>),
    /// Nobody knows: nothing, or any value that the history mentions.
    Unknown,
}

impl Model for Kv {
    type State = Option<Cell>;

    fn calls(&self, index: usize, operation: &Operation) -> Result<Vec<Call>, Unjudged> {
        lower::unjudged_read(&operation.op).map_or(Ok(()), Err)?;
        if leaves_values(&operation.op) {
            return Ok(Vec::new());
        }
        if single_key(&operation.op).is_none() && !(self.divides && is_divisible(&operation.op)) {
            let why = "the model kv judges ops of single keys only: use batch".into();
            return Err(Unjudged { why, writes: operation.op.class() != kv::Class::Read });
        }
        let call = lower::whole(index, operation);
        Ok(call
            .map(|call| if self.empty_is_absent { without_empty(call) } else { call })
            .map(|call| if self.deletes_blindly { without_count(call) } else { call })
            .into_iter()
            .collect())
    }

    fn partition(&self, calls: Vec<Call>) -> Vec<Partition> {
        let keys = lower::named_keys(&calls);
        let mut by_key: BTreeMap<Key, Vec<Call>> = BTreeMap::new();
        for call in calls.into_iter().flat_map(|call| lower::by_key(call, &keys)) {
            let key = single_key(&call.op).expect("calls() refuses the others").clone();
            by_key.entry(key).or_default().push(call);
        }
        by_key.into_iter().map(|(key, calls)| Partition { name: name(&key), calls }).collect()
    }

    fn initial(&self, calls: &[Call]) -> Vec<Option<Cell>> {
        self.initial.cells(calls)
    }

    fn step(&self, state: &Option<Cell>, call: &Call) -> Vec<Option<Cell>> {
        let mut left = cells::step(state, call);
        if self.empty_is_absent {
            left.iter_mut().for_each(|cell| *cell = cell.take().filter(|cell| !cell.value.is_empty()));
        }
        left
    }

    fn is_pure(&self, op: &Op, answer: Option<&Answer>) -> bool {
        cells::is_pure(op, answer)
    }

    fn is_blind(&self, op: &Op, answer: Option<&Answer>) -> bool {
        match op {
            Op::Put { deadline: None, previous, .. } => !previous || answer.is_none(),
            Op::Delete { .. } => answer.is_none(),
            _ => false,
        }
    }

    fn grows(&self, op: &Op) -> bool {
        matches!(op, Op::Get { .. } | Op::Update { function: Function::Append { side: Side::Right, .. }, .. })
    }

    fn may_lead(&self, state: &Option<Cell>, _op: &Op, answer: Option<&Answer>) -> bool {
        match (state, answer) {
            (Some(cell), _) if cell.deadline.is_some() => true,
            (Some(cell), Some(Answer::Row(Some(row)))) => row.value.starts_with(&cell.value),
            (Some(_), Some(Answer::Row(None))) => false,
            _ => true,
        }
    }

    fn removable(&self, calls: &[Call]) -> Vec<Vec<usize>> {
        by_value(calls).unwrap_or_default()
    }

    fn bytes(&self, state: &Option<Cell>) -> usize {
        size_of::<Option<Cell>>() + state.as_ref().map_or(0, |cell| cell.value.len())
    }

    fn describe(&self, state: &Option<Cell>) -> String {
        describe(state.as_ref())
    }
}

/// A delete that does not say what it met.
fn without_count(call: Call) -> Call {
    let answer = match (&call.op, call.answer) {
        (Op::Delete { .. }, _) => None,
        (Op::DeleteRange { .. }, Some(Answer::Deleted { next, .. })) => {
            Some(Answer::Deleted { count: 1, previous: None, next })
        }
        (_, answer) => answer,
    };
    Call { answer, ..call }
}

/// Names no key, and changes no value of any.
fn leaves_values(op: &Op) -> bool {
    matches!(op, Op::TrimRange { .. } | Op::Note(_)) || op.is_own()
}

/// May count as one op of each key.
fn is_divisible(op: &Op) -> bool {
    matches!(op, Op::GetAll { .. } | Op::PutAll { .. } | Op::Range(_) | Op::DeleteRange { .. })
}

impl Kv {
    /// Whether it has a meaning for an op, or may leave it out.
    pub fn judges(op: &Op) -> bool {
        single_key(op).is_some() || leaves_values(op)
    }
}

impl Initial {
    /// The cells that one key may begin with.
    pub(super) fn cells(&self, calls: &[Call]) -> Vec<Option<Cell>> {
        match self {
            Initial::Absent => vec![None],
            Initial::Value(value) => vec![Some(Cell::new(value.clone()))],
            Initial::OneOf(values) => values.iter().map(|value| Some(Cell::new(value.clone()))).collect(),
            Initial::Unknown => {
                let mut values: Vec<Value> = calls.iter().flat_map(mentioned).collect();
                values.sort();
                values.dedup();
                [None].into_iter().chain(values.into_iter().map(|value| Some(Cell::new(value)))).collect()
            }
        }
    }
}

/// A state of one key, for people.
pub(super) fn describe(cell: Option<&Cell>) -> String {
    match cell {
        None => "no value".into(),
        Some(cell) => show(&cell.value),
    }
}

/// A key or value, for people.
pub(crate) fn show(text: &Bytes) -> String {
    crate::history::show(text)
}

/// What a part is called: its key, unless it is a register without a name.
fn name(key: &Key) -> String {
    if key.is_empty() { "the register".into() } else { show(key) }
}

/// The one key of an op.
fn single_key(op: &Op) -> Option<&Key> {
    if matches!(op, Op::GetAll { .. } | Op::PutAll { .. }) {
        return None;
    }
    let mut first = None;
    let mut same = true;
    op.for_each_key(&mut |key| same &= *first.get_or_insert(key) == key);
    first.filter(|_| same)
}

fn without_empty(call: Call) -> Call {
    let answer = match call.answer {
        Some(Answer::Row(Some(row))) if row.value.is_empty() => Some(Answer::Row(None)),
        other => other,
    };
    Call { answer, ..call }
}

/// The values that a call reads, writes or expects.
fn mentioned(call: &Call) -> Vec<Value> {
    let mut values = match &call.op {
        Op::Put { value, .. } => vec![value.clone()],
        Op::Update { function: Function::Insert { value, .. }, .. } => vec![value.clone()],
        Op::Update { function: Function::CompareAndPut { expect, value, .. }, .. } => match expect {
            Expect::Value(expected) => vec![expected.clone(), value.clone()],
            _ => vec![value.clone()],
        },
        _ => Vec::new(),
    };
    match &call.answer {
        Some(Answer::Row(Some(row)) | Answer::Condition { current: Some(row), .. }) => {
            values.push(row.value.clone())
        }
        Some(Answer::Put { previous: Some(row) }) => values.push(row.value.clone()),
        Some(Answer::Popped(Some(value))) => values.push(value.clone()),
        _ => {}
    }
    values
}

/// Groups of calls by the value they write, read or expect.
///
/// An order of reads, puts and compares stays allowed when all calls that mention one value are left out: every read that
/// is left finds the same latest write. Where nobody reads or expects the value, each of its writes may go alone. A compare
/// that failed may find what it expected once others are gone, hence it goes with every group. Other ops (appends, say) are
/// not like that: no groups then.
fn by_value(calls: &[Call]) -> Option<Vec<Vec<usize>>> {
    let mut groups: BTreeMap<Option<Value>, Group> = BTreeMap::new();
    let mut failed = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let written = match (&call.op, &call.answer) {
            (_, Some(Answer::Condition { met: false, .. })) => {
                failed.push(index);
                None
            }
            (Op::Get { .. }, Some(Answer::Row(None))) => {
                groups.entry(None).or_default().add(index, true);
                None
            }
            (Op::Get { .. }, _) => None,
            (Op::Put { previous: false, deadline: None, value, .. }, _) => Some(value),
            (Op::Update { function: Function::CompareAndPut { expect, value, deadline: None }, .. }, _) => {
                matches!(expect, Expect::Value(expected) if expected != value).then_some(())?;
                Some(value)
            }
            _ => return None,
        };
        for value in mentioned(call) {
            let reads = written != Some(&value);
            groups.entry(Some(value)).or_default().add(index, reads);
        }
    }
    Some(groups.into_values().flat_map(|group| group.units(&failed)).collect())
}

/// The calls that mention a value.
#[derive(Default)]
struct Group {
    calls: Vec<usize>,
    is_read: bool,
}

impl Group {
    fn add(&mut self, call: usize, reads: bool) {
        self.is_read |= reads;
        if self.calls.last() != Some(&call) {
            self.calls.push(call);
        }
    }

    fn units(mut self, failed: &[usize]) -> Vec<Vec<usize>> {
        if !self.is_read && failed.is_empty() {
            return self.calls.into_iter().map(|call| vec![call]).collect();
        }
        self.calls.extend(failed);
        self.calls.sort_unstable();
        self.calls.dedup();
        vec![self.calls]
    }
}
