//! The bytes of ops.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Malformed, Reader, decode_rules, encode_rules, put_bytes, put_i64, put_id, put_list, put_option,
    put_uint, put_version,
};
use crate::keyspace::Rules;
use crate::ledger::Note;
use crate::{Condition, Direction, Expect, Function, Op, Range, Side, Stamped, Version, merged};

/// The tag of a note.
const NOTE: u8 = 17;

/// How deep ops may nest: a transaction and its ops.
const DEPTH_MAX: u8 = 2;

/// The bytes of an op and its id.
pub fn encode_stamped(stamped: &Stamped) -> Bytes {
    let mut into = BytesMut::with_capacity(64 + stamped.op.bytes());
    put_option(&mut into, stamped.id.as_ref(), put_id);
    encode_op(&mut into, &stamped.op);
    into.freeze()
}

/// An op and its id from their bytes.
pub fn decode_stamped(bytes: &Bytes) -> Result<Stamped, Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let id = reader.option(Reader::id)?;
    let op = decode_op(&mut reader)?;
    reader.end()?;
    Ok(Stamped { id, op })
}

/// Whether the bytes of an op and its id are a note of the store's own.
pub fn is_note(stamped: &Bytes) -> bool {
    stamped.starts_with(&[0, NOTE])
}

/// Writes an op.
pub fn encode_op(into: &mut BytesMut, op: &Op) {
    match op {
        Op::Get { key, at } => {
            tag_key(into, 1, key);
            put_option(into, *at, put_version);
        }
        Op::GetAll { keys, at } => {
            into.put_u8(2);
            put_list(into, keys, |into, key| put_bytes(into, key));
            put_option(into, *at, put_version);
        }
        Op::Range(range) => {
            into.put_u8(if range.ledger { 18 } else { 3 });
            encode_range(into, range);
        }
        Op::History { key, limit, before } => {
            tag_key(into, 14, key);
            put_uint(into, u64::from(*limit));
            put_option(into, *before, put_version);
        }
        Op::Put { key, value, deadline, previous } => {
            tag_key(into, 5, key);
            put_bytes(into, value);
            put_option(into, *deadline, put_uint);
            into.put_u8(u8::from(*previous));
        }
        Op::PutAll { rows } => {
            into.put_u8(6);
            put_list(into, rows, |into, (key, value)| {
                put_bytes(into, key);
                put_bytes(into, value);
            });
        }
        Op::Delete { key, previous } => {
            tag_key(into, 7, key);
            into.put_u8(u8::from(*previous));
        }
        Op::DeleteRange { from, to } => tag_bounds(into, 8, from, to.as_ref()),
        Op::Trim { key, below } => {
            tag_key(into, 9, key);
            put_option(into, *below, put_version);
        }
        Op::Expire { key, deadline } => {
            tag_key(into, 10, key);
            put_option(into, *deadline, put_uint);
        }
        Op::Update { key, function } => {
            tag_key(into, 11, key);
            encode_function(into, function);
        }
        Op::Transaction { conditions, then, otherwise } => {
            encode_transaction(into, conditions, then, otherwise);
        }
        Op::Advance { to, rules } => encode_advance(into, *to, rules.as_ref()),
        Op::Note(note) => {
            into.put_u8(NOTE);
            note.encode(into);
        }
        Op::TrimRange { from, to, below } => {
            tag_bounds(into, 15, from, to.as_ref());
            put_option(into, *below, put_version);
        }
        Op::Merge { rows } => tag_list(into, 19, rows, merged::encode_row),
        Op::Collect { tombstones } => tag_list(into, 20, tombstones, merged::encode_named),
    }
}

fn encode_transaction(into: &mut BytesMut, conditions: &[Condition], then: &[Op], otherwise: &[Op]) {
    tag_list(into, 12, conditions, |into, condition| {
        put_bytes(into, &condition.key);
        encode_expect(into, &condition.expect);
    });
    put_list(into, then, encode_op);
    put_list(into, otherwise, encode_op);
}

/// Writes an advance, with the rules that it sets.
fn encode_advance(into: &mut BytesMut, to: Version, rules: Option<&Rules>) {
    into.put_u8(if rules.is_some() { 16 } else { 13 });
    put_version(into, to);
    if let Some(rules) = rules {
        encode_rules(into, rules);
    }
}

/// Reads an op.
pub fn decode_op(reader: &mut Reader) -> Result<Op, Malformed> {
    decode_nested(reader, DEPTH_MAX)
}

fn decode_nested(reader: &mut Reader, depth: u8) -> Result<Op, Malformed> {
    if depth == 0 {
        return Err(Malformed("ops are nested too deep"));
    }
    Ok(match reader.u8()? {
        1 => Op::Get { key: reader.bytes()?, at: reader.option(Reader::version)? },
        2 => Op::GetAll { keys: reader.list(Reader::bytes)?, at: reader.option(Reader::version)? },
        3 => Op::Range(decode_range(reader)?),
        18 => Op::Range(Range { ledger: true, ..decode_range(reader)? }),
        // 4 was a history without pages.
        5 => Op::Put {
            key: reader.bytes()?,
            value: reader.bytes()?,
            deadline: reader.option(Reader::uint)?,
            previous: reader.bool()?,
        },
        6 => Op::PutAll { rows: reader.list(|reader| Ok((reader.bytes()?, reader.bytes()?)))? },
        7 => Op::Delete { key: reader.bytes()?, previous: reader.bool()? },
        8 => Op::DeleteRange { from: reader.bytes()?, to: reader.option(Reader::bytes)? },
        9 => Op::Trim { key: reader.bytes()?, below: reader.option(Reader::version)? },
        10 => Op::Expire { key: reader.bytes()?, deadline: reader.option(Reader::uint)? },
        11 => Op::Update { key: reader.bytes()?, function: decode_function(reader)? },
        12 => Op::Transaction {
            conditions: reader
                .list(|reader| Ok(Condition { key: reader.bytes()?, expect: decode_expect(reader)? }))?,
            then: reader.list(|reader| decode_nested(reader, depth - 1))?,
            otherwise: reader.list(|reader| decode_nested(reader, depth - 1))?,
        },
        13 => Op::Advance { to: reader.version()?, rules: None },
        16 => Op::Advance { to: reader.version()?, rules: Some(decode_rules(reader)?) },
        NOTE => Op::Note(Note::decode(reader)?),
        14 => Op::History {
            key: reader.bytes()?,
            limit: reader.u32()?,
            before: reader.option(Reader::version)?,
        },
        15 => Op::TrimRange {
            from: reader.bytes()?,
            to: reader.option(Reader::bytes)?,
            below: reader.option(Reader::version)?,
        },
        19 => Op::Merge { rows: reader.list(merged::decode_row)? },
        20 => Op::Collect { tombstones: reader.list(merged::decode_named)? },
        _ => return Err(Malformed("an op has an unknown tag")),
    })
}

fn tag_key(into: &mut BytesMut, tag: u8, key: &[u8]) {
    into.put_u8(tag);
    put_bytes(into, key);
}

fn tag_list<T>(into: &mut BytesMut, tag: u8, items: &[T], put: impl FnMut(&mut BytesMut, &T)) {
    into.put_u8(tag);
    put_list(into, items, put);
}

fn tag_bounds(into: &mut BytesMut, tag: u8, from: &[u8], to: Option<&Bytes>) {
    tag_key(into, tag, from);
    put_option(into, to, |into, to| put_bytes(into, to));
}

fn encode_range(into: &mut BytesMut, range: &Range) {
    put_bytes(into, &range.from);
    put_option(into, range.to.as_ref(), |into, to| put_bytes(into, to));
    into.put_u8(u8::from(range.direction == Direction::Backward));
    put_uint(into, u64::from(range.limit));
    put_option(into, range.page.as_ref(), |into, page| put_bytes(into, page));
    into.put_u8(u8::from(range.keys_only));
    into.put_u8(u8::from(range.count_only));
    put_option(into, range.at, put_version);
}

fn decode_range(reader: &mut Reader) -> Result<Range, Malformed> {
    Ok(Range {
        from: reader.bytes()?,
        to: reader.option(Reader::bytes)?,
        direction: if reader.bool()? { Direction::Backward } else { Direction::Forward },
        limit: reader.u32()?,
        page: reader.option(Reader::bytes)?,
        keys_only: reader.bool()?,
        count_only: reader.bool()?,
        at: reader.option(Reader::version)?,
        ledger: false,
    })
}

fn encode_function(into: &mut BytesMut, function: &Function) {
    match function {
        Function::Append { side, value } => {
            into.put_u8(1);
            encode_side(into, *side);
            put_bytes(into, value);
        }
        Function::Pop { side, count } => {
            into.put_u8(2);
            encode_side(into, *side);
            put_uint(into, u64::from(*count));
        }
        Function::Increment { by } => {
            into.put_u8(3);
            put_i64(into, *by);
        }
        Function::Insert { value, deadline } => {
            into.put_u8(4);
            put_bytes(into, value);
            put_option(into, *deadline, put_uint);
        }
        Function::CompareAndPut { expect, value, deadline } => {
            into.put_u8(5);
            encode_expect(into, expect);
            put_bytes(into, value);
            put_option(into, *deadline, put_uint);
        }
    }
}

fn decode_function(reader: &mut Reader) -> Result<Function, Malformed> {
    Ok(match reader.u8()? {
        1 => Function::Append { side: decode_side(reader)?, value: reader.bytes()? },
        2 => Function::Pop { side: decode_side(reader)?, count: reader.u32()? },
        3 => Function::Increment { by: reader.i64()? },
        4 => Function::Insert { value: reader.bytes()?, deadline: reader.option(Reader::uint)? },
        5 => Function::CompareAndPut {
            expect: decode_expect(reader)?,
            value: reader.bytes()?,
            deadline: reader.option(Reader::uint)?,
        },
        _ => return Err(Malformed("a function has an unknown tag")),
    })
}

fn encode_side(into: &mut BytesMut, side: Side) {
    into.put_u8(u8::from(side == Side::Right));
}

fn decode_side(reader: &mut Reader) -> Result<Side, Malformed> {
    Ok(if reader.bool()? { Side::Right } else { Side::Left })
}

fn encode_expect(into: &mut BytesMut, expect: &Expect) {
    match expect {
        Expect::Absent => into.put_u8(0),
        Expect::Present => into.put_u8(1),
        Expect::Value(value) => {
            into.put_u8(2);
            put_bytes(into, value);
        }
        Expect::Version(version) => {
            into.put_u8(3);
            put_version(into, *version);
        }
    }
}

fn decode_expect(reader: &mut Reader) -> Result<Expect, Malformed> {
    Ok(match reader.u8()? {
        0 => Expect::Absent,
        1 => Expect::Present,
        2 => Expect::Value(reader.bytes()?),
        3 => Expect::Version(reader.version()?),
        _ => return Err(Malformed("an expectation has an unknown tag")),
    })
}
