//! The other nodes as this one sees them: connected or not, alive or not, and what they announce.

use std::collections::{BTreeMap, BTreeSet};

use kv::cluster::{Liveness, NodeDuty, NodeStatus, ReplicaStatus, Role, ShardStatus, Status};
use kv::view::{Duty, Member};
use kv::{Budget, NodeId, ShardId};
use placement::map::{DIRECTORY, Map, Node, Phase, Shard};
use replication::Instant;

use crate::wire::{Announced, Announcement};

/// A node announces itself so often.
pub const ANNOUNCE_MICROS: u64 = 1_000_000;
/// A node that missed two announcements is suspect (half a one is left for delays).
const SUSPECT_MICROS: u64 = ANNOUNCE_MICROS * 5 / 2;
/// A node that missed five is dead.
pub const DEAD_MICROS: u64 = ANNOUNCE_MICROS * 11 / 2;

/// Bytes of answers that may be on their way to one node, from each core its share of them: half of what its queue takes, so that
/// they do not push out the messages of protocols.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// All other nodes.
#[derive(Debug)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    /// The nodes to which the way stands, those too that no map has named yet.
    connected: BTreeSet<NodeId>,
    cores: usize,
}

#[derive(Debug, Default)]
struct Peer {
    name: String,
    /// Since when it is known that there is such a node.
    known: Instant,
    heard: Option<Instant>,
    /// Whether it was alive at the last look.
    was_alive: bool,
    /// What it last told of itself; its replicas apart.
    told: Announcement,
    /// The latest map that it has kept: it never falls back behind that.
    kept: u64,
    /// What it last told of each of its replicas. A node with several cores tells of the replicas of one at a time.
    replicas: BTreeMap<ShardId, Announced>,
    answers: Budget,
}

impl Peers {
    /// Of these ids and names, as one of so many cores of this node sees them from now on.
    pub fn new(nodes: impl Iterator<Item = (NodeId, String)>, cores: usize, now: Instant) -> Peers {
        let mut peers = Peers { peers: BTreeMap::new(), connected: BTreeSet::new(), cores };
        nodes.for_each(|(id, name)| peers.add(id, name, now));
        peers
    }

    /// They are these from now on, and have no replicas but those of the map; returns those that are no more.
    pub fn become_those(
        &mut self,
        nodes: impl Iterator<Item = (NodeId, String)>,
        map: &Map,
        now: Instant,
    ) -> Vec<NodeId> {
        let mut before: BTreeSet<NodeId> = self.peers.keys().copied().collect();
        for (id, name) in nodes {
            match before.remove(&id) {
                true => self.peers.get_mut(&id).expect("it was there before").name = name,
                false => self.add(id, name, now),
            }
        }
        self.peers.retain(|id, _| !before.contains(id));
        for (id, peer) in &mut self.peers {
            peer.replicas.retain(|shard, _| has_seat(map, *shard, *id));
        }
        Vec::from_iter(before)
    }

    fn add(&mut self, id: NodeId, name: String, now: Instant) {
        let answers = Budget::new(ANSWER_BYTES_MAX / self.cores);
        self.peers.insert(id, Peer { name, known: now, answers, ..Peer::default() });
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// Whether this is one of them.
    pub fn contains(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// The way to a node stands, or broke.
    pub fn set_connected(&mut self, node: NodeId, connected: bool) {
        match connected {
            true => self.connected.insert(node),
            false => self.connected.remove(&node),
        };
    }

    /// Whether the way to a node stands.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node) && self.connected.contains(&node)
    }

    /// What the answers to a node are counted against.
    pub fn answers(&self, node: NodeId) -> Budget {
        self.peers.get(&node).map_or_else(Budget::default, |peer| peer.answers.clone())
    }

    /// Something came from a node.
    pub fn hear(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = Some(now);
        }
    }

    /// A node announced itself, and some of its replicas.
    pub fn announced(&mut self, node: NodeId, mut announcement: Announcement) {
        if let Some(peer) = self.peers.get_mut(&node) {
            let replicas = std::mem::take(&mut announcement.replicas).into_iter();
            peer.replicas.extend(replicas.map(|replica| (replica.shard, replica)));
            peer.kept = peer.kept.max(announcement.kept);
            peer.told = announcement;
        }
    }

    /// The revision of a map behind which a node does not fall back, as far as it said so.
    pub fn kept(&self, node: NodeId) -> u64 {
        self.peers.get(&node).map_or(0, |peer| peer.kept)
    }

    /// Whether a node last announced that its disk is full.
    pub fn has_full_disk(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.told.disk_full)
    }

    /// What a node last announced of its replica of a shard.
    pub fn replica(&self, node: NodeId, shard: ShardId) -> Option<&Announced> {
        self.peers.get(&node)?.replicas.get(&shard)
    }

    /// When something came from a node last; `None` = never, in this one's present life.
    pub fn heard(&self, node: NodeId) -> Option<Instant> {
        self.peers.get(&node)?.heard
    }

    /// What a node last told of itself, its replicas apart; `None` = nothing.
    pub fn told(&self, node: NodeId) -> Option<&Announcement> {
        self.peers.get(&node).map(|peer| &peer.told).filter(|told| told.clock > 0)
    }

    /// Whether a node was heard of lately.
    pub fn liveness(&self, node: NodeId, now: Instant) -> Liveness {
        let silent = self.peers.get(&node).and_then(|peer| peer.heard).map(|heard| now.since(heard));
        match silent {
            Some(micros) if micros < SUSPECT_MICROS => Liveness::Alive,
            Some(micros) if micros < DEAD_MICROS => Liveness::Suspect,
            _ => Liveness::Dead,
        }
    }

    /// How a node is to people. One that was never heard of is given as long as one that falls silent, before it is called dead: this
    /// node may have just started.
    fn state(&self, node: NodeId, now: Instant) -> Liveness {
        let is_new = |peer: &Peer| peer.heard.is_none() && now.since(peer.known) < DEAD_MICROS;
        match self.peers.get(&node).is_some_and(is_new) {
            true => Liveness::Suspect,
            false => self.liveness(node, now),
        }
    }

    /// The nodes that were alive at the last look and are not any more.
    pub fn fallen_silent(&mut self, now: Instant) -> Vec<NodeId> {
        let alive: Vec<NodeId> = self.ids().filter(|id| self.liveness(*id, now) == Liveness::Alive).collect();
        let fallen = |(&id, peer): (&NodeId, &mut Peer)| {
            let is_alive = alive.contains(&id);
            (std::mem::replace(&mut peer.was_alive, is_alive) && !is_alive).then_some(id)
        };
        self.peers.iter_mut().filter_map(fallen).collect()
    }

    /// Whether a node may be given a role: it can be reached, was heard of lately, and does not stop.
    pub fn takes_roles(&self, node: NodeId, now: Instant) -> bool {
        let stops = self.peers.get(&node).is_some_and(|peer| peer.told.stopping);
        self.is_connected(node) && self.liveness(node, now) == Liveness::Alive && !stops
    }

    /// The node that leads a shard, as far as announcements tell: who says so in the latest epoch with the highest term, unless it
    /// is dead. Where nobody leads, one that takes requests.
    pub fn leader(&self, shard: ShardId, now: Instant) -> Option<NodeId> {
        let living = self.peers.iter().filter(|(id, _)| self.liveness(**id, now) != Liveness::Dead);
        let told = living.filter_map(|(id, peer)| Some((*id, peer.replicas.get(&shard)?)));
        let leads = told.filter(|(_, told)| told.role.takes_requests());
        leads.max_by_key(|(id, told)| (told.epoch, told.term, *id)).map(|(id, _)| id)
    }

    /// The cluster by a map, seen from a node that announces `own`: the shards of all keyspaces but the directory's.
    pub fn status(&self, me: NodeId, own: &Announcement, map: &Map, now: Instant) -> Status {
        let view = |(&id, peer)| {
            let Peer { name, told, replicas, .. }: &Peer = peer;
            View { id, name, state: self.state(id, now), told, replicas }
        };
        let replicas = own.replicas.iter().map(|replica| (replica.shard, replica.clone())).collect();
        let mut views: Vec<View<'_>> = self.peers.iter().map(view).collect();
        let name = map.nodes.get(&me).map_or("", |node| &node.name);
        views.push(View { id: me, name, state: Liveness::Alive, told: own, replicas: &replicas });
        views.sort_by_key(|view| view.id);
        let of_clients = map.shards.iter().filter(|(_, shard)| shard.keyspace != DIRECTORY);
        let shards: Vec<ShardStatus> =
            of_clients.map(|(id, shard)| shard_status(&views, map, *id, shard)).collect();
        let is_led_by = |shard: &&ShardStatus, id| shard.leader == Some(id) && !shard.protocol.is_merged();
        let leads = |id: NodeId| shards.iter().filter(|shard| is_led_by(shard, id)).count() as u32;
        let is_member = |shard: &&ShardStatus, id| shard.members.iter().any(|member| member.node == id);
        let replicas = |id| shards.iter().filter(|shard| is_member(shard, id)).count() as u32;
        let nodes = views.iter().map(|view| {
            let row = map.nodes.get(&view.id);
            let of_row = |field: fn(&Node) -> &String| row.map_or_else(String::new, |row| field(row).clone());
            let announced = Some(&view.told.address).filter(|address| !address.is_empty());
            NodeStatus {
                id: view.id,
                name: view.name.to_owned(),
                address: announced.cloned().unwrap_or_else(|| of_row(|row| &row.address)),
                pid: view.told.pid,
                state: view.state,
                leads: leads(view.id),
                replicas: replicas(view.id),
                peer: of_row(|row| &row.peer),
                zone: of_row(|row| &row.zone),
                duty: row.map_or(NodeDuty::Serve, |node| node.duty),
            }
        });
        let nodes = nodes.collect();
        let directory = map.shards.get(&ShardId::DIRECTORY);
        let directory = directory.map(|shard| shard_status(&views, map, ShardId::DIRECTORY, shard));
        Status { nodes, shards, directory, revision: map.revision, buses: Vec::new() }
    }
}

/// Whether a map has a replica of a shard on a node, or is about to.
fn has_seat(map: &Map, shard: ShardId, node: NodeId) -> bool {
    let has = |members: &[Member]| members.iter().any(|member| member.node == node);
    let changes = || map.changes.get(&shard).is_some_and(|change| has(&change.to));
    let is_part = || map.row_of_part(shard).is_some_and(|row| has(&row.members));
    map.shards.get(&shard).map_or_else(is_part, |row| has(&row.members) || changes())
}

struct View<'a> {
    id: NodeId,
    name: &'a str,
    state: Liveness,
    told: &'a Announcement,
    replicas: &'a BTreeMap<ShardId, Announced>,
}

impl View<'_> {
    fn replica(&self, shard: ShardId) -> Option<&Announced> {
        self.replicas.get(&shard)
    }
}

/// The leader is who says so in the latest epoch with the highest term, unless it is dead; where nobody leads, one that takes requests.
fn shard_status(views: &[View<'_>], map: &Map, id: ShardId, shard: &Shard) -> ShardStatus {
    let living = views.iter().filter(|view| view.state != Liveness::Dead);
    let leads = living.filter_map(|view| {
        view.replica(id).filter(|told| told.role.takes_requests()).map(|told| (told, view.id))
    });
    let leader = leads.max_by_key(|(told, node)| (told.epoch, told.term, *node));
    let epoch = views.iter().filter_map(|view| view.replica(id)).map(|told| told.epoch).max();
    let members = views.iter().filter(|view| has_seat(map, id, view.id));
    let replicas = members.map(|view| {
        let told = view.replica(id).filter(|_| view.state != Liveness::Dead);
        let stale = |role| {
            if role == Role::Leader && leader.map(|(_, id)| id) != Some(view.id) {
                Role::Follower
            } else {
                role
            }
        };
        ReplicaStatus {
            node: view.id,
            role: told.map_or(Role::Unknown, |replica| stale(replica.role)),
            applied: view.replica(id).map_or(0, |replica| replica.applied),
            lease_reads: view.replica(id).map_or(0, |replica| replica.lease_reads),
        }
    });
    ShardStatus {
        id,
        keyspace: shard.keyspace.clone(),
        slots: shard.slots,
        protocol: shard.protocol,
        epoch: epoch.unwrap_or_default(),
        leader: leader.map(|(_, id)| id),
        term: leader.map_or(0, |(told, _)| told.term),
        replicas: replicas.collect(),
        members: members_of(map, id, shard),
    }
}

/// The members of a shard as the directory knows them, and while they change those that come and those that go.
fn members_of(map: &Map, id: ShardId, shard: &Shard) -> Vec<Member> {
    let mut members = shard.members.clone();
    let Some(change) = map.changes.get(&id) else { return members };
    let stays = |node| change.to.iter().any(|member| member.node == node);
    members.iter_mut().filter(|member| !stays(member.node)).for_each(|member| member.duty = Duty::Leaving);
    let duty = match change.phase {
        Phase::Copy => Duty::Learner,
        Phase::Switch => Duty::Joining,
    };
    let comes = change.to.iter().filter(|member| shard.member(member.node).is_none());
    members.extend(comes.map(|member| Member { duty, ..*member }));
    members.sort_by_key(|member| member.node);
    members
}

#[cfg(test)]
mod tests {
    use kv::keyspace::Wish;
    use kv::{Protocol, ReplicaId};
    use placement::map::{Change, DEFAULT, Why};
    use placement::{Event, Founder, Founding, Limits, plan};

    use super::*;
    use crate::wire::Newcomers;

    const SHARD: ShardId = ShardId(1);

    /// Four nodes, three of which have the shard.
    fn map() -> Map {
        let founder = |id| Founder { name: format!("n{id}"), peer: format!("10.0.0.{id}:7421") };
        let (nodes, protocol) = ((1..=4).map(founder).collect(), Protocol::Raft);
        Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas: 3, protocol })
    }

    fn status(map: &Map) -> Status {
        let others = map.nodes.iter().skip(1).map(|(id, node)| (*id, node.name.clone()));
        let own = Announcement { address: "10.0.0.1:7401".into(), ..Announcement::default() };
        Peers::new(others, 1, Instant(0)).status(NodeId(1), &own, map, Instant(0))
    }

    #[test]
    fn status_tells_what_the_map_says_of_nodes_that_were_never_heard_of() {
        let mut map = map();
        let row = map.nodes.get_mut(&NodeId(4)).expect("there are four");
        (row.address, row.zone, row.duty) = ("10.0.0.4:7401".into(), "east".into(), NodeDuty::Drain);
        let Status { nodes, directory, revision, .. } = status(&map);
        let told =
            |node: &NodeStatus| (node.address.clone(), node.peer.clone(), node.zone.clone(), node.duty);
        let drained = ("10.0.0.4:7401".into(), "10.0.0.4:7421".into(), "east".into(), NodeDuty::Drain);
        let own = ("10.0.0.1:7401".into(), "10.0.0.1:7421".into(), String::new(), NodeDuty::Serve);
        assert_eq!((told(&nodes[0]), told(&nodes[3])), (own, drained));
        assert_eq!(nodes.iter().map(|node| node.replicas).sum::<u32>(), 3);
        assert_eq!((directory.map(|shard| shard.id), revision), (Some(ShardId::DIRECTORY), map.revision));
    }

    #[test]
    fn status_tells_who_comes_and_who_goes_while_members_change() {
        let mut map = map();
        let row = &map.shards[&SHARD];
        let without = map.nodes.keys().find(|id| row.member(**id).is_none()).expect("three of four have it");
        let new = Member { node: *without, replica: ReplicaId(4), ..row.members[0] };
        let (gone, epoch) = (row.members[0].node, row.epoch);
        let mut to = vec![row.members[1], row.members[2], new];
        to.sort_by_key(|member| member.node);
        for (phase, coming) in [(Phase::Copy, Duty::Learner), (Phase::Switch, Duty::Joining)] {
            map.changes.insert(SHARD, Change { to: to.clone(), epoch, phase, why: Why::Balance });
            let shard = status(&map).shards.remove(0);
            assert!(shard.members.is_sorted_by_key(|member| member.node) && shard.members.len() == 4);
            let duty =
                |node| shard.members.iter().find(|member| member.node == node).map(|member| member.duty);
            assert_eq!((duty(new.node), duty(gone)), (Some(coming), Some(Duty::Leaving)));
            let staying = to.iter().filter(|member| member.node != new.node);
            assert!(staying.map(|member| duty(member.node)).all(|duty| duty == Some(Duty::Voter)));
        }
    }

    #[test]
    fn what_is_said_of_the_parts_of_a_shard_outlives_the_next_map() {
        let wish = Wish { shards: Some(2), ..Wish::default() };
        let wanted = map().apply(&Event::Alter { name: DEFAULT.into(), wish }).expect("a shard may be split");
        let map = plan(&wanted, &Limits::default()).expect("the plan has it split");
        let part = map.parts_of(SHARD)[0].shard;
        let node = map.shards[&SHARD].members[0].node;
        let names = || map.nodes.iter().map(|(id, row)| (*id, row.name.clone()));
        let mut peers = Peers::new(names(), 1, Instant(0));
        let announced = |shard| Announced {
            shard,
            epoch: kv::Epoch(2),
            revision: kv::view::Revision(1),
            members: 0,
            newcomers: Newcomers::Ready,
            role: Role::Follower,
            leader: None,
            term: 1,
            applied: 1,
            lease_reads: 1 << 30,
            usage: Default::default(),
            copied: Vec::new(),
            heirs: Vec::new(),
        };
        let replicas = vec![announced(part), announced(ShardId(77))];
        peers.announced(node, Announcement { replicas, ..Announcement::default() });
        peers.become_those(names(), &map, Instant(0));
        assert!(peers.replica(node, part).is_some() && peers.replica(node, ShardId(77)).is_none());
    }
}
