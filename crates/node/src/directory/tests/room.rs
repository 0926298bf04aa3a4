//! A few directories over one store of rows, in one thread: who leads, what is seen and what is answered is as a test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kv::admin::{Answer, Ask, Joining};
use kv::cluster::{Liveness, Role};
use kv::view::Revision;
use kv::{
    ClusterId, Condition, Epoch, Error, Expect, Key, Level, NodeId, Op, Page, Protocol, Receipt, Reply, Row,
    ShardId, Value, Version,
};
use placement::map::Map;
use placement::{Founder, Founding, Limits};
use replication::Instant;

use crate::directory::seen::{Says, Seen, SeenNode, digest};
use crate::directory::{Asker, Directory, Input, Output, Standing};
use crate::seat::wanted_of;
use crate::wire::{Announced, Copied, Newcomers};

pub const GRACE_MICROS: u64 = 60_000_000;
pub const CLUSTER: u64 = 0xc1;
/// A step of time.
pub const STEP_MICROS: u64 = 50_000;
pub const TIMEOUT_MICROS: u64 = 5_000_000;

/// The rows of the directory's shard.
#[derive(Default)]
pub struct Store {
    pub rows: BTreeMap<Key, Value>,
    /// The rows as they were at each version; the newest is the last.
    history: Vec<BTreeMap<Key, Value>>,
    /// So many rows are a page.
    pub page_rows: usize,
}

impl Store {
    pub fn run(&mut self, op: &Op) -> Reply {
        match op {
            Op::Range(range) => {
                let version = range.at.map_or(self.history.len() as u64, Version::micros);
                let rows = range.at.map_or(&self.rows, |at| &self.history[at.micros() as usize]);
                let after = |key: &Key| range.page.as_ref().is_none_or(|page| key > page);
                let mut left = rows.iter().filter(|(key, _)| after(key));
                let rows: Vec<Row> =
                    left.by_ref().take(self.page_rows).map(|(key, value)| row(key, value)).collect();
                let next = left.next().and_then(|_| rows.last()).map(|last| last.key.clone());
                reply(version, kv::Answer::Page(Page { count: rows.len() as u64, rows, next }))
            }
            Op::Transaction { conditions, then, .. } => {
                let succeeded = conditions.iter().all(|condition| self.holds(condition));
                if succeeded {
                    self.history.push(self.rows.clone());
                    then.iter().for_each(|op| self.write(op));
                }
                let version = self.history.len() as u64;
                reply(version, kv::Answer::Transaction { succeeded, answers: Vec::new() })
            }
            Op::Get { key, at: None } => {
                let found = self.rows.get(key).map(|value| row(key, value));
                reply(self.history.len() as u64, kv::Answer::Row(found))
            }
            other => panic!("a directory asks no {other:?}"),
        }
    }

    fn holds(&self, condition: &Condition) -> bool {
        match (&condition.expect, self.rows.get(&condition.key)) {
            (Expect::Absent, found) => found.is_none(),
            (Expect::Value(value), found) => found == Some(value),
            other => panic!("a directory expects no {other:?}"),
        }
    }

    fn write(&mut self, op: &Op) {
        match op {
            Op::Put { key, value, .. } => drop(self.rows.insert(key.clone(), value.clone())),
            Op::Delete { key, .. } => drop(self.rows.remove(key)),
            other => panic!("a directory writes no {other:?}"),
        }
    }

    /// The map that the rows are.
    pub fn map(&self) -> Map {
        Map::from_rows(&self.rows).unwrap()
    }
}

fn row(key: &Key, value: &Value) -> Row {
    let (key, value, version) = (key.clone(), value.clone(), Version::ZERO);
    Row { key, value, version, created: version, changes: 1, deadline: None }
}

fn reply(micros: u64, answer: kv::Answer) -> Reply {
    let receipt = Receipt {
        version: Version::end_of(micros),
        shard: ShardId::DIRECTORY,
        protocol: Protocol::Raft,
        epoch: Epoch(1),
        asked: Level::Linearizable,
        reached: Level::Linearizable,
        copies: 1,
        staleness_micros: 0,
        node: NodeId(1),
    };
    Reply { answer, receipt }
}

pub struct Place {
    pub directory: Directory,
    pub map: Arc<Map>,
    /// It believes to lead.
    pub leads: bool,
    /// Whom it believes to lead otherwise.
    pub believes: Option<NodeId>,
    /// Its requests go here and wait, when a test wants to answer them itself.
    pub held: Option<VecDeque<(u64, Op)>>,
}

pub struct Room {
    pub now: Instant,
    pub store: Store,
    pub cluster: Option<ClusterId>,
    pub places: BTreeMap<NodeId, Place>,
    pub seen: Seen,
    pub answers: BTreeMap<u64, Result<Answer, Error>>,
    /// What is passed on to these is lost.
    pub deaf: Vec<NodeId>,
    /// Those that say nothing when they are asked for a word.
    pub silent: Vec<NodeId>,
    clients: u64,
}

impl Room {
    /// So many nodes have founded a cluster of so many shards, of up to three replicas; nobody leads yet.
    pub fn new(nodes: u64, shards: u32) -> Room {
        let founder = |id| Founder { name: format!("n{id}"), peer: format!("h{id}:1") };
        let map = Arc::new(Map::founding(&Founding {
            cluster: None,
            nodes: (1..=nodes).map(founder).collect(),
            shards,
            replicas: 3,
            protocol: Protocol::Raft,
        }));
        let place = |id| {
            let directory = Directory::new(GRACE_MICROS, Limits::default(), id);
            (NodeId(id), Place { directory, map: map.clone(), leads: false, believes: None, held: None })
        };
        let mut room = Room {
            now: Instant(1_000_000),
            store: Store { page_rows: 10_000, ..Store::default() },
            cluster: ClusterId::new(CLUSTER),
            places: (1..=nodes).map(place).collect(),
            seen: Seen::default(),
            answers: BTreeMap::new(),
            deaf: Vec::new(),
            silent: Vec::new(),
            clients: 0,
        };
        (1..=nodes).for_each(|id| room.hear(id, Some(Liveness::Alive)));
        room
    }

    /// With a cluster that its first node leads, and all that follows from its founding done.
    pub fn founded(nodes: u64, shards: u32) -> Room {
        let mut room = Room::new(nodes, shards);
        room.lead(1);
        room.pass(4_000_000);
        room
    }

    /// A node is seen so from now on, and says what it is.
    pub fn hear(&mut self, id: u64, state: Option<Liveness>) {
        let says = Says {
            incarnation: 100 + id,
            peer: format!("h{id}:1"),
            address: format!("h{id}:2"),
            zone: String::new(),
        };
        self.seen.nodes.insert(
            NodeId(id),
            SeenNode { state, heard: Some(self.now), is_connected: true, says: Some(says), kept: u64::MAX },
        );
    }

    /// A node has kept this map, and no later one.
    pub fn keeps(&mut self, id: u64, revision: u64) {
        self.seen.nodes.get_mut(&NodeId(id)).unwrap().kept = revision;
    }

    /// This node leads from now on, and all know it.
    pub fn lead(&mut self, leader: u64) {
        for (id, place) in &mut self.places {
            place.leads = id.0 == leader;
            place.believes = (id.0 != leader).then_some(NodeId(leader));
        }
    }

    pub fn place(&mut self, id: u64) -> &mut Place {
        self.places.get_mut(&NodeId(id)).unwrap()
    }

    /// What a leader decides with.
    pub fn decides(&self, id: u64) -> Option<&Map> {
        self.places[&NodeId(id)].directory.map()
    }

    /// Lets time pass, and all that follows happen.
    pub fn pass(&mut self, micros: u64) {
        for _ in 0..micros.div_ceil(STEP_MICROS) {
            self.now = self.now.plus(STEP_MICROS);
            let ids: Vec<NodeId> = self.places.keys().copied().collect();
            ids.into_iter().for_each(|id| self.turn(id));
        }
    }

    fn turn(&mut self, id: NodeId) {
        let place = &self.places[&id];
        let (map, leads) = (place.map.clone(), place.leads);
        let leader = place.believes.filter(|_| !leads);
        let standing = Standing { now: self.now, leads, leader, map, cluster: self.cluster };
        self.step(id, Input::Tick(standing));
        if self.places[&id].directory.looks() {
            let seen = self.seen.clone();
            self.step(id, Input::Seen(seen));
        }
    }

    /// Gives a node an input, and carries out what it wants done.
    pub fn step(&mut self, id: NodeId, input: Input) {
        let mut out = Vec::new();
        self.places.get_mut(&id).unwrap().directory.step(input, &mut out);
        for output in out {
            self.carry_out(id, output);
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Request { number, op } => match &mut self.places.get_mut(&id).unwrap().held {
                Some(held) => held.push_back((number, op)),
                None => {
                    let result = Ok(self.store.run(&op));
                    self.step(id, Input::Answered { number, result });
                }
            },
            Output::Sound => {
                let speak = self.seen.nodes.iter_mut().filter(|(node, _)| !self.silent.contains(node));
                speak.for_each(|(_, seen)| seen.heard = Some(self.now));
            }
            Output::Map(map) => self.places.get_mut(&id).unwrap().map = map,
            Output::Pass { to, token, ask } => {
                if !self.deaf.contains(&to) {
                    self.step(to, Input::Passed { asker: Asker::Node { node: id, token }, ask });
                }
            }
            Output::Tell { to, token, result } => self.step(to, Input::Told { from: id, token, result }),
            Output::Answer { client, result } => {
                assert!(self.answers.insert(client, result).is_none(), "an ask is answered once");
            }
        }
    }

    /// Asks at a node; the answer is in `answers` under the returned name when it has come.
    pub fn ask(&mut self, id: u64, ask: Ask) -> u64 {
        self.clients += 1;
        let (client, timeout_micros) = (self.clients, TIMEOUT_MICROS);
        self.step(NodeId(id), Input::Ask { client, ask, timeout_micros });
        client
    }

    /// Asks at a node, and waits for the answer.
    pub fn call(&mut self, id: u64, ask: Ask) -> Result<Answer, Error> {
        let client = self.ask(id, ask);
        self.wait_for(client)
    }

    pub fn wait_for(&mut self, client: u64) -> Result<Answer, Error> {
        for _ in 0..2 * TIMEOUT_MICROS / STEP_MICROS {
            if let Some(answer) = self.answers.remove(&client) {
                return answer;
            }
            self.pass(STEP_MICROS);
        }
        panic!("an ask is answered in its time");
    }

    /// Takes the oldest request that is held of a node.
    pub fn take_held(&mut self, id: u64) -> (u64, Op) {
        self.place(id).held.as_mut().unwrap().pop_front().expect("the node has asked something")
    }

    /// Answers a request as the store does.
    pub fn answer(&mut self, id: u64, (number, op): (u64, Op)) {
        let result = Ok(self.store.run(&op));
        self.step(NodeId(id), Input::Answered { number, result });
    }

    /// A changing shard comes to where its change has it go: those that learn have caught up, or its members are the new ones.
    pub fn go_on(&mut self, shard: ShardId) {
        let map = self.store.map();
        let (row, change) = (&map.shards[&shard], &map.changes[&shard]);
        let members = wanted_of(&map, shard, row);
        let nodes: Vec<u64> = change.to.iter().map(|member| member.node.0).collect();
        self.say(shard, &nodes, digest(&members), Newcomers::Ready);
    }

    /// Replicas of a shard, the first of which leads, say that it has these members; the others are silent.
    pub fn say(&mut self, shard: ShardId, nodes: &[u64], members: u64, newcomers: Newcomers) {
        let row = self.store.map().shards[&shard].clone();
        let before = self.seen.leader(shard).map_or(row.revision, |told| told.revision.max(row.revision));
        let told = |node: u64| Announced {
            shard,
            epoch: row.epoch,
            revision: Revision(before.0 + 1),
            members,
            newcomers,
            role: if node == nodes[0] { Role::Leader } else { Role::Follower },
            leader: None,
            term: 1,
            applied: 1,
            lease_reads: 1 << 30,
            usage: Default::default(),
            copied: vec![(NodeId(4), Copied { done: 30, total: 40 })],
            heirs: Vec::new(),
        };
        let told = nodes.iter().map(|node| (NodeId(*node), told(*node))).collect();
        self.seen.shards.insert(shard, told);
    }
}

/// A node that wants to join.
pub fn joining(id: u64) -> Ask {
    Ask::Join(Joining {
        name: format!("n{id}"),
        incarnation: 100 + id,
        peer: format!("h{id}:1"),
        address: format!("h{id}:2"),
        zone: String::new(),
    })
}
