//! What the replicas of a raft group say to each other: plain data, its bytes, and what of it is believed.
//!
//! The raft crate trusts its peers and panics on what no correct peer says. So everything from the network passes
//! [`Message::decode`] and [`Message::is_sound`] first; a message that fails is dropped, as if it had been lost.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_bytes, put_option, put_uint, uint_bytes};
use kv::{Epoch, Index, Position, ReplicaId, Term};

use crate::View;
use crate::entries::{LogEntry, NUMBER_MAX};

/// A message of a raft group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) from: ReplicaId,
    pub(super) to: ReplicaId,
    /// The sender's term, or the one it wants to be elected for; 0 in [`Kind::ReadIndex`].
    pub(super) term: Term,
    /// The entry before the first, the last of a candidate's log, what is acknowledged, refused or read.
    pub(super) at: Position,
    pub(super) commit: Position,
    pub(super) reject: bool,
    /// Where to go on instead of `at`, when that is rejected.
    pub(super) hint: Index,
    /// The leader asked for this election: it goes past every guard.
    pub(super) forced: bool,
    /// Which round of reads.
    pub(super) round: Bytes,
    /// The members at a snapshot's place.
    pub(super) view: Option<View>,
    /// In which epoch the shard goes on, when a snapshot's place is the end of this one.
    pub(super) seal: Option<Epoch>,
    pub(super) entries: Vec<LogEntry>,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Entries, or none: what a leader has.
    Append = 1,
    /// What a follower has of them.
    AppendResponse = 2,
    /// Please elect me.
    Vote = 3,
    /// What becomes of that.
    VoteResponse = 4,
    /// I lead, and perhaps: do you still follow, for this round of reads?
    Heartbeat = 5,
    /// I follow.
    HeartbeatResponse = 6,
    /// Take over: campaign at once.
    TimeoutNow = 7,
    /// How far must I have applied for a fresh read?
    ReadIndex = 8,
    /// So far.
    ReadIndexResponse = 9,
    /// Would you elect me?
    PreVote = 10,
    /// What would become of that.
    PreVoteResponse = 11,
    /// `at` is the snapshot's, `view` who belonged to the group there.
    Snapshot = 12,
    /// To a node that lost entries: it may have acknowledged what is up to `at`.
    Acknowledged = 13,
    /// You have all that I have, up to `at`: sleep, as I do.
    Sleep = 14,
}

pub(super) const KINDS: [Kind; 14] = [
    Kind::Append,
    Kind::AppendResponse,
    Kind::Vote,
    Kind::VoteResponse,
    Kind::Heartbeat,
    Kind::HeartbeatResponse,
    Kind::TimeoutNow,
    Kind::ReadIndex,
    Kind::ReadIndexResponse,
    Kind::PreVote,
    Kind::PreVoteResponse,
    Kind::Snapshot,
    Kind::Acknowledged,
    Kind::Sleep,
];

const REJECT: u8 = 1;
const FORCED: u8 = 2;
const SEALED: u8 = 4;

impl Message {
    /// Its bytes.
    pub(super) fn encode(&self) -> Bytes {
        let Message { from, to, term, at, commit, hint, .. } = *self;
        let whose = [from, to].map(|replica| u64::from(replica.0));
        let [at, commit] = [at, commit].map(|at| [at.index.0, at.term.0]);
        let numbers = [whose[0], whose[1], term.0, at[0], at[1], commit[0], commit[1], hint.0];
        // As large as it will be, but for a snapshot's: each shard that writes sends several, and more room costs a second
        // allocation.
        let mut into =
            Vec::with_capacity(2 + numbers.map(uint_bytes).iter().sum::<usize>() + self.rest_bytes());
        into.put_u8(self.kind as u8);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let sealed = flag(self.seal.is_some(), SEALED);
        into.put_u8(flag(self.reject, REJECT) | flag(self.forced, FORCED) | sealed);
        numbers.into_iter().for_each(|number| put_uint(&mut into, number));
        put_bytes(&mut into, &self.round);
        let view = self.view.as_ref().map(|view| {
            let mut bytes = BytesMut::new();
            view.encode(&mut bytes);
            bytes
        });
        put_option(&mut into, view, |into, view| into.put_slice(&view));
        put_uint(&mut into, self.entries.len() as u64);
        for entry in &self.entries {
            put_uint(&mut into, entry.term.0);
            into.put_u8(entry.kind);
            put_bytes(&mut into, &entry.data);
        }
        self.seal.into_iter().for_each(|next| put_uint(&mut into, next.0));
        into.into()
    }

    /// The bytes of what is behind its numbers, when it has neither members nor an end.
    fn rest_bytes(&self) -> usize {
        let counted = |bytes: &Bytes| uint_bytes(bytes.len() as u64) + bytes.len();
        let entry = |entry: &LogEntry| uint_bytes(entry.term.0) + 1 + counted(&entry.data);
        let entries = uint_bytes(self.entries.len() as u64) + self.entries.iter().map(entry).sum::<usize>();
        counted(&self.round) + 1 + entries
    }

    /// From its bytes; the entries share them.
    pub(super) fn decode(body: &Bytes) -> Result<Message, Malformed> {
        let mut reader = Reader::new(body.clone());
        let tag = reader.u8()?;
        let kind = KINDS.into_iter().find(|&kind| kind as u8 == tag);
        let kind = kind.ok_or(Malformed("a message of a raft group has an unknown tag"))?;
        let flags = reader.u8()?;
        let (from, to) = (ReplicaId(reader.u16()?), ReplicaId(reader.u16()?));
        let mut numbers = [0; 6];
        for number in &mut numbers {
            *number = reader.uint()?;
        }
        let [term, index, index_term, commit, commit_term, hint] = numbers;
        let at = Position::new(index, index_term);
        let round = reader.bytes()?;
        let view = reader.option(View::decode)?;
        let mut next = index;
        let entries = reader.list(|reader| {
            next = next.wrapping_add(1);
            let (index, term) = (Index(next), Term(reader.uint()?));
            Ok(LogEntry { index, term, kind: reader.u8()?, data: reader.bytes()? })
        })?;
        let seal = if flags & SEALED != 0 { Some(Epoch(reader.uint()?)) } else { None };
        reader.end()?;
        let commit = Position::new(commit, commit_term);
        let (term, hint) = (Term(term), Index(hint));
        let (reject, forced) = (flags & REJECT != 0, flags & FORCED != 0);
        Ok(Message { kind, from, to, term, at, commit, reject, hint, forced, round, view, seal, entries })
    }

    /// Whether a correct peer may say this at all in an epoch. `last`: the last index of the log here.
    pub(super) fn is_sound(&self, epoch: Epoch, last: Index) -> bool {
        let (at, commit) = (self.at, self.commit);
        let numbers = [self.term.0, at.index.0, at.term.0, commit.index.0, commit.term.0, self.hint.0];
        numbers.iter().all(|&number| number <= NUMBER_MAX)
            && (self.term == Term::ZERO) == (self.kind == Kind::ReadIndex)
            && self.view.is_some() == (self.kind == Kind::Snapshot)
            && self.view.as_ref().is_none_or(|view| view.epoch == epoch)
            && self.seal.is_none_or(|next| self.kind == Kind::Snapshot && next > epoch)
            && self.from != self.to
            && [self.from, self.to].iter().all(|replica| (1..=ReplicaId::MAX.0).contains(&replica.0))
            && (self.entries.is_empty() || self.kind == Kind::Append)
            && match self.kind {
                Kind::Append => self.is_append_sound(epoch),
                // Nobody acknowledges or refuses what the leader does not have.
                Kind::AppendResponse => self.at.index <= last && (!self.reject || self.hint <= self.at.index),
                Kind::Snapshot => at.index > Index::ZERO && Term::ZERO < at.term && at.term <= self.term,
                _ => true,
            }
    }

    fn is_append_sound(&self, epoch: Epoch) -> bool {
        let mut before = self.at.term;
        let changes_members_soundly = |entry: &LogEntry| match entry.members() {
            Ok(view) => view.is_none_or(|view| view.epoch == epoch),
            Err(_) => false,
        };
        let ends_soundly =
            |entry: &LogEntry| entry.seal().is_ok_and(|next| next.is_none_or(|next| next > epoch));
        let rising = |entry: &LogEntry| {
            std::mem::replace(&mut before, entry.term) <= entry.term && entry.term > Term::ZERO
        };
        (self.at.index == Index::ZERO) == (self.at.term == Term::ZERO)
            && self.entries.iter().all(rising)
            && self.entries.iter().all(changes_members_soundly)
            && self.entries.iter().all(ends_soundly)
            && self.entries.last().map_or(self.at.term, |entry| entry.term) <= self.term
    }

    /// Only a leader says this.
    pub(super) fn is_of_leader(&self) -> bool {
        matches!(self.kind, Kind::Append | Kind::Heartbeat | Kind::Snapshot | Kind::Sleep)
    }
}

/// Whether these are the bytes of a message that answers another one.
pub(super) fn is_response(body: &[u8]) -> bool {
    use Kind::{AppendResponse, HeartbeatResponse, PreVoteResponse, ReadIndexResponse, VoteResponse};
    let responses = [AppendResponse, VoteResponse, HeartbeatResponse, ReadIndexResponse, PreVoteResponse];
    responses.iter().any(|&kind| body.first() == Some(&(kind as u8)))
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} term {}", self.kind, self.term)?;
        if self.at != Position::default() {
            write!(f, " at {}", self.at)?;
        }
        match &self.entries[..] {
            [] => (),
            [one] => write!(f, " {one}")?,
            [first, .., last] => write!(f, " entries {}..{}", first.at(), last.at())?,
        }
        if self.commit.index > Index::ZERO {
            write!(f, " commit {}", self.commit.index)?;
        }
        if self.reject {
            write!(f, " reject, hint {}", self.hint)?;
        }
        f.write_str(if self.forced { " forced" } else { "" })?;
        f.write_str(if self.round.is_empty() { "" } else { " round" })
    }
}

#[cfg(test)]
mod tests {
    use kv::NodeId;

    use super::*;
    use crate::Revision;
    use crate::entries::MEMBERS;
    use crate::random::Random;

    const EPOCH: Epoch = Epoch(1);

    fn message(kind: Kind) -> Message {
        Message {
            kind,
            from: ReplicaId(1),
            to: ReplicaId(2),
            term: Term(5),
            at: Position::new(7, 4),
            commit: Position::new(6, 3),
            reject: false,
            hint: Index::ZERO,
            forced: false,
            round: Bytes::new(),
            view: None,
            seal: None,
            entries: Vec::new(),
        }
    }

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index: Index(index), term: Term(term), kind: 0, data: Bytes::from_static(b"data") }
    }

    #[test]
    fn message_round_trips_and_entries_share_its_bytes() {
        for kind in KINDS {
            let entries = vec![entry(8, 4), entry(9, 5)];
            let round = Bytes::from_static(b"round");
            let message =
                Message { reject: true, hint: Index(3), forced: true, round, entries, ..message(kind) };
            let body = message.encode();
            let decoded = Message::decode(&body).unwrap();
            assert_eq!(decoded, message);
            assert!(body.as_ptr_range().contains(&decoded.entries[1].data.as_ptr()));
        }
    }

    #[test]
    fn message_that_answers_is_told_from_one_that_asks_by_its_bytes() {
        let responses: Vec<Kind> =
            KINDS.into_iter().filter(|kind| is_response(&message(*kind).encode())).collect();
        let names: Vec<String> = responses.iter().map(|kind| format!("{kind:?}")).collect();
        let expect =
            ["AppendResponse", "VoteResponse", "HeartbeatResponse", "ReadIndexResponse", "PreVoteResponse"];
        assert_eq!(names, expect);
        assert!(!is_response(b""));
    }

    #[test]
    fn message_any_bytes_are_refused_or_decoded_but_never_panic() {
        let mut random = Random::new(1);
        let body = Message { entries: vec![entry(8, 4)], ..message(Kind::Append) }.encode();
        for _ in 0..20_000 {
            let mut bytes = body.to_vec();
            for _ in 0..1 + random.below(3) {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] = random.next() as u8;
            }
            bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
            if let Ok(message) = Message::decode(&Bytes::from(bytes)) {
                message.is_sound(EPOCH, Index(9));
            }
        }
    }

    #[test]
    fn message_that_no_correct_peer_sends_is_unsound() {
        let sound = |message: Message| message.is_sound(EPOCH, Index(7));
        let at = Position::new;
        assert!(sound(Message { entries: vec![entry(8, 4), entry(9, 5)], ..message(Kind::Append) }));
        assert!(
            !sound(Message { entries: vec![entry(8, 5), entry(9, 4)], ..message(Kind::Append) }),
            "terms fall"
        );
        assert!(!sound(Message { entries: vec![entry(8, 6)], ..message(Kind::Append) }), "from the future");
        assert!(!sound(Message { at: at(7, 0), ..message(Kind::Append) }), "an index without a term");
        assert!(!sound(Message { at: at(0, 1), ..message(Kind::Append) }), "a term without an index");
        assert!(!sound(Message { term: Term::ZERO, ..message(Kind::Heartbeat) }), "a local message");
        assert!(
            !sound(Message { term: Term(u64::MAX), ..message(Kind::Heartbeat) }),
            "a term without an end"
        );
        assert!(sound(message(Kind::AppendResponse)));
        assert!(!sound(Message { at: at(8, 4), ..message(Kind::AppendResponse) }), "beyond the log here");
        assert!(
            !sound(Message { reject: true, hint: Index(8), ..message(Kind::AppendResponse) }),
            "a hint beyond"
        );
        let view = Some(View::of(EPOCH, &[NodeId(1)]));
        assert!(sound(Message { view: view.clone(), ..message(Kind::Snapshot) }));
        assert!(!sound(Message { view, at: at(0, 0), ..message(Kind::Snapshot) }), "a snapshot of nothing");
        assert!(!sound(message(Kind::Snapshot)), "a snapshot without members");
        let other = Some(View::of(Epoch(2), &[NodeId(1)]));
        assert!(!sound(Message { view: other, ..message(Kind::Snapshot) }), "members of another epoch");
        assert!(!sound(Message { to: ReplicaId(1), ..message(Kind::Heartbeat) }), "from itself");
        assert!(!sound(Message { from: ReplicaId(0), ..message(Kind::Heartbeat) }), "from nobody");
    }

    #[test]
    fn message_with_an_entry_that_changes_members_is_sound_when_it_is_of_its_place() {
        let changes = |kind, epoch, revision| {
            let mut data = BytesMut::new();
            View { revision: Revision(revision), ..View::of(epoch, &[NodeId(1)]) }.encode(&mut data);
            let entries = vec![LogEntry { kind, data: data.freeze(), ..entry(8, 5) }];
            Message { entries, ..message(Kind::Append) }.is_sound(EPOCH, Index(7))
        };
        assert!(changes(MEMBERS, EPOCH, 8));
        assert!(!changes(MEMBERS, EPOCH, 7) && !changes(MEMBERS, Epoch(2), 8) && !changes(1, EPOCH, 8));
    }
}
