//! What the replicas of a two-phase shard say to each other: plain data, its bytes, and what of it is believed.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_bytes, put_uint};
use kv::{Epoch, Index, Position, Term};

use crate::entries::{LogEntry, NUMBER_MAX};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The master: prepare these entries, or none, which stand behind that place.
    Prepare {
        /// The master's life.
        life: Term,
        /// The entry before the first.
        before: Position,
        /// All entries up to here are decided. Of what a participant has it counts as far as it has what the master has.
        decided: Index,
        /// In order.
        entries: Vec<LogEntry>,
    },
    /// A participant: I have synced what you have.
    Vote {
        /// The life of the master that it votes for.
        life: Term,
        /// Up to here.
        synced: Index,
        /// So far it knows that entries are decided.
        decided: Index,
        /// It lacks entries that are decided: it had them once.
        lacks: bool,
    },
}

/// What a replica says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The last life of the master that it knows of.
    pub(super) life: Term,
    /// So far it knows that entries are decided.
    pub(super) decided: Index,
}

/// Apart from the tags of other protocols, so that who watches the frames between nodes takes none for another's.
const PREPARE: u8 = 65;
const VOTE: u8 = 66;

/// Whether these are the bytes of a vote.
pub(super) fn is_response(body: &[u8]) -> bool {
    body.first() == Some(&VOTE)
}

impl Message {
    /// Its bytes.
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Message::Prepare { life, before, decided, entries } => {
                let data: usize = entries.iter().map(|entry| entry.data.len() + 24).sum();
                let mut into = BytesMut::with_capacity(48 + data);
                into.put_u8(PREPARE);
                for number in [life.0, before.index.0, before.term.0, decided.0, entries.len() as u64] {
                    put_uint(&mut into, number);
                }
                for entry in entries {
                    put_uint(&mut into, entry.term.0);
                    into.put_u8(entry.kind);
                    put_bytes(&mut into, &entry.data);
                }
                into.freeze()
            }
            Message::Vote { life, synced, decided, lacks } => {
                let mut into = BytesMut::with_capacity(32);
                into.put_u8(VOTE);
                [life.0, synced.0, decided.0].into_iter().for_each(|number| put_uint(&mut into, number));
                into.put_u8(u8::from(*lacks));
                into.freeze()
            }
        }
    }

    /// From its bytes; the entries share them.
    pub(super) fn decode(body: &Bytes) -> Result<Message, Malformed> {
        let mut reader = Reader::new(body.clone());
        let message = match reader.u8()? {
            PREPARE => {
                let (life, index, term) = (Term(reader.uint()?), reader.uint()?, reader.uint()?);
                let decided = Index(reader.uint()?);
                let mut next = index;
                let entries = reader.list(|reader| {
                    next = next.wrapping_add(1);
                    let (index, term) = (Index(next), Term(reader.uint()?));
                    Ok(LogEntry { index, term, kind: reader.u8()?, data: reader.bytes()? })
                })?;
                Message::Prepare { life, before: Position::new(index, term), decided, entries }
            }
            VOTE => {
                let (life, synced, decided) = (Term(reader.uint()?), reader.uint()?, reader.uint()?);
                Message::Vote { life, synced: Index(synced), decided: Index(decided), lacks: reader.bool()? }
            }
            _ => return Err(Malformed("a message of a two-phase shard has an unknown tag")),
        };
        reader.end()?;
        Ok(message)
    }

    /// Whether a correct peer may say this at all in an epoch.
    pub(super) fn is_sound(&self, epoch: Epoch) -> bool {
        match self {
            Message::Vote { life, synced, decided, .. } => {
                [life.0, synced.0, decided.0].iter().all(|&number| number <= NUMBER_MAX) && decided <= synced
            }
            Message::Prepare { life, before, decided, entries } => {
                let numbers = [life.0, before.index.0, before.term.0, decided.0];
                let mut last = before.term;
                let rising = |entry: &LogEntry| {
                    std::mem::replace(&mut last, entry.term) <= entry.term && entry.term > Term::ZERO
                };
                // Members never change, and an epoch ends with a later one.
                let is_known = |entry: &LogEntry| {
                    let ends = entry.seal().is_ok_and(|next| next.is_none_or(|next| next > epoch));
                    ends && matches!(entry.members(), Ok(None))
                };
                numbers.iter().all(|&number| number <= NUMBER_MAX)
                    && *life > Term::ZERO
                    && entries.iter().all(rising)
                    && entries.iter().all(is_known)
                    && last <= *life
            }
        }
    }
}

impl Hello {
    /// Its bytes.
    pub(super) fn encode(self) -> Bytes {
        let mut into = BytesMut::new();
        put_uint(&mut into, self.life.0);
        put_uint(&mut into, self.decided.0);
        into.freeze()
    }

    /// From its bytes.
    pub(super) fn decode(bytes: &Bytes) -> Result<Hello, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let hello = Hello { life: Term(reader.uint()?), decided: Index(reader.uint()?) };
        reader.end()?;
        Ok(hello)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Prepare { life, before, decided, entries } => {
                let places: Vec<String> = entries.iter().map(LogEntry::to_string).collect();
                write!(f, "prepare life {life} behind {before} decided {decided} [{}]", places.join(", "))
            }
            Message::Vote { life, synced, decided, lacks } => {
                let lacks = if *lacks { " lacks" } else { "" };
                write!(f, "vote life {life} synced {synced} decided {decided}{lacks}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{MEMBERS, OPS};

    fn entry(index: u64, term: u64, kind: u8) -> LogEntry {
        LogEntry { index: Index(index), term: Term(term), kind, data: Bytes::from_static(b"data") }
    }

    fn prepare(entries: Vec<LogEntry>) -> Message {
        Message::Prepare { life: Term(3), before: Position::new(7, 2), decided: Index(6), entries }
    }

    #[test]
    fn message_round_trips() {
        let vote = Message::Vote { life: Term(3), synced: Index(9), decided: Index(7), lacks: true };
        for message in [prepare(vec![entry(8, 2, OPS), entry(9, 3, OPS)]), prepare(Vec::new()), vote] {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        let hello = Hello { life: Term(3), decided: Index(9) };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }

    #[test]
    fn message_that_no_peer_says_is_not_believed() {
        assert!(prepare(vec![entry(8, 2, OPS), entry(9, 3, OPS)]).is_sound(Epoch(1)));
        let falls = prepare(vec![entry(8, 3, OPS), entry(9, 2, OPS)]);
        let of_a_later_life = prepare(vec![entry(8, 4, OPS)]);
        let changes_members = prepare(vec![entry(8, 3, MEMBERS)]);
        let knows_more_than_it_has =
            Message::Vote { life: Term(3), synced: Index(6), decided: Index(7), lacks: false };
        for message in [falls, of_a_later_life, changes_members, knows_more_than_it_has] {
            assert!(!message.is_sound(Epoch(1)), "{message}");
        }
        for garbled in [&b""[..], b"\x03", b"\x42\x01\x01\x01", b"\x41\x01"] {
            assert!(Message::decode(&Bytes::from_static(garbled)).is_err());
        }
    }
}
