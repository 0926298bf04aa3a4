//! The codec's promises: what is written is read back as it was, and no bytes make it panic.

use bytes::{Bytes, BytesMut};
use kv::codec::{self, Malformed, Reader};
use kv::*;
use proptest::collection::vec;
use proptest::option::of as option;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::ZERO), Just(Version::MAX), (0..=i64::MAX).prop_map(positive)]
}

fn positive(number: i64) -> Version {
    Version::from_i64(number).expect("the strategy draws no negative number")
}

fn id() -> impl Strategy<Value = RequestId> {
    (any::<u64>(), any::<u64>(), version(), any::<u64>()).prop_map(
        |(client, sequence, valid_until, answered_below)| RequestId {
            client,
            sequence,
            valid_until,
            answered_below,
        },
    )
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        Just(Expect::Absent),
        Just(Expect::Present),
        bytes().prop_map(Expect::Value),
        version().prop_map(Expect::Version)
    ]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Left), Just(Side::Right)]
}

fn function() -> impl Strategy<Value = Function> {
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
        (bytes(), option(bytes()), option(version())).prop_map(|(from, to, below)| Op::TrimRange {
            from,
            to,
            below
        }),
        (bytes(), option(any::<u64>())).prop_map(|(key, deadline)| Op::Expire { key, deadline }),
        (bytes(), function()).prop_map(|(key, function)| Op::Update { key, function }),
        version().prop_map(|to| Op::Advance { to, rules: None }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let condition = (bytes(), expect()).prop_map(|(key, expect)| Condition { key, expect });
    let transaction = (vec(condition, 0..4), vec(simple_op(), 0..4), vec(simple_op(), 0..4))
        .prop_map(|(conditions, then, otherwise)| Op::Transaction { conditions, then, otherwise });
    prop_oneof![4 => simple_op(), 1 => transaction]
}

fn stamped() -> impl Strategy<Value = Stamped> {
    (option(id()), op()).prop_map(|(id, op)| Stamped { id, op })
}

fn error() -> impl Strategy<Value = Error> {
    let text = || ".{0,12}";
    prop_oneof![
        text().prop_map(Error::Invalid),
        text().prop_map(Error::Conflict),
        text().prop_map(Error::NoKeyspace),
        text().prop_map(Error::OverQuota),
        text().prop_map(Error::Unavailable),
        text().prop_map(Error::InDoubt),
        (text(), any::<u64>(), any::<u64>()).prop_map(|(what, size, limit)| Error::TooLarge {
            what,
            size,
            limit
        }),
        (version(), version()).prop_map(|(asked, oldest)| Error::Trimmed { asked, oldest }),
        (version(), version()).prop_map(|(asked, newest)| Error::Future { asked, newest }),
        option(text()).prop_map(|try_next| Error::WrongNode { try_next }),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    (bytes(), bytes(), version(), version(), any::<u64>(), option(any::<u64>())).prop_map(
        |(key, value, version, created, changes, deadline)| Row {
            key,
            value,
            version,
            created,
            changes,
            deadline,
        },
    )
}

fn simple_answer() -> impl Strategy<Value = Answer> {
    let result = prop_oneof![option(row()).prop_map(Ok), error().prop_map(Err)];
    let key = (bytes(), result).prop_map(|(key, result)| KeyAnswer { key, result });
    let revision = (version(), option(bytes())).prop_map(|(version, value)| Revision { version, value });
    prop_oneof![
        option(row()).prop_map(Answer::Row),
        vec(key, 0..4).prop_map(Answer::Many),
        (vec(row(), 0..4), option(bytes()), any::<u64>())
            .prop_map(|(rows, next, count)| Answer::Page(Page { rows, next, count })),
        (vec(revision, 0..4), option(version()))
            .prop_map(|(revisions, next)| Answer::History { revisions, next }),
        option(row()).prop_map(|previous| Answer::Put { previous }),
        (any::<u64>(), option(row()), option(bytes())).prop_map(|(count, previous, next)| Answer::Deleted {
            count,
            previous,
            next
        }),
        (any::<u64>(), option(bytes())).prop_map(|(count, next)| Answer::Trimmed { count, next }),
        any::<bool>().prop_map(Answer::Expire),
        any::<u64>().prop_map(Answer::Length),
        option(bytes()).prop_map(Answer::Popped),
        any::<i64>().prop_map(Answer::Number),
        (any::<bool>(), option(row())).prop_map(|(met, current)| Answer::Condition { met, current }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let transaction = (any::<bool>(), vec(simple_answer(), 0..4))
        .prop_map(|(succeeded, answers)| Answer::Transaction { succeeded, answers });
    prop_oneof![4 => simple_answer(), 1 => transaction]
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Linearizable), Just(Level::Local), any::<u64>().prop_map(Level::Bounded)]
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let protocol = prop_oneof![Just(Protocol::Single), Just(Protocol::Raft), Just(Protocol::TwoPhase)];
    let place = (version(), any::<u32>(), protocol, any::<u64>());
    let kept = (level(), level(), any::<u32>(), any::<u64>(), any::<u64>());
    (place, kept).prop_map(
        |((version, shard, protocol, epoch), (asked, reached, copies, staleness_micros, node))| Receipt {
            version,
            shard: ShardId(shard),
            protocol,
            epoch: Epoch(epoch),
            asked,
            reached,
            copies,
            staleness_micros,
            node: NodeId(node),
        },
    )
}

/// Writes with `put`, reads with `get`, and checks that nothing is left.
fn read_back<T>(
    put: impl FnOnce(&mut BytesMut),
    get: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut into = BytesMut::new();
    put(&mut into);
    let mut reader = Reader::new(into.freeze());
    let value = get(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Every decoder there is, on the same bytes.
fn decode_everything(bytes: &Bytes) {
    let reader = || Reader::new(bytes.clone());
    let _ = Stamped::decode(bytes);
    let _ = Entry::decode(bytes);
    let _ = codec::decode_op(&mut reader());
    let _ = codec::decode_answer(&mut reader());
    let _ = codec::decode_reply(&mut reader());
    let _ = codec::decode_level(&mut reader());
    let _ = codec::decode_result(&mut reader(), codec::decode_answer);
}

proptest! {
    #[test]
    fn op_with_its_id_reads_back_as_written(stamped in stamped()) {
        prop_assert_eq!(Stamped::decode(&stamped.encode()), Ok(stamped));
    }

    #[test]
    fn entry_reads_back_as_written(proposed in version(), ops in vec(stamped(), 0..5)) {
        let encoded: Vec<Bytes> = ops.iter().map(Stamped::encode).collect();
        prop_assert_eq!(Entry::decode(&Entry::encode(proposed, &encoded)), Ok(Entry { proposed, ops }));
    }

    #[test]
    fn result_reads_back_as_written(result in prop_oneof![answer().prop_map(Ok), error().prop_map(Err)]) {
        let put = |into: &mut BytesMut| codec::encode_result(into, &result, codec::encode_answer);
        let get = |reader: &mut Reader| codec::decode_result(reader, codec::decode_answer);
        prop_assert_eq!(read_back(put, get), Ok(result.clone()));
        let kept = codec::result_bytes(&result);
        prop_assert_eq!(read_back(|into| into.extend_from_slice(&kept), get), Ok(result));
    }

    #[test]
    fn reply_reads_back_as_written(answer in answer(), receipt in receipt()) {
        let reply = Reply { answer, receipt };
        let back = read_back(|into| codec::encode_reply(into, &reply), codec::decode_reply);
        prop_assert_eq!(back, Ok(reply));
    }

    #[test]
    fn level_reads_back_as_written(level in level()) {
        let back = read_back(|into| codec::encode_level(into, level), codec::decode_level);
        prop_assert_eq!(back, Ok(level));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        decode_everything(&Bytes::from(bytes));
    }

    #[test]
    fn mutated_bytes_never_panic(
        stamped in stamped(),
        answer in answer(),
        receipt in receipt(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut reply = BytesMut::new();
        codec::encode_reply(&mut reply, &Reply { answer, receipt });
        let entry = Entry::encode(Version::ZERO, &[stamped.encode()]);
        for bytes in [stamped.encode(), entry, reply.freeze()] {
            let mut bytes = bytes.to_vec();
            for (place, byte) in &flips {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            decode_everything(&Bytes::from(bytes.clone()));
            bytes.truncate(cut.index(bytes.len()));
            decode_everything(&Bytes::from(bytes));
        }
    }

    #[test]
    fn truncated_op_is_malformed(stamped in stamped(), cut in any::<prop::sample::Index>()) {
        let bytes = stamped.encode();
        prop_assert!(Stamped::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
    }

    #[test]
    fn op_with_bytes_behind_it_is_malformed(stamped in stamped(), more in vec(any::<u8>(), 1..4)) {
        let bytes = [stamped.encode().as_ref(), &more].concat();
        prop_assert!(Stamped::decode(&Bytes::from(bytes)).is_err());
    }
}

#[test]
fn transactions_nested_twice_are_malformed() {
    let wrap = |then| Op::Transaction { conditions: vec![], then, otherwise: vec![] };
    let nested = wrap(vec![wrap(vec![wrap(vec![])])]);
    assert!(Stamped::decode(&Stamped { id: None, op: nested }.encode()).is_err());
}

#[test]
fn tags_that_went_out_of_use_are_malformed() {
    // A history without pages, and its answer; a trim that told only how many.
    let op = |bytes: &'static [u8]| codec::decode_op(&mut Reader::new(Bytes::from_static(bytes)));
    let answer = |bytes: &'static [u8]| codec::decode_answer(&mut Reader::new(Bytes::from_static(bytes)));
    assert!(op(&[4, 1, b'k', 0]).is_err());
    assert!(answer(&[4, 0]).is_err() && answer(&[7, 3]).is_err());
}

#[test]
fn huge_count_before_few_bytes_is_malformed() {
    // A get-all (tag 2) of 2^60 keys, without an id: to reserve room for them would end the process.
    let mut bytes = BytesMut::from(&[0u8, 2][..]);
    codec::put_uint(&mut bytes, 1 << 60);
    assert!(Stamped::decode(&bytes.freeze()).is_err());
}
