//! The ledger of a shard: what was lost of what was acknowledged, since a replica orders that was not in sync.
//!
//! It is kept with the shard's rows, and changed by entries of its log like them, so it is the same on all replicas and goes along
//! wherever they go. No client writes it, but for taking off what people have seen: a [`Note`] is the store's own. It is read as a [`Range`](crate::Range) that says so: each of
//! the rows that are found holds a [`Line`].
//!
//! # How a write gets there
//!
//! ```text
//!   n2 is made to order      Fork { astray: 1 3 }          whatever is above version 70 at those is not here
//!   n1, replica 1, is back   asks for the lines            Astray { replica: 1, base: 70 }
//!                            Orphans { offset: 0, .. }     its rows above 70, a piece at a time; then that this was all
//!                            begins anew
//! ```

//! # What holds
//!
//! A replica begins anew only when all that it had above its base is in the ledger, listed or counted, on the disks of all in sync. Where one
//! that was told goes astray itself, what it was told above its base is among what it has: it is listed again, as told by it.
//!
//! # Caveats
//!
//! - What is told is what the replica's rows still say: of a key it lists as many writes as its history keeps, and nothing of a key that was
//!   deleted where no history is. What was in its log and never acknowledged is listed as well: nobody can tell.
//! - A replica that is lost for good tells nothing, and with it goes the ledger of a shard that only it has.
//! - Until an astray replica has told its versions, new ones are above them only as far as clocks agree. The replica's number keeps them
//!   apart.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Malformed, Reader, put_bytes, put_list, put_option, put_uint, put_version};
use crate::{Key, NodeId, ReplicaId, Value, Version};

/// A shard lists so many lost writes at most, and counts the others: people look through them, and each replica keeps them.
pub const LEDGER_ROWS_MAX: u64 = 10_000;
/// Bytes of the keys and values that a shard lists at most.
pub const LEDGER_BYTES_MAX: u64 = 64 << 20;

/// What is written into the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Others than those in sync may have gone another way from here on: all whose replicas are named, and no others. Who was named
    /// before keeps its base.
    Fork {
        /// The numbers of their replicas.
        astray: Vec<ReplicaId>,
    },
    /// What such a replica has that is not here.
    Orphans(Orphans),
    /// Lines of a key that people have seen are not listed any more: the only note that a client may have written. Answers
    /// [`crate::Answer::Trimmed`].
    Clear {
        /// The key.
        key: Key,
        /// The versions that were lost of it.
        lost: Vec<Version>,
    },
}

/// A piece of what a replica has that is not here. It counts once: where another offset is expected nothing happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphans {
    /// The replica's number.
    pub from: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// So many were told before; 0 = it begins again.
    pub offset: u64,
    /// The lost writes.
    pub rows: Vec<Lost>,
    /// So many more are not told one by one.
    pub skipped: u64,
    /// The newest version of the replica: what is written here from now on is above it.
    pub last: Version,
    /// This was all.
    pub is_end: bool,
}

/// A write that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its key.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// The version of the key that it replaced; `None` = there was none, or it is not kept.
    pub replaced: Option<Version>,
    /// What it stored; `None` = it deleted the key.
    pub value: Option<Value>,
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A replica that may have what is not here.
    Astray {
        /// Its number.
        replica: ReplicaId,
        /// What it has above this version is not here.
        base: Version,
        /// So many lost writes it has told.
        told: u64,
        /// So many of them are not listed.
        beyond: u64,
        /// It has told all.
        is_done: bool,
    },
    /// A write that was lost.
    Lost {
        /// The node that had it.
        node: NodeId,
        /// When it was told: the version of that.
        told: Version,
        /// The write.
        lost: Lost,
    },
    /// More writes were lost than are listed.
    Beyond {
        /// The node that had them.
        node: NodeId,
        /// The replica's number.
        replica: ReplicaId,
        /// How many.
        count: u64,
    },
}

impl Line {
    /// By what it is found: lines come in this order.
    pub fn key(&self) -> Key {
        let mut into = BytesMut::new();
        match self {
            Line::Astray { replica, .. } => {
                into.put_u8(0);
                into.put_u16(replica.0);
            }
            Line::Lost { lost, .. } => return Line::key_of_lost(&lost.key, lost.version),
            Line::Beyond { replica, .. } => {
                into.put_u8(2);
                into.put_u16(replica.0);
            }
        }
        into.freeze()
    }

    /// The key of the line of a lost write.
    pub fn key_of_lost(key: &Key, version: Version) -> Key {
        let mut into = BytesMut::with_capacity(key.len() + 9);
        into.put_u8(1);
        into.put_slice(key);
        into.put_i64(version.as_i64());
        into.freeze()
    }

    /// The key of the write that a line of this key is of, if it is of one.
    pub fn written_key(key: &Bytes) -> Option<Key> {
        let end = key.len().checked_sub(8).filter(|end| *end > 1 && key[0] == 1)?;
        Some(key.slice(1..end))
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        match self {
            Line::Astray { replica, base, told, beyond, is_done } => {
                into.put_u8(1);
                put_uint(&mut into, u64::from(replica.0));
                put_version(&mut into, *base);
                put_uint(&mut into, *told);
                put_uint(&mut into, *beyond);
                into.put_u8(u8::from(*is_done));
            }
            Line::Lost { node, told, lost } => {
                into.put_u8(2);
                put_uint(&mut into, node.0);
                put_version(&mut into, *told);
                lost.encode(&mut into);
            }
            Line::Beyond { node, replica, count } => {
                into.put_u8(3);
                put_uint(&mut into, node.0);
                put_uint(&mut into, u64::from(replica.0));
                put_uint(&mut into, *count);
            }
        }
        into.freeze()
    }

    /// From its bytes.
    pub fn decode(bytes: &Bytes) -> Result<Line, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let line = match reader.u8()? {
            1 => Line::Astray {
                replica: ReplicaId(reader.u16()?),
                base: reader.version()?,
                told: reader.uint()?,
                beyond: reader.uint()?,
                is_done: reader.bool()?,
            },
            2 => Line::Lost {
                node: NodeId(reader.uint()?),
                told: reader.version()?,
                lost: Lost::decode(&mut reader)?,
            },
            3 => Line::Beyond {
                node: NodeId(reader.uint()?),
                replica: ReplicaId(reader.u16()?),
                count: reader.uint()?,
            },
            _ => return Err(Malformed("a line of a ledger has an unknown tag")),
        };
        reader.end()?;
        Ok(line)
    }
}

impl Lost {
    /// Bytes of its key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    fn encode(&self, into: &mut BytesMut) {
        put_bytes(into, &self.key);
        put_version(into, self.version);
        put_option(into, self.replaced, put_version);
        put_option(into, self.value.as_ref(), |into, value| put_bytes(into, value));
    }

    fn decode(reader: &mut Reader) -> Result<Lost, Malformed> {
        Ok(Lost {
            key: reader.bytes()?,
            version: reader.version()?,
            replaced: reader.option(Reader::version)?,
            value: reader.option(Reader::bytes)?,
        })
    }
}

impl Note {
    /// Bytes of the keys and values in it.
    pub fn bytes(&self) -> usize {
        match self {
            // The key is counted as any op's is.
            Note::Fork { .. } | Note::Clear { .. } => 0,
            Note::Orphans(orphans) => orphans.rows.iter().map(Lost::bytes).sum(),
        }
    }

    /// Writes it.
    pub fn encode(&self, into: &mut BytesMut) {
        match self {
            Note::Fork { astray } => {
                into.put_u8(1);
                put_list(into, astray, |into, replica| put_uint(into, u64::from(replica.0)));
            }
            Note::Orphans(Orphans { from, node, offset, rows, skipped, last, is_end }) => {
                into.put_u8(2);
                put_uint(into, u64::from(from.0));
                put_uint(into, node.0);
                put_uint(into, *offset);
                put_list(into, rows, |into, lost| lost.encode(into));
                put_uint(into, *skipped);
                put_version(into, *last);
                into.put_u8(u8::from(*is_end));
            }
            Note::Clear { key, lost } => {
                into.put_u8(3);
                put_bytes(into, key);
                put_list(into, lost, |into, version| put_version(into, *version));
            }
        }
    }

    /// Reads it.
    pub fn decode(reader: &mut Reader) -> Result<Note, Malformed> {
        Ok(match reader.u8()? {
            1 => Note::Fork { astray: reader.list(|reader| Ok(ReplicaId(reader.u16()?)))? },
            2 => Note::Orphans(Orphans {
                from: ReplicaId(reader.u16()?),
                node: NodeId(reader.uint()?),
                offset: reader.uint()?,
                rows: reader.list(Lost::decode)?,
                skipped: reader.uint()?,
                last: reader.version()?,
                is_end: reader.bool()?,
            }),
            3 => Note::Clear { key: reader.bytes()?, lost: reader.list(Reader::version)? },
            _ => return Err(Malformed("a note of a ledger has an unknown tag")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(key: &'static str, version: i64) -> Lost {
        let version = Version::from_i64(version).unwrap_or_default();
        Lost { key: key.into(), version, replaced: Some(Version::ZERO), value: Some("v".into()) }
    }

    #[test]
    fn lines_and_notes_round_trip() {
        let (node, replica, base) = (NodeId(1 << 40), ReplicaId(1023), Version::MAX);
        let deleted = Lost { replaced: None, value: None, ..lost("k", 9) };
        let lines = [
            Line::Astray { replica, base, told: 300, beyond: 7, is_done: true },
            Line::Lost { node, told: base, lost: lost("a", 1) },
            Line::Lost { node, told: base, lost: deleted.clone() },
            Line::Beyond { node, replica, count: u64::MAX },
        ];
        for line in lines {
            assert_eq!(Line::decode(&line.encode()), Ok(line));
        }
        let rows = vec![lost("a", 1), deleted];
        let orphans = Orphans { from: replica, node, offset: 3, rows, skipped: 2, last: base, is_end: true };
        for note in [Note::Fork { astray: vec![replica, ReplicaId(2)] }, Note::Orphans(orphans)] {
            let mut into = BytesMut::new();
            note.encode(&mut into);
            assert_eq!(Note::decode(&mut Reader::new(into.freeze())), Ok(note));
        }
    }

    #[test]
    fn line_of_a_write_names_its_key() {
        let line = Line::Lost { node: NodeId(1), told: Version::ZERO, lost: lost("key", 9) };
        assert_eq!(Line::written_key(&line.key()), Some("key".into()));
        let other = Line::Beyond { node: NodeId(1), replica: ReplicaId(1), count: 1 };
        assert_eq!(Line::written_key(&other.key()), None);
    }
}
