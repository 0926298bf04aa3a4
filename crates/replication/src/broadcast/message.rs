//! The messages of a broadcast shard: plain data, and its bytes.
//!
//! None is of a life of its sender: versions rise over restarts, rows merge, and what a member has it does not lose. A question has a number that
//! its answer has too.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_list, put_uint, put_version};
use kv::merged::{
    Found, Look, Row, decode_found, decode_look, decode_row, encode_found, encode_look, encode_row,
};
use kv::{ReplicaId, Version};

use crate::quorum::message::{show_found, show_look, show_rows, show_version};
use crate::record::{Vector, decode_vector, put_vector, show_vector};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// All that a member made above one version and up to another.
    Rows { origin: ReplicaId, link: Link },
    /// What who says it has, durably; `asks`: somebody has something else, as far as it knows.
    Vector { have: Vector, asks: bool },
    /// What did a member make above this version?
    Fetch { origin: ReplicaId, after: Version },
    /// So much of it was sent as an answer takes: what is behind that may be asked for.
    Sent { origin: ReplicaId },
    /// It is not at hand any more: compare with who says this.
    Gone { origin: ReplicaId },
    /// What do you hold of this?
    Look { number: u64, what: Look },
    /// This is held, beside all that the vector says.
    Found { number: u64, found: Found, have: Vector },
}

/// A link of the chain of what a member made: none is missing between `previous` and `upto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) previous: Version,
    pub(super) upto: Version,
    pub(super) rows: Vec<Row>,
}

impl Link {
    /// Bytes of its keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(Row::bytes).sum()
    }
}

/// Apart from the tags of other protocols, so that who watches the frames between nodes takes none for another's.
const ROWS: u8 = 101;
const VECTOR: u8 = 102;
const FETCH: u8 = 103;
const GONE: u8 = 104;
const LOOK: u8 = 105;
const FOUND: u8 = 106;
const SENT: u8 = 107;

/// Whether these are the bytes of an answer.
pub(super) fn is_response(body: &[u8]) -> bool {
    matches!(body.first(), Some(&(SENT | GONE | FOUND)))
}

impl Message {
    /// Its bytes.
    pub(super) fn encode(&self) -> Bytes {
        let mut into = BytesMut::with_capacity(64);
        match self {
            Message::Rows { origin, link } => {
                into.put_u8(ROWS);
                put_uint(&mut into, u64::from(origin.0));
                put_version(&mut into, link.previous);
                put_version(&mut into, link.upto);
                put_list(&mut into, &link.rows, encode_row);
            }
            Message::Vector { have, asks } => {
                into.put_u8(VECTOR);
                put_vector(&mut into, have);
                into.put_u8(u8::from(*asks));
            }
            Message::Fetch { origin, after } => {
                into.put_u8(FETCH);
                put_uint(&mut into, u64::from(origin.0));
                put_version(&mut into, *after);
            }
            Message::Sent { origin } => {
                into.put_u8(SENT);
                put_uint(&mut into, u64::from(origin.0));
            }
            Message::Gone { origin } => {
                into.put_u8(GONE);
                put_uint(&mut into, u64::from(origin.0));
            }
            Message::Look { number, what } => {
                into.put_u8(LOOK);
                into.put_u64(*number);
                encode_look(&mut into, what);
            }
            Message::Found { number, found, have } => {
                into.put_u8(FOUND);
                into.put_u64(*number);
                encode_found(&mut into, found);
                put_vector(&mut into, have);
            }
        }
        into.freeze()
    }

    /// From its bytes; rows share them.
    pub(super) fn decode(body: &Bytes) -> Result<Message, Malformed> {
        let mut reader = Reader::new(body.clone());
        let message = match reader.u8()? {
            ROWS => {
                let origin = replica(&mut reader)?;
                let (previous, upto) = (reader.version()?, reader.version()?);
                let rows = reader.list(decode_row)?;
                if previous >= upto || rows.iter().any(|row| row.version > upto) {
                    return Err(Malformed("a link of rows ends before it begins"));
                }
                Message::Rows { origin, link: Link { previous, upto, rows } }
            }
            VECTOR => Message::Vector { have: decode_vector(&mut reader)?, asks: reader.bool()? },
            FETCH => Message::Fetch { origin: replica(&mut reader)?, after: reader.version()? },
            SENT => Message::Sent { origin: replica(&mut reader)? },
            GONE => Message::Gone { origin: replica(&mut reader)? },
            LOOK => Message::Look { number: reader.u64()?, what: decode_look(&mut reader)? },
            FOUND => Message::Found {
                number: reader.u64()?,
                found: decode_found(&mut reader)?,
                have: decode_vector(&mut reader)?,
            },
            _ => return Err(Malformed("a message of a broadcast shard has an unknown tag")),
        };
        reader.end()?;
        Ok(message)
    }
}

fn replica(reader: &mut Reader) -> Result<ReplicaId, Malformed> {
    match ReplicaId(reader.u16()?) {
        replica if (1..=ReplicaId::MAX.0).contains(&replica.0) => Ok(replica),
        _ => Err(Malformed("a message names a replica that is none")),
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Rows { origin, link: Link { previous, upto, rows } } => {
                let (previous, upto) = (show_version(*previous), show_version(*upto));
                write!(f, "rows of {origin} above {previous} to {upto}: {}", show_rows(rows))
            }
            Message::Vector { have, asks } => {
                write!(f, "has {}{}", show_vector(have), if *asks { ", and you?" } else { "" })
            }
            Message::Fetch { origin, after } => {
                write!(f, "fetch of {origin} above {}", show_version(*after))
            }
            Message::Sent { origin } => write!(f, "of {origin} that is sent"),
            Message::Gone { origin } => write!(f, "of {origin} that is gone: compare"),
            Message::Look { number, what } => write!(f, "#{number} look {}", show_look(what)),
            Message::Found { number, found, have } => {
                write!(f, "#{number} found {}, has {}", show_found(found), show_vector(have))
            }
        }
    }
}
