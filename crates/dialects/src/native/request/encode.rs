//! From requests to messages: what the client does first.

use std::time::Duration;

use kv::ledger::Note;
use kv::{
    Condition, Direction, Error, Expect, Function, Level, Op, Range, Request, RequestId, Side,
    TIMEOUT_MILLIS_MAX, Version,
};

use crate::native::{AnyRequest, proto};

/// The message that asks for a request. A `ttl` (how long the value is to live from when a node accepts the request) takes
/// the place of the op's deadline; [`Error::Invalid`] when the op has none, or when it is the store's own.
pub(in crate::native) fn encode(request: Request, ttl: Option<Duration>) -> Result<AnyRequest, Error> {
    let mut message = message(request.op)?;
    if let Some(ttl) = ttl {
        let expiry = expiry_mut(&mut message).ok_or_else(|| {
            Error::Invalid("a time to live was given to what stores no value: use put, insert, compare-and-put or expire".into())
        })?;
        *expiry = Some(proto::Expiry { when: Some(proto::expiry::When::TtlMs(millis(ttl))) });
    }
    *super::header_mut(&mut message) = Some(proto::RequestHeader {
        keyspace: if request.keyspace == Request::KEYSPACE { String::new() } else { request.keyspace },
        level: request.level.map(level),
        id: request.id.map(id),
        timeout_ms: millis(request.timeout).min(TIMEOUT_MILLIS_MAX),
        sent_before: request.again,
    });
    Ok(message)
}

/// A level as it stands in headers and receipts.
pub(in crate::native) fn level(level: Level) -> proto::Level {
    use proto::level::Kind;
    let (kind, bounded_ms) = match level {
        Level::Linearizable => (Kind::Linearizable, 0),
        Level::Bounded(millis) => (Kind::Bounded, millis),
        Level::Local => (Kind::Local, 0),
    };
    proto::Level { kind: kind.into(), bounded_ms }
}

/// Milliseconds, at least one: a part of one counts as a whole.
pub(in crate::native) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

fn expiry_mut(message: &mut AnyRequest) -> Option<&mut Option<proto::Expiry>> {
    match message {
        AnyRequest::Put(message) => Some(&mut message.expiry),
        AnyRequest::Insert(message) => Some(&mut message.expiry),
        AnyRequest::CompareAndPut(message) => Some(&mut message.expiry),
        AnyRequest::Expire(message) => Some(&mut message.expiry),
        _ => None,
    }
}

fn message(op: Op) -> Result<AnyRequest, Error> {
    let header = None;
    Ok(match op {
        Op::Get { key, at } => {
            AnyRequest::Get(proto::GetRequest { header, key, at: at.map(|at| at.as_i64()) })
        }
        Op::GetAll { keys, at } => {
            AnyRequest::GetAll(proto::GetAllRequest { header, keys, at: at.map(|at| at.as_i64()) })
        }
        Op::Range(asked) => AnyRequest::Range(range(asked)),
        Op::History { key, limit, before } => {
            let before = before.map(|before| before.as_i64());
            AnyRequest::History(proto::HistoryRequest { header, key, limit, before })
        }
        Op::Put { key, value, deadline, previous } => {
            AnyRequest::Put(proto::PutRequest { header, key, value, expiry: expiry(deadline), previous })
        }
        Op::PutAll { rows } => {
            let pair = |(key, value)| proto::put_all_request::Pair { key, value };
            AnyRequest::PutAll(proto::PutAllRequest { header, pairs: rows.into_iter().map(pair).collect() })
        }
        Op::Delete { key, previous } => AnyRequest::Delete(proto::DeleteRequest { header, key, previous }),
        Op::DeleteRange { from, to } => {
            AnyRequest::DeleteRange(proto::DeleteRangeRequest { header, from, to })
        }
        Op::Trim { key, below } => {
            let below = below.map(|below| below.as_i64());
            AnyRequest::Trim(proto::TrimRequest { header, key, below, lost: Vec::new() })
        }
        Op::TrimRange { from, to, below } => {
            let below = below.map(|below| below.as_i64());
            AnyRequest::TrimRange(proto::TrimRangeRequest { header, from, to, below })
        }
        Op::Expire { key, deadline } => {
            AnyRequest::Expire(proto::ExpireRequest { header, key, expiry: expiry(deadline) })
        }
        Op::Update { key, function } => update(key, function),
        Op::Transaction { conditions, then, otherwise } => {
            AnyRequest::Transaction(proto::TransactionRequest {
                header,
                conditions: conditions.into_iter().map(condition).collect(),
                then: branch(then)?,
                otherwise: branch(otherwise)?,
            })
        }
        Op::Advance { .. } => {
            return Err(Error::Invalid("advance is the store's own: clients cannot ask for it".into()));
        }
        Op::Note(Note::Clear { key, lost }) => {
            let lost = lost.into_iter().map(Version::as_i64).collect();
            AnyRequest::Trim(proto::TrimRequest { header, key, below: None, lost })
        }
        Op::Note(_) | Op::Merge { .. } | Op::Collect { .. } => {
            return Err(Error::Invalid("that op is the store's own: clients cannot ask for it".into()));
        }
    })
}

fn update(key: kv::Key, function: Function) -> AnyRequest {
    let header = None;
    match function {
        Function::Append { side: end, value } => {
            AnyRequest::Append(proto::AppendRequest { header, key, value, side: side(end) })
        }
        Function::Pop { side: end, count } => {
            AnyRequest::Pop(proto::PopRequest { header, key, count, side: side(end) })
        }
        Function::Increment { by } => AnyRequest::Increment(proto::IncrementRequest { header, key, by }),
        Function::Insert { value, deadline } => {
            AnyRequest::Insert(proto::InsertRequest { header, key, value, expiry: expiry(deadline) })
        }
        Function::CompareAndPut { expect: wanted, value, deadline } => {
            let (expect, expiry) = (Some(expect(wanted)), expiry(deadline));
            AnyRequest::CompareAndPut(proto::CompareAndPutRequest { header, key, expect, value, expiry })
        }
    }
}

fn range(range: Range) -> proto::RangeRequest {
    use proto::range_request::Order;
    let order = match range.direction {
        Direction::Forward => Order::Unspecified,
        Direction::Backward => Order::Backward,
    };
    proto::RangeRequest {
        header: None,
        from: range.from,
        to: range.to,
        order: order.into(),
        limit: range.limit,
        page: range.page,
        keys_only: range.keys_only,
        count_only: range.count_only,
        at: range.at.map(|at| at.as_i64()),
        ledger: range.ledger,
    }
}

fn branch(ops: Vec<Op>) -> Result<Vec<proto::Operation>, Error> {
    ops.into_iter().map(|op| Ok(proto::Operation { operation: Some(message(op)?) })).collect()
}

fn condition(condition: Condition) -> proto::transaction_request::Condition {
    proto::transaction_request::Condition { key: condition.key, expect: Some(expect(condition.expect)) }
}

fn expect(expect: Expect) -> proto::Expect {
    use proto::expect::Expect as Wire;
    let expect = match expect {
        Expect::Absent => Wire::Exists(false),
        Expect::Present => Wire::Exists(true),
        Expect::Value(value) => Wire::Value(value),
        Expect::Version(version) => Wire::Version(version.as_i64()),
    };
    proto::Expect { expect: Some(expect) }
}

fn side(side: Side) -> i32 {
    match side {
        Side::Left => proto::Side::Left.into(),
        Side::Right => proto::Side::Unspecified.into(),
    }
}

fn expiry(deadline: Option<u64>) -> Option<proto::Expiry> {
    deadline.map(|deadline| proto::Expiry { when: Some(proto::expiry::When::Deadline(deadline)) })
}

/// A request id as it stands in headers.
pub(in crate::native) fn id(id: RequestId) -> proto::RequestId {
    proto::RequestId {
        client: id.client,
        sequence: id.sequence,
        valid_until: id.valid_until.as_i64(),
        answered_below: id.answered_below,
    }
}
