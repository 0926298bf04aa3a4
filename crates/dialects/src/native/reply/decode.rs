//! From messages to replies: what the client does last.

use kv::{
    Answer, Epoch, KeyAnswer, Level, NodeId, Page, Protocol, Receipt, Reply, Revision, Row, ShardId, Version,
};

use crate::native::{AnyResponse, proto, status};

/// An answer that cannot be: something is missing, or a number means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the answer makes no sense ({0}): client and server are of different versions, or the server is no Capstan"
)]
pub struct Malformed(pub(in crate::native) &'static str);

/// The reply in a message.
pub(in crate::native) fn decode(message: AnyResponse) -> Result<Reply, Malformed> {
    let (answer, receipt) = split(message)?;
    let receipt = receipt.ok_or(Malformed("it has no receipt"))?;
    Ok(Reply { answer, receipt: decode_receipt(receipt)? })
}

/// A protocol as it stands in receipts and the status.
pub(in crate::native) fn protocol(number: i32) -> Result<Protocol, Malformed> {
    match proto::Protocol::try_from(number) {
        Ok(proto::Protocol::Single) => Ok(Protocol::Single),
        Ok(proto::Protocol::Raft) => Ok(Protocol::Raft),
        Ok(proto::Protocol::Primary) => Ok(Protocol::Primary),
        Ok(proto::Protocol::TwoPhase) => Ok(Protocol::TwoPhase),
        Ok(proto::Protocol::Quorum) => Ok(Protocol::Quorum),
        Ok(proto::Protocol::Broadcast) => Ok(Protocol::Broadcast),
        Ok(proto::Protocol::Unspecified) | Err(_) => {
            Err(Malformed("it names no protocol that is known here"))
        }
    }
}

fn split(message: AnyResponse) -> Result<(Answer, Option<proto::Receipt>), Malformed> {
    Ok(match message {
        AnyResponse::Get(get) => (Answer::Row(row(get.row)?), get.receipt),
        AnyResponse::Put(put) => (Answer::Put { previous: row(put.previous)? }, put.receipt),
        AnyResponse::Insert(insert) => {
            (Answer::Condition { met: insert.inserted, current: row(insert.current)? }, insert.receipt)
        }
        AnyResponse::CompareAndPut(put) => {
            (Answer::Condition { met: put.stored, current: row(put.current)? }, put.receipt)
        }
        AnyResponse::Append(append) => (Answer::Length(append.length), append.receipt),
        AnyResponse::Pop(pop) => (Answer::Popped(pop.value), pop.receipt),
        AnyResponse::Increment(increment) => (Answer::Number(increment.number), increment.receipt),
        AnyResponse::Delete(delete) => {
            let previous = row(delete.previous)?;
            (Answer::Deleted { count: delete.count, previous, next: None }, delete.receipt)
        }
        AnyResponse::DeleteRange(delete) => {
            (Answer::Deleted { count: delete.count, previous: None, next: delete.next }, delete.receipt)
        }
        AnyResponse::Range(range) => {
            let rows = range.rows.into_iter().map(one_row).collect::<Result<_, _>>()?;
            (Answer::Page(Page { rows, next: range.next, count: range.count }), range.receipt)
        }
        AnyResponse::GetAll(get) => (many(get.results)?, get.receipt),
        AnyResponse::PutAll(put) => (many(put.results)?, put.receipt),
        AnyResponse::Transaction(done) => {
            let answers = done.results.into_iter().map(inner).collect::<Result<_, _>>()?;
            (Answer::Transaction { succeeded: done.succeeded, answers }, done.receipt)
        }
        AnyResponse::History(history) => {
            let revisions = history.revisions.into_iter().map(revision).collect::<Result<_, _>>()?;
            let next = history.next.map(version).transpose()?;
            (Answer::History { revisions, next }, history.receipt)
        }
        AnyResponse::Trim(trim) => (Answer::Trimmed { count: trim.count, next: trim.next }, trim.receipt),
        AnyResponse::TrimRange(trim) => {
            (Answer::Trimmed { count: trim.count, next: trim.next }, trim.receipt)
        }
        AnyResponse::Expire(expire) => (Answer::Expire(expire.found), expire.receipt),
        AnyResponse::Error(_) => return Err(Malformed("it is an error where none can be")),
    })
}

fn inner(result: proto::OperationResult) -> Result<Answer, Malformed> {
    let message = result.result.ok_or(Malformed("a result of a transaction is empty"))?;
    Ok(split(message)?.0)
}

fn many(results: Vec<proto::KeyResult>) -> Result<Answer, Malformed> {
    use proto::key_result::Result as Wire;
    let one = |answer: proto::KeyResult| {
        let result = match answer.result {
            Some(Wire::Row(found)) => Ok(Some(one_row(found)?)),
            Some(Wire::Error(error)) => Err(status::from_message(error)),
            None => Ok(None),
        };
        Ok(KeyAnswer { key: answer.key, result })
    };
    Ok(Answer::Many(results.into_iter().map(one).collect::<Result<_, _>>()?))
}

fn row(row: Option<proto::Row>) -> Result<Option<Row>, Malformed> {
    row.map(one_row).transpose()
}

fn one_row(row: proto::Row) -> Result<Row, Malformed> {
    Ok(Row {
        key: row.key,
        value: row.value,
        version: version(row.version)?,
        created: version(row.created)?,
        changes: row.changes,
        deadline: row.deadline,
    })
}

fn revision(revision: proto::Revision) -> Result<Revision, Malformed> {
    Ok(Revision { version: version(revision.version)?, value: revision.value })
}

fn decode_receipt(receipt: proto::Receipt) -> Result<Receipt, Malformed> {
    Ok(Receipt {
        version: version(receipt.version)?,
        shard: ShardId(receipt.shard),
        protocol: protocol(receipt.protocol)?,
        epoch: Epoch(receipt.epoch),
        asked: level(receipt.level_asked)?,
        reached: level(receipt.level_reached)?,
        copies: receipt.copies,
        staleness_micros: receipt.staleness_micros,
        node: NodeId(receipt.node),
    })
}

fn level(level: Option<proto::Level>) -> Result<Level, Malformed> {
    use proto::level::Kind;
    let level = level.ok_or(Malformed("its receipt lacks a level"))?;
    match Kind::try_from(level.kind) {
        Ok(Kind::Linearizable) => Ok(Level::Linearizable),
        Ok(Kind::Bounded) => Ok(Level::Bounded(level.bounded_ms)),
        Ok(Kind::Local) => Ok(Level::Local),
        Ok(Kind::Unspecified) | Err(_) => Err(Malformed("a level is of no kind that is known here")),
    }
}

fn version(number: i64) -> Result<Version, Malformed> {
    Version::from_i64(number).ok_or(Malformed("a version is negative"))
}
