//! What protocols write to the log.
//!
//! A record begins with its protocol and its epoch, so that whoever finds it knows whose it is before reading on; then comes
//! one tag byte, then the fields. Tags are never given a second meaning.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, decode_protocol, encode_protocol, put_uint, put_version};
use kv::{Epoch, Index, Position, Protocol, ReplicaId, Term, Version};

use crate::View;
use crate::entries::{LogEntry, NUMBER_MAX};

/// Whose a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The protocol that wrote it, and reads it.
    pub(crate) protocol: Protocol,
    /// The epoch of the shard.
    pub(crate) epoch: Epoch,
}

/// A record of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An entry; it replaces what was at its index and behind.
    Entry(LogEntry),
    /// What a replica must remember of its elections.
    State(State),
    /// A checkpoint: the table has flushed what is up to here, so entries up to here may be gone. The members at this place.
    Base(Position, View),
    /// A snapshot was installed: the log is empty and goes on behind it. The members at this place.
    Snapshot(Position, View),
    /// Who belongs to the shard from here on.
    View(View),
    /// The number of the replica whose log this is. It outlives its membership: members may go on without it.
    Replica(ReplicaId),
    /// Nothing more is ordered in this epoch: the shard goes on in that one.
    Seal(Epoch),
    /// The entry that ends the epoch is agreed on, and stands here: the shard goes on in that epoch.
    Sealed(Position, Epoch),
    /// No version of its own that is above this was ever issued by the replica whose log this is.
    Ceiling(Version),
    /// The replica whose log this is has all that each of these issued up to a version.
    Vector(Vector),
}

/// Of each replica a version, up to which it is known what it issued.
pub(crate) type Vector = BTreeMap<ReplicaId, Version>;

/// What a replica must remember of its elections; all 0 = it never took part in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The term it is in.
    pub(crate) term: Term,
    /// Which replica it voted for in it; 0 = none.
    pub(crate) vote: ReplicaId,
    /// All entries up to here are agreed on. May lag behind.
    pub(crate) commit: Index,
}

const ENTRY: u8 = 1;
const STATE: u8 = 2;
const BASE: u8 = 3;
const SNAPSHOT: u8 = 4;
const VIEW: u8 = 5;
const REPLICA: u8 = 6;
const SEAL: u8 = 7;
const SEALED: u8 = 8;
const CEILING: u8 = 9;
const VECTOR: u8 = 10;
const OF_ANOTHER_EPOCH: Malformed = Malformed("a record holds the members of another epoch");
/// The longest record of numbers alone, or what an entry has before its data: the protocol, the epoch, the tag, three numbers.
const SHORT_BYTES_MAX: usize = 1 + 10 + 1 + 3 * 10;

impl Record {
    /// Its bytes, whose it is before them.
    pub(crate) fn encode(&self, head: Header) -> Bytes {
        match self {
            Record::Entry(entry) => encode_entry(head, entry),
            Record::State(State { term, vote, commit }) => {
                of_numbers(head, STATE, &[term.0, u64::from(vote.0), commit.0])
            }
            Record::Base(at, view) => of_view(head, BASE, &[at.index.0, at.term.0], view),
            Record::Snapshot(at, view) => of_view(head, SNAPSHOT, &[at.index.0, at.term.0], view),
            Record::View(view) => of_view(head, VIEW, &[], view),
            Record::Replica(replica) => of_numbers(head, REPLICA, &[u64::from(replica.0)]),
            Record::Seal(next) => {
                assert!(*next > head.epoch, "a shard goes on in a later epoch");
                of_numbers(head, SEAL, &[next.0])
            }
            Record::Sealed(at, next) => {
                assert!(*next > head.epoch, "a shard goes on in a later epoch");
                of_numbers(head, SEALED, &[at.index.0, at.term.0, next.0])
            }
            Record::Ceiling(ceiling) => of_numbers(head, CEILING, &[ceiling.as_i64() as u64]),
            Record::Vector(vector) => {
                let mut into = BytesMut::new();
                put(&mut into, head, VECTOR, &[]);
                put_vector(&mut into, vector);
                into.freeze()
            }
        }
    }

    /// From its bytes, with whose it is; the data of an entry shares them.
    pub(crate) fn decode(bytes: &Bytes) -> Result<(Header, Record), Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let head = Header { protocol: decode_protocol(&mut reader)?, epoch: Epoch(reader.uint()?) };
        let record = match reader.u8()? {
            ENTRY => return Ok((head, decode_entry(reader, head)?)),
            STATE => {
                let (term, vote) = (Term(number(&mut reader)?), ReplicaId(reader.u16()?));
                Record::State(State { term, vote, commit: Index(number(&mut reader)?) })
            }
            BASE => Record::Base(position(&mut reader)?, view(&mut reader, head)?),
            SNAPSHOT => Record::Snapshot(position(&mut reader)?, view(&mut reader, head)?),
            VIEW => Record::View(view(&mut reader, head)?),
            REPLICA => match ReplicaId(reader.u16()?) {
                replica if (1..=ReplicaId::MAX.0).contains(&replica.0) => Record::Replica(replica),
                _ => return Err(Malformed("a record has a number that is no replica's")),
            },
            SEAL => Record::Seal(later(Epoch(reader.uint()?), head)?),
            SEALED => Record::Sealed(position(&mut reader)?, later(Epoch(reader.uint()?), head)?),
            CEILING => {
                let ceiling = i64::try_from(reader.uint()?).ok().and_then(Version::from_i64);
                Record::Ceiling(ceiling.ok_or(Malformed("a version is negative"))?)
            }
            VECTOR => Record::Vector(decode_vector(&mut reader)?),
            _ => return Err(Malformed("a record of a shard has an unknown tag")),
        };
        reader.end()?;
        Ok((head, record))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Entry(entry) => write!(f, "{entry}"),
            Record::State(State { term, vote, commit }) => {
                write!(f, "state term {term} vote {vote} commit {commit}")
            }
            Record::Base(at, _) => write!(f, "base {at}"),
            Record::Snapshot(at, _) => write!(f, "snapshot {at}"),
            Record::View(view) => write!(f, "view {}", view.revision),
            Record::Replica(replica) => write!(f, "replica {replica}"),
            Record::Seal(next) => write!(f, "seal, then epoch {next}"),
            Record::Sealed(at, next) => write!(f, "sealed at {at}, then epoch {next}"),
            Record::Ceiling(ceiling) => write!(f, "issues up to {}.{}", ceiling.micros(), ceiling.replica()),
            Record::Vector(vector) => write!(f, "has {}", show_vector(vector)),
        }
    }
}

/// A vector, for people: `1:7.1 2:9.2`.
pub(crate) fn show_vector(vector: &Vector) -> String {
    let show = |(replica, version): (&ReplicaId, &Version)| {
        format!("{replica}:{}.{}", version.micros(), version.replica())
    };
    Vec::from_iter(vector.iter().map(show)).join(" ")
}

/// Writes a vector.
pub(crate) fn put_vector(into: &mut BytesMut, vector: &Vector) {
    put_uint(into, vector.len() as u64);
    for (replica, version) in vector {
        put_uint(into, u64::from(replica.0));
        put_version(into, *version);
    }
}

/// Reads a vector, its replicas rising.
pub(crate) fn decode_vector(reader: &mut Reader) -> Result<Vector, Malformed> {
    let each = reader.list(|reader| Ok((ReplicaId(reader.u16()?), reader.version()?)))?;
    let is_sound = each.is_sorted_by(|(one, _), (next, _)| one < next)
        && each.iter().all(|(replica, _)| (1..=ReplicaId::MAX.0).contains(&replica.0));
    if is_sound {
        Ok(each.into_iter().collect())
    } else {
        Err(Malformed("a vector has replicas that are none"))
    }
}

/// The record of an entry, and the entry over the record's bytes: so that what stays in memory is held once and pins no
/// other buffer.
pub(crate) fn own(head: Header, entry: LogEntry) -> (Bytes, LogEntry) {
    let record = encode_entry(head, &entry);
    let data = record.slice(record.len() - entry.data.len()..);
    (record, LogEntry { data, ..entry })
}

fn encode_entry(head: Header, entry: &LogEntry) -> Bytes {
    assert!(entry.index > Index::ZERO, "an entry stands behind the beginning");
    let mut into = Vec::with_capacity(SHORT_BYTES_MAX + entry.data.len());
    put(&mut into, head, ENTRY, &[entry.index.0, entry.term.0]);
    into.put_u8(entry.kind);
    into.put_slice(&entry.data);
    into.into()
}

fn decode_entry(mut reader: Reader, head: Header) -> Result<Record, Malformed> {
    let Position { index, term } = position(&mut reader)?;
    if index == Index::ZERO {
        return Err(Malformed("an entry has index 0"));
    }
    let entry = LogEntry { index, term, kind: reader.u8()?, data: reader.rest() };
    if let Some(next) = entry.seal()? {
        later(next, head)?;
    }
    match entry.members()? {
        Some(view) if view.epoch != head.epoch => Err(OF_ANOTHER_EPOCH),
        _ => Ok(Record::Entry(entry)),
    }
}

fn position(reader: &mut Reader) -> Result<Position, Malformed> {
    Ok(Position { index: Index(number(reader)?), term: Term(number(reader)?) })
}

fn view(reader: &mut Reader, head: Header) -> Result<View, Malformed> {
    let view = View::decode(reader)?;
    if view.epoch == head.epoch { Ok(view) } else { Err(OF_ANOTHER_EPOCH) }
}

/// An epoch that comes after the record's own.
fn later(next: Epoch, head: Header) -> Result<Epoch, Malformed> {
    if next > head.epoch { Ok(next) } else { Err(Malformed("a seal names an epoch that is over")) }
}

/// A term or an index.
fn number(reader: &mut Reader) -> Result<u64, Malformed> {
    match reader.uint()? {
        number @ 0..=NUMBER_MAX => Ok(number),
        _ => Err(Malformed("a term or an index is too high")),
    }
}

fn put(into: &mut impl BufMut, head: Header, tag: u8, numbers: &[u64]) {
    encode_protocol(into, head.protocol);
    put_uint(into, head.epoch.0);
    into.put_u8(tag);
    numbers.iter().for_each(|&number| put_uint(into, number));
}

/// A record of a few numbers, in as many bytes as it has: followers write one with each entry.
fn of_numbers(head: Header, tag: u8, numbers: &[u64]) -> Bytes {
    let mut room = [0; SHORT_BYTES_MAX];
    let mut rest = &mut room[..];
    put(&mut rest, head, tag, numbers);
    let free = rest.len();
    Bytes::copy_from_slice(&room[..SHORT_BYTES_MAX - free])
}

fn of_view(head: Header, tag: u8, numbers: &[u64], view: &View) -> Bytes {
    assert_eq!(view.epoch, head.epoch, "a record holds the members of its own epoch");
    let mut into = BytesMut::new();
    put(&mut into, head, tag, numbers);
    view.encode(&mut into);
    into.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::Revision;
    use crate::entries::{MEMBERS, OPS, SEAL as SEAL_ENTRY};
    use kv::NodeId;

    const HEAD: Header = Header { protocol: Protocol::Raft, epoch: Epoch(300) };

    fn members() -> View {
        View::of(HEAD.epoch, &[NodeId(1), NodeId(2)])
    }

    fn entry(index: u64, kind: u8) -> LogEntry {
        LogEntry { index: Index(index), term: Term(2), kind, data: Bytes::from_static(b"data") }
    }

    /// An entry that changes members under a revision.
    fn change(index: u64, revision: u64, epoch: Epoch) -> Record {
        let mut data = BytesMut::new();
        View { revision: Revision(revision), epoch, ..members() }.encode(&mut data);
        Record::Entry(LogEntry { data: data.freeze(), ..entry(index, MEMBERS) })
    }

    /// An entry that ends the epoch.
    fn seal(next: Epoch) -> Record {
        let mut data = BytesMut::new();
        put_uint(&mut data, next.0);
        Record::Entry(LogEntry { data: data.freeze(), ..entry(9, SEAL_ENTRY) })
    }

    #[test]
    fn record_that_ends_an_epoch_with_one_that_is_over_is_refused() {
        assert!(Record::decode(&seal(HEAD.epoch).encode(HEAD)).is_err());
        assert!(Record::decode(&Record::Entry(entry(9, SEAL_ENTRY)).encode(HEAD)).is_err());
    }

    #[test]
    fn record_round_trips_with_whose_it_is() {
        let at = Position::new(1 << 40, 300);
        for record in [
            Record::Entry(entry(7, OPS)),
            change(8, 8, HEAD.epoch),
            Record::State(State { term: Term(3), vote: ReplicaId(u16::MAX), commit: Index(NUMBER_MAX) }),
            Record::Replica(ReplicaId(7)),
            Record::Base(at, members()),
            Record::Snapshot(at, members()),
            Record::View(members()),
            Record::Seal(Epoch(301)),
            Record::Sealed(at, Epoch(301)),
            Record::Ceiling(Version::MAX),
            Record::Vector(Vector::from([(ReplicaId(2), Version::MAX)])),
            seal(Epoch(301)),
        ] {
            assert_eq!(Record::decode(&record.encode(HEAD)), Ok((HEAD, record)));
        }
    }

    #[test]
    fn record_of_entry_shares_its_bytes_with_it() {
        let (record, owned) = own(HEAD, entry(7, 0));
        assert_eq!(owned, entry(7, 0));
        assert!(record.as_ptr_range().contains(&owned.data.as_ptr()));
    }

    #[test]
    fn record_with_a_number_that_cannot_be_counted_on_is_refused() {
        let at = Position::new(u64::MAX, 1);
        let entry = Record::Entry(entry(NUMBER_MAX + 1, 0));
        for record in [Record::Base(at, members()), Record::Snapshot(at, members()), entry] {
            assert!(Record::decode(&record.encode(HEAD)).is_err(), "{record}");
        }
    }

    #[test]
    fn record_garbled_or_of_two_epochs_is_refused() {
        for bytes in [
            &b""[..],
            b"\x02",
            b"\x09\x01\x03",
            b"\x02\x01\x09",
            b"\x02\x01\x02\x01",
            b"\x02\x01\x01\x00\x00\x00",
            b"\x02\x01\x07\x01",
            b"\x02\x01\x06\x00",
        ] {
            assert!(Record::decode(&Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
        let mut into = BytesMut::new();
        put(&mut into, Header { epoch: Epoch(1), ..HEAD }, VIEW, &[]);
        members().encode(&mut into);
        assert!(Record::decode(&into.freeze()).is_err());
    }

    #[test]
    fn record_of_an_entry_that_changes_members_is_refused_when_it_is_not_of_its_place() {
        for record in [change(7, 8, HEAD.epoch), change(7, 7, Epoch(1)), Record::Entry(entry(7, 1))] {
            assert!(Record::decode(&record.encode(HEAD)).is_err(), "{record}");
        }
    }
}
