//! The map as rows: the keys and values of the directory's shard, and the same as one string of bytes for frames and the log.
//!
//! | key | value |
//! |---|---|
//! | `revision` | the revision |
//! | `cluster` | the cluster's id if it is known, the next ids of nodes and of shards |
//! | `keyspace/NAME` | protocol, replicas, arrangement, what is kept of keys, quota, whom a write waits for |
//! | `node/ID` | name, incarnation, addresses, zone, duty, state |
//! | `shard/ID` | keyspace, slots, protocol, members under epoch and revision, leader, the next number of a replica |
//! | `change/SHARD` | members under their epoch, phase, why |
//! | `split/SHARD` | how many shards it is to become, which ones, once that has begun, and the protocol, where it is another |
//! | `zone/NAME` | how many secondaries a write waits for that is led in it |
//! | `dropped/NAME` | the revision from which on there is no such keyspace, and who may serve it yet |
//!
//! Ids are decimal and of fixed width, so that rows sort like ids. Each value begins with a byte for its format; fields as in
//! [`kv::codec`]. A map of revision 0 has no rows.
//!
//! A change of the map is one transaction: it holds only while the revision row is the one that was read.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kv::cluster::Liveness;
use kv::codec::{
    Malformed, Reader, decode_bus, decode_duty, decode_keep, decode_protocol, decode_quota, decode_sync,
    decode_weighed, decode_why, encode_bus, encode_duty, encode_keep, encode_protocol, encode_sync,
    encode_weighed, encode_why, put_bytes, put_list, put_option, put_uint,
};
use kv::keyspace::Bus;
use kv::view::{Revision, View};
use kv::{
    ClusterId, Condition, Epoch, Expect, Key, NodeId, Op, Protocol, ReplicaId, Row, ShardId, Slot, SlotRange,
    Value,
};

use crate::map::{
    Arrangement, Change, Dropped, Holders, Keyspace, Map, Node, Part, Phase, Shard, Split, Zone,
};

/// The row that every change of the map writes, and looks at first.
pub const REVISION: Key = Bytes::from_static(b"revision");
/// Of the rows' values.
const FORMAT: u8 = 1;

/// Why rows are no map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// One of them is none.
    #[error("the directory's row '{row}': {why}")]
    Row {
        /// Its key.
        row: String,
        /// Why.
        why: Malformed,
    },
    /// They do not fit together.
    #[error("the directory's rows do not fit together: {0}")]
    Map(String),
    /// They are no list of rows.
    #[error("the map as a whole: {0}")]
    Whole(Malformed),
}

impl Map {
    /// All its rows.
    pub fn rows(&self) -> BTreeMap<Key, Value> {
        let mut rows = BTreeMap::new();
        if self.revision == 0 {
            return rows;
        }
        rows.insert(REVISION, row(|into| put_uint(into, self.revision)));
        rows.insert(Bytes::from_static(b"cluster"), row(|into| self.put_cluster(into)));
        for (name, keyspace) in &self.keyspaces {
            rows.insert(format!("keyspace/{name}").into(), row(|into| put_keyspace(into, keyspace)));
        }
        for (id, node) in &self.nodes {
            rows.insert(format!("node/{:020}", id.0).into(), row(|into| put_node(into, node)));
        }
        for (id, shard) in &self.shards {
            rows.insert(format!("shard/{:010}", id.0).into(), row(|into| put_shard(into, shard)));
        }
        for (id, change) in &self.changes {
            rows.insert(format!("change/{:010}", id.0).into(), row(|into| put_change(into, change)));
        }
        for (id, split) in &self.splits {
            rows.insert(format!("split/{:010}", id.0).into(), row(|into| put_split(into, split)));
        }
        for (name, zone) in &self.zones {
            rows.insert(format!("zone/{name}").into(), row(|into| put_uint(into, zone.secondaries.into())));
        }
        for (name, dropped) in &self.dropped {
            rows.insert(format!("dropped/{name}").into(), row(|into| put_dropped(into, dropped)));
        }
        rows
    }

    /// The map that has these rows, no more and no fewer, and all of which holds what must ([`Map::check`]).
    pub fn from_rows(rows: &BTreeMap<Key, Value>) -> Result<Map, Unreadable> {
        let mut map = Map::default();
        for (key, value) in rows {
            let row = || String::from_utf8_lossy(key).into_owned();
            map.take_row(key, value).map_err(|why| Unreadable::Row { row: row(), why })?;
        }
        map.check().map_err(Unreadable::Map)?;
        if map.rows().len() != rows.len() {
            return Err(Unreadable::Map("the row 'cluster' or 'revision' is missing".into()));
        }
        Ok(map)
    }

    /// All of it as bytes: its rows.
    pub fn encode(&self) -> Bytes {
        let rows: Vec<(Key, Value)> = self.rows().into_iter().collect();
        let mut into = BytesMut::new();
        put_list(&mut into, &rows, |into, (key, value)| {
            put_bytes(into, key);
            put_bytes(into, value);
        });
        into.freeze()
    }

    /// From its bytes.
    pub fn decode(bytes: &Bytes) -> Result<Map, Unreadable> {
        let mut reader = Reader::new(bytes.clone());
        let rows = reader.list(|reader| Ok((reader.bytes()?, reader.bytes()?))).map_err(Unreadable::Whole)?;
        reader.end().map_err(Unreadable::Whole)?;
        let count = rows.len();
        let rows: BTreeMap<Key, Value> = rows.into_iter().collect();
        if rows.len() != count {
            return Err(Unreadable::Whole(Malformed("a row is there twice")));
        }
        Map::from_rows(&rows)
    }

    /// The transaction that makes one map of another: it holds only when the directory is as `old` says.
    ///
    /// A founding writes all rows; any other change writes those that differ. Either is far below the limits of a transaction
    /// as long as nodes and shards together are.
    pub fn transaction(old: &Map, new: &Map) -> Op {
        let (before, after) = (old.rows(), new.rows());
        let expect = before.get(&REVISION).map_or(Expect::Absent, |row| Expect::Value(row.clone()));
        let differs = |(key, value): &(&Key, &Value)| before.get(*key) != Some(*value);
        let puts = after.iter().filter(differs).map(|(key, value)| Op::Put {
            key: key.clone(),
            value: value.clone(),
            deadline: None,
            previous: false,
        });
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        let deletes = gone.map(|key| Op::Delete { key: key.clone(), previous: false });
        Op::Transaction {
            conditions: vec![Condition { key: REVISION, expect }],
            then: puts.chain(deletes).collect(),
            otherwise: Vec::new(),
        }
    }

    /// The read whose answer shows which map the directory's is ([`Map::is_shown_by`]).
    pub fn question() -> Op {
        Op::Get { key: REVISION, at: None }
    }

    /// Whether the answer to [`Map::question`] shows that the directory is as this map says.
    pub fn is_shown_by(&self, row: Option<&Row>) -> bool {
        row.map(|row| &row.value) == self.rows().get(&REVISION)
    }

    fn put_cluster(&self, into: &mut BytesMut) {
        put_option(into, self.cluster, |into, cluster| into.put_u64(cluster.get()));
        put_uint(into, self.next_node.0);
        put_uint(into, u64::from(self.next_shard.0));
    }

    fn take_row(&mut self, key: &Key, value: &Value) -> Result<(), Malformed> {
        let mut reader = Reader::new(value.clone());
        if reader.u8()? != FORMAT {
            return Err(Malformed("it has an unknown format: another version of Capstan wrote it"));
        }
        let name = std::str::from_utf8(key).map_err(|_| NO_SUCH_ROW)?;
        match name.split_once('/') {
            None if name == "revision" => self.revision = reader.uint()?,
            None if name == "cluster" => self.take_cluster(&mut reader)?,
            Some(("keyspace", name)) => {
                self.keyspaces.insert(name.into(), keyspace(&mut reader)?);
            }
            Some(("node", id)) => {
                self.nodes.insert(NodeId(number(id, 20)?), node(&mut reader)?);
            }
            Some(("shard", id)) => {
                self.shards.insert(shard_id(id)?, shard(&mut reader)?);
            }
            Some(("change", id)) => {
                self.changes.insert(shard_id(id)?, change(&mut reader)?);
            }
            Some(("split", id)) => {
                self.splits.insert(shard_id(id)?, split(&mut reader)?);
            }
            Some(("zone", name)) => {
                self.zones.insert(name.into(), Zone { secondaries: reader.u16()? });
            }
            Some(("dropped", name)) => {
                self.dropped.insert(name.into(), dropped(&mut reader)?);
            }
            _ => return Err(NO_SUCH_ROW),
        }
        reader.end()
    }

    fn take_cluster(&mut self, reader: &mut Reader) -> Result<(), Malformed> {
        let id = |reader: &mut Reader| ClusterId::new(reader.u64()?).ok_or(Malformed("0 is no cluster"));
        self.cluster = reader.option(id)?;
        self.next_node = NodeId(reader.uint()?);
        self.next_shard = ShardId(reader.u32()?);
        Ok(())
    }
}

const NO_SUCH_ROW: Malformed = Malformed("there is no row of this name");

fn row(put: impl FnOnce(&mut BytesMut)) -> Value {
    let mut into = BytesMut::new();
    into.put_u8(FORMAT);
    put(&mut into);
    into.freeze()
}

/// A number of so many digits.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Result<T, Malformed> {
    let is_one = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_one).ok_or(Malformed("the id in its key is none"))
}

fn shard_id(text: &str) -> Result<ShardId, Malformed> {
    number(text, 10).map(ShardId)
}

fn put_keyspace(into: &mut BytesMut, keyspace: &Keyspace) {
    encode_protocol(into, keyspace.protocol);
    put_uint(into, u64::from(keyspace.replicas));
    into.put_u8(match keyspace.arrangement {
        Arrangement::Even => 1,
        Arrangement::Contiguous => 2,
        Arrangement::First => 3,
        Arrangement::Zones => 4,
    });
    encode_keep(into, &keyspace.keep);
    put_option(into, keyspace.quota.bytes, put_uint);
    put_option(into, keyspace.quota.keys, put_uint);
    if let Some(sync) = keyspace.sync {
        encode_sync(into, sync);
    }
    if keyspace.protocol == Protocol::Broadcast {
        encode_bus(into, &keyspace.bus);
    }
    if let Some(weighed) = keyspace.weighed {
        encode_weighed(into, weighed);
    }
}

fn keyspace(reader: &mut Reader) -> Result<Keyspace, Malformed> {
    let (protocol, replicas) = (decode_protocol(reader)?, reader.u16()?);
    let arrangement = match reader.u8()? {
        1 => Arrangement::Even,
        2 => Arrangement::Contiguous,
        3 => Arrangement::First,
        4 => Arrangement::Zones,
        _ => return Err(Malformed("an arrangement has an unknown tag")),
    };
    let usual = Keyspace::new(protocol, replicas, arrangement);
    // An earlier version of Capstan wrote no more.
    if reader.is_empty() {
        return Ok(usual);
    }
    let (keep, quota) = (decode_keep(reader)?, decode_quota(reader)?);
    let sync = if protocol == Protocol::Primary { Some(decode_sync(reader)?) } else { None };
    let bus = if protocol == Protocol::Broadcast { decode_bus(reader)? } else { Bus::Peers };
    // An earlier version of Capstan wrote no weights: all members weighed the same.
    let weighed = if reader.is_empty() { usual.weighed } else { Some(decode_weighed(reader)?) };
    Ok(Keyspace { keep, quota, sync, weighed, bus, ..usual })
}

fn put_node(into: &mut BytesMut, node: &Node) {
    put_bytes(into, node.name.as_bytes());
    into.put_u64(node.incarnation);
    put_bytes(into, node.peer.as_bytes());
    put_bytes(into, node.address.as_bytes());
    put_bytes(into, node.zone.as_bytes());
    encode_duty(into, node.duty);
    into.put_u8(match node.state {
        Liveness::Alive => 1,
        Liveness::Suspect => 2,
        Liveness::Dead => 3,
    });
}

fn node(reader: &mut Reader) -> Result<Node, Malformed> {
    Ok(Node {
        name: reader.text()?,
        incarnation: reader.u64()?,
        peer: reader.text()?,
        address: reader.text()?,
        zone: reader.text()?,
        duty: decode_duty(reader)?,
        state: match reader.u8()? {
            1 => Liveness::Alive,
            2 => Liveness::Suspect,
            3 => Liveness::Dead,
            _ => return Err(Malformed("a node's state has an unknown tag")),
        },
    })
}

fn put_shard(into: &mut BytesMut, shard: &Shard) {
    put_bytes(into, shard.keyspace.as_bytes());
    put_uint(into, u64::from(shard.slots.first.0));
    put_uint(into, u64::from(shard.slots.last.0));
    encode_protocol(into, shard.protocol);
    shard.view().encode(into);
    put_uint(into, shard.leader.0);
    put_uint(into, u64::from(shard.next_replica.0));
}

fn shard(reader: &mut Reader) -> Result<Shard, Malformed> {
    let keyspace = reader.text()?;
    let slots = SlotRange { first: Slot(reader.u16()?), last: Slot(reader.u16()?) };
    let protocol = decode_protocol(reader)?;
    let View { epoch, revision, members } = View::decode(reader)?;
    let leader = NodeId(reader.uint()?);
    let next_replica = ReplicaId(reader.u16()?);
    Ok(Shard { keyspace, slots, protocol, epoch, revision, members, leader, next_replica })
}

/// The members go as a view, whose revision nobody knows yet.
fn put_change(into: &mut BytesMut, change: &Change) {
    View { epoch: change.epoch, revision: Revision(0), members: change.to.clone() }.encode(into);
    into.put_u8(match change.phase {
        Phase::Copy => 1,
        Phase::Switch => 2,
    });
    encode_why(into, change.why);
}

fn change(reader: &mut Reader) -> Result<Change, Malformed> {
    let View { epoch, revision: Revision(0), members } = View::decode(reader)? else {
        return Err(Malformed("the members of a change have a revision before it is made"));
    };
    let phase = match reader.u8()? {
        1 => Phase::Copy,
        2 => Phase::Switch,
        _ => return Err(Malformed("a phase has an unknown tag")),
    };
    let why = decode_why(reader)?;
    Ok(Change { to: members, epoch: Epoch(epoch.0), phase, why })
}

fn put_split(into: &mut BytesMut, split: &Split) {
    put_uint(into, u64::from(split.count));
    put_list(into, &split.parts, |into, part| {
        put_uint(into, u64::from(part.shard.0));
        put_uint(into, u64::from(part.slots.first.0));
        put_uint(into, u64::from(part.slots.last.0));
        put_uint(into, part.leader.0);
    });
    if let Some(protocol) = split.protocol {
        encode_protocol(into, protocol);
    }
}

fn split(reader: &mut Reader) -> Result<Split, Malformed> {
    let count = reader.u16()?;
    let parts = reader.list(|reader| {
        let shard = ShardId(reader.u32()?);
        let slots = SlotRange { first: Slot(reader.u16()?), last: Slot(reader.u16()?) };
        Ok(Part { shard, slots, leader: NodeId(reader.uint()?) })
    })?;
    let protocol = if reader.is_empty() { None } else { Some(decode_protocol(reader)?) };
    Ok(Split { count, protocol, parts })
}

fn put_dropped(into: &mut BytesMut, dropped: &Dropped) {
    put_uint(into, dropped.revision);
    put_list(into, &dropped.holders, |into, holders| {
        put_list(into, &holders.nodes, |into, node| put_uint(into, node.0));
        put_uint(into, u64::from(holders.harmless));
    });
}

fn dropped(reader: &mut Reader) -> Result<Dropped, Malformed> {
    let revision = reader.uint()?;
    let holders = reader.list(|reader| {
        let nodes = reader.list(|reader| Ok(NodeId(reader.uint()?)))?;
        Ok(Holders { nodes, harmless: reader.u16()? })
    })?;
    Ok(Dropped { revision, holders })
}
