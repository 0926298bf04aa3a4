//! Clients at work on one keyspace: each stays with its node, and all that it asks is recorded.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use check::generate::{Generator, Keys, Rng, Workload};
use check::history::{History, Recorder};
use kv::{Class, Error, Function, Key, Level, Op, Reply, Request};
use tokio::task::{JoinHandle, JoinSet};

use crate::cluster::Node;
use crate::listed::Listed;
use crate::places::{Limits, Places};
use crate::seen::{self, Came, Kind, Seen};
use crate::{Choice, Pinned, cluster};

/// Clients at each node that write, each one thing after the other.
const WRITERS_PER_NODE: usize = 2;
/// And two that read: what is linearizable, and what may be stale.
const CLIENTS_PER_NODE: usize = WRITERS_PER_NODE + 2;
/// The levels of reads that may be stale.
const WEAK: [Level; 2] = [Level::Bounded(BOUND_MILLIS), Level::Local];
/// Keys of each of the two workloads, all asked for alike: so many that most are not being written when a fault comes.
const KEYS: Keys = Keys { count: 32, skew: 0.0 };
/// Values that are appended to are read and judged as a whole, so a key makes way early.
const LIMITS: Limits = Limits { requests: 200, doubtful: 3 };
/// How long a request may take: a user would not wait longer, and a phase has room for several.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Reads at the level `bounded` may miss the writes of so many last milliseconds.
const BOUND_MILLIS: u64 = 500;
/// A pause between the requests of a writer, at most, in milliseconds: it bounds the history.
const PACE_MILLIS_MAX: u64 = 10;
/// A pause after a failure, at least: a node that refuses at once says nothing new.
const PACE_AFTER_FAILURE: Duration = Duration::from_millis(40);
/// From a read of a node's reader to the next, whatever becomes of the first: readers are many and do not wait for each other.
const READ_EVERY: Duration = Duration::from_millis(20);
/// A reader has no more reads under way: twice those that are asked until the first is given up.
const READS_OPEN_MAX: usize = 100;
/// How often a client looks whether its node is there again.
const LOOK: Duration = Duration::from_millis(20);
/// How long the last reads are asked for: longer than an election.
const LAST_READS: Duration = Duration::from_secs(30);

/// Clients at work.
pub struct Workers {
    shared: Rc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    nodes: Vec<Node>,
}

/// What they saw, to the end.
pub struct Recorded {
    /// Each request but the last reads.
    pub seen: Vec<Seen>,
    /// All of them, for the judge.
    pub history: History,
    /// What is left of each key: the lowest version that any node has.
    pub left: Vec<(Key, kv::Version)>,
    /// Of a choice that may lose what it acknowledged: what is there, and what is listed.
    pub listed: Option<Listed>,
}

/// What the clients have in common.
struct Shared {
    keyspace: String,
    /// Writes may depend on what is there.
    is_led: bool,
    /// How what is there at the end is read.
    strongest: Level,
    began: Instant,
    stop: Cell<bool>,
    /// Whose clients ask nobody, since its process is killed.
    down: Cell<Option<usize>>,
    recorder: RefCell<Recorder>,
    seen: RefCell<Vec<Seen>>,
    places: RefCell<Places>,
}

impl Workers {
    /// Starts clients at these nodes on the keyspace of a choice. Must be called within a set of local tasks.
    pub fn start(nodes: &[Node], choice: &Choice) -> Result<Workers, Error> {
        let shared = Rc::new(Shared {
            keyspace: choice.name.into(),
            is_led: choice.is_led(),
            strongest: choice.strongest(),
            began: Instant::now(),
            stop: Cell::default(),
            down: Cell::default(),
            recorder: RefCell::default(),
            seen: RefCell::default(),
            places: RefCell::new(Places::new(cluster::random(), LIMITS)),
        });
        let mut tasks = Vec::new();
        for (node, Node { address, .. }) in nodes.iter().enumerate() {
            let pinned = Pinned::new(address)?;
            let client = |number: usize| {
                let (pinned, shared) = (pinned.clone(), shared.clone());
                let number = (node * CLIENTS_PER_NODE + number) as u64;
                (Client { node, number, pinned, shared }, Rng::new(cluster::random()))
            };
            for number in 0..WRITERS_PER_NODE {
                let (client, rng) = client(number);
                tasks.push(tokio::task::spawn_local(client.write(rng)));
            }
            for (number, levels) in [&[Level::Linearizable][..], &WEAK].into_iter().enumerate() {
                let (client, rng) = client(WRITERS_PER_NODE + number);
                tasks.push(tokio::task::spawn_local(client.read(levels, rng)));
            }
        }
        Ok(Workers { shared, tasks, nodes: nodes.to_vec() })
    }

    /// The time since they were started, in microseconds.
    pub fn micros(&self) -> u64 {
        self.shared.micros()
    }

    /// The clients of this node ask nobody from now on; `None` = all ask.
    pub fn set_down(&self, node: Option<usize>) {
        self.shared.down.set(node);
    }

    /// Stops them, and reads every key through every node, all of which must serve; and what is listed as lost, where that may be.
    pub async fn end(self, may_lose: bool) -> Result<Recorded, crate::Error> {
        self.shared.stop.set(true);
        for task in self.tasks {
            task.await.expect("a client does not panic");
        }
        let seen = self.shared.seen.take();
        let names = self.shared.places.borrow().names().clone();
        let mut left: Vec<(Key, kv::Version)> =
            names.into_iter().map(|key| (key, kv::Version::MAX)).collect();
        for (node, Node { name, address }) in self.nodes.iter().enumerate() {
            let mut pinned = Pinned::new(address)?;
            for (key, oldest) in &mut left {
                let read = self.shared.last_read(node, &mut pinned, key).await;
                let version = read.map_err(|error| {
                    crate::Error::Unavailable(format!("reading all keys at the end, {name} says: {error}"))
                })?;
                *oldest = version.min(*oldest);
            }
        }
        let listed = match may_lose {
            true => {
                let keys: Vec<Key> = left.iter().map(|(key, _)| key.clone()).collect();
                let mut pinned = Pinned::new(&self.nodes[0].address)?;
                let listed = Listed::read(&mut pinned, &self.shared.keyspace, &keys).await;
                Some(listed.map_err(|error| error_of("reading the ledger", &error))?)
            }
            false => None,
        };
        let shared = Rc::into_inner(self.shared).expect("all clients have ended");
        Ok(Recorded { seen, history: shared.recorder.into_inner().into_history(), left, listed })
    }
}

fn error_of(what: &str, error: &Error) -> crate::Error {
    crate::Error::Unavailable(format!("{what}: {error}"))
}

/// One client.
#[derive(Clone)]
struct Client {
    node: usize,
    number: u64,
    pinned: Pinned,
    shared: Rc<Shared>,
}

impl Client {
    /// Writes.
    async fn write(mut self, mut rng: Rng) {
        let generator = |workload, seed| Generator::client(workload, KEYS, seed, self.number);
        let mut generators = [Workload::Register, Workload::Appends]
            .map(|workload| (workload, generator(workload, rng.next_u64())));
        while self.shared.goes_on(self.node).await {
            let (workload, generator) = &mut generators[rng.below(2) as usize];
            let mut op = generator.next_op();
            // Reads have clients of their own, which no write keeps waiting.
            if op.class() == Class::Read {
                continue;
            }
            if !self.shared.is_led {
                op = as_put(op);
            }
            let place = self.shared.places.borrow_mut().place(*workload, &mut op);
            let came = self.ask(op, None).await;
            if came == Came::InDoubt {
                self.shared.places.borrow_mut().doubted(&place);
            }
            let pause = Duration::from_millis(rng.below(PACE_MILLIS_MAX + 1));
            let more = if came.is_done() { Duration::ZERO } else { PACE_AFTER_FAILURE };
            tokio::time::sleep(pause + more).await;
        }
    }

    /// Reads at these levels, one after the other.
    async fn read(self, levels: &'static [Level], mut rng: Rng) {
        let mut open = JoinSet::new();
        for level in levels.iter().cycle() {
            if !self.shared.goes_on(self.node).await {
                break;
            }
            while open.try_join_next().is_some() {}
            let keys = self.shared.places.borrow().current();
            if !keys.is_empty() && open.len() < READS_OPEN_MAX {
                let key = keys[rng.below(keys.len() as u64) as usize].clone();
                let mut client = self.clone();
                let read = async move { client.ask(Op::Get { key, at: None }, Some(*level)).await };
                open.spawn_local(read);
            }
            tokio::time::sleep(READ_EVERY).await;
        }
        open.join_all().await;
    }

    async fn ask(&mut self, op: Op, level: Option<Level>) -> Came {
        let (key, keyspace) = (seen::key(&op), self.shared.keyspace.clone());
        let request = Request { keyspace, level, timeout: TIMEOUT, ..Request::new(op) };
        let kind = Kind::of(&request);
        let called = self.shared.micros();
        let ticket = self.shared.recorder.borrow_mut().invoke(self.number, &request, called);
        let result = self.pinned.call(request).await;
        let returned = self.shared.micros();
        self.shared.recorder.borrow_mut().complete(ticket, &result, returned);
        let came = Came::of(kind, &result);
        self.shared.seen.borrow_mut().push(Seen { node: self.node, kind, key, called, returned, came });
        came
    }
}

/// A write of the same value that does not depend on what is there.
fn as_put(op: Op) -> Op {
    let put = |key, value| Op::Put { key, value, deadline: None, previous: false };
    match op {
        Op::Update { key, function: Function::Append { value, .. }, .. }
        | Op::Update { key, function: Function::CompareAndPut { value, .. }, .. } => put(key, value),
        op => op,
    }
}

impl Shared {
    /// Waits while a node is down; whether its clients are to ask on.
    async fn goes_on(&self, node: usize) -> bool {
        while self.down.get() == Some(node) && !self.stop.get() {
            tokio::time::sleep(LOOK).await;
        }
        !self.stop.get()
    }

    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Reads a key until it is answered: since when its value is there.
    async fn last_read(&self, node: usize, pinned: &mut Pinned, key: &Key) -> Result<kv::Version, Error> {
        let until = Instant::now() + LAST_READS;
        let client = u64::from(u32::MAX) + node as u64;
        loop {
            let op = Op::Get { key: key.clone(), at: None };
            let request =
                Request { keyspace: self.keyspace.clone(), level: Some(self.strongest), ..Request::new(op) };
            let is_judged = self.strongest == Level::Linearizable;
            let ticket =
                is_judged.then(|| self.recorder.borrow_mut().invoke(client, &request, self.micros()));
            let result: Result<Reply, Error> = pinned.call(request).await;
            if let Some(ticket) = ticket {
                self.recorder.borrow_mut().complete(ticket, &result, self.micros());
            }
            match (Came::of(Kind::Read, &result), result) {
                (Came::Read { version, .. }, _) => return Ok(version),
                (_, Err(error)) if Instant::now() >= until => return Err(error),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
