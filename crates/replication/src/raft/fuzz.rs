//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.
//!
//! What a peer may make of a replica with messages that decode is tried by this crate's own random tests.

use bytes::{Bytes, BytesMut};
use kv::codec::{Reader, put_bytes, put_list, put_uint};
use kv::fuzz::round_trip;
use kv::{Epoch, Index, NodeId, Position, Protocol, ReplicaId, Term};

use super::loss::Hello;
use super::message::{Kind, Message};
use super::{Config, Raft};
use crate::entries::{LogEntry, MEMBERS, SEAL};
use crate::record::{Header, Record, State};
use crate::two_phase::TwoPhase;
use crate::{Duty, Input, Instant, Recovery, Replicate, Revision, View, broadcast, primary, quorum, single};

const HEAD: Header = Header { protocol: Protocol::Raft, epoch: Epoch(1) };

/// A message of a raft group.
pub fn message(bytes: &[u8]) {
    if let Some(message) = round_trip(bytes, Message::decode, Message::encode) {
        let _ = (message.is_sound(HEAD.epoch, Index(9)), message.is_of_leader(), message.to_string());
    }
}

/// What a replica of a raft group says first.
pub fn hello(bytes: &[u8]) {
    round_trip(bytes, Hello::decode, |hello| hello.encode());
}

/// A record of a shard's log.
pub fn record(bytes: &[u8]) {
    let encode = |(head, record): &(Header, Record)| record.encode(*head);
    if let Some((_, record)) = round_trip(bytes, Record::decode, encode) {
        let _ = record.to_string();
    }
}

/// A list of records, as the log gives them back at a start: a replica of their protocol begins from them, or the log is
/// refused; and from the records of its own checkpoint it begins again.
pub fn recovery(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let Ok(records) = reader.list(Reader::bytes) else { return };
    let Some(recovery) = replay(&records) else { return };
    let (protocol, epoch) = recovery.written_by().unwrap_or((HEAD.protocol, HEAD.epoch));
    let begin = |recovery| begin(protocol, epoch, recovery).map(|replica| replica.checkpoint());
    if let Some(kept) = begin(recovery) {
        let again = replay(&kept).expect("a checkpoint is read back");
        assert_eq!(begin(again), Some(kept), "begun again from its checkpoint");
    }
}

fn begin(protocol: Protocol, epoch: Epoch, recovery: Recovery) -> Option<Box<dyn Replicate>> {
    match protocol {
        Protocol::Single => {
            let view = View::of(epoch, &[NodeId(1)]);
            let single = single::Single::new(NodeId(1), view, recovery, Position::ZERO).ok()?;
            Some(Box::new(single))
        }
        Protocol::TwoPhase => {
            let mut view = members(epoch);
            view.members[0].duty = Duty::Primary;
            // Not called: a master that is begins a life each time.
            Some(Box::new(TwoPhase::new(NodeId(1), view, recovery, Position::ZERO).ok()?))
        }
        Protocol::Raft => {
            let mut raft =
                Raft::new(Config::new(NodeId(1), members(epoch), 1), recovery, Position::ZERO).ok()?;
            raft.step(Input::Tick { now: Instant(1), clock: kv::Version::ZERO }, &mut Vec::new());
            Some(Box::new(raft))
        }
        Protocol::Broadcast => {
            let config = broadcast::Config { id: NodeId(1), view: members(epoch), seed: 1 };
            Some(Box::new(broadcast::Broadcast::new(config, recovery, Position::ZERO).ok()?))
        }
        Protocol::Quorum => {
            let votes = kv::keyspace::Votes::majority(3);
            let config = quorum::Config { id: NodeId(1), view: members(epoch), votes, seed: 1 };
            Some(Box::new(quorum::Quorum::new(config, recovery, Position::ZERO).ok()?))
        }
        Protocol::Primary => {
            let config = primary::Config::new(NodeId(1), members(epoch), 1);
            let mut primary = primary::Primary::new(config, recovery, Position::ZERO).ok()?;
            primary.step(Input::Tick { now: Instant(1), clock: kv::Version::ZERO }, &mut Vec::new());
            Some(Box::new(primary))
        }
    }
}

fn members(epoch: Epoch) -> View {
    View::of(epoch, &[1, 2, 3].map(NodeId))
}

fn replay(records: &[Bytes]) -> Option<Recovery> {
    let mut recovery = Recovery::default();
    records.iter().try_for_each(|record| recovery.replay(record)).ok().map(|()| recovery)
}

/// Messages of every kind.
pub fn message_samples() -> Vec<Bytes> {
    let kinds = [
        Kind::Append,
        Kind::AppendResponse,
        Kind::Vote,
        Kind::Heartbeat,
        Kind::ReadIndex,
        Kind::ReadIndexResponse,
        Kind::PreVoteResponse,
        Kind::Snapshot,
        Kind::Acknowledged,
        Kind::Sleep,
    ];
    let message = |kind| Message {
        kind,
        from: ReplicaId(2),
        to: ReplicaId(1),
        term: Term(if kind == Kind::ReadIndex { 0 } else { 5 }),
        at: Position::new(300, 4),
        commit: Position::new(299, 4),
        reject: kind == Kind::AppendResponse,
        hint: Index(7),
        forced: kind == Kind::Vote,
        round: Bytes::from_static(if kind == Kind::ReadIndex { b"round" } else { b"" }),
        view: (kind == Kind::Snapshot).then(|| members(Epoch(1))),
        seal: (kind == Kind::Snapshot).then_some(Epoch(2)),
        entries: if kind == Kind::Append { vec![entry(301, 4), change(302, 5)] } else { Vec::new() },
    };
    kinds.map(|kind| message(kind).encode()).to_vec()
}

/// Hellos.
pub fn hello_samples() -> Vec<Bytes> {
    let hello = |last| Hello { replica: ReplicaId(2), last: Index(last) };
    [300, 0].map(|last| hello(last).encode()).to_vec()
}

/// Records of every kind.
pub fn record_samples() -> Vec<Bytes> {
    let at = Position::new(300, 4);
    let state = State { term: Term(4), vote: ReplicaId(2), commit: Index(299) };
    let view = || members(HEAD.epoch);
    [
        Record::Entry(entry(301, 4)),
        Record::State(state),
        Record::Base(at, view()),
        Record::Snapshot(at, view()),
        Record::View(view()),
        Record::Replica(ReplicaId(2)),
        Record::Entry(change(302, 5)),
        Record::Entry(seal(303, 5)),
        Record::Sealed(at, Epoch(2)),
    ]
    .map(|record| record.encode(HEAD))
    .to_vec()
}

/// Lists of records: of a young log, of one with a checkpoint, of one with a snapshot.
pub fn recovery_samples() -> Vec<Bytes> {
    let entries =
        |indexes: std::ops::Range<u64>, term| indexes.map(move |index| Record::Entry(entry(index, term)));
    let state =
        |term, commit| Record::State(State { term: Term(term), vote: ReplicaId(1), commit: Index(commit) });
    let base = |index, term| Record::Base(Position::new(index, term), members(HEAD.epoch));
    let snapshot = |index, term| Record::Snapshot(Position::new(index, term), members(HEAD.epoch));
    let young =
        [state(1, 0)].into_iter().chain(entries(1..4, 1)).chain([state(2, 2)]).chain(entries(3..5, 2));
    let kept = entries(1..4, 1).chain([base(2, 1), state(1, 2)]).chain(entries(3..4, 1));
    let installed = entries(1..3, 1).chain([snapshot(9, 2), state(2, 9)]).chain(entries(10..12, 2));
    let changed = [Record::View(members(HEAD.epoch)), Record::Replica(ReplicaId(1))].into_iter();
    let changed = changed.chain(entries(1..3, 1)).chain([Record::Entry(change(3, 1)), state(1, 3)]);
    let sealed = entries(1..3, 1).chain([Record::Entry(seal(3, 1)), state(1, 3)]);
    let sealed = sealed.chain([Record::Sealed(Position::new(3, 1), Epoch(2))]);
    [young.collect::<Vec<_>>(), kept.collect(), installed.collect(), changed.collect(), sealed.collect()]
        .iter()
        .map(|records| list(records))
        .collect()
}

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry {
        index: Index(index),
        term: Term(term),
        kind: 0,
        data: kv::Entry::encode(kv::Version::ZERO, &[]),
    }
}

/// One that changes members: node 3 learns.
fn change(index: u64, term: u64) -> LogEntry {
    let mut view = View { revision: Revision(index), ..members(HEAD.epoch) };
    view.members[2].duty = Duty::Learner;
    let mut data = BytesMut::new();
    view.encode(&mut data);
    LogEntry { kind: MEMBERS, data: data.freeze(), ..entry(index, term) }
}

/// One that ends the epoch.
fn seal(index: u64, term: u64) -> LogEntry {
    let mut data = BytesMut::new();
    put_uint(&mut data, 2);
    LogEntry { kind: SEAL, data: data.freeze(), ..entry(index, term) }
}

fn list(records: &[Record]) -> Bytes {
    let mut into = BytesMut::new();
    put_list(&mut into, records, |into, record| put_bytes(into, &record.encode(HEAD)));
    into.freeze()
}
