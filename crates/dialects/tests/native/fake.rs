//! A store that does as it is told, and nodes that serve it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use dialects::native::{Client, Native, Options};
use dialects::{Account, Dialect, Stop, Store, Stream};
use kv::admin::{self, Admin, Answered, Ask};
use kv::cluster::{
    Cluster, Liveness, Located, Location, NodeDuty, NodeStatus, Role, ShardStatus, Status, Terms,
};
use kv::fault::{Fault, Faults};
use kv::view::View;
use kv::watch::{Batch, Take, Watch, Watcher, Watching};
use kv::{
    Answer, ClusterId, Completions, Epoch, Error, Function, KeyAnswer, KeyValue, Level, NodeId, Op, Page,
    Protocol, Receipt, ReplicaId, Reply, Request, Revision, Row, ShardId, Slot, SlotRange, Version,
};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot, watch};

/// What the version clock of every node here says.
pub const NOW: u64 = 1_700_000_000_000_000;

/// What to do with the next request.
pub enum Act {
    /// Fail.
    Fail(Error),
    /// Answer so.
    Tell(Answer),
    /// Drop it without an answer, as a node does that stops.
    Drop,
    /// Keep it until [`Fake::release`].
    Hold,
}

/// One node: its store and its view of the cluster.
pub struct Fake {
    pub id: NodeId,
    seen: Mutex<Vec<Request>>,
    changed: Notify,
    acts: Mutex<VecDeque<Act>>,
    /// What to do when no act is left; `None` = answer.
    always: Mutex<Option<Error>>,
    held: Mutex<Vec<Held>>,
    served_by: Mutex<NodeId>,
    status: Mutex<Status>,
    /// What it was asked as an admin, and how long it was given.
    asked: Mutex<Vec<(Ask, Duration)>>,
    /// What it answers then.
    administered: Mutex<Result<admin::Answer, Error>>,
    /// Which faults were put on it.
    faulted: Mutex<Vec<Option<Fault>>>,
    /// What it says then.
    faults: Mutex<Result<Faults, Error>>,
    cluster: Mutex<Result<ClusterId, Error>>,
    /// What each watch is given; then it waits.
    batches: Mutex<VecDeque<Vec<Result<Batch, Error>>>>,
    watched: Mutex<Vec<Watching>>,
}

struct Held {
    index: usize,
    op: Op,
    completions: Arc<Mutex<Box<dyn Completions>>>,
}

impl Fake {
    pub fn new(id: u64) -> Arc<Fake> {
        Arc::new(Fake {
            id: NodeId(id),
            seen: Mutex::default(),
            changed: Notify::new(),
            acts: Mutex::default(),
            always: Mutex::default(),
            held: Mutex::default(),
            served_by: Mutex::new(NodeId(id)),
            status: Mutex::default(),
            asked: Mutex::default(),
            administered: Mutex::new(Ok(admin::Answer::Done)),
            faulted: Mutex::default(),
            faults: Mutex::new(Ok(Faults::default())),
            cluster: Mutex::new(Ok(cluster(1))),
            batches: Mutex::default(),
            watched: Mutex::default(),
        })
    }

    /// Which faults were put on it.
    pub fn faulted(&self) -> Vec<Option<Fault>> {
        self.faulted.lock().unwrap().clone()
    }

    /// What it says to a fault.
    pub fn set_faults(&self, says: Result<Faults, Error>) {
        *self.faults.lock().unwrap() = says;
    }

    /// What it does with the next requests; then it answers.
    pub fn act(&self, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().extend(acts);
    }

    /// It fails every request so, from when no act is left.
    pub fn always_fail(&self, error: Error) {
        *self.always.lock().unwrap() = Some(error);
    }

    /// What its receipts say who served.
    pub fn forward_to(&self, node: NodeId) {
        *self.served_by.lock().unwrap() = node;
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until so many requests came.
    pub async fn saw(&self, count: usize) {
        loop {
            let changed = self.changed.notified();
            if self.seen.lock().unwrap().len() >= count {
                return;
            }
            changed.await;
        }
    }

    /// Answers what was held.
    pub fn release(&self) {
        for held in self.held.lock().unwrap().drain(..) {
            held.completions.lock().unwrap().complete(held.index, Ok(self.reply(answer(&held.op))));
        }
    }

    /// What Cluster.Status says.
    pub fn set_status(&self, status: Status) {
        *self.status.lock().unwrap() = status;
    }

    /// What it answers as an admin.
    pub fn set_admin(&self, answer: Result<admin::Answer, Error>) {
        *self.administered.lock().unwrap() = answer;
    }

    /// What it was asked as an admin, and how long it was given.
    pub fn asked(&self) -> Vec<(Ask, Duration)> {
        self.asked.lock().unwrap().clone()
    }

    /// What the next watch is given; then it waits.
    pub fn give(&self, batches: Vec<Result<Batch, Error>>) {
        self.batches.lock().unwrap().push_back(batches);
    }

    /// All watches so far.
    pub fn watched(&self) -> Vec<Watching> {
        self.watched.lock().unwrap().clone()
    }

    /// Which cluster it is of, or why of none yet.
    pub fn set_cluster(&self, cluster: Result<ClusterId, Error>) {
        *self.cluster.lock().unwrap() = cluster;
    }

    fn reply(&self, answer: Answer) -> Reply {
        Reply { answer, receipt: receipt(*self.served_by.lock().unwrap()) }
    }

    fn next(&self) -> Option<Act> {
        let act = self.acts.lock().unwrap().pop_front();
        act.or_else(|| self.always.lock().unwrap().clone().map(Act::Fail))
    }
}

impl KeyValue for Fake {
    fn submit(&self, requests: Vec<Request>, completions: Box<dyn Completions>) {
        let completions = Arc::new(Mutex::new(completions));
        for (index, request) in requests.into_iter().enumerate() {
            self.seen.lock().unwrap().push(request.clone());
            let complete = |result| completions.lock().unwrap().complete(index, result);
            match self.next() {
                None => complete(Ok(self.reply(answer(&request.op)))),
                Some(Act::Tell(answer)) => complete(Ok(self.reply(answer))),
                Some(Act::Fail(error)) => complete(Err(error)),
                Some(Act::Drop) => {}
                Some(Act::Hold) => {
                    let held = Held { index, op: request.op, completions: completions.clone() };
                    self.held.lock().unwrap().push(held);
                }
            }
        }
        self.changed.notify_waiters();
    }
}

impl Watch for Fake {
    fn watch(&self, asked: Watching) -> Box<dyn Watcher> {
        self.watched.lock().unwrap().push(asked);
        let batches = self.batches.lock().unwrap().pop_front().unwrap_or_default();
        Box::new(Batches(batches.into_iter(), None))
    }
}

/// What is left, and who waits for more.
struct Batches(std::vec::IntoIter<Result<Batch, Error>>, Option<Take>);

impl Watcher for Batches {
    fn next(&mut self, take: Take) {
        match self.0.next() {
            Some(next) => take(next),
            None => self.1 = Some(take),
        }
    }
}

impl Admin for Fake {
    fn administer(&self, ask: Ask, timeout: Duration, answer: Answered) {
        self.asked.lock().unwrap().push((ask, timeout));
        match self.next() {
            Some(Act::Fail(error)) => answer(Err(error)),
            Some(Act::Drop) => {}
            _ => answer(self.administered.lock().unwrap().clone()),
        }
    }

    fn fault(&self, fault: Option<Fault>) -> Result<Faults, Error> {
        self.faulted.lock().unwrap().push(fault);
        self.faults.lock().unwrap().clone()
    }
}

impl Cluster for Fake {
    fn id(&self) -> Result<ClusterId, Error> {
        self.cluster.lock().unwrap().clone()
    }

    fn terms(&self) -> Terms {
        Terms { shards: 1, replicas: 1, history: None, deleted_micros: u64::MAX }
    }

    fn status(&self) -> Status {
        self.status.lock().unwrap().clone()
    }

    fn locate(&self, _: &str, key: &kv::Key, answer: Located) {
        let (leader, address) = (Some(self.id), Some("somewhere:1".into()));
        answer(Ok(Location { slot: Slot::of(key), shard: ShardId(1), leader, address }));
    }
}

/// A cluster; all nodes are of the first when nothing else is said.
pub fn cluster(number: u64) -> ClusterId {
    ClusterId::new(number).unwrap()
}

/// The receipt of every answer that a node serves.
pub fn receipt(node: NodeId) -> Receipt {
    Receipt {
        version: Version::new(NOW, ReplicaId(1)),
        shard: ShardId(1),
        protocol: Protocol::Raft,
        epoch: Epoch(1),
        asked: Level::Linearizable,
        reached: Level::Linearizable,
        copies: 2,
        staleness_micros: 0,
        node,
    }
}

/// A row with something in each field.
pub fn row(key: &[u8], value: &[u8]) -> Row {
    Row {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        version: Version::new(NOW, ReplicaId(1)),
        created: Version::new(NOW - 1, ReplicaId(2)),
        changes: 3,
        deadline: Some(NOW + 1),
    }
}

/// An answer of the right kind to any op.
pub fn answer(op: &Op) -> Answer {
    match op {
        Op::Get { key, .. } => Answer::Row(Some(row(key, b"value"))),
        Op::GetAll { keys, .. } => Answer::Many(keys.iter().map(found).collect()),
        Op::Range(range) => Answer::Page(Page {
            rows: vec![row(b"k", b"v")],
            next: Some("k".into()),
            count: u64::from(range.limit),
        }),
        Op::History { before, .. } => Answer::History {
            revisions: vec![
                Revision { version: Version::new(NOW, ReplicaId(1)), value: None },
                Revision { version: Version::new(NOW - 5, ReplicaId(1)), value: Some("old".into()) },
            ],
            next: before.is_none().then(|| Version::new(NOW - 5, ReplicaId(1))),
        },
        Op::Put { key, previous, .. } => Answer::Put { previous: previous.then(|| row(key, b"before")) },
        Op::PutAll { rows } => Answer::Many(rows.iter().map(|(key, _)| found(key)).collect()),
        Op::Delete { key, previous } => {
            Answer::Deleted { count: 1, previous: previous.then(|| row(key, b"before")), next: None }
        }
        Op::DeleteRange { .. } => Answer::Deleted { count: 10_000, previous: None, next: Some("m".into()) },
        Op::Trim { key, below } => Answer::Trimmed { count: 4, next: below.is_none().then(|| key.clone()) },
        Op::TrimRange { to, .. } => Answer::Trimmed { count: 10_000, next: to.clone() },
        Op::Expire { .. } => Answer::Expire(true),
        Op::Update { function, .. } => match function {
            Function::Append { .. } => Answer::Length(6),
            Function::Pop { .. } => Answer::Popped(Some("p".into())),
            Function::Increment { by } => Answer::Number(*by),
            Function::Insert { .. } => Answer::Condition { met: true, current: None },
            Function::CompareAndPut { .. } => {
                Answer::Condition { met: false, current: Some(row(b"k", b"other")) }
            }
        },
        Op::Transaction { then, .. } => {
            Answer::Transaction { succeeded: true, answers: then.iter().map(answer).collect() }
        }
        Op::Advance { .. } | Op::Note(_) | Op::Merge { .. } | Op::Collect { .. } => {
            panic!("no client can ask for this")
        }
    }
}

fn found(key: &Bytes) -> KeyAnswer {
    KeyAnswer { key: key.clone(), result: Ok(Some(row(key, b""))) }
}

/// A node that is served on a port of its own.
pub struct Node {
    pub fake: Arc<Fake>,
    pub address: String,
    /// Whether it says that it wants requests.
    pub serving: watch::Sender<bool>,
    /// Runs its own runtime, so that all its connections end with it.
    thread: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Node {
    pub async fn start(id: u64) -> Node {
        Node::start_at(id, "127.0.0.1:0").await
    }

    pub async fn start_at(id: u64, address: &str) -> Node {
        let fake = Fake::new(id);
        let (serving, store) = store(&fake);
        let address = address.to_owned();
        let ((started, start), (stop, stopped)) = (oneshot::channel(), oneshot::channel());
        let serve = async move {
            let listener = TcpListener::bind(address).await.unwrap();
            started.send(listener.local_addr().unwrap().to_string()).unwrap();
            tokio::select! {
                () = accept(listener, store) => {}
                _ = stopped => {}
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let thread = Some(thread::spawn(move || runtime.block_on(serve)));
        let node = Node { fake, address: start.await.unwrap(), serving, thread, stop: Some(stop) };
        node.fake.set_status(led_by(&[&node], id));
        node
    }

    /// Ends it: its port closes, its connections break.
    pub fn stop(self) {}
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking(), "the node panicked");
    }
}

/// What stands behind a listener of a node, and whether it wants requests.
pub fn store(fake: &Arc<Fake>) -> (watch::Sender<bool>, Arc<Store>) {
    let (serving, wants) = watch::channel(true);
    let store = Store {
        keys: fake.clone(),
        cluster: fake.clone(),
        admin: fake.clone(),
        watch: fake.clone(),
        clock: Arc::new(|| NOW),
        keyspace: Request::KEYSPACE.into(),
        advertise: "somewhere:1".into(),
        serving: wants,
        end: None,
    };
    (serving, Arc::new(store))
}

/// Serves whoever connects.
async fn accept(listener: TcpListener, store: Arc<Store>) {
    let (native, (_stopper, stop)) = (Native::new(), Stop::new());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = Stream { bytes: Box::new(stream), account: Account::default() };
        tokio::spawn(native.serve(stream, store.clone(), stop.clone()));
    }
}

/// Several nodes that all say that the first one leads.
pub async fn nodes<const N: usize>() -> [Node; N] {
    let mut nodes = Vec::new();
    for id in 1..=N as u64 {
        nodes.push(Node::start(id).await);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    for node in &nodes {
        node.fake.set_status(led_by(&all, 1));
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("so many were started"))
}

/// A cluster of one shard.
pub fn led_by(nodes: &[&Node], leader: u64) -> Status {
    let node = |node: &&Node| NodeStatus {
        id: node.fake.id,
        name: format!("node-{}", node.fake.id),
        address: node.address.clone(),
        pid: 7,
        state: Liveness::Alive,
        leads: u32::from(node.fake.id == NodeId(leader)),
        replicas: 1,
        peer: format!("127.0.0.1:{}", 7420 + node.fake.id.0),
        zone: "here".into(),
        duty: NodeDuty::Serve,
    };
    let replica = |node: &&Node| kv::cluster::ReplicaStatus {
        node: node.fake.id,
        role: if node.fake.id == NodeId(leader) { Role::Leader } else { Role::Unknown },
        applied: 9,
        lease_reads: 8,
    };
    let shard = ShardStatus {
        id: ShardId(1),
        keyspace: Request::KEYSPACE.into(),
        slots: SlotRange::nth(0, 1),
        protocol: Protocol::Raft,
        epoch: Epoch(1),
        leader: Some(NodeId(leader)),
        term: leader,
        replicas: nodes.iter().map(replica).collect(),
        members: View::of(Epoch(1), &nodes.iter().map(|node| node.fake.id).collect::<Vec<_>>()).members,
    };
    let directory = ShardStatus { id: ShardId::DIRECTORY, ..shard.clone() };
    let nodes = nodes.iter().map(node).collect();
    Status { nodes, shards: vec![shard], directory: Some(directory), revision: 3, buses: Vec::new() }
}

/// A client that was given these nodes' addresses.
pub fn client(nodes: &[&Node]) -> Client {
    let addresses = nodes.iter().map(|node| node.address.clone()).collect();
    Client::connect(addresses, Options::default()).unwrap()
}

pub fn get(key: &'static str) -> Request {
    Request::new(Op::Get { key: key.into(), at: None })
}

pub fn put(key: &'static str, value: impl Into<Bytes>) -> Request {
    Request::new(Op::Put { key: key.into(), value: value.into(), deadline: None, previous: false })
}

/// The same, but it gives up soon.
pub fn soon(request: Request) -> Request {
    Request { timeout: std::time::Duration::from_secs(2), ..request }
}
