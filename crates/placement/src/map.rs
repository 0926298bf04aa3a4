//! The map: what the directory holds, as a value.
//!
//! Nodes, keyspaces, shards, and the changes under way, under one revision that rises by one with each change. The directory
//! keeps it as rows (module `rows`); every node and client knows it as of some revision. What must hold of every map stands in
//! [`Map::check`].

use std::collections::BTreeMap;

pub use kv::admin::Why;
use kv::cluster::Liveness;
pub use kv::cluster::NodeDuty;
use kv::keyspace::{Awaited, Bus, Keep, Quota, Settings, SyncMode, Votes, Weighed};
use kv::view::{Duty, Member, Revision, View};
use kv::{ClusterId, Epoch, NodeId, Protocol, ReplicaId, SLOTS, ShardId, Slot, SlotRange};

/// The reserved keyspace that the directory's own state is in.
pub const DIRECTORY: &str = "_directory";
/// The keyspace of who names none.
pub const DEFAULT: &str = "default";

/// The state of a cluster as its directory holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Rises by one with each change. 0 = nothing is known yet.
    pub revision: u64,
    /// Which cluster it is; `None` = it is not founded yet.
    pub cluster: Option<ClusterId>,
    /// The nodes that belong to it.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The keyspaces by name, [`DIRECTORY`] too.
    pub keyspaces: BTreeMap<String, Keyspace>,
    /// The shards of all keyspaces.
    pub shards: BTreeMap<ShardId, Shard>,
    /// The changes of shards that are under way, at most one a shard.
    pub changes: BTreeMap<ShardId, Change>,
    /// The shards that are to be cut, or are being cut; and those that go on under another protocol.
    pub splits: BTreeMap<ShardId, Split>,
    /// What is said of zones: whom the writes of shards wait for that are laid out by zones ([`Arrangement::Zones`]).
    pub zones: BTreeMap<String, Zone>,
    /// The names of keyspaces that were dropped, and may yet be served by nodes that have not heard of it.
    pub dropped: BTreeMap<String, Dropped>,
    /// The id that the next node is given: ids are never given twice.
    pub next_node: NodeId,
    /// The id that the next shard is given.
    pub next_shard: ShardId,
}

/// A node that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// For people. No two nodes have the same, unless all but one are gone.
    pub name: String,
    /// The life of its data folder; 0 = it has not been heard of yet.
    pub incarnation: u64,
    /// Where other nodes connect: HOST:PORT, as they reach it.
    pub peer: String,
    /// Where its clients connect: HOST:PORT; empty = it has not been heard of yet.
    pub address: String,
    /// What fails together with it: no two replicas of a shard are in one zone where that can be. Empty = a zone of its own.
    pub zone: String,
    /// What it is asked to do.
    pub duty: NodeDuty,
    /// Whether it was heard of lately, as the directory's leader saw it.
    pub state: Liveness,
}

/// What is said of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// A write of a shard that is led in it waits for so many secondaries, or for all that there are while there are fewer.
    pub secondaries: u16,
}

/// A named set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    /// How the replicas of its shards agree.
    pub protocol: Protocol,
    /// Replicas of each shard, where there are nodes enough.
    pub replicas: u16,
    /// Which nodes its shards are put on.
    pub arrangement: Arrangement,
    /// What its shards keep of their keys.
    pub keep: Keep,
    /// When it is full.
    pub quota: Quota,
    /// Whom a write waits for, under [`Protocol::Primary`].
    pub sync: Option<SyncMode>,
    /// What its members weigh, under [`Protocol::Quorum`]. Of a keyspace that goes on under another protocol it stays, and tells that it was
    /// under that one once.
    pub weighed: Option<Weighed>,
    /// What carries its writes from replica to replica, under [`Protocol::Broadcast`].
    pub bus: Bus,
}

/// Which nodes the shards of a keyspace are put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Counts of replicas and of leaders are equal within one.
    Even,
    /// Each node has a contiguous range of slots, in the order in which the nodes joined.
    Contiguous,
    /// Each zone that a node names has a contiguous range of slots, in the order of their names, and its nodes all of it.
    Zones,
    /// On the first 1, 3 or 5 nodes: the directory's own.
    First,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its keyspace.
    pub keyspace: String,
    /// Its keys.
    pub slots: SlotRange,
    /// How its replicas agree.
    pub protocol: Protocol,
    /// Rises when it is handed over.
    pub epoch: Epoch,
    /// The revision of its members that the directory knows of, within the epoch.
    pub revision: Revision,
    /// Its members, in the order of their nodes.
    pub members: Vec<Member>,
    /// The member that leads it when all are well.
    pub leader: NodeId,
    /// The number that its next replica is given: numbers are never given twice within an epoch.
    pub next_replica: ReplicaId,
}

/// A change of a shard that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The members that it is to have, in the order of their nodes; those that stay keep their numbers.
    pub to: Vec<Member>,
    /// The epoch that it is to have: its own where the protocol changes members itself, else the next one.
    pub epoch: Epoch,
    /// How far it is.
    pub phase: Phase,
    /// Why it is made.
    pub why: Why,
}

/// A shard that is to become several, or one under another protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// How many; at least 2, unless the protocol changes.
    pub count: u16,
    /// How the replicas of what it becomes agree; `None` = as its own.
    pub protocol: Option<Protocol>,
    /// Which ones, in the order of their slots; none before it begins.
    pub parts: Vec<Part>,
}

/// One of the shards that a shard is being cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its id.
    pub shard: ShardId,
    /// Its keys.
    pub slots: SlotRange,
    /// The member that leads it when all are well.
    pub leader: NodeId,
}

/// A keyspace that was dropped, and who may serve it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The revision from which on maps are without it.
    pub revision: u64,
    /// Who had its shards, each set of nodes once.
    pub holders: Vec<Holders>,
}

/// Nodes that had a shard together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holders {
    /// Which, in order.
    pub nodes: Vec<NodeId>,
    /// So many of them alone cannot serve it. The others must have heard that it was dropped.
    pub harmless: u16,
}

/// How far a change of a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// New members are brought up to date; the shard serves as before.
    Copy,
    /// The members change over. It cannot be given up any more.
    Switch,
}

/// Which shard of a keyspace has a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(Vec<(Slot, ShardId)>);

impl Map {
    /// The shards of a keyspace in the order of their slots. None when there is no such keyspace.
    pub fn shards_of(&self, keyspace: &str) -> Vec<(ShardId, &Shard)> {
        let of_it = |(_, shard): &(&ShardId, &Shard)| shard.keyspace == keyspace;
        let mut shards: Vec<(ShardId, &Shard)> =
            self.shards.iter().filter(of_it).map(|(id, shard)| (*id, shard)).collect();
        shards.sort_by_key(|(_, shard)| shard.slots.first);
        shards
    }

    /// Which shard of a keyspace has which slot, for who looks often. `None` = there is no such keyspace.
    pub fn slots(&self, keyspace: &str) -> Option<Slots> {
        let shards = self.shards_of(keyspace);
        let lasts = shards.iter().map(|(id, shard)| (shard.slots.last, *id)).collect();
        self.keyspaces.contains_key(keyspace).then_some(Slots(lasts))
    }

    /// The shards of which a node has a replica, or is to have one.
    pub fn replicas_of(&self, node: NodeId) -> impl Iterator<Item = (ShardId, &Shard)> {
        self.shards
            .iter()
            .map(|(id, shard)| (*id, shard))
            .filter(move |(id, shard)| self.hosts(*id, shard).any(|host| host == node))
    }

    /// The shards that a node leads when all are well.
    pub fn led_by(&self, node: NodeId) -> impl Iterator<Item = (ShardId, &Shard)> {
        self.shards.iter().filter(move |(_, shard)| shard.leader == node).map(|(id, shard)| (*id, shard))
    }

    /// The node of a name; of several, all but one of which are gone, the one that is not.
    pub fn node_named(&self, name: &str) -> Option<(NodeId, &Node)> {
        let named = self.nodes.iter().filter(|(_, node)| node.name == name);
        named.min_by_key(|(_, node)| node.duty == NodeDuty::Gone).map(|(id, node)| (*id, node))
    }

    /// The members that a shard is to have: those of its change, else those that it has.
    pub(crate) fn wanted<'a>(&'a self, id: ShardId, shard: &'a Shard) -> &'a [Member] {
        self.changes.get(&id).map_or(&shard.members, |change| &change.to)
    }

    /// The members that a change which cannot be given up any more leads to where it has not led to those that it names: they are
    /// without who was to come and is gone for good. Where nobody would be left, and of a shard that is handed over, who is named.
    pub fn left_of(&self, shard: &Shard, change: &Change) -> Vec<Member> {
        let is_gone = |node: &NodeId| self.nodes.get(node).is_none_or(|node| node.duty == NodeDuty::Gone);
        let is_lost = |member: &&Member| shard.member(member.node).is_none() && is_gone(&member.node);
        let left: Vec<Member> = change.to.iter().filter(|member| !is_lost(member)).copied().collect();
        if left.is_empty() || change.epoch > shard.epoch { change.to.clone() } else { left }
    }

    /// For whom a write of a shard waits, or of a part of one: as the zone says in which it is led, where its keyspace is laid out by
    /// zones, else as its keyspace says; as usual where nothing says it.
    pub fn sync_of(&self, id: ShardId) -> Awaited {
        let shard = self.shards.get(&id).or_else(|| self.part(id).map(|(_, shard, ..)| shard));
        let keyspace = shard.and_then(|shard| self.keyspaces.get(&shard.keyspace));
        let zone =
            shard.filter(|_| keyspace.is_some_and(|keyspace| keyspace.arrangement == Arrangement::Zones));
        match zone.and_then(|shard| self.zone_of(shard)) {
            Some(zone) => Awaited::at_most(zone.secondaries),
            None => keyspace.and_then(|keyspace| keyspace.sync).unwrap_or(SyncMode::USUAL).into(),
        }
    }

    /// What reads and writes of a shard must weigh, or of a part of one, whose members weigh so much together. A majority where its keyspace
    /// says nothing, or speaks of more members than there are nodes.
    pub fn votes_of(&self, id: ShardId, total: u32) -> Votes {
        let shard = self.shards.get(&id).or_else(|| self.part(id).map(|(_, shard, ..)| shard));
        let keyspace = shard.and_then(|shard| self.keyspaces.get(&shard.keyspace));
        let weighed = keyspace.and_then(|keyspace| keyspace.weighed);
        let fits = weighed.filter(|weighed| weighed.weights.total() == total);
        fits.map_or(Votes::majority(total), |weighed| weighed.votes)
    }

    /// What is said of the zone of the member that orders.
    fn zone_of(&self, shard: &Shard) -> Option<Zone> {
        let orders = shard.members.iter().find(|member| member.duty == Duty::Primary)?;
        self.zones.get(&self.nodes.get(&orders.node)?.zone).copied()
    }

    /// The nodes that have a replica of a shard, or are to have one; some of them twice.
    fn hosts<'a>(&'a self, id: ShardId, shard: &'a Shard) -> impl Iterator<Item = NodeId> + 'a {
        shard.members.iter().chain(self.wanted(id, shard)).map(|member| member.node)
    }
}

impl Keyspace {
    /// One that is arranged so, as usual otherwise.
    pub fn new(protocol: Protocol, replicas: u16, arrangement: Arrangement) -> Keyspace {
        let sync = (protocol == Protocol::Primary).then_some(SyncMode::USUAL);
        let weighed = (protocol == Protocol::Quorum).then(|| Weighed::equal(replicas));
        let (keep, quota) = Default::default();
        Keyspace { protocol, replicas, arrangement, keep, quota, sync, weighed, bus: Bus::Peers }
    }

    /// Whether its shards have no order, or had none once: then what they remembered of requests is known no more.
    pub fn was_unordered(&self) -> bool {
        self.weighed.is_some()
    }

    /// What it is.
    pub fn settings(&self) -> Settings {
        let Keyspace { protocol, replicas, sync, keep, quota, .. } = *self;
        let weighed = self.weighed.filter(|_| protocol == Protocol::Quorum);
        Settings { protocol, replicas, sync, weighed, bus: self.bus.clone(), keep, quota }
    }

    /// Gives the members of a shard the weights that they have, in their order; where there are fewer, all weigh the same.
    pub(crate) fn weigh(&self, members: &mut [Member]) {
        let weights = self.weighed.map(|weighed| weighed.weights.each()).unwrap_or_default();
        if weights.len() == members.len() {
            members.iter_mut().zip(weights).for_each(|(member, weight)| member.weight = weight);
        }
    }

    /// Whether its shards are laid out in pieces, whatever else there is.
    pub(crate) fn is_in_pieces(&self) -> bool {
        matches!(self.arrangement, Arrangement::Contiguous | Arrangement::Zones)
    }

    /// Whether clients may ask it: the directory's own they may not.
    pub fn is_for_clients(&self) -> bool {
        self.arrangement != Arrangement::First
    }
}

impl Slots {
    /// The shard that has a slot.
    ///
    /// # Panics
    ///
    /// For a slot beyond [`SLOTS`].
    pub fn shard_of(&self, slot: Slot) -> ShardId {
        assert!(slot.0 < SLOTS, "slot {slot} of {SLOTS}");
        self.0[self.0.partition_point(|(last, _)| *last < slot)].1
    }
}

impl Shard {
    /// Its members as the directory knows them.
    pub fn view(&self) -> View {
        View { epoch: self.epoch, revision: self.revision, members: self.members.clone() }
    }

    /// The member on a node.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Whether a member has yet to begin anew, for another was made to order that was not in sync.
    pub(crate) fn has_astray(&self) -> bool {
        self.members.iter().any(|member| member.duty == Duty::Astray)
    }
}
