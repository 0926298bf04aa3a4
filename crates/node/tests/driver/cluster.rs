//! A few nodes in one thread, each with a driver a core, for tests: every message arrives, every sync and job succeeds, time moves when told.

mod crash;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Error, NodeId, Op, Reply, ShardId};
use node::cores::Deal;
use node::gather::Split;
use node::route::{Keyspaces, Plan};
use node::wire::Frame;
use node::{Config, Driver, Executor, Input, Now, Part, Ran, Recovery, Work};
use placement::map::{DEFAULT, Map};
use replication::Instant;
use storage::{History, Kind, Options, ShardSnapshot, Table};

use crate::maps::{founding, without_directory};

/// Two seconds in steps of a tick are enough for an election.
pub const ELECTION_STEPS: usize = 120;
const STEP_MICROS: u64 = 25_000;

pub struct Cluster {
    pub nodes: BTreeMap<NodeId, Node>,
    pub instant: u64,
    pub answers: BTreeMap<u64, Result<Reply, Error>>,
    /// What was handed out, a word each, in order.
    pub seen: Vec<(NodeId, &'static str)>,
    pub cut: Vec<NodeId>,
    /// What is sent to these is lost, and nobody notices.
    pub deaf: Vec<NodeId>,
    /// The frames that were sent: from, to, what.
    pub sent: Vec<(NodeId, NodeId, Frame)>,
    /// The snapshots that were sent: they arrive when a test has them arrive.
    pub snapshots: Vec<SentSnapshot>,
    /// Those that arrive, by stream; a piece is sent when the one before was taken.
    streams: BTreeMap<u64, SentSnapshot>,
    /// Those whose last piece was taken, or not.
    taken: Vec<(u64, bool)>,
    /// What the directory has answered.
    pub administered: BTreeMap<u64, Result<kv::admin::Answer, Error>>,
    /// The map that clients know.
    pub map: Arc<Map>,
    clients: u64,
    /// Turns of nodes so far, and those that crash after how many.
    pub turns: usize,
    pub crash: Option<(usize, Vec<NodeId>)>,
    /// One begins a checkpoint after so many.
    pub checkpoint: Option<(usize, NodeId)>,
    /// The logs of these sync nothing for now; what waits for it.
    pub slow: Vec<NodeId>,
    /// No map reaches this one.
    pub mapless: Option<NodeId>,
    /// The log of this one syncs nothing from the append on that opens parts of a shard.
    pub opens_late: Option<NodeId>,
    held: Vec<(NodeId, Input)>,
    /// A checkpoint lets go of what is before it in the log.
    pub trims: bool,
}

/// A snapshot on its way.
pub struct SentSnapshot {
    pub from: NodeId,
    pub to: NodeId,
    pub shard: ShardId,
    pub header: Bytes,
    pub snapshot: Box<ShardSnapshot>,
    /// Bytes that were sent.
    done: u64,
    /// All its pieces were sent.
    ended: bool,
}

pub struct Node {
    pub cores: Vec<Core>,
    deal: Deal,
    /// Wall clock less the true time, in microseconds.
    pub wall_offset: i64,
    /// The records that were appended, in order.
    pub log: Vec<wal::Record>,
    /// So many of them are known to be synced.
    synced: usize,
    /// Appends that are not: core, ticket, where they end.
    unsynced: VecDeque<(usize, u64, usize)>,
    /// Where a checkpoint began that is under way.
    checkpoint: Option<usize>,
    /// The map that it was founded with.
    founding: Arc<Map>,
    /// The engine, and the folder of its files.
    engine: Arc<dyn storage::Engine>,
    folder: Arc<tempfile::TempDir>,
}

/// A driver and its table.
pub struct Core {
    pub driver: Driver,
    pub executor: Executor,
    inputs: VecDeque<Input>,
}

impl Cluster {
    /// Of nodes with one core.
    pub fn new(count: u64, shards: u32) -> Cluster {
        Cluster::of_cores(&vec![1; count as usize], shards)
    }

    /// Of a node for each of these numbers of cores.
    pub fn of_cores(cores: &[usize], shards: u32) -> Cluster {
        let count = cores.len() as u64;
        let replicas = 5.min(cores.len() as u16);
        Cluster::of_map(cores, without_directory(founding(count, shards, replicas)))
    }

    /// Of a node for each of these numbers of cores, that begin with a map.
    pub fn of_map(cores: &[usize], map: Map) -> Cluster {
        let map = Arc::new(map);
        let ids = (1..=cores.len() as u64).map(NodeId);
        let node = |me: NodeId| (me, Node::new(me, me.0, cores[me.0 as usize - 1], map.clone()));
        let mut cluster = Cluster {
            nodes: ids.map(node).collect(),
            instant: 1_000_000,
            answers: BTreeMap::new(),
            seen: Vec::new(),
            cut: Vec::new(),
            deaf: Vec::new(),
            sent: Vec::new(),
            snapshots: Vec::new(),
            streams: BTreeMap::new(),
            taken: Vec::new(),
            administered: BTreeMap::new(),
            map,
            clients: 0,
            turns: 0,
            crash: None,
            checkpoint: None,
            slow: Vec::new(),
            mapless: None,
            opens_late: None,
            held: Vec::new(),
            trims: false,
        };
        cluster.connect_all();
        cluster
    }

    /// Asks a node; the answer is in `answers` under the returned name when it has come.
    pub fn ask(&mut self, node: NodeId, op: Op) -> u64 {
        self.ask_with(node, op, None)
    }

    pub fn ask_with(&mut self, node: NodeId, op: Op, id: Option<kv::RequestId>) -> u64 {
        self.ask_part(node, op, |part| Part { id, ..part })
    }

    pub fn ask_part(&mut self, node: NodeId, op: Op, with: impl FnOnce(Part) -> Part) -> u64 {
        self.clients += 1;
        let known = Keyspaces::new(self.nodes[&node].cores[0].driver.map());
        let founded = Keyspaces::new(&self.map);
        let shards = known.shards(DEFAULT).or(founded.shards(DEFAULT)).unwrap();
        let plan = Plan::new(shards, op).unwrap();
        let [(shard, op)] = &plan.parts[..] else { panic!("tests ask one shard") };
        let (shard, op, charge) = (*shard, op.clone(), kv::Charge::default());
        let (id, level, timeout_micros) = (None, None, 3_000_000);
        let part = Part { shard, op, level, id, timeout_micros, charge, in_doubt: false, here: false };
        let client = self.clients;
        self.input(node, Input::Part { client, part: with(part) });
        client
    }

    /// Asks and waits for the answer, or until there can be none.
    pub fn call(&mut self, node: NodeId, op: Op) -> Result<Reply, Error> {
        let client = self.ask(node, op);
        self.wait_for(client)
    }

    /// Reads at a level, and waits for the answer.
    pub fn read(&mut self, node: NodeId, op: Op, level: kv::Level) -> Reply {
        let client = self.ask_part(node, op, |part| Part { level: Some(level), ..part });
        self.wait_for(client).unwrap()
    }

    pub fn wait_for(&mut self, client: u64) -> Result<Reply, Error> {
        for _ in 0..4 * ELECTION_STEPS {
            if let Some(answer) = self.answers.remove(&client) {
                return answer;
            }
            self.step();
        }
        panic!("no answer within the time limit of the request");
    }

    /// Lets a tick pass and everything happen that follows.
    pub fn step(&mut self) {
        self.instant += STEP_MICROS;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in &ids {
            self.turn(*id);
        }
        while let Some(id) = ids.iter().find(|id| self.nodes[id].has_inputs()) {
            self.turn(*id);
        }
    }

    pub fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step());
    }

    /// The node that leads the only shard.
    pub fn leader(&mut self) -> NodeId {
        for _ in 0..2 * ELECTION_STEPS {
            let uncut = self.nodes.iter().filter(|(id, _)| !self.cut.contains(id));
            let leading: Vec<NodeId> =
                uncut.filter(|(_, node)| node.leads() > 0).map(|(id, _)| *id).collect();
            if let [leader] = leading[..] {
                return leader;
            }
            self.step();
        }
        panic!("no single leader");
    }

    /// The node that leads a shard.
    pub fn leader_of(&mut self, shard: ShardId) -> NodeId {
        for _ in 0..2 * ELECTION_STEPS {
            let leads = |node: &Node| {
                let status = node.replica_status(shard);
                status.is_some_and(|status| status.role == Role::Leader)
            };
            let leading: Vec<NodeId> =
                self.nodes.iter().filter(|(_, node)| leads(node)).map(|(id, _)| *id).collect();
            if let [leader] = leading[..] {
                return leader;
            }
            self.step();
        }
        panic!("no single leader");
    }

    /// A node joins that has nothing yet, not even a map.
    pub fn join(&mut self, id: NodeId) {
        self.nodes.insert(id, Node::new(id, id.0, 1, Arc::default()));
        for other in Vec::from_iter(self.nodes.keys().copied().filter(|other| *other != id)) {
            self.input(other, Input::PeerUp { node: id });
            self.input(id, Input::PeerUp { node: other });
        }
    }

    /// One turn of a node with one core by hand: what it hands out is not carried out.
    pub fn turn_of(&mut self, id: NodeId, input: Input) -> Vec<Work> {
        self.turn_of_core(id, 0, input)
    }

    /// One turn of a core by hand.
    pub fn turn_of_core(&mut self, id: NodeId, core: usize, input: Input) -> Vec<Work> {
        let (instant, mut work) = (self.instant, Vec::new());
        let node = self.node(id);
        let now = node.now(instant);
        node.cores[core].driver.turn(now, &mut vec![input], &mut work);
        work
    }

    /// Cuts a node off the others.
    pub fn cut(&mut self, node: NodeId) {
        self.cut.push(node);
        let ids: Vec<NodeId> = self.nodes.keys().copied().filter(|id| *id != node).collect();
        for other in ids {
            self.input(other, Input::PeerDown { node });
            self.input(node, Input::PeerDown { node: other });
        }
    }

    /// Connects a node again that was cut off.
    pub fn mend(&mut self, node: NodeId) {
        self.cut.retain(|cut| *cut != node);
        let ids: Vec<NodeId> = self.nodes.keys().copied().filter(|id| *id != node).collect();
        for other in ids {
            self.input(other, Input::PeerUp { node });
            self.input(node, Input::PeerUp { node: other });
        }
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("the test names a node of the cluster")
    }

    pub fn input(&mut self, node: NodeId, input: Input) {
        let Node { deal, cores, .. } = self.node(node);
        input.deal(deal, &mut |core, input| cores[core].inputs.push_back(input));
    }

    fn connect_all(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for one in &ids {
            for other in ids.iter().filter(|other| *other != one) {
                self.input(*one, Input::PeerUp { node: *other });
            }
        }
    }

    /// A turn of each core, one after the other.
    fn turn(&mut self, id: NodeId) {
        for core in 0..self.nodes[&id].cores.len() {
            let instant = self.instant;
            let node = self.node(id);
            let now = node.now(instant);
            node.note_synced(core);
            let Core { driver, inputs, .. } = &mut node.cores[core];
            let (mut inputs, mut work) = (inputs.drain(..).collect(), Vec::new());
            driver.turn(now, &mut inputs, &mut work);
            work.into_iter().for_each(|work| self.carry_out(id, core, work));
        }
        self.count_turn();
    }

    fn carry_out(&mut self, id: NodeId, place: usize, work: Work) {
        match work {
            Work::Append { ticket, records, checkpoint } => {
                self.seen.push((id, "append"));
                let opens =
                    |record: &wal::Record| record.stream > 1 && node::observe::generation(record).is_some();
                if self.opens_late == Some(id) && records.iter().any(opens) {
                    self.slow.push(id);
                }
                self.node(id).append(place, ticket, records, checkpoint);
                match self.slow.contains(&id) {
                    true => self.held.push((id, Input::Durable { ticket })),
                    false => self.node(id).cores[place].inputs.push_back(Input::Durable { ticket }),
                }
            }
            Work::Send { to, frame, .. } => self.deliver(id, to, frame),
            Work::Run(job) => {
                let core = &mut self.node(id).cores[place];
                let done = match core.executor.run(job).unwrap() {
                    Ran::Done(done) => done,
                    Ran::Later(later) => later().unwrap(),
                };
                let name = match &done {
                    node::Done::Applied { .. } => "apply",
                    node::Done::Read { .. } => "read",
                    _ => "other",
                };
                core.inputs.push_back(Input::Done(done));
                self.seen.push((id, name));
            }
            Work::Answer { client, result } => {
                self.seen.push((id, "answer"));
                assert!(self.answers.insert(client, result).is_none(), "a request is answered once");
            }
            Work::SendSnapshot { shard, to, header, snapshot } => {
                self.snapshots.push(SentSnapshot {
                    from: id,
                    to,
                    shard,
                    header,
                    snapshot,
                    done: 0,
                    ended: false,
                });
            }
            Work::Release if self.trims => self.node(id).release(),
            Work::SnapshotTaken { stream, taken } => self.taken.push((stream, taken)),
            Work::Tell { core, word } => self.node(id).cores[core].inputs.push_back(Input::Told(word)),
            Work::Replan { client, planned } => self.planned_again(id, client, planned),
            Work::Decided(map) => self.input(id, Input::Map(map)),
            Work::Announced(replicas) => self.input(id, Input::Announced(replicas)),
            Work::Administered { client, result } => {
                assert!(self.administered.insert(client, result).is_none(), "an ask is answered once");
            }
            _ => {}
        }
    }

    /// A part goes to where its keys are now.
    fn planned_again(&mut self, id: NodeId, client: u64, planned: Result<Split, Error>) {
        match planned {
            Ok(Split::One(part)) => self.input(id, Input::Part { client, part }),
            Ok(Split::Several(..)) => panic!("tests ask one shard"),
            Err(error) => drop(self.answers.insert(client, Err(error))),
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        let frame = Frame::decode(&bytes).unwrap();
        if matches!(frame, Frame::Forward { .. }) {
            self.seen.push((from, "forward"));
        }
        let is_deaf =
            self.deaf.contains(&to) || self.mapless == Some(to) && matches!(frame, Frame::Map { .. });
        self.sent.push((from, to, frame));
        let arrives = !self.cut.contains(&from) && !self.cut.contains(&to) && !is_deaf;
        if arrives && self.nodes.contains_key(&to) {
            self.input(to, Input::Frame { from, bytes });
        }
    }
}

impl Node {
    fn new(me: NodeId, seed: u64, cores: usize, map: Arc<Map>) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let engine = storage::open(Kind::Memory, folder.path()).unwrap();
        Node::begin((me, seed), cores, map, Vec::new(), (engine, Arc::new(folder)), 1_000_000)
    }

    /// One whose log has these records.
    fn begin(
        (me, seed): (NodeId, u64),
        cores: usize,
        founding: Arc<Map>,
        log: Vec<wal::Record>,
        (engine, folder): (Arc<dyn storage::Engine>, Arc<tempfile::TempDir>),
        instant: u64,
    ) -> Node {
        let mut recovery = Recovery::default();
        log.iter().for_each(|record| recovery.replay(record).unwrap());
        let map = recovery.map(Map::clone(&founding));
        let config = Config {
            deal: Deal::new(cores, map.nodes.len()),
            seed,
            entry_cache_bytes: 1 << 20,
            pid: me.0 as u32,
            address: format!("127.0.0.1:{}", me.0),
            incarnation: 100 + me.0,
            peer: format!("h{me}:1"),
            ..Config::new(me, map)
        };
        let deal = config.deal;
        let table = |_| Table::open(engine.clone(), Options::of(History::Count(16)));
        let mut tables: Vec<Table> = (0..deal.cores()).map(table).collect();
        let mut load = |shard, (rows, layout)| tables[deal.core_of(shard)].load_as(shard, rows, layout);
        let found = recovery.replicas(me, &config.map).into_iter();
        let applied = found.map(|(shard, rows)| (shard, load(shard, rows).unwrap())).collect();
        let drivers = Driver::all(config, recovery, &applied, now(instant, 0)).unwrap();
        let core = |(driver, table)| Core { driver, executor: Executor::new(table), inputs: VecDeque::new() };
        let cores = drivers.into_iter().zip(tables).map(core).collect();
        let (synced, unsynced) = (log.len(), VecDeque::new());
        Node {
            cores,
            deal,
            wall_offset: 0,
            log,
            synced,
            unsynced,
            checkpoint: None,
            founding,
            engine,
            folder,
        }
    }

    /// Of a node with one core.
    pub fn driver(&self) -> &Driver {
        let [core] = &self.cores[..] else { panic!("the node has several cores") };
        &core.driver
    }

    /// Of a node with one core.
    pub fn executor(&self) -> &Executor {
        &self.cores[0].executor
    }

    /// Of a node with one core.
    pub fn executor_mut(&mut self) -> &mut Executor {
        &mut self.cores[0].executor
    }

    /// How its replica of a shard is.
    pub fn replica_status(&self, shard: ShardId) -> Option<replication::Status> {
        self.cores[self.deal.core_of(shard)].driver.replica_status(shard)
    }

    /// The cluster as it shows it.
    pub fn status(&self) -> kv::cluster::Status {
        let others = self.cores[1..].iter().flat_map(|core| core.driver.announced());
        self.cores[0].driver.status(others.collect())
    }

    /// How many shards it leads.
    pub fn leads(&self) -> usize {
        self.cores.iter().map(|core| core.driver.leads()).sum()
    }

    fn has_inputs(&self) -> bool {
        self.cores.iter().any(|core| !core.inputs.is_empty())
    }

    fn now(&self, instant: u64) -> Now {
        now(instant, self.wall_offset)
    }
}

fn now(instant: u64, wall_offset: i64) -> Now {
    Now {
        instant: Instant(instant),
        wall: (1_700_000_000_000_000 + instant).saturating_add_signed(wall_offset),
    }
}
