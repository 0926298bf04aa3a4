//! What nodes say to each other on their ordered connections.
//!
//! A frame is a tag and its fields in kv's codec; the transport puts its length before it. The first frame on every new
//! connection is [`Frame::Greet`]: each replica says what the one on the other node must know first. One that is made later does so
//! then, and is answered likewise.

mod announcement;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kv::admin::{Answer, Ask};
use kv::cluster::Role;
use kv::codec::{self, Malformed, Reader};
use kv::keyspace::Usage;
use kv::{Epoch, Error, Level, NodeId, Position, Reply, ShardId};
use placement::map::Map;
use replication::{Revision, View};

use crate::watch::{Pull, Pulled};

/// One message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message of a shard's protocol.
    Protocol {
        /// The shard.
        shard: ShardId,
        /// The sender's epoch of it.
        epoch: Epoch,
        /// The revision that the sender knows.
        revision: Revision,
        /// The protocol's own bytes.
        body: Bytes,
    },
    /// Please serve this: you lead its shard.
    Forward {
        /// The sender's name for it.
        token: u64,
        /// The shard.
        shard: ShardId,
        /// How fresh, if it is a read.
        level: Level,
        /// How long the sender will wait, in milliseconds.
        millis: u64,
        /// It may have been run before: by the same node, or by one that died with what it knew of it.
        again: bool,
        /// The op ([`kv::Stamped`] bytes).
        op: Bytes,
    },
    /// What became of a forwarded request.
    Answer {
        /// The name it was forwarded under.
        token: u64,
        /// Its shard: the asking node's core of it has the request.
        shard: ShardId,
        /// Its result.
        result: Result<Reply, Error>,
    },
    /// What replicas of the sender say first.
    Greet {
        /// One a replica.
        greetings: Vec<Greeting>,
        /// The connection has stood for a while: what do those on the other node say?
        wants: bool,
    },
    /// These are the members of this shard, as far as the sender knows.
    View {
        /// The shard.
        shard: ShardId,
        /// Its members.
        view: View,
    },
    /// You know of later members of this shard than the sender: who are they?
    WantView {
        /// The shard.
        shard: ShardId,
    },
    /// I am alive, and this is how my replicas are.
    Announce(Announcement),
    /// You know a later map than the sender: what is it?
    WantMap,
    /// Where everything is, as far as the sender knows.
    Map(Arc<Map>),
    /// The shard is handed over to the sender: send a copy of it.
    WantCopy {
        /// The shard.
        shard: ShardId,
        /// The epoch that ends with it.
        epoch: Epoch,
    },
    /// The sender has a copy: what came after it?
    WantTail {
        /// The shard.
        shard: ShardId,
        /// The epoch that ends with it.
        epoch: Epoch,
        /// What the copy has applied.
        above: Position,
    },
    /// What came after a copy.
    Tail {
        /// The shard.
        shard: ShardId,
        /// The epoch that ends with it.
        epoch: Epoch,
        /// What the copy has applied.
        above: Position,
        /// The entries that follow, in order, as far as they fit; `None` = they are gone, and another copy is needed.
        entries: Option<Vec<(Position, Bytes)>>,
        /// The last entry that the epoch ever has, once that is known.
        sealed: Option<Position>,
    },
    /// Please decide this: you lead the directory.
    Ask {
        /// The sender's name for it.
        token: u64,
        /// What is asked.
        ask: Ask,
    },
    /// What comes next of this shard, for a watch at the sender? (The shard is the pull's.)
    Pull {
        /// The sender's name for it.
        token: u64,
        /// What is asked.
        pull: Pull,
    },
    /// What a pull is answered.
    Pulled {
        /// The name it was asked under.
        token: u64,
        /// Its shard: the asking node's core of it has the pull.
        shard: ShardId,
        /// `None` = this node has nothing for it.
        answer: Option<Pulled>,
    },
    /// What the directory answers.
    Told {
        /// The name it was asked under.
        token: u64,
        /// The answer.
        result: Result<Answer, Error>,
    },
}

/// What a replica says first to the one of the same shard on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The shard.
    pub shard: ShardId,
    /// The sender's epoch of it.
    pub epoch: Epoch,
    /// The protocol's own bytes.
    pub hello: Bytes,
}

/// What a node tells of itself, once a second and on every new connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Its version clock, in microseconds since 1970.
    pub clock: u64,
    /// Whether that is the time that the cluster lives by.
    pub clock_settled: bool,
    /// Its process id.
    pub pid: u32,
    /// Where its clients connect.
    pub address: String,
    /// Where other nodes connect; empty = nowhere.
    pub peer: String,
    /// What fails together with it; empty = a zone of its own.
    pub zone: String,
    /// The life of its data folder; 0 = it has none.
    pub incarnation: u64,
    /// Its disk has no room for new work.
    pub disk_full: bool,
    /// It hands over what it leads, and takes nothing new.
    pub stopping: bool,
    /// The revision of the map that it knows.
    pub map: u64,
    /// The revision of a map that all its cores act on and that is in its log: it does not fall back behind that, over a restart neither.
    /// 0 = this core cannot say so.
    pub kept: u64,
    /// Those of its replicas that are not as it announced last; all of a core on a new connection, and now and then.
    pub replicas: Vec<Announced>,
}

/// One replica of the announcing node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its shard.
    pub shard: ShardId,
    /// The epoch that it serves.
    pub epoch: Epoch,
    /// The revision of its members that it knows.
    pub revision: Revision,
    /// Those members and their duties, as a number by which they are told from others.
    pub members: u64,
    /// How far those are that are to become members, if it leads.
    pub newcomers: Newcomers,
    /// What it is.
    pub role: Role,
    /// Whom it follows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// What it has applied.
    pub applied: u64,
    /// How many reads it has answered by itself, where another one orders.
    pub lease_reads: u64,
    /// What its shard holds by then.
    pub usage: Usage,
    /// What has been copied to members that learn, if it leads.
    pub copied: Vec<(NodeId, Copied)>,
    /// The nodes that it is handed over to and that have a copy of it, as far as this one knows.
    pub heirs: Vec<NodeId>,
}

/// How far those are that are to become members of a shard, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomers {
    /// One of them at least has to catch up.
    Behind,
    /// All that learn have caught up; too where nobody learns.
    Ready,
    /// One of them was a member, was let go, and is not taken again under its number: others must be asked for.
    Gone,
}

/// How far a copy is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// What has been sent.
    pub done: u64,
    /// All of it; 0 = not known yet.
    pub total: u64,
}

const NO_MAP: Malformed = Malformed("the map in a frame makes no sense");

impl Frame {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        if let Frame::Protocol { shard, epoch, revision, body } = self {
            return encode_of_protocol([u64::from(shard.0), epoch.0, revision.0], body);
        }
        let mut into = BytesMut::with_capacity(self.size_hint());
        match self {
            Frame::Protocol { .. } => unreachable!("it was encoded before"),
            Frame::Forward { token, shard, level, millis, again, op } => {
                into.put_u8(2);
                into.put_u64(*token);
                codec::put_uint(&mut into, u64::from(shard.0));
                codec::encode_level(&mut into, *level);
                codec::put_uint(&mut into, *millis);
                into.put_u8(u8::from(*again));
                into.put_slice(op);
            }
            Frame::Answer { token, shard, result } => {
                into.put_u8(3);
                into.put_u64(*token);
                codec::put_uint(&mut into, u64::from(shard.0));
                codec::encode_result(&mut into, result, codec::encode_reply);
            }
            Frame::Greet { greetings, wants } => {
                into.put_u8(4);
                into.put_u8(u8::from(*wants));
                codec::put_list(&mut into, greetings, |into, greeting| {
                    codec::put_uint(into, u64::from(greeting.shard.0));
                    codec::put_uint(into, greeting.epoch.0);
                    codec::put_bytes(into, &greeting.hello);
                });
            }
            Frame::View { shard, view } => {
                into.put_u8(5);
                codec::put_uint(&mut into, u64::from(shard.0));
                view.encode(&mut into);
            }
            Frame::WantView { shard } => {
                into.put_u8(7);
                codec::put_uint(&mut into, u64::from(shard.0));
            }
            Frame::Announce(announcement) => {
                into.put_u8(6);
                announcement.encode(&mut into);
            }
            Frame::WantMap => into.put_u8(8),
            Frame::WantCopy { .. } | Frame::WantTail { .. } | Frame::Tail { .. } => {
                self.encode_of_handover(&mut into);
            }
            Frame::Ask { token, ask } => {
                into.put_u8(10);
                into.put_u64(*token);
                codec::encode_ask(&mut into, ask);
            }
            Frame::Told { token, result } => {
                into.put_u8(11);
                into.put_u64(*token);
                codec::encode_result(&mut into, result, codec::encode_asked);
            }
            Frame::Pull { .. } | Frame::Pulled { .. } => self.encode_of_watch(&mut into),
            Frame::Map(map) => {
                into.put_u8(9);
                into.put_slice(&map.encode());
            }
        }
        into.freeze()
    }

    /// Whether it answers what another node asked. What a protocol says, that protocol knows itself.
    pub fn is_response(&self) -> bool {
        matches!(self, Frame::Answer { .. } | Frame::Told { .. } | Frame::Pulled { .. } | Frame::Tail { .. })
    }

    /// The bytes of what a watch asks and is answered.
    fn encode_of_watch(&self, into: &mut BytesMut) {
        match self {
            Frame::Pull { token, pull } => {
                into.put_u8(15);
                into.put_u64(*token);
                pull.encode(into);
            }
            Frame::Pulled { token, shard, answer } => {
                into.put_u8(16);
                into.put_u64(*token);
                codec::put_uint(into, u64::from(shard.0));
                codec::put_option(into, answer.as_ref(), |into, answer| answer.encode(into));
            }
            other => unreachable!("{other:?} is not of a watch"),
        }
    }

    /// The bytes of what an heir asks and is answered.
    fn encode_of_handover(&self, into: &mut BytesMut) {
        match self {
            Frame::WantCopy { shard, epoch } => {
                into.put_u8(12);
                codec::put_uint(into, u64::from(shard.0));
                codec::put_uint(into, epoch.0);
            }
            Frame::WantTail { shard, epoch, above } => {
                into.put_u8(13);
                put_tail_head(into, *shard, *epoch, *above);
            }
            Frame::Tail { shard, epoch, above, entries, sealed } => {
                into.put_u8(14);
                put_tail_head(into, *shard, *epoch, *above);
                codec::put_option(into, entries.as_ref(), |into, entries| {
                    codec::put_list(into, entries, |into, (at, entry)| {
                        put_position(into, *at);
                        codec::put_bytes(into, entry);
                    });
                });
                codec::put_option(into, *sealed, put_position);
            }
            other => unreachable!("{other:?} is not of a shard that is handed over"),
        }
    }

    /// From its bytes; the bodies share them.
    pub fn decode(bytes: &Bytes) -> Result<Frame, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let frame = match reader.u8()? {
            1 => {
                let (shard, epoch) = (ShardId(reader.u32()?), Epoch(reader.uint()?));
                let revision = Revision(reader.uint()?);
                return Ok(Frame::Protocol { shard, epoch, revision, body: reader.rest() });
            }
            2 => {
                let (token, shard) = (reader.u64()?, ShardId(reader.u32()?));
                let (level, millis) = (codec::decode_level(&mut reader)?, reader.uint()?);
                let again = reader.bool()?;
                return Ok(Frame::Forward { token, shard, level, millis, again, op: reader.rest() });
            }
            3 => Frame::Answer {
                token: reader.u64()?,
                shard: ShardId(reader.u32()?),
                result: codec::decode_result(&mut reader, codec::decode_reply)?,
            },
            4 => {
                let wants = reader.bool()?;
                let greetings = reader.list(|reader| {
                    let (shard, epoch) = (ShardId(reader.u32()?), Epoch(reader.uint()?));
                    Ok(Greeting { shard, epoch, hello: reader.bytes()? })
                })?;
                Frame::Greet { greetings, wants }
            }
            5 => Frame::View { shard: ShardId(reader.u32()?), view: View::decode(&mut reader)? },
            7 => Frame::WantView { shard: ShardId(reader.u32()?) },
            6 => Frame::Announce(Announcement::decode(&mut reader)?),
            8 => Frame::WantMap,
            12 => Frame::WantCopy { shard: ShardId(reader.u32()?), epoch: Epoch(reader.uint()?) },
            13 => {
                let (shard, epoch, above) = tail_head(&mut reader)?;
                Frame::WantTail { shard, epoch, above }
            }
            14 => {
                let (shard, epoch, above) = tail_head(&mut reader)?;
                let entry = |reader: &mut Reader| Ok((position(reader)?, reader.bytes()?));
                let entries = reader.option(|reader| reader.list(entry))?;
                Frame::Tail { shard, epoch, above, entries, sealed: reader.option(position)? }
            }
            10 => Frame::Ask { token: reader.u64()?, ask: codec::decode_ask(&mut reader)? },
            11 => Frame::Told {
                token: reader.u64()?,
                result: codec::decode_result(&mut reader, codec::decode_asked)?,
            },
            15 => Frame::Pull { token: reader.u64()?, pull: Pull::decode(&mut reader)? },
            16 => Frame::Pulled {
                token: reader.u64()?,
                shard: ShardId(reader.u32()?),
                answer: reader.option(Pulled::decode)?,
            },
            9 => {
                let map = Map::decode(&reader.rest());
                return map.map(|map| Frame::Map(Arc::new(map))).map_err(|_| NO_MAP);
            }
            _ => return Err(Malformed("a frame has an unknown tag")),
        };
        reader.end()?;
        Ok(frame)
    }

    /// The shard a frame is for; `None` = the whole node, each of its cores. Cheap: frames are dealt to cores by it.
    pub fn shard_of(bytes: &Bytes) -> Option<ShardId> {
        let mut reader = Reader::new(bytes.clone());
        match reader.u8().ok()? {
            1 | 5 | 7 | 12..=14 => reader.u32().ok().map(ShardId),
            2 | 3 | 15 | 16 => {
                reader.u64().ok()?;
                reader.u32().ok().map(ShardId)
            }
            10 | 11 => Some(ShardId::DIRECTORY),
            _ => None,
        }
    }

    /// Whether it is a [`Frame::Protocol`], which is all that comes over a bus. Cheap.
    pub fn is_of_protocol(bytes: &Bytes) -> bool {
        bytes.first() == Some(&1)
    }

    /// Whether it is a [`Frame::View`] or a [`Frame::WantView`]. Cheap.
    pub(crate) fn is_of_members(bytes: &Bytes) -> bool {
        matches!(bytes.first(), Some(5 | 7))
    }

    fn size_hint(&self) -> usize {
        match self {
            Frame::Forward { op, .. } => 40 + op.len(),
            Frame::Pulled { answer: Some(Pulled::Given(given)), .. } => {
                128 + given.changes.iter().map(|change| 64 + change.bytes()).sum::<usize>()
            }
            Frame::Tail { entries: Some(entries), .. } => {
                128 + entries.iter().map(|(_, entry)| 32 + entry.len()).sum::<usize>()
            }
            _ => 128,
        }
    }
}

/// In as many bytes as it has: these are most of all frames, and more room costs a second allocation.
fn encode_of_protocol(numbers: [u64; 3], body: &[u8]) -> Bytes {
    let head = 1 + numbers.map(codec::uint_bytes).iter().sum::<usize>();
    let mut into = Vec::with_capacity(head + body.len());
    into.put_u8(1);
    numbers.into_iter().for_each(|number| codec::put_uint(&mut into, number));
    into.put_slice(body);
    into.into()
}

fn put_tail_head(into: &mut BytesMut, shard: ShardId, epoch: Epoch, above: Position) {
    codec::put_uint(into, u64::from(shard.0));
    codec::put_uint(into, epoch.0);
    put_position(into, above);
}

fn tail_head(reader: &mut Reader) -> Result<(ShardId, Epoch, Position), Malformed> {
    Ok((ShardId(reader.u32()?), Epoch(reader.uint()?), position(reader)?))
}

fn put_position(into: &mut BytesMut, at: Position) {
    codec::put_uint(into, at.index.0);
    codec::put_uint(into, at.term.0);
}

fn position(reader: &mut Reader) -> Result<Position, Malformed> {
    Ok(Position::new(reader.uint()?, reader.uint()?))
}
