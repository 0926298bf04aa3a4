//! Who the nodes of the cluster are, as far as greeting and calling them needs: the map's list of them, as of a revision.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use kv::NodeId;
use kv::codec::{Malformed, Reader, put_bytes, put_list, put_uint};
use placement::map::{Map, Node, NodeDuty};

/// The nodes of a cluster, this one among them, as of a revision of its map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// Of the map that says so. The founding is revision 1.
    pub revision: u64,
    /// The nodes that belong to the cluster.
    pub members: BTreeMap<NodeId, Member>,
    /// Ids from here on were given to nobody yet. Each one below that is no member's was a member's, and never is again.
    pub next: NodeId,
}

/// A node that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name. No two members have the same.
    pub name: String,
    /// Where other nodes connect: HOST:PORT.
    pub address: String,
    /// The life of its data folder; 0 = the map does not know it.
    pub incarnation: u64,
}

/// What a node is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// It belongs to it.
    Member(&'a Member),
    /// It did, and never will again.
    Gone,
    /// Its id was not given yet as of this revision.
    Unknown,
}

impl Nodes {
    /// Of the founding.
    pub const FOUNDING: u64 = 1;

    /// As a map has them, without those that are given up: they never belong to it again.
    pub fn of(map: &Map) -> Nodes {
        let member = |(id, node): (&NodeId, &Node)| {
            let Node { name, peer, incarnation, .. } = node;
            (*id, Member { name: name.clone(), address: peer.clone(), incarnation: *incarnation })
        };
        let stay = map.nodes.iter().filter(|(_, node)| node.duty != NodeDuty::Gone);
        Nodes { revision: map.revision, members: stay.map(member).collect(), next: map.next_node }
    }

    /// What a node is to the cluster.
    pub fn place(&self, node: NodeId) -> Place<'_> {
        match self.members.get(&node) {
            Some(member) => Place::Member(member),
            None if node < self.next => Place::Gone,
            None => Place::Unknown,
        }
    }

    /// The name of a member.
    pub fn name(&self, node: NodeId) -> Option<&str> {
        self.members.get(&node).map(|member| member.name.as_str())
    }

    /// The members but one.
    pub fn others(&self, me: NodeId) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member)).filter(move |(id, _)| *id != me)
    }

    /// The founders, in text; empty when there is a later map.
    pub fn founders(&self) -> String {
        let founders = self.members.iter().filter(|_| self.revision == Nodes::FOUNDING);
        founders.map(|(id, member)| format!("{id}:{}", member.name)).collect::<Vec<_>>().join(",")
    }
}

pub(super) fn put_nodes(into: &mut BytesMut, nodes: &Nodes) {
    put_uint(into, nodes.revision);
    let members: Vec<(&NodeId, &Member)> = nodes.members.iter().collect();
    put_list(into, &members, |into, (id, member)| {
        put_uint(into, id.0);
        put_bytes(into, member.name.as_bytes());
        put_bytes(into, member.address.as_bytes());
        into.put_u64(member.incarnation);
    });
    put_uint(into, nodes.next.0);
}

pub(super) fn read_nodes(reader: &mut Reader) -> Result<Nodes, Malformed> {
    let revision = reader.uint()?;
    let listed = reader.list(|reader| {
        let id = NodeId(reader.uint()?);
        let (name, address) = (reader.text()?, reader.text()?);
        Ok((id, Member { name, address, incarnation: reader.u64()? }))
    })?;
    let next = NodeId(reader.uint()?);
    if !listed.is_sorted_by(|(one, _), (other, _)| one < other) {
        return Err(Malformed("nodes are not in the order of their ids"));
    }
    if listed.last().is_some_and(|(last, _)| *last >= next) {
        return Err(Malformed("a node has an id that was not given yet"));
    }
    Ok(Nodes { revision, members: listed.into_iter().collect(), next })
}
