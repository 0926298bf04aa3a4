//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kv::admin::{Answer, Ask};
use kv::cluster::Role;
use kv::codec::{Reader, put_bytes, put_list};
use kv::fuzz::round_trip;
use kv::watch::{Change, Filter, What};
use kv::{Epoch, Error, Level, NodeId, Op, Position, Protocol, ReplicaId, ShardId, Stamped, Version};
use placement::map::Map;
use placement::{Founder, Founding};
use replication::{Instant, Revision, View};
use storage::{History, Options, Table};

use crate::bus::{Joining, PIECE_HEAD_BYTES, Received, Sender, pieces};
pub use crate::identity::fuzz::{hello, hello_samples, welcome, welcome_samples};
pub use crate::identity::lives_fuzz::{lives, lives_samples};
use crate::record::{self, Gone, KIND_MAP, KIND_PROTOCOL, Made, STREAM_NODE};
use crate::watch::{Given, Lately, Pull, Pulled};
use crate::wire::{Announced, Announcement, Copied, Frame, Greeting, Newcomers};
use crate::{Config, Driver, Executor, Input, Now, Ran, Recovery, Work};

const SHARD: ShardId = ShardId(1);
/// Microseconds between two frames: enough that every clock of the driver rings now and then.
const STEP_MICROS: u64 = 300_000;
/// Frames of one input that are taken.
const FRAMES_MAX: usize = 64;

/// A frame of another node.
pub fn frame(bytes: &[u8]) {
    let shard = Frame::shard_of(&Bytes::copy_from_slice(bytes));
    match round_trip(bytes, Frame::decode, Frame::encode) {
        Some(
            Frame::Protocol { shard: found, .. }
            | Frame::Forward { shard: found, .. }
            | Frame::Answer { shard: found, .. }
            | Frame::View { shard: found, .. }
            | Frame::WantView { shard: found }
            | Frame::Pull { pull: Pull { shard: found, .. }, .. }
            | Frame::Pulled { shard: found, .. }
            | Frame::WantCopy { shard: found, .. }
            | Frame::WantTail { shard: found, .. }
            | Frame::Tail { shard: found, .. },
        ) => assert_eq!(shard, Some(found), "frames are dealt by their shard"),
        Some(Frame::Ask { .. } | Frame::Told { .. }) => assert_eq!(shard, Some(ShardId::DIRECTORY)),
        Some(_) => assert_eq!(shard, None, "it is for the whole node"),
        None => {}
    }
}

/// A piece of a message, as it comes over a bus: alone, and between the sound pieces of two messages.
pub fn piece(bytes: &[u8]) {
    let piece = Bytes::copy_from_slice(bytes);
    let mut joining = Joining::new(NodeId(9));
    let first = joining.take(Instant(1), piece.clone());
    for sound in piece_samples() {
        joining.take(Instant(2), sound).expect("what a node cuts is sound");
    }
    match (first, joining.take(Instant(3), piece)) {
        (Ok(Received::Whole(_, message)), Ok(Received::Whole(_, again))) => assert_eq!(message, again),
        (first, again) => {
            assert_eq!(first.is_ok(), again.is_ok(), "whether it is sound follows from it alone")
        }
    }
}

/// A message in one piece, one in several, and one without a byte.
pub fn piece_samples() -> Vec<Bytes> {
    let sender = Sender { node: NodeId(1), life: 5 };
    let cut = |number, message: &'static [u8]| {
        pieces(sender, number, &Bytes::from_static(message), PIECE_HEAD_BYTES + 4)
    };
    [cut(1, b"one"), cut(2, b"two pieces"), cut(3, b"")].concat()
}

/// A list of log records (kind, then body): a node of one and a node of three begin from them, or refuse.
pub fn recovery(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let Ok(records) = reader.list(Reader::bytes) else { return };
    for nodes in [1, 3] {
        let mut recovery = Recovery::default();
        let mut bodies = records.iter().filter(|record| !record.is_empty());
        let replayed = bodies.try_for_each(|record| {
            let (kind, body) = (record[0], record.slice(1..));
            let stream = if kind == KIND_MAP { STREAM_NODE } else { SHARD.0 };
            recovery.replay(&wal::Record { stream, kind, body })
        });
        if replayed.is_ok() {
            let _ = begin(nodes, recovery);
        }
    }
}

/// A list of frames from another node, one after the other to a node that serves alone and to one of three, with time going
/// on between them. Messages of protocols are left out: `replication` has its own trials for them.
pub fn frames(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let Ok(frames) = reader.list(Reader::bytes) else { return };
    for nodes in [1, 3] {
        let mut node = Node::new(nodes);
        node.turn(vec![Input::PeerUp { node: NodeId(2) }]);
        for bytes in frames.iter().take(FRAMES_MAX) {
            if !matches!(Frame::decode(bytes), Ok(Frame::Protocol { .. })) {
                node.turn(vec![Input::Frame { from: NodeId(2), bytes: bytes.clone() }]);
            }
        }
        node.turn(vec![Input::Checkpoint]);
    }
}

/// Frames of every kind.
pub fn frame_samples() -> Vec<Bytes> {
    samples().iter().chain(&pulls()).map(Frame::encode).collect()
}

/// Lists of records.
pub fn recovery_samples() -> Vec<Bytes> {
    let protocol = |records: Bytes| {
        let records = Reader::new(records).list(Reader::bytes).expect("a sample is a list");
        records.into_iter().map(|body| [&[KIND_PROTOCOL], &body[..]].concat().into()).collect::<Vec<Bytes>>()
    };
    let own = |record: wal::Record| Bytes::from([&[record.kind], &record.body[..]].concat());
    let made = own(record::made(SHARD, &Made { number: ReplicaId(1), revision: 1, generation: 3 }));
    let gone = own(record::gone(SHARD, &Gone { revision: 2, since: 0, generation: 3 }));
    let version = |micros| Version::new(micros, ReplicaId(1));
    let piece = |from: u64| Lately {
        floor: version(from),
        through: version(from + 2),
        changes: vec![Change { key: "k".into(), version: version(from + 1), what: What::Deleted }],
    };
    let lately = [0, 2, 9].map(|from| own(record::lately(SHARD, &piece(from)))).to_vec();
    let lists = replication::raft::fuzz::recovery_samples().into_iter().map(protocol);
    lists
        .chain([vec![made.clone(), gone, made], vec![own(record::map(&founding(3)))], lately])
        .map(|records| list(&records))
        .collect()
}

/// Lists of frames.
pub fn frames_samples() -> Vec<Bytes> {
    let all = frame_samples();
    let forward = |op: Bytes| {
        Frame::Forward { token: 9, shard: SHARD, level: Level::Local, millis: 50, again: false, op }.encode()
    };
    let forwards: Vec<Bytes> = kv::fuzz::stamped_samples().into_iter().map(forward).collect();
    vec![list(&all), list(&forwards), list(&[forwards.clone(), all].concat())]
}

fn samples() -> Vec<Frame> {
    let announced = |role, leader| Announced {
        shard: SHARD,
        epoch: Epoch(1),
        revision: Revision(2),
        members: 1 << 60,
        newcomers: Newcomers::Ready,
        role,
        leader,
        term: 9,
        applied: 1 << 40,
        lease_reads: 1 << 30,
        usage: Default::default(),
        copied: leader.map(|to| (to, Copied { done: 3, total: 300 })).into_iter().collect(),
        heirs: leader.into_iter().collect(),
    };
    let announcement = Announcement {
        clock: 1_700_000_000_000_000,
        clock_settled: true,
        pid: 77,
        address: "127.0.0.1:7401".into(),
        peer: "127.0.0.1:7421".into(),
        zone: "z".into(),
        incarnation: 7,
        disk_full: true,
        stopping: true,
        map: 1,
        kept: 1,
        replicas: vec![announced(Role::Leader, Some(NodeId(2))), announced(Role::Unknown, None)],
    };
    let op = Stamped { id: None, op: Op::Delete { key: "k".into(), previous: true } }.encode();
    let answer = Reader::new(kv::fuzz::reply_samples().remove(0));
    let reply = decode_reply(answer);
    let greeting = |epoch, hello| Greeting { shard: SHARD, epoch, hello };
    let hello = replication::raft::fuzz::hello_samples().remove(0);
    let at = Position::new(1, 1);
    let entries =
        Some(vec![(at, kv::Entry::encode(Version::ZERO, std::slice::from_ref(&op))), (at, Bytes::new())]);
    vec![
        Frame::Protocol {
            shard: SHARD,
            epoch: Epoch(1),
            revision: Revision(1),
            body: Bytes::from_static(b"body"),
        },
        Frame::Protocol { shard: SHARD, epoch: Epoch(2), revision: Revision(1), body: Bytes::new() },
        Frame::Forward { token: 5, shard: SHARD, level: Level::Bounded(20), millis: 5000, again: false, op },
        Frame::Answer { token: 5, shard: SHARD, result: Err(Error::WrongNode { try_next: None }) },
        Frame::Answer { token: 6, shard: SHARD, result: reply },
        Frame::Greet {
            greetings: vec![greeting(Epoch(1), hello), greeting(Epoch(0), Bytes::new())],
            wants: true,
        },
        Frame::View { shard: SHARD, view: View::of(Epoch(1), &[NodeId(1), NodeId(2)]) },
        Frame::WantView { shard: SHARD },
        Frame::Announce(announcement),
        Frame::WantCopy { shard: SHARD, epoch: Epoch(1) },
        Frame::WantTail { shard: SHARD, epoch: Epoch(1), above: Position::ZERO },
        Frame::Tail { shard: SHARD, epoch: Epoch(1), above: at, entries: None, sealed: None },
        Frame::Tail { shard: SHARD, epoch: Epoch(1), above: at, entries, sealed: Some(at) },
        Frame::WantMap,
        Frame::Ask { token: 6, ask: Ask::Abort { shard: SHARD } },
        Frame::Told { token: 6, result: Ok(Answer::Done) },
        Frame::Map(Arc::new(founding(3))),
    ]
}

fn pulls() -> [Frame; 4] {
    let (shard, version) = (SHARD, Version::end_of(7));
    let change = |what| Change { key: "k".into(), version, what };
    let changes =
        [What::Put { value: "v".into(), deadline: Some(9) }, What::Deleted, What::Expired].map(change);
    let given = Given { changes: changes.into(), through: version };
    let filter = Filter::Prefix("k".into());
    let pull = |after| Pull { shard, filter: filter.clone(), after, wait_micros: 1 };
    [
        Frame::Pull { token: 7, pull: pull(None) },
        Frame::Pull { token: 8, pull: pull(Some(Version::ZERO)) },
        Frame::Pulled { token: 1, shard, answer: Some(Pulled::Given(given)) },
        Frame::Pulled { token: 1, shard, answer: Some(Pulled::Trimmed { oldest: version, is_sure: false }) },
    ]
}

fn decode_reply(mut reader: Reader) -> Result<kv::Reply, Error> {
    kv::codec::decode_result(&mut reader, kv::codec::decode_reply).expect("a sample decodes")
}

fn list(items: &[Bytes]) -> Bytes {
    let mut into = BytesMut::new();
    put_list(&mut into, items, |into, item| put_bytes(into, item));
    into.freeze()
}

/// A driver whose work is carried out at once, and whose messages go nowhere.
struct Node {
    driver: Driver,
    executor: Executor,
    instant: u64,
}

impl Node {
    fn new(nodes: u64) -> Node {
        let driver = begin(nodes, Recovery::default()).expect("a node without a past begins");
        Node { driver, executor: Executor::new(table()), instant: 1 }
    }

    fn turn(&mut self, inputs: Vec<Input>) {
        self.instant += STEP_MICROS;
        let mut inputs = inputs;
        let mut todo = VecDeque::new();
        loop {
            let mut work = Vec::new();
            self.driver.turn(now(self.instant), &mut inputs, &mut work);
            todo.extend(work);
            while let Some(work) = todo.pop_front() {
                inputs.extend(self.carry_out(work));
            }
            if inputs.is_empty() {
                return;
            }
        }
    }

    fn carry_out(&mut self, work: Work) -> Option<Input> {
        match work {
            Work::Append { ticket, .. } => Some(Input::Durable { ticket }),
            Work::Send { frame, .. } | Work::Publish(_, frame) => {
                Frame::decode(&frame).expect("what a node sends decodes");
                None
            }
            // There is no disk to flush to: it counts as full.
            Work::Run(crate::Job::Flush { token }) => {
                Some(Input::Done(crate::Done::Flushed { token, result: Err("full".into()) }))
            }
            Work::Run(job) => match self.executor.run(job).expect("an engine in memory does not fail") {
                Ran::Done(done) => Some(Input::Done(done)),
                Ran::Later(_) => unreachable!("only a flush is done later"),
            },
            _ => None,
        }
    }
}

fn founding(nodes: u64) -> Map {
    let founder = |id| Founder { name: format!("n{id}"), peer: String::new() };
    let protocol = if nodes == 1 { Protocol::Single } else { Protocol::Raft };
    let nodes = (1..=nodes).map(founder).collect();
    Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas: 3, protocol })
}

fn begin(nodes: u64, mut recovery: Recovery) -> Result<Driver, crate::RecoveryError> {
    let map = recovery.map(founding(nodes));
    let address = "127.0.0.1:7401".into();
    let config = Config { entry_cache_bytes: 1 << 20, address, ..Config::new(NodeId(1), map) };
    let applied = BTreeMap::from([(SHARD, storage::Applied { last: Version::ZERO, ..Default::default() })]);
    let mut drivers = Driver::all(config, recovery, &applied, now(1))?;
    Ok(drivers.pop().expect("a node has a driver"))
}

fn table() -> Table {
    let mut table = Table::open(storage::fuzz::engine(), Options::of(History::Count(3)));
    for shard in [ShardId::DIRECTORY, SHARD] {
        table.load(shard, 0).expect("an empty copy loads");
    }
    table
}

fn now(instant: u64) -> Now {
    Now { instant: Instant(instant), wall: 1_700_000_000_000_000 + instant }
}
