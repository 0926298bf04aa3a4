//! What protocols write to the log: one tag byte, then the fields. Tags are never given a second meaning.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_uint};

use crate::entries::{LogEntry, NUMBER_MAX, Position};

/// A record of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An entry; it replaces what was at its index and behind.
    Entry(LogEntry),
    /// What a replica must remember of its elections.
    State(State),
    /// A checkpoint: the table has flushed what is up to here, so entries up to here may be gone.
    Base(Position),
    /// A snapshot was installed: the log is empty and goes on behind it.
    Snapshot(Position),
}

/// What a replica must remember of its elections; all 0 = it never took part in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The term it is in.
    pub(crate) term: u64,
    /// Whom it voted for in it; 0 = nobody.
    pub(crate) vote: u64,
    /// All entries up to here are agreed on. May lag behind.
    pub(crate) commit: u64,
}

const ENTRY: u8 = 1;
const STATE: u8 = 2;
const BASE: u8 = 3;
const SNAPSHOT: u8 = 4;

impl Record {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        match self {
            Record::Entry(entry) => return encode_entry(entry),
            Record::State(state) => put(&mut into, STATE, &[state.term, state.vote, state.commit]),
            Record::Base(at) => put(&mut into, BASE, &[at.index, at.term]),
            Record::Snapshot(at) => put(&mut into, SNAPSHOT, &[at.index, at.term]),
        }
        into.freeze()
    }

    /// From its bytes; the data of an entry shares them.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Record, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let record = match reader.u8()? {
            ENTRY => return decode_entry(reader),
            STATE => {
                let (term, vote, commit) = (number(&mut reader)?, number(&mut reader)?, number(&mut reader)?);
                Record::State(State { term, vote, commit })
            }
            BASE => Record::Base(Position { index: number(&mut reader)?, term: number(&mut reader)? }),
            SNAPSHOT => {
                Record::Snapshot(Position { index: number(&mut reader)?, term: number(&mut reader)? })
            }
            _ => return Err(Malformed("a record of a shard has an unknown tag")),
        };
        reader.end()?;
        Ok(record)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Entry(entry) => write!(f, "entry {}/{}", entry.index, entry.term),
            Record::State(State { term, vote, commit }) => {
                write!(f, "state term {term} vote {vote} commit {commit}")
            }
            Record::Base(at) => write!(f, "base {}/{}", at.index, at.term),
            Record::Snapshot(at) => write!(f, "snapshot {}/{}", at.index, at.term),
        }
    }
}

/// The record of an entry, and the entry over the record's bytes: so that what stays in memory is held once and pins no
/// other buffer.
pub(crate) fn own(entry: LogEntry) -> (Bytes, LogEntry) {
    let record = encode_entry(&entry);
    let data = record.slice(record.len() - entry.data.len()..);
    (record, LogEntry { data, ..entry })
}

fn encode_entry(entry: &LogEntry) -> Bytes {
    let mut into = BytesMut::with_capacity(22 + entry.data.len());
    put(&mut into, ENTRY, &[entry.index, entry.term]);
    into.put_u8(entry.kind);
    into.put_slice(&entry.data);
    into.freeze()
}

fn decode_entry(mut reader: Reader) -> Result<Record, Malformed> {
    let (index, term, kind) = (number(&mut reader)?, number(&mut reader)?, reader.u8()?);
    if index == 0 {
        return Err(Malformed("an entry has index 0"));
    }
    Ok(Record::Entry(LogEntry { index, term, kind, data: reader.rest() }))
}

/// A term or an index.
fn number(reader: &mut Reader) -> Result<u64, Malformed> {
    match reader.uint()? {
        number @ 0..=NUMBER_MAX => Ok(number),
        _ => Err(Malformed("a term or an index is too high")),
    }
}

fn put(into: &mut BytesMut, tag: u8, numbers: &[u64]) {
    into.put_u8(tag);
    numbers.iter().for_each(|&number| put_uint(into, number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_round_trips() {
        let at = Position { index: 1 << 40, term: 300 };
        let entry = LogEntry { index: 7, term: 2, kind: 1, data: Bytes::from_static(b"data") };
        for record in [
            Record::Entry(entry),
            Record::State(State { term: 3, vote: 1023, commit: NUMBER_MAX }),
            Record::Base(at),
            Record::Snapshot(at),
        ] {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn record_of_entry_shares_its_bytes_with_it() {
        let entry = LogEntry { index: 7, term: 2, kind: 0, data: Bytes::from_static(b"data") };
        let (record, owned) = own(entry.clone());
        assert_eq!(owned, entry);
        assert!(record.as_ptr_range().contains(&owned.data.as_ptr()));
    }

    #[test]
    fn record_with_a_number_that_cannot_be_counted_on_is_refused() {
        let at = Position { index: u64::MAX, term: 1 };
        let entry = LogEntry { index: NUMBER_MAX + 1, term: 1, kind: 0, data: Bytes::new() };
        for record in [Record::Base(at), Record::Snapshot(at), Record::Entry(entry)] {
            assert!(Record::decode(&record.encode()).is_err(), "{record}");
        }
    }

    #[test]
    fn record_garbled_is_refused() {
        for bytes in [&b""[..], b"\x09", b"\x02\x01", b"\x03\x01\x01\x01", b"\x01\x00\x00\x00", b"\x01\x01"] {
            assert!(Record::decode(&Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }
}
