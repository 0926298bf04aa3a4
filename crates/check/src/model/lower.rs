//! From operations of a history to the calls that a model orders.

use std::collections::{BTreeMap, BTreeSet};

use kv::{Answer, Direction, Key, KeyAnswer, Op, Page, Range, Row};

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

/// All keys that calls name.
pub(super) fn named_keys(calls: &[Call]) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    for call in calls {
        call.op.for_each_key(&mut |key| {
            keys.insert(key.clone());
        });
    }
    keys
}

/// The calls of an op over several keys that is atomic per key: a get, put or delete of each key. What a range or delete-range
/// met is known of those of `keys` that it came to. Other calls stay as they are.
pub(super) fn by_key(call: Call, keys: &BTreeSet<Key>) -> Vec<Call> {
    match &call.op {
        Op::GetAll { .. } | Op::PutAll { .. } => grouped(call, Key::clone).into_iter().map(single).collect(),
        Op::Range(range) => range_by_key(&call, range, keys),
        Op::DeleteRange { from, to } => delete_by_key(&call, from, to.as_ref(), keys),
        _ => vec![call],
    }
}

/// What a delete-range did to each key: up to where it goes on they are gone, and behind that a shard may have gone on already.
fn delete_by_key(call: &Call, from: &Key, to: Option<&Key>, keys: &BTreeSet<Key>) -> Vec<Call> {
    let (next, is_empty) = match &call.answer {
        Some(Answer::Deleted { count, next, .. }) => (next.as_ref(), *count == 0),
        _ => (None, false),
    };
    let found = is_empty.then(|| Answer::Deleted { count: 0, previous: None, next: None });
    let inside = keys.iter().filter(|key| *key >= from && to.is_none_or(|to| *key < to));
    let delete = |key: &Key| {
        let op = Op::Delete { key: key.clone(), previous: false };
        match next.is_none_or(|next| key < next) {
            true => Some(Call { op, answer: found.clone(), ..*call }),
            false => (!is_empty).then(|| Call { op, answer: None, returned: None, ..*call }),
        }
    };
    inside.filter_map(delete).collect()
}

/// A get-all or put-all of one key, as a get or put.
fn single(call: Call) -> Call {
    match (call.op, call.answer) {
        (Op::GetAll { keys, at }, answer) => {
            let key = keys.into_iter().next().expect("a part has its key");
            let row = match answer {
                Some(Answer::Many(answers)) => answers.into_iter().find_map(|answer| answer.result.ok()),
                _ => None,
            };
            Call { op: Op::Get { key, at }, answer: row.map(Answer::Row), ..call }
        }
        (Op::PutAll { rows }, answer) => {
            let (key, value) = rows.into_iter().next_back().expect("a part has its key");
            let answer = answer.map(|_| Answer::Put { previous: None });
            Call { op: Op::Put { key, value, deadline: None, previous: false }, answer, ..call }
        }
        (op, answer) => Call { op, answer, ..call },
    }
}

/// What a page says of each key: its row, or that it was not there.
fn range_by_key(call: &Call, range: &Range, keys: &BTreeSet<Key>) -> Vec<Call> {
    let Some(Answer::Page(page)) = &call.answer else { return Vec::new() };
    if range.count_only || range.at.is_some() {
        return Vec::new();
    }
    let get = |key: &Key, row: Option<Row>| {
        let op = Op::Get { key: key.clone(), at: None };
        Call { op, answer: Some(Answer::Row(row)), ..*call }
    };
    let shown: BTreeMap<&Key, &Row> = page.rows.iter().map(|row| (&row.key, row)).collect();
    let absent = keys.iter().filter(|key| covers(range, page, key) && !shown.contains_key(key));
    let absent = absent.map(|key| get(key, None));
    let present = shown.iter().filter(|_| !range.keys_only).map(|(key, row)| get(key, Some((*row).clone())));
    present.chain(absent).collect()
}

/// Whether a page came to a key.
fn covers(range: &Range, page: &Page, key: &Key) -> bool {
    let backward = range.direction == Direction::Backward;
    let behind = |key: &Key, other: &Key| if backward { key < other } else { key > other };
    let is_full = range.limit > 0 && page.rows.len() as u64 >= u64::from(range.limit);
    let end = page.next.as_ref().or(page.rows.last().filter(|_| is_full).map(|row| &row.key));
    *key >= range.from
        && range.to.as_ref().is_none_or(|to| key < to)
        && range.page.as_ref().is_none_or(|page| behind(key, page))
        && end.is_none_or(|end| !behind(key, end))
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
