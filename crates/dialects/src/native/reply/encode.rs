//! From replies to messages: what the serving side does last.

use kv::{Answer, Error, KeyAnswer, Protocol, Receipt, Reply, Revision, Row};

use crate::native::request::{self, Rpc};
use crate::native::{AnyRequest, AnyResponse, proto, status};

/// What kind of answer a message asks for. The messages say more than the answers do (an insert and a compare-and-put
/// have one answer), so it is kept while the request is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::native) enum Shape {
    /// One operation.
    One(Rpc),
    /// The operations of both branches.
    Transaction {
        /// When the conditions hold.
        then: Vec<Rpc>,
        /// When not.
        otherwise: Vec<Rpc>,
    },
}

impl Shape {
    pub(in crate::native) fn of(message: &AnyRequest) -> Shape {
        match message {
            AnyRequest::Transaction(asked) => {
                Shape::Transaction { then: rpcs(&asked.then), otherwise: rpcs(&asked.otherwise) }
            }
            message => Shape::One(Rpc::of(message)),
        }
    }

    /// Whether it asks and changes nothing.
    pub(in crate::native) fn is_read(&self) -> bool {
        matches!(self, Shape::One(Rpc::Get | Rpc::GetAll | Rpc::Range | Rpc::History))
    }

    /// Whether its answer may be larger than a message. Others hold one row at most.
    pub(in crate::native) fn is_unbounded(&self) -> bool {
        matches!(
            self,
            Shape::Transaction { .. } | Shape::One(Rpc::GetAll | Rpc::PutAll | Rpc::Range | Rpc::History)
        )
    }
}

/// The message that answers what was asked in `shape`. [`Error::InDoubt`] when the answer is of another kind: only a
/// defect of the store does that.
pub(in crate::native) fn encode(shape: &Shape, reply: Reply) -> Result<AnyResponse, Error> {
    let receipt = Some(receipt(reply.receipt));
    match (shape, reply.answer) {
        (Shape::One(rpc), answer) => one(*rpc, answer, receipt),
        (Shape::Transaction { then, otherwise }, Answer::Transaction { succeeded, answers }) => {
            let rpcs = if succeeded { then } else { otherwise };
            if rpcs.len() != answers.len() {
                return Err(mismatch(Rpc::Transaction));
            }
            let inner = |(rpc, answer): (&Rpc, Answer)| {
                Ok(proto::OperationResult { result: Some(one(*rpc, answer, None)?) })
            };
            let results = rpcs.iter().zip(answers).map(inner).collect::<Result<_, Error>>()?;
            Ok(AnyResponse::Transaction(proto::TransactionResponse { receipt, succeeded, results }))
        }
        (Shape::Transaction { .. }, _) => Err(mismatch(Rpc::Transaction)),
    }
}

/// A protocol as it stands in receipts and the status.
pub(in crate::native) fn protocol(protocol: Protocol) -> proto::Protocol {
    match protocol {
        Protocol::Single => proto::Protocol::Single,
        Protocol::Raft => proto::Protocol::Raft,
        Protocol::Primary => proto::Protocol::Primary,
        Protocol::TwoPhase => proto::Protocol::TwoPhase,
        Protocol::Quorum => proto::Protocol::Quorum,
        Protocol::Broadcast => proto::Protocol::Broadcast,
    }
}

fn rpcs(operations: &[proto::Operation]) -> Vec<Rpc> {
    operations.iter().filter_map(|operation| operation.operation.as_ref().map(Rpc::of)).collect()
}

fn one(rpc: Rpc, answer: Answer, receipt: Option<proto::Receipt>) -> Result<AnyResponse, Error> {
    Ok(match (rpc, answer) {
        (Rpc::Get, Answer::Row(found)) => {
            AnyResponse::Get(proto::GetResponse { receipt, row: found.map(row) })
        }
        (Rpc::Put, Answer::Put { previous }) => {
            AnyResponse::Put(proto::PutResponse { receipt, previous: previous.map(row) })
        }
        (Rpc::Insert, Answer::Condition { met, current }) => {
            AnyResponse::Insert(proto::InsertResponse { receipt, inserted: met, current: current.map(row) })
        }
        (Rpc::CompareAndPut, Answer::Condition { met, current }) => {
            let current = current.map(row);
            AnyResponse::CompareAndPut(proto::CompareAndPutResponse { receipt, stored: met, current })
        }
        (Rpc::Append, Answer::Length(length)) => {
            AnyResponse::Append(proto::AppendResponse { receipt, length })
        }
        (Rpc::Pop, Answer::Popped(value)) => AnyResponse::Pop(proto::PopResponse { receipt, value }),
        (Rpc::Increment, Answer::Number(number)) => {
            AnyResponse::Increment(proto::IncrementResponse { receipt, number })
        }
        (Rpc::Delete, Answer::Deleted { count, previous, next: None }) => {
            AnyResponse::Delete(proto::DeleteResponse { receipt, count, previous: previous.map(row) })
        }
        (Rpc::DeleteRange, Answer::Deleted { count, previous: None, next }) => {
            AnyResponse::DeleteRange(proto::DeleteRangeResponse { receipt, count, next })
        }
        (Rpc::Range, Answer::Page(page)) => AnyResponse::Range(proto::RangeResponse {
            receipt,
            rows: page.rows.into_iter().map(row).collect(),
            next: page.next,
            count: page.count,
        }),
        (Rpc::GetAll, Answer::Many(keys)) => {
            AnyResponse::GetAll(proto::GetAllResponse { receipt, results: many(keys) })
        }
        (Rpc::PutAll, Answer::Many(keys)) => {
            AnyResponse::PutAll(proto::PutAllResponse { receipt, results: many(keys) })
        }
        (Rpc::History, Answer::History { revisions, next }) => {
            let revisions = revisions.into_iter().map(revision).collect();
            let next = next.map(|next| next.as_i64());
            AnyResponse::History(proto::HistoryResponse { receipt, revisions, next })
        }
        (Rpc::Trim, Answer::Trimmed { count, next }) => {
            AnyResponse::Trim(proto::TrimResponse { receipt, count, next })
        }
        (Rpc::TrimRange, Answer::Trimmed { count, next }) => {
            AnyResponse::TrimRange(proto::TrimRangeResponse { receipt, count, next })
        }
        (Rpc::Expire, Answer::Expire(found)) => AnyResponse::Expire(proto::ExpireResponse { receipt, found }),
        (rpc, _) => return Err(mismatch(rpc)),
    })
}

fn mismatch(rpc: Rpc) -> Error {
    Error::InDoubt(format!(
        "the store answered {} with an answer of another kind: this is a defect, please report it; read the key to see what happened",
        rpc.name()
    ))
}

fn receipt(receipt: Receipt) -> proto::Receipt {
    proto::Receipt {
        version: receipt.version.as_i64(),
        shard: receipt.shard.0,
        protocol: protocol(receipt.protocol).into(),
        epoch: receipt.epoch.0,
        level_asked: Some(request::level(receipt.asked)),
        level_reached: Some(request::level(receipt.reached)),
        copies: receipt.copies,
        staleness_micros: receipt.staleness_micros,
        node: receipt.node.0,
    }
}

fn row(row: Row) -> proto::Row {
    proto::Row {
        key: row.key,
        value: row.value,
        version: row.version.as_i64(),
        created: row.created.as_i64(),
        changes: row.changes,
        deadline: row.deadline,
    }
}

fn many(keys: Vec<KeyAnswer>) -> Vec<proto::KeyResult> {
    use proto::key_result::Result;
    let result = |answer: KeyAnswer| {
        let result = match answer.result {
            Ok(found) => found.map(row).map(Result::Row),
            Err(error) => Some(Result::Error(status::to_message(&error))),
        };
        proto::KeyResult { key: answer.key, result }
    };
    keys.into_iter().map(result).collect()
}

fn revision(revision: Revision) -> proto::Revision {
    proto::Revision { version: revision.version.as_i64(), value: revision.value }
}
