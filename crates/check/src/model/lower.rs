//! From operations of a history to the calls that a model orders.

use std::collections::{BTreeMap, BTreeSet};

use kv::{Answer, Key, KeyAnswer, Op, Page, Row};

use super::cells::is_pure;
use super::{Call, Unjudged};
use crate::history::{Operation, Outcome, row};

/// The call of an operation that is atomic as a whole; `None` when it constrains nothing.
pub(super) fn whole(index: usize, operation: &Operation) -> Option<Call> {
    let call = Call {
        operation: index,
        op: operation.op.clone(),
        answer: operation.answer().map(values_only),
        called: operation.called.index,
        returned: operation.deadline(),
        clock: operation.clock,
    };
    (operation.outcome != Outcome::Failed && !says_nothing(&call)).then_some(call)
}

/// The calls of a get-all or put-all that is atomic per group of keys: one per group, and apart the keys that failed or
/// are in doubt. Other calls stay as they are.
pub(super) fn grouped<G: Ord>(call: Call, group: impl Fn(&Key) -> G) -> Vec<Call> {
    let keys: Vec<&Key> = match &call.op {
        Op::GetAll { keys, .. } => keys.iter().collect(),
        Op::PutAll { rows } => rows.iter().map(|(key, _)| key).collect(),
        _ => return vec![call],
    };
    let answers: BTreeMap<&Key, &KeyAnswer> = match &call.answer {
        Some(Answer::Many(answers)) => answers.iter().map(|answer| (&answer.key, answer)).collect(),
        _ => BTreeMap::new(),
    };
    let mut parts: BTreeMap<(G, Fate), BTreeSet<&Key>> = BTreeMap::new();
    for key in keys {
        let fate = Fate::of(answers.get(key).copied());
        parts.entry((group(key), fate)).or_default().insert(key);
    }
    parts.into_iter().filter_map(|((_, fate), keys)| part(&call, fate, &keys)).collect()
}

/// Why an operation that only reads is left out, if it is.
pub(super) fn unjudged_read(op: &Op) -> Option<Unjudged> {
    let why = match op {
        Op::History { .. } => "the kept revisions of a key are not modelled",
        _ if op.at().is_some() => "reads at a version are not modelled",
        _ => return None,
    };
    Some(Unjudged { why: why.into(), writes: false })
}

/// What became of one key of several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Done,
    Unknown,
    Failed,
}

impl Fate {
    fn of(answer: Option<&KeyAnswer>) -> Fate {
        match answer.map(|answer| &answer.result) {
            Some(Err(error)) if error.outcome() == kv::Outcome::Failed => Fate::Failed,
            Some(Err(_)) => Fate::Unknown,
            Some(Ok(_)) | None => Fate::Done,
        }
    }
}

fn part(call: &Call, fate: Fate, keys: &BTreeSet<&Key>) -> Option<Call> {
    let op = match &call.op {
        Op::PutAll { rows } => {
            Op::PutAll { rows: rows.iter().filter(|(key, _)| keys.contains(key)).cloned().collect() }
        }
        op => Op::GetAll { keys: keys.iter().map(|key| (*key).clone()).collect(), at: op.at() },
    };
    let answer = match &call.answer {
        Some(Answer::Many(answers)) => {
            Some(Answer::Many(answers.iter().filter(|answer| keys.contains(&answer.key)).cloned().collect()))
        }
        other => other.clone(),
    };
    let part = match fate {
        Fate::Done => Call { op, answer, ..*call },
        Fate::Unknown => Call { op, answer: None, returned: None, ..*call },
        Fate::Failed => return None,
    };
    (!says_nothing(&part)).then_some(part)
}

/// Neither changes anything nor tells what was there.
fn says_nothing(call: &Call) -> bool {
    is_pure(&call.op, None)
        && (call.answer.is_none()
            || matches!(call.op, Op::Trim { .. } | Op::TrimRange { .. } | Op::Advance { .. }))
}

/// The answer without versions and counts, which are not judged: calls that differ in nothing else are alike.
fn values_only(answer: &Answer) -> Answer {
    let bare = |known: &Row| row(&known.key, known.value.clone());
    let bare_option = |known: &Option<Row>| known.as_ref().map(bare);
    match answer {
        Answer::Row(row) => Answer::Row(bare_option(row)),
        Answer::Put { previous } => Answer::Put { previous: bare_option(previous) },
        Answer::Many(rows) => Answer::Many(rows.iter().map(values_only_of_key).collect()),
        Answer::Page(page) => Answer::Page(Page {
            rows: page.rows.iter().map(bare).collect(),
            next: page.next.clone(),
            ..*page
        }),
        Answer::Deleted { count, previous, next } => {
            Answer::Deleted { count: *count, previous: bare_option(previous), next: next.clone() }
        }
        Answer::Condition { met, current } => Answer::Condition { met: *met, current: bare_option(current) },
        Answer::Transaction { succeeded, answers } => {
            Answer::Transaction { succeeded: *succeeded, answers: answers.iter().map(values_only).collect() }
        }
        other => other.clone(),
    }
}

fn values_only_of_key(answer: &KeyAnswer) -> KeyAnswer {
    let result = match &answer.result {
        Ok(known) => Ok(known.as_ref().map(|known| row(&known.key, known.value.clone()))),
        Err(error) => Err(error.clone()),
    };
    KeyAnswer { key: answer.key.clone(), result }
}
