//! The messages of a quorum shard: plain data, and its bytes.
//!
//! Each names the lives of both ends: who has started again takes nothing that was meant for it before, and nobody takes from it what it
//! said before. A question has a number, that of its round and the step there, and its answer has the same: what is late or doubled is
//! told by it.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_list, put_uint, put_version};
use kv::merged::{
    Found, Look, Named, Row, decode_found, decode_look, decode_named, decode_row, encode_found, encode_look,
    encode_named, encode_row,
};
use kv::{NodeId, Version};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The life of who says it, and the one of who is to hear it.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) at: Step,
    pub(super) said: Said,
}

/// A step of a round of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    /// Rises with each round of a life; starts at 1.
    pub(super) round: u64,
    /// Rises with each question of the round; starts at 1.
    pub(super) step: u32,
}

/// What one replica says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// What do you hold of this?
    Look(Look),
    /// What do you hold of this, now that you take no store any more? Answered by who is sealed.
    Inherit(Look),
    /// Merge these rows.
    Store(Vec<Row>),
    /// End all that you opened before, and say so.
    Close,
    /// All have these tombstones, and all rounds that these words name are over: they go.
    Collect(Vec<Named>, Vec<Word>),
    /// This is held, and no row that was ever held has a later version.
    Found(Found, Version),
    /// It is merged, or collected, durably.
    Stored,
    /// All rounds up to this one are over.
    Closed(u64),
}

/// The word of a member that all its rounds up to one are over: nothing of them is sent any more, and what is under way counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) node: NodeId,
    pub(super) life: u64,
    pub(super) round: u64,
}

/// Apart from the tags of other protocols, so that who watches the frames between nodes takes none for another's.
const LOOK: u8 = 81;
const STORE: u8 = 82;
const CLOSE: u8 = 83;
const COLLECT: u8 = 84;
const FOUND: u8 = 85;
const STORED: u8 = 86;
const CLOSED: u8 = 87;
const INHERIT: u8 = 88;

/// About so many bytes a message takes beside its rows, and each row beside its key and value.
const HEAD_BYTES: usize = 64;

/// Whether these are the bytes of an answer.
pub(super) fn is_response(body: &[u8]) -> bool {
    matches!(body.first(), Some(&(FOUND | STORED | CLOSED)))
}

impl Message {
    /// Its bytes.
    pub(super) fn encode(&self) -> Bytes {
        self.said.encode(self.from, self.to, self.at)
    }

    /// From its bytes; rows share them.
    pub(super) fn decode(body: &Bytes) -> Result<Message, Malformed> {
        let mut reader = Reader::new(body.clone());
        let tag = reader.u8()?;
        let (from, to) = (reader.u64()?, reader.u64()?);
        let at = Step { round: reader.uint()?, step: reader.u32()? };
        let said = match tag {
            LOOK => Said::Look(decode_look(&mut reader)?),
            INHERIT => Said::Inherit(decode_look(&mut reader)?),
            STORE => Said::Store(reader.list(decode_row)?),
            CLOSE => Said::Close,
            COLLECT => Said::Collect(reader.list(decode_named)?, reader.list(Word::decode)?),
            FOUND => Said::Found(decode_found(&mut reader)?, reader.version()?),
            STORED => Said::Stored,
            CLOSED => Said::Closed(reader.uint()?),
            _ => return Err(Malformed("a message of a quorum shard has an unknown tag")),
        };
        reader.end()?;
        Ok(Message { from, to, at, said })
    }
}

impl Said {
    /// The bytes of a message that says it.
    pub(super) fn encode(&self, from: u64, to: u64, at: Step) -> Bytes {
        let mut into = BytesMut::with_capacity(HEAD_BYTES + self.bytes());
        into.put_u8(self.tag());
        into.put_u64(from);
        into.put_u64(to);
        put_uint(&mut into, at.round);
        put_uint(&mut into, u64::from(at.step));
        match self {
            Said::Look(look) | Said::Inherit(look) => encode_look(&mut into, look),
            Said::Store(rows) => put_list(&mut into, rows, encode_row),
            Said::Close | Said::Stored => {}
            Said::Collect(names, words) => {
                put_list(&mut into, names, encode_named);
                put_list(&mut into, words, |into, word| {
                    put_uint(into, word.node.0);
                    into.put_u64(word.life);
                    put_uint(into, word.round);
                });
            }
            Said::Found(found, last) => {
                encode_found(&mut into, found);
                put_version(&mut into, *last);
            }
            Said::Closed(round) => put_uint(&mut into, *round),
        }
        into.freeze()
    }

    /// About so many bytes it takes, where these are many: room that is there at once need not be made again and again.
    fn bytes(&self) -> usize {
        let of_rows = |rows: &[Row]| rows.iter().map(|row| row.bytes() + HEAD_BYTES).sum();
        match self {
            Said::Look(Look::Keys(keys)) => keys.iter().map(|key| key.len() + 4).sum(),
            Said::Store(rows) | Said::Found(Found::Rows { rows, .. }, _) => of_rows(rows),
            _ => 0,
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Said::Look(_) => LOOK,
            Said::Inherit(_) => INHERIT,
            Said::Store(_) => STORE,
            Said::Close => CLOSE,
            Said::Collect(..) => COLLECT,
            Said::Found(..) => FOUND,
            Said::Stored => STORED,
            Said::Closed(_) => CLOSED,
        }
    }
}

impl Word {
    fn decode(reader: &mut Reader) -> Result<Word, Malformed> {
        Ok(Word { node: NodeId(reader.uint()?), life: reader.u64()?, round: reader.uint()? })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.step)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.said)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Look(look) => write!(f, "look {}", show_look(look)),
            Said::Inherit(look) => write!(f, "inherit {}", show_look(look)),
            Said::Store(rows) => write!(f, "store [{}]", show_rows(rows)),
            Said::Close => write!(f, "close"),
            Said::Collect(names, words) => {
                let words = words.iter().map(|word| format!("n{}:{}", word.node, word.round));
                write!(f, "collect [{}] closed {{{}}}", show_names(names), Vec::from_iter(words).join(" "))
            }
            Said::Found(found, last) => {
                write!(f, "found {} last {}", show_found(found), show_version(*last))
            }
            Said::Stored => write!(f, "stored"),
            Said::Closed(round) => write!(f, "closed {round}"),
        }
    }
}

/// A version as its microsecond and its issuer: what a script can be read by.
pub(crate) fn show_version(version: Version) -> String {
    format!("{}.{}", version.micros(), version.replica())
}

/// Rows as `k@7.1=value` and `k@8.2-` for a tombstone.
pub(crate) fn show_rows(rows: &[Row]) -> String {
    let show = |row: &Row| {
        let value =
            row.value.as_ref().map_or_else(|| "-".into(), |value| format!("={}", value.escape_ascii()));
        let expired = if row.expired { "+" } else { "" };
        format!("{}@{}{expired}{value}", row.key.escape_ascii(), show_version(row.version))
    };
    Vec::from_iter(rows.iter().map(show)).join(" ")
}

fn show_names(names: &[Named]) -> String {
    let show = |(key, rank): &Named| format!("{}@{}", key.escape_ascii(), show_version(rank.version));
    Vec::from_iter(names.iter().map(show)).join(" ")
}

pub(crate) fn show_look(look: &Look) -> String {
    match look {
        Look::Keys(keys) => Vec::from_iter(keys.iter().map(|key| key.escape_ascii().to_string())).join(" "),
        Look::Range { from, to, after, .. } => {
            let to = to.as_ref().map_or(String::new(), |to| to.escape_ascii().to_string());
            let after = after.as_ref().map_or(String::new(), |key| format!(" behind {}", key.escape_ascii()));
            format!("{}..{to}{after}", from.escape_ascii())
        }
        Look::Digests { .. } => "digests".into(),
        Look::Buckets { buckets, .. } => format!("{} buckets", buckets.len()),
        Look::Rows(names) => format!("rows {}", show_names(names)),
        Look::AsOf { .. } => "what was the newest".into(),
        Look::Tombstones { .. } => "tombstones".into(),
    }
}

pub(crate) fn show_found(found: &Found) -> String {
    match found {
        Found::Rows { rows, .. } => format!("[{}]", show_rows(rows)),
        Found::Names { names, .. } => format!("[{}]", show_names(names)),
        Found::Digests(_) => "digests".into(),
    }
}

#[cfg(test)]
mod tests {
    use kv::ReplicaId;
    use kv::merged::Rank;

    use super::*;

    #[test]
    fn message_round_trips() {
        let version = Version::new(7, ReplicaId(2));
        let row = Row::tombstone("k".into(), version, None);
        let name = (row.key.clone(), Rank::of(version, false));
        let words = vec![Word { node: NodeId(3), life: u64::MAX, round: 300 }];
        for said in [
            Said::Look(Look::Keys(vec!["k".into()])),
            Said::Inherit(Look::Tombstones { after: None }),
            Said::Store(vec![row.clone()]),
            Said::Close,
            Said::Collect(vec![name], words),
            Said::Found(Found::Rows { rows: vec![row], next: None }, version),
            Said::Stored,
            Said::Closed(9),
        ] {
            let message = Message { from: 1, to: u64::MAX, at: Step { round: 300, step: 2 }, said };
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn message_garbled_is_refused() {
        for garbled in [&b""[..], b"\x51", b"\x09\x01"] {
            assert!(Message::decode(&Bytes::copy_from_slice(garbled)).is_err());
        }
        let message = Message { from: 1, to: 2, at: Step { round: 1, step: 1 }, said: Said::Stored };
        let long = [&message.encode()[..], b"\x00"].concat();
        assert!(Message::decode(&Bytes::from(long)).is_err());
    }
}
