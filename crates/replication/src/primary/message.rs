//! What the members of a shard say to each other: plain data, its bytes, and what of it is believed.
//!
//! What comes from the network passes [`Message::decode`] and [`Message::is_sound`] first; a message that fails is dropped, as if it
//! had been lost.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_bytes, put_option, put_uint};
use kv::{Epoch, Index, Position, ReplicaId, Term};

use super::replica::term_of;
use crate::View;
use crate::entries::{LogEntry, NUMBER_MAX, OPS, SEAL};
use crate::lease::Asked;

/// A message of a shard's member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) from: ReplicaId,
    pub(super) to: ReplicaId,
    /// The revision of the members that the sender knows: the term.
    pub(super) term: Term,
    /// The entry before the first; what is synced, refused, or in a snapshot.
    pub(super) at: Position,
    /// All entries up to here are agreed on.
    pub(super) commit: Index,
    /// Up to where the logs may match, when `at` is refused.
    pub(super) hint: Index,
    /// The primary asks the receiver not to take over for a lease, or is answered that it does not.
    pub(super) beat: Option<Asked>,
    /// The receiver is asked for a lease to read under, or is answered that it has it.
    pub(super) lease: Option<Asked>,
    /// The members, for who may not know them.
    pub(super) view: Option<View>,
    /// In which epoch the shard goes on, when a snapshot's place is the end of this one.
    pub(super) seal: Option<Epoch>,
    pub(super) entries: Vec<LogEntry>,
}

/// What a message is for. Their tags are none of another protocol's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Entries, or none: what the primary has.
    Append = 33,
    /// What a member has of them, synced.
    Ack = 34,
    /// The entry before them is not here.
    Reject = 35,
    /// `at` is the snapshot's.
    Snapshot = 36,
    /// You have all that I have, up to `at`: sleep, as I do.
    Sleep = 37,
    /// Are you there? And perhaps: I want to read.
    Call = 38,
    /// Your term is over: `view` has come since.
    Stale = 39,
}

pub(super) const KINDS: [Kind; 7] =
    [Kind::Append, Kind::Ack, Kind::Reject, Kind::Snapshot, Kind::Sleep, Kind::Call, Kind::Stale];

/// Whether these are the bytes of an answer: how much is synced, a refusal, a term that is over.
pub(super) fn is_response(body: &[u8]) -> bool {
    let responses = [Kind::Ack, Kind::Reject, Kind::Stale].map(|kind| kind as u8);
    body.first().is_some_and(|tag| responses.contains(tag))
}

impl Message {
    /// With nothing but what each says.
    pub(super) fn new(kind: Kind, from: ReplicaId, to: ReplicaId, term: Term, at: Position) -> Message {
        let (commit, hint, entries) = (Index::ZERO, Index::ZERO, Vec::new());
        let (beat, lease, view, seal) = (None, None, None, None);
        Message { kind, from, to, term, at, commit, hint, beat, lease, view, seal, entries }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Bytes {
        let data: usize = self.entries.iter().map(|entry| entry.data.len() + 24).sum();
        let mut into = BytesMut::with_capacity(96 + data);
        into.put_u8(self.kind as u8);
        let whose = [self.from, self.to].map(|replica| u64::from(replica.0));
        let places = [self.term.0, self.at.index.0, self.at.term.0, self.commit.0, self.hint.0];
        whose.into_iter().chain(places).for_each(|number| put_uint(&mut into, number));
        put_option(&mut into, self.beat, |into, asked| asked.encode(into));
        put_option(&mut into, self.lease, |into, asked| asked.encode(into));
        put_option(&mut into, self.view.as_ref(), |into, view| view.encode(into));
        put_option(&mut into, self.seal, |into, next| put_uint(into, next.0));
        put_uint(&mut into, self.entries.len() as u64);
        for entry in &self.entries {
            put_uint(&mut into, entry.term.0);
            into.put_u8(entry.kind);
            put_bytes(&mut into, &entry.data);
        }
        into.freeze()
    }

    /// From its bytes; the entries share them.
    pub(super) fn decode(body: &Bytes) -> Result<Message, Malformed> {
        let mut reader = Reader::new(body.clone());
        let tag = reader.u8()?;
        let kind = KINDS.into_iter().find(|&kind| kind as u8 == tag);
        let kind = kind.ok_or(Malformed("a message of a primary's shard has an unknown tag"))?;
        let (from, to) = (ReplicaId(reader.u16()?), ReplicaId(reader.u16()?));
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = reader.uint()?;
        }
        let [term, index, of_term, commit, hint] = numbers;
        let (beat, lease) = (reader.option(Asked::decode)?, reader.option(Asked::decode)?);
        let view = reader.option(View::decode)?;
        let seal = reader.option(|reader| Ok(Epoch(reader.uint()?)))?;
        let mut place = index;
        let entries = reader.list(|reader| {
            place = place.wrapping_add(1);
            let (index, term) = (Index(place), Term(reader.uint()?));
            Ok(LogEntry { index, term, kind: reader.u8()?, data: reader.bytes()? })
        })?;
        reader.end()?;
        let (at, term) = (Position::new(index, of_term), Term(term));
        let (commit, hint) = (Index(commit), Index(hint));
        Ok(Message { kind, from, to, term, at, commit, hint, beat, lease, view, seal, entries })
    }

    /// Whether a correct member may say this at all in an epoch.
    pub(super) fn is_sound(&self, epoch: Epoch) -> bool {
        let numbers = [self.term.0, self.at.index.0, self.at.term.0, self.commit.0, self.hint.0];
        let is_number = |replica: &ReplicaId| (1..=ReplicaId::MAX.0).contains(&replica.0);
        let of_term = |view: &View| view.epoch == epoch && term_of(view) == self.term;
        numbers.iter().all(|&number| number <= NUMBER_MAX)
            && self.term > Term::ZERO
            && self.at.term <= self.term
            && self.from != self.to
            && [self.from, self.to].iter().all(is_number)
            && self.view.as_ref().is_none_or(of_term)
            && self.seal.is_none_or(|next| self.kind == Kind::Snapshot && next > epoch)
            && (self.entries.is_empty() || self.kind == Kind::Append)
            && match self.kind {
                Kind::Append => self.is_append_sound(epoch),
                Kind::Reject => self.hint < self.at.index,
                Kind::Snapshot => self.at.index > Index::ZERO && self.at.term > Term::ZERO,
                Kind::Stale => self.view.is_some(),
                Kind::Ack | Kind::Sleep | Kind::Call => true,
            }
    }

    fn is_append_sound(&self, epoch: Epoch) -> bool {
        let mut before = self.at.term;
        let rises = |entry: &LogEntry| {
            std::mem::replace(&mut before, entry.term) <= entry.term && entry.term > Term::ZERO
        };
        let is_known = |entry: &LogEntry| match entry.kind {
            OPS => true,
            SEAL => entry.seal().is_ok_and(|next| next.is_some_and(|next| next > epoch)),
            _ => false,
        };
        self.entries.iter().all(rises)
            && self.entries.iter().all(is_known)
            && self.entries.last().is_none_or(|last| last.term <= self.term && last.index.0 <= NUMBER_MAX)
    }

    /// Only a primary says this.
    pub(super) fn is_of_primary(&self) -> bool {
        matches!(self.kind, Kind::Append | Kind::Snapshot | Kind::Sleep)
    }
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
        if self.commit > Index::ZERO {
            write!(f, " commit {}", self.commit)?;
        }
        if self.kind == Kind::Reject {
            write!(f, " hint {}", self.hint)?;
        }
        f.write_str(if self.beat.is_some() { " beat" } else { "" })?;
        f.write_str(if self.lease.is_some() { " lease" } else { "" })?;
        f.write_str(if self.view.is_some() { " with members" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use kv::NodeId;

    use super::*;
    use crate::random::Random;
    use crate::{Instant, Revision};

    const EPOCH: Epoch = Epoch(1);

    fn message(kind: Kind) -> Message {
        Message::new(kind, ReplicaId(1), ReplicaId(2), Term(5), Position::new(7, 4))
    }

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index: Index(index), term: Term(term), kind: OPS, data: Bytes::from_static(b"data") }
    }

    fn full() -> Message {
        let asked = |at| Some(Asked { life: 1 << 40, at: Instant(at) });
        let view = View { revision: Revision(5), ..View::of(EPOCH, &[NodeId(1), NodeId(2)]) };
        let entries = vec![entry(8, 4), entry(9, 5)];
        let (beat, lease, view) = (asked(3), asked(9), Some(view));
        Message { commit: Index(6), beat, lease, view, entries, ..message(Kind::Append) }
    }

    #[test]
    fn message_round_trips_and_entries_share_its_bytes() {
        for kind in KINDS {
            let message = Message { kind, hint: Index(3), seal: Some(Epoch(2)), ..full() };
            let body = message.encode();
            let decoded = Message::decode(&body).unwrap();
            assert_eq!(decoded, message);
            assert!(body.as_ptr_range().contains(&decoded.entries[1].data.as_ptr()));
        }
        assert!(full().is_sound(EPOCH));
    }

    #[test]
    fn message_any_bytes_are_refused_or_decoded_but_never_panic() {
        let mut random = Random::new(1);
        let body = full().encode();
        for _ in 0..20_000 {
            let mut bytes = body.to_vec();
            for _ in 0..1 + random.below(3) {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] = random.next() as u8;
            }
            bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
            if let Ok(message) = Message::decode(&Bytes::from(bytes)) {
                message.is_sound(EPOCH);
            }
        }
    }

    #[test]
    fn message_that_no_correct_member_sends_is_unsound() {
        let sound = |message: Message| message.is_sound(EPOCH);
        let append = |entries| Message { entries, ..message(Kind::Append) };
        assert!(sound(append(vec![entry(8, 4), entry(9, 5)])));
        assert!(!sound(append(vec![entry(8, 5), entry(9, 4)])), "terms fall");
        assert!(!sound(append(vec![entry(8, 6)])), "from the future");
        assert!(!sound(append(vec![LogEntry { kind: 2, ..entry(8, 5) }])), "members are the directory's");
        assert!(!sound(Message { term: Term::ZERO, ..message(Kind::Call) }));
        assert!(!sound(Message { to: ReplicaId(1), ..message(Kind::Call) }), "to itself");
        assert!(!sound(message(Kind::Stale)), "without the members that came since");
        let other = Some(View { revision: Revision(4), ..View::of(EPOCH, &[NodeId(1)]) });
        assert!(!sound(Message { view: other, ..message(Kind::Append) }), "members of another term");
    }
}
