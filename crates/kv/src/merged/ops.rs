//! What becomes of a client's op where writes have no order: what has to be seen first, the rows that are made, what is answered.
//!
//! ```text
//!   put k=b   look at k: a at 10       make k at 20, value b, created 10, 2 changes, was 10       answer: stored
//!   get k     look at k: b at 20                                                                   answer: b at 20
//! ```
//!
//! Each function is pure, and the same for whoever takes the op. Who does it sees to that what is answered stays true: that what was
//! found, a tombstone too, is where later readers look, and that what was made is durable on enough replicas.

use super::{Look, Newest, Row};
use crate::{
    Answer, Direction, Key, KeyAnswer, Op, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Page, Protocol, Range, Value,
    Version,
};

/// What has to be seen before an op is answered, or its rows are made; `None` = it is not about the newest rows of keys, or can never be had
/// without an order. Of a range it is the page that the op wants.
pub fn look(op: &Op) -> Option<Look> {
    if op.at().is_some() {
        return None;
    }
    match op {
        Op::Get { key, .. }
        | Op::Put { key, .. }
        | Op::Delete { key, .. }
        | Op::Trim { key, below: None } => Some(Look::Keys(vec![key.clone()])),
        Op::Trim { key, below } => {
            Some(Look::AsOf { from: key.clone(), to: Some(right_behind(key)), at: *below })
        }
        Op::TrimRange { from, to, below } => {
            Some(Look::AsOf { from: from.clone(), to: to.clone(), at: *below })
        }
        Op::GetAll { keys, .. } => Some(Look::Keys(keys.clone())),
        Op::PutAll { rows } => {
            let mut keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
            keys.sort_unstable();
            keys.dedup();
            Some(Look::Keys(keys))
        }
        Op::Range(range) if !range.ledger => Some(Look::Range {
            from: range.from.clone(),
            to: range.to.clone(),
            direction: range.direction,
            limit: if range.count_only { 0 } else { range.limit },
            after: range.page.clone(),
        }),
        Op::DeleteRange { from, to } => Some(Look::Range {
            from: from.clone(),
            to: to.clone(),
            direction: Direction::Forward,
            limit: 0,
            after: None,
        }),
        _ => None,
    }
}

/// The rows that a write makes at a version that was never used, from the newest rows that were seen. None are made when there is nothing to
/// remove. A trim makes no revision of a value: the rows that stay are made again, each with its own version as the floor of its key. Of a key
/// that is deleted a new tombstone is made, which stays until all have it as any other.
pub fn make(op: &Op, version: Version, before: &Newest) -> Vec<Row> {
    match op {
        Op::Put { key, value, deadline, .. } => {
            store(key, value, version, *deadline, before.get(key)).into_iter().collect()
        }
        Op::PutAll { rows } => {
            let stored = |(key, value)| store(key, value, version, None, before.get(key));
            last_of_each(rows).filter_map(stored).collect()
        }
        Op::Delete { key, .. } => remove(key, version, before.get(key)).into_iter().collect(),
        Op::DeleteRange { .. } => {
            before.rows().filter_map(|row| remove(&row.key, version, Some(row))).collect()
        }
        Op::Trim { below: None, .. } | Op::TrimRange { below: None, .. } => {
            trimmed(op, before).map(|row| trim(row, version)).collect()
        }
        Op::Trim { .. } | Op::TrimRange { .. } => trimmed(op, before).map(Row::trim).collect(),
        _ => Vec::new(),
    }
}

/// The rows that a trim leaves as the oldest of their keys, as far as they are not that yet. What was written meanwhile is not what was
/// looked for.
fn trimmed<'a>(op: &Op, before: &'a Newest) -> impl Iterator<Item = &'a Row> {
    let (key, below) = match op {
        Op::Trim { key, below } => (Some(key), *below),
        Op::TrimRange { below, .. } => (None, *below),
        _ => unreachable!("it is a trim"),
    };
    let is_wanted = move |row: &&Row| {
        let is_old = below.is_none_or(|below| row.version <= below);
        is_old && row.floor < row.version && key.is_none_or(|key| row.key == *key)
    };
    before.rows().filter(is_wanted)
}

/// The newest row of a key, with nothing before it.
fn trim(row: &Row, version: Version) -> Row {
    match row.is_live_at(version) {
        true => row.trim(),
        false => Row::tombstone(row.key.clone(), version, replaced(version, Some(row))).trim(),
    }
}

/// What is answered to a write that was made at a version, or to a read of a moment: what expires up to it is gone. `before` is what
/// was seen of what [`look`] asks for. `None` = it is not answered from rows of keys.
pub fn answer(op: &Op, version: Version, before: &Newest) -> Option<Answer> {
    let live = |key: &Key| before.get(key).filter(|row| row.is_live_at(version)).map(Row::to_row);
    Some(match op {
        Op::Get { key, .. } => Answer::Row(live(key)),
        Op::GetAll { keys, .. } => {
            let found = |key: &Key| KeyAnswer { key: key.clone(), result: Ok(live(key)) };
            Answer::Many(keys.iter().map(found).collect())
        }
        Op::Range(range) if !range.ledger => Answer::Page(page(range, version, before)),
        Op::Put { key, previous, .. } => Answer::Put { previous: live(key).filter(|_| *previous) },
        Op::PutAll { rows } => Answer::Many(stored(op, rows, version, before)),
        Op::Delete { key, previous } => {
            let found = live(key);
            let count = u64::from(found.is_some());
            Answer::Deleted { count, previous: found.filter(|_| *previous), next: None }
        }
        Op::DeleteRange { .. } => Answer::Deleted {
            count: before.rows().filter(|row| row.is_live_at(version)).count() as u64,
            previous: None,
            next: before.next().map(right_behind),
        },
        Op::Trim { .. } | Op::TrimRange { .. } => Answer::Trimmed {
            count: trimmed(op, before).count() as u64,
            next: before.next().map(right_behind),
        },
        _ => return None,
    })
}

/// Why an op cannot be had under a protocol without an order, and what to use instead; `None` = it can. The store's own ops are none of a
/// client's.
///
/// Under [`Protocol::Broadcast`] a member answers from its own table, so what it has seen is what there was: earlier revisions are read, and told
/// by writes, as they are there. Under [`Protocol::Quorum`] members that weigh enough know the newest row of a key, and none all of the others.
pub fn refusal(protocol: Protocol, op: &Op) -> Option<&'static str> {
    refusal_without_order(op).or_else(|| refusal_of_history(op).filter(|_| protocol != Protocol::Broadcast))
}

/// What no protocol without an order can do.
fn refusal_without_order(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Update { .. } => {
            "an update depends on what is there, and here writes have no order: use put, or a keyspace of protocol single, raft, primary or two-phase"
        }
        Op::Transaction { .. } => {
            "a transaction needs an order of writes, and here they have none: use a keyspace of protocol single, raft, primary or two-phase"
        }
        Op::Expire { .. } => {
            "a new deadline depends on the value that is there, and here writes have no order: put the value with its time to live, or use a keyspace of protocol single, raft, primary or two-phase"
        }
        Op::Advance { .. } | Op::Merge { .. } | Op::Collect { .. } => {
            "this is the store's own: no client asks for it"
        }
        _ => return None,
    })
}

/// What needs a member that has seen the earlier revisions.
fn refusal_of_history(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Put { previous: true, .. } | Op::Delete { previous: true, .. } => {
            "here no replica knows which row was there before: leave 'previous' out and get the key first, or use a keyspace of protocol single, raft, primary, two-phase or broadcast"
        }
        Op::History { .. } => {
            "here a replica has not seen all revisions of a key: get the newest, or use a keyspace of protocol single, raft, primary, two-phase or broadcast"
        }
        Op::Trim { .. } | Op::TrimRange { .. } => {
            "here replicas keep as many revisions as the keyspace's history says: alter that, or use a keyspace of protocol single, raft, primary, two-phase or broadcast"
        }
        _ if op.at().is_some() => {
            "here a replica has not seen all that was written up to a version: read the newest state, or use a keyspace of protocol single, raft, primary, two-phase or broadcast"
        }
        _ => return None,
    })
}

/// The row of a value. A deadline that has passed leaves nothing.
fn store(
    key: &Key,
    value: &Value,
    version: Version,
    deadline: Option<u64>,
    before: Option<&Row>,
) -> Option<Row> {
    if deadline.is_some_and(|deadline| deadline <= version.micros()) {
        return remove(key, version, before);
    }
    let (created, changes) = match before.filter(|row| row.is_live_at(version)) {
        Some(row) => (row.created, row.changes.saturating_add(1)),
        None => (version, 1),
    };
    let (replaced, floor) = (replaced(version, before), floor(before));
    let (key, value, expired) = (key.clone(), Some(value.clone()), false);
    Some(Row { key, version, expired, value, created, changes, deadline, replaced, floor, known: false })
}

/// The tombstone of a key; `None` = it has no value.
fn remove(key: &Key, version: Version, before: Option<&Row>) -> Option<Row> {
    before.filter(|row| row.is_live_at(version))?;
    Some(Row { floor: floor(before), ..Row::tombstone(key.clone(), version, replaced(version, before)) })
}

/// A floor stays with its key: who missed the trim learns of it with the next row.
fn floor(before: Option<&Row>) -> Version {
    before.map_or(Version::ZERO, |row| row.floor)
}

fn replaced(version: Version, before: Option<&Row>) -> Option<Version> {
    let replaced = before.map(|row| row.version);
    assert!(replaced < Some(version), "a row is made at {version}, and there is one at {replaced:?}");
    replaced
}

/// The last one of each key of a put-all, in the order of the keys.
fn last_of_each(rows: &[(Key, Value)]) -> impl Iterator<Item = (&Key, &Value)> {
    let last: std::collections::BTreeMap<&Key, &Value> =
        rows.iter().map(|(key, value)| (key, value)).collect();
    last.into_iter()
}

/// What a put-all says of its keys: each as stored, without the value.
fn stored(op: &Op, rows: &[(Key, Value)], version: Version, before: &Newest) -> Vec<KeyAnswer> {
    let mut made = Newest::default();
    for row in make(op, version, before) {
        made.add(row);
    }
    let of = |(key, _): &(Key, Value)| {
        let row = made.get(key).map(|row| crate::Row { value: Value::new(), ..row.to_row() });
        KeyAnswer { key: key.clone(), result: Ok(row) }
    };
    rows.iter().map(of).collect()
}

/// A page of the live rows that were found.
fn page(range: &Range, version: Version, found: &Newest) -> Page {
    let limit = if range.limit == 0 || range.count_only { PAGE_ROWS_MAX } else { range.limit as usize };
    let (mut page, mut bytes, mut last) = (Page::default(), 0, None::<&Key>);
    for row in found.rows().filter(|row| row.is_live_at(version)) {
        let length = if range.keys_only || range.count_only { row.key.len() } else { row.bytes() };
        let is_large = bytes + length > PAGE_BYTES_MAX && !page.rows.is_empty();
        if page.count as usize == limit.min(PAGE_ROWS_MAX) || is_large {
            page.next = last.cloned();
            return page;
        }
        page.count += 1;
        if !range.count_only {
            bytes += length;
            let value = row.value.clone().filter(|_| !range.keys_only).unwrap_or_default();
            page.rows.push(crate::Row { value, ..row.to_row() });
        }
        last = Some(&row.key);
    }
    page.next = found.next().cloned();
    page
}

/// The first key after another.
fn right_behind(key: &Key) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
