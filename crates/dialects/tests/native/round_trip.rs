//! Every op there and back.

use std::time::Duration;

use bytes::Bytes;
use kv::*;

use crate::fake::{self, NOW, Node, client, nodes};

fn ops() -> Vec<Op> {
    let key = || Bytes::from_static(b"key");
    let value = || Bytes::from_static(b"\x00\xffvalue");
    let at = Some(Version::new(NOW, ReplicaId(5)));
    let update = |function| Op::Update { key: key(), function };
    let compare = |expect| update(Function::CompareAndPut { expect, value: value(), deadline: None });
    let range = Range { from: key(), to: Some("z".into()), limit: 7, ..Range::default() };
    let then = vec![
        Op::Get { key: key(), at: None },
        Op::Put { key: key(), value: value(), deadline: Some(NOW), previous: true },
        update(Function::Insert { value: value(), deadline: None }),
    ];
    vec![
        Op::Get { key: key(), at: None },
        Op::Get { key: key(), at },
        Op::GetAll { keys: vec![key(), "other".into()], at },
        Op::Range(range.clone()),
        Op::Range(Range {
            direction: Direction::Backward,
            page: Some("m".into()),
            keys_only: true,
            at,
            ..range
        }),
        Op::Range(Range { count_only: true, ..Range::default() }),
        Op::History { key: key(), limit: 3, before: None },
        Op::History { key: key(), limit: 0, before: at },
        Op::Put { key: key(), value: value(), deadline: None, previous: false },
        Op::Put { key: key(), value: Bytes::new(), deadline: Some(NOW), previous: true },
        Op::PutAll { rows: vec![(key(), value()), ("other".into(), Bytes::new())] },
        Op::Delete { key: key(), previous: false },
        Op::Delete { key: key(), previous: true },
        Op::DeleteRange { from: Bytes::new(), to: None },
        Op::DeleteRange { from: "a".into(), to: Some("m".into()) },
        Op::Trim { key: key(), below: at },
        Op::Trim { key: key(), below: None },
        Op::TrimRange { from: Bytes::new(), to: None, below: None },
        Op::TrimRange { from: "a".into(), to: Some("m".into()), below: at },
        Op::Expire { key: key(), deadline: Some(0) },
        Op::Expire { key: key(), deadline: None },
        update(Function::Append { side: Side::Left, value: value() }),
        update(Function::Append { side: Side::Right, value: value() }),
        update(Function::Pop { side: Side::Left, count: 1 }),
        update(Function::Pop { side: Side::Right, count: u32::MAX }),
        update(Function::Increment { by: i64::MIN }),
        update(Function::Insert { value: value(), deadline: Some(NOW) }),
        compare(Expect::Absent),
        compare(Expect::Present),
        compare(Expect::Value(value())),
        compare(Expect::Version(Version::MAX)),
        Op::Transaction {
            conditions: vec![Condition { key: key(), expect: Expect::Absent }],
            then,
            otherwise: vec![Op::Delete { key: key(), previous: false }],
        },
    ]
}

#[tokio::test]
async fn op_of_every_kind_arrives_as_sent_and_its_answer_comes_back() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    for (index, op) in ops().into_iter().enumerate() {
        let reply = client.call(Request::new(op.clone())).await;
        assert_eq!(node.fake.seen()[index].op, op);
        assert_eq!(reply, Ok(Reply { answer: fake::answer(&op), receipt: fake::receipt(NodeId(1)) }));
    }
}

#[tokio::test]
async fn write_carries_an_id_and_read_none() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    for op in ops() {
        client.call(Request::new(op)).await.unwrap();
    }
    for request in node.fake.seen() {
        assert_eq!(request.id.is_some(), request.op.class() != Class::Read, "{request:?}");
    }
}

#[tokio::test]
async fn level_keyspace_and_own_id_arrive_as_given() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let id = RequestId { client: u64::MAX, sequence: 5, valid_until: Version::MAX, answered_below: 4 };
    for level in [None, Some(Level::Linearizable), Some(Level::Bounded(250)), Some(Level::Local)] {
        let request = Request { keyspace: "orders".into(), level, id: Some(id), ..fake::put("k", "v") };
        client.call(request).await.unwrap();
        let seen = node.fake.seen().pop().unwrap();
        assert_eq!((seen.keyspace.as_str(), seen.level, seen.id), ("orders", level, Some(id)));
    }
}

#[tokio::test]
async fn row_absent_is_no_error() {
    let node = Node::start(1).await;
    node.fake.act([fake::Act::Tell(Answer::Row(None))]);
    let reply = client(&[&node]).call(fake::get("nothing")).await.unwrap();
    assert_eq!(reply.answer, Answer::Row(None));
}

#[tokio::test]
async fn value_of_the_largest_size_goes_both_ways() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let value = Bytes::from((0..VALUE_BYTES_MAX).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    client.call(fake::put("large", value.clone())).await.unwrap();
    let Op::Put { value: arrived, .. } = &node.fake.seen()[0].op else { panic!("a put was sent") };
    assert!(*arrived == value);
    node.fake.act([fake::Act::Tell(Answer::Row(Some(fake::row(b"large", &value))))]);
    let reply = client.call(fake::get("large")).await.unwrap();
    assert!(reply.answer == Answer::Row(Some(fake::row(b"large", &value))));
}

#[tokio::test]
async fn ttl_becomes_a_deadline_by_the_clock_of_the_node() {
    let node = Node::start(1).await;
    let client = client(&[&node]);
    let ttl = Duration::from_micros(1500);
    client.call_with_ttl(fake::put("k", "v"), ttl).await.unwrap();
    let expire = Request::new(Op::Expire { key: "k".into(), deadline: None });
    client.call_with_ttl(expire, ttl).await.unwrap();
    let deadline = Some(NOW + 2000);
    let seen = node.fake.seen();
    assert!(matches!(&seen[0].op, Op::Put { deadline: found, .. } if *found == deadline), "{:?}", seen[0]);
    assert!(matches!(&seen[1].op, Op::Expire { deadline: found, .. } if *found == deadline), "{:?}", seen[1]);
}

#[tokio::test]
async fn ttl_of_what_stores_nothing_is_refused() {
    let node = Node::start(1).await;
    let result = client(&[&node]).call_with_ttl(fake::get("k"), Duration::from_secs(1)).await;
    assert!(matches!(result, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn several_connections_serve_as_one_does() {
    let [node] = nodes().await;
    let options = dialects::native::Options { connections: 3, ..Default::default() };
    let client = dialects::native::Client::connect(vec![node.address.clone()], options).unwrap();
    for _ in 0..10 {
        client.call(fake::put("k", "v")).await.unwrap();
    }
    assert_eq!(node.fake.seen().len(), 10);
}
