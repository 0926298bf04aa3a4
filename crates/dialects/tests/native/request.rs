//! Any request survives its message, and no bytes make the decoder panic.

use std::time::Duration;

use bytes::Bytes;
use dialects::native::{Rpc, decode_reply, decode_request, encode_request};
use kv::ledger::Note;
use kv::*;
use proptest::collection::vec;
use proptest::option::of as option;
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000_000_000;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn version() -> impl Strategy<Value = Version> {
    (0..=i64::MAX).prop_map(|number| Version::from_i64(number).expect("it is not negative"))
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        Just(Expect::Absent),
        Just(Expect::Present),
        bytes().prop_map(Expect::Value),
        version().prop_map(Expect::Version)
    ]
}

fn function() -> impl Strategy<Value = Function> {
    let side = || prop_oneof![Just(Side::Left), Just(Side::Right)];
    let deadline = || option(any::<u64>());
    prop_oneof![
        (side(), bytes()).prop_map(|(side, value)| Function::Append { side, value }),
        (side(), any::<u32>()).prop_map(|(side, count)| Function::Pop { side, count }),
        any::<i64>().prop_map(|by| Function::Increment { by }),
        (bytes(), deadline()).prop_map(|(value, deadline)| Function::Insert { value, deadline }),
        (expect(), bytes(), deadline()).prop_map(|(expect, value, deadline)| Function::CompareAndPut {
            expect,
            value,
            deadline
        }),
    ]
}

fn range() -> impl Strategy<Value = Range> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    let bounds = (bytes(), option(bytes()), direction, any::<u32>());
    let rest = (option(bytes()), any::<bool>(), any::<bool>(), option(version()));
    (bounds, rest).prop_map(|((from, to, direction, limit), (page, keys_only, count_only, at))| Range {
        from,
        to,
        direction,
        limit,
        page,
        keys_only,
        count_only,
        at,
        ledger: limit % 5 == 1,
    })
}

fn simple_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (bytes(), option(version())).prop_map(|(key, at)| Op::Get { key, at }),
        (vec(bytes(), 0..4), option(version())).prop_map(|(keys, at)| Op::GetAll { keys, at }),
        range().prop_map(Op::Range),
        (bytes(), any::<u32>(), option(version())).prop_map(|(key, limit, before)| Op::History {
            key,
            limit,
            before
        }),
        (bytes(), bytes(), option(any::<u64>()), any::<bool>())
            .prop_map(|(key, value, deadline, previous)| Op::Put { key, value, deadline, previous }),
        vec((bytes(), bytes()), 0..4).prop_map(|rows| Op::PutAll { rows }),
        (bytes(), any::<bool>()).prop_map(|(key, previous)| Op::Delete { key, previous }),
        (bytes(), option(bytes())).prop_map(|(from, to)| Op::DeleteRange { from, to }),
        (bytes(), option(version())).prop_map(|(key, below)| Op::Trim { key, below }),
        (bytes(), vec(version(), 1..4)).prop_map(|(key, lost)| Op::Note(Note::Clear { key, lost })),
        (bytes(), option(bytes()), option(version())).prop_map(|(from, to, below)| Op::TrimRange {
            from,
            to,
            below
        }),
        (bytes(), option(any::<u64>())).prop_map(|(key, deadline)| Op::Expire { key, deadline }),
        (bytes(), function()).prop_map(|(key, function)| Op::Update { key, function }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let condition = (bytes(), expect()).prop_map(|(key, expect)| Condition { key, expect });
    let transaction = (vec(condition, 0..4), vec(simple_op(), 0..4), vec(simple_op(), 0..4))
        .prop_map(|(conditions, then, otherwise)| Op::Transaction { conditions, then, otherwise });
    prop_oneof![4 => simple_op(), 1 => transaction]
}

fn request() -> impl Strategy<Value = Request> {
    let level =
        prop_oneof![Just(Level::Linearizable), Just(Level::Local), any::<u64>().prop_map(Level::Bounded)];
    let id = (1..=u64::MAX, 1..=u64::MAX, version(), any::<u64>()).prop_map(
        |(client, sequence, valid_until, answered_below)| RequestId {
            client,
            sequence,
            valid_until,
            answered_below,
        },
    );
    let timeout = (1..=TIMEOUT_MILLIS_MAX).prop_map(Duration::from_millis);
    ("[a-z]{1,10}|default", op(), option(level), option(id), timeout).prop_map(
        |(keyspace, op, level, id, timeout)| Request {
            keyspace,
            op,
            level,
            id,
            timeout,
            again: false,
            here: false,
        },
    )
}

proptest! {
    #[test]
    fn request_comes_back_from_its_message(request in request()) {
        let (rpc, bytes) = encode_request(request.clone()).expect("a client may ask this");
        prop_assert_eq!(decode_request(rpc, bytes, NOW), Ok(request));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for rpc in Rpc::ALL {
            let _ = decode_request(*rpc, Bytes::from(bytes.clone()), NOW);
            let _ = decode_reply(*rpc, Bytes::from(bytes.clone()));
        }
    }

    #[test]
    fn mutated_message_never_panics(
        request in request(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let (rpc, bytes) = encode_request(request).expect("a client may ask this");
        let mut bytes = bytes.to_vec();
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = decode_request(rpc, Bytes::from(bytes.clone()), NOW).map(|request| request.op.validate());
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode_request(rpc, Bytes::from(bytes), NOW).map(|request| request.op.validate());
    }
}

#[test]
fn advance_cannot_be_asked_for() {
    let request = Request::new(Op::Advance { to: Version::MAX, rules: None });
    assert!(matches!(encode_request(request), Err(Error::Invalid(_))));
}
