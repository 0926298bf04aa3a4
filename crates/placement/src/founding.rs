//! The first map of a cluster, which all of its first nodes compute alike from how they were started.

use std::collections::BTreeMap;

use kv::cluster::Liveness;
use kv::keyspace::Weighed;
use kv::view::{Duty, Revision, View};
use kv::{ClusterId, Epoch, NodeId, Protocol, ReplicaId, ShardId, SlotRange};

use crate::map::{Arrangement, DEFAULT, DIRECTORY, Keyspace, Map, Node, NodeDuty, Shard};
use crate::plan::{arrange, leaders};

/// Replicas of the directory where there are nodes enough: it outlives any two of them.
pub const DIRECTORY_REPLICAS: u16 = 5;
/// Shards of the first keyspace.
pub const SHARDS_MAX: u32 = 1024;

/// How a cluster begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// Its id, if it is known already ([`crate::Event::Founded`] says it later).
    pub cluster: Option<ClusterId>,
    /// Its first nodes, in any order; at least one, of different names.
    pub nodes: Vec<Founder>,
    /// Shards of the keyspace [`DEFAULT`]: 1 to [`SHARDS_MAX`].
    pub shards: u32,
    /// Replicas of each of them, where there are nodes enough; at least 1.
    pub replicas: u16,
    /// How the replicas agree. `single` is for a cluster of one; those of the directory then agree so, too, and else by `raft`: a
    /// node that is away must not keep others from deciding.
    pub protocol: Protocol,
}

/// One of the first nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its name.
    pub name: String,
    /// Where other nodes connect: HOST:PORT; empty = nowhere.
    pub peer: String,
}

impl Map {
    /// The first map: of revision 1, nodes with ids from 1 in the order of their names, the keyspaces [`DIRECTORY`] and
    /// [`DEFAULT`], the shards of the latter with ids from 1 and placed as the plan would have them.
    ///
    /// # Panics
    ///
    /// When `founding` is not as its fields say.
    pub fn founding(founding: &Founding) -> Map {
        Map::begun(founding, Keyspace::new(founding.protocol, founding.replicas, Arrangement::Even))
    }

    /// The same, of a cluster whose first keyspace is under `quorum` with these weights, in the order of the names.
    ///
    /// # Panics
    ///
    /// When `founding` is not as its fields say, has another protocol, or another number of nodes or replicas than weights.
    pub fn founding_weighed(founding: &Founding, weighed: Weighed) -> Map {
        let count = weighed.weights.count();
        assert_eq!(founding.protocol, Protocol::Quorum, "others weigh nobody");
        assert!(
            founding.replicas == count && founding.nodes.len() == usize::from(count),
            "there is a weight for each node, and each has a copy"
        );
        let usual = Keyspace::new(founding.protocol, founding.replicas, Arrangement::Even);
        Map::begun(founding, Keyspace { weighed: Some(weighed), ..usual })
    }

    fn begun(founding: &Founding, keyspace: Keyspace) -> Map {
        assert!((1..=SHARDS_MAX).contains(&founding.shards), "a keyspace has 1 to {SHARDS_MAX} shards");
        assert!(
            founding.replicas > 0 && !founding.nodes.is_empty(),
            "a cluster has a node, a shard a replica"
        );
        let mut founders: Vec<&Founder> = founding.nodes.iter().collect();
        founders.sort_by(|one, other| one.name.cmp(&other.name));
        assert!(founders.windows(2).all(|pair| pair[0].name != pair[1].name), "names are unique");
        let nodes: BTreeMap<NodeId, Node> =
            (1..).map(NodeId).zip(founders.into_iter().map(first_node)).collect();
        let decides = if founding.protocol == Protocol::Single { Protocol::Single } else { Protocol::Raft };
        let shard_of = |index| {
            let slots = SlotRange::nth(index, founding.shards);
            (ShardId(index + 1), shard(DEFAULT, founding.protocol, slots))
        };
        let directory = shard(DIRECTORY, decides, SlotRange::nth(0, 1));
        let mut map = Map {
            revision: 1,
            cluster: founding.cluster,
            next_node: NodeId(nodes.len() as u64 + 1),
            nodes,
            keyspaces: BTreeMap::from([
                (DIRECTORY.into(), Keyspace::new(decides, DIRECTORY_REPLICAS, Arrangement::First)),
                (DEFAULT.into(), keyspace),
            ]),
            shards: [(ShardId::DIRECTORY, directory)]
                .into_iter()
                .chain((0..founding.shards).map(shard_of))
                .collect(),
            changes: BTreeMap::new(),
            splits: BTreeMap::new(),
            zones: BTreeMap::new(),
            dropped: BTreeMap::new(),
            next_shard: ShardId(founding.shards + 1),
        };
        map.settle();
        map.check().expect("a founding is sound when its fields are");
        map
    }

    /// The leader of a shard whose protocol wants the directory to say who orders is that member: for good in `two-phase`, at first in
    /// `primary`, where its members ask for another one.
    pub fn name_masters(&mut self) {
        let is_new = |shard: &&mut Shard| match shard.protocol {
            Protocol::TwoPhase => true,
            Protocol::Primary => shard.members.iter().all(|member| member.duty == Duty::Voter),
            Protocol::Single | Protocol::Raft | Protocol::Quorum | Protocol::Broadcast => false,
        };
        for shard in self.shards.values_mut().filter(is_new) {
            for member in &mut shard.members {
                member.duty = if member.node == shard.leader { Duty::Primary } else { Duty::Voter };
            }
        }
    }

    /// Gives shards that have no members the ones that they should have; the others stay where they are.
    pub(crate) fn settle(&mut self) {
        for (id, nodes) in arrange::arrange_new(self) {
            let shard = self.shards.get_mut(&id).expect("it was arranged");
            shard.members = View::of(shard.epoch, &nodes).members;
            if let Some(keyspace) = self.keyspaces.get(&shard.keyspace).filter(|_| shard.protocol.is_merged())
            {
                keyspace.weigh(&mut shard.members);
            }
            shard.next_replica = ReplicaId(nodes.len() as u16 + 1);
        }
        for (id, leader) in leaders::leaders(self) {
            self.shards.get_mut(&id).expect("it has a leader").leader = leader;
        }
        self.name_masters();
    }
}

fn first_node(founder: &Founder) -> Node {
    Node {
        name: founder.name.clone(),
        incarnation: 0,
        peer: founder.peer.clone(),
        address: String::new(),
        zone: String::new(),
        duty: NodeDuty::Serve,
        state: Liveness::Alive,
    }
}

/// A shard that has no members yet.
pub(crate) fn shard(keyspace: &str, protocol: Protocol, slots: SlotRange) -> Shard {
    Shard {
        keyspace: keyspace.into(),
        slots,
        protocol,
        epoch: Epoch(1),
        revision: Revision(1),
        members: Vec::new(),
        leader: NodeId(0),
        next_replica: ReplicaId(1),
    }
}
