//! The functions of a key's present value.

use bytes::Bytes;
use kv::{Answer, Function, Side, Value};

use super::{Cell, holds, same, sees};

/// Runs a function. False = it cannot answer that here.
pub(super) fn run(cell: &mut Option<Cell>, function: &Function, seen: Option<&Answer>, guess: bool) -> bool {
    match function {
        Function::Append { side, value } => {
            replace(cell, |found| join(*side, found, value));
            let length = cell.as_ref().map_or(0, |cell| cell.value.len() as u64);
            // A put's answer says that it happened and nothing more.
            sees(seen, |seen| *seen == Answer::Length(length) || *seen == Answer::Put { previous: None })
        }
        Function::Pop { side, count } => {
            let Some(found) = cell.as_mut() else { return sees(seen, |seen| *seen == Answer::Popped(None)) };
            let (popped, rest) = pop(*side, &found.value, *count);
            found.value = rest;
            sees(seen, |seen| *seen == Answer::Popped(Some(popped)))
        }
        Function::Increment { by } => {
            let found = cell.as_ref().map_or(Some(0), |cell| number(&cell.value));
            let Some(sum) = found.and_then(|found| found.checked_add(*by)) else { return false };
            replace(cell, |_| sum.to_string().into());
            sees(seen, |seen| *seen == Answer::Number(sum))
        }
        Function::Insert { value, deadline } => {
            let met = cell.is_none();
            store_if(met, cell, value, *deadline, seen)
        }
        Function::CompareAndPut { expect, value, deadline } => {
            let met = holds(expect, cell.as_ref(), guess);
            store_if(met, cell, value, *deadline, seen)
        }
    }
}

fn store_if(
    met: bool,
    cell: &mut Option<Cell>,
    value: &Value,
    deadline: Option<u64>,
    seen: Option<&Answer>,
) -> bool {
    let allowed = sees(seen, |seen| match seen {
        // What was found instead is not always told.
        Answer::Condition { met: told, current } => {
            *told == met && (met || current.is_none() || same(current.as_ref(), cell.as_ref()))
        }
        _ => false,
    });
    if met {
        *cell = Some(Cell { value: value.clone(), deadline });
    }
    allowed
}

/// Stores a function of the value; a deadline stays.
fn replace(cell: &mut Option<Cell>, change: impl FnOnce(&[u8]) -> Value) {
    let found = cell.get_or_insert_with(|| Cell::new(Bytes::new()));
    found.value = change(&found.value);
}

fn join(side: Side, found: &[u8], more: &[u8]) -> Value {
    match side {
        Side::Left => [more, found].concat().into(),
        Side::Right => [found, more].concat().into(),
    }
}

/// What is popped and what is left.
fn pop(side: Side, value: &Value, count: u32) -> (Value, Value) {
    let at = match side {
        Side::Left => prefix(value, count),
        Side::Right => suffix(value, count),
    };
    let (left, right) = (value.slice(..at), value.slice(at..));
    if side == Side::Left { (left, right) } else { (right, left) }
}

/// Where the first `count` characters end (bytes when it is not UTF-8).
fn prefix(value: &[u8], count: u32) -> usize {
    let count = count as usize;
    match std::str::from_utf8(value) {
        Ok(text) => text.char_indices().nth(count).map_or(value.len(), |(at, _)| at),
        Err(_) => count.min(value.len()),
    }
}

/// Where the last `count` characters begin.
fn suffix(value: &[u8], count: u32) -> usize {
    let count = count as usize;
    match std::str::from_utf8(value) {
        Ok(text) if count > 0 => text.char_indices().nth_back(count - 1).map_or(0, |(at, _)| at),
        _ => value.len().saturating_sub(count),
    }
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
