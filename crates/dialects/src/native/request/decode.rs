//! From messages to requests: what the serving side does first.

use std::time::Duration;

use kv::ledger::Note;
use kv::{
    Condition, Direction, Error, Expect, Function, Level, Op, Range, Request, RequestId, Side,
    TIMEOUT_MILLIS_MAX, Version,
};

use crate::Clock;
use crate::native::{AnyRequest, proto};

/// The name of a keyspace is at most so long: it comes back in errors, and those travel in headers.
const KEYSPACE_BYTES_MAX: usize = 255;

/// The request that a message asks. The clock is read only where a value expires after a time.
pub(in crate::native) fn decode(mut message: AnyRequest, clock: &Clock) -> Result<Request, Error> {
    let header = super::header_mut(&mut message).take();
    let op = op(message, clock)?;
    let Some(header) = header else { return Ok(Request::new(op)) };
    Ok(Request {
        keyspace: keyspace(header.keyspace)?,
        op,
        level: header.level.map(level).transpose()?.flatten(),
        id: header.id.map(id).transpose()?,
        timeout: timeout(header.timeout_ms),
        again: header.sent_before,
        here: false,
    })
}

/// Gives an operation of a batch the batch's header when it brought none.
pub(in crate::native) fn inherit(message: &mut AnyRequest, from: Option<&proto::RequestHeader>) {
    let header = super::header_mut(message);
    if header.is_none() {
        *header = from.cloned();
    }
}

/// The header of a batch is for all its operations, so it can hold no id.
pub(in crate::native) fn check_batch_header(header: Option<&proto::RequestHeader>) -> Result<(), Error> {
    match header {
        Some(proto::RequestHeader { id: Some(_), .. }) => Err(Error::Invalid(
            "the header of a batch holds a request id: give each operation a header with an id of its own"
                .into(),
        )),
        _ => Ok(()),
    }
}

fn op(message: AnyRequest, clock: &Clock) -> Result<Op, Error> {
    Ok(match message {
        AnyRequest::Get(get) => Op::Get { key: get.key, at: at(get.at)? },
        AnyRequest::Put(put) => Op::Put {
            key: put.key,
            value: put.value,
            deadline: deadline(put.expiry, clock)?,
            previous: put.previous,
        },
        AnyRequest::Insert(insert) => Op::Update {
            key: insert.key,
            function: Function::Insert { value: insert.value, deadline: deadline(insert.expiry, clock)? },
        },
        AnyRequest::CompareAndPut(put) => Op::Update {
            key: put.key,
            function: Function::CompareAndPut {
                expect: expect(put.expect)?,
                value: put.value,
                deadline: deadline(put.expiry, clock)?,
            },
        },
        AnyRequest::Append(append) => Op::Update {
            key: append.key,
            function: Function::Append { side: side(append.side)?, value: append.value },
        },
        AnyRequest::Pop(pop) => {
            Op::Update { key: pop.key, function: Function::Pop { side: side(pop.side)?, count: pop.count } }
        }
        AnyRequest::Increment(increment) => {
            Op::Update { key: increment.key, function: Function::Increment { by: increment.by } }
        }
        AnyRequest::Delete(delete) => Op::Delete { key: delete.key, previous: delete.previous },
        AnyRequest::Range(asked) => Op::Range(range(asked)?),
        AnyRequest::DeleteRange(range) => Op::DeleteRange { from: range.from, to: range.to },
        AnyRequest::GetAll(get) => Op::GetAll { keys: get.keys, at: at(get.at)? },
        AnyRequest::PutAll(put) => {
            Op::PutAll { rows: put.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect() }
        }
        AnyRequest::Transaction(asked) => transaction(asked, clock)?,
        AnyRequest::History(history) => {
            Op::History { key: history.key, limit: history.limit, before: at(history.before)? }
        }
        AnyRequest::Trim(trim) if !trim.lost.is_empty() => {
            let lost: Result<Vec<Version>, Error> = trim.lost.into_iter().map(version).collect();
            Op::Note(Note::Clear { key: trim.key, lost: lost? })
        }
        AnyRequest::Trim(trim) => Op::Trim { key: trim.key, below: at(trim.below)? },
        AnyRequest::TrimRange(trim) => Op::TrimRange { from: trim.from, to: trim.to, below: at(trim.below)? },
        AnyRequest::Expire(expire) => {
            Op::Expire { key: expire.key, deadline: deadline(expire.expiry, clock)? }
        }
    })
}

fn range(asked: proto::RangeRequest) -> Result<Range, Error> {
    use proto::range_request::Order;
    let direction = match Order::try_from(asked.order) {
        Ok(Order::Unspecified | Order::Forward) => Direction::Forward,
        Ok(Order::Backward) => Direction::Backward,
        Err(_) => return Err(invalid("order", "use ORDER_FORWARD or ORDER_BACKWARD")),
    };
    Ok(Range {
        from: asked.from,
        to: asked.to,
        direction,
        limit: asked.limit,
        page: asked.page,
        keys_only: asked.keys_only,
        count_only: asked.count_only,
        at: at(asked.at)?,
        ledger: asked.ledger,
    })
}

fn transaction(asked: proto::TransactionRequest, clock: &Clock) -> Result<Op, Error> {
    let condition = |condition: proto::transaction_request::Condition| {
        Ok(Condition { key: condition.key, expect: expect(condition.expect)? })
    };
    let branch = |operations: Vec<proto::Operation>| {
        operations.into_iter().map(|operation| inner(operation, clock)).collect::<Result<_, _>>()
    };
    Ok(Op::Transaction {
        conditions: asked.conditions.into_iter().map(condition).collect::<Result<_, Error>>()?,
        then: branch(asked.then)?,
        otherwise: branch(asked.otherwise)?,
    })
}

fn inner(operation: proto::Operation, clock: &Clock) -> Result<Op, Error> {
    let mut message = operation
        .operation
        .ok_or_else(|| invalid("operation", "set what is to be done, such as get or put"))?;
    if super::header_mut(&mut message).is_some() {
        return Err(invalid(
            "header",
            "leave it out inside a transaction: the transaction's own counts for all",
        ));
    }
    op(message, clock)
}

fn expect(expect: Option<proto::Expect>) -> Result<Expect, Error> {
    use proto::expect::Expect as Wire;
    match expect.and_then(|expect| expect.expect) {
        Some(Wire::Exists(false)) => Ok(Expect::Absent),
        Some(Wire::Exists(true)) => Ok(Expect::Present),
        Some(Wire::Value(value)) => Ok(Expect::Value(value)),
        Some(Wire::Version(number)) => version(number).map(Expect::Version),
        None => Err(invalid("expect", "set one of exists, value and version")),
    }
}

fn side(number: i32) -> Result<Side, Error> {
    match proto::Side::try_from(number) {
        Ok(proto::Side::Left) => Ok(Side::Left),
        Ok(proto::Side::Unspecified | proto::Side::Right) => Ok(Side::Right),
        Err(_) => Err(invalid("side", "use SIDE_LEFT or SIDE_RIGHT")),
    }
}

fn deadline(expiry: Option<proto::Expiry>, clock: &Clock) -> Result<Option<u64>, Error> {
    use proto::expiry::When;
    match expiry.and_then(|expiry| expiry.when) {
        None => Ok(None),
        Some(When::Deadline(deadline)) => Ok(Some(deadline)),
        Some(When::TtlMs(0)) => Err(invalid("ttl_ms", "use 1 or more, or delete the key")),
        Some(When::TtlMs(millis)) => Ok(Some(clock().saturating_add(millis.saturating_mul(1000)))),
    }
}

/// The keyspace of this name; of none where it is empty.
pub fn keyspace(name: String) -> Result<String, Error> {
    match name.len() {
        0 => Ok(Request::KEYSPACE.into()),
        1..=KEYSPACE_BYTES_MAX => Ok(name),
        size => Err(Error::TooLarge {
            what: "the name of the keyspace".into(),
            size: size as u64,
            limit: KEYSPACE_BYTES_MAX as u64,
        }),
    }
}

fn level(level: proto::Level) -> Result<Option<Level>, Error> {
    use proto::level::Kind;
    match (Kind::try_from(level.kind), level.bounded_ms) {
        (Ok(Kind::Bounded), millis) => Ok(Some(Level::Bounded(millis))),
        (Ok(_), 1..) => Err(invalid("bounded_ms", "it belongs to KIND_BOUNDED only")),
        (Ok(Kind::Unspecified), 0) => Ok(None),
        (Ok(Kind::Linearizable), 0) => Ok(Some(Level::Linearizable)),
        (Ok(Kind::Local), 0) => Ok(Some(Level::Local)),
        (Err(_), _) => Err(invalid("level", "use KIND_LINEARIZABLE, KIND_BOUNDED or KIND_LOCAL")),
    }
}

fn id(id: proto::RequestId) -> Result<RequestId, Error> {
    if id.client == 0 {
        return Err(invalid("client", "draw a random number other than 0"));
    }
    if id.sequence == 0 {
        return Err(invalid("sequence", "it starts at 1"));
    }
    Ok(RequestId {
        client: id.client,
        sequence: id.sequence,
        valid_until: version(id.valid_until)?,
        answered_below: id.answered_below,
    })
}

fn timeout(millis: u64) -> Duration {
    match millis {
        0 => Request::TIMEOUT,
        millis => Duration::from_millis(millis.min(TIMEOUT_MILLIS_MAX)),
    }
}

fn at(number: Option<i64>) -> Result<Option<Version>, Error> {
    number.map(version).transpose()
}

fn version(number: i64) -> Result<Version, Error> {
    Version::from_i64(number).ok_or_else(|| invalid("version", "it is 0 or more, as it was given out"))
}

fn invalid(field: &str, what_to_do: &str) -> Error {
    Error::Invalid(format!("the field '{field}' makes no sense: {what_to_do}"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NOW: u64 = 1_700_000_000_000_000;

    fn put(
        header: Option<proto::RequestHeader>,
        when: Option<proto::expiry::When>,
    ) -> Result<Request, Error> {
        let message = proto::PutRequest {
            header,
            key: Bytes::from_static(b"k"),
            expiry: Some(proto::Expiry { when }),
            ..Default::default()
        };
        decode(AnyRequest::Put(message), &|| NOW)
    }

    fn deadline_of(request: Request) -> Option<u64> {
        match request.op {
            Op::Put { deadline, .. } => deadline,
            op => panic!("a put was asked, not {op:?}"),
        }
    }

    #[test]
    fn request_without_header_gets_the_defaults() {
        let request = put(None, None).unwrap();
        assert_eq!((request.keyspace.as_str(), request.timeout), (Request::KEYSPACE, Request::TIMEOUT));
        assert_eq!((request.level, request.id, deadline_of(request)), (None, None, None));
        assert_eq!(put(Some(proto::RequestHeader::default()), None).unwrap().keyspace, Request::KEYSPACE);
    }

    #[test]
    fn ttl_becomes_a_deadline_by_the_clock() {
        use proto::expiry::When;
        assert_eq!(deadline_of(put(None, Some(When::TtlMs(5))).unwrap()), Some(NOW + 5000));
        assert_eq!(deadline_of(put(None, Some(When::TtlMs(u64::MAX))).unwrap()), Some(u64::MAX));
        assert_eq!(deadline_of(put(None, Some(When::Deadline(7))).unwrap()), Some(7));
        assert!(matches!(put(None, Some(When::TtlMs(0))), Err(Error::Invalid(_))));
    }

    #[test]
    fn timeout_beyond_the_limit_counts_as_the_limit() {
        let header = proto::RequestHeader { timeout_ms: u64::MAX, ..Default::default() };
        assert_eq!(put(Some(header), None).unwrap().timeout, Duration::from_millis(TIMEOUT_MILLIS_MAX));
    }

    #[test]
    fn header_fields_without_sense_are_refused() {
        let refused = |header| assert!(matches!(put(Some(header), None), Err(Error::Invalid(_))));
        let header = proto::RequestHeader::default;
        refused(proto::RequestHeader { level: Some(proto::Level { kind: 9, bounded_ms: 0 }), ..header() });
        refused(proto::RequestHeader { level: Some(proto::Level { kind: 1, bounded_ms: 5 }), ..header() });
        let id = proto::RequestId { client: 1, sequence: 1, valid_until: 1, answered_below: 1 };
        refused(proto::RequestHeader { id: Some(proto::RequestId { client: 0, ..id }), ..header() });
        refused(proto::RequestHeader { id: Some(proto::RequestId { sequence: 0, ..id }), ..header() });
        refused(proto::RequestHeader { id: Some(proto::RequestId { valid_until: -1, ..id }), ..header() });
    }

    #[test]
    fn keyspace_name_too_long_is_refused() {
        let header = proto::RequestHeader { keyspace: "k".repeat(256), ..Default::default() };
        assert!(matches!(put(Some(header), None), Err(Error::TooLarge { size: 256, .. })));
    }

    #[test]
    fn transaction_inner_header_is_refused() {
        let get = proto::GetRequest { header: Some(proto::RequestHeader::default()), ..Default::default() };
        let then = [proto::Operation { operation: Some(AnyRequest::Get(get)) }, proto::Operation::default()];
        let refused = |then: &[proto::Operation]| {
            let asked = proto::TransactionRequest { then: then.to_vec(), ..Default::default() };
            assert!(matches!(decode(AnyRequest::Transaction(asked), &|| NOW), Err(Error::Invalid(_))));
        };
        refused(&then[..1]);
        refused(&then[1..]);
    }
}
