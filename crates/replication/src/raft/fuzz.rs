//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.
//!
//! What a peer may make of a replica with messages that decode is tried by this crate's own random tests.

use bytes::{Bytes, BytesMut};
use kv::NodeId;
use kv::codec::{Reader, put_bytes, put_list};
use kv::fuzz::round_trip;

use super::message::{Kind, Message};
use super::{Config, Raft, Recovery};
use crate::entries::{LogEntry, Position};
use crate::record::{Record, State};
use crate::{Input, Instant, Protocol, single};

/// A message of a raft group.
pub fn message(bytes: &[u8]) {
    if let Some(message) = round_trip(bytes, Message::decode, Message::encode) {
        let _ = (message.is_sound(9), message.is_of_leader(), message.to_string());
    }
}

/// A record of a shard's log.
pub fn record(bytes: &[u8]) {
    if let Some(record) = round_trip(bytes, Record::decode, Record::encode) {
        let _ = record.to_string();
    }
}

/// A list of records, as the log gives them back at a start: a replica of each protocol begins from them, or the log is
/// refused; and from the records of its own checkpoint it begins again.
pub fn recovery(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let Ok(records) = reader.list(Reader::bytes) else { return };
    let Some(recovery) = replay(&records) else { return };
    let raft = |recovery| {
        let members = [1, 2, 3].map(NodeId).to_vec();
        let mut raft = Raft::new(Config::new(NodeId(1), members, 1), recovery, (0, 0));
        raft.step(Input::Tick { now: Instant(1), clock: kv::Version::ZERO }, &mut Vec::new());
        raft.checkpoint()
    };
    let kept = raft(recovery.clone());
    assert_eq!(
        raft(replay(&kept).expect("a checkpoint is read back")),
        kept,
        "begun again from its checkpoint"
    );
    if let Ok(single) = single::Single::new(NodeId(1), recovery, (0, 0)) {
        replay(&single.checkpoint()).expect("a checkpoint is read back");
    }
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
    ];
    let at = |index, term| Position { index, term };
    let message = |kind| Message {
        kind,
        from: 2,
        to: 1,
        term: if kind == Kind::ReadIndex { 0 } else { 5 },
        at: at(300, 4),
        commit: at(299, 4),
        reject: kind == Kind::AppendResponse,
        hint: 7,
        forced: kind == Kind::Vote,
        round: Bytes::from_static(if kind == Kind::ReadIndex { b"round" } else { b"" }),
        entries: if kind == Kind::Append { vec![entry(301, 4), entry(302, 5)] } else { Vec::new() },
    };
    kinds.map(|kind| message(kind).encode()).to_vec()
}

/// Records of every kind.
pub fn record_samples() -> Vec<Bytes> {
    let at = Position { index: 300, term: 4 };
    let state = State { term: 4, vote: 2, commit: 299 };
    [Record::Entry(entry(301, 4)), Record::State(state), Record::Base(at), Record::Snapshot(at)]
        .map(|record| record.encode())
        .to_vec()
}

/// Lists of records: of a young log, of one with a checkpoint, of one with a snapshot.
pub fn recovery_samples() -> Vec<Bytes> {
    let entries =
        |indexes: std::ops::Range<u64>, term| indexes.map(move |index| Record::Entry(entry(index, term)));
    let state = |term, commit| Record::State(State { term, vote: 1, commit });
    let base = |index, term| Position { index, term };
    let young =
        [state(1, 0)].into_iter().chain(entries(1..4, 1)).chain([state(2, 2)]).chain(entries(3..5, 2));
    let kept = entries(1..4, 1).chain([Record::Base(base(2, 1)), state(1, 2)]).chain(entries(3..4, 1));
    let installed =
        entries(1..3, 1).chain([Record::Snapshot(base(9, 2)), state(2, 9)]).chain(entries(10..12, 2));
    [young.collect::<Vec<_>>(), kept.collect(), installed.collect()]
        .iter()
        .map(|records| list(records))
        .collect()
}

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry { index, term, kind: 0, data: kv::Entry::encode(kv::Version::ZERO, &[]) }
}

fn list(records: &[Record]) -> Bytes {
    let mut into = BytesMut::new();
    put_list(&mut into, records, |into, record| put_bytes(into, &record.encode()));
    into.freeze()
}
