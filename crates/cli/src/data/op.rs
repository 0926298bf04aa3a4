//! From commands to ops.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use kv::{Direction, Expect, Function, Key, Op, Range, Side, VALUE_BYTES_MAX};

use super::command::Command;
use super::txn;
use crate::escape;
use crate::exit::Error;
use crate::parse::{Deadline, KeyWord, ValueWord};

/// What a command asks.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The op. Its deadline is not set yet.
    pub op: Op,
    /// Its deadline, from now on the store's clock.
    pub ttl: Option<Duration>,
}

/// Where `-` reads from; nowhere when standard input holds commands.
pub type Input<'a> = Option<&'a mut dyn Read>;

impl Command {
    /// The op of a command; of one that goes on page by page its first page.
    pub fn asked(&self, input: Input<'_>) -> Result<Asked, Error> {
        let ttl = self.ttl();
        Ok(Asked { op: self.op(input)?, ttl })
    }

    fn ttl(&self) -> Option<Duration> {
        match self {
            Command::Put { ttl, .. } | Command::Insert { ttl, .. } | Command::Cas { ttl, .. } => *ttl,
            Command::Expire { after: Deadline::In(ttl), .. } => Some(*ttl),
            _ => None,
        }
    }

    fn op(&self, input: Input<'_>) -> Result<Op, Error> {
        Ok(match self {
            Command::Get { key, at, .. } => Op::Get { key: key_bytes(key), at: *at },
            Command::GetAll { keys, at } => {
                Op::GetAll { keys: keys.iter().map(key_bytes).collect(), at: *at }
            }
            Command::Range { .. } => Op::Range(self.range()),
            Command::History { key, limit, before } => {
                Op::History { key: key_bytes(key), limit: *limit, before: *before }
            }
            Command::Put { key, value, previous, .. } => {
                let value = read(value, input)?;
                Op::Put { key: key_bytes(key), value, deadline: None, previous: *previous }
            }
            Command::PutAll { rows } => Op::PutAll { rows: pairs(rows)? },
            Command::Del { key, previous } => Op::Delete { key: key_bytes(key), previous: *previous },
            Command::DelRange { from, to, prefix, .. } => {
                let (from, to) = bounds(from, to.as_ref(), *prefix);
                Op::DeleteRange { from, to }
            }
            Command::Trim { key, to: None, prefix: false, all: false, below } => {
                Op::Trim { key: key_bytes(key), below: *below }
            }
            Command::Trim { key, to, prefix, below, .. } => {
                let (from, to) = bounds(key, to.as_ref(), *prefix);
                Op::TrimRange { from, to, below: *below }
            }
            Command::Expire { key, .. } => Op::Expire { key: key_bytes(key), deadline: None },
            Command::Txn { conditions, then, otherwise } => Op::Transaction {
                conditions: conditions
                    .iter()
                    .map(|text| txn::condition(&text.0))
                    .collect::<Result<_, _>>()?,
                then: then.iter().map(|text| txn::op(&text.0)).collect::<Result<_, _>>()?,
                otherwise: otherwise.iter().map(|text| txn::op(&text.0)).collect::<Result<_, _>>()?,
            },
            Command::Watch(_) => return Err(Error::Usage("watch stands alone: it is no op".into())),
            _ => self.update(input)?,
        })
    }

    fn update(&self, input: Input<'_>) -> Result<Op, Error> {
        let (key, function) = match self {
            Command::Insert { key, value, .. } => {
                (key, Function::Insert { value: read(value, input)?, deadline: None })
            }
            Command::Cas { key, new_value, .. } => {
                let value = read(new_value, input)?;
                (key, Function::CompareAndPut { expect: self.expect(), value, deadline: None })
            }
            Command::Append { key, value } => {
                (key, Function::Append { side: Side::Right, value: read(value, input)? })
            }
            Command::AppendLeft { key, value } => {
                (key, Function::Append { side: Side::Left, value: read(value, input)? })
            }
            Command::PopLeft { key, count } => (key, Function::Pop { side: Side::Left, count: *count }),
            Command::PopRight { key, count } => (key, Function::Pop { side: Side::Right, count: *count }),
            Command::Increment { key, by } => (key, Function::Increment { by: *by }),
            other => unreachable!("{other:?} is no update, its op was made before"),
        };
        Ok(Op::Update { key: key_bytes(key), function })
    }

    fn expect(&self) -> Expect {
        match self {
            Command::Cas { expect: Some(value), .. } => Expect::Value(value.0.clone()),
            Command::Cas { expect_version: Some(version), .. } => Expect::Version(*version),
            Command::Cas { present: true, .. } => Expect::Present,
            _ => Expect::Absent,
        }
    }

    fn range(&self) -> Range {
        let Command::Range { from, to, prefix, reverse, keys_only, count, page, at, .. } = self else {
            unreachable!("only a range has one")
        };
        let (from, to) = bounds(from, to.as_ref(), *prefix);
        Range {
            from,
            to,
            direction: if *reverse { Direction::Backward } else { Direction::Forward },
            limit: 0,
            page: page.as_ref().map(key_bytes),
            keys_only: *keys_only,
            count_only: *count,
            at: *at,
            ledger: false,
        }
    }
}

fn key_bytes(key: &KeyWord) -> Key {
    key.0.clone()
}

fn read(value: &ValueWord, input: Input<'_>) -> Result<Bytes, Error> {
    if value.0 != "-" {
        return Ok(value.0.clone());
    }
    let Some(input) = input else {
        let text =
            "'-' reads standard input, which is not for values here: write the value itself, in quotes";
        return Err(Error::Usage(text.into()));
    };
    let mut value = Vec::new();
    // One more than allowed, so that the check of the op finds what is too large without reading it all.
    let most = VALUE_BYTES_MAX as u64 + 1;
    let read = input.take(most).read_to_end(&mut value);
    read.map_err(|error| Error::Usage(format!("reading the value from standard input: {error}")))?;
    Ok(value.into())
}

fn pairs(rows: &[ValueWord]) -> Result<Vec<(Key, Bytes)>, Error> {
    let (pairs, rest) = rows.as_chunks::<2>();
    if let [key] = rest {
        let key = escape::write(&key.0);
        return Err(Error::Usage(format!("the key '{key}' has no value: give KEY VALUE by turns")));
    }
    let pair = |[key, value]: &[ValueWord; 2]| match escape::read(key.0.clone()) {
        Ok(key) => Ok((key, value.0.clone())),
        Err(why) => Err(Error::Usage(format!("in the key '{}': {why}", escape::write(&key.0)))),
    };
    pairs.iter().map(pair).collect()
}

fn bounds(from: &KeyWord, to: Option<&KeyWord>, prefix: bool) -> (Key, Option<Key>) {
    let to = if prefix { end_of_prefix(&from.0) } else { to.map(key_bytes) };
    (from.0.clone(), to)
}

/// The first key behind all that begin with `prefix`; `None` when there is no such key.
fn end_of_prefix(prefix: &[u8]) -> Option<Key> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_prefix_is_the_next_key_behind_it() {
        assert_eq!(end_of_prefix(b"user:"), Some(Bytes::from_static(b"user;")));
        assert_eq!(end_of_prefix(b"a\xff\xff"), Some(Bytes::from_static(b"b")));
        assert_eq!(end_of_prefix(b"\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }
}
