//! Clients whose every request is recorded, and judged at the end: did they see one copy of the data?
//!
//! At each node one client finds the leaders by itself and repeats under request ids what is lost; others stay with their
//! node, whoever leads, and never repeat. They draw ops of the workloads `register` and `kv` over few keys. At the end every
//! key that was ever named is read through every node, so that a lost write that was acknowledged is seen, and the history is
//! judged ([`crate::judge`]). Or all find the leaders by themselves and have the usual time, as programs do: then it is noted
//! what failed, which should be nothing.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use check::generate::{Generator, Keys, Workload};
use check::history::Recorder;
use dialects::native::Client;
use kv::{Class, Error, Expect, Function, Level, Op, Outcome, Reply, Request, Value};
use lab::{Figures, Limits, Places};
use tokio::task::JoinHandle;

use crate::clients::Pinned;
use crate::judge;
use crate::nodes::{Lab, PATIENCE, Random, until};

/// Clients at each node that stay with it.
const PINNED_PER_NODE: u64 = 2;
/// Keys of each of the two workloads. All are asked for alike.
const KEYS: u64 = 6;
/// When a key makes way for a fresh one.
const LIMITS: Limits = Limits { requests: 600, doubtful: 3 };
/// A pause between the requests of a client, at most: it bounds the history.
const PACE_MILLIS_MAX: u64 = 14;
/// A pause after a failure, at least: a node that is down refuses at once, and says nothing new.
const PACE_AFTER_FAILURE: Duration = Duration::from_millis(50);
/// How long a request may take, in milliseconds: shorter than some faults, longer than others.
const TIMEOUT_MILLIS: Range<u64> = 300..4000;
/// How long the last reads are waited for at a time.
const LAST_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients at work.
pub struct Recorded {
    shared: Rc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Recorded {
    /// Clients of all nodes, with small values.
    pub fn start(lab: &Lab, random: &mut Random) -> Recorded {
        Recorded::start_with_values(lab, 0, random)
    }

    /// Clients of all nodes, in this keyspace.
    pub fn start_in(keyspace: &'static str, lab: &Lab, random: &mut Random) -> Recorded {
        Recorded::start_shared(lab, Shared { keyspace, ..Shared::new(random.next()) }, random)
    }

    /// Clients of all nodes. Some of the values grow to so many bytes.
    pub fn start_with_values(lab: &Lab, bytes_max: usize, random: &mut Random) -> Recorded {
        Recorded::start_shared(lab, Shared { bytes_max, ..Shared::new(random.next()) }, random)
    }

    fn start_shared(lab: &Lab, shared: Shared, random: &mut Random) -> Recorded {
        let mut askers: Vec<Asker> = Vec::new();
        for node in lab.all() {
            askers.push(Asker::Free(lab.client()));
            askers.extend((0..PINNED_PER_NODE).map(|_| Asker::Pinned(lab.pinned(node).into())));
        }
        Recorded::start_askers(askers, shared, random)
    }

    /// Clients that find the leaders by themselves and have the usual time, over so many keys of each workload.
    pub fn start_programs(clients: Vec<Client>, keys: u64, random: &mut Random) -> Recorded {
        let askers = clients.into_iter().map(Asker::Free).collect();
        let timeout = Request::TIMEOUT.as_millis() as u64;
        let shared = Shared { keys, timeout_millis: timeout..timeout + 1, ..Shared::new(random.next()) };
        Recorded::start_askers(askers, shared, random)
    }

    fn start_askers(askers: Vec<Asker>, shared: Shared, random: &mut Random) -> Recorded {
        let shared = Rc::new(shared);
        let start = |(number, asker): (usize, Asker)| {
            let client =
                Working { number: number as u64, asker, shared: shared.clone(), random: random.fork() };
            tokio::task::spawn_local(client.work())
        };
        let tasks = askers.into_iter().enumerate().map(start).collect();
        Recorded { shared, tasks }
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.get()
    }

    /// Waits until so many more requests are answered.
    pub async fn goes_on(&self, more: u64) {
        let goal = self.answered() + more;
        until("the recorded clients go on", PATIENCE, || std::future::ready(self.answered() >= goal)).await;
    }

    /// What failed so far: not what a store refuses because of what it holds.
    pub fn failures(&self) -> Vec<String> {
        self.shared.failures.borrow().clone()
    }

    /// The time since the clients were started, as the history has it, in microseconds.
    pub fn micros(&self) -> u64 {
        self.shared.micros()
    }

    /// Stops the clients, reads every key through every node, which must all serve, and judges all that was seen. Panics
    /// unless it is linearizable.
    pub async fn holds(self, lab: &Lab) -> Figures {
        let history = self.end(lab).await;
        judge::holds(&history)
    }

    /// Stops the clients and reads every key through every node: what was seen.
    pub async fn end(self, lab: &Lab) -> check::history::History {
        let nodes: Vec<u16> = lab.all().collect();
        self.end_at(lab, &nodes).await
    }

    /// Stops the clients and reads every key through each of these nodes: what was seen.
    pub async fn end_at(self, lab: &Lab, nodes: &[u16]) -> check::history::History {
        self.shared.stop.set(true);
        for task in self.tasks {
            task.await.expect("a client does not panic");
        }
        let read_all = |node: &u16| {
            let (node, shared) = (lab.pinned(*node), self.shared.clone());
            tokio::task::spawn_local(read_all(node, shared))
        };
        let readers: Vec<_> = nodes.iter().map(read_all).collect();
        for reader in readers {
            reader.await.expect("every key can be read at the end");
        }
        Rc::into_inner(self.shared).expect("all clients have ended").recorder.into_inner().into_history()
    }
}

async fn read_all(mut node: Pinned, shared: Rc<Shared>) {
    let client = u64::from(u16::MAX) + node.node.0;
    let names = shared.places.borrow().names().clone();
    for key in names {
        let what = format!("n{} tells {key:?}", node.node.0);
        until(&what, PATIENCE, || {
            let mut request = Request::new(Op::Get { key: key.clone(), at: None });
            (request.keyspace, request.timeout) = (shared.keyspace.into(), LAST_READ_TIMEOUT);
            let (shared, node) = (&shared, &mut node);
            let mut node = node.clone();
            async move { shared.ask(client, request, async |request| node.call(request).await).await.is_ok() }
        })
        .await;
    }
}

/// How a client finds a node.
enum Asker {
    Free(Client),
    Pinned(Box<Pinned>),
}

/// One client.
struct Working {
    number: u64,
    asker: Asker,
    shared: Rc<Shared>,
    random: Random,
}

impl Working {
    async fn work(mut self) {
        let keys = Keys { count: self.shared.keys, skew: 0.0 };
        let generator =
            |workload, random: &mut Random| Generator::client(workload, keys, random.next(), self.number);
        let mut generators = [Workload::Register, Workload::Kv]
            .map(|workload| (workload, generator(workload, &mut self.random)));
        while !self.shared.stop.get() {
            let (workload, generator) = &mut generators[self.random.below(2) as usize];
            let mut op = generator.next_op();
            let place = self.shared.places.borrow_mut().place(*workload, &mut op);
            values_mut(&mut op, |value| *value = enlarged(value, self.shared.bytes_max));
            let Range { start, end } = self.shared.timeout_millis.clone();
            let timeout = start + self.random.below(end - start);
            let (keyspace, timeout) = (self.shared.keyspace.into(), Duration::from_millis(timeout));
            let request = Request { keyspace, timeout, ..Request::new(op) };
            let is_write = request.op.class() != Class::Read;
            let asker = &mut self.asker;
            let result =
                self.shared.ask(self.number, request, async |request| asker.ask(request).await).await;
            let mut pause = Duration::from_millis(self.random.below(PACE_MILLIS_MAX + 1));
            if let Err(error) = &result {
                if is_write && error.outcome() == Outcome::InDoubt {
                    self.shared.places.borrow_mut().doubted(&place);
                }
                pause += PACE_AFTER_FAILURE;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl Asker {
    async fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        match self {
            Asker::Free(client) => client.call(request).await,
            Asker::Pinned(node) => node.call(request).await,
        }
    }
}

/// What the clients have in common.
struct Shared {
    recorder: RefCell<Recorder>,
    began: Instant,
    answered: Cell<u64>,
    stop: Cell<bool>,
    keyspace: &'static str,
    keys: u64,
    timeout_millis: Range<u64>,
    bytes_max: usize,
    failures: RefCell<Vec<String>>,
    places: RefCell<Places>,
}

impl Shared {
    fn new(salt: u64) -> Shared {
        Shared {
            recorder: RefCell::default(),
            began: Instant::now(),
            answered: Cell::default(),
            stop: Cell::default(),
            keyspace: Request::KEYSPACE,
            keys: KEYS,
            timeout_millis: TIMEOUT_MILLIS,
            bytes_max: 0,
            failures: RefCell::default(),
            places: RefCell::new(Places::new(salt, LIMITS)),
        }
    }

    /// Asks and records.
    async fn ask(
        &self,
        client: u64,
        request: Request,
        ask: impl AsyncFnOnce(Request) -> Result<Reply, Error>,
    ) -> Result<Reply, Error> {
        let ticket = self.recorder.borrow_mut().invoke(client, &request, self.micros());
        let result = ask(request).await;
        self.recorder.borrow_mut().complete(ticket, &result, self.micros());
        match &result {
            Ok(reply) => {
                // Nothing else can be judged.
                assert_eq!(reply.receipt.reached, Level::Linearizable, "what the keyspace promises");
                self.answered.set(self.answered.get() + 1);
            }
            Err(Error::Conflict(_)) => {}
            Err(error) => self.failures.borrow_mut().push(format!("after {} us: {error}", self.micros())),
        }
        result
    }

    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// The values that an op writes or compares as a whole. Texts that are appended stay as they are: they pile up.
fn values_mut(op: &mut Op, mut change: impl FnMut(&mut Value)) {
    match op {
        Op::Put { value, .. } | Op::Update { function: Function::Insert { value, .. }, .. } => change(value),
        Op::Update { function: Function::CompareAndPut { expect, value, .. }, .. } => {
            change(value);
            if let Expect::Value(expected) = expect {
                change(expected);
            }
        }
        _ => {}
    }
}

/// The value with more bytes, which no compression shortens much. Equal values stay equal. Half of them stay small.
fn enlarged(value: &Value, bytes_max: usize) -> Value {
    let mut random = Random::of(value);
    if bytes_max == 0 || random.below(2) == 0 {
        return value.clone();
    }
    let more = random.below((bytes_max - value.len()) as u64) as usize;
    // Letters: pops take characters off texts.
    let letters = random.bytes(more).into_iter().map(|byte| b'a' + byte % 26);
    value.iter().copied().chain(letters).collect()
}
