//! What happens to the map: nodes come, go, die and are replaced; changes of shards go on and end.
//!
//! [`Map::apply`] gives the next map, whose revision is one higher, the same map where nothing is to change (the event came
//! twice), or a [`Refusal`]. It moves nothing: which shards go where is the plan's, which is asked for after each event.
//!
//! # Nodes
//!
//! ```text
//!               join                 drain               leave
//!    (unknown) ─────▶ Serve ───────────────────▶ Drain ────────▶ Leave
//!                      │  ▲ ◀───────── serve ───── │ ◀── drain ── │
//!                      │  └───────────────────── serve ────────── │ ─── the plan, when it has no replica ──▶ (removed)
//!                      └──── replace, when it is dead ──▶ Gone ───────────────────┘
//! ```
//!
//! An id is one data folder's. Folders differ by their incarnations: who joins twice with one gets the same id;
//! who comes with another under a name that is taken is refused until the node of that name is gone.

use kv::cluster::Liveness;
use kv::keyspace::Wish;
use kv::view::{Member, Revision};
use kv::{ClusterId, NodeId, Protocol, ShardId};

use crate::living::needed;
use crate::map::{Arrangement, Change, Keyspace, Map, Node, NodeDuty, Phase, Shard};
use crate::plan::takers;
use crate::refusal::Refusal;
use crate::revise::is_in_sync;

/// Nodes of a cluster, at most: each announces itself to each other one.
pub const NODES_MAX: usize = 1023;

/// Something that happens to the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The founder's random id of the cluster is known.
    Founded {
        /// The id.
        cluster: ClusterId,
    },
    /// A data folder wants to be a node. Its id is that of the node with its incarnation ([`Map::node_of`]).
    Join {
        /// Its name.
        name: String,
        /// The life of its folder; not 0.
        incarnation: u64,
        /// Where other nodes connect: HOST:PORT.
        peer: String,
        /// Where its clients connect: HOST:PORT.
        address: String,
        /// What fails together with it; empty = nothing.
        zone: String,
    },
    /// A node says what it is.
    Announced {
        /// Which.
        node: NodeId,
        /// The life of its folder; not 0.
        incarnation: u64,
        /// Where other nodes connect.
        peer: String,
        /// Where its clients connect.
        address: String,
        /// What fails together with it.
        zone: String,
    },
    /// The replicas of a node are to go elsewhere.
    Drain {
        /// Its name.
        name: String,
        /// Even where shards have fewer replicas then.
        fewer: bool,
    },
    /// A node is to be no member any more, once its replicas are elsewhere.
    Leave {
        /// Its name.
        name: String,
        /// Even where shards have fewer replicas then.
        fewer: bool,
    },
    /// A node takes replicas again: takes a drain or a leave back.
    Serve {
        /// Its name.
        name: String,
    },
    /// A dead node never comes back.
    Replace {
        /// Its name.
        name: String,
        /// Even where that loses data. It is off, too where it is gone already: nothing waits for it any more.
        lose: bool,
    },
    /// A node was heard of, or not any more.
    Health {
        /// Which.
        node: NodeId,
        /// How it is.
        state: Liveness,
    },
    /// A change of a shard has come to a phase.
    Progress {
        /// The shard.
        shard: ShardId,
        /// The phase.
        phase: Phase,
    },
    /// The members of a shard are those that its change is to give it.
    Done {
        /// The shard.
        shard: ShardId,
        /// The revision of its members, within the epoch of the change.
        revision: Revision,
    },
    /// The members of a shard are those that its change is to give it, without who is gone for good ([`Map::left_of`]), and will
    /// not be others any more.
    Fewer {
        /// The shard.
        shard: ShardId,
        /// The revision of its members, within the epoch of the change.
        revision: Revision,
    },
    /// The change of a shard is given up, if its members have not begun to change over.
    Abort {
        /// The shard.
        shard: ShardId,
    },
    /// The members of a shard are to have other duties, as one of them asks.
    Revise {
        /// The shard.
        shard: ShardId,
        /// What it asks.
        change: kv::view::Change,
    },
    /// A keyspace is to be, on nodes that are alive.
    Create {
        /// Its name, one that [`kv::keyspace::check_name`] takes.
        name: String,
        /// What it is to be: within the limits.
        wish: Wish,
    },
    /// A keyspace is to be otherwise.
    Alter {
        /// Its name.
        name: String,
        /// What is to be otherwise: within the limits.
        wish: Wish,
    },
    /// A keyspace is to be no more, with all that it holds.
    Drop {
        /// Its name.
        name: String,
    },
    /// A zone says whom the writes of the shards wait for that are led in it; whoever comes into it finds it so.
    Zone {
        /// Its name; not empty.
        name: String,
        /// So many secondaries, or all that there are; `None` = as the keyspace of the shard says.
        secondaries: Option<u16>,
    },
    /// Nobody serves what a dropped keyspace held: another one may have its name.
    Free {
        /// Its name.
        name: String,
    },
}

impl Map {
    /// The map after an event: this very map when nothing is to change, else one whose revision is one higher.
    pub fn apply(&self, event: &Event) -> Result<Map, Refusal> {
        if self.revision == 0 {
            return Err(Refusal::NotFounded);
        }
        let mut next = self.clone();
        next.step(event)?;
        if next != *self {
            next.revision += 1;
        }
        Ok(next)
    }

    /// The map when all changes that are under way are done.
    pub fn completed(mut self) -> Map {
        let shards: Vec<ShardId> = self.changes.keys().copied().collect();
        for shard in shards {
            let (change, row) = (&self.changes[&shard], &self.shards[&shard]);
            let before = if change.epoch == row.epoch { row.revision } else { Revision(0) };
            let done = Event::Done { shard, revision: Revision(before.0 + 1) };
            self.step(&done).expect("a change that is under way can be done");
            self.revision += 1;
        }
        self
    }

    /// The node with a data folder of this life. 0 is nobody's.
    pub fn node_of(&self, incarnation: u64) -> Option<(NodeId, &Node)> {
        let found = self.nodes.iter().find(|(_, node)| node.incarnation == incarnation && incarnation > 0);
        found.map(|(id, node)| (*id, node))
    }

    fn step(&mut self, event: &Event) -> Result<(), Refusal> {
        match event {
            Event::Founded { cluster } => self.found(*cluster),
            Event::Join { name, incarnation, peer, address, zone } => {
                self.join(name, *incarnation, [peer, address, zone])
            }
            Event::Announced { node, incarnation, peer, address, zone } => {
                self.announced(*node, *incarnation, [peer, address, zone])
            }
            Event::Drain { name, fewer } => self.send_away(name, NodeDuty::Drain, *fewer),
            Event::Leave { name, fewer } => self.send_away(name, NodeDuty::Leave, *fewer),
            Event::Serve { name } => {
                let id = self.member_named(name)?;
                self.node_mut(id)?.duty = NodeDuty::Serve;
                Ok(())
            }
            Event::Replace { name, lose } => self.replace(name, *lose),
            Event::Health { node, state } => {
                self.node_mut(*node)?.state = *state;
                Ok(())
            }
            Event::Progress { shard, phase } => {
                let change = self.changes.get_mut(shard).ok_or(Refusal::NoChange(*shard))?;
                change.phase = change.phase.max(*phase);
                Ok(())
            }
            Event::Done { shard, .. } if !self.parts_of(*shard).is_empty() => self.finish_split(*shard),
            Event::Done { shard, revision } => {
                self.finish(*shard, *revision, |_, _, change| change.to.clone())
            }
            Event::Fewer { shard, revision } => self.finish(*shard, *revision, Map::left_of),
            Event::Abort { shard } => match self.changes.get(shard).map(|change| change.phase) {
                None => Err(Refusal::NoChange(*shard)),
                Some(Phase::Switch) => Err(Refusal::Switching(*shard)),
                Some(Phase::Copy) => self.abort(*shard),
            },
            Event::Revise { shard, change } => self.revise(*shard, change),
            Event::Create { name, wish } => self.create(name, wish),
            Event::Alter { name, wish } => self.alter(name, wish),
            Event::Drop { name } => self.drop_keyspace(name),
            Event::Zone { name, secondaries } => self.zone(name, *secondaries),
            Event::Free { name } => {
                self.dropped.remove(name);
                Ok(())
            }
        }
    }

    fn found(&mut self, cluster: ClusterId) -> Result<(), Refusal> {
        if self.cluster.is_some_and(|known| known != cluster) {
            return Err(Refusal::OtherCluster);
        }
        self.cluster = Some(cluster);
        Ok(())
    }

    fn join(&mut self, name: &str, incarnation: u64, about: [&String; 3]) -> Result<(), Refusal> {
        check_name(name)?;
        check_incarnation(incarnation)?;
        if let Some((id, node)) = self.node_of(incarnation) {
            if node.name != name {
                return Err(Refusal::Invalid(format!(
                    "this data folder is of node '{}': start it under that name, not '{name}'",
                    node.name
                )));
            }
            return self.announced(id, incarnation, about);
        }
        match self.node_named(name) {
            Some((_, node)) if node.duty == NodeDuty::Gone => {}
            Some((_, node)) if node.state == Liveness::Dead => return Err(Refusal::NameOfDead(name.into())),
            Some(_) => return Err(Refusal::NameTaken(name.into())),
            None => {}
        }
        // The new one could not reach it.
        if let Some(alone) = self.nodes.values().find(|node| node.peer.is_empty()) {
            return Err(Refusal::Alone(alone.name.clone()));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(Refusal::TooManyNodes(self.nodes.len()));
        }
        let [peer, address, zone] = about.map(String::clone);
        let (duty, state) = (NodeDuty::Serve, Liveness::Alive);
        let node = Node { name: name.into(), incarnation, peer, address, zone, duty, state };
        self.nodes.insert(self.next_node, node);
        self.next_node.0 += 1;
        Ok(())
    }

    fn announced(&mut self, id: NodeId, incarnation: u64, about: [&String; 3]) -> Result<(), Refusal> {
        check_incarnation(incarnation)?;
        let node = self.node_mut(id)?;
        if node.duty == NodeDuty::Gone {
            return Err(Refusal::Replaced(node.name.clone()));
        }
        if node.incarnation != 0 && node.incarnation != incarnation {
            return Err(Refusal::OtherFolder(node.name.clone()));
        }
        node.incarnation = incarnation;
        [node.peer, node.address, node.zone] = about.map(String::clone);
        Ok(())
    }

    /// Drains a node or lets it leave, if all that it has can go elsewhere.
    fn send_away(&mut self, name: &str, duty: NodeDuty, fewer: bool) -> Result<(), Refusal> {
        let id = self.member_named(name)?;
        let takes = |(other, node): &(&NodeId, &Node)| node.duty == NodeDuty::Serve && **other != id;
        let left = self.nodes.iter().filter(takes).count();
        if left == 0 {
            return Err(Refusal::LastNode(name.into()));
        }
        if self.node_mut(id)?.duty == NodeDuty::Serve && !fewer {
            let lacks = |(_, keyspace): &(&String, &Keyspace)| {
                keyspace.arrangement != Arrangement::First && usize::from(keyspace.replicas) > left
            };
            if let Some((keyspace, wants)) = self.keyspaces.iter().find(lacks) {
                let replicas = usize::from(wants.replicas).min(left + 1);
                return Err(Refusal::TooFewNodes {
                    node: name.into(),
                    keyspace: keyspace.clone(),
                    replicas,
                    left,
                });
            }
        }
        self.keeps_copies(name, left)?;
        // Its shards may have gone over before it has given them away.
        let is_to_stay = |(_, shard): &(ShardId, &Shard)| {
            let to = self.keyspaces[&shard.keyspace].protocol;
            self.is_recast(&shard.keyspace) && to == Protocol::TwoPhase
        };
        if let Some((_, shard)) = self.replicas_of(id).find(is_to_stay) {
            return Err(Refusal::CopiesStay(shard.keyspace.clone()));
        }
        let is_stuck = |(shard, row): &(ShardId, &Shard)| !self.can_change_in_the_end(*shard, row);
        if let Some((shard, stuck)) = self.replicas_of(id).find(is_stuck) {
            return Err(self.stuck(shard, stuck));
        }
        self.node_mut(id)?.duty = duty;
        Ok(())
    }

    fn stuck(&self, id: ShardId, shard: &Shard) -> Refusal {
        if shard.protocol == Protocol::TwoPhase {
            return Refusal::CopiesStay(shard.keyspace.clone());
        }
        if self.has_majority(&shard.members) {
            return Refusal::NoNumbers(id);
        }
        let dead = shard.members.iter().filter(|member| !self.lives(member.node));
        let names: Vec<&str> = dead.map(|member| self.nodes[&member.node].name.as_str()).collect();
        Refusal::Stuck { shard: id, nodes: names.join(", ") }
    }

    fn replace(&mut self, name: &str, lose: bool) -> Result<(), Refusal> {
        // Of several nodes of the name those that are gone may be meant.
        let waited = lose && self.are_off(name);
        let Some((id, node)) = self.node_named(name) else { return Err(Refusal::UnknownNode(name.into())) };
        if node.duty == NodeDuty::Gone {
            return Ok(());
        }
        if node.state != Liveness::Dead {
            return if waited { Ok(()) } else { Err(Refusal::NotDead(name.into())) };
        }
        let others = |(other, node): (&NodeId, &Node)| node.duty == NodeDuty::Serve && *other != id;
        if !self.nodes.iter().any(others) {
            return Err(Refusal::LastNode(name.into()));
        }
        if let Some((shard, _)) =
            self.replicas_of(id).find(|(shard, _)| !lose && self.is_lost_without(*shard, id))
        {
            return Err(self.last_copy(name, id, shard));
        }
        self.node_mut(id)?.duty = NodeDuty::Gone;
        if lose {
            self.are_off(name);
        }
        Ok(())
    }

    /// Why a node is not given up of which a shard needs what it has.
    fn last_copy(&self, name: &str, id: NodeId, shard: ShardId) -> Refusal {
        let row = &self.shards[&shard];
        let is_heir = row.member(id).is_none() && self.changes[&shard].epoch > row.epoch;
        let node = name.into();
        match row.members.first().filter(|_| is_heir) {
            Some(owner) => Refusal::Heir { node, shard, owner: self.nodes[&owner.node].name.clone() },
            None => Refusal::LastCopy { node, shard },
        }
    }

    /// Whether a shard would have no majority that lives, now or once its members have changed over; or, where all copies are
    /// needed, not all of them. Who is dead, or suspected to be, may be lost as well: then it is this node that is waited for.
    fn is_lost_without(&self, id: ShardId, node: NodeId) -> bool {
        let stays = |member: &&Member| member.node != node && takers::is_alive(self, member.node);
        if self.shards[&id].protocol == Protocol::Primary {
            return !self.shards[&id].members.iter().any(|member| is_in_sync(member) && stays(&member));
        }
        let row = &self.shards[&id];
        let is_lost = |members: &[Member], protocol| {
            members.iter().filter(stays).count() < needed(protocol, members.len())
        };
        let switches = self.changes.get(&id).filter(|change| change.phase == Phase::Switch);
        let is_lost_now = match row.protocol == Protocol::Quorum {
            true => {
                let near = Vec::from_iter(row.members.iter().filter(stays).copied());
                !self.weigh_enough_to_go_on(id, row, &near)
            }
            false => is_lost(&row.members, row.protocol),
        };
        self.brings_together(id, node)
            || is_lost_now
            || switches.is_some_and(|change| is_lost(&change.to, self.protocol_after(id, row)))
    }

    fn finish(
        &mut self,
        id: ShardId,
        revision: Revision,
        members: impl Fn(&Map, &Shard, &Change) -> Vec<Member>,
    ) -> Result<(), Refusal> {
        let (Some(change), Some(shard)) = (self.changes.get(&id), self.shards.get(&id)) else {
            return Err(Refusal::NoChange(id));
        };
        if (change.epoch, revision) <= (shard.epoch, shard.revision) {
            return Err(Refusal::Overtaken(id));
        }
        let (members, epoch) = (members(self, shard, change), change.epoch);
        let leader = match members.iter().find(|member| member.node == shard.leader) {
            Some(_) => shard.leader,
            None => self.least_leading(&shard.keyspace, &members),
        };
        self.changes.remove(&id);
        let shard = self.shards.get_mut(&id).ok_or(Refusal::NoChange(id))?;
        (shard.members, shard.epoch, shard.revision, shard.leader) = (members, epoch, revision, leader);
        Ok(())
    }

    /// Of some members the one that leads the fewest shards: of a keyspace, then of all.
    fn least_leading(&self, keyspace: &str, members: &[Member]) -> NodeId {
        let leads = |node: NodeId| {
            let of_it = self.led_by(node).filter(|(_, shard)| shard.keyspace == keyspace).count();
            (of_it, self.led_by(node).count(), node)
        };
        let nodes = members.iter().map(|member| member.node);
        nodes.min_by_key(|node| leads(*node)).expect("a change has members")
    }

    /// The id of a node that is no former one.
    fn member_named(&self, name: &str) -> Result<NodeId, Refusal> {
        match self.node_named(name) {
            None => Err(Refusal::UnknownNode(name.into())),
            Some((_, node)) if node.duty == NodeDuty::Gone => Err(Refusal::Gone(name.into())),
            Some((id, _)) => Ok(id),
        }
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Refusal> {
        self.nodes.get_mut(&id).ok_or(Refusal::UnknownId(id))
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.contains(['=', ',', '/']) {
        return Err(Refusal::Invalid(format!("'{name}' is no name for a node: letters and digits will do")));
    }
    Ok(())
}

fn check_incarnation(incarnation: u64) -> Result<(), Refusal> {
    if incarnation == 0 {
        return Err(Refusal::Invalid(
            "a node says the incarnation of its data folder, which is not 0".into(),
        ));
    }
    Ok(())
}
