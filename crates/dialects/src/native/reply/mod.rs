//! Replies between [`kv::Reply`] and the messages of `capstan.v1`.

mod decode;
mod encode;

use bytes::Bytes;
use kv::Reply;

use super::request::{Rpc, read_response};

pub use decode::Malformed;
pub(super) use decode::{decode, protocol as decode_protocol};
pub(super) use encode::{Shape, encode, protocol as encode_protocol};

/// The reply that the message `bytes` of an rpc tells. Never panics, whatever the bytes.
pub fn decode_reply(rpc: Rpc, bytes: Bytes) -> Result<Reply, Malformed> {
    let response = read_response(rpc, bytes).map_err(|_| Malformed("it is no protobuf of its kind"))?;
    decode(response)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kv::{
        Answer, Epoch, Error, KeyAnswer, Level, NodeId, Page, Protocol, Receipt, ReplicaId, Reply, Revision,
        Row, ShardId, Version,
    };

    use super::*;
    use crate::native::{AnyRequest, AnyResponse, proto};

    fn receipt() -> Receipt {
        Receipt {
            version: Version::new(1_000, ReplicaId(2)),
            shard: ShardId(3),
            protocol: Protocol::Raft,
            epoch: Epoch(4),
            asked: Level::Bounded(7),
            reached: Level::Linearizable,
            copies: 2,
            staleness_micros: 9,
            node: NodeId(1023),
        }
    }

    fn row() -> Row {
        Row {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            version: Version::new(5, ReplicaId(1)),
            created: Version::new(4, ReplicaId(1)),
            changes: 2,
            deadline: Some(0),
        }
    }

    fn round_trip(asked: AnyRequest, answer: Answer) {
        let reply = Reply { answer, receipt: receipt() };
        let message = encode(&Shape::of(&asked), reply.clone()).unwrap();
        assert_eq!(decode(message), Ok(reply));
    }

    #[test]
    fn reply_of_every_kind_round_trips() {
        use AnyRequest::*;
        round_trip(Get(Default::default()), Answer::Row(None));
        round_trip(Get(Default::default()), Answer::Row(Some(row())));
        round_trip(Get(Default::default()), Answer::Row(Some(Row { deadline: None, ..row() })));
        round_trip(Put(Default::default()), Answer::Put { previous: Some(row()) });
        round_trip(Put(Default::default()), Answer::Put { previous: None });
        round_trip(Insert(Default::default()), Answer::Condition { met: true, current: None });
        round_trip(CompareAndPut(Default::default()), Answer::Condition { met: false, current: Some(row()) });
        round_trip(Append(Default::default()), Answer::Length(0));
        round_trip(Pop(Default::default()), Answer::Popped(None));
        round_trip(Pop(Default::default()), Answer::Popped(Some(Bytes::new())));
        round_trip(Increment(Default::default()), Answer::Number(i64::MIN));
        round_trip(
            Delete(Default::default()),
            Answer::Deleted { count: 1, previous: Some(row()), next: None },
        );
        let next = Some(Bytes::from_static(b"n"));
        round_trip(
            DeleteRange(Default::default()),
            Answer::Deleted { count: 2, previous: None, next: next.clone() },
        );
        round_trip(
            Range(Default::default()),
            Answer::Page(Page { rows: vec![row(), row()], next, count: 2 }),
        );
        round_trip(Range(Default::default()), Answer::Page(Page::default()));
        let revisions = vec![
            Revision { version: Version::new(2, ReplicaId(1)), value: None },
            Revision { version: Version::new(1, ReplicaId(1)), value: Some(Bytes::new()) },
        ];
        for next in [None, Some(Version::new(1, ReplicaId(1)))] {
            let revisions = revisions.clone();
            round_trip(History(Default::default()), Answer::History { revisions, next });
        }
        for next in [None, Some(Bytes::from_static(b"n"))] {
            round_trip(Trim(Default::default()), Answer::Trimmed { count: 3, next: next.clone() });
            round_trip(TrimRange(Default::default()), Answer::Trimmed { count: 3, next });
        }
        round_trip(Expire(Default::default()), Answer::Expire(true));
    }

    #[test]
    fn reply_of_several_keys_tells_rows_absences_and_errors() {
        let key = Bytes::from_static(b"k");
        let many = Answer::Many(vec![
            KeyAnswer { key: key.clone(), result: Ok(Some(row())) },
            KeyAnswer { key: key.clone(), result: Ok(None) },
            KeyAnswer { key, result: Err(Error::WrongNode { try_next: None }) },
        ]);
        round_trip(AnyRequest::GetAll(Default::default()), many.clone());
        round_trip(AnyRequest::PutAll(Default::default()), many);
    }

    #[test]
    fn reply_of_transaction_follows_the_branch_that_ran() {
        let operation = |operation| proto::Operation { operation: Some(operation) };
        let asked = || {
            AnyRequest::Transaction(proto::TransactionRequest {
                then: vec![operation(AnyRequest::Insert(Default::default()))],
                otherwise: vec![
                    operation(AnyRequest::Get(Default::default())),
                    operation(AnyRequest::Delete(Default::default())),
                ],
                ..Default::default()
            })
        };
        let inserted = Answer::Condition { met: true, current: None };
        round_trip(asked(), Answer::Transaction { succeeded: true, answers: vec![inserted] });
        let others = vec![Answer::Row(None), Answer::Deleted { count: 0, previous: None, next: None }];
        round_trip(asked(), Answer::Transaction { succeeded: false, answers: others });
    }

    #[test]
    fn reply_of_another_kind_than_asked_is_in_doubt() {
        let reply = Reply { answer: Answer::Trimmed { count: 1, next: None }, receipt: receipt() };
        let shape = Shape::of(&AnyRequest::Put(Default::default()));
        assert!(matches!(encode(&shape, reply), Err(Error::InDoubt(_))));
    }

    #[test]
    fn reply_without_receipt_or_with_impossible_numbers_is_malformed() {
        assert!(decode(AnyResponse::Get(Default::default())).is_err());
        let receipt = proto::Receipt { version: -1, ..Default::default() };
        assert!(decode(AnyResponse::Get(proto::GetResponse { receipt: Some(receipt), row: None })).is_err());
    }
}
