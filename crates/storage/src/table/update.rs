//! Updates: the new value of a key as a function of its present one.
//!
//! Append, pop and increment keep the deadline; what stores a whole new value (insert, compare-and-put) sets it anew. A
//! pop that takes nothing changes nothing.

use bytes::Bytes;
use kv::{Answer, Error, Expect, Function, Key, Side, VALUE_BYTES_MAX, Value};
use mutant::Mutant;

use super::Stop;
use super::record::Record;
use super::write::{Writer, conflict};

impl Writer<'_> {
    pub fn update(&mut self, key: &Key, function: &Function) -> Result<Answer, Stop> {
        let old = self.current(key)?;
        match function {
            Function::Append { side, value } => self.append(key, old, *side, value),
            Function::Pop { side, count } => self.pop(key, old, *side, *count as usize),
            Function::Increment { by } => self.increment(key, old, *by),
            Function::Insert { value, deadline } => self.put_if(key, old, &Expect::Absent, value, *deadline),
            Function::CompareAndPut { expect, value, deadline } => {
                self.put_if(key, old, expect, value, *deadline)
            }
        }
    }

    fn append(&mut self, key: &Key, old: Option<Record>, side: Side, added: &Value) -> Result<Answer, Stop> {
        let present = value_of(old.as_ref()).unwrap_or_default();
        let length = (present.len() + added.len()) as u64;
        if length > VALUE_BYTES_MAX as u64 {
            let what = "the value after the append".into();
            return Err(Error::TooLarge { what, size: length, limit: VALUE_BYTES_MAX as u64 }.into());
        }
        let pieces: [&[u8]; 2] = match side {
            Side::Left => [added, &present],
            Side::Right => [&present, added],
        };
        let deadline = self.deadline_of(old.as_ref()).filter(|_| !mutant::is(Mutant::AppendLosesTheDeadline));
        self.store(key, old, &pieces, deadline)?;
        Ok(Answer::Length(length))
    }

    fn pop(&mut self, key: &Key, old: Option<Record>, side: Side, count: usize) -> Result<Answer, Stop> {
        let Some(present) = value_of(old.as_ref()) else { return Ok(Answer::Popped(None)) };
        let (popped, left) = split(&present, side, count);
        assert_eq!(popped.len() + left.len(), present.len(), "bytes that a pop took and left");
        if !popped.is_empty() {
            let deadline = self.deadline_of(old.as_ref());
            self.store(key, old, &[&left], deadline)?;
        }
        Ok(Answer::Popped(Some(popped)))
    }

    fn increment(&mut self, key: &Key, old: Option<Record>, by: i64) -> Result<Answer, Stop> {
        let number = match value_of(old.as_ref()) {
            Some(value) => number(&value).ok_or_else(|| {
                conflict(
                    "increment",
                    key,
                    "its value is no whole number of 64 bits; put a number there first",
                )
            })?,
            None => 0,
        };
        let sum = number.checked_add(by).ok_or_else(|| {
            conflict("increment", key, &format!("{number} and {by} together are over 64 bits"))
        })?;
        let deadline = self.deadline_of(old.as_ref());
        self.store(key, old, &[sum.to_string().as_bytes()], deadline)?;
        Ok(Answer::Number(sum))
    }

    /// The deadline of a value that is changed; a new one has that of a value that is stored.
    fn deadline_of(&self, old: Option<&Record>) -> Option<u64> {
        match old.filter(|old| !old.head.tombstone) {
            Some(old) => old.head.deadline,
            None => self.deadline(None),
        }
    }

    fn put_if(
        &mut self,
        key: &Key,
        old: Option<Record>,
        expect: &Expect,
        value: &Value,
        deadline: Option<u64>,
    ) -> Result<Answer, Stop> {
        if !holds(expect, old.as_ref()) {
            let current = old.filter(|old| !old.head.tombstone).map(|old| old.row(key));
            return Ok(Answer::Condition { met: false, current });
        }
        self.store(key, old, &[value], self.deadline(deadline))?;
        Ok(Answer::Condition { met: true, current: None })
    }
}

/// Whether a key's newest revision, expired ones removed, is as expected.
pub fn holds(expect: &Expect, found: Option<&Record>) -> bool {
    let live = found.filter(|record| !record.head.tombstone);
    match expect {
        Expect::Absent => live.is_none(),
        Expect::Present => live.is_some(),
        Expect::Value(value) => live.is_some_and(|record| record.value() == value),
        Expect::Version(version) => live.is_some_and(|record| record.head.version == *version),
    }
}

fn value_of(old: Option<&Record>) -> Option<Bytes> {
    old.filter(|old| !old.head.tombstone).map(Record::value)
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Takes so many characters off one end: what was taken, and what is left.
fn split(value: &Bytes, side: Side, count: usize) -> (Bytes, Bytes) {
    match side {
        Side::Left => {
            let at = end_of_first(value, count);
            (value.slice(..at), value.slice(at..))
        }
        Side::Right => {
            let at = begin_of_last(value, count);
            (value.slice(at..), value.slice(..at))
        }
    }
}

fn end_of_first(value: &[u8], count: usize) -> usize {
    match std::str::from_utf8(value) {
        Ok(text) => text.char_indices().nth(count).map_or(value.len(), |(at, _)| at),
        Err(_) => count.min(value.len()),
    }
}

fn begin_of_last(value: &[u8], count: usize) -> usize {
    match std::str::from_utf8(value) {
        _ if count == 0 => value.len(),
        Ok(text) => text.char_indices().nth_back(count - 1).map_or(0, |(at, _)| at),
        Err(_) => value.len().saturating_sub(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(value: &'static [u8], side: Side, count: usize) -> (Bytes, Bytes) {
        split(&Bytes::from_static(value), side, count)
    }

    #[test]
    fn split_takes_characters_of_text() {
        let text = "aé😀b".as_bytes();
        assert_eq!(both(text, Side::Left, 2), ("aé".into(), "😀b".into()));
        assert_eq!(both(text, Side::Right, 2), ("😀b".into(), "aé".into()));
        assert_eq!(both(text, Side::Left, 9), ("aé😀b".into(), "".into()));
        assert_eq!(both(text, Side::Right, 9), ("aé😀b".into(), "".into()));
    }

    #[test]
    fn split_takes_bytes_of_what_is_no_text() {
        assert_eq!(both(b"\xffab", Side::Left, 1), (Bytes::from_static(b"\xff"), "ab".into()));
        assert_eq!(both(b"ab\xff", Side::Right, 2), (Bytes::from_static(b"b\xff"), "a".into()));
        assert_eq!(both(b"\xff", Side::Right, 5), (Bytes::from_static(b"\xff"), "".into()));
    }
}
