//! The bytes of answers, receipts and errors.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Malformed, Reader, put_bytes, put_i64, put_list, put_option, put_uint, put_version};
use crate::{
    Answer, Epoch, Error, KeyAnswer, Level, NodeId, Page, Protocol, Receipt, Reply, Revision, Row, ShardId,
};

/// Writes the result of a request.
pub fn encode_reply(into: &mut BytesMut, reply: &Reply) {
    encode_answer(into, &reply.answer);
    encode_receipt(into, &reply.receipt);
}

/// Reads a reply.
pub fn decode_reply(reader: &mut Reader) -> Result<Reply, Malformed> {
    Ok(Reply { answer: decode_answer(reader)?, receipt: decode_receipt(reader)? })
}

/// Writes a value or an error.
pub fn encode_result<T>(into: &mut BytesMut, result: &Result<T, Error>, put: impl FnOnce(&mut BytesMut, &T)) {
    into.put_u8(u8::from(result.is_ok()));
    match result {
        Ok(value) => put(into, value),
        Err(error) => encode_error(into, error),
    }
}

/// Reads a value or an error.
pub fn decode_result<T>(
    reader: &mut Reader,
    get: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
) -> Result<Result<T, Error>, Malformed> {
    if reader.bool()? { get(reader).map(Ok) } else { decode_error(reader).map(Err) }
}

/// Writes an answer.
pub fn encode_answer(into: &mut BytesMut, answer: &Answer) {
    match answer {
        Answer::Row(row) => {
            into.put_u8(1);
            put_option(into, row.as_ref(), encode_row);
        }
        Answer::Many(keys) => {
            into.put_u8(2);
            put_list(into, keys, |into, answer| {
                put_bytes(into, &answer.key);
                encode_result(into, &answer.result, |into, row| put_option(into, row.as_ref(), encode_row));
            });
        }
        Answer::Page(page) => {
            into.put_u8(3);
            put_list(into, &page.rows, encode_row);
            put_option(into, page.next.as_ref(), |into, next| put_bytes(into, next));
            put_uint(into, page.count);
        }
        Answer::History { revisions, next } => {
            into.put_u8(14);
            put_list(into, revisions, encode_revision);
            put_option(into, *next, put_version);
        }
        Answer::Put { previous } => {
            into.put_u8(5);
            put_option(into, previous.as_ref(), encode_row);
        }
        Answer::Deleted { count, previous, next } => {
            into.put_u8(6);
            put_uint(into, *count);
            put_option(into, previous.as_ref(), encode_row);
            put_option(into, next.as_ref(), |into, next| put_bytes(into, next));
        }
        Answer::Trimmed { count, next } => {
            into.put_u8(15);
            put_uint(into, *count);
            put_option(into, next.as_ref(), |into, next| put_bytes(into, next));
        }
        Answer::Expire(found) => {
            into.put_u8(8);
            into.put_u8(u8::from(*found));
        }
        Answer::Length(bytes) => {
            into.put_u8(9);
            put_uint(into, *bytes);
        }
        Answer::Popped(value) => {
            into.put_u8(10);
            put_option(into, value.as_ref(), |into, value| put_bytes(into, value));
        }
        Answer::Number(number) => {
            into.put_u8(11);
            put_i64(into, *number);
        }
        Answer::Condition { met, current } => {
            into.put_u8(12);
            into.put_u8(u8::from(*met));
            put_option(into, current.as_ref(), encode_row);
        }
        Answer::Transaction { succeeded, answers } => {
            into.put_u8(13);
            into.put_u8(u8::from(*succeeded));
            put_list(into, answers, encode_answer);
        }
    }
}

/// How deep answers may nest: a transaction and its answers.
const DEPTH_MAX: u8 = 2;

/// Reads an answer.
pub fn decode_answer(reader: &mut Reader) -> Result<Answer, Malformed> {
    decode_nested(reader, DEPTH_MAX)
}

fn decode_nested(reader: &mut Reader, depth: u8) -> Result<Answer, Malformed> {
    if depth == 0 {
        return Err(Malformed("answers are nested too deep"));
    }
    Ok(match reader.u8()? {
        1 => Answer::Row(reader.option(decode_row)?),
        2 => Answer::Many(reader.list(|reader| {
            let key = reader.bytes()?;
            let result = decode_result(reader, |reader| reader.option(decode_row))?;
            Ok(KeyAnswer { key, result })
        })?),
        3 => Answer::Page(Page {
            rows: reader.list(decode_row)?,
            next: reader.option(Reader::bytes)?,
            count: reader.uint()?,
        }),
        // 4 and 7 were a history and a trim without more to come.
        5 => Answer::Put { previous: reader.option(decode_row)? },
        6 => Answer::Deleted {
            count: reader.uint()?,
            previous: reader.option(decode_row)?,
            next: reader.option(Reader::bytes)?,
        },
        8 => Answer::Expire(reader.bool()?),
        9 => Answer::Length(reader.uint()?),
        10 => Answer::Popped(reader.option(Reader::bytes)?),
        11 => Answer::Number(reader.i64()?),
        12 => Answer::Condition { met: reader.bool()?, current: reader.option(decode_row)? },
        13 => Answer::Transaction {
            succeeded: reader.bool()?,
            answers: reader.list(|reader| decode_nested(reader, depth - 1))?,
        },
        14 => Answer::History {
            revisions: reader.list(decode_revision)?,
            next: reader.option(Reader::version)?,
        },
        15 => Answer::Trimmed { count: reader.uint()?, next: reader.option(Reader::bytes)? },
        _ => return Err(Malformed("an answer has an unknown tag")),
    })
}

fn encode_revision(into: &mut BytesMut, revision: &Revision) {
    put_version(into, revision.version);
    put_option(into, revision.value.as_ref(), |into, value| put_bytes(into, value));
}

fn decode_revision(reader: &mut Reader) -> Result<Revision, Malformed> {
    Ok(Revision { version: reader.version()?, value: reader.option(Reader::bytes)? })
}

fn encode_row(into: &mut BytesMut, row: &Row) {
    put_bytes(into, &row.key);
    put_bytes(into, &row.value);
    put_version(into, row.version);
    put_version(into, row.created);
    put_uint(into, row.changes);
    put_option(into, row.deadline, put_uint);
}

fn decode_row(reader: &mut Reader) -> Result<Row, Malformed> {
    Ok(Row {
        key: reader.bytes()?,
        value: reader.bytes()?,
        version: reader.version()?,
        created: reader.version()?,
        changes: reader.uint()?,
        deadline: reader.option(Reader::uint)?,
    })
}

fn encode_receipt(into: &mut BytesMut, receipt: &Receipt) {
    put_version(into, receipt.version);
    put_uint(into, u64::from(receipt.shard.0));
    encode_protocol(into, receipt.protocol);
    put_uint(into, receipt.epoch.0);
    encode_level(into, receipt.asked);
    encode_level(into, receipt.reached);
    put_uint(into, u64::from(receipt.copies));
    put_uint(into, receipt.staleness_micros);
    put_uint(into, receipt.node.0);
}

fn decode_receipt(reader: &mut Reader) -> Result<Receipt, Malformed> {
    Ok(Receipt {
        version: reader.version()?,
        shard: ShardId(reader.u32()?),
        protocol: decode_protocol(reader)?,
        epoch: Epoch(reader.uint()?),
        asked: decode_level(reader)?,
        reached: decode_level(reader)?,
        copies: reader.u32()?,
        staleness_micros: reader.uint()?,
        node: NodeId(reader.uint()?),
    })
}

/// Writes which protocol it is.
pub fn encode_protocol(into: &mut impl BufMut, protocol: Protocol) {
    into.put_u8(match protocol {
        Protocol::Single => 1,
        Protocol::Raft => 2,
        Protocol::Primary => 3,
        Protocol::TwoPhase => 4,
        Protocol::Quorum => 5,
        Protocol::Broadcast => 6,
    });
}

/// Reads which protocol it is.
pub fn decode_protocol(reader: &mut Reader) -> Result<Protocol, Malformed> {
    match reader.u8()? {
        1 => Ok(Protocol::Single),
        2 => Ok(Protocol::Raft),
        3 => Ok(Protocol::Primary),
        4 => Ok(Protocol::TwoPhase),
        5 => Ok(Protocol::Quorum),
        6 => Ok(Protocol::Broadcast),
        _ => Err(Malformed("a protocol has an unknown tag")),
    }
}

/// Writes a level.
pub fn encode_level(into: &mut BytesMut, level: Level) {
    match level {
        Level::Linearizable => into.put_u8(1),
        Level::Bounded(millis) => {
            into.put_u8(2);
            put_uint(into, millis);
        }
        Level::Local => into.put_u8(3),
    }
}

/// Reads a level.
pub fn decode_level(reader: &mut Reader) -> Result<Level, Malformed> {
    Ok(match reader.u8()? {
        1 => Level::Linearizable,
        2 => Level::Bounded(reader.uint()?),
        3 => Level::Local,
        _ => return Err(Malformed("a level has an unknown tag")),
    })
}

fn encode_error(into: &mut BytesMut, error: &Error) {
    let mut text = |tag: u8, text: &str| {
        into.put_u8(tag);
        put_bytes(into, text.as_bytes());
    };
    match error {
        Error::Invalid(why) => text(1, why),
        Error::Conflict(why) => text(2, why),
        Error::NoKeyspace(name) => text(3, name),
        Error::OverQuota(why) => text(10, why),
        Error::Unavailable(why) => text(4, why),
        Error::InDoubt(why) => text(5, why),
        Error::TooLarge { what, size, limit } => {
            text(6, what);
            put_uint(into, *size);
            put_uint(into, *limit);
        }
        Error::Trimmed { asked, oldest } => {
            into.put_u8(7);
            put_version(into, *asked);
            put_version(into, *oldest);
        }
        Error::Future { asked, newest } => {
            into.put_u8(8);
            put_version(into, *asked);
            put_version(into, *newest);
        }
        Error::WrongNode { try_next } => {
            into.put_u8(9);
            put_option(into, try_next.as_ref(), |into, address| put_bytes(into, address.as_bytes()));
        }
    }
}

fn decode_error(reader: &mut Reader) -> Result<Error, Malformed> {
    Ok(match reader.u8()? {
        1 => Error::Invalid(reader.text()?),
        2 => Error::Conflict(reader.text()?),
        3 => Error::NoKeyspace(reader.text()?),
        10 => Error::OverQuota(reader.text()?),
        4 => Error::Unavailable(reader.text()?),
        5 => Error::InDoubt(reader.text()?),
        6 => Error::TooLarge { what: reader.text()?, size: reader.uint()?, limit: reader.uint()? },
        7 => Error::Trimmed { asked: reader.version()?, oldest: reader.version()? },
        8 => Error::Future { asked: reader.version()?, newest: reader.version()? },
        9 => Error::WrongNode { try_next: reader.option(Reader::text)? },
        _ => return Err(Malformed("an error has an unknown tag")),
    })
}

/// The bytes of a result, to keep.
pub fn result_bytes(result: &Result<Answer, Error>) -> Bytes {
    let mut into = BytesMut::new();
    encode_result(&mut into, result, encode_answer);
    into.freeze()
}
