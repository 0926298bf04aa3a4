//! The bytes of what is asked of the directory, and of its answers.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Malformed, Reader, keyspace, put_bytes, put_list, put_option, put_uint};
use crate::admin::{Answer, Ask, Joining, Move, Phase, Row, Ruled, Ruling, Why};
use crate::cluster::NodeDuty;
use crate::view::Change;
use crate::{ClusterId, NodeId, ShardId};

/// Writes an ask.
pub fn encode_ask(into: &mut BytesMut, ask: &Ask) {
    match ask {
        Ask::Join(joining) => {
            into.put_u8(1);
            encode_joining(into, joining);
        }
        Ask::Node { name, duty, fewer, dry_run } => {
            into.put_u8(2);
            put_text(into, name);
            encode_duty(into, *duty);
            into.put_u8(u8::from(*fewer));
            into.put_u8(u8::from(*dry_run));
        }
        Ask::Replace { name, lose, dry_run } => {
            into.put_u8(3);
            put_text(into, name);
            into.put_u8(u8::from(*lose));
            into.put_u8(u8::from(*dry_run));
        }
        Ask::Abort { shard } => {
            into.put_u8(4);
            put_uint(into, u64::from(shard.0));
        }
        Ask::Moves => into.put_u8(5),
        Ask::Dump => into.put_u8(6),
        Ask::CreateKeyspace { name, wish } => {
            into.put_u8(7);
            put_text(into, name);
            keyspace::encode_wish(into, wish);
        }
        Ask::AlterKeyspace { name, wish, dry_run } => {
            into.put_u8(8);
            put_text(into, name);
            keyspace::encode_wish(into, wish);
            into.put_u8(u8::from(*dry_run));
        }
        Ask::DropKeyspace { name } => {
            into.put_u8(9);
            put_text(into, name);
        }
        Ask::Keyspaces => into.put_u8(10),
        Ask::Revise { shard, change } => {
            into.put_u8(11);
            put_uint(into, u64::from(shard.0));
            change.encode(into);
        }
        Ask::Rule { keyspace, ruling, dry_run } => {
            into.put_u8(12);
            put_text(into, keyspace);
            into.put_u8(match ruling {
                Ruling::ForcePrimary { .. } => 1,
                Ruling::DeclareDead { .. } => 2,
            });
            put_text(into, ruling.node());
            into.put_u8(u8::from(*dry_run));
        }
        Ask::Zone { name, secondaries } => {
            into.put_u8(13);
            put_text(into, name);
            put_option(into, *secondaries, |into, count| put_uint(into, count.into()));
        }
    }
}

/// Reads an ask.
pub fn decode_ask(reader: &mut Reader) -> Result<Ask, Malformed> {
    Ok(match reader.u8()? {
        1 => Ask::Join(decode_joining(reader)?),
        2 => Ask::Node {
            name: reader.text()?,
            duty: decode_duty(reader)?,
            fewer: reader.bool()?,
            dry_run: reader.bool()?,
        },
        3 => Ask::Replace { name: reader.text()?, lose: reader.bool()?, dry_run: reader.bool()? },
        4 => Ask::Abort { shard: ShardId(reader.u32()?) },
        5 => Ask::Moves,
        6 => Ask::Dump,
        7 => Ask::CreateKeyspace { name: reader.text()?, wish: keyspace::decode_wish(reader)? },
        8 => Ask::AlterKeyspace {
            name: reader.text()?,
            wish: keyspace::decode_wish(reader)?,
            dry_run: reader.bool()?,
        },
        9 => Ask::DropKeyspace { name: reader.text()? },
        10 => Ask::Keyspaces,
        11 => Ask::Revise { shard: ShardId(reader.u32()?), change: Change::decode(reader)? },
        12 => Ask::Rule {
            keyspace: reader.text()?,
            ruling: match (reader.u8()?, reader.text()?) {
                (1, node) => Ruling::ForcePrimary { node },
                (2, node) => Ruling::DeclareDead { node },
                _ => return Err(Malformed("a ruling has an unknown tag")),
            },
            dry_run: reader.bool()?,
        },
        13 => Ask::Zone { name: reader.text()?, secondaries: reader.option(Reader::u16)? },
        _ => return Err(Malformed("an ask has an unknown tag")),
    })
}

/// Writes the answer to an ask.
pub fn encode_asked(into: &mut BytesMut, answer: &Answer) {
    match answer {
        // Whoever is asked adds the lives, for the newcomer alone.
        Answer::Joined { node, cluster, map, lives: _ } => {
            into.put_u8(1);
            put_uint(into, node.0);
            into.put_u64(cluster.get());
            put_bytes(into, map);
        }
        Answer::Done => into.put_u8(2),
        Answer::Moves(moves) => {
            into.put_u8(3);
            put_list(into, moves, encode_move);
        }
        Answer::Rows(rows) => {
            into.put_u8(4);
            put_list(into, rows, |into, row| {
                put_text(into, &row.key);
                put_text(into, &row.value);
            });
        }
        Answer::Keyspaces(keyspaces) => {
            into.put_u8(5);
            put_list(into, keyspaces, keyspace::encode_described);
        }
        Answer::Ruled(shards) => {
            into.put_u8(6);
            put_list(into, shards, |into, ruled| {
                put_uint(into, u64::from(ruled.shard.0));
                into.put_u8(u8::from(ruled.done));
                put_text(into, &ruled.why);
            });
        }
    }
}

/// Reads the answer to an ask.
pub fn decode_asked(reader: &mut Reader) -> Result<Answer, Malformed> {
    Ok(match reader.u8()? {
        1 => {
            let (node, cluster) = (NodeId(reader.uint()?), ClusterId::new(reader.u64()?));
            let cluster = cluster.ok_or(Malformed("a cluster has the id 0"))?;
            Answer::Joined { node, cluster, map: reader.bytes()?, lives: Bytes::new() }
        }
        2 => Answer::Done,
        3 => Answer::Moves(reader.list(decode_move)?),
        4 => Answer::Rows(reader.list(|reader| Ok(Row { key: reader.text()?, value: reader.text()? }))?),
        5 => Answer::Keyspaces(reader.list(keyspace::decode_described)?),
        6 => Answer::Ruled(reader.list(|reader| {
            Ok(Ruled { shard: ShardId(reader.u32()?), done: reader.bool()?, why: reader.text()? })
        })?),
        _ => return Err(Malformed("the answer to an ask has an unknown tag")),
    })
}

/// Writes what a node is asked to do.
pub fn encode_duty(into: &mut BytesMut, duty: NodeDuty) {
    into.put_u8(match duty {
        NodeDuty::Serve => 1,
        NodeDuty::Drain => 2,
        NodeDuty::Leave => 3,
        NodeDuty::Gone => 4,
    });
}

/// Reads what a node is asked to do.
pub fn decode_duty(reader: &mut Reader) -> Result<NodeDuty, Malformed> {
    Ok(match reader.u8()? {
        1 => NodeDuty::Serve,
        2 => NodeDuty::Drain,
        3 => NodeDuty::Leave,
        4 => NodeDuty::Gone,
        _ => return Err(Malformed("a node has an unknown duty")),
    })
}

/// Writes why members of a shard change.
pub fn encode_why(into: &mut BytesMut, why: Why) {
    match why {
        Why::Balance => into.put_u8(1),
        Why::Leaves(node) => {
            into.put_u8(2);
            put_uint(into, node.0);
        }
        Why::Lost(node) => {
            into.put_u8(3);
            put_uint(into, node.0);
        }
        Why::Repair => into.put_u8(4),
        Why::Split => into.put_u8(5),
        Why::Protocol => into.put_u8(6),
    }
}

/// Reads why members of a shard change.
pub fn decode_why(reader: &mut Reader) -> Result<Why, Malformed> {
    Ok(match reader.u8()? {
        1 => Why::Balance,
        2 => Why::Leaves(NodeId(reader.uint()?)),
        3 => Why::Lost(NodeId(reader.uint()?)),
        4 => Why::Repair,
        5 => Why::Split,
        6 => Why::Protocol,
        _ => return Err(Malformed("a change of members has an unknown reason")),
    })
}

fn encode_joining(into: &mut BytesMut, joining: &Joining) {
    put_text(into, &joining.name);
    into.put_u64(joining.incarnation);
    put_text(into, &joining.peer);
    put_text(into, &joining.address);
    put_text(into, &joining.zone);
}

fn decode_joining(reader: &mut Reader) -> Result<Joining, Malformed> {
    Ok(Joining {
        name: reader.text()?,
        incarnation: reader.u64()?,
        peer: reader.text()?,
        address: reader.text()?,
        zone: reader.text()?,
    })
}

fn encode_move(into: &mut BytesMut, moved: &Move) {
    put_uint(into, u64::from(moved.shard.0));
    put_text(into, &moved.keyspace);
    put_option(into, moved.from, |into, node| put_uint(into, node.0));
    put_option(into, moved.to, |into, node| put_uint(into, node.0));
    into.put_u8(match moved.phase {
        Phase::Planned => 1,
        Phase::Copy => 2,
        Phase::Switch => 3,
    });
    encode_why(into, moved.why);
    put_uint(into, moved.bytes_done);
    put_uint(into, moved.bytes_total);
    put_uint(into, moved.elapsed_micros);
}

fn decode_move(reader: &mut Reader) -> Result<Move, Malformed> {
    Ok(Move {
        shard: ShardId(reader.u32()?),
        keyspace: reader.text()?,
        from: reader.option(node)?,
        to: reader.option(node)?,
        phase: match reader.u8()? {
            1 => Phase::Planned,
            2 => Phase::Copy,
            3 => Phase::Switch,
            _ => return Err(Malformed("a move has an unknown phase")),
        },
        why: decode_why(reader)?,
        bytes_done: reader.uint()?,
        bytes_total: reader.uint()?,
        elapsed_micros: reader.uint()?,
    })
}

fn node(reader: &mut Reader) -> Result<NodeId, Malformed> {
    reader.uint().map(NodeId)
}

fn put_text(into: &mut BytesMut, text: &str) {
    put_bytes(into, text.as_bytes());
}
