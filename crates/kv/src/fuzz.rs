//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.
//!
//! Each function panics when something does not hold that must hold for all bytes. LEB128 has longer forms of a number than
//! it needs, so bytes that decode need not be the bytes that encoding gives; the value must be the same.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};

use crate::admin::{self, Ask, Joining, Move, Phase, Ruled, Ruling, Why};
use crate::cluster::NodeDuty;
use crate::codec::{self, Malformed, Reader};
use crate::keyspace::{Bus, Described, Full, History, Rules, Secondaries, Settings, Usage, Weights, Wish};
use crate::ledger::{Lost, Note, Orphans};
use crate::merged::{self, Found, Look};
use crate::view::{Change, View};
use crate::{
    Answer, ClusterId, Condition, Direction, Entry, Epoch, Error, Expect, Function, KeyAnswer, Level, NodeId,
    Op, Page, Protocol, Range, Receipt, ReplicaId, Reply, RequestId, Revision, Row, ShardId, Side, Stamped,
    Version,
};

/// Checks that what decodes from `bytes`, if anything does, is the same after encoding and decoding, in no more bytes.
pub fn round_trip<T: PartialEq + Debug, E: Debug>(
    bytes: &[u8],
    decode: impl Fn(&Bytes) -> Result<T, E>,
    encode: impl Fn(&T) -> Bytes,
) -> Option<T> {
    let value = decode(&Bytes::copy_from_slice(bytes)).ok()?;
    let encoded = encode(&value);
    assert!(encoded.len() <= bytes.len(), "encoded in {} bytes, decoded from {}", encoded.len(), bytes.len());
    let again = decode(&encoded).expect("what was encoded decodes");
    assert_eq!(again, value, "decoded, encoded and decoded again");
    assert_eq!(encode(&again), encoded, "encoded twice");
    Some(value)
}

/// An op with its id; its limits are checked, and its keys looked at.
pub fn stamped(bytes: &[u8]) {
    if let Some(stamped) = round_trip(bytes, Stamped::decode, Stamped::encode) {
        let _ = stamped.op.validate();
        let (_, _) = (stamped.op.class(), stamped.op.bytes());
        stamped.op.for_each_key(&mut |key| assert!(crate::Slot::of(key).0 < crate::SLOTS));
    }
}

/// What a replica of a merged store is asked.
pub fn look(bytes: &[u8]) {
    let decode = |bytes: &Bytes| whole(bytes, merged::decode_look);
    if let Some(look) = round_trip(bytes, decode, |look| of(look, merged::encode_look)) {
        assert_eq!(look.check(), Ok(()), "what decodes is within the limits");
    }
}

/// What it found.
pub fn found(bytes: &[u8]) {
    let decode = |bytes: &Bytes| whole(bytes, merged::decode_found);
    let found = round_trip(bytes, decode, |found| of(found, merged::encode_found));
    let Some(Found::Rows { rows, .. }) = found else { return };
    for row in rows {
        let again = whole(&of(&row, merged::encode_row), merged::decode_row);
        assert_eq!(again.as_ref(), Ok(&row), "a row that decodes is one that can be");
        assert!(
            row.expire().is_none_or(|expiry| expiry.check().is_ok() && expiry.rank() > row.rank()),
            "{row}"
        );
    }
}

/// An entry.
pub fn entry(bytes: &[u8]) {
    let encode = |entry: &Entry| {
        let ops: Vec<Bytes> = entry.ops.iter().map(Stamped::encode).collect();
        Entry::encode(entry.proposed, &ops)
    };
    round_trip(bytes, Entry::decode, encode);
}

/// A reply or an error.
pub fn reply(bytes: &[u8]) {
    let decode = |bytes: &Bytes| -> Result<_, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let result = codec::decode_result(&mut reader, codec::decode_reply)?;
        reader.end()?;
        Ok(result)
    };
    if let Some(Err(error)) = round_trip(bytes, decode, reply_bytes) {
        let _ = (error.outcome(), error.to_string());
    }
}

fn reply_bytes(result: &Result<Reply, Error>) -> Bytes {
    let mut into = BytesMut::new();
    codec::encode_result(&mut into, result, codec::encode_reply);
    into.freeze()
}

/// What is asked of the directory.
pub fn ask(bytes: &[u8]) {
    let ask = round_trip(bytes, |bytes| whole(bytes, codec::decode_ask), |ask| of(ask, codec::encode_ask));
    if let Some(ask) = ask {
        let _ = ask.validate();
    }
}

/// An answer of the directory.
pub fn asked(bytes: &[u8]) {
    round_trip(bytes, |bytes| whole(bytes, codec::decode_asked), |answer| of(answer, codec::encode_asked));
}

fn whole<T>(bytes: &Bytes, decode: fn(&mut Reader) -> Result<T, Malformed>) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let value = decode(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn of<T>(value: &T, encode: fn(&mut BytesMut, &T)) -> Bytes {
    let mut into = BytesMut::new();
    encode(&mut into, value);
    into.freeze()
}

/// Asks of every kind.
pub fn ask_samples() -> Vec<Bytes> {
    asks().iter().map(|ask| of(ask, codec::encode_ask)).collect()
}

/// Answers of the directory of every kind.
pub fn asked_samples() -> Vec<Bytes> {
    admin_answers().iter().map(|answer| of(answer, codec::encode_asked)).collect()
}

/// An ask of every kind.
pub fn asks() -> Vec<Ask> {
    let joining = Joining {
        name: "n4".into(),
        incarnation: 1 << 60,
        peer: "127.0.0.1:7424".into(),
        address: "127.0.0.1:7404".into(),
        zone: "east".into(),
    };
    let duties = [NodeDuty::Serve, NodeDuty::Drain, NodeDuty::Leave, NodeDuty::Gone];
    let node = |duty| Ask::Node {
        name: "n3".into(),
        duty,
        fewer: duty == NodeDuty::Leave,
        dry_run: duty == NodeDuty::Drain,
    };
    let mut asks = vec![Ask::Join(joining), Ask::Replace { name: "n3".into(), lose: true, dry_run: false }];
    asks.extend(duties.map(node));
    asks.extend([Ask::Abort { shard: ShardId(300) }, Ask::Moves, Ask::Dump, Ask::Keyspaces]);
    let View { epoch, revision, members } = View::of(Epoch(300), &[NodeId(1), NodeId(300)]);
    let change = Change { epoch, revision, by: members[1], members };
    asks.push(Ask::Revise { shard: ShardId(300), change });
    let (keyspace, ruling) = ("tea".into(), Ruling::ForcePrimary { node: "n2".into() });
    asks.push(Ask::Rule { keyspace, ruling, dry_run: true });
    let (keyspace, ruling) = ("tea".into(), Ruling::DeclareDead { node: "n3".into() });
    asks.push(Ask::Rule { keyspace, ruling, dry_run: false });
    asks.push(Ask::Zone { name: "east".into(), secondaries: Some(300) });
    let wish = wish();
    asks.push(Ask::CreateKeyspace { name: "orders".into(), wish: Wish::default() });
    asks.push(Ask::AlterKeyspace { name: "orders".into(), wish, dry_run: true });
    asks.push(Ask::DropKeyspace { name: "orders".into() });
    asks
}

/// What a replica that is astray tells.
fn orphans() -> Note {
    let last = Version::new(14, ReplicaId(3));
    let stored = Lost { key: "k".into(), version: last, replaced: None, value: Some("v".into()) };
    let deleted = Lost { replaced: Some(Version::new(13, ReplicaId(1))), value: None, ..stored.clone() };
    let (from, node, rows) = (ReplicaId(3), NodeId(300), vec![stored, deleted]);
    Note::Orphans(Orphans { from, node, offset: 512, rows, skipped: 7, last, is_end: true })
}

/// Rules for all that a shard goes by.
fn rules() -> Rules {
    let Settings { keep, quota, .. } = Settings::of(&wish());
    Rules { keep, full: Some(Full { quota, usage: Usage { bytes: 1 << 41, keys: 9 } }) }
}

/// A wish for all that can be wished of a keyspace.
fn wish() -> Wish {
    Wish {
        protocol: Some(Protocol::Raft),
        replicas: Some(5),
        shards: Some(300),
        sync: Some(Secondaries::Count(300)),
        min_copies: Some(2),
        interval_micros: Some(1 << 30),
        weights: Weights::new(&[1, 2, 1]).ok(),
        read: Some(2),
        write: Some(300),
        history: Some(History::Micros(1 << 40)),
        deleted_micros: Some(u64::MAX),
        ttl_micros: Some(1),
        quota_bytes: Some(1 << 40),
        quota_keys: Some(0),
        bus: Bus::parse("mqtts://me:s%40cret@[::1]:1883/a/b?ca=%2Fca.pem").ok(),
    }
}

/// An answer of the directory of every kind.
pub fn admin_answers() -> Vec<admin::Answer> {
    let moved = |phase, why| Move {
        shard: ShardId(300),
        keyspace: "default".into(),
        from: Some(NodeId(1)),
        to: (why != Why::Repair).then_some(NodeId(4)),
        phase,
        why,
        bytes_done: 1 << 20,
        bytes_total: 5 << 20,
        elapsed_micros: 1_000_000,
    };
    let moves = vec![
        moved(Phase::Planned, Why::Balance),
        moved(Phase::Copy, Why::Leaves(NodeId(1))),
        moved(Phase::Switch, Why::Lost(NodeId(1))),
        moved(Phase::Switch, Why::Repair),
        moved(Phase::Copy, Why::Split),
        moved(Phase::Copy, Why::Protocol),
    ];
    let cluster = ClusterId::new(0xabc).expect("it is not 0");
    let row = admin::Row { key: "node/0000000001".into(), value: "n1".into() };
    vec![
        admin::Answer::Joined {
            node: NodeId(4),
            cluster,
            map: Bytes::from_static(b"map"),
            lives: Bytes::new(),
        },
        admin::Answer::Done,
        admin::Answer::Moves(moves),
        admin::Answer::Rows(vec![row]),
        admin::Answer::Ruled(vec![Ruled { shard: ShardId(300), done: true, why: "it orders".into() }]),
        admin::Answer::Keyspaces(vec![Described {
            name: "orders".into(),
            settings: Settings::of(&wish()),
            shards: 300,
            changing: 1,
            under_another: 300,
            usage: Some(Usage { bytes: 1 << 30, keys: 70_000 }),
        }]),
    ]
}

/// Rows of every kind.
pub fn rows() -> Vec<merged::Row> {
    let version = |micros| Version::new(micros, ReplicaId(1));
    let value = merged::Row {
        key: "key".into(),
        version: version(300),
        expired: false,
        value: Some("va\0lue".into()),
        created: version(7),
        changes: 300,
        deadline: Some(1 << 50),
        replaced: Some(version(9)),
        floor: Version::ZERO,
        known: false,
    };
    let expiry = value.expire().expect("it has a deadline");
    let first =
        merged::Row { created: version(300), changes: 1, deadline: None, replaced: None, ..value.clone() };
    let tombstone = merged::Row::tombstone("other".into(), version(12), Some(version(11)));
    let trimmed = tombstone.trim();
    let known = merged::Row { known: true, ..first.trim() };
    vec![value, expiry, first, tombstone, trimmed, known]
}

/// Looks of every kind.
pub fn look_samples() -> Vec<Bytes> {
    let (from, to) = (Bytes::from_static(b"a"), Some(Bytes::from_static(b"z")));
    let names = rows().iter().map(|row| (row.key.clone(), row.rank())).collect();
    let looks = [
        Look::Keys(vec!["key".into(), "other".into()]),
        Look::Range {
            from: from.clone(),
            to,
            direction: Direction::Backward,
            limit: 300,
            after: Some("m".into()),
        },
        Look::Range { from, to: None, direction: Direction::Forward, limit: 0, after: None },
        Look::Digests { first: 0, count: merged::BUCKETS, width: 32 },
        Look::Buckets { buckets: vec![0, 7, 1023], after: Some("key".into()) },
        Look::Rows(names),
        Look::Tombstones { after: None },
        Look::AsOf { from: "a".into(), to: None, at: Some(Version::new(300, ReplicaId(1))) },
    ];
    looks.iter().map(|look| of(look, merged::encode_look)).collect()
}

/// What is found, of every kind.
pub fn found_samples() -> Vec<Bytes> {
    let next = Some(Bytes::from_static(b"next"));
    let names = rows().iter().map(|row| (row.key.clone(), row.rank())).collect();
    let found = [
        Found::Rows { rows: rows(), next: next.clone() },
        Found::Rows { rows: Vec::new(), next: None },
        Found::Names { names, next },
        Found::Digests(vec![0, u64::MAX, merged::digest(b"key", rows()[0].rank())]),
    ];
    found.iter().map(|found| of(found, merged::encode_found)).collect()
}

/// Ops of every kind, by turns with and without an id.
pub fn stamped_samples() -> Vec<Bytes> {
    let id = RequestId { client: 7, sequence: 3, valid_until: Version::MAX, answered_below: 2 };
    let ids = [None, Some(id)].into_iter().cycle();
    ops().into_iter().zip(ids).map(|(op, id)| Stamped { id, op }.encode()).collect()
}

/// Entries of ops of every kind.
pub fn entry_samples() -> Vec<Bytes> {
    let all = stamped_samples();
    let version = Version::new(1_700_000_000_000_000, ReplicaId(1));
    vec![Entry::encode(Version::ZERO, &[]), Entry::encode(version, &all[..2]), Entry::encode(version, &all)]
}

/// Answers and errors of every kind.
pub fn reply_samples() -> Vec<Bytes> {
    let receipt = Receipt {
        version: Version::new(5, ReplicaId(2)),
        shard: ShardId(300),
        protocol: Protocol::Raft,
        epoch: Epoch(1),
        asked: Level::Bounded(20),
        reached: Level::Linearizable,
        copies: 2,
        staleness_micros: 9,
        node: NodeId(3),
    };
    let replies = answers().into_iter().map(|answer| Ok(Reply { answer, receipt: receipt.clone() }));
    replies.chain(errors().into_iter().map(Err)).map(|result| reply_bytes(&result)).collect()
}

/// An op of every kind.
pub fn ops() -> Vec<Op> {
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"va\0lue"));
    let at = Some(Version::new(9, ReplicaId(1)));
    let update = |function| Op::Update { key: key.clone(), function };
    let range = Range { from: "a".into(), to: Some("z".into()), limit: 7, ..Range::default() };
    let mut ops = vec![
        Op::Get { key: key.clone(), at },
        Op::GetAll { keys: vec![key.clone(), "other".into()], at: None },
        Op::Range(range.clone()),
        Op::Range(Range { direction: Direction::Backward, page: Some("m".into()), at, ..range }),
        Op::History { key: key.clone(), limit: 300, before: at },
        Op::Put { key: key.clone(), value: value.clone(), deadline: Some(u64::MAX), previous: true },
        Op::PutAll { rows: vec![(key.clone(), value.clone()), ("other".into(), Bytes::new())] },
        Op::Delete { key: key.clone(), previous: false },
        Op::DeleteRange { from: "a".into(), to: None },
        Op::Trim { key: key.clone(), below: at },
        Op::Expire { key: key.clone(), deadline: Some(1 << 50) },
        update(Function::Append { side: Side::Left, value: value.clone() }),
        update(Function::Pop { side: Side::Right, count: 2 }),
        update(Function::Increment { by: -1 }),
        update(Function::Insert { value: value.clone(), deadline: None }),
        Op::Advance { to: Version::new(12, ReplicaId(1)), rules: None },
        Op::Advance { to: Version::new(13, ReplicaId(1)), rules: Some(rules()) },
        Op::Note(Note::Fork { astray: vec![ReplicaId(2)] }),
        Op::Note(orphans()),
        Op::Note(Note::Clear { key: "k".into(), lost: vec![Version::end_of(7)] }),
        Op::Range(Range { ledger: true, ..Range::default() }),
    ];
    let expected =
        [Expect::Absent, Expect::Present, Expect::Value(value.clone()), Expect::Version(Version::MAX)];
    ops.extend(
        expected.clone().map(|expect| {
            update(Function::CompareAndPut { expect, value: value.clone(), deadline: Some(5) })
        }),
    );
    let conditions = expected.map(|expect| Condition { key: key.clone(), expect }).to_vec();
    let (then, otherwise) = (vec![ops[0].clone(), ops[5].clone()], vec![ops[13].clone()]);
    ops.push(Op::Transaction { conditions, then, otherwise });
    ops.push(Op::TrimRange { from: "a".into(), to: Some("m".into()), below: at });
    ops.push(Op::History { key, limit: 0, before: None });
    ops.push(Op::Merge { rows: rows() });
    ops.push(Op::Collect { tombstones: rows().iter().map(|row| (row.key.clone(), row.rank())).collect() });
    ops
}

fn answers() -> Vec<Answer> {
    let (key, version) = (Bytes::from_static(b"key"), Version::new(5, ReplicaId(2)));
    let value = Bytes::from_static(b"value");
    let row = Row { key: key.clone(), value, version, created: version, changes: 3, deadline: Some(8) };
    let next = Some(Bytes::from_static(b"next"));
    let results = [Ok(Some(row.clone())), Ok(None), Err(Error::InDoubt("why".into()))];
    let history = vec![Revision { version, value: None }, Revision { version, value: next.clone() }];
    let mut answers = vec![
        Answer::Row(Some(row.clone())),
        Answer::Many(results.map(|result| KeyAnswer { key: key.clone(), result }).to_vec()),
        Answer::Page(Page { rows: vec![row.clone(), row.clone()], next: next.clone(), count: 2 }),
        Answer::History { revisions: history, next: Some(version) },
        Answer::Put { previous: Some(row.clone()) },
        Answer::Deleted { count: 1, previous: None, next: next.clone() },
        Answer::Trimmed { count: 4, next: None },
        Answer::Expire(true),
        Answer::Length(9),
        Answer::Popped(None),
        Answer::Number(i64::MIN),
        Answer::Condition { met: false, current: Some(row) },
    ];
    answers.push(Answer::Transaction { succeeded: true, answers: answers.clone() });
    answers.push(Answer::Trimmed { count: 10_000, next });
    answers.push(Answer::History { revisions: Vec::new(), next: None });
    answers
}

/// An error of every kind.
pub fn errors() -> Vec<Error> {
    let version = Version::new(5, ReplicaId(2));
    vec![
        Error::Invalid("why".into()),
        Error::Conflict("why".into()),
        Error::NoKeyspace("other".into()),
        Error::OverQuota("full".into()),
        Error::Unavailable(String::new()),
        Error::InDoubt("why".into()),
        Error::TooLarge { what: "the value".into(), size: 9, limit: 8 },
        Error::Trimmed { asked: Version::ZERO, oldest: version },
        Error::Future { asked: version, newest: Version::ZERO },
        Error::WrongNode { try_next: Some("127.0.0.1:7401".into()) },
    ]
}
