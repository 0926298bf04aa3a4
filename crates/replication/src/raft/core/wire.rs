//! Messages and entries, from plain data to the raft crate's types and back.

use ::raft::CAMPAIGN_TRANSFER;
use ::raft::eraftpb::{ConfState, Entry, EntryType, Message as Wire, MessageType, Snapshot};
use bytes::Bytes;
use kv::{Index, Position, ReplicaId, Term};

use super::super::message::{Kind, Message};
use crate::entries::{LogEntry, MEMBERS, OPS, SEAL};
use crate::{Duty, View};

const KINDS: [(Kind, MessageType); 12] = [
    (Kind::Append, MessageType::MsgAppend),
    (Kind::AppendResponse, MessageType::MsgAppendResponse),
    (Kind::Vote, MessageType::MsgRequestVote),
    (Kind::VoteResponse, MessageType::MsgRequestVoteResponse),
    (Kind::Heartbeat, MessageType::MsgHeartbeat),
    (Kind::HeartbeatResponse, MessageType::MsgHeartbeatResponse),
    (Kind::TimeoutNow, MessageType::MsgTimeoutNow),
    (Kind::ReadIndex, MessageType::MsgReadIndex),
    (Kind::ReadIndexResponse, MessageType::MsgReadIndexResp),
    (Kind::PreVote, MessageType::MsgRequestPreVote),
    (Kind::PreVoteResponse, MessageType::MsgRequestPreVoteResponse),
    (Kind::Snapshot, MessageType::MsgSnapshot),
];

/// For the crate, at a replica with a log up to `last`. Not of the kinds that are no business of the crate's.
pub(super) fn from_plain(message: Message, last: Index) -> Wire {
    let Message { kind, from, to, term, at, commit, reject, hint, forced, round, view, entries, .. } =
        message;
    let (_, msg_type) = KINDS
        .into_iter()
        .find(|(other, _)| *other == kind)
        .expect("all kinds of the crate's are in the table");
    let mut wire = Wire { msg_type, from: id(from), to: id(to), term: term.0, ..Wire::default() };
    (wire.index, wire.log_term) = (at.index.0, at.term.0);
    (wire.commit, wire.commit_term, wire.reject, wire.reject_hint) =
        (commit.index.0, commit.term.0, reject, hint.0);
    wire.set_entries(entries.into_iter().map(entry).collect::<Vec<_>>().into());
    match kind {
        Kind::Vote | Kind::PreVote if forced => wire.context = Bytes::from_static(CAMPAIGN_TRANSFER),
        Kind::ReadIndex | Kind::ReadIndexResponse => {
            wire.set_entries(vec![Entry { data: round, ..Entry::default() }].into());
        }
        Kind::Heartbeat | Kind::HeartbeatResponse => wire.context = round,
        Kind::Snapshot => {
            let mut snapshot = snapshot(at);
            snapshot.mut_metadata().set_conf_state(members(&view.expect("a sound snapshot has members")));
            wire.set_snapshot(snapshot);
        }
        _ => (),
    }
    // The leader counts on entries that were here and are lost: they come again, and their commit with them.
    if kind == Kind::Heartbeat && wire.commit > last.0 {
        wire.commit = 0;
    }
    wire
}

/// From the crate, without those that are no business of other nodes.
pub(super) fn plain_messages(messages: Vec<Wire>) -> Vec<Message> {
    let count = messages.len();
    anew(count, messages.into_iter().filter_map(plain))
}

/// From the crate.
pub(super) fn plain_entries(entries: Vec<Entry>) -> Vec<LogEntry> {
    let count = entries.len();
    anew(count, entries.into_iter().map(plain_entry))
}

/// In a vector of their own, of at most so many. To collect them would keep the one they came in, cut to their size: a reallocation
/// each time.
fn anew<T>(count: usize, all: impl Iterator<Item = T>) -> Vec<T> {
    let mut into = Vec::with_capacity(count);
    into.extend(all);
    into
}

fn plain(mut wire: Wire) -> Option<Message> {
    let (kind, _) = KINDS.into_iter().find(|(_, msg_type)| *msg_type == wire.msg_type)?;
    let mut entries: Vec<Entry> = wire.take_entries().into_vec();
    let mut at = Position::new(wire.index, wire.log_term);
    let mut round = Bytes::new();
    match kind {
        Kind::ReadIndex => round = entries.pop()?.data,
        // Who asked knows it by its name, without the leader's number of the issue.
        Kind::ReadIndexResponse => {
            round = entries.pop()?.data;
            round.truncate(round.len().saturating_sub(size_of::<u64>()));
        }
        Kind::Heartbeat | Kind::HeartbeatResponse => round = wire.take_context(),
        Kind::Snapshot => at = position(wire.get_snapshot()),
        _ => (),
    }
    Some(Message {
        kind,
        from: replica(wire.from),
        to: replica(wire.to),
        term: Term(wire.term),
        at,
        commit: Position::new(wire.commit, wire.commit_term),
        reject: wire.reject,
        hint: Index(wire.reject_hint),
        forced: &wire.context[..] == CAMPAIGN_TRANSFER,
        round,
        view: None,
        seal: None,
        entries: plain_entries(entries),
    })
}

/// For the crate: it knows a change of members by its type, and never looks into one that it has not been asked to propose. Nor
/// into one of the older of its two types: as such goes what ends the epoch.
pub(super) fn entry(entry: LogEntry) -> Entry {
    let LogEntry { index, term, kind, data } = entry;
    let entry_type = match kind {
        MEMBERS => EntryType::EntryConfChangeV2,
        SEAL => EntryType::EntryConfChange,
        _ => EntryType::EntryNormal,
    };
    Entry { index: index.0, term: term.0, entry_type, data, ..Entry::default() }
}

/// From the crate.
pub(super) fn plain_entry(entry: Entry) -> LogEntry {
    let (index, term) = (Index(entry.index), Term(entry.term));
    let kind = match entry.entry_type {
        EntryType::EntryConfChangeV2 => MEMBERS,
        EntryType::EntryConfChange => SEAL,
        EntryType::EntryNormal => OPS,
    };
    LogEntry { index, term, kind, data: entry.data }
}

/// A replica as the crate names it.
pub(super) fn id(replica: ReplicaId) -> u64 {
    u64::from(replica.0)
}

/// A replica that the crate names; 0 = none.
pub(super) fn replica(id: u64) -> ReplicaId {
    ReplicaId(u16::try_from(id).expect("the crate knows the numbers of replicas only"))
}

/// For the crate.
pub(super) fn snapshot(at: Position) -> Snapshot {
    let mut snapshot = Snapshot::default();
    (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (at.index.0, at.term.0);
    snapshot
}

/// The members as the crate wants them.
pub(super) fn members(view: &View) -> ConfState {
    let of = |which: fn(Duty) -> bool| ids(view, which).collect();
    let voters_outgoing = if view.is_joint() { of(Duty::did_count) } else { Vec::new() };
    let (voters, learners) = (of(Duty::will_count), of(|duty| duty == Duty::Learner));
    ConfState { voters, voters_outgoing, learners, ..ConfState::default() }
}

/// The members of some duties, as the crate names them.
pub(super) fn ids(view: &View, which: fn(Duty) -> bool) -> impl Iterator<Item = u64> + '_ {
    view.members.iter().filter(move |member| which(member.duty)).map(|member| id(member.replica))
}

/// Where a snapshot stands.
pub(super) fn position(snapshot: &Snapshot) -> Position {
    let metadata = snapshot.get_metadata();
    Position::new(metadata.index, metadata.term)
}
